"""How much a training sees, in a time or a usual one: the crop, the batch, crops of an image in an epoch, epochs."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from ..core.config import Config
from ..core.durations import duration
from ..core.types import MIN_SIZE, InputSpec
from .choices import Plan
from .pace import LOOK_SHARE, LOOKS, Pace
from .starts import relative_cost
from .timing import Measure, plan_length

STEP = 32
"""Crops are multiples of the deepest stride."""
CROP_PIXELS = {"cpu": 256 * 320, "cuda": 640 * 640}
"""Of the smallest crops of images that are larger."""
BATCH = {"cpu": 8, "cuda": 16}
LARGEST_CROP = {"cpu": 640 * 640, "cuda": 2 * 640 * 640}
"""Pixels. Of these half a batch takes the memory of a whole one of the smallest crops, on a CPU 2.5 times as much."""
LEAST_BATCH = 4
"""Half a batch is taken for larger crops alone, if it is as many."""
FINE_CROP_PIXELS = {"cpu": 384 * 512, "cuda": 640 * 640}
"""Networks that were trained on large images see more at once; the batch is the smaller for it."""
FINE_BATCH = {"cpu": 4, "cuda": 8}
STEPS = {"cpu": 1500, "cuda": 12_000}
"""Steps of the smallest crops, where no time is given. FastSegNet on CamVid from ImageNet weights was within 5 points
of its best after 900 steps of 8 (the curve of camvid_fastsegnet in docs/results_split.md)."""
FEWEST_STEPS = {"cpu": 600, "cuda": 4800}
"""Crops are as large as leaves so many steps, two fifths of the usual ones,"""
EPOCHS = (10, 300)
"""and so many epochs at least; more than the second are not chosen where no time is given."""
EPOCH_BATCHES = 8
"""An epoch of fewer is mostly overhead: several crops of each image make it longer."""
WIDE = 4
"""Images with the area of so many crops are large against them."""
EPOCHS_OF_CROPS = 20
"""So many epochs are left where several crops of each image make one."""

Crop = Sequence[int]
Steps = Callable[[Crop, int], float]
"""Returns how many steps there is time for, by crop (height, width) and batch."""


@dataclass(frozen=True)
class Clock:
    """A time that all may take.

    Args:
        begin: of it, by ``time.monotonic``.
        seconds: from then on.
        measure: times what a training does.
    """

    begin: float
    seconds: float
    measure: Measure

    @property
    def left(self) -> float:
        """Seconds from now to its end."""
        return self.seconds - (time.monotonic() - self.begin)


def choose_extent(
    plan: Plan, images: int, size: tuple[int, int], device: str, *, published: bool, clock: Clock | None
) -> None:
    """Choose crop, batch, crops of an image, and epochs.

    Args:
        plan: takes the choices; what else costs time is chosen already.
        images: how many are trained on.
        size: their median (height, width).
        device: ``"cpu"`` or ``"cuda"``.
        published: whether training begins from published weights.
        clock: the time that all may take; None for a usual one.

    Raises:
        ConfigError: the time is too short for one epoch.
    """
    unit = {"cpu": "CPU", "cuda": "GPU"}[device]
    seen_at = InputSpec(long_side=plan.config.model.long_side or None).size(size)
    base, most = (FINE_CROP_PIXELS[device], FINE_BATCH[device]) if published else (CROP_PIXELS[device], BATCH[device])
    crops = [plan.config.augment.crop] if plan.gave("augment.crop") else _crops(seen_at, base, LARGEST_CROP[device])
    given = plan.config.data.batch_size if plan.gave("data.batch_size") else None

    def fitting(steps: Steps) -> tuple[Crop, int]:
        return _fitting(steps, crops, given, images, most, base, FEWEST_STEPS[device])

    steps, pace = _usual_steps(plan.config.model.name, device), None
    crop, batch = fitting(steps)
    when = f"in good time on a {unit}"
    if clock is not None:
        when = f"in {duration(clock.seconds)}"
        pace = clock.measure(_trial(plan.config, crop, batch), clock.seconds)
        steps = _timed_steps(pace, crop, batch, clock.left)
        if (better := fitting(steps)) != (crop, batch):
            crop, batch = better
            pace = clock.measure(_trial(plan.config, crop, batch), clock.seconds)
            steps = _timed_steps(pace, crop, batch, clock.left)
    resized = f", resized to {seen_at[0]}x{seen_at[1]}" if seen_at != size else ""
    if all(side > whole - STEP for side, whole in zip(crop, seen_at, strict=True)):
        why = (
            "they are seen whole but for what is no multiple of 32" if tuple(crop) != seen_at else "they are seen whole"
        )
    elif crop[0] * crop[1] > base:
        why = f"as much of them as leaves {FEWEST_STEPS[device]} steps and {EPOCHS[0]} epochs {when}"
    else:
        why = f"as much as a {unit} trains in good time"
    plan.choose("augment.crop", list(crop), f"images are {size[0]}x{size[1]}{resized}; {why}")
    cut = f", crops of {crop[0]}x{crop[1]}" if batch < most else ""
    plan.choose("data.batch_size", batch, f"{images} training images on a {unit}{cut}")
    _choose_crops(plan, images, seen_at, steps)
    if clock is None or pace is None:
        _choose_epochs(plan, images, device)
        return
    every = plan.config.train.eval_every if plan.gave("train.eval_every") else None
    pace = dataclasses.replace(pace, batches=math.ceil(images * plan.config.data.crops / batch))
    for choice in plan_length(pace, clock.left, clock.seconds, every):
        plan.choose(choice.setting, choice.value, choice.reason)


def _fitting(
    steps: Steps, crops: Sequence[Crop], given: int | None, images: int, most: int, base: int, fewest: int
) -> tuple[Crop, int]:
    """Return the largest crop that leaves steps enough, with the largest batch for it; the smallest where none does.

    Args:
        steps: that there is time for.
        crops: to choose from, the largest first.
        given: the user's batch.
        images: how many are trained on; a batch has at most half of them.
        most: the usual batch.
        base: pixels of a crop for which that is meant.
        fewest: steps that are enough.
    """
    half = max(2, images // 2)
    batches = [given] if given else [min(n, half) for n in (most, most // 2) if n >= LEAST_BATCH]
    for crop in crops:
        for batch in batches if crop[0] * crop[1] > base else batches[:1]:
            if steps(crop, batch) >= max(fewest, EPOCHS[0] * images / batch):
                return crop, batch
    height, width = crops[-1]
    return crops[-1], given or min(max(2, most * base // max(height * width, base)), half)


def _choose_crops(plan: Plan, images: int, size: Crop, steps: Steps) -> None:
    """Choose several crops of each image where images are few or large; an epoch of the user's is one of images."""
    if plan.gave("train.epochs"):
        return
    batch, crop = plan.config.data.batch_size, plan.config.augment.crop
    wide = size[0] * size[1] // (crop[0] * crop[1])
    few = math.ceil(EPOCH_BATCHES * batch / images)
    crops = max(few, wide if wide >= WIDE else 1)
    crops = min(crops, int(steps(crop, batch) * batch / (EPOCHS_OF_CROPS * images)))
    if crops > 1:
        what = f"an image is {wide} times a crop" if wide >= max(few, WIDE) else f"{images} images are few"
        plan.choose("data.crops", crops, f"{what}: so many of each image are an epoch")


def _choose_epochs(plan: Plan, images: int, device: str) -> None:
    """Choose so many epochs as take about the usual time."""
    config = plan.config
    batch, crop = config.data.batch_size, config.augment.crop
    steps = _usual_steps(config.model.name, device)(crop, batch)
    slower = STEPS[device] / steps
    said = f", each of which takes about {slower:.0f} times FastSegNet's usual one" if slower >= 1.5 else ""
    image = relative_cost(config.model.name) * crop[0] * crop[1] / CROP_PIXELS[device]
    low = max(round(EPOCHS[0] / max(image, 1.0)), 1)
    epochs = min(max(round(round(steps) * batch / (images * config.data.crops)), low), EPOCHS[1])
    batches = math.ceil(images * config.data.crops / batch)
    plan.choose("train.epochs", epochs, f"{epochs * batches} batches of {batch}{said}")
    if (epochs := plan.config.train.epochs) > LOOKS:
        plan.choose("train.eval_every", epochs // LOOKS, "fifty looks at the validation images are enough")


def _trial(config: Config, crop: Crop, batch: int) -> Config:
    change = msgspec.structs.replace
    augment = change(config.augment, crop=(crop[0], crop[1]))
    return change(config, augment=augment, data=change(config.data, batch_size=batch))


def _usual_steps(network: str, device: str) -> Steps:
    """Return how many steps take the time of a device's usual ones, by what is known of a network's cost."""
    usual = CROP_PIXELS[device] * BATCH[device] / relative_cost(network)
    return lambda crop, batch: STEPS[device] / max(crop[0] * crop[1] * batch / usual, 1.0)


def _timed_steps(pace: Pace, crop: Crop, batch: int, left: float) -> Steps:
    """Return how many steps there is time for, by the pace of some: others take time in proportion to their pixels."""
    room = max(left - pace.start - pace.final, 0.0) * (1 - LOOK_SHARE)
    pixels = room / pace.step * crop[0] * crop[1] * batch
    return lambda crop, batch: pixels / (crop[0] * crop[1] * batch)


def _crops(size: Crop, smallest: int, largest: int) -> list[Crop]:
    """Return crops of the images' shape, from the images' own size or the largest down to the smallest.

    Args:
        size: (height, width) of images.
        smallest: pixels of the smallest crop, at most.
        largest: pixels of the largest crop, at most.
    """
    pixels = min(size[0] * size[1], largest)
    found: list[Crop] = []
    while pixels > smallest:
        found.append(_crop(size, pixels))
        pixels = int(0.9 * pixels)
    return [*found, _crop(size, smallest)]


def _crop(size: Crop, pixels: int) -> Crop:
    """Return the crop of the images' shape that has at most so many pixels, in whole steps."""
    shrink = min(1.0, math.sqrt(pixels / (size[0] * size[1])))
    return [max(int(side * shrink) // STEP * STEP, MIN_SIZE) for side in size]
