"""What mask values stand for: a table from values to classes that can be corrected, unlike a loader's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError
from ..core.types import ClassSet
from ..data.class_files import CLASS_SUFFIXES, read_class_file
from ..data.labels import UNKNOWN
from ..data.readers.public import (
    CAMVID_CLASSES,
    CAMVID_COLORS,
    CAMVID_IDS,
    CITYSCAPES_CLASSES,
    CITYSCAPES_IDS,
    VOC_CLASSES,
)

APART = 40
"""Least distance between two values at which a damaged one is told apart: JPEG moves values by less than half of it."""
BLOCK = 1 << 16
"""Values whose distances are taken at a time."""


def pack(color: tuple[int, int, int]) -> int:
    """Return an RGB colour as one number."""
    return (color[0] << 16) | (color[1] << 8) | color[2]


def unpack(values: NDArray[np.integer]) -> NDArray[np.int32]:
    """Return packed colours (N,) as int32 (N, 3)."""
    wide = values.astype(np.int32)
    return np.stack([wide >> 16, wide >> 8 & 255, wide & 255], axis=-1)


@dataclass(frozen=True)
class Meaning:
    """Classes, and what each value of a mask file stands for.

    Args:
        classes: names and colours; ``ignore_index`` is what ignored values become.
        ids: class id (or the ignored id) by value of an index mask.
        colors: class id (or the ignored id) by packed RGB colour.
        by_palette: palette masks are read by their colours, since their ids differ from file to file.
        grey_rgb: RGB masks of greys hold ids.
        snap: a value that is none of these is taken for the nearest of them, in every file; else in JPEGs alone.
        states_ids: a person said which values the masks hold; nothing else is concluded from what occurs.
        sure: the values are class ids that a reader gave; there is nothing to be found out about them.
    """

    classes: ClassSet
    ids: Mapping[int, int]
    colors: Mapping[int, int]
    by_palette: bool = False
    grey_rgb: bool = False
    snap: bool = False
    states_ids: bool = False
    sure: bool = False

    @classmethod
    def identity(cls, classes: ClassSet) -> Meaning:
        """Return the meaning of masks that hold the class ids, or the classes' colours."""
        ids = {i: i for i in range(len(classes))} | {classes.ignore_index: classes.ignore_index}
        return cls(classes, ids, {pack(color): i for i, color in reversed(list(enumerate(classes.colors)))})

    @classmethod
    def certain(cls, classes: ClassSet) -> Meaning:
        """Return the meaning of class ids that a reader of labels gave."""
        return replace(cls.identity(classes), sure=True)

    def table(self, colour: bool) -> Mapping[int, int]:
        """Return the table of colour masks, or of those of ids."""
        return self.colors if colour else self.ids

    def can_snap(self, colour: bool) -> bool:
        """Return whether values are so far apart that a damaged one has an obvious owner."""
        known = np.array(sorted(self.table(colour)), np.int64)
        if len(known) < 2:
            return False
        points = unpack(known) if colour else known[:, None]
        apart = np.abs(points[:, None] - points[None]).max(axis=2)
        np.fill_diagonal(apart, np.iinfo(apart.dtype).max)
        return bool(apart.min() >= APART)

    def labels(self, values: NDArray[np.integer], colour: bool, *, snap: bool = False) -> NDArray[np.int16]:
        """Return the class id of each value (N,), the ignored id, or ``UNKNOWN``.

        Args:
            values: ids, or packed colours.
            colour: which of the two.
            snap: take unknown values for the nearest known one.
        """
        table = self.table(colour)
        if not table:
            return np.full(len(values), UNKNOWN, np.int16)
        keys = np.array(sorted(table), np.int64)
        owners = np.array([table[int(key)] for key in keys], np.int16)
        place = np.minimum(np.searchsorted(keys, values), len(keys) - 1)
        known = keys[place] == values
        labels = np.where(known, owners[place], np.int16(UNKNOWN)).astype(np.int16)
        if snap and not known.all():
            labels[~known] = owners[_nearest(values[~known], keys, colour)]
        return labels


def _nearest(values: NDArray[np.integer], keys: NDArray[np.int64], colour: bool) -> NDArray[np.intp]:
    """Return the place of the nearest key to each value, by the sum of squared differences of the channels."""
    homes = unpack(keys) if colour else keys[:, None]
    places = []
    for start in range(0, len(values), BLOCK // max(len(keys), 1) + 1):
        part = values[start : start + BLOCK // max(len(keys), 1) + 1]
        points = unpack(part) if colour else part.astype(np.int64)[:, None]
        apart = (points[:, None].astype(np.int64) - homes[None]) ** 2
        places.append(apart.sum(axis=2).argmin(axis=1))
    return np.concatenate(places)


def meaning_of_kind(kind: str) -> Meaning:
    """Return what the masks of a public dataset hold."""
    if kind == "voc":
        return Meaning.identity(VOC_CLASSES)
    if kind == "cityscapes":
        return Meaning(CITYSCAPES_CLASSES, CITYSCAPES_IDS, {})
    return Meaning(CAMVID_CLASSES, CAMVID_IDS, {pack(rgb): label for rgb, label in CAMVID_COLORS.items()})


def meaning_of_file(file: Path) -> Meaning:
    """Read a class file, see :mod:`featherseg.data.class_files`.

    Raises:
        DataError: it cannot be used.
    """
    found = read_class_file(file)
    colors = {pack(color): i for i, color in enumerate(found.classes.colors)}
    return Meaning(found.classes, found.ids, colors, states_ids=found.states_ids)


def parse_classes(words: str) -> Meaning:
    """Return what a user names as classes: a class file, or names with commas between them.

    Raises:
        ConfigError: a name occurs twice or is empty, or it is a path to no class file.
        DataError: the file cannot be used.
    """
    path = Path(words).expanduser()
    if path.suffix.lower() in CLASS_SUFFIXES:
        return meaning_of_file(path)
    if "," not in words and (path.suffix or len(path.parts) > 1 or path.exists()):
        kinds = ", ".join(CLASS_SUFFIXES)
        raise ConfigError(f"--classes is {words!r}; give a file ending in {kinds}, or names such as road,sky,car")
    names = tuple(name.strip() for name in words.split(","))
    if not all(names):
        raise ConfigError(f"--classes is {words!r}; give a .toml file, or names such as road,sky,car")
    return Meaning.identity(ClassSet(names))
