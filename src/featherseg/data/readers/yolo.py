"""YOLO's polygons: ``data.yaml``, and a text file for each image with an outline on every line."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...core.errors import DataError
from ...core.images import IMAGE_SUFFIXES, upright_size
from ...core.text_files import parse_yaml, read_text, shortened
from ...core.types import IGNORE_INDEX, MaskArray
from ..annotations import AnnotatedDataset, Evidence, Labels, Sample, name_classes, recognisers
from ..datasets import datasets, require_folder
from ..listing import Pictures, name_parts, settle_splits, split_word, walk
from ..shapes import Polygons, Shape, blamed, box_ring, paint
from .coco import check_choice, check_share

MAX_LABEL_BYTES = 32 << 20
"""Largest text file of one image; real ones have a few hundred kB."""
MAX_YAML_BYTES = 128 << 10
"""Largest YAML; one that names a thousand classes has 25 kB."""
OUTSIDE = 0.5
"""How far, as a share of the picture, an outline may lead out of it; beyond, it is given in pixels."""
BOX_NUMBERS = 5
"""A line's numbers where it is a box: class, centre, width, height."""
LOOK_AT = 200
"""Label files that are looked at to tell boxes from outlines."""
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class YoloAnnotation:
    """The outlines of one image; see :class:`featherseg.data.annotations.Annotation`.

    Args:
        file: the text file; one that is not there says that nothing is in the picture.
        image: the picture, whose size the file does not say.
        ids: class id by the file's number.
        unlabelled: value of pixels in no outline.
        smaller_on_top: see :func:`featherseg.data.shapes.paint`.
    """

    file: Path
    image: Path
    ids: tuple[int, ...]
    unlabelled: int
    smaller_on_top: bool

    def read(self) -> MaskArray:
        """Return class ids, uint8 (H, W), of the upright image."""
        size = upright_size(self.image)
        try:
            shapes = [_shape(row, size, self.ids) for row in read_rows(self.file)]
            return paint(size, shapes, self.unlabelled, smaller_on_top=self.smaller_on_top)
        except (ValueError, OSError) as error:
            reason = error if isinstance(error, ValueError) else ValueError(error.strerror)
            raise blamed(reason, self.file, self.image.name) from error


def read_rows(file: Path) -> list[NDArray[np.float64]]:
    """Return the numbers of each line; none where there is no file.

    Raises:
        ValueError: it holds something else; one line.
    """
    try:
        lines = read_text(file, MAX_LABEL_BYTES).splitlines()
    except FileNotFoundError:
        return []
    rows = []
    for number, line in enumerate(lines, 1):
        if words := line.split():
            try:
                rows.append(np.array([float(word) for word in words]))
            except ValueError as error:
                raise ValueError(f"line {number} holds {shortened(line)!r}, not numbers") from error
    return rows


def _shape(row: NDArray[np.float64], size: tuple[int, int], ids: tuple[int, ...]) -> Shape:
    number = row[0]
    if not (np.isfinite(row).all() and number == int(number) and 0 <= number < len(ids)):
        raise ValueError(f"{number:g} is no class: there are {len(ids)}, from 0 on")
    shares = row[1:]
    if np.abs(shares - 0.5).max(initial=0) > 0.5 + OUTSIDE:
        far = shares[np.abs(shares - 0.5).argmax()]
        raise ValueError(f"coordinate {far:g} is no share of the picture from 0 to 1; write x by width, y by height")
    scale = np.array([size[1], size[0]], np.float64)
    if len(row) == BOX_NUMBERS:
        center, half = shares[:2] * scale, shares[2:] * scale / 2
        box = box_ring(*(center - half), *(center + half))
        return Shape(Polygons((box,)), IGNORE_INDEX, layer=-1)
    if len(row) < 7 or len(row) % 2 == 0:
        raise ValueError(f"a line has {len(row)} numbers; an outline has a class and at least three pairs of x and y")
    return Shape(Polygons((shares.reshape(-1, 2) * scale,)), ids[int(number)])


@datasets.register("yolo")
def yolo(
    root: Path,
    split: str = "train",
    *,
    overlap: Literal["smaller", "later"] = "smaller",
    background: bool = True,
    val_share: float = 0.2,
    seed: int = 0,
) -> AnnotatedDataset:
    """Open a folder with YOLO outlines: a ``.yaml`` with ``names`` and the splits, a text file for each image.

    The splits are what ``train``, ``val`` and ``test`` of the YAML name: folders, text files that list images, or
    lists of both, as seen from the YAML's own folder; roots and ``..`` that belong to another machine are passed over.
    Without a YAML, ``classes.txt`` names the classes beside ``images/`` and ``labels/``, and the splits are folders'
    names, or drawn. The text files are where ``images`` in the images' paths reads ``labels``, or beside the images.

    Classes are the names in their order, after ``background``, which is all that no outline covers. A pixel belongs to
    an outline that holds its centre, of the upright image; outlines that cross themselves enclose by the even-odd rule,
    so that bridges to holes and other parts vanish. Where outlines overlap, the smaller lies on top, of equals the
    later one. An image without a text file, or with an empty one, is background all over. A box among outlines
    is ignored, beneath them; files of boxes alone are refused. Splits without any text file are left out.

    Args:
        root: the folder.
        split: ``train``, ``val``, ``test`` or ``all``.
        overlap: "smaller" on top, or "later" in the file.
        background: whether pixels of no outline are a class; else they are ignored.
        val_share: share of a drawn validation split, over 0 and under 1.
        seed: of the draw.
    """
    return read_yolo(root, overlap=overlap, background=background, val_share=val_share, seed=seed).dataset(split)


@recognisers.register("yolo")
def recognise_yolo(root: Path) -> Evidence | None:
    """Return whether there is a YAML of names and splits, or class names beside folders of images and text files."""
    labels = partial(read_yolo, root)
    if files := _yamls(root):
        return Evidence(f"{files[0].name} names classes and splits as YOLO's files do", labels)
    named = (root / "classes.txt").is_file() and (root / "images").is_dir() and (root / "labels").is_dir()
    if named and any(path.suffix == ".txt" for path, _ in islice(walk(root / "labels", 2), LOOK_AT)):
        return Evidence("classes.txt and labels/*.txt are as YOLO's", labels)
    return None


def _yamls(root: Path) -> list[Path]:
    """Return the YAML files directly in the folder that are YOLO's, ``data.yaml`` first."""
    found = []
    for file in sorted((*root.glob("*.yaml"), *root.glob("*.yml")), key=lambda f: (f.stem != "data", f.name)):
        try:
            with file.open("rb") as stream:
                head = stream.read(MAX_YAML_BYTES)
        except OSError:
            continue
        if re.search(rb"^\s*names\s*:", head, re.MULTILINE) and re.search(rb"^\s*(train|val)\s*:", head, re.MULTILINE):
            found.append(file)
    return found


def read_yolo(
    root: Path, *, overlap: str = "smaller", background: bool = True, val_share: float = 0.2, seed: int = 0
) -> Labels:
    """Read all YOLO labels of a folder; see :func:`yolo`."""
    check_choice("overlap", overlap, ("smaller", "later"))
    check_share(val_share)
    require_folder(root, "dataset folder")
    yamls = _yamls(root)
    if len(yamls) > 1 and yamls[0].stem != "data":
        raise DataError(f"{root} holds {yamls[0].name} and {yamls[1].name}; call the one that counts data.yaml")
    where = yamls[0] if yamls else root / "classes.txt"
    found: dict[str | None, tuple[list[Path], list[str]]]
    if yamls:
        names, places = _read_yaml(where)
        pictures = Pictures(root)
        found = {split: _images_of(places[split], root, pictures) for split in SPLITS if split in places}
    else:
        names, found = _read_names(where), _images_by_folder(root)
    classes, ids, unlabelled = name_classes(names, background=background, where=where)
    table = tuple(ids[name] for name in names)
    samples: dict[str | None, list[Sample]] = {}
    missing, notes, empty = {}, [], 0
    for split, (images, gone) in found.items():
        files = [(image, label_file(image, root)) for image in images]
        if not any(file.is_file() for _, file in files) and (images or split == "test"):
            # Roboflow names a test split in every export, whether there is one or not.
            notes.append(f"no image of {split} has a text file of labels: it is left out")
            continue
        if gone:
            missing[split or "train"] = tuple(gone)
        empty += sum(not file.is_file() or not file.stat().st_size for _, file in files)
        samples[split] = [
            Sample(image, YoloAnnotation(file, image, table, unlabelled, overlap == "smaller")) for image, file in files
        ]
    if not samples and not missing:
        raise DataError(f"{where}: no image that it speaks of has a text file of labels; check the folders' names")
    boxes = _refuse_boxes([s.annotation.file for part in samples.values() for s in part], where)
    splits, drawn = settle_splits(samples, val_share, seed, len(classes))
    rest = "ignored" if unlabelled == classes.ignore_index else classes.names[unlabelled]
    notes.insert(0, f"where outlines overlap, the {overlap} lies on top; pixels in no outline are {rest}")
    if boxes:
        notes.append("some lines are boxes, which say nothing of shapes: they are ignored, beneath outlines")
    if empty:
        notes.append(f"{empty} images have no labels and are {rest} all over")
    return Labels("yolo", classes, splits, (*notes, *drawn), missing)


def _read_yaml(file: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Return the classes' names, and what each split names."""
    try:
        tree = parse_yaml(read_text(file, MAX_YAML_BYTES))
    except (ValueError, OSError) as error:
        raise DataError(f"{file} cannot be read: {shortened(str(error), 200)}; correct it") from error
    if not isinstance(tree, dict):
        raise DataError(f"{file} holds no keys and values; it needs names, train and val")
    if "kpt_shape" in tree:
        raise DataError(f"{file} is of poses (kpt_shape), which say nothing of shapes; export outlines (segmentation)")
    names: Any = tree.get("names")
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise DataError(f"{file}: names has the numbers {shortened(str(list(names)))}; number them 0, 1, 2, …")
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str | int | float) for name in names):
        raise DataError(f"{file}: names is {shortened(repr(names))}; give a list of the classes' names")
    places = {}
    for key, value in tree.items():
        split = split_word(key) if isinstance(key, str) and key in ("train", "val", "valid", "test") else None
        if split is not None and value is not None:
            entries = value if isinstance(value, list) else [value]
            if not all(isinstance(entry, str) for entry in entries):
                raise DataError(f"{file}: {key} is {shortened(repr(value))}; give a folder or a list of images")
            places[split] = entries
    return [str(name) for name in names], places


def _read_names(file: Path) -> list[str]:
    try:
        names = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    except (ValueError, OSError) as error:
        raise DataError(f"{file} cannot be read: {error}; it holds a class name on each line") from error
    if not names:
        raise DataError(f"{file} is empty; write a class name on each line")
    return names


def _images_of(entries: Iterable[str], root: Path, pictures: Pictures) -> tuple[list[Path], list[str]]:
    """Return the images that a split's entries name, and the names of those that are not there."""
    images: dict[Path, None] = {}
    missing = []
    for entry in entries:
        place = _place(entry, root)
        if place is None:
            missing.append(entry)
        elif place.is_dir():
            images |= dict.fromkeys(p for p, _ in walk(place) if p.suffix.lower() in IMAGE_SUFFIXES)
        else:
            try:
                lines = read_text(place, MAX_LABEL_BYTES).splitlines()
            except (ValueError, OSError) as error:
                raise DataError(f"{place} cannot be read: {error}; it lists an image on each line") from error
            for line in filter(None, (line.strip() for line in lines)):
                image = pictures.find(line)
                if image is None:
                    missing.append(line)
                else:
                    images[image] = None
    return list(images), missing


def _place(entry: str, root: Path) -> Path | None:
    """Return the folder or list below `root` that an entry means, of which as much of the end counts as is there."""
    parts = name_parts(entry)
    if not parts:
        return root
    for first in range(len(parts)):
        place = root.joinpath(*parts[first:])
        try:
            if place.is_dir() or (place.suffix == ".txt" and place.is_file()):
                return place
        except OSError:  # a name too long
            return None
    return None


def _images_by_folder(root: Path) -> dict[str | None, tuple[list[Path], list[str]]]:
    found: dict[str | None, list[Path]] = defaultdict(list)
    for path, below in walk(root / "images"):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            found[split_word(below.rpartition("/")[0])].append(path)
    return {split: (images, []) for split, images in found.items()}


def label_file(image: Path, root: Path) -> Path:
    """Return where an image's labels are, or would be: in ``labels`` for ``images``, or beside it."""
    parts = list(image.relative_to(root).parts)
    places = [i for i, part in enumerate(parts[:-1]) if part.lower() == "images"]
    beside = image.with_suffix(".txt")
    if not places or beside.is_file():
        return beside
    parts[places[-1]] = "labels"
    return root.joinpath(*parts).with_suffix(".txt")


def _refuse_boxes(files: Iterable[Path], where: Path) -> bool:
    """Return whether some lines are boxes; refuse labels of boxes alone."""
    boxes = outlines = False
    for file in islice((file for file in files if file.is_file()), LOOK_AT):
        try:
            lengths = {len(row) for row in read_rows(file)}
        except (ValueError, OSError):
            outlines = True  # the file's own trouble, which is told when it is read
            continue
        boxes |= BOX_NUMBERS in lengths
        outlines |= bool(lengths - {BOX_NUMBERS})
    if boxes and not outlines:
        raise DataError(
            f"{where}: the labels are boxes (5 numbers on a line), which say nothing of shapes; export outlines "
            "(YOLO segmentation), or draw them"
        )
    return boxes
