"""What the page of a training shows: its run folder's files, and what was found out about its validation pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ...core.errors import ConfigError
from ...core.progress import OnProgress, no_progress
from ...core.types import ClassSet, ImageArray, MaskArray
from ...data.datasets import SegmentationDataset
from ...evaluation.metrics import ConfusionMatrix
from .panels import IGNORED, PANEL_SIDE, jpeg, marked, png

WRONG = (222, 60, 40)
"""Colour of wrong pixels."""


@dataclass(frozen=True)
class HardImage:
    """A picture that a network does badly on.

    Args:
        name: stem of the image.
        miou: mIoU of this image alone, 0–1; NaN where it has no labelled pixel.
        panels: pictures as ``data:`` addresses, by title, in the order they are shown.
        seen: names of the classes that occur in them.
    """

    name: str
    miou: float
    panels: dict[str, str]
    seen: tuple[str, ...]


@dataclass(frozen=True)
class RunReport:
    """All that is known of a training.

    Args:
        run: what :func:`featherseg.training.results.read_run` returns.
        classes: names and colours.
        matrix: pixel counts (C, C), rows = target, of the best epoch on the validation split; None if not known.
        progress: epoch and picture, a ``data:`` address, of each best epoch that has one.
        hard: the worst validation pictures, the worst first.
        notes: what is left out and why, a sentence each.
    """

    run: dict[str, Any]
    classes: ClassSet
    matrix: Sequence[Sequence[int]] | None = None
    progress: tuple[tuple[int, str], ...] = ()
    hard: tuple[HardImage, ...] = ()
    notes: tuple[str, ...] = ()


def hard_images(
    dataset: SegmentationDataset,
    segment: Callable[[ImageArray], MaskArray],
    count: int,
    *,
    progress: OnProgress = no_progress,
) -> tuple[tuple[HardImage, ...], ConfusionMatrix]:
    """Find the pictures with the lowest mIoU of their own, and count all pixels on the way.

    Each picture is read and segmented once, and no more than `count` of them are held, small as they are shown.

    Args:
        dataset: labelled images.
        segment: RGB uint8 (H, W, 3) to class ids uint8 (H, W).
        count: how many pictures; all where the dataset has fewer.
        progress: called with the numbers of images done and of all.

    Returns:
        The pictures, the worst first, and the confusion matrix of all.

    Raises:
        ConfigError: `count` is below 1.
    """
    if count < 1:
        raise ConfigError(f"count is {count}; show at least 1 picture")
    confusion = ConfusionMatrix(dataset.classes)
    found: list[tuple[tuple[float, int], HardImage]] = []
    for i in range(len(dataset)):
        image, target = dataset.read(i)
        mask = segment(image)
        alone = ConfusionMatrix(dataset.classes)
        alone.update(target, mask)
        confusion.merge(alone)
        miou = alone.miou()
        rank = (math.inf if math.isnan(miou) else miou, i)
        if len(found) < count or rank < found[-1][0]:
            hard = _hard(dataset.stem(i), miou, image, target, mask, dataset.classes)
            found = sorted([*found, (rank, hard)], key=lambda each: each[0])[:count]
        progress(i + 1, len(dataset))
    return tuple(hard for _, hard in found), confusion


def _hard(
    name: str, miou: float, image: ImageArray, target: MaskArray, mask: MaskArray, classes: ClassSet
) -> HardImage:
    """Draw a picture's panels, their longer side at most ``PANEL_SIDE``."""
    height, width = target.shape
    scale = min(1.0, PANEL_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    truth, prediction = (
        np.asarray(cv2.resize(each, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8) for each in (target, mask)
    )
    palette = classes.palette()
    palette[classes.ignore_index] = IGNORED
    wrong = (truth != prediction) & (truth != classes.ignore_index)
    panels = {
        "image": jpeg(small),
        "truth": png(truth, palette),
        "prediction": png(prediction, palette),
        "what is wrong": marked(small, wrong.astype(np.uint8), [WRONG]),
    }
    ids = np.unique(np.stack((truth, prediction)))
    return HardImage(name, miou, panels, tuple(classes.names[i] for i in ids if i < len(classes)))
