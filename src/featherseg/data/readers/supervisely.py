"""Supervisely's projects: ``meta.json``, and a JSON of objects for each image."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from ...core.errors import DataError
from ...core.images import upright_size
from ...core.text_files import check_tree, parse_typed, shortened
from ...core.types import MaskArray
from ..annotations import AnnotatedDataset, Evidence, Labels, Sample, name_classes, recognisers
from ..datasets import datasets, require_folder
from ..listing import Pictures, settle_splits, split_word, walk
from ..shapes import NOTHING, Bitmap, Patch, Region, Shape, Size, Strokes, blamed, cropped, paint
from ..small_bitmaps import decode_base64, decode_bitmap, inflated
from .coco import check_choice, check_share

T = TypeVar("T")

MAX_JSON_BYTES = 256 << 20
MAX_COORDINATE = 1 << 20
"""Largest coordinate, in pixels."""
PEN = 0.5
"""Radius of a point or line: the pixels that it passes through."""


class _Class(msgspec.Struct):
    title: str
    color: str | None = None


class _Meta(msgspec.Struct):
    classes: list[_Class]


class _Extent(msgspec.Struct):
    height: int
    width: int


class _Points(msgspec.Struct):
    exterior: list[tuple[float, float]] = []
    interior: list[list[tuple[float, float]]] = []


class _Bitmap(msgspec.Struct):
    data: str
    origin: tuple[int, int]


class _Object(msgspec.Struct, rename="camel"):
    class_title: str
    geometry_type: str | None = None
    points: _Points | None = None
    bitmap: _Bitmap | None = None


class _File(msgspec.Struct):
    objects: list[_Object]
    size: _Extent | None = None


@dataclass(frozen=True, eq=False)
class PixelPolygon:
    """An outline of pixels, which belong to it, as Supervisely draws them; holes are without their outlines' pixels.

    Args:
        exterior: columns and rows of pixels, int32 (N, 2).
        interiors: of the holes.
    """

    exterior: NDArray[np.int32]
    interiors: tuple[NDArray[np.int32], ...] = ()

    def patch(self, size: Size) -> Patch:
        """See :class:`featherseg.data.shapes.Region`."""
        for ring in (self.exterior, *self.interiors):
            if ring.size and np.abs(ring).max() > MAX_COORDINATE:
                raise ValueError("an outline has a coordinate that is no number of pixels")
        if not len(self.exterior):
            return NOTHING
        (left, top), (right, bottom) = self.exterior.min(axis=0), self.exterior.max(axis=0)
        left, top = max(int(left), 0), max(int(top), 0)
        width, height = min(int(right) + 1, size[1]) - left, min(int(bottom) + 1, size[0]) - top
        if width <= 0 or height <= 0:
            return NOTHING
        canvas = np.zeros((height, width), np.uint8)
        cv2.fillPoly(canvas, [self.exterior - np.array([left, top], np.int32)], 1)
        for hole in self.interiors:
            if len(hole):
                cv2.fillPoly(canvas, [hole - np.array([left, top], np.int32)], 0)
        return cropped(canvas > 0, top, left)


def _region(thing: _Object) -> Region:
    kind = thing.geometry_type or ("bitmap" if thing.bitmap else "polygon")
    if kind == "bitmap" and thing.bitmap is not None:
        left, top = thing.bitmap.origin
        return Bitmap(decode_bitmap(inflated(decode_base64(thing.bitmap.data))), top, left)
    if thing.points is None:
        raise ValueError(f"an object of type {shortened(kind)!r} has no points")
    exterior = _pixels(thing.points.exterior)
    if kind == "polygon":
        return PixelPolygon(exterior, tuple(_pixels(hole) for hole in thing.points.interior))
    if kind == "rectangle" and len(exterior) == 2:
        (left, top), (right, bottom) = exterior.min(axis=0), exterior.max(axis=0)
        return PixelPolygon(np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.int32))
    if kind in ("line", "polyline", "point") and len(exterior):
        return Strokes(exterior.astype(np.float64) + 0.5, PEN)
    raise ValueError(f"an object of type {shortened(kind)!r} with {len(exterior)} points is none that is known")


def _pixels(points: list[tuple[float, float]]) -> NDArray[np.int32]:
    numbers = np.array(points, np.float64).reshape(-1, 2)
    if not np.isfinite(numbers).all() or (numbers.size and np.abs(numbers).max() > MAX_COORDINATE):
        raise ValueError("an outline has a coordinate that is no number of pixels")
    return np.floor(numbers).astype(np.int32)


@dataclass(frozen=True)
class SuperviselyAnnotation:
    """A JSON's objects; see :class:`featherseg.data.annotations.Annotation`."""

    file: Path
    image: Path
    ids: tuple[tuple[str, int], ...]
    unlabelled: int
    smaller_on_top: bool

    def read(self) -> MaskArray:
        """Return class ids, uint8 (H, W)."""
        tree, table = read_file(self.file, _File), dict(self.ids)
        size = (tree.size.height, tree.size.width) if tree.size else upright_size(self.image)
        try:
            shapes = (Shape(_region(o), table[o.class_title]) for o in tree.objects)
            return paint(size, shapes, self.unlabelled, smaller_on_top=self.smaller_on_top)
        except KeyError as error:
            raise DataError(f"{self.file} has an object of class {error}, which meta.json does not name") from error
        except ValueError as error:
            raise blamed(error, self.file, self.image.name) from error


@datasets.register("supervisely")
def supervisely(
    root: Path,
    split: str = "train",
    *,
    overlap: Literal["smaller", "later"] = "later",
    background: bool = True,
    val_share: float = 0.2,
    seed: int = 0,
) -> AnnotatedDataset:
    """Open a Supervisely project: ``meta.json``, and in each dataset ``img/`` and ``ann/`` with a JSON for each image.

    The split is what a dataset's name speaks of (train, val, test); where none does, it is drawn.

    Classes are those of ``meta.json`` with their colours, after ``background``, which is all that no object covers.
    Polygons with holes, bitmaps and rectangles are read; the pixels of an outline belong to it, as Supervisely draws
    it; lines and points are one pixel wide. Where objects overlap, the later one lies on top, since objects there
    are layers in the file's order. An image without a JSON is left out; one without objects is background all over.

    Args:
        root: the folder.
        split: ``train``, ``val``, ``test`` or ``all``.
        overlap: "later" in the file on top, or the "smaller".
        background: whether pixels of no object are a class; else they are ignored.
        val_share: share of a drawn validation split, over 0 and under 1.
        seed: of the draw.
    """
    labels = read_supervisely(root, overlap=overlap, background=background, val_share=val_share, seed=seed)
    return labels.dataset(split)


@recognisers.register("supervisely")
def recognise_supervisely(root: Path) -> Evidence | None:
    """Return whether there is a ``meta.json`` of classes beside datasets of ``img/`` and ``ann/``."""
    try:
        with (root / "meta.json").open("rb") as stream:
            head = stream.read(64 << 10)
    except OSError:
        return None
    if re.search(rb'"classes"\s*:\s*\[', head) is None:
        return None
    homes = [root, *(p for p in sorted(root.iterdir()) if p.is_dir() and not p.name.startswith("."))]
    if not any((home / "ann").is_dir() for home in homes):
        return None
    return Evidence("meta.json and ann/ are of a Supervisely project", partial(read_supervisely, root))


def read_file(file: Path, kind: type[T]) -> T:
    """Return what a JSON of Supervisely says.

    Raises:
        DataError: it is none, or too large.
    """
    try:
        if file.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"it has over {MAX_JSON_BYTES} bytes")
        return parse_typed(file.read_bytes(), kind)
    except (ValueError, OSError) as error:
        raise DataError(f"{file} cannot be read as Supervisely's JSON: {error}; export it again") from error


def read_supervisely(
    root: Path, *, overlap: str = "later", background: bool = True, val_share: float = 0.2, seed: int = 0
) -> Labels:
    """Read a project; see :func:`supervisely`."""
    check_choice("overlap", overlap, ("smaller", "later"))
    check_share(val_share)
    require_folder(root, "dataset folder")
    meta_file = root / "meta.json"
    meta = read_file(meta_file, _Meta)
    try:
        check_tree([entry.title for entry in meta.classes])
    except ValueError as error:
        raise DataError(f"{meta_file}: {error}; correct it") from error
    colors = {entry.title: color for entry in meta.classes if (color := _color(entry.color)) is not None}
    classes, ids, unlabelled = name_classes(
        [entry.title for entry in meta.classes], colors, background=background, where=meta_file
    )
    pictures, table = Pictures(root), tuple(ids.items())
    found: dict[str | None, list[Sample]] = defaultdict(list)
    missing: dict[str, list[str]] = defaultdict(list)
    kinds = Counter[str]()
    for file, below in walk(root):
        parts = below.split("/")
        if len(parts) < 2 or parts[-2] != "ann" or file.suffix != ".json":
            continue
        tree = read_file(file, _File)
        split = next((word for part in reversed(parts[:-2]) if (word := split_word(part))), None)
        name = "/".join((*parts[:-2], "img", file.stem))
        image = pictures.find(name, ("img",))
        if image is None or image.name != file.stem or image.parent != root.joinpath(*parts[:-2], "img"):
            missing[split or "train"].append(shortened(name))
            continue
        kinds.update(thing.geometry_type or "" for thing in tree.objects)
        annotation = SuperviselyAnnotation(file, image, table, unlabelled, overlap == "smaller")
        found[split].append(Sample(image, annotation))
    if not found and not missing:
        raise DataError(f"{root} has no JSON in an ann/ folder; check the project")
    splits, drawn = settle_splits(found, val_share, seed, len(classes))
    rest = "are ignored" if unlabelled == classes.ignore_index else f"are {classes.names[unlabelled]}"
    notes = [f"where objects overlap, the {overlap} lies on top; pixels of no object {rest}"]
    if thin := kinds["line"] + kinds["polyline"] + kinds["point"]:
        notes.append(f"{thin} lines and points are one pixel wide")
    if left := pictures.count - sum(map(len, found.values())):
        notes.append(f"{left} pictures have no JSON and are left out")
    return Labels("supervisely", classes, splits, (*notes, *drawn), {s: tuple(gone) for s, gone in missing.items()})


def _color(text: str | None) -> tuple[int, int, int] | None:
    if text is None or re.fullmatch("#[0-9a-fA-F]{6}", text) is None:
        return None
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
