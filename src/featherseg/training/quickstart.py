"""From a folder alone to a training: its data is looked at, and every setting is chosen with a reason that is said."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.config import Config, load_config
from ..core.errors import ConfigError, DataError
from ..core.formatting import command
from ..core.machine import available_threads
from ..core.types import MIN_SIZE
from ..data.class_maps import open_mapped
from ..data.datasets import SegmentationDataset
from ..doctor.examine import Examination, quick_check
from ..doctor.infer import InferredData, infer_data
from ..doctor.rules import Finding
from ..models.factory import create_model

RECIPE = "featherseg.toml"
"""A recipe that lies in the folder, such as the doctor's, is taken as it is; nothing is chosen then."""
STEP = 32
"""Crops are multiples of the deepest stride."""
CROP_PIXELS = {"cpu": 256 * 320, "cuda": 640 * 640}
BATCH = {"cpu": 8, "cuda": 16}
STEPS = {"cpu": 1500, "cuda": 12_000}
"""Steps of a training by device. FastSegNet on CamVid from ImageNet weights was within 5 points of its best after 900
steps of 8 (the curve of camvid_fastsegnet in docs/results.md)."""
EPOCHS = (10, 300)
LR = 3e-3
"""Of AdamW with batches of 8; see docs/training.md for why it follows the square root of the batch."""
SGD_LR = 0.01
"""Of SGD with batches of 16, in proportion to the batch (Goyal et al., 2017, who scale from other batches likewise)."""
RARE = 0.01
"""Share of the pixels under which a class is rare."""
SAMPLE = 16


@dataclass(frozen=True)
class SettingChoice:
    """One setting, and why."""

    setting: str
    value: Any
    reason: str

    def __str__(self) -> str:
        return f"{self.setting}={json.dumps(self.value)}: {self.reason}"


@dataclass(frozen=True)
class QuickStart:
    """A training that was chosen for a folder.

    Args:
        config: all of it.
        choices: what was chosen; settings of the user's are not among them.
        notes: what was found in the folder.
    """

    config: Config
    choices: tuple[SettingChoice, ...]
    notes: tuple[str, ...]


def quick_start(folder: str | Path, settings: Iterable[str] = ()) -> QuickStart:
    """Choose a training for a folder of images and masks.

    Args:
        folder: a dataset of any known layout.
        settings: ``dotted.key=value`` of the user's, which are obeyed.

    Raises:
        DataError: the folder is no dataset, or the doctor finds in a sample of it what no training survives.
        ConfigError: a setting is unknown or out of range.
    """
    folder, settings = Path(folder).expanduser(), list(settings)
    if (folder / RECIPE).is_file():
        note = f"settings are from {folder / RECIPE}"
        return QuickStart(load_config(folder / RECIPE, settings), (), (note,))
    plan = _Plan(settings)
    given = plan.config.data.name  # read, and refused where it is wrong, before anything is looked at
    data = infer_data(folder, given if plan.gave("data.name") else None)
    check = quick_check(folder, data.kind)
    _refuse_broken(check, mapped=bool(plan.config.data.classes))
    _choose_data(plan, folder, data)
    _choose_network(plan)
    _choose_training(plan, check)
    warnings = [f"warning: {_words(finding)}" for finding in check.findings if finding.severity == "warning"]
    return QuickStart(plan.config, tuple(plan.choices), (*data.notes, *warnings))


class _Plan:
    """Choices made one after the other, each with all settings as they are by then, the user's above all.

    Args:
        settings: ``dotted.key=value`` of the user's.
    """

    def __init__(self, settings: Sequence[str]) -> None:
        self.settings = settings
        self.choices: list[SettingChoice] = []
        self._given = [setting.partition("=")[0] for setting in settings]

    @property
    def config(self) -> Config:
        """All settings, those not chosen yet at their defaults."""
        texts = [f"{choice.setting}={json.dumps(choice.value)}" for choice in self.choices]
        return load_config(None, [*texts, *self.settings])

    def gave(self, setting: str) -> bool:
        """Return whether the user set it, a part of it, or the section it is in."""
        asked = f"{setting}."
        return any(asked.startswith(f"{key}.") or f"{key}.".startswith(asked) for key in self._given)

    def choose(self, setting: str, value: Any, reason: str) -> None:
        """Choose a setting, unless the user did."""
        if not self.gave(setting):
            self.choices.append(SettingChoice(setting, value, reason))


MENDED_BY_MAPS = frozenset({"class-file", "unknown-ids", "ids-shifted", "ids-sparse"})
"""What the doctor finds wrong with classes and values, and ``[data.classes]`` may be there to mend."""


def _refuse_broken(check: Examination, *, mapped: bool) -> None:
    """Refuse data with errors: a training would end at the first of them, or learn it."""
    errors = [f for f in check.findings if f.severity == "error" and not (mapped and f.id in MENDED_BY_MAPS)]
    if errors:
        more = f" and {len(errors) - 1} more findings" if len(errors) > 1 else ""
        root = check.layout.root
        raise DataError(
            f"{_words(errors[0])}{more}; see all with {command('doctor', root)}, and let it mend a copy with "
            f"{command('doctor', root, '--fix', 'NEW_FOLDER')}"
        )


def _words(finding: Finding) -> str:
    """Return a finding in a line."""
    return f"{finding.rule.title} ({finding.examples[0]}); {finding.rule.consequence}"


def _choose_data(plan: _Plan, folder: Path, data: InferredData) -> None:
    section = data.to_config()["data"]
    options = section.pop("options", {})
    settings = {f"data.{key}": value for key, value in section.items()}
    settings |= {f"data.options.{key}": value for key, value in options.items()}
    plan.choose("name", folder.resolve().name or "run", "the folder's")
    for key, value in settings.items():
        plan.choose(key, value, "the folder's layout")


def _choose_network(plan: _Plan) -> None:
    """Choose network and weights: FastSegNet, from ImageNet's where they are to be had."""
    if plan.gave("model"):
        return
    plan.choose("model.name", "fastsegnet", "the most accurate of the fast networks here")
    try:
        create_model("fastsegnet", 2, encoder_weights="imagenet")
    except ConfigError:
        why = "no ImageNet weights to be had here; from scratch the half learns as much from few images, twice as fast"
        plan.choose("model.options.width", 0.5, why)
    else:
        plan.choose("model.options.encoder_weights", "imagenet", "with few images nothing helps as much")


def _choose_training(plan: _Plan, check: Examination) -> None:
    data = plan.config.data
    train_set = open_mapped(data.name, data.root, data.train_split, data.classes, **data.options)
    device = _device(plan.config.train.device)
    unit = {"cpu": "CPU", "cuda": "GPU"}[device]
    images = len(train_set)
    size = _median_size(train_set)
    crop = _crop(size, CROP_PIXELS[device])
    plan.choose("augment.crop", crop, f"images are {size[0]}x{size[1]}; as much as a {unit} trains in good time")
    height, width = plan.config.augment.crop
    fitting = max(2, BATCH[device] * CROP_PIXELS[device] // max(height * width, CROP_PIXELS[device]))
    why = f"{images} training images on a {unit}" + (f", crops of {height}x{width}" if fitting < BATCH[device] else "")
    plan.choose("data.batch_size", max(2, min(fitting, images // 2)), why)

    config = plan.config
    batch = config.data.batch_size
    low, high = EPOCHS
    epochs = min(max(round(STEPS[device] * batch / images), low), high)
    plan.choose("train.epochs", epochs, f"{epochs * max(images // batch, 1)} batches of {batch}")
    seen = batch * config.optim.accumulate
    if config.optim.name == "sgd":
        plan.choose("optim.lr", round(SGD_LR * seen / 16, 6), f"SGD's usual rate for {seen} images a step")
    else:
        plan.choose("optim.lr", round(LR * math.sqrt(seen / 8), 6), f"AdamW's usual rate for {seen} images a step")
    config = plan.config
    if config.model.options.get("encoder_weights"):
        plan.choose("optim.encoder_lr", round(config.optim.lr / 10, 9), "weights that are good already move less")
    plan.choose("data.workers", min(2, available_threads()), "read ahead while the network computes")
    if config.train.epochs > 50:
        plan.choose("train.eval_every", config.train.epochs // 50, "fifty looks at the validation images are enough")
    if not data.classes and (rare := _rare_classes(check)):  # a map may have made others of them
        why = f"{rare} of the classes have under 1 % of the pixels each"
        plan.choose("augment.class_balance", 0.5, why)
        plan.choose("loss.class_weights", "auto", why)


def _device(name: str) -> str:
    """Return which of the devices that choices are made for a training runs on."""
    on_gpu = torch.cuda.is_available() if name == "auto" else name.startswith("cuda")
    return "cuda" if on_gpu else "cpu"


def _median_size(train_set: SegmentationDataset) -> tuple[int, int]:
    """Return the median (height, width) of a few images."""
    places = np.linspace(0, len(train_set) - 1, min(SAMPLE, len(train_set))).round().astype(int)
    sizes = [train_set.read(int(place))[1].shape for place in places]
    height, width = np.median(np.asarray(sizes), axis=0)
    return int(height), int(width)


def _crop(size: Sequence[int], pixels: int) -> list[int]:
    """Return the crop of the images' shape that has at most so many pixels, in whole steps."""
    shrink = min(1.0, math.sqrt(pixels / (size[0] * size[1])))
    return [max(int(side * shrink) // STEP * STEP, MIN_SIZE) for side in size]


def _rare_classes(check: Examination) -> int:
    counts = np.sum([np.asarray(split) for split in check.pixels.values()], axis=0) if check.pixels else np.zeros(1)
    share = counts / max(counts.sum(), 1)
    return int(((share > 0) & (share < RARE)).sum())
