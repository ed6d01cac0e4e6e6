"""What a COCO file says, of which only what is needed is built."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from ..core.errors import DataError
from ..core.text_files import check_tree, parse_typed

MAX_JSON_BYTES = 2 << 30
"""Largest JSON; that of COCO's 118,000 training images has 450 MB."""


class CocoImage(msgspec.Struct):
    """An entry of ``images``; sizes in pixels."""

    id: int | str
    file_name: str
    width: float | None = None
    height: float | None = None


class CocoCategory(msgspec.Struct):
    """An entry of ``categories``."""

    id: int | str
    name: str
    supercategory: str | None = None


class CocoSegment(msgspec.Struct):
    """An entry of a panoptic annotation's ``segments_info``."""

    id: int
    category_id: int | str
    iscrowd: float | bool | None = 0


class CocoObject(msgspec.Struct):
    """An entry of ``annotations``; the segmentation is read when it is wanted."""

    image_id: int | str
    category_id: int | str | None = None
    segmentation: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    bbox: list[float] | None = None
    iscrowd: float | bool | None = 0
    segments_info: list[CocoSegment] | None = None
    file_name: str | None = None


class CocoFile(msgspec.Struct):
    """A whole file."""

    images: list[CocoImage]
    categories: list[CocoCategory]
    annotations: list[CocoObject] | None = None


class CocoRle(msgspec.Struct):
    """Run lengths down the columns: as text, or as numbers."""

    counts: str | list[int]
    size: tuple[int, int]


def read_file(file: Path) -> CocoFile:
    """Return what a JSON of COCO says.

    Raises:
        DataError: it is none, or too large.
    """
    try:
        if file.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"it has over {MAX_JSON_BYTES} bytes")
        tree = parse_typed(file.read_bytes(), CocoFile)
        check_tree([[image.file_name for image in tree.images], [category.name for category in tree.categories]])
    except (ValueError, OSError) as error:
        raise DataError(f"{file} cannot be read as COCO's JSON: {error}; export it again") from error
    return tree


def categories_of(files: Iterable[CocoFile]) -> tuple[list[str], list[str]]:
    """Return the classes' names, in the order of ids, and the names of groups, which are no classes.

    Roboflow lists the group of all classes as a category of its own that no object has.
    """
    names: dict[str, None] = {}
    groups: dict[str, None] = {}
    for tree in files:
        objects = tree.annotations or ()
        used = {o.category_id for o in objects} | {s.category_id for o in objects for s in o.segments_info or ()}
        parents = {c.supercategory for c in tree.categories}
        for c in sorted(tree.categories, key=lambda c: (0, c.id) if isinstance(c.id, int) else (1, 0)):
            is_group = c.id not in used and c.name in parents and c.supercategory in (None, "none", "")
            (groups if is_group else names)[c.name] = None
    return list(names), [name for name in groups if name not in names]
