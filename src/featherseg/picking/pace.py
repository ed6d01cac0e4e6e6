"""What a training takes by the epoch, from a step or two; and once it was trained, by what that took."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..core.config import Config
from ..models.factory import create_model
from ..training.devices import create_fabric
from ..training.supervised import normalize

STEPS = 2
"""Steps that are timed, after one that is not; the quickest counts."""
START = 3.0
"""Seconds before the first step, at least: data and network are made ready."""
DECODE = 0.005
"""Seconds for a picture to be decoded, once in a run."""
SCORE = 0.02
"""Seconds that a picture's scores take beside the network, boundary F1 included."""
LOOKS = 2
"""A run looks at the validation images twice: after its last epoch, and in full at the end."""
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


def measure_pace(config: Config, num_classes: int, images: int, val_images: int, frame: tuple[int, int]) -> NetPace:
    """Time a step of a training, without its data, and a look at a picture.

    Args:
        config: of the training.
        num_classes: of the data.
        images: that are trained on.
        val_images: that are looked at.
        frame: (height, width) of the pictures.
    """
    fabric = create_fabric(config.train)
    fabric.launch()
    device, batch = fabric.device, config.data.batch_size
    options = {key: value for key, value in config.model.options.items() if key != "encoder_weights"}
    model = create_model(config.model.name, num_classes, **options)
    spec = model.input_spec
    module = fabric.setup_module(model.to(memory_format=torch.channels_last))
    module.mark_forward_method("outputs")
    optimizer = torch.optim.AdamW(model.parameters(), 1e-6)
    loss = nn.CrossEntropyLoss()
    image = torch.randint(0, 256, (batch, 3, *config.augment.crop), dtype=torch.uint8, device=device)
    steps = []
    module.train()
    for _ in range(1 + STEPS):
        begin = time.monotonic()
        logits = module.outputs(normalize(image, spec))["out"].float()
        target = torch.zeros((batch, *logits.shape[2:]), dtype=torch.long, device=device)
        fabric.backward(loss(logits, target))
        optimizer.step()
        optimizer.zero_grad()
        float(logits.detach()[0, 0, 0, 0])  # GPUs are waited for
        steps.append(time.monotonic() - begin)
    module.eval()
    side = config.model.long_side
    size = tuple(max(round(part * side / max(frame)), 64) for part in frame) if side else frame
    with torch.inference_mode():
        begin = time.monotonic()
        shown = torch.zeros((1, 3, *size), dtype=torch.uint8, device=device)
        float(module.outputs(normalize(shown, spec))["out"].float().sum())
        look = time.monotonic() - begin
    batches = math.ceil(images * config.data.crops / batch)
    overhead = START + DECODE * (images + val_images) + LOOKS * val_images * (look + SCORE)
    return NetPace(batches * min(steps[1:]), overhead)
