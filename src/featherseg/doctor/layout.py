"""What kind of dataset a folder is, and its pairs, as far as they can be found: nothing here stops at the first error.

The layouts are those that :mod:`featherseg.data` reads, and two that it does not and a clean copy is made of: a
folder for each split with images and masks in it, and images and masks side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, DataError, FeathersegError, did_you_mean
from ..core.order import natural, natural_key
from ..data.annotations import recognisers
from ..data.datasets import FileDataset, create_dataset
from ..data.readers.public import (
    CITYSCAPES_CLASSES,
    VOC_YEARS,
    cityscapes_masks,
    foreign_names,
    is_camvids_own,
    is_vocs_own,
)
from ..data.splits import made_split
from .foreign import holds_pictures, kinds_seen, list_annotated
from .meaning import Meaning, meaning_of_file, meaning_of_kind
from .pairing import Pair, bare, deeper_pictures, inside, match, pictures, printable, read_list, shown, subfolders
from .rules import Findings

IMAGE_NAMES = ("images", "image", "imgs", "img", "JPEGImages", "rgb", "photos", "pictures", "frames")
MASK_NAMES = ("masks", "mask", "labels", "label", "annotations", "annotation", "ann", "gt", "SegmentationClass", "seg")
"""What people call the two folders, the most common first."""
TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "valid", "validation", "dev", "test")
UNLABELLED = ("test", "unlabeled", "unlabelled")
"""Splits that rightly have no masks."""


@dataclass
class Layout:
    """A dataset's pairs and what was found while looking for them.

    Args:
        kind: as in the registry of datasets.
        root: the folder.
        pairs: image and mask files, in the splits' order.
        given: what mask values stand for, where the kind or a class file says so.
        options: what the loader has to be told.
        direct: whether the loader reads this layout.
        made_split: whether the loader draws train and val itself.
        notes: what the reader of the labels decided, a sentence each.
    """

    kind: str
    root: Path
    findings: Findings
    pairs: list[Pair] = field(default_factory=list)
    given: Meaning | None = None
    options: dict[str, Any] = field(default_factory=dict)
    direct: bool = True
    made_split: bool = False
    notes: tuple[str, ...] = ()

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that have pairs, in order."""
        return tuple(dict.fromkeys(pair.split for pair in self.pairs))

    @property
    def train_split(self) -> str:
        """The split to train on: the first of the usual names, else the first there is."""
        return next((name for name in TRAIN_NAMES if name in self.splits), next(iter(self.splits), "train"))

    @property
    def val_split(self) -> str:
        """The split to validate on; ``"val"`` where there is none."""
        return next((name for name in VAL_NAMES if name in self.splits), "val")


def list_pairs(root: Path, kind: str | None, meaning: Meaning | None) -> Layout:
    """Look for a dataset's pairs.

    Args:
        root: the folder.
        kind: of dataset; inferred where None.
        meaning: of mask values, in place of what the kind or a class file says.

    Raises:
        ConfigError: no such kind.
        DataError: no such folder, it cannot be read, or its kind cannot be inferred.
    """
    if not root.is_dir():
        raise DataError(f"dataset folder {root} is no folder; check the path")
    try:
        next(root.iterdir(), None)
    except OSError as error:
        raise DataError(f"dataset folder {root} cannot be read ({error.strerror}); check its rights") from error
    if kind is not None and kind not in LISTERS and kind not in recognisers:
        raise ConfigError(f"kind is {kind!r}; {did_you_mean(kind, (*LISTERS, *recognisers))}")
    kind = kind or infer_kind(root)
    layout = Layout(kind, root, Findings())
    if kind not in LISTERS:
        list_annotated(layout, meaning)
    elif kind != "folder":
        layout.given = meaning_of_kind(kind)
    if kind in LISTERS:
        LISTERS[kind](layout)
    layout.given = meaning or layout.given
    _judge_splits(layout)
    return layout


def infer_kind(root: Path) -> str:
    """Return the kind of dataset that a folder is laid out as.

    Raises:
        DataError: none that is known, or several.
    """
    own = _laid_out_as(root)
    kinds = kinds_seen(root, own)
    _refuse_foreign_names(root, kinds)
    if len(kinds) > 1 and own == "folder" and not _has_mask_files(root):
        kinds.pop("folder", None)
    if len(kinds) > 1:
        seen = "; or ".join(f"{kind} ({why})" for kind, why in kinds.items())
        raise DataError(f"{root} may be {seen}: say which with --kind, or data.name=… where it is trained on")
    if kinds:
        return next(iter(kinds))
    raise DataError(
        f"{root} is laid out as no kind that is known (a folder has images/ and masks/); name one with --kind: "
        f"{', '.join((*LISTERS, *recognisers))}"
    )


def _laid_out_as(root: Path) -> str | None:
    """Return the kind whose masks are laid out so, as far as folders' names tell."""
    if (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir():
        return "cityscapes"
    if any((home / "ImageSets" / "Segmentation").is_dir() for home in _voc_homes(root)):
        return "voc"
    annotated = (p.name.removesuffix("annot") for p in subfolders(root) if p.name.endswith("annot"))
    if (root / "LabeledApproved_full").is_dir() or any(name and (root / name).is_dir() for name in annotated):
        return "camvid"
    if any(any(p.glob("*_L.png")) for p in subfolders(root) if p.name.endswith("_labels")):
        return "camvid"
    if _two_folders(root) or _split_folders(root) or _side_by_side(root):
        return "folder"
    return None


def _refuse_foreign_names(root: Path, kinds: Iterable[str]) -> None:
    """Refuse a public dataset's layout around classes of somebody else, which reading them as its own would damage.

    Raises:
        DataError: one of the kinds is such a dataset, and a file there names other classes.
    """
    homes = [home for home in _voc_homes(root) if "voc" in kinds and (home / "ImageSets" / "Segmentation").is_dir()]
    foreign = next((file for home in homes if not is_vocs_own(home) and (file := foreign_names(home))), None)
    if "camvid" in kinds and not (root / "LabeledApproved_full").is_dir() and not is_camvids_own(root):
        foreign = foreign_names(root)
    if foreign is not None:
        raise DataError(f"{foreign} names classes of its own; give the program that wrote it with --kind, such as cvat")


def _has_mask_files(root: Path) -> bool:
    """Return whether what is called as a folder of masks holds pictures."""
    both = _two_folders(root)
    homes = [root / both[1]] if both else [masks for _, _, masks in _split_folders(root)]
    return not homes or any(map(holds_pictures, homes))


def _judge_splits(layout: Layout) -> None:
    """Find samples in two splits, and splits that are not there."""
    findings, seen = layout.findings, dict[Path, str]()
    for pair in layout.pairs:
        if seen.setdefault(pair.image, pair.split) != pair.split:
            findings.add("split-overlap", f"{shown(pair.image, layout.root)} in {seen[pair.image]} and {pair.split}")
    names = layout.splits
    if not names:
        findings.add("no-pairs", f"{printable(layout.root.name)}: {layout.kind}")
        return
    has_train, has_val = any(n in TRAIN_NAMES for n in names), any(n in VAL_NAMES for n in names)
    if not has_train:
        findings.add("no-train-split", f"splits with pairs: {', '.join(map(printable, names))}")
    if not has_val:
        findings.add("no-val-split", f"splits with pairs: {', '.join(map(printable, names))}")
    for wanted, found, there in (("train", layout.train_split, has_train), ("val", layout.val_split, has_val)):
        if there and found != wanted:
            findings.add("split-names", f"{wanted} is called {found}")


# Folder


def _first_folder(root: Path, names: Iterable[str]) -> str | None:
    """Return the folder in `root` with the first of the names, whatever its case."""
    there = {p.name.casefold(): p.name for p in subfolders(root)}
    return next((there[name.casefold()] for name in names if name.casefold() in there), None)


def _two_folders(root: Path) -> tuple[str, str] | None:
    images, masks = _first_folder(root, IMAGE_NAMES), _first_folder(root, MASK_NAMES)
    return (images, masks) if images and masks else None


def _split_folders(root: Path) -> list[tuple[str, Path, Path]]:
    """Return (split, images, masks) of a layout with a folder for each split."""
    found = []
    for place in subfolders(root):
        if place.name in (*TRAIN_NAMES, *VAL_NAMES) and (both := _two_folders(place)):
            found.append((place.name, place / both[0], place / both[1]))
    return found


def _side_by_side(root: Path) -> bool:
    """Return whether images and masks lie in `root` itself: some names occur twice, but for what is added to masks."""
    names = [p.stem for p in pictures(root, root, Findings())]
    return len({bare(name) for name in names}) < len(names)


def _list_folder(layout: Layout) -> None:
    root, findings = layout.root, layout.findings
    _read_class_file(layout)
    both = _two_folders(root)
    if both is None:
        layout.direct = False
        findings.add(
            "layout-other", ", ".join(f"{p.name}/" for p in subfolders(root)) or "images and masks in one folder"
        )
        for split, images, masks in _split_folders(root):
            _add(
                layout, split, match(pictures(images, root, findings), pictures(masks, root, findings), root, findings)
            )
        if not layout.pairs:
            _list_side_by_side(layout)
        return
    for option, name, usual in zip(("images", "masks"), both, ("images", "masks"), strict=True):
        if name != usual:
            layout.options[option] = name
    images, masks = root / both[0], root / both[1]
    if not (places := subfolders(images)):
        found = match(pictures(images, root, findings), pictures(masks, root, findings), root, findings)
        deeper_pictures(masks, root, findings)
        _add_made_split(layout, found)
        return
    for stray in (*pictures(images, root, findings), *pictures(masks, root, findings)):
        findings.add("not-read", shown(stray, root))
    for place in places:
        if place.name in UNLABELLED and not (masks / place.name).is_dir():
            continue
        deeper_pictures(place, root, findings)
        ours, theirs = pictures(place, root, findings), pictures(masks / place.name, root, findings)
        _add(layout, place.name, match(ours, theirs, root, findings))


def _list_side_by_side(layout: Layout) -> None:
    """Split the pictures of one folder into images and masks: a mask has more to its name, or is the PNG of a JPEG."""
    groups: dict[str, list[Path]] = {}
    for path in pictures(layout.root, layout.root, layout.findings):
        groups.setdefault(bare(path.stem), []).append(path)
    found = []
    for group in groups.values():
        ordered = sorted(group, key=lambda p: (len(p.stem), p.suffix.lower() == ".png"))
        if len(ordered) == 2:
            found.append((ordered[0], ordered[1]))
        else:
            for path in ordered:
                layout.findings.add("image-without-mask", shown(path, layout.root))
    _add_made_split(layout, sorted(found, key=lambda pair: natural_key(pair[0])))


def _read_class_file(layout: Layout) -> None:
    file = next((f for name in ("classes.toml", "classes.json") if (f := layout.root / name).is_file()), None)
    if file is None:
        return
    try:
        layout.given = meaning_of_file(file)
    except (DataError, OSError) as error:
        layout.findings.add("class-file", printable(str(error).replace(f"{layout.root}/", "")))


def _add(layout: Layout, split: str, pairs: Iterable[tuple[Path, Path]]) -> None:
    layout.pairs += [Pair(split, image, mask) for image, mask in pairs]


def _add_made_split(layout: Layout, pairs: list[tuple[Path, Path]]) -> None:
    """Give each pair the split that the loader would draw for it."""
    layout.made_split = True
    if len(pairs) < 2:
        _add(layout, "train", pairs)
        return
    splits = _loaders_split(layout, pairs) if layout.direct else None
    for split, part in (splits or made_split(pairs)).items():
        _add(layout, split, part)


def _loaders_split(layout: Layout, pairs: list[tuple[Path, Path]]) -> dict[str, list[tuple[Path, Path]]] | None:
    """Return the split that the loader draws, which looks at what is in the masks; None where it refuses the folder."""
    try:
        dataset = create_dataset(layout.kind, layout.root, "val", **layout.options)
    except (FeathersegError, OSError):
        return None
    val = {image for image, _ in dataset.pairs} if isinstance(dataset, FileDataset) else set[Path]()
    return {split: [pair for pair in pairs if (pair[0] in val) == (split == "val")] for split in ("train", "val")}


# Public datasets


def _voc_homes(root: Path) -> list[Path]:
    return [root, *(root / f"VOC{year}" for year in VOC_YEARS), *(root / "VOCdevkit" / f"VOC{y}" for y in VOC_YEARS)]


def _list_voc(layout: Layout) -> None:
    root, findings = layout.root, layout.findings
    home = next((h for h in reversed(_voc_homes(root)) if (h / "ImageSets" / "Segmentation").is_dir()), root)
    if home != root and home.name != "VOC2012":
        layout.options["year"] = home.name[3:]
    lists, images, masks = home / "ImageSets" / "Segmentation", home / "JPEGImages", home / "SegmentationClass"
    names = [name for name in ("train", "val") if (lists / f"{name}.txt").is_file()]
    listed: set[str] = set()
    for split in names or [p.stem for p in sorted(lists.glob("*.txt"))]:
        lines = read_list(lists / f"{split}.txt", root, findings)
        listed.update(lines)
        _add_listed(layout, split, ((line, images / f"{line}.jpg", masks / f"{line}.png") for line in lines))
    _find_unlisted(layout, pictures(images, root, findings), pictures(masks, root, findings), listed)


def _list_cityscapes(layout: Layout) -> None:
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


def _list_camvid(layout: Layout) -> None:
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
    _add(layout, split, ((images[name], masks[name]) for name in natural(images.keys() & masks.keys())))
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


Lister = Callable[[Layout], None]
LISTERS: dict[str, Lister] = {
    "folder": _list_folder,
    "voc": _list_voc,
    "cityscapes": _list_cityscapes,
    "camvid": _list_camvid,
}
