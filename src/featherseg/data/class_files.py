"""Files that name classes, one reading of them for ``--classes``, the folder kind and the doctor.

====================  =====================================================================================
``.toml``, ``.json``  ``names``, and optionally ``colors``, ``ids`` (mask value of each) and ``ignore_index``
``.yaml``, ``.yml``   the same; ``names`` may be a map from ids to names
``.txt``              a name on each line, in the order of the ids
``.csv``              a header, and a row for each class: its name, and optionally its id, and red, green, blue
====================  =====================================================================================

JSON may also be the bare list of names.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, DataError, FeathersegError, did_you_mean, first_line
from ..core.text_files import parse_json, parse_toml, parse_yaml, read_text, shortened
from ..core.types import IGNORE_INDEX, ClassSet
from .class_maps import HIGHEST, ClassMap
from .labels import LabelTable
from .storage import WHITE, Storage, colors_of_given, pack, unpack

CLASS_KEYS = ("names", "colors", "ids", "ignore_index")
CSV_COLUMNS = {
    "names": ("name", "class", "class name", "class_name", "label", "category"),
    "ids": ("id", "value", "pixel value", "pixel_value", "pixel", "index", "class id", "class_id"),
    "red": ("red", "r"),
    "green": ("green", "g"),
    "blue": ("blue", "b"),
}
"""What the columns are called, in lower case. ``Pixel Value, Class`` is how Roboflow writes them."""


@dataclass(frozen=True)
class ClassFile:
    """What a class file says.

    Args:
        classes: names and colours; the ignored id is 255 where the file ignores a mask value that is none.
        ids: class id (or the ignored id) by mask value.
        states_ids: the file itself says which values the masks hold, so that nothing is to be concluded from them.
        states_colors: its colours are stated, not made up.
        colors: class id by colour of the masks, where several are one class; else they are the classes' own.
    """

    classes: ClassSet
    ids: Mapping[int, int]
    states_ids: bool
    states_colors: bool
    colors: Mapping[tuple[int, int, int], int] = field(default_factory=dict)

    def table(self, storage: Storage | None = None) -> LabelTable:
        """Return the table that reads the masks, which are stored in a way of their own where it is given."""
        colors = dict(self.colors) or {color: i for i, color in enumerate(self.classes.colors)}
        if storage is not None and storage.votes:
            packed = colors_of_given(storage.votes, self.ids, {pack(color): i for color, i in colors.items()})
            return LabelTable(self.ids, {unpack(color): i for color, i in packed.items()}, by_palette=True)
        if storage is not None and storage.white and not self.states_ids and len(self.classes) == 2:
            return LabelTable({0: 0, 1: 1, WHITE: 1}, colors)
        return LabelTable(self.ids, colors)


def read_class_file(file: Path, class_map: ClassMap | None = None) -> ClassFile:
    """Read a class file.

    Args:
        file: it may name more classes than masks of ids can hold, where a map makes fewer of them.
        class_map: what is made of the classes.

    Raises:
        DataError: it is missing, of a kind that is not read, without names, with unknown keys, or gives an id or
            colour to two classes.
    """
    parse = _PARSERS.get(file.suffix.lower())
    if parse is None:
        raise DataError(f"class file {file} ends in {file.suffix!r}; classes are read from {', '.join(_PARSERS)}")
    try:
        data: Any = parse(read_text(file))
    except FileNotFoundError as error:
        raise DataError(f"class file {file} does not exist; check its path") from error
    except OSError as error:
        raise DataError(f"class file {file} cannot be read ({error.strerror}); check its permissions") from error
    except ValueError as error:  # JSON, TOML, YAML and Unicode errors are ValueErrors
        if isinstance(error, FeathersegError):
            raise
        raise DataError(f"class file {file} cannot be read: {first_line(error)}; correct it") from error
    if isinstance(data, list):
        data = {"names": data}
    if isinstance(data, dict) and (unknown := [key for key in data if key not in CLASS_KEYS]):
        hint = did_you_mean(str(unknown[0]), CLASS_KEYS)
        raise DataError(f"class file {file} has an unknown key {shortened(repr(unknown[0]))}; {hint}")
    try:
        if class_map is not None:
            return _mapped(_checked(data, most=HIGHEST), file, class_map)
        return _class_file(_checked(data), file)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError) or (class_map is not None and isinstance(error, ConfigError)):
            raise
        reason = shortened(str(error), 200)
        raise DataError(f'class file {file} is malformed ({reason}); it needs names = ["road", "sky", …]') from error


def read_classes(file: Path) -> tuple[ClassSet, LabelTable]:
    """Return a class file's classes and the table that reads the masks; see :func:`read_class_file`."""
    found = read_class_file(file)
    return found.classes, found.table()


def _class_file(data: dict[str, Any], file: Path) -> ClassFile:
    names, values = data["names"], data.get("ids", range(len(data["names"])))
    ignored = data.get("ignore_index", IGNORE_INDEX)
    if ignored < 0:
        raise ValueError(f"ignore_index is {ignored}; give the value that mask files hold, 0 or more")
    # With ids stated, ignore_index is a mask value as they are, and may be any: ADE20K ignores 0, CORINE 999.
    kept = ignored if "ids" not in data or len(names) <= ignored <= IGNORE_INDEX else IGNORE_INDEX
    classes = ClassSet.from_dict({**data, "ignore_index": kept})
    if len(values) != len(classes):
        raise DataError(f"class file {file} has {len(classes)} names but {len(values)} ids; give one id per class")
    for what, entries in (("id", values), ("colour", classes.colors)):
        entry, count = Counter(entries).most_common(1)[0]
        if count > 1:
            raise DataError(f"class file {file} gives {what} {entry} to {count} classes; give each its own")
    if kept != ignored and ignored in values:
        raise DataError(f"class file {file} ignores {ignored}, the id of {names[list(values).index(ignored)]!r}")
    ids = dict.fromkeys((kept, ignored), kept) | {value: i for i, value in enumerate(values)}
    try:
        LabelTable(ids)
    except ConfigError as error:
        raise DataError(f"class file {file}: {error}") from error
    return ClassFile(classes, ids, "ids" in data, bool(data.get("colors")))


def _mapped(data: dict[str, Any], file: Path, class_map: ClassMap) -> ClassFile:
    """Return what a map makes of the classes that a file names."""
    names, values, ignored = data["names"], data.get("ids", range(len(data["names"]))), data.get("ignore_index", 255)
    if len(values) != len(names):
        raise DataError(f"class file {file} has {len(names)} names but {len(values)} ids; give one id a class")
    for what, entries in (("the name", names), ("id", values)):
        entry, count = Counter(entries).most_common(1)[0]
        if count > 1:
            raise DataError(f"class file {file} gives {what} {entry!r} to {count} classes; give each its own")
    shades = [(int(r), int(g), int(b)) for r, g, b in data.get("colors", ())]
    found = class_map.resolve(names, colors=shades)
    ids = {ignored: IGNORE_INDEX} | dict(zip(values, found.labels, strict=True)) | dict(found.values)
    LabelTable(ids)
    colors = (dict(zip(shades, found.labels, strict=True)) if shades else {}) | dict(found.shades)
    return ClassFile(found.classes(shades), ids, True, bool(shades), colors)


def _checked(data: Any, most: int = IGNORE_INDEX) -> dict[str, Any]:
    """Refuse what a class file should not hold; ``int`` would take 1.9, true and "3" for ids without a word.

    Raises:
        KeyError, TypeError, ValueError: always one line.
    """
    if not isinstance(data, dict):
        raise TypeError(f"it holds a {type(data).__name__}, not keys and values")
    if not isinstance(data["names"], list):
        raise TypeError(f"names is {shortened(repr(data['names']))}; give a list of texts")
    colors = data.get("colors", [])
    if not isinstance(colors, list) or not all(isinstance(color, list) and len(color) == 3 for color in colors):
        raise TypeError("colors is not a list of [red, green, blue]")
    if not isinstance(data.get("ids", []), list):
        raise TypeError(f"ids is {shortened(repr(data['ids']))}, not a list of whole numbers")
    numbers = [
        *data.get("ids", []),
        data.get("ignore_index", IGNORE_INDEX),
        *(part for color in colors for part in color),
    ]
    if wrong := [number for number in numbers if type(number) is not int]:
        raise TypeError(f"{shortened(repr(wrong[0]))} is no whole number")
    if max(len(data["names"]), len(colors)) > most:
        raise ValueError(
            f"it has {len(data['names'])} names and {len(colors)} colors; {most} is the most, unless [data.classes] "
            "makes fewer of them"
        )
    return data


def _parse_yaml(text: str) -> Any:
    data = parse_yaml(text)
    if isinstance(data, dict) and isinstance(names := data.get("names"), dict):
        if wrong := [key for key in names if type(key) is not int]:
            raise ValueError(f"names gives {shortened(repr(wrong[0]))} for an id, which is no whole number")
        order = sorted(names)
        # YOLO's data.yaml and others number classes from 0; then it says no more of the masks than a list would.
        data = data | {"names": [names[key] for key in order]}
        if order != list(range(len(order))):
            data.setdefault("ids", order)
    if isinstance(data, dict):  # of YOLO's data.yaml, the names are all that is meant here
        data = {key: value for key, value in data.items() if key not in _YOLO_KEYS}
    return data


_YOLO_KEYS = frozenset({"path", "train", "val", "test", "nc", "download", "roboflow", "kpt_shape", "flip_idx"})


def _parse_txt(text: str) -> Any:
    return {"names": [line.strip() for line in text.splitlines() if line.strip()]}


def _parse_csv(text: str) -> Any:
    try:
        every = list(csv.reader(text.splitlines(), skipinitialspace=True))
    except csv.Error as error:
        raise ValueError(first_line(error)) from error
    rows = [row for row in every if any(cell.strip() for cell in row)]
    if not rows:
        raise ValueError("it is empty")
    head = [cell.strip().casefold() for cell in rows[0]]
    places = {
        key: next((head.index(word) for word in words if word in head), None) for key, words in CSV_COLUMNS.items()
    }
    named = places["names"]
    if named is None:
        raise ValueError(f"its first row names no column of names; call one {CSV_COLUMNS['names'][0]!r}")
    body = [[cell.strip() for cell in row] + [""] * (len(head) - len(row)) for row in rows[1:]]
    data: dict[str, Any] = {"names": [row[named] for row in body]}
    if (place := places["ids"]) is not None:
        data["ids"] = [_whole(row[place]) for row in body]
    channels = [places[key] for key in ("red", "green", "blue")]
    if all(place is not None for place in channels):
        data["colors"] = [[_whole(row[place]) for place in channels if place is not None] for row in body]
    return data


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"{shortened(repr(text))} is no whole number") from error


_PARSERS: dict[str, Callable[[str], Any]] = {
    ".toml": parse_toml,
    ".json": parse_json,
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
    ".txt": _parse_txt,
    ".csv": _parse_csv,
}
CLASS_SUFFIXES = tuple(_PARSERS)
"""Of files that classes are read from."""
