"""One fold of the labelled images of another dataset: trained on all others, judged on its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...core.errors import ConfigError, DataError
from ..annotations import AnnotatedDataset
from ..class_maps import ClassMap, open_with_map
from ..datasets import SegmentationDataset, datasets
from ..splits import draw_folds, group_of
from ..taken import taken
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
    return taken(parts, chosen, split, (*getattr(parts[0], "notes", ()), note))


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
