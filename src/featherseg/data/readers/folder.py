"""Any folder with ``images/`` and ``masks/``: classes from a small file, or inferred and said so."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ConfigError, DataError, did_you_mean, first_line
from ...core.files import FileMemo
from ...core.images import list_images, open_image, read_ids
from ...core.order import natural
from ...core.text_files import parse_json, parse_toml, read_text, shortened
from ...core.types import IGNORE_INDEX, ClassSet
from ..datasets import FileDataset, datasets, require_folder
from ..labels import LabelTable
from ..splits import VAL_SHARE, made_split, mask_contents

MAX_INFERRED = 64
"""More distinct values than this are not taken for classes: the masks are photographs or were anti-aliased."""

CLASS_KEYS = ("names", "colors", "ids", "ignore_index")


@datasets.register("folder")
def folder(
    root: Path,
    split: str = "train",
    *,
    images: str = "images",
    masks: str = "masks",
    classes: str | None = None,
    val_share: float = VAL_SHARE,
    seed: int = 0,
    group: str = "",
) -> FileDataset:
    """Open a folder of images and masks that are matched by file name without suffix.

    With ``images/train`` and ``masks/train`` (and so on) the splits are those folders; hidden ones do not count,
    and those without masks only matter when asked for. Otherwise ``train`` and ``val`` are drawn by
    :func:`featherseg.data.splits.draw_split`: every class is on both sides wherever possible, and neither the machine
    nor the order of files matters. ``all`` is every sample.

    Args:
        root: the folder.
        split: ``train``, ``val``, ``all`` or a subfolder's name.
        images: images' subfolder.
        masks: masks' subfolder: index, grey or palette PNGs of class ids, or RGB in the classes' colours.
        classes: TOML or JSON file with ``names`` and optionally ``colors``, ``ids`` (mask value a class) and
            ``ignore_index``; by default ``classes.toml`` or ``classes.json`` in `root`, else inferred.
        val_share: share of the drawn validation split, over 0 and under 1.
        seed: of the drawn split.
        group: regular expression that finds in a name what stays together in a drawn split, such as a recording.
    """
    require_folder(root, "dataset folder")
    if not 0 < val_share < 1:
        raise ConfigError(f"data.options.val_share is {val_share}; it must be over 0 and under 1")
    image_home, mask_home = require_folder(root / images, "images"), require_folder(root / masks, "masks")
    if places := natural(p for p in image_home.iterdir() if p.is_dir() and not p.name.startswith(".")):
        pairs = {
            place.name: match_stems(place, require_folder(mask_home / place.name, "masks"))
            for place in places
            if place.name == split or (mask_home / place.name).is_dir()
        }
        every = [pair for part in pairs.values() for pair in part]
        pairs["all"] = every
        if group:
            raise ConfigError(f"data.options.group is for splits that are drawn; {image_home} has its own")
    else:
        every = match_stems(image_home, mask_home)
        if len(every) == 1 and split in ("train", "val"):
            raise DataError(f'{image_home} holds one image, which makes no split; add images, or use split "all"')
        pairs = {"all": every, "train": every, "val": every}
    if split not in pairs:
        raise DataError(f"split {split!r} not found under {image_home}; splits there: {', '.join(sorted(pairs))}")

    file = root / classes if classes else next((f for f in _class_files(root) if f.is_file()), None)
    if file is not None:
        class_set, table = read_classes(file)
        notes: tuple[str, ...] = ()
    else:
        class_set, table, notes = infer_classes([mask for _, mask in every])
    if not places and split in ("train", "val"):
        contents = mask_contents([mask for _, mask in every], table, len(class_set))
        pairs |= made_split(every, val_share, seed, group=group, classes=len(class_set), contents=contents)
    return FileDataset("folder", split, class_set, tuple(pairs[split]), table, notes)


def match_stems(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Return (image, mask) pairs of two folders in the order of their names.

    Raises:
        DataError: a folder has none, two files share a stem, or an image has no mask.
    """
    found = {}
    for what, place in (("images", images), ("masks", masks)):
        files = list_images(place)
        if not files:
            raise DataError(f"no {what} in {place}; put .png or .jpg files there")
        stem, count = Counter(path.stem for path in files).most_common(1)[0]
        if count > 1:
            raise DataError(f"{place} holds {count} files named {stem!r}; keep one of them")
        found[what] = {path.stem: path for path in files}
    for stem, image in found["images"].items():
        if stem not in found["masks"]:
            raise DataError(f"image {image} has no mask: {masks / stem}.png does not exist; add it or remove the image")
    return [(image, found["masks"][stem]) for stem, image in found["images"].items()]


def read_classes(file: Path) -> tuple[ClassSet, LabelTable]:
    """Read a class file; see :func:`folder` for its keys.

    Raises:
        DataError: missing, neither TOML nor JSON, without a list of names, with unknown keys, or with an id or
            colour that stands for two classes.
    """
    try:
        text = read_text(file)
        data: Any = parse_toml(text) if file.suffix == ".toml" else parse_json(text)
    except FileNotFoundError as error:
        raise DataError(f"class file {file} does not exist; check data.options.classes") from error
    except OSError as error:
        raise DataError(f"class file {file} cannot be read ({error.strerror}); check its permissions") from error
    except ValueError as error:  # JSON, TOML and Unicode errors are ValueErrors
        raise DataError(f"class file {file} cannot be read: {first_line(error)}; correct it") from error
    if isinstance(data, dict) and (unknown := [key for key in data if key not in CLASS_KEYS]):
        hint = did_you_mean(unknown[0], CLASS_KEYS)
        raise DataError(f"class file {file} has an unknown key {shortened(repr(unknown[0]))}; {hint}")
    try:
        _check_class_types(data)
        class_set = ClassSet.from_dict(data)
        values: list[int] = data.get("ids", list(range(len(class_set))))
    except (KeyError, TypeError, ValueError) as error:
        reason = shortened(str(error), 200)
        raise DataError(f'class file {file} is malformed ({reason}); it needs names = ["road", "sky", …]') from error
    if len(values) != len(class_set):
        raise DataError(f"class file {file} has {len(class_set)} names but {len(values)} ids; give one id a class")
    for what, entries in (("id", values), ("colour", class_set.colors)):
        entry, count = Counter(entries).most_common(1)[0]
        if count > 1:
            raise DataError(f"class file {file} gives {what} {entry} to {count} classes; give each its own")
    ids = {class_set.ignore_index: class_set.ignore_index} | {value: i for i, value in enumerate(values)}
    try:
        return class_set, LabelTable(ids, {color: i for i, color in enumerate(class_set.colors)})
    except ConfigError as error:
        raise DataError(f"class file {file}: {error}") from error


def _check_class_types(data: Any) -> None:
    """Refuse what a class file should not hold; ``int`` would take 1.9, true and "3" for ids without a word.

    Raises:
        TypeError, ValueError: always one line.
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
    if max(len(data["names"]), len(colors)) > IGNORE_INDEX:
        raise ValueError(f"it has {len(data['names'])} names and {len(colors)} colors; {IGNORE_INDEX} is the most")


def infer_classes(masks: list[Path]) -> tuple[ClassSet, LabelTable, tuple[str, ...]]:
    """Look through all masks for the values they hold, and make classes of them.

    Ids are classes 0 to the largest; 255 is ignored, except where masks hold only 0 and 255, which is how
    drawing programs save a foreground. Colours are classes in sorted order.

    Returns:
        the classes, the table, and sentences that say what was inferred.
    """
    ids: set[int] = set()
    colors: set[tuple[int, int, int]] = set()
    for path in masks:
        values = _distinct_values(path)
        if values.ndim == 2:
            colors.update((int(r), int(g), int(b)) for r, g, b in values)
        else:
            ids.update(map(int, values))
        if max(len(colors), len(ids - {IGNORE_INDEX})) > MAX_INFERRED:
            raise DataError(
                f"mask {path} brings the distinct values to over {MAX_INFERRED}, too many to be classes; "
                "describe the classes in classes.toml"
            )
    if ids and colors:
        raise DataError(f"some masks beside {masks[0]} hold ids and others colours; save all of them one way")
    if colors:
        ordered = tuple(sorted(colors))
        names = tuple("#{:02x}{:02x}{:02x}".format(*color) for color in ordered)
        classes = ClassSet(names, ordered)
        table = LabelTable({}, {color: i for i, color in enumerate(ordered)})
        note = f"inferred {len(names)} classes from the masks' colours: {', '.join(names)}"
        return classes, table, (note, "give them names in classes.toml")
    if ids == {IGNORE_INDEX}:
        raise DataError(
            f"masks beside {masks[0]} hold only 255, which is ignored; describe the classes in classes.toml"
        )
    if ids == {0, 255}:
        classes = ClassSet(("background", "foreground"))
        note = "masks hold only 0 and 255: taken as background and foreground, not as ignored"
        return classes, LabelTable({0: 0, 255: 1}), (note,)
    count = max(ids - {IGNORE_INDEX}, default=0) + 1
    if count > MAX_INFERRED:
        raise DataError(f"masks hold ids up to {count - 1}; list those that are classes as ids = […] in classes.toml")
    classes = ClassSet(tuple(f"class_{i}" for i in range(count)), _palette(masks[0], count))
    missing = sorted(set(range(count)) - ids)
    notes = [f"inferred {count} classes from the masks' ids 0 to {count - 1}; give them names in classes.toml"]
    if missing:
        notes.append(f"no mask holds id {', '.join(map(str, missing))}")
    return classes, LabelTable.identity(classes), tuple(notes)


_distinct: FileMemo[NDArray[np.integer]] = FileMemo()


def _distinct_values(mask: Path) -> NDArray[np.integer]:
    """Return the ids (N,) or colours (N, 3) that a mask file holds."""

    def find() -> NDArray[np.integer]:
        values = read_ids(mask)
        found = np.unique(values) if values.ndim == 2 else np.unique(values.reshape(-1, 3), axis=0)
        return found[: MAX_INFERRED + 2]

    return _distinct.get(mask, find)


def _palette(mask: Path, count: int) -> tuple[tuple[int, int, int], ...]:
    """Return the first colours of a palette mask, or none where it has no usable palette."""
    with open_image(mask) as image:
        palette = image.getpalette() if image.mode == "P" else None
    if palette is None or len(palette) < 3 * count:
        return ()
    colors = tuple((palette[3 * i], palette[3 * i + 1], palette[3 * i + 2]) for i in range(count))
    return colors if len(set(colors)) == count else ()


def _class_files(root: Path) -> tuple[Path, ...]:
    return root / "classes.toml", root / "classes.json"
