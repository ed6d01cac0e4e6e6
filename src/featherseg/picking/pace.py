"""What a training takes by the epoch, from a step or two; and once it was trained, by what that took.

One network is timed as a training of its own is, data, saves and looks included. Of the others a step and a look are
timed; what the first one takes beside them, they take too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..core.config import Config
from ..core.errors import FeathersegError, first_line
from ..core.types import IGNORE_INDEX, ClassSet
from ..models.factory import create_model
from ..models.session import TorchSession, describe
from ..runtime.choose import picture
from ..runtime.segmenter import Segmenter
from ..training.devices import create_fabric
from ..training.loss_terms import build_loss
from ..training.pace import Pace
from ..training.step import TrainingStep
from ..training.supervised import Supervised
from ..training.timing import measure_pace

STEPS = 2
"""Steps that are timed, after one that is not; the quickest counts."""
TEACHING = 0.3
"""A teacher's share in a step, of what its own step takes: it looks, and does not learn."""


@dataclass(frozen=True)
class NetPace:
    """What a network's training takes.

    Args:
        epoch: seconds.
        overhead: seconds of a run beside its epochs.
    """

    epoch: float
    overhead: float

    def seconds(self, epochs: int, teacher: NetPace | None = None) -> float:
        """Return what a run takes."""
        return self.overhead + epochs * (self.epoch + (TEACHING * teacher.epoch if teacher else 0.0))

    def to_dict(self) -> dict[str, float]:
        """Return it as JSON types."""
        return {"epoch": self.epoch, "overhead": self.overhead}

    @classmethod
    def of_run(cls, result: Mapping[str, Any], before: NetPace) -> NetPace:
        """Return what a finished run shows; `before` where it shows nothing."""
        epochs, trained, whole = (float(result.get(key) or 0) for key in ("epochs", "train_seconds", "seconds"))
        return cls(trained / epochs, max(whole - trained, 0.0)) if epochs and trained else before


@dataclass(frozen=True)
class Glimpse:
    """What a network's parts take without data.

    Args:
        batches: of an epoch.
        step: seconds of a step.
        look: seconds of a picture.
    """

    batches: int
    step: float
    look: float


def net_paces(
    configs: Mapping[str, Config], num_classes: int, images: int, frame: tuple[int, int], seconds: float
) -> tuple[dict[str, NetPace], dict[str, str]]:
    """Return what trainings take, and why others cannot be timed, both by name.

    Args:
        configs: the trainings, by name.
        num_classes: of the data.
        images: that are trained on.
        frame: (height, width) of the pictures.
        seconds: that all is to take; timing takes a few percent of them.
    """
    glimpses: dict[str, Glimpse] = {}
    failures: dict[str, str] = {}
    whole: tuple[Glimpse, Pace] | None = None
    for name, config in configs.items():
        try:
            glimpses[name] = glimpse(config, num_classes, images, frame)
            if whole is None:
                whole = glimpses[name], measure_pace(config, seconds)
        except (FeathersegError, RuntimeError) as error:  # torch's, such as of a crop that is too small
            glimpses.pop(name, None)
            failures[name] = f"cannot be trained: {first_line(error)}"
    if whole is None:
        return {}, failures
    seen, real = whole
    beside = max(real.epoch - seen.batches * seen.step, 0.0)

    def pace(each: Glimpse) -> NetPace:
        looks = (real.look + real.final) * max(each.look / max(seen.look, 1e-9), 0.5)
        return NetPace(each.batches * each.step + beside, real.start + looks)

    return {name: pace(each) for name, each in glimpses.items()}, failures


def glimpse(config: Config, num_classes: int, images: int, frame: tuple[int, int]) -> Glimpse:
    """Time a step of a training and a look at a picture, without data.

    Args:
        config: of the training.
        num_classes: of the data.
        images: that are trained on.
        frame: (height, width) of the pictures.
    """
    fabric = create_fabric(config.train)
    fabric.launch()
    device, batch, (height, width) = fabric.device, config.data.batch_size, config.augment.crop
    options = {key: value for key, value in config.model.options.items() if key != "encoder_weights"}
    model = create_model(config.model.name, num_classes, **options)
    if config.model.long_side:
        model.input_spec = replace(model.input_spec, long_side=config.model.long_side)
    classes = ClassSet(tuple(f"class {i}" for i in range(num_classes)))
    out, aux = (build_loss(terms, IGNORE_INDEX, None, classes.names) for terms in (config.loss.out, config.loss.aux))
    step = TrainingStep(fabric, Supervised(model, out, aux, config.loss.aux_weight), config)
    step.objective.train()
    taken = []
    for _ in range(1 + STEPS):
        begin = time.monotonic()
        image = torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, device=device)
        mask = torch.randint(0, num_classes, (batch, height, width), device=device)
        float(step({"image": image, "mask": mask}))  # GPUs are waited for
        taken.append(time.monotonic() - begin)
    segmenter = Segmenter(TorchSession(model, describe(model, classes), device=str(device)))
    shown = picture(frame)
    segmenter.segment(shown)
    begin = time.monotonic()
    segmenter.segment(shown)
    look = time.monotonic() - begin
    return Glimpse(math.ceil(images * config.data.crops / batch), min(taken[1:]), look)
