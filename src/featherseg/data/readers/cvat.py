"""CVAT's exports: masks in the colours of a label map (VOC-like or CamVid-like), and its XML of shapes."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core.errors import ConfigError, DataError
from ...core.images import open_image
from ...core.text_files import shortened
from ...core.types import IGNORE_INDEX, ClassSet
from ..annotations import BACKGROUND, AnnotatedDataset, Evidence, Labels, Sample, name_classes, recognisers
from ..datasets import datasets
from ..image_names import find_bare
from ..label_maps import LABEL_COLORS, LABEL_MAP, NamedColor, named_lines, read_label_colors, read_label_map
from ..labels import LabelTable
from ..listing import Pictures, settle_splits, split_word
from ..mask_annotations import ColorMask
from .coco import check_share
from .cvat_xml import find_xml, xml_labels
from .public import VOC_BORDER, is_vocs_own


@datasets.register("cvat")
def cvat(
    root: Path, split: str = "train", *, images: str | None = None, val_share: float = 0.2, seed: int = 0
) -> AnnotatedDataset:
    """Open an export of CVAT, in one of three layouts.

    "Segmentation mask 1.1": ``labelmap.txt``, ``SegmentationClass/``, ``ImageSets/Segmentation/*.txt`` and
    ``JPEGImages/``. "CamVid 1.0": ``label_colors.txt``, and ``NAME/``, ``NAMEannot/``, ``NAME.txt`` for each part.
    "CVAT for images 1.1": XML with polygons, masks, boxes and ellipses, and the images anywhere in the folder.

    Overlaps: masks have none; of shapes, the one with the higher z_order lies on top, and of one z_order the one that
    comes later in the file, as in CVAT. Background: masks show it in the colour of the label "background", which CVAT
    adds; what no shape covers is the label of that name, or a class that is put before the labels. Ignored: VOC's
    border colour (224, 224, 192) in masks; in XML, nothing. Images that CVAT lists without a mask or a shape are left
    out, since nothing says that they are finished. Tags, points, lines, cuboids and skeletons have no area and are not
    read, nor are attributes and ``occluded``.

    Args:
        root: folder of the export.
        split: ``train``, ``val``, ``all``, or a further part of the export.
        images: folder of the images where the export was made without them; relative to `root`, or not.
        val_share: share of the images that is drawn for ``val`` where no part is for validation, over 0 and under 1.
        seed: of the draw.
    """
    home = root / Path(images).expanduser() if images else None
    return cvat_labels(root, home, val_share, seed).dataset(split)


@recognisers.register("cvat")
def recognise_cvat(root: Path) -> Evidence | None:
    """Know a CVAT export by its label map, or by the first bytes of its XML."""
    if (root / LABEL_MAP).is_file() and (root / "SegmentationClass").is_dir():
        if is_vocs_own(root):
            return None
        seen = f"{LABEL_MAP} gives the colours of SegmentationClass/"
    elif parts := colored_parts(root):
        seen = f"{LABEL_COLORS} gives the colours of {parts[0]}annot/"
    elif file := find_xml(root):
        return Evidence(f"{file.name} is CVAT's XML", lambda: cvat_labels(root))
    else:
        return None
    return Evidence(seen, lambda: cvat_labels(root), instead_of=("voc", "camvid", "folder", "labelme_voc"))


def cvat_labels(root: Path, images: Path | None = None, val_share: float = 0.2, seed: int = 0) -> Labels:
    """Read all that an export holds; see :func:`cvat`.

    Raises:
        DataError: it is no export of CVAT, is damaged, or its images are missing.
    """
    check_share(val_share)
    if (root / LABEL_MAP).is_file() and (root / "SegmentationClass").is_dir():
        return _voc_like(root, images, val_share, seed)
    if colored_parts(root):
        return _camvid_like(root, images, val_share, seed)
    if file := find_xml(root):
        return xml_labels(root, file, images, val_share, seed)
    raise DataError(
        f"{root} is no export of CVAT: it has neither {LABEL_MAP} and SegmentationClass/, nor {LABEL_COLORS} and "
        "coloured masks, nor CVAT's XML; export again as Segmentation mask 1.1 or CVAT for images 1.1"
    )


def colored_parts(root: Path) -> list[str]:
    """Return the names of the parts of a CamVid-like export whose masks are in colour; none where there are none.

    A folder of CamVid itself, whose masks hold ids, may have a list of colours too.
    """
    if not (root / LABEL_COLORS).is_file():
        return []
    found = []
    for place in sorted(root.glob("*annot")):
        first = next((file for file in sorted(place.glob("*.png"))), None) if place.is_dir() else None
        if first is None or not place.name.removesuffix("annot"):
            continue
        try:
            with open_image(first) as mask:
                colored = mask.mode in ("P", "RGB", "RGBA")
        except DataError:
            colored = True  # a damaged file is told of when it is read
        if colored:
            found.append(place.name.removesuffix("annot"))
    return found


def colour_classes(file: Path, entries: Sequence[NamedColor]) -> tuple[ClassSet, LabelTable, tuple[str, ...]]:
    """Return the classes in the file's order, the table of their colours, and what was decided.

    Raises:
        DataError: a name or colour stands for two labels, or there are too many.
    """
    entries = [entry for entry in entries if entry[1] != VOC_BORDER]
    for what, values in (("label", [name for name, _ in entries]), ("colour", [color for _, color in entries])):
        value, count = Counter[Any](values).most_common(1)[0] if values else ("", 0)
        if count > 1:
            raise DataError(f"{file} has the {what} {shortened(repr(value))} {count} times; give each label its own")
    try:
        classes, ids, _ = name_classes([name for name, _ in entries], dict(entries), background=False, where=file)
        table = LabelTable({}, {VOC_BORDER: IGNORE_INDEX} | {color: ids[name] for name, color in entries})
    except ConfigError as error:  # a colour out of range
        raise DataError(f"{file}: {error}") from error
    base = next((name for name in classes.names if name.casefold() in BACKGROUND), None)
    unlabelled = f"what nobody labelled is the class {base}" if base else "no class is called background"
    return classes, table, (f"classes from {file.name}: {unlabelled}", "nothing is ignored but VOC's border colour")


def _voc_like(root: Path, images: Path | None, val_share: float, seed: int) -> Labels:
    classes, table, notes = colour_classes(root / LABEL_MAP, read_label_map(root / LABEL_MAP))
    home, lists = images or root / "JPEGImages", root / "ImageSets" / "Segmentation"
    if not home.is_dir():
        raise _without_images(root, home)
    files = sorted(lists.glob("*.txt"))
    if not files:
        raise DataError(f"the CVAT export {root} has no lists in {lists}; export again")
    entries = [
        (split_word(file.stem), name, root / "SegmentationClass" / f"{name}.png")
        for file in files
        for _, line in named_lines(file)
        for name in [_inside(line, file)]
    ]
    pictures = Pictures(home)
    found = [(split, name, find_bare(pictures, name), mask) for split, name, mask in entries]
    return _labels(root, found, classes, table, notes, val_share, seed)


def _camvid_like(root: Path, images: Path | None, val_share: float, seed: int) -> Labels:
    classes, table, notes = colour_classes(root / LABEL_COLORS, read_label_colors(root / LABEL_COLORS))
    pictures = Pictures(images or root)
    found = []
    for part in colored_parts(root):
        masks, file = root / f"{part}annot", root / f"{part}.txt"
        if file.is_file():
            names = [re.sub(r"\s+\"?/?\S*annot/.*", "", line).strip('"') for _, line in named_lines(file)]
        else:
            names = [mask.name for mask in sorted(masks.glob("*.png"))]
        for name in (_inside(entry, file).removeprefix(f"{part}/") for entry in names):
            mask = masks / f"{name.rpartition('.')[0] or name}.png"  # a list of strangers may hold empty names
            image = pictures.find(f"{part}/{name}")
            found.append((split_word(part), name, image if image != mask else None, mask))
    return _labels(root, found, classes, table, notes, val_share, seed)


def _inside(name: str, file: Path) -> str:
    """Return a listed name with plain slashes; one that leads out of the folder is an error."""
    plain = name.replace("\\", "/").lstrip("/")
    if ".." in plain.split("/") or ":" in plain or "\0" in plain or not plain:
        raise DataError(f"list {file} names {shortened(repr(name))}, which leads out of the folder; correct it")
    return plain


def _without_images(root: Path, home: Path) -> DataError:
    return DataError(
        f"the CVAT export {root} was made without images ({home.name}/ is not there, or empty); export again with "
        '"Save images", or name their folder: data.options.images'
    )


def _labels(
    root: Path,
    found: Sequence[tuple[str | None, str, Path | None, Path]],
    classes: ClassSet,
    table: LabelTable,
    notes: tuple[str, ...],
    val_share: float,
    seed: int,
) -> Labels:
    """Return labels of (split, name, image, mask file); listed twice is there once, under the split that is named."""
    samples: dict[str | None, list[Sample]] = defaultdict(list)
    missing: dict[str, list[str]] = defaultdict(list)
    unlabelled = set()
    seen: set[Path] = set()
    for split, name, image, mask in sorted(found, key=lambda entry: entry[0] is None):
        if mask in seen:
            continue
        seen.add(mask)
        if not _is_file(mask):
            unlabelled.add(name)
        elif image is None:
            missing[split or "train"].append(name)
        else:
            samples[split].append(Sample(image, ColorMask(mask, table)))
    if not samples and missing:
        raise _without_images(root, root / "JPEGImages")
    if not samples:
        raise DataError(f"the CVAT export {root} lists no image with a mask; export again")
    if unlabelled:
        notes = (*notes, f"{len(unlabelled)} listed images have no mask and are left out")
    splits, drawn = settle_splits(samples, val_share, seed, len(classes))
    return Labels("cvat", classes, splits, notes + drawn, {split: tuple(names) for split, names in missing.items()})


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long
        return False
