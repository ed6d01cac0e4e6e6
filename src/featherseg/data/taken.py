"""Some of the images of one dataset or of several, as a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..core.types import ClassSet, ImageArray, MaskArray
from .annotations import AnnotatedDataset
from .datasets import FileDataset, Indexed, SegmentationDataset


def taken(
    parts: Sequence[SegmentationDataset],
    images: Sequence[tuple[SegmentationDataset, int]],
    split: str,
    notes: tuple[str, ...],
) -> SegmentationDataset:
    """Return a dataset of images of several; one of files where they are, whose masks are read without the images.

    Args:
        parts: datasets of the same classes.
        images: dataset and place of each.
        split: what it is called.
        notes: to be shown to the user.
    """
    first = parts[0]
    if isinstance(first, FileDataset) and all(
        isinstance(p, FileDataset) and p.table.key == first.table.key for p in parts
    ):
        pairs = tuple(part.pairs[index] for part, index in images if isinstance(part, FileDataset))
        return replace(first, split=split, pairs=pairs, notes=notes)
    if isinstance(first, AnnotatedDataset) and all(isinstance(part, AnnotatedDataset) for part in parts):
        samples = tuple(part.samples[index] for part, index in images if isinstance(part, AnnotatedDataset))
        return replace(first, split=split, samples=samples, notes=notes)
    return Taken(first.name, split, first.classes, tuple(images), notes)


@dataclass(frozen=True)
class Taken(Indexed):
    """Images of several datasets with the same classes.

    Args:
        name: kind of dataset.
        split: of this one.
        classes: of all.
        images: dataset and place of each.
        notes: to be shown to the user.
    """

    name: str
    split: str
    classes: ClassSet
    images: tuple[tuple[SegmentationDataset, int], ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def stem(self, index: int) -> str:
        """Return the name of sample `index`."""
        dataset, place = self.images[index]
        return dataset.stem(place)

    def read(self, index: int) -> tuple[ImageArray, MaskArray]:
        """Return sample `index`: RGB uint8 (H, W, 3) and class ids uint8 (H, W)."""
        dataset, place = self.images[index]
        return dataset.read(place)
