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
from ..core.machine import available_threads
from ..core.types import MIN_SIZE
from ..data.datasets import SegmentationDataset, create_dataset
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
    given = {setting.partition("=")[0] for setting in settings}
    if (folder / RECIPE).is_file():
        note = f"settings are from {folder / RECIPE}"
        return QuickStart(load_config(folder / RECIPE, settings), (), (note,))
    kind = next(
        (value.strip("\"'") for key, _, value in (s.partition("=") for s in settings) if key == "data.name"), None
    )
    data = infer_data(folder, kind)
    check = quick_check(folder, data.kind)
    _refuse_broken(check)
    train_set = create_dataset(data.kind, data.root, data.train_split, **data.options)
    choices = [*_of_data(folder, data), *_of_training(train_set, check)]
    if not any(setting.startswith("model.") for setting in given):
        choices += _of_network()
    kept = tuple(choice for choice in choices if choice.setting not in given)
    texts = [f"{choice.setting}={json.dumps(choice.value)}" for choice in kept]
    warnings = [f"warning: {_words(finding)}" for finding in check.findings if finding.severity == "warning"]
    return QuickStart(load_config(None, [*texts, *settings]), kept, (*data.notes, *warnings))


def _refuse_broken(check: Examination) -> None:
    """Refuse data with errors: a training would end at the first of them, or learn it."""
    errors = [finding for finding in check.findings if finding.severity == "error"]
    if errors:
        more = f" and {len(errors) - 1} more findings" if len(errors) > 1 else ""
        root = check.layout.root
        raise DataError(
            f"{_words(errors[0])}{more}; see all with featherseg doctor {root}, and let it mend a copy with "
            f"featherseg doctor {root} --fix NEW_FOLDER"
        )


def _words(finding: Finding) -> str:
    """Return a finding in a line."""
    return f"{finding.rule.title} ({finding.examples[0]}); {finding.rule.consequence}"


def _of_data(folder: Path, data: InferredData) -> list[SettingChoice]:
    section = data.to_config()["data"]
    options = section.pop("options", {})
    settings = {f"data.{key}": value for key, value in section.items()}
    settings |= {f"data.options.{key}": value for key, value in options.items()}
    name = SettingChoice("name", folder.resolve().name or "run", "the folder's")
    return [name, *(SettingChoice(key, value, "the folder's layout") for key, value in settings.items())]


def _of_network() -> list[SettingChoice]:
    """Choose network and weights: FastSegNet, from ImageNet's where they are to be had."""
    name = SettingChoice("model.name", "fastsegnet", "the most accurate of the fast networks here")
    try:
        create_model("fastsegnet", 2, encoder_weights="imagenet")
    except ConfigError:
        why = "no ImageNet weights to be had here; from scratch the half learns as much from few images, twice as fast"
        return [name, SettingChoice("model.options.width", 0.5, why)]
    weights = SettingChoice("model.options.encoder_weights", "imagenet", "with few images nothing helps as much")
    return [name, weights, SettingChoice("optim.encoder_lr", LR / 10, "weights that are good already move less")]


def _of_training(train_set: SegmentationDataset, check: Examination) -> list[SettingChoice]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    unit = {"cpu": "CPU", "cuda": "GPU"}[device]
    images = len(train_set)
    size = _median_size(train_set)
    crop = _crop(size, CROP_PIXELS[device])
    batch = max(2, min(BATCH[device], images // 2))
    low, high = EPOCHS
    epochs = min(max(round(STEPS[device] * batch / images), low), high)
    steps = epochs * max(images // batch, 1)
    choices = [
        SettingChoice("augment.crop", crop, f"images are {size[0]}x{size[1]}; as much as a {unit} trains in good time"),
        SettingChoice("data.batch_size", batch, f"{images} training images on a {unit}"),
        SettingChoice("train.epochs", epochs, f"{steps} steps"),
        SettingChoice("optim.lr", round(LR * math.sqrt(batch / 8), 6), f"AdamW's usual rate for batches of {batch}"),
        SettingChoice("data.workers", min(2, available_threads()), "read ahead while the network computes"),
    ]
    if epochs > 50:
        choices.append(
            SettingChoice("train.eval_every", epochs // 50, "fifty looks at the validation images are enough")
        )
    if rare := _rare_classes(check):
        why = f"{rare} of the classes have under 1 % of the pixels each"
        choices += [SettingChoice("augment.class_balance", 0.5, why), SettingChoice("loss.class_weights", "auto", why)]
    return choices


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
