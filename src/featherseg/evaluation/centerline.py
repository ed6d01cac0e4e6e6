"""Scores of thin things by their centre lines: how wide each class is, which are thin, and clDice. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, did_you_mean
from ..core.types import ClassSet
from ..data.class_counts import read_mask
from ..data.datasets import SegmentationDataset
from .metrics import AnyMask, CountArray, FloatArray, as_pair, mean_of, ratio
from .skeleton import skeleton

SAMPLE = 64
"""Most masks that are looked at for the classes' widths."""
THIN = 0.015
"""Widest a thin class is, as a share of the image's diagonal: 9 pixels of 360x480, 34 of 1024x2048."""
ALWAYS_THIN = 5.0
"""Pixels that are not too wide in small images either."""
ELONGATED = 8.0
"""Least length over width of a thin class's parts. A square has 4 by this measure, a disc 5; CamVid's poles have 18."""


@dataclass(frozen=True)
class Widths:
    """How wide each class typically is, and which are thin, by the masks of a dataset.

    Args:
        classes: the classes.
        pixels: typical width by class (C,): twice the area over the outline, both summed over all masks. The outline
            is the number of sides that pixels share with another class or an ignored pixel; the image's edge is none.
            Of a line along rows or columns that is its width. NaN where a class has no outline.
        thin: ids of the thin classes: not wider than ``THIN`` of the diagonal or ``ALWAYS_THIN``, and their parts
            (connected by eight neighbours) on average ``ELONGATED`` times as long as wide, half an outline being the
            length.
    """

    classes: ClassSet
    pixels: FloatArray
    thin: tuple[int, ...]

    def chosen(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return the ids of classes that a person calls thin.

        Raises:
            ConfigError: one is no class.
        """
        for name in names:
            if name not in self.classes.names:
                raise ConfigError(
                    f"thin names {name!r}, no class of the data; {did_you_mean(name, self.classes.names)}"
                )
        return tuple(sorted({self.classes.index(name) for name in names}))


def take_widths(dataset: SegmentationDataset) -> Widths:
    """Measure a split's classes in ``SAMPLE`` masks at most, evenly spread: in the same ones wherever it is asked."""
    total = len(dataset)
    count = len(dataset.classes)
    indices = np.linspace(0, total - 1, min(total, SAMPLE)).round().astype(int)
    areas, sides, parts = (np.zeros(count, np.int64) for _ in range(3))
    diagonals = 0.0
    with ThreadPoolExecutor(4) as pool:  # decoders release the interpreter lock
        for mask in pool.map(lambda index: read_mask(dataset, int(index)), indices):
            areas += np.bincount(mask.ravel(), minlength=256)[:count]
            sides += _sides(mask)[:count]
            for c in np.unique(mask[mask < count]):
                parts[c] += cv2.connectedComponents((mask == c).view(np.uint8), connectivity=8)[0] - 1
            diagonals += float(np.hypot(*mask.shape))
    pixels = ratio(2 * areas, sides)
    longer = ratio(sides.astype(np.float64) ** 2, 4 * areas * parts)
    limit = max(ALWAYS_THIN, THIN * diagonals / max(len(indices), 1))
    thin = np.flatnonzero((np.nan_to_num(pixels, nan=np.inf) <= limit) & (np.nan_to_num(longer) >= ELONGATED))
    return Widths(dataset.classes, pixels, tuple(map(int, thin)))


def _sides(mask: NDArray[np.uint8]) -> CountArray:
    """Return how many sides the pixels of each value share with another value, (256,)."""
    found = np.zeros(256, np.int64)
    for one, other in ((mask[1:], mask[:-1]), (mask[:, 1:], mask[:, :-1])):
        differ = one != other
        found += np.bincount(one[differ], minlength=256) + np.bincount(other[differ], minlength=256)
    return found


class CenterlineDice:
    """How well thin things are found as lines: clDice, from counts of pixels of centre lines.

    After Shit et al., clDice: a novel topology-preserving loss function for tubular structure segmentation
    (CVPR 2021, arXiv 2003.07311, equations 1 and 2), as follows:

    - Topology precision is the share of the prediction's centre line that lies in the true mask, topology sensitivity
      the share of the true centre line that lies in the predicted mask. clDice is their harmonic mean, 0 where one of
      the two masks has no pixel.
    - Centre lines are thinned exactly, see :mod:`.skeleton`.
    - Ignored pixels of the target are taken out of both masks before.
    - Pixels are summed over the dataset before dividing, as everywhere here; the paper averages images.

    Args:
        classes: the classes.
        thin: ids of those that are measured.
    """

    def __init__(self, classes: ClassSet, thin: Sequence[int]) -> None:
        self.classes = classes
        self.thin = tuple(thin)
        self.predicted_pixels: CountArray = np.zeros(len(classes), np.int64)
        self.predicted_right: CountArray = np.zeros(len(classes), np.int64)
        self.target_pixels: CountArray = np.zeros(len(classes), np.int64)
        self.target_right: CountArray = np.zeros(len(classes), np.int64)

    def update(self, target: AnyMask, prediction: AnyMask) -> None:
        """Add one image: target and prediction are class ids (H, W)."""
        target, prediction = as_pair(target, prediction)
        valid = target != self.classes.ignore_index
        for c in self.thin:
            truth, predicted = (target == c) & valid, (prediction == c) & valid
            true_line, predicted_line = skeleton(truth), skeleton(predicted)
            self.target_pixels[c] += np.count_nonzero(true_line)
            self.target_right[c] += np.count_nonzero(true_line & predicted)
            self.predicted_pixels[c] += np.count_nonzero(predicted_line)
            self.predicted_right[c] += np.count_nonzero(predicted_line & truth)

    def merge(self, other: CenterlineDice) -> Self:
        """Add the counts of another one with the same classes, and return this one."""
        if (other.classes, other.thin) != (self.classes, self.thin):
            raise ConfigError(
                f"clDice of classes {list(self.thin)} cannot take counts of {list(other.thin)}; use the same for both"
            )
        for own, its in zip(self.counts(), other.counts(), strict=True):
            own += its
        return self

    __iadd__ = merge

    def counts(self) -> tuple[CountArray, ...]:
        """Return the arrays that several processes' metrics are added up by, in place."""
        return self.predicted_pixels, self.predicted_right, self.target_pixels, self.target_right

    def per_class(self) -> FloatArray:
        """Return clDice by class (C,), in 0–1; NaN for one that is not measured or occurs in neither masks."""
        precision = np.nan_to_num(ratio(self.predicted_right, self.predicted_pixels))
        sensitivity = np.nan_to_num(ratio(self.target_right, self.target_pixels))
        both = np.nan_to_num(ratio(2 * precision * sensitivity, precision + sensitivity))
        return np.where(self.target_pixels + self.predicted_pixels > 0, both, np.nan)

    def mean(self) -> float:
        """Return the mean of :meth:`per_class` over the classes that have one, in 0–1; NaN where none has."""
        return mean_of(self.per_class())
