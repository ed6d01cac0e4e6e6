"""Pairs of PASCAL VOC, Cityscapes and CamVid, as far as they can be found: nothing here stops at the first error."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ..core.errors import DataError
from ..core.order import natural
from ..data.readers.public import CAMVID_FOLDED, CITYSCAPES_CLASSES, VOC_YEARS, cityscapes_masks, voc_masks
from .layout import TRAIN_NAMES, UNLABELLED, VAL_NAMES, Layout, add_pairs
from .meaning import Meaning
from .pairing import Pair, inside, pictures, printable, read_list, shown, subfolders


def voc_homes(root: Path) -> list[Path]:
    """Return the folders that may hold VOC's lists, pictures and masks."""
    return [root, *(root / f"VOC{year}" for year in VOC_YEARS), *(root / "VOCdevkit" / f"VOC{y}" for y in VOC_YEARS)]


def list_voc(layout: Layout) -> None:
    """Add the pairs of PASCAL VOC's lists of names."""
    root, findings = layout.root, layout.findings
    home = next((h for h in reversed(voc_homes(root)) if (h / "ImageSets" / "Segmentation").is_dir()), root)
    if home != root and home.name != "VOC2012":
        layout.options["year"] = home.name[3:]
    lists, images, masks = (
        home / "ImageSets" / "Segmentation",
        home / "JPEGImages",
        home / voc_masks(home, layout.options.get("masks", "")),
    )
    names = [name for name in ("train", "val") if (lists / f"{name}.txt").is_file()]
    listed: set[str] = set()
    for split in names or [p.stem for p in sorted(lists.glob("*.txt"))]:
        lines = read_list(lists / f"{split}.txt", root, findings)
        listed.update(lines)
        _add_listed(layout, split, ((line, images / f"{line}.jpg", masks / f"{line}.png") for line in lines))
    _find_unlisted(layout, pictures(images, root, findings), pictures(masks, root, findings), listed)


def list_cityscapes(layout: Layout) -> None:
    """Add the pairs of Cityscapes's folders of towns."""
    root, findings = layout.root, layout.findings
    for place in subfolders(root / "leftImg8bit"):
        if place.name in UNLABELLED:
            continue
        ending = "_gtFine_labelIds.png"
        with suppress(DataError):  # said by its missing masks
            ending = f"_gtFine_{cityscapes_masks(root, place.name)}.png"
        if "TrainIds" in ending:
            layout.given = Meaning.identity(CITYSCAPES_CLASSES)
        for city in subfolders(place):
            masks = root / "gtFine" / place.name / city.name
            images = {p.name.removesuffix("_leftImg8bit.png"): p for p in pictures(city, root, findings)}
            ids = {p.name.removesuffix(ending): p for p in masks.glob(f"*{ending}")}
            _add_named(layout, place.name, images, ids)


def list_camvid(layout: Layout) -> None:
    """Add the pairs of CamVid's three layouts."""
    root, findings = layout.root, layout.findings
    annotated = [p.name.removesuffix("annot") for p in subfolders(root) if p.name.endswith("annot")]
    if annotated:
        for split in sorted(annotated, key=lambda name: (name not in TRAIN_NAMES, name)):
            images, masks = root / split, root / f"{split}annot"
            names = _camvid_names(layout, root / f"{split}.txt", "")
            _add_listed(layout, split, ((name, images / name, masks / name) for name in names))
            ours, theirs = pictures(images, root, findings), pictures(masks, root, findings)
            _find_unlisted(layout, ours, theirs, {Path(name).stem for name in names})
        return
    layout.notes = (CAMVID_FOLDED,)
    for place in subfolders(root):
        split = place.name.removesuffix("_labels")
        if place.name.endswith("_labels") and (root / split).is_dir():
            stills_of = {f"{p.stem}_L": p for p in pictures(root / split, root, findings)}
            _add_named(layout, split, stills_of, {p.stem: p for p in pictures(place, root, findings)})
    stills, labels = root / "701_StillsRaw_full", root / "LabeledApproved_full"
    if labels.is_dir():
        for file in sorted(root.glob("*.txt"), key=lambda p: (p.stem not in TRAIN_NAMES, p.name)):
            if file.stem in (*TRAIN_NAMES, *VAL_NAMES):
                names = _camvid_names(layout, file, ".png")
                listed = ((name, stills / name, labels / f"{Path(name).stem}_L.png") for name in names)
                _add_listed(layout, file.stem, listed)


def _add_named(layout: Layout, split: str, images: dict[str, Path], masks: dict[str, Path]) -> None:
    """Add the pairs of images and masks that are matched by what their names have in common."""
    add_pairs(layout, split, ((images[name], masks[name]) for name in natural(images.keys() & masks.keys())))
    for name in natural(images.keys() - masks.keys()):
        layout.findings.add("image-without-mask", shown(images[name], layout.root))
    for name in natural(masks.keys() - images.keys()):
        layout.findings.add("mask-without-image", shown(masks[name], layout.root))


def _camvid_names(layout: Layout, file: Path, suffix: str) -> list[str]:
    """Return the image names of a list, whose lines begin with a path of which only the end matters."""
    names = []
    for line in read_list(file, layout.root, layout.findings):
        path = Path(line.split()[0])
        if ".." in path.parts:
            layout.findings.add("path-outside", f"{shown(file, layout.root)}: {printable(line)}")
        elif path.name:
            names.append(f"{path.stem}{suffix}" if suffix else path.name)
    return names


def _add_listed(layout: Layout, split: str, entries: Iterable[tuple[str, Path, Path]]) -> None:
    """Add the pairs of a list whose files are there, and inside the dataset."""
    root, findings = layout.root, layout.findings
    for name, image, mask in entries:
        if {"/", "\\", "\0"} & set(name) or not (inside(image, root) and inside(mask, root)):
            findings.add("path-outside", f"{split}: {printable(name)}")
            continue
        gone = [path for path in (image, mask) if not _is_file(path)]
        for path in gone:
            findings.add("broken-link" if _is_link(path) else "listed-missing", f"{split}: {shown(path, root)}")
        if not gone:
            layout.pairs.append(Pair(split, image, mask))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # no right to look; a zero byte in a line
        return False


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except OSError:  # a name too long
        return False


def _find_unlisted(layout: Layout, images: list[Path], masks: list[Path], listed: set[str]) -> None:
    stems = {path.stem for path in masks}
    for image in images:
        if image.stem in stems and image.stem not in listed:
            layout.findings.add("not-listed", shown(image, layout.root))
