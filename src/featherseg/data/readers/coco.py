"""COCO's JSON of objects, and its panoptic PNGs, as class ids."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from ...core.errors import ConfigError, DataError
from ...core.images import read_ids, upright_size
from ...core.text_files import check_tree, parse_typed, plain, shortened
from ...core.types import IGNORE_INDEX, ClassSet, MaskArray
from ..annotations import AnnotatedDataset, Evidence, Labels, Sample, name_classes, recognisers
from ..datasets import datasets, require_folder
from ..listing import Pictures, files_of, settle_splits, split_of
from ..shapes import Polygons, Region, Runs, Shape, blamed, box_ring, check_size, decode_counts, paint, ring_of

MAX_JSON_BYTES = 2 << 30
"""Largest JSON; that of COCO's 118,000 training images has 450 MB."""
HEAD_BYTES = 64 << 10
"""What is looked at, at a file's begin and end, to know it."""
OTHER_TASKS = ("captions", "person_keypoints", "image_info", "keypoints")
"""How COCO's files begin that describe the same images for other tasks."""
BOX_LAYER, CROWD_LAYER, OBJECT_LAYER = 0, 1, 2
"""What lies on top of what."""


class _Image(msgspec.Struct):
    id: int | str
    file_name: str
    width: float | None = None
    height: float | None = None


class _Category(msgspec.Struct):
    id: int | str
    name: str
    supercategory: str | None = None


class _Segment(msgspec.Struct):
    id: int
    category_id: int | str
    iscrowd: float | bool | None = 0


class _Object(msgspec.Struct):
    image_id: int | str
    category_id: int | str | None = None
    segmentation: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    bbox: list[float] | None = None
    iscrowd: float | bool | None = 0
    segments_info: list[_Segment] | None = None
    file_name: str | None = None


class _File(msgspec.Struct):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Object] | None = None


class _Rle(msgspec.Struct):
    counts: str | list[int]
    size: tuple[int, int]


_SHAPE = msgspec.json.Decoder(list[list[float] | float] | _Rle)


@dataclass(frozen=True)
class _Labelled:
    """An object: its class id, layer, and the segmentation as the file has it, or the box where it has none."""

    label: int
    layer: int
    segmentation: bytes
    box: tuple[float, ...] = ()

    def region(self) -> Region:
        if not self.segmentation:
            left, top, width, height = self.box
            return Polygons((box_ring(left, top, left + width, top + height),))
        try:
            found = _SHAPE.decode(self.segmentation)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ValueError(f"a segmentation is neither polygons nor run lengths: {error}") from error
        if isinstance(found, _Rle):
            height, width = found.size
            check_size((height, width))
            if isinstance(found.counts, str):
                return Runs(decode_counts(found.counts), (height, width))
            try:
                return Runs(np.array(found.counts, np.int64), (height, width))
            except OverflowError as error:
                raise ValueError("a run length is larger than any picture") from error
        if numbers := [part for part in found if isinstance(part, float)]:
            return Polygons((ring_of(numbers),))  # one outline, without the list around it
        return Polygons(tuple(ring_of(part) for part in found if isinstance(part, list)))


@dataclass(frozen=True)
class CocoAnnotation:
    """The objects of one image; see :class:`featherseg.data.annotations.Annotation`."""

    file: Path
    image: Path
    size: tuple[int, int] | None
    objects: tuple[_Labelled, ...]
    unlabelled: int
    smaller_on_top: bool

    def read(self) -> MaskArray:
        """Return class ids, uint8 (H, W)."""
        size = self.size or upright_size(self.image)
        try:
            shapes = (Shape(o.region(), o.label, o.layer) for o in self.objects)
            return paint(size, shapes, self.unlabelled, smaller_on_top=self.smaller_on_top)
        except ValueError as error:
            raise blamed(error, self.file, self.image.name) from error


@dataclass(frozen=True)
class PanopticAnnotation:
    """A picture of segment numbers; `labels` has the class id of each."""

    file: Path
    labels: tuple[tuple[int, int], ...]

    def read(self) -> MaskArray:
        """Return class ids, uint8 (H, W)."""
        values = read_ids(self.file)
        if values.ndim != 3:
            raise DataError(f"{self.file} is no panoptic picture: it holds ids, not colours; export it again")
        wide = values.astype(np.int64)
        numbers, places = np.unique(wide[..., 0] | wide[..., 1] << 8 | wide[..., 2] << 16, return_inverse=True)
        table = {0: IGNORE_INDEX} | dict(self.labels)
        if foreign := [int(number) for number in numbers if int(number) not in table]:
            raise DataError(f"{self.file} holds segment {foreign[0]}, which its JSON does not name; export it again")
        ids = np.array([table[int(number)] for number in numbers], np.uint8)
        mask: MaskArray = ids[places.reshape(values.shape[:2])]
        return mask


@datasets.register("coco")
def coco(
    root: Path,
    split: str = "train",
    *,
    overlap: Literal["smaller", "later"] = "smaller",
    crowd: Literal["ignore", "label"] = "ignore",
    background: bool = True,
    panoptic: bool | None = None,
    val_share: float = 0.2,
    seed: int = 0,
) -> AnnotatedDataset:
    """Open a folder with COCO JSON: polygons, run lengths, or panoptic pictures, with the images anywhere below it.

    Read are all JSONs in the folder and two levels below it, COCO's own, those of CVAT, Label Studio and others, and
    Roboflow's ``_annotations.coco.json`` in each split's folder. The split is what the JSON's name or its folder's
    speaks of (train, val or valid, test); where none does, or there is no val, it is drawn. Several JSONs of one split
    are read together.

    Classes are the categories in the order of their ids, after ``background``, which is all that no object covers.
    An outline wholly inside another of its object is a hole; a pixel belongs to an object that holds its centre.
    Where objects overlap, the smaller lies on top, of equals the later one. Crowds are ignored, beneath single
    objects; so is the box of an object that has no outline. An image without objects is background all over.
    Panoptic pictures hold no overlaps; their pixels of no segment, and crowds, are ignored.

    Args:
        root: the folder.
        split: ``train``, ``val``, ``test`` or ``all``.
        overlap: "smaller" on top, or "later" in the file.
        crowd: "ignore" crowds, or "label" them as their class.
        background: whether pixels of no object are a class; else they are ignored.
        panoptic: read panoptic pictures, or objects; where left out, objects where there are any.
        val_share: share of a drawn validation split, over 0 and under 1.
        seed: of the draw.
    """
    labels = read_coco(
        root,
        overlap=overlap,
        crowd=crowd,
        background=background,
        panoptic=panoptic,
        val_share=val_share,
        seed=seed,
    )
    return labels.dataset(split)


@recognisers.register("coco")
def recognise_coco(root: Path) -> Evidence | None:
    """Return whether there is a JSON of images, categories and annotations."""
    files = [file for file in files_of(root, (".json",))[:50] if _looks_like_coco(file)]
    if not files:
        return None
    seen = f"{files[0].relative_to(root).as_posix()} is a COCO file"
    panoptic = any(b'"segments_info"' in ends_of(file) for file in files)
    return Evidence(seen, partial(read_coco, root), ("folder",) if panoptic else ())


def _looks_like_coco(file: Path) -> bool:
    if file.name.startswith(OTHER_TASKS):
        return False
    text = ends_of(file)
    if not text.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{"):
        return False
    words = (rb'"images"\s*:\s*\[', rb'"categories"\s*:\s*\[', rb'"annotations"\s*:\s*\[', rb'"category_id"\s*:')
    return sum(re.search(word, text) is not None for word in words) >= 2


def ends_of(file: Path, count: int = HEAD_BYTES) -> bytes:
    """Return the begin and the end of a file; nothing where it cannot be read."""
    try:
        with file.open("rb") as stream:
            head = stream.read(count)
            stream.seek(max(file.stat().st_size - count, len(head)))
            return head + stream.read(count)
    except OSError:
        return b""


@dataclass
class _Tally:
    """What is said of all files together."""

    counts: Counter[str] = field(default_factory=Counter)
    missing: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def read_coco(
    root: Path,
    *,
    overlap: str = "smaller",
    crowd: str = "ignore",
    background: bool = True,
    panoptic: bool | None = None,
    val_share: float = 0.2,
    seed: int = 0,
) -> Labels:
    """Read all COCO labels of a folder; see :func:`coco`."""
    check_choice("overlap", overlap, ("smaller", "later"))
    check_choice("crowd", crowd, ("ignore", "label"))
    check_share(val_share)
    require_folder(root, "dataset folder")
    files = {file: read_file(file) for file in files_of(root, (".json",)) if _looks_like_coco(file)}
    files = {file: tree for file, tree in files.items() if tree.annotations is not None}
    labelled = sum(bool(tree.annotations) for tree in files.values())
    if not labelled:
        raise DataError(f"{root} holds no COCO JSON with annotations; check the folder")
    with_segments = {f for f, tree in files.items() if any(o.segments_info is not None for o in tree.annotations or ())}
    both = 0 < len(with_segments) < labelled
    as_segments = panoptic if panoptic is not None else not both and bool(with_segments)
    files = {file: tree for file, tree in files.items() if (file in with_segments) == as_segments}
    if not files:
        raise DataError(
            f"{root} holds no {'panoptic' if panoptic else 'object'} labels; leave data.options.panoptic out"
        )
    notes = []
    if both and panoptic is None:
        notes.append("objects are read; the panoptic labels that are there too, with data.options.panoptic = true")
    names, groups = _categories(files.values())
    where = next(iter(files))
    classes, ids, unlabelled = name_classes(names, background=background and not as_segments, where=where)
    if groups:
        notes.append(f"category {', '.join(map(plain, groups))} is only the name of a group, and no class")
    tally = _Tally()
    if as_segments:
        read = partial(_panoptic_samples, crowd=crowd)
    else:
        smaller = overlap == "smaller"
        read = partial(_object_samples, crowd=crowd, unlabelled=unlabelled, smaller_on_top=smaller)
    pictures = Pictures(root)
    found: dict[str | None, dict[Path, Sample]] = defaultdict(dict)
    for file, tree in files.items():
        split = split_of(file, root)
        for sample in read(file, tree, pictures, split, ids, tally):
            found[split][sample.image] = _merged(found[split].get(sample.image), sample)
    samples_of = {split: list(samples.values()) for split, samples in found.items()}
    splits, drawn = settle_splits(samples_of, val_share, seed, len(classes))
    counts = tally.counts
    if not as_segments and not counts["objects"] and counts["boxes"]:
        raise DataError(
            f"{where} holds boxes only, which say nothing of shapes; export it again as segmentation (polygons or RLE)"
        )
    notes += _notes(counts, classes, unlabelled, as_segments, overlap, crowd)
    missing = {split or "train": tuple(names) for split, names in tally.missing.items()}
    return Labels("coco", classes, splits, (*notes, *drawn), missing)


def check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a value that is none of an option's."""
    if value not in choices:
        raise ConfigError(f"data.options.{option} is {shortened(repr(value))}; it takes {' or '.join(choices)}")


def check_share(val_share: float) -> None:
    """Refuse a share that leaves a split empty."""
    if not 0 < val_share < 1:
        raise ConfigError(f"data.options.val_share is {val_share}; it must be over 0 and under 1")


def read_file(file: Path) -> _File:
    """Return what a JSON of COCO says.

    Raises:
        DataError: it is none, or too large.
    """
    try:
        if file.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"it has over {MAX_JSON_BYTES} bytes")
        tree = parse_typed(file.read_bytes(), _File)
        check_tree([[image.file_name for image in tree.images], [category.name for category in tree.categories]])
    except (ValueError, OSError) as error:
        raise DataError(f"{file} cannot be read as COCO's JSON: {error}; export it again") from error
    return tree


def _categories(files: Iterable[_File]) -> tuple[list[str], list[str]]:
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


def _object_samples(
    file: Path,
    tree: _File,
    pictures: Pictures,
    split: str | None,
    ids: dict[str, int],
    tally: _Tally,
    *,
    crowd: str,
    unlabelled: int,
    smaller_on_top: bool,
) -> Iterable[Sample]:
    names = {category.id: ids[category.name] for category in tree.categories if category.name in ids}
    objects: dict[int | str, list[_Labelled]] = defaultdict(list)
    for o in tree.annotations or ():
        if o.category_id not in names or o.category_id is None:
            raise DataError(
                f"{file}: an object has category {plain(o.category_id)}, which is not listed; correct the file"
            )
        if labelled := _labelled(o, names[o.category_id], crowd, tally):
            objects[o.image_id].append(labelled)
    for image in tree.images:
        if path := _find(image, file, pictures, split, tally):
            yield Sample(
                path,
                CocoAnnotation(file, path, _size(image), tuple(objects[image.id]), unlabelled, smaller_on_top),
            )
            tally.counts["empty"] += not objects[image.id]


def _labelled(o: _Object, label: int, crowd: str, tally: _Tally) -> _Labelled | None:
    raw = bytes(o.segmentation)
    if len(raw) < 16 and raw.translate(None, b" \r\n\t") in (b"", b"null", b"[]", b"[[]]"):
        if o.bbox is None or len(o.bbox) != 4:
            return None
        tally.counts["boxes"] += 1
        return _Labelled(IGNORE_INDEX, BOX_LAYER, b"", tuple(o.bbox))
    tally.counts["objects"] += 1
    if not o.iscrowd:
        return _Labelled(label, OBJECT_LAYER, raw)
    tally.counts["crowds"] += 1
    return _Labelled(label if crowd == "label" else IGNORE_INDEX, CROWD_LAYER, raw)


def _size(image: _Image) -> tuple[int, int] | None:
    if not image.width or not image.height:  # left out, or 0 as some programs write
        return None
    return int(image.height), int(image.width)


def _find(image: _Image, file: Path, pictures: Pictures, split: str | None, tally: _Tally) -> Path | None:
    near = (*([file.parent.name] if file.parent != pictures.root else []), *([split] if split else []), "images")
    path = pictures.find(image.file_name, near)
    if path is None:
        tally.missing[split or ""].append(image.file_name)
    return path


def _panoptic_samples(
    file: Path,
    tree: _File,
    pictures: Pictures,
    split: str | None,
    ids: dict[str, int],
    tally: _Tally,
    *,
    crowd: str,
) -> Iterable[Sample]:
    names = {category.id: ids[category.name] for category in tree.categories if category.name in ids}
    images = {image.id: image for image in tree.images}
    for o in tree.annotations or ():
        if o.file_name is None or o.image_id not in images:
            raise DataError(f"{file}: a panoptic annotation has no file or no image; export it again")
        png = pictures.find(o.file_name, (file.stem, *([split] if split else [])))
        image = _find(images[o.image_id], file, pictures, split, tally)
        if image is None:
            continue
        if png is None or png == image:
            raise DataError(f"{file}: {plain(o.file_name)} is not there; put the panoptic pictures beside the JSON")
        labels = []
        for segment in o.segments_info or ():
            if segment.category_id not in names:
                raise DataError(f"{file}: a segment has category {plain(segment.category_id)}, which is not listed")
            hidden = bool(segment.iscrowd) and crowd == "ignore"
            tally.counts["crowds"] += bool(segment.iscrowd)
            labels.append((segment.id, IGNORE_INDEX if hidden else names[segment.category_id]))
        yield Sample(image, PanopticAnnotation(png, tuple(labels)))


def _merged(first: Sample | None, second: Sample) -> Sample:
    """Return an image's labels of two files as one; the same image in one file twice is merged likewise."""
    if first is None:
        return second
    ours, theirs = first.annotation, second.annotation
    if not isinstance(ours, CocoAnnotation) or not isinstance(theirs, CocoAnnotation):
        raise DataError(f"{first.image} is labelled in {ours.file} and in {theirs.file}; keep one of them")
    return Sample(first.image, replace(ours, size=ours.size or theirs.size, objects=(*ours.objects, *theirs.objects)))


def _notes(
    counts: Counter[str], classes: ClassSet, unlabelled: int, panoptic: bool, overlap: str, crowd: str
) -> list[str]:
    if panoptic:
        notes = ["panoptic pictures: pixels of no segment are ignored"]
    else:
        rest = "are ignored" if unlabelled == classes.ignore_index else f"are {classes.names[unlabelled]}"
        notes = [f"where objects overlap, the {overlap} lies on top; pixels of no object {rest}"]
    if counts["crowds"]:
        notes.append(f"{counts['crowds']} crowds are {'labelled' if crowd == 'label' else 'ignored'}")
    if counts["boxes"]:
        notes.append(f"{counts['boxes']} objects have a box but no outline: their boxes are ignored")
    if counts["empty"]:
        rest = "ignored" if unlabelled == classes.ignore_index else classes.names[unlabelled]
        notes.append(f"{counts['empty']} images have no object and are {rest} all over")
    return notes
