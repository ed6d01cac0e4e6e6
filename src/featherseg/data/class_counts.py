"""How many pixels each class has in a dataset's masks, and what of it a user should know before training."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.types import MaskArray
from .annotations import AnnotatedDataset
from .cache import CachedDataset
from .datasets import FileDataset, SegmentationDataset

LIMIT = 400
"""Most masks that are decoded for the counts alone; cached ones lie there decoded, and all count."""


@dataclass(frozen=True)
class Census:
    """Pixels by class.

    Args:
        pixels: labelled pixels of each class, (num_classes,).
        seen: masks that were counted.
        total: masks there are.
    """

    pixels: NDArray[np.int64]
    seen: int
    total: int

    @property
    def share(self) -> NDArray[np.float64]:
        """Share of the labelled pixels of each class, (num_classes,), 0–1."""
        share: NDArray[np.float64] = self.pixels / max(int(self.pixels.sum()), 1)
        return share

    def __str__(self) -> str:
        return f"{self.total}" if self.seen == self.total else f"{self.seen} of {self.total}"


def take_census(dataset: SegmentationDataset) -> Census:
    """Count a split's classes: in all masks that lie decoded, else in ``LIMIT`` at most, evenly spread."""
    total = len(dataset)
    count = total if isinstance(dataset, CachedDataset) else min(total, LIMIT)
    indices = np.linspace(0, total - 1, count).round().astype(int)
    pixels = np.zeros(256, np.int64)
    with ThreadPoolExecutor(4) as pool:  # decoders release the interpreter lock
        for counts in pool.map(lambda index: _count(_mask(dataset, int(index))), indices):
            pixels += counts
    return Census(pixels[: len(dataset.classes)], count, total)


def census_warnings(train: Census, val: Census, names: Sequence[str]) -> list[str]:
    """Return a line for classes that never occur in the training masks, and one for those that validation has."""
    absent = [name for name, pixels in zip(names, train.pixels, strict=True) if not pixels]
    scored = [name for name, pixels in zip(names, val.pixels, strict=True) if pixels and name in absent]
    lines = []
    if absent:
        lines.append(
            f"warning: no pixel of {', '.join(absent)} in {train} training masks; such classes cannot be learnt"
        )
    if scored:
        lines.append(
            f"warning: {', '.join(scored)} occurs in the validation masks alone; its IoU of 0 counts in the mIoU"
        )
    return lines


def _mask(dataset: SegmentationDataset, index: int) -> MaskArray:
    """Return a sample's mask, of files without decoding the image, which takes several times as long."""
    if isinstance(dataset, FileDataset):
        return dataset.table.read(dataset.pairs[index][1])
    if isinstance(dataset, AnnotatedDataset):
        return dataset.samples[index].annotation.read()
    return dataset.read(index)[1]


def _count(mask: MaskArray) -> NDArray[np.int64]:
    """Return the number of pixels of each mask value, (256,); several times as fast as np.bincount."""
    counts = cv2.calcHist([np.ascontiguousarray(mask)], [0], None, [256], [0, 256])
    return np.asarray(counts).ravel().astype(np.int64)
