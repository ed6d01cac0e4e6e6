"""What kind of dataset a folder is, and its pairs, as far as they can be found: nothing here stops at the first error.

The layouts are those that :mod:`featherseg.data` reads, and two that it does not and a clean copy is made of: a
folder for each split with images and masks in it, and images and masks side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, DataError, FeathersegError, did_you_mean
from ..core.order import natural_key
from ..data.annotations import recognisers
from ..data.datasets import FileDataset, create_dataset
from ..data.readers.public import (
    foreign_names,
    is_camvids_own,
    is_vocs_own,
)
from ..data.splits import made_split
from .foreign import holds_pictures, kinds_seen, list_annotated
from .layout import IMAGE_NAMES, MASK_NAMES, TRAIN_NAMES, UNLABELLED, VAL_NAMES, Layout, add_pairs
from .meaning import Meaning, meaning_of_file, meaning_of_kind
from .pairing import bare, deeper_pictures, match, pictures, printable, shown, subfolders
from .public_layouts import list_camvid, list_cityscapes, list_voc, voc_homes
from .rules import Findings

NAMED = {"images", "masks"}
"""Options of a folder that say where both are."""


def list_pairs(
    root: Path, kind: str | None, meaning: Meaning | None, options: Mapping[str, Any] | None = None
) -> Layout:
    """Look for a dataset's pairs.

    Args:
        root: the folder.
        kind: of dataset; inferred where None.
        meaning: of mask values, in place of what the kind or a class file says.
        options: what the user tells the loader; with ``images`` or ``masks`` it is a folder, whatever else it may be.

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
    kind = kind or ("folder" if options and NAMED & options.keys() else infer_kind(root))
    layout = Layout(kind, root, Findings(), options=dict(options or {}))
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
        raise DataError(f"{root} may be {seen}: say which, with data.name=… to train and --kind else")
    if kinds:
        return next(iter(kinds))
    raise DataError(
        f"{root} is laid out as no kind that is known (a folder has images/ and masks/); name one, with data.name=… to "
        f"train and --kind else: {', '.join((*LISTERS, *recognisers))}"
    )


def _laid_out_as(root: Path) -> str | None:
    """Return the kind whose masks are laid out so, as far as folders' names tell."""
    if (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir():
        return "cityscapes"
    if any((home / "ImageSets" / "Segmentation").is_dir() for home in voc_homes(root)):
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
    homes = [home for home in voc_homes(root) if "voc" in kinds and (home / "ImageSets" / "Segmentation").is_dir()]
    foreign = next((file for home in homes if not is_vocs_own(home) and (file := foreign_names(home))), None)
    if "camvid" in kinds and not (root / "LabeledApproved_full").is_dir() and not is_camvids_own(root):
        foreign = foreign_names(root)
    if foreign is not None:
        raise DataError(
            f"{foreign} names classes of its own; name the program that wrote it, such as cvat, with data.name=… to "
            "train and --kind else"
        )


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


def _named_folders(layout: Layout) -> tuple[str, str] | None:
    """Return the folders that the user names, the other one of two by its usual name; None where none is named.

    Raises:
        DataError: there is none of that name.
    """
    if not NAMED & layout.options.keys():
        return None
    both = str(layout.options.get("images", "images")), str(layout.options.get("masks", "masks"))
    for option, name in zip(("images", "masks"), both, strict=True):
        if not (layout.root / name).is_dir():
            raise DataError(
                f"{layout.root / name} is no folder; set data.options.{option} to one in {layout.root}, or to an "
                "absolute path"
            )
    return both


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
    both = _named_folders(layout) or _two_folders(root)
    if both is None:
        layout.direct = False
        findings.add(
            "layout-other", ", ".join(f"{p.name}/" for p in subfolders(root)) or "images and masks in one folder"
        )
        for split, images, masks in _split_folders(root):
            add_pairs(
                layout, split, match(pictures(images, root, findings), pictures(masks, root, findings), root, findings)
            )
        if not layout.pairs:
            _list_side_by_side(layout)
        return
    for option, name, usual in zip(("images", "masks"), both, ("images", "masks"), strict=True):
        if name != usual:
            layout.options.setdefault(option, name)
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
        add_pairs(layout, place.name, match(ours, theirs, root, findings))


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
    names = (str(layout.options["classes"]),) if "classes" in layout.options else ("classes.toml", "classes.json")
    file = next((f for name in names if (f := layout.root / name).is_file()), None)
    if file is None:
        return
    try:
        layout.given = meaning_of_file(file)
    except (DataError, OSError) as error:
        layout.findings.add("class-file", printable(str(error).replace(f"{layout.root}/", "")))


def _add_made_split(layout: Layout, pairs: list[tuple[Path, Path]]) -> None:
    """Give each pair the split that the loader would draw for it."""
    layout.made_split = True
    if len(pairs) < 2:
        add_pairs(layout, "train", pairs)
        return
    splits = _loaders_split(layout, pairs) if layout.direct else None
    for split, part in (splits or made_split(pairs)).items():
        add_pairs(layout, split, part)


def _loaders_split(layout: Layout, pairs: list[tuple[Path, Path]]) -> dict[str, list[tuple[Path, Path]]] | None:
    """Return the split that the loader draws, which looks at what is in the masks; None where it refuses the folder."""
    try:
        dataset = create_dataset(layout.kind, layout.root, "val", **layout.options)
    except (FeathersegError, OSError):
        return None
    val = {image for image, _ in dataset.pairs} if isinstance(dataset, FileDataset) else set[Path]()
    return {split: [pair for pair in pairs if (pair[0] in val) == (split == "val")] for split in ("train", "val")}


Lister = Callable[[Layout], None]
LISTERS: dict[str, Lister] = {
    "folder": _list_folder,
    "voc": list_voc,
    "cityscapes": list_cityscapes,
    "camvid": list_camvid,
}
