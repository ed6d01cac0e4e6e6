"""How many pixels each class has in a dataset's masks, and what of it a user should know before training."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DataError
from ..core.types import ClassSet, MaskArray
from .annotations import AnnotatedDataset
from .cache import CachedDataset
from .datasets import FileDataset, SegmentationDataset
from .labels import id_counts

LIMIT = 400
"""Most masks that are decoded for the counts alone; cached ones lie there decoded, and all count."""


@dataclass(frozen=True)
class ClassCounts:
    """Pixels by class.

    Args:
        pixels: labelled pixels of each class, (num_classes,).
        seen: masks that were counted.
        total: masks there are.
        ignored: pixels that are not labelled.
    """

    pixels: NDArray[np.int64]
    seen: int
    total: int
    ignored: int = 0

    @property
    def share(self) -> NDArray[np.float64]:
        """Share of the labelled pixels of each class, (num_classes,), 0–1."""
        share: NDArray[np.float64] = self.pixels / max(int(self.pixels.sum()), 1)
        return share

    @property
    def present(self) -> int:
        """How many classes have a pixel."""
        return int(np.count_nonzero(self.pixels))

    def __str__(self) -> str:
        return f"{self.total}" if self.seen == self.total else f"{self.seen} of {self.total}"


def take_class_counts(dataset: SegmentationDataset) -> ClassCounts:
    """Count a split's classes: in all masks that lie decoded, else in ``LIMIT`` at most, evenly spread.

    Where fewer than two classes occur in those, all masks count: a training is refused for it.
    """
    total = len(dataset)
    counts = _counted(dataset, total if isinstance(dataset, CachedDataset) else min(total, LIMIT))
    return counts if counts.present > 1 or counts.seen == total else _counted(dataset, total)


def _counted(dataset: SegmentationDataset, count: int) -> ClassCounts:
    total = len(dataset)
    indices = np.linspace(0, total - 1, count).round().astype(int)
    pixels = np.zeros(256, np.int64)
    with ThreadPoolExecutor(4) as pool:  # decoders release the interpreter lock
        for counts in pool.map(lambda index: id_counts(read_mask(dataset, int(index))), indices):
            pixels += counts.astype(np.int64)
    return ClassCounts(pixels[: len(dataset.classes)], count, total, int(pixels[dataset.classes.ignore_index]))


def require_contrast(train: ClassCounts, val: ClassCounts, classes: ClassSet) -> None:
    """Refuse a training in which nothing can be told apart, or nothing be scored, before its first epoch.

    Raises:
        DataError: there is one class only, the training masks hold one at most, or the validation masks none.
    """
    first = classes.names[0]
    if len(classes) == 1:
        raise DataError(
            f"{first!r} is the only class, so that there is nothing to tell it from and every network is right; make "
            f"a class of what is not {first!r} too"
        )
    check = "see what the values stand for with featherseg doctor"
    if not train.present:
        raise DataError(
            f"no pixel of the {train} training masks is labelled: all their values are ignored; {check}, and list the "
            "classes' values as ids in classes.toml, or in [data.classes]"
        )
    if train.present == 1:
        only = classes.names[int(train.pixels.argmax())]
        what = f"no class but {only!r}" + (" and ignored pixels" if train.ignored else "")
        binary = train.ignored and len(classes) == 2 and classes.ignore_index == 255
        remedy = "masks of 0 and 255 need ids = [0, 255] in classes.toml" if binary else f"label more, or {check}"
        raise DataError(f"the {train} training masks hold {what}, so that there is nothing to tell apart; {remedy}")
    if not val.present:
        raise DataError(
            f"no pixel of the {val} validation masks is labelled, so that no epoch can be chosen; set data.val_split "
            "to a split with labels"
        )


def absent_class_warnings(train: ClassCounts, val: ClassCounts, names: Sequence[str]) -> list[str]:
    """Return a line each for classes that are not learnt, are scored without being learnt, or are never scored."""
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
    unseen = [n for n, there, pixels in zip(names, train.pixels, val.pixels, strict=True) if there and not pixels]
    if val.present == 1:
        only = names[int(val.pixels.argmax())]
        lines.append(
            f"warning: the {val} validation masks hold {only} alone; scores say nothing of the other classes, and "
            "hardly tell one epoch from another"
        )
    elif unseen:
        lines.append(f"warning: no pixel of {', '.join(unseen)} in {val} validation masks; no score says how well")
    return lines


def read_mask(dataset: SegmentationDataset, index: int) -> MaskArray:
    """Return a sample's mask, of files without decoding the image, which takes several times as long."""
    if isinstance(dataset, FileDataset):
        return dataset.table.read(dataset.pairs[index][1])
    if isinstance(dataset, AnnotatedDataset):
        return dataset.samples[index].annotation.read()
    return dataset.read(index)[1]
