"""One fold of the labelled images of another dataset: trained on all others, judged on its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...core.errors import ConfigError, DataError
from ...core.types import ClassSet, ImageArray, MaskArray
from ..annotations import AnnotatedDataset
from ..class_maps import ClassMap, open_with_map
from ..datasets import FileDataset, SegmentationDataset, datasets
from ..splits import draw_folds, group_of
from .public import recording_of

BY_NAME = ("camvid", "cityscapes")
"""Kinds whose images' names begin with their recording or town."""


@datasets.register("fold")
def fold(
    root: Path,
    split: str = "train",
    *,
    of: str,
    fold: int,
    folds: int,
    seed: int = 0,
    group: str = "",
    splits: tuple[str, ...] | list[str] = ("train", "val"),
    options: dict[str, Any] | None = None,
    class_map: ClassMap | None = None,
) -> SegmentationDataset:
    """Open a fold of a dataset, as ``featherseg train --folds`` makes them.

    All images of `splits` together are divided; a test split is never among them unless it is named. What belongs
    together stays in one fold: CamVid's recordings, Cityscapes' towns, the subfolders of the kind ``grouped``, and what
    `group` finds in names. Seed and names alone decide; folds have as equal numbers of images as groups allow.

    Args:
        root: folder of the dataset.
        split: ``val`` is the fold, ``train`` all the others, ``all`` every image.
        of: kind of the dataset.
        fold: which, from 1.
        folds: how many there are, at least 2.
        seed: another one makes other folds.
        group: regular expression that finds in a name what stays together; its first bracketed part, or all of it.
        splits: of the dataset, whose images are divided.
        options: the dataset's own.
        class_map: what is made of its classes, by ``[data.classes]``.

    Raises:
        ConfigError: fold or folds are out of range.
        DataError: there are fewer groups than folds, or no such split.
    """
    if not 1 <= fold <= folds:
        raise ConfigError(f"data.options.fold is {fold} of {folds}; give a number from 1 to that of the folds")
    if split not in ("train", "val", "all"):
        raise DataError(f"split {split!r} not found; a fold has train, val and all")
    parts = [open_with_map(of, root, name, class_map, **(options or {})) for name in dict.fromkeys(splits)]
    if wrong := next((part for part in parts if part.classes != parts[0].classes), None):
        raise DataError(f"{of} has other classes in {wrong.split} than in {parts[0].split}; state them in classes.toml")
    images = [(part, index) for part in parts for index in range(len(part))]
    numbers = draw_folds([_group(of, part, index, group) for part, index in images], folds, seed)
    chosen = [
        image
        for image, number in zip(images, numbers, strict=True)
        if split == "all" or (number == fold - 1) == (split == "val")
    ]
    note = f"fold {fold} of {folds}: {split} has {len(chosen)} of {len(images)} images"
    return _taken(parts, chosen, split, (*getattr(parts[0], "notes", ()), note))


def _group(kind: str, part: SegmentationDataset, index: int, pattern: str) -> str:
    """Return what an image stays together with."""
    name = part.stem(index)
    if pattern:
        return group_of(name, pattern)
    if kind in BY_NAME:
        return recording_of(name)
    if kind == "grouped" and isinstance(part, AnnotatedDataset):
        return part.samples[index].image.parent.name
    return name


def _taken(
    parts: list[SegmentationDataset], images: list[tuple[SegmentationDataset, int]], split: str, notes: tuple[str, ...]
) -> SegmentationDataset:
    """Return a dataset of images of several; one of files where they are, whose masks are read without the images."""
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
class Taken:
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
