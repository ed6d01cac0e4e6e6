"""Classes as people need them: merged, renamed, dropped or ignored, over a dataset of any kind.

``[data.classes]`` of a recipe holds a key for each class that is made, with the classes or mask values that it takes
in, and ``ignore`` with those that are neither trained on nor counted. ``"*"`` stands for all that is not named::

    [data.classes]
    road = ["road", "parking"]       # merged; a single name renames
    ignore = ["void", 0, "#000000"]  # numbers are values of mask files, "#rrggbb" or "r,g,b" colours of theirs
    other = "*"                      # without it, what is not named stays as it is
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..core.errors import ConfigError, did_you_mean
from ..core.text_files import shortened
from ..core.types import IGNORE_INDEX, ClassSet, ImageArray, MaskArray, distinct_colors
from .datasets import FileDataset, Indexed, SegmentationDataset, create_dataset, datasets
from .labels import LabelTable

IGNORE = "ignore"
"""The key of what is ignored; no class can be called so."""
REST = "*"
HIGHEST = 0xFFFF
"""Largest value of a mask file."""

_HEX = re.compile(r"#([0-9a-fA-F]{6})")
_CHANNELS = re.compile(r" *([0-9]{1,3}) *, *([0-9]{1,3}) *, *([0-9]{1,3}) *")

Word = str | int
"""A class's name, a value of mask files, or a colour of theirs."""
Color = tuple[int, int, int]
Words = Word | Sequence[Word]


@dataclass(frozen=True)
class Resolved:
    """A map over known classes.

    Args:
        names: of the classes that there are then.
        labels: new id by old one; ``IGNORE_INDEX`` where it is ignored.
        values: new id by value of mask files, of those that the map names by number.
        rest: new id of mask values that nobody names; None where they stay what they are.
        firsts: old id of the first class in each new one; None where it is made of mask values alone.
        shades: new id by colour of mask files, of those that the map names by colour.
    """

    names: tuple[str, ...]
    labels: tuple[int, ...]
    values: Mapping[int, int]
    rest: int | None
    firsts: tuple[int | None, ...]
    shades: Mapping[Color, int] = field(default_factory=dict)

    def classes(self, colors: Sequence[tuple[int, int, int]] = ()) -> ClassSet:
        """Return the classes, each in the colour of the first that it is made of, if all of them have one."""
        if not colors or None in self.firsts:
            colors = distinct_colors(len(self.names))
        else:
            colors = [colors[first] for first in self.firsts if first is not None]
        return ClassSet(self.names, tuple(colors), IGNORE_INDEX)


@dataclass(frozen=True)
class ClassMap:
    """What is made of a dataset's classes; :func:`parse_map` reads it.

    Args:
        made: what each new class takes in, in the order of the new ids.
        ignored: what is ignored.
        place: what the map is called in messages.
    """

    made: Mapping[str, tuple[Word, ...]]
    ignored: tuple[Word, ...] = ()
    place: str = "data.classes"

    @property
    def of_values(self) -> bool:
        """Whether it names mask values alone, so that nothing needs to be known of the masks."""
        return bool(self.made) and all(type(word) is int or word == REST for _, word in self._entries())

    def resolve(
        self,
        names: Sequence[str],
        values: Mapping[str, int] | None = None,
        colors: Sequence[Color] = (),
    ) -> Resolved:
        """Say what becomes of classes.

        Args:
            names: of the classes, in the order of their ids; any number of them.
            values: of mask files that have a name but are no class.
            colors: of the classes, where they are known. A colour that is a class's means the class.

        Raises:
            ConfigError: a name is no class, is named twice, or would be two classes; or too many or none are left.
        """
        values = values or {}
        ids = {key: place for place, key in enumerate(self.made)} | {IGNORE: IGNORE_INDEX}
        named: dict[str, int] = {}
        by_value: dict[int, int] = {}
        by_color: dict[Color, int] = {}
        rest = next((ids[key] for key, word in self._entries() if word == REST), None)
        for key, word in self._entries():
            if isinstance(word, int):
                by_value[word] = ids[key]
            elif word in names:
                named[word] = ids[key]
            elif word in values:
                by_value[values[word]] = ids[key]
            elif (color := color_of(word)) is not None:
                by_color[color] = ids[key]
                if color in colors:
                    named[names[list(colors).index(color)]] = ids[key]
                elif (shade := "#{:02x}{:02x}{:02x}".format(*color)) in names:  # as inferred classes are called
                    named[shade] = ids[key]
            elif word != REST:
                hint = did_you_mean(word, (*names, *values))
                raise ConfigError(f"{self.place}.{key} names {shortened(repr(word))}, no class of the data; {hint}")
        new = list(self.made)
        labels = []
        firsts: list[int | None] = [None] * len(new)
        for place, name in enumerate(names):
            label = named.get(name, rest)
            if label is None:
                if name in self.made:
                    raise ConfigError(
                        f"{self.place}.{name} does not take in the class {name!r} that there is; put {name!r} into its "
                        "list, or give the new class another name"
                    )
                new.append(name)
                firsts.append(None)
                label = len(new) - 1
            if label != IGNORE_INDEX and firsts[label] is None:
                firsts[label] = place
            labels.append(label)
        if not 1 <= len(new) <= IGNORE_INDEX:
            raise ConfigError(f"{self.place} leaves {len(new)} classes; merge or ignore more: 1 to 255 are possible")
        return Resolved(tuple(new), tuple(labels), by_value, rest, tuple(firsts), by_color)

    def over(self, dataset: SegmentationDataset) -> SegmentationDataset:
        """Return a dataset with its classes as the map has them.

        Raises:
            ConfigError: see :meth:`resolve`.
        """
        if not isinstance(dataset, FileDataset):
            found = self.resolve(dataset.classes.names, colors=dataset.classes.colors)
            if found.values:
                value = next(iter(found.values))
                raise ConfigError(f"{self.place} names the mask value {value}, but {dataset.name} has no mask files")
            notes = self.notes(dataset, len(dataset.classes), len(found.names))
            return Relabelled(dataset, found.classes(dataset.classes.colors), found.labels, notes)
        classes, table = self.over_table(dataset.classes, dataset.table, dataset.named_values)
        notes = self.notes(dataset, len(dataset.classes), len(classes))
        return replace(dataset, classes=classes, table=table, notes=notes)

    def over_table(
        self, classes: ClassSet, table: LabelTable, values: Mapping[str, int] | None = None
    ) -> tuple[ClassSet, LabelTable]:
        """Return classes, and the table that reads masks as them, with values named by number taken out first."""
        found = self.resolve(classes.names, values, classes.colors)
        labels = dict(enumerate(found.labels)) | {classes.ignore_index: IGNORE_INDEX}
        return found.classes(classes.colors), table.relabelled(labels, found.values, found.shades)

    def alone(self) -> tuple[ClassSet, LabelTable]:
        """Return the classes and table of a map of mask values, see :attr:`of_values`; 255 is ignored."""
        found = self.resolve(())
        rest = {} if found.rest is None else dict.fromkeys(range(HIGHEST + 1), found.rest)
        return found.classes(), LabelTable(rest | {IGNORE_INDEX: IGNORE_INDEX} | dict(found.values))

    def notes(self, dataset: SegmentationDataset | None = None, before: int = 0, after: int = 0) -> tuple[str, ...]:
        """Return a dataset's notes, and what the map makes of its classes, and of how many where that is known."""
        parts = [f"{key} = {' + '.join(map(str, words))}" for key, words in self.made.items()]
        parts += [f"ignored: {', '.join(map(str, self.ignored))}"] * bool(self.ignored)
        folded = f", {before} folded to {after}" if before > after else ""
        return (*getattr(dataset, "notes", ()), f"classes as {self.place} has them{folded}: {'; '.join(parts)}")

    def _entries(self) -> list[tuple[str, Word]]:
        return [(key, word) for key, words in (*self.made.items(), (IGNORE, self.ignored)) for word in words]


@dataclass(frozen=True)
class Relabelled(Indexed):
    """A dataset whose class ids are others than those that it reads.

    Args:
        dataset: is read.
        classes: of the new ids.
        labels: new id by old one, ``IGNORE_INDEX`` for ignored.
        notes: to be shown to the user.
    """

    dataset: SegmentationDataset
    classes: ClassSet
    labels: tuple[int, ...]
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Kind of dataset."""
        return self.dataset.name

    @property
    def split(self) -> str:
        """The split."""
        return self.dataset.split

    def __len__(self) -> int:
        return len(self.dataset)

    def stem(self, index: int) -> str:
        """Return the name of sample `index`."""
        return self.dataset.stem(index)

    def read(self, index: int) -> tuple[ImageArray, MaskArray]:
        """Return sample `index`: RGB uint8 (H, W, 3) and new class ids uint8 (H, W)."""
        image, mask = self.dataset.read(index)
        table = np.full(256, self.classes.ignore_index, np.uint8)
        table[: len(self.labels)] = [label if label < len(self.classes) else table[-1] for label in self.labels]
        relabelled: MaskArray = table[mask]
        return image, relabelled


def color_of(word: str) -> Color | None:
    """Return the colour that ``"#8000ff"`` or ``"128,0,255"`` stands for; None where a word is no colour."""
    if found := _HEX.fullmatch(word.strip()):
        packed = int(found[1], 16)
        return packed >> 16, packed >> 8 & 255, packed & 255
    if (found := _CHANNELS.fullmatch(word)) and all(int(part) <= 255 for part in found.groups()):
        return int(found[1]), int(found[2]), int(found[3])
    return None


def parse_map(section: Mapping[str, Words], place: str = "data.classes") -> ClassMap:
    """Read a map from the section of a recipe.

    Args:
        section: see the module.
        place: what it is called in messages.

    Raises:
        ConfigError: a class takes in nothing, or a name or value stands in two places.
    """
    made: dict[str, tuple[Word, ...]] = {}
    seen: dict[Word, str] = {}
    for key, given in section.items():
        words = (given,) if isinstance(given, str | int) else tuple(given)
        if not words:
            raise ConfigError(f"{place}.{key} is empty; name classes or mask values, or leave it out")
        for word in words:
            if isinstance(word, bool) or not isinstance(word, str | int) or word == "":
                raise ConfigError(f"{place}.{key} holds {shortened(repr(word))}; give names and mask values")
            if isinstance(word, int) and not 0 <= word <= HIGHEST:
                raise ConfigError(f"{place}.{key} holds {word}; mask values are 0 to {HIGHEST}")
            if word in seen:
                raise ConfigError(f"{place} has {word!r} in {seen[word]} and in {key}; one of them has to do")
            seen[word] = key
        made[key] = words
    ignored = made.pop(IGNORE, ())
    return ClassMap(made, ignored, place)


def open_mapped(
    name: str, root: Any = "", split: str = "train", classes: Mapping[str, Words] | None = None, **options: Any
) -> SegmentationDataset:
    """Open a split of a dataset as :func:`featherseg.data.datasets.create_dataset` does, its classes mapped.

    Args:
        name: kind of dataset.
        root: folder of the data.
        split: of it.
        classes: as ``[data.classes]`` has it; empty or None leaves the classes as they are.
        options: the kind's own.

    Raises:
        ConfigError: unknown kind or option, or a map that does not fit.
        DataError: see :func:`featherseg.data.datasets.create_dataset`.
    """
    return open_with_map(name, root, split, parse_map(classes) if classes else None, **options)


def open_with_map(name: str, root: Any, split: str, class_map: ClassMap | None, **options: Any) -> SegmentationDataset:
    """Open a split of a dataset as :func:`open_mapped` does, with a map that was read already."""
    if class_map is None:
        return create_dataset(name, root, split, **options)
    if "class_map" in inspect.signature(datasets.get(name)).parameters:  # it draws splits by them, or has too many
        return create_dataset(name, root, split, class_map=class_map, **options)
    return class_map.over(create_dataset(name, root, split, **options))
