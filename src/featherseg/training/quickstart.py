"""From a folder alone to a training: its data is looked at, and every setting is chosen with a reason that is said."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.config import Config
from ..core.errors import DataError
from ..core.machine import available_threads
from ..core.recipes import load_config
from ..data.datasets import SegmentationDataset
from ..data.unlabelled import labelled_images
from ..doctor.examine import Examination, quick_check
from ..doctor.infer import InferredData, infer_data
from ..doctor.mend import advice
from ..doctor.rules import Finding
from .choices import Plan, SettingChoice
from .extent import Clock, choose_extent
from .fineness import choose_fineness, measure_fineness
from .fit import names_published
from .starts import choose_start
from .timing import Measure, in_time, measure_pace, refuse_length

RECIPE = "featherseg.toml"
"""A recipe that lies in the folder, such as the doctor's, is taken as it is; nothing is chosen then."""
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


def quick_start(
    folder: str | Path, settings: Iterable[str] = (), *, seconds: float | None = None, measure: Measure | None = None
) -> QuickStart:
    """Choose a training for a folder of images and masks.

    Args:
        folder: a dataset of any known layout.
        settings: ``dotted.key=value`` of the user's, which are obeyed.
        seconds: that all may take, from now to the final scores; a usual length where None.
        measure: times what the training does again and again; really, on this machine, where left out.

    Raises:
        DataError: the folder is no dataset, or the doctor finds in a sample of it what no training survives.
        ConfigError: a setting is unknown or out of range, or the time is too short.
    """
    begin = time.monotonic()
    folder, settings = Path(folder).expanduser(), list(settings)
    if (folder / RECIPE).is_file():
        note = f"settings are from {folder / RECIPE}"
        config = load_config(folder / RECIPE, settings)
        choices: tuple[SettingChoice, ...] = ()
        if seconds is not None:
            config, choices = in_time(config, settings, seconds, measure)
        return QuickStart(config, choices, (note,))
    plan = Plan(settings)
    if seconds is not None:
        refuse_length(plan)
    given = plan.config.data  # read, and refused where it is wrong, before anything is looked at
    kind = given.name if plan.gave("data.name") else None
    data = infer_data(folder, kind, given.options)
    check = quick_check(folder, data.kind, options=given.options)
    _refuse_broken(check, kind, given.options, mapped=bool(given.classes))
    _choose_data(plan, folder, data)
    section = plan.config.data
    train_set, _ = labelled_images(section, plan.config.seed)
    images, size = len(train_set), _median_size(train_set)
    missed = choose_start(plan, train_set.classes, images, size)
    missed += choose_fineness(plan, measure_fineness(plan, train_set, size), size)
    clock = None if seconds is None else Clock(begin, seconds, measure or measure_pace)
    _choose_training(plan, check, images, size, clock)
    warnings = [f"warning: {_words(finding)}" for finding in check.findings if finding.severity == "warning"]
    return QuickStart(plan.config, tuple(plan.choices), (*data.notes, *warnings, *missed))


MENDED_BY_MAPS = frozenset({"class-file", "unknown-ids", "ids-shifted", "ids-sparse"})
"""What the doctor finds wrong with classes and values, and ``[data.classes]`` may be there to mend."""


def _refuse_broken(check: Examination, kind: str | None, options: Mapping[str, Any], *, mapped: bool) -> None:
    """Refuse data with errors: a training would end at the first of them, or learn it.

    Args:
        check: what was found.
        kind: of dataset, where the user says it.
        options: of the dataset, as the user gave them.
        mapped: whether classes are mapped.
    """
    errors = [f for f in check.findings if f.severity == "error" and not (mapped and f.id in MENDED_BY_MAPS)]
    if errors:
        more = f" and {len(errors) - 1} more findings" if len(errors) > 1 else ""
        raise DataError(f"{_words(errors[0])}{more}; {advice(check, kind, options)}")


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


def _choose_training(plan: Plan, check: Examination, images: int, size: tuple[int, int], clock: Clock | None) -> None:
    started = bool(plan.config.model.starts)
    published = any(map(names_published, plan.config.model.starts))
    device = _device(plan.config.train.device)
    plan.choose("data.workers", min(2, available_threads()), "read ahead while the network computes")
    if not plan.config.data.classes and (rare := _rare_classes(check)):  # a map may have made others of them
        why = f"{rare} of the classes have under 1 % of the pixels each"
        plan.choose("augment.class_balance", 0.5, why)
        plan.choose("loss.class_weights", "auto", why)
    choose_extent(plan, images, size, device, published=published, clock=clock)

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


def _rare_classes(check: Examination) -> int:
    counts = np.sum([np.asarray(split) for split in check.pixels.values()], axis=0) if check.pixels else np.zeros(1)
    share = counts / max(counts.sum(), 1)
    return int(((share > 0) & (share < RARE)).sum())
