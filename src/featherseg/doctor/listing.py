"""What kind of dataset a folder is, and its pairs, as far as they can be found: nothing here stops at the first error.

The layouts are those that :mod:`featherseg.data` reads, and two that it reads only where nothing is missing, and a
clean copy is made of else: a folder for each split with images and masks in it, and images and masks side by side.
Several sets of masks are the one thing that stops it: only the folder's owner knows which is meant.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, DataError, FeathersegError, UndecidedError, did_you_mean
from ..core.order import natural_key
from ..data.annotations import recognisers
from ..data.datasets import FileDataset, create_dataset, datasets
from ..data.folder_files import FolderFiles, drawn_names, folder_files, is_direct
from ..data.folder_pairs import candidates, question
from ..data.folder_words import IMAGE_NAMES, MASK_NAMES, picture_files
from ..data.groups import find_group, group_note
from ..data.mask_looks import refuse_stack
from ..data.readers.folder import cityscapes_of_names
from ..data.readers.public import (
    CITYSCAPES_CLASSES,
    foreign_names,
    is_camvids_own,
    is_vocs_own,
)
from ..data.splits import made_split
from .foreign import holds_pictures, kinds_seen, list_annotated
from .layout import TRAIN_NAMES, UNLABELLED, VAL_NAMES, Layout, add_pairs
from .meaning import Meaning, meaning_of_file, meaning_of_kind
from .pairing import bare, deeper_pictures, match, pictures, printable, shown, subfolders
from .public_layouts import list_camvid, list_cityscapes, list_voc, voc_homes
from .rules import Findings

NAMED = {"images", "masks"}
"""Options of a folder that say which files are which."""


STACKS = 20
"""Pictures of a folder that is laid out as no kind of which it is looked whether they are stacks."""


def list_pairs(
    root: Path, kind: str | None, meaning: Meaning | None, options: Mapping[str, Any] | None = None
) -> Layout:
    """Look for a dataset's pairs.

    Args:
        root: the folder.
        kind: of dataset; inferred where None.
        meaning: of mask values, in place of what the kind or a class file says.
        options: of the loader's, as the user gives them: ``images`` and ``masks`` say which files are which.

    Raises:
        ConfigError: no such kind.
        UndecidedError: the folder has several sets of masks.
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
    kind = kind or _kind_with(root, options or {})
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


def _kind_with(root: Path, options: Mapping[str, Any]) -> str:
    """Return the kind of a folder; where options say which files are which, it has to be one that takes them."""
    named = NAMED & options.keys()
    if not named:
        return infer_kind(root)
    try:
        kind = infer_kind(root)
    except DataError:
        return "folder"
    return kind if named <= inspect.signature(datasets.get(kind)).parameters.keys() else "folder"


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
    for path in picture_files(root)[:STACKS]:
        refuse_stack(root / path)
    raise DataError(
        f"{root} is laid out as no kind that is known (a folder has images/ and masks/); say which files are which "
        "with data.options.images=… data.options.masks=…, or name a kind, with data.name=… to train and --kind else: "
        f"{', '.join((*LISTERS, *recognisers))}"
    )


def _laid_out_as(root: Path) -> str | None:
    """Return the kind whose masks are laid out so, as far as folders' names tell."""
    if (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir():
        towns = (place for split in subfolders(root / "leftImg8bit") for place in subfolders(split))
        return "cityscapes" if next(towns, None) else "folder"
    if any((home / "ImageSets" / "Segmentation").is_dir() for home in voc_homes(root)):
        return "voc"
    annotated = (p.name.removesuffix("annot") for p in subfolders(root) if p.name.endswith("annot"))
    if (root / "LabeledApproved_full").is_dir() or any(name and (root / name).is_dir() for name in annotated):
        return "camvid"
    if any(any(p.glob("*_L.png")) for p in subfolders(root) if p.name.endswith("_labels")):
        return "camvid"
    if _two_folders(root) or _split_folders(root) or _side_by_side(root):
        return "folder"
    return "folder" if candidates(root, picture_files(root)) else None


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
    if NAMED & layout.options.keys():
        images, masks = (str(layout.options.get(option, option)) for option in ("images", "masks"))
        both = (images, masks) if is_direct(root, "all", images, masks) else None
    elif (both := _two_folders(root)) is not None:
        _refuse_several(root, both)
    if (both is None or not is_direct(root, "all", *both)) and _list_found(layout):
        return
    if both is None:
        layout.direct = False
        findings.add(
            "layout-other", ", ".join(f"{p.name}/" for p in subfolders(root)) or "images and masks in one folder"
        )
        for split, *homes in _split_folders(root):
            ours, theirs = (pictures(home, root, findings) for home in homes)
            add_pairs(layout, split, match(ours, theirs, root, findings))
        if not layout.pairs:
            _list_side_by_side(layout)
        if not layout.pairs:
            _list_incomplete(layout)
        return
    for option, name, usual in zip(("images", "masks"), both, ("images", "masks"), strict=True):
        if name != usual:
            layout.options.setdefault(option, name)
    image_home, mask_home = root / both[0], root / both[1]
    named = _named_otherwise(layout)
    if not (places := subfolders(image_home)):
        ours, theirs = pictures(image_home, root, findings), pictures(mask_home, root, findings)
        found = named.every if named else match(ours, theirs, root, findings)
        deeper_pictures(mask_home, root, findings)
        _add_made_split(layout, found)
        return
    for stray in (*pictures(image_home, root, findings), *pictures(mask_home, root, findings)):
        findings.add("not-read", shown(stray, root))
    for place in places:
        if place.name in UNLABELLED and not (mask_home / place.name).is_dir():
            continue
        deeper_pictures(place, root, findings)
        ours, theirs = pictures(place, root, findings), pictures(mask_home / place.name, root, findings)
        found = named.parts.get(place.name, []) if named else match(ours, theirs, root, findings)
        add_pairs(layout, place.name, found)


def _refuse_several(root: Path, both: tuple[str, str]) -> None:
    """Refuse to choose one of several folders of masks that all fit the images.

    Raises:
        UndecidedError: there are several.
    """
    every = candidates(root, picture_files(root), images=both[0])
    if len(complete := [candidate for candidate in every if candidate.complete]) > 1:
        raise question(root, complete)


def _list_found(layout: Layout) -> bool:
    """Add the pairs that the loader finds by names, wherever they lie; return whether it finds any.

    Raises:
        UndecidedError: there are several sets of masks.
        DataError: the user says which files are masks, and they do not fit.
    """
    root, options = layout.root, layout.options
    images, masks = str(options.get("images", "")), str(options.get("masks", ""))
    try:
        files = folder_files(root, "all", images, masks)
    except UndecidedError:
        raise
    except DataError as error:
        if images or masks:
            raise
        layout.refusal = str(error)
        return False
    layout.notes = (files.note,) if files.note else ()
    layout.options |= files.options
    if layout.given is None and cityscapes_of_names([mask for _, mask in files.every]):
        trained = files.every[0][1].stem.endswith("TrainIds")
        layout.given = Meaning.identity(CITYSCAPES_CLASSES) if trained else meaning_of_kind("cityscapes")
    if files.drawn:
        _add_made_split(layout, files.every)
        return True
    for split, part in files.parts.items():
        if split != "all":
            add_pairs(layout, split, part)
    return True


def _list_incomplete(layout: Layout) -> None:
    """Add the pairs of images of which some have no mask, where there is one way to match the others."""
    if len(found := candidates(layout.root, picture_files(layout.root))) == 1:
        layout.findings = Findings()  # what was said of images and masks side by side
        layout.findings.add("layout-other", found[0].example())
        for image in found[0].lonely:
            layout.findings.add("image-without-mask", printable(image.path))
        _add_made_split(layout, [(layout.root / i.path, layout.root / m.path) for i, m in found[0].pairs])


def _named_otherwise(layout: Layout) -> FolderFiles | None:
    """Return the loader's pairs where images and masks are not called alike, and it matches them nevertheless.

    Raises:
        UndecidedError: the folder of masks holds several sets.
    """
    options = layout.options
    try:
        files = folder_files(layout.root, "all", options.get("images", ""), options.get("masks", ""))
    except UndecidedError:
        raise
    except (DataError, OSError):
        return None
    layout.notes = (files.note,) if files.note else ()
    return files if files.note else None


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
    names = drawn_names([image for image, _ in pairs], layout.root)
    if layout.direct and "group" not in layout.options and (key := find_group(names)):
        layout.options["group"] = key.pattern
    if layout.direct and (pattern := layout.options.get("group")):
        layout.notes += group_note(names, pattern)
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
