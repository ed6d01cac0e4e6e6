"""LabelMe's JSON, one for each image."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from ...core.errors import DataError
from ...core.images import upright_size
from ...core.text_files import check_tree, parse_typed, read_text, shortened
from ...core.types import IGNORE_INDEX, MaskArray
from ..annotations import IGNORED, AnnotatedDataset, Evidence, Labels, Sample, name_classes, recognisers
from ..datasets import datasets, require_folder
from ..listing import Pictures, files_of, settle_splits, split_of
from ..shapes import Bitmap, Polygons, Region, Shape, Strokes, blamed, box_ring, paint
from ..small_bitmaps import decode_base64, decode_bitmap
from .coco import check_choice, check_share, ends_of

MAX_JSON_BYTES = 256 << 20
"""Largest JSON of one image, which may hold the image itself."""
PEN = 5.0
"""Half the width of a line, and radius of a point, in pixels: what LabelMe draws (labelme/utils/shape.py: 10 and 5)."""
LOOK_AT = 20


class _Shape(msgspec.Struct):
    label: str | int | float
    points: list[tuple[float, float]]
    shape_type: str | None = "polygon"
    mask: str | None = None


class _File(msgspec.Struct, rename="camel"):
    shapes: list[_Shape]
    image_path: str | None = None
    image_height: float | None = None
    image_width: float | None = None


@dataclass(frozen=True)
class LabelmeAnnotation:
    """A JSON's shapes; see :class:`featherseg.data.annotations.Annotation`.

    Args:
        file: the JSON.
        image: the picture, for its size where the JSON has none.
        ids: class id by label.
        unlabelled: value of pixels in no shape.
        smaller_on_top: see :func:`featherseg.data.shapes.paint`.
    """

    file: Path
    image: Path
    ids: tuple[tuple[str, int], ...]
    unlabelled: int
    smaller_on_top: bool

    def read(self) -> MaskArray:
        """Return class ids, uint8 (H, W), of the upright image."""
        tree, table = read_file(self.file), dict(self.ids)
        if tree.image_height and tree.image_width:
            size = int(tree.image_height), int(tree.image_width)
        else:
            size = upright_size(self.image)
        try:
            shapes = (Shape(_region(shape), table[str(shape.label)]) for shape in tree.shapes)
            return paint(size, shapes, self.unlabelled, smaller_on_top=self.smaller_on_top)
        except KeyError as error:
            raise DataError(
                f"{self.file} has label {error}, which was not there before; open the data again"
            ) from error
        except ValueError as error:
            raise blamed(error, self.file, self.image.name) from error


def _region(shape: _Shape) -> Region:
    points = np.array(shape.points, np.float64).reshape(-1, 2)
    kind = shape.shape_type or "polygon"
    if kind in ("polygon", "rotation", "oriented_rectangle") or (kind == "rectangle" and len(points) > 2):
        return Polygons((points,))
    if not len(points):
        raise ValueError(f"a shape of type {shortened(kind)!r} has no points")
    if kind == "rectangle" and len(points) == 2:
        return Polygons((box_ring(*points.min(axis=0), *points.max(axis=0)),))
    if kind == "circle" and len(points) == 2:
        return Strokes(points[:1], float(np.hypot(*(points[1] - points[0]))))
    if kind in ("line", "linestrip", "point"):
        return Strokes(points, PEN)
    if kind == "points":
        raise ValueError("a shape of several points encloses nothing; draw a polygon")
    if kind == "mask" and shape.mask is not None:
        left, top = (int(value) for value in np.nan_to_num(points[0], posinf=0, neginf=0))
        return Bitmap(decode_bitmap(decode_base64(shape.mask)), top, left)
    raise ValueError(f"a shape of type {shortened(kind)!r} with {len(points)} points is none that is known")


@datasets.register("labelme")
def labelme(
    root: Path,
    split: str = "train",
    *,
    overlap: Literal["smaller", "later"] = "smaller",
    background: bool = True,
    val_share: float = 0.2,
    seed: int = 0,
) -> AnnotatedDataset:
    """Open a folder of LabelMe's JSONs, one for each image, beside the images or not.

    Read are all JSONs in the folder and four levels below it. The image is what ``imagePath`` names, of which as much
    of the end counts as is there, on Windows' paths too; else the one of the JSON's own name. An image without JSON
    is left out. The split is what a folder's name speaks of; where none does, it is drawn.

    Classes are the lines of ``labels.txt`` where it is there, else the labels in order, after ``background``, which
    ``_background_`` means too, and all that no shape covers. Polygons, rectangles, circles and masks are read; lines
    are drawn 10 pixels wide and points as discs of radius 5, as LabelMe does. Where shapes overlap, the smaller lies on
    top, of equals the later one. ``__ignore__`` is ignored.

    Args:
        root: the folder.
        split: ``train``, ``val``, ``test`` or ``all``.
        overlap: "smaller" on top, or "later" in the file, as LabelMe's own conversion has it.
        background: whether pixels of no shape are a class; else they are ignored.
        val_share: share of a drawn validation split, over 0 and under 1.
        seed: of the draw.
    """
    return read_labelme(root, overlap=overlap, background=background, val_share=val_share, seed=seed).dataset(split)


@recognisers.register("labelme")
def recognise_labelme(root: Path) -> Evidence | None:
    """Return whether there is a JSON of shapes in an image."""
    found = next((f for f in islice(files_of(root, (".json",)), LOOK_AT) if _looks_like_labelme(f)), None)
    if found is None:
        return None
    seen = f"{found.relative_to(root).as_posix()} holds LabelMe's shapes"
    return Evidence(seen, partial(read_labelme, root))


def _looks_like_labelme(file: Path) -> bool:
    text = ends_of(file)
    words = rb'"(imagePath|imageData|imageHeight|imageWidth|shape_type)"\s*:'
    is_map = text.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{")
    return is_map and re.search(rb'"shapes"\s*:\s*\[', text) is not None and re.search(words, text) is not None


def read_file(file: Path) -> _File:
    """Return what a JSON of LabelMe says.

    Raises:
        DataError: it is none, or too large.
    """
    try:
        if file.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"it has over {MAX_JSON_BYTES} bytes")
        tree = parse_typed(file.read_bytes(), _File)
        check_tree([tree.image_path or "", [shape.label for shape in tree.shapes]])
    except (ValueError, OSError) as error:
        raise DataError(f"{file} cannot be read as LabelMe's JSON: {error}; save it again") from error
    return tree


def read_labelme(
    root: Path, *, overlap: str = "smaller", background: bool = True, val_share: float = 0.2, seed: int = 0
) -> Labels:
    """Read all LabelMe JSONs of a folder; see :func:`labelme`."""
    check_choice("overlap", overlap, ("smaller", "later"))
    check_share(val_share)
    require_folder(root, "dataset folder")
    files = [file for file in files_of(root, (".json",), 4) if _looks_like_labelme(file)]
    if not files:
        raise DataError(f"{root} holds no JSON of LabelMe; check the folder")
    pictures = Pictures(root)
    found: dict[str | None, list[tuple[Path, Path]]] = defaultdict(list)
    missing: dict[str, list[str]] = defaultdict(list)
    used: dict[Path, Path] = {}
    labels, kinds = set[str](), Counter[str]()
    for file in files:
        # An image may be called test_1 and be trained on: folders alone are named as splits.
        tree, split = read_file(file), split_of(file.with_name("_"), root)
        image = _image_of(file, tree, pictures, split)
        if image is None:
            missing[split or "train"].append(tree.image_path or file.stem)
            continue
        if used.setdefault(image, file) != file:
            raise DataError(f"{used[image]} and {file} are both of {image}; keep one of them")
        labels |= {str(shape.label) for shape in tree.shapes}
        kinds.update(shape.shape_type or "polygon" for shape in tree.shapes)
        found[split].append((image, file))
    names, where = _class_names(root, labels)
    if not names and not labels - {IGNORED}:
        raise DataError(f"{root}: no JSON holds a shape; label the images first")
    classes, ids, unlabelled = name_classes(names, background=background, where=where)
    table = tuple((ids | {IGNORED: IGNORE_INDEX}).items())
    samples = {
        split: [Sample(i, LabelmeAnnotation(f, i, table, unlabelled, overlap == "smaller")) for i, f in pairs]
        for split, pairs in found.items()
    }
    splits, drawn = settle_splits(samples, val_share, seed, len(classes))
    rest = "are ignored" if unlabelled == classes.ignore_index else f"are {classes.names[unlabelled]}"
    notes = [f"where shapes overlap, the {overlap} lies on top; pixels in no shape {rest}"]
    if thin := sum(kinds[kind] for kind in ("line", "linestrip", "point")):
        notes.append(f"{thin} lines and points are drawn {2 * PEN:g} pixels wide, as LabelMe does")
    if IGNORED in labels:
        notes.append(f"shapes called {IGNORED} are ignored")
    if left := pictures.count - len(used):
        notes.append(f"{left} pictures have no JSON and are left out")
    return Labels("labelme", classes, splits, (*notes, *drawn), {s: tuple(gone) for s, gone in missing.items()})


def _image_of(file: Path, tree: _File, pictures: Pictures, split: str | None) -> Path | None:
    near = (file.parent.name, *([split] if split else []))
    if tree.image_path and (image := pictures.find(tree.image_path, near)):
        return image
    return next((image for end in (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
                 if (image := file.with_suffix(end)).is_file()), None)  # fmt: skip


def _class_names(root: Path, labels: set[str]) -> tuple[list[str], Path]:
    """Return the classes' names in order, and where they stand."""
    file = root / "labels.txt"
    if not file.is_file():
        return sorted(labels - {IGNORED}), root
    try:
        names = [line.strip() for line in read_text(file).splitlines()]
    except (ValueError, OSError) as error:
        raise DataError(f"{file} cannot be read: {error}; it holds a label on each line") from error
    if unknown := sorted(labels - {*names, IGNORED}):
        raise DataError(f"{file} does not name the label {shortened(unknown[0])!r} that shapes have; add it")
    return [name for name in names if name and name != IGNORED], file
