"""From a folder alone to a training: its data is looked at, and every setting is chosen with a reason that is said."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..core.config import Config
from ..core.errors import DataError
from ..core.formatting import command
from ..core.machine import available_threads
from ..core.recipes import load_config
from ..core.types import MIN_SIZE, InputSpec
from ..data.class_maps import open_mapped
from ..data.datasets import SegmentationDataset
from ..doctor.examine import Examination, quick_check
from ..doctor.infer import InferredData, infer_data
from ..doctor.rules import Finding
from .choices import Plan, SettingChoice
from .fit import names_published
from .starts import choose_start, relative_cost

RECIPE = "featherseg.toml"
"""A recipe that lies in the folder, such as the doctor's, is taken as it is; nothing is chosen then."""
STEP = 32
"""Crops are multiples of the deepest stride."""
CROP_PIXELS = {"cpu": 256 * 320, "cuda": 640 * 640}
BATCH = {"cpu": 8, "cuda": 16}
STEPS = {"cpu": 1500, "cuda": 12_000}
"""Steps of a training by device. FastSegNet on CamVid from ImageNet weights was within 5 points of its best after 900
steps of 8 (the curve of camvid_fastsegnet in docs/results_split.md)."""
EPOCHS = (10, 300)
FINE_CROP_PIXELS = {"cpu": 384 * 512, "cuda": 640 * 640}
"""Networks that were trained on large images see more at once; the batch is the smaller for it."""
FINE_BATCH = {"cpu": 4, "cuda": 8}
LR = 3e-3
"""Of AdamW with batches of 8; see docs/training.md for why it follows the square root of the batch."""
FINE_LR = 6e-4
"""Of AdamW with batches of 4 to 8 for weights that are trained already, as benchmarks/starts.py measures it."""
FINE_STEP = (4, 8)
"""Images a step for which that rate is as it is; beyond, it follows their square root as well."""
SGD_LR = 0.01
"""Of SGD with batches of 16, in proportion to the batch (Goyal et al., 2017, who scale from other batches likewise)."""
RARE = 0.01
"""Share of the pixels under which a class is rare."""
SAMPLE = 16


@dataclass(frozen=True)
class QuickStart:
    """A training that was chosen for a folder.

    Args:
        config: all of it.
        choices: what was chosen; settings of the user's are not among them.
        notes: what was found in the folder, and what would have been chosen but is not to be had.
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
    plan = Plan(settings)
    given = plan.config.data.name  # read, and refused where it is wrong, before anything is looked at
    data = infer_data(folder, given if plan.gave("data.name") else None)
    check = quick_check(folder, data.kind)
    _refuse_broken(check, mapped=bool(plan.config.data.classes))
    _choose_data(plan, folder, data)
    section = plan.config.data
    train_set = open_mapped(section.name, section.root, section.train_split, section.classes, **section.options)
    images, size = len(train_set), _median_size(train_set)
    missed = choose_start(plan, train_set.classes, images, size)
    _choose_training(plan, check, images, size)
    warnings = [f"warning: {_words(finding)}" for finding in check.findings if finding.severity == "warning"]
    return QuickStart(plan.config, tuple(plan.choices), (*data.notes, *warnings, *missed))


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


def _choose_data(plan: Plan, folder: Path, data: InferredData) -> None:
    section = data.to_config()["data"]
    options = section.pop("options", {})
    settings = {f"data.{key}": value for key, value in section.items()}
    settings |= {f"data.options.{key}": value for key, value in options.items()}
    plan.choose("name", folder.resolve().name or "run", "the folder's")
    for key, value in settings.items():
        plan.choose(key, value, "the folder's layout")


def _choose_training(plan: Plan, check: Examination, images: int, size: tuple[int, int]) -> None:
    started = bool(plan.config.model.starts)
    published = any(map(names_published, plan.config.model.starts))
    device = _device(plan.config.train.device)
    unit = {"cpu": "CPU", "cuda": "GPU"}[device]
    pixels, most = (FINE_CROP_PIXELS, FINE_BATCH) if published else (CROP_PIXELS, BATCH)
    seen_at = InputSpec(long_side=plan.config.model.long_side or None).size(size)
    resized = f", resized to {seen_at[0]}x{seen_at[1]}" if seen_at != size else ""
    why = f"images are {size[0]}x{size[1]}{resized}; as much as a {unit} trains in good time"
    plan.choose("augment.crop", _crop(seen_at, pixels[device]), why)
    height, width = plan.config.augment.crop
    fitting = max(2, most[device] * pixels[device] // max(height * width, pixels[device]))
    why = f"{images} training images on a {unit}" + (f", crops of {height}x{width}" if fitting < BATCH[device] else "")
    plan.choose("data.batch_size", max(2, min(fitting, images // 2)), why)
    _choose_length(plan, images, device, published=published)

    config = plan.config
    seen = config.data.batch_size * config.optim.accumulate
    kind = "a network that is trained already" if started else f"{seen} images a step"
    if config.optim.name == "sgd":
        rate = (SGD_LR * FINE_LR / LR if started else SGD_LR) * seen / 16
        plan.choose("optim.lr", round(rate, 6), f"SGD's usual rate for {kind}")
    else:
        low, high = FINE_STEP
        rate = FINE_LR * math.sqrt(seen / min(max(seen, low), high)) if started else LR * math.sqrt(seen / 8)
        plan.choose("optim.lr", round(rate, 6), f"AdamW's usual rate for {kind}")
    config = plan.config
    if config.model.options.get("encoder_weights") and not started:
        plan.choose("optim.encoder_lr", round(config.optim.lr / 10, 9), "weights that are good already move less")
    plan.choose("data.workers", min(2, available_threads()), "read ahead while the network computes")
    if config.train.epochs > 50:
        plan.choose("train.eval_every", config.train.epochs // 50, "fifty looks at the validation images are enough")
    if not config.data.classes and (rare := _rare_classes(check)):  # a map may have made others of them
        why = f"{rare} of the classes have under 1 % of the pixels each"
        plan.choose("augment.class_balance", 0.5, why)
        plan.choose("loss.class_weights", "auto", why)


def _choose_length(plan: Plan, images: int, device: str, *, published: bool) -> None:
    """Choose the epochs: so many steps as the device takes in good time, fewer of a slower network's."""
    config = plan.config
    batch, (height, width) = config.data.batch_size, config.augment.crop
    steps, (low, high) = STEPS[device], EPOCHS
    slower = ""
    if published:
        image = relative_cost(config.model.name) * height * width / CROP_PIXELS[device]
        step = max(image * batch / BATCH[device], 1.0)
        steps, low = round(steps / step), max(round(low / max(image, 1.0)), 1)
        if step >= 1.5:
            slower = f", each of which takes about {step:.0f} times FastSegNet's usual one"
    epochs = min(max(round(steps * batch / images), low), high)
    plan.choose("train.epochs", epochs, f"{epochs * max(images // batch, 1)} batches of {batch}{slower}")


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
