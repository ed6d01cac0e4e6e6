"""One mask file per class: ``masks/road/x.png`` or ``masks/x_road.png``, each black but for its class."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from ...core.errors import DataError
from ...core.images import list_images
from ...core.text_files import shortened
from ..annotations import BACKGROUND, AnnotatedDataset, Evidence, Labels, Sample, name_classes, recognisers
from ..datasets import datasets, require_folder
from ..listing import settle_splits, split_word
from ..mask_annotations import Layers
from .coco import check_share

NO_CLASS = re.compile(r"(mask|masks|label|labels|labelids|seg|segmentation|gt|annotation|l|image|img|rgb)?[\d_.-]*")
"""Endings that name no class: what programs add to every mask, and numbers, which count instances."""
RULE = "where classes overlap, the one with fewer pixels in that image lies on top"


@datasets.register("per_class")
def per_class(
    root: Path,
    split: str = "train",
    *,
    images: str = "images",
    masks: str = "masks",
    val_share: float = 0.2,
    seed: int = 0,
) -> AnnotatedDataset:
    """Open a folder with one mask file per image and class: 0, and one other value where the class is.

    Read are ``masks/CLASS/x.png`` and ``masks/x_CLASS.png`` for ``images/x.jpg``, and both below ``images/train``,
    ``masks/train`` and so on. An image that has no file of a class holds no pixel of it; one without any is left out.

    Overlaps: the class with fewer pixels in that image lies on top. Background: what no class covers is the class
    "background", which is put before the others; where there are masks of a class "background", it is ignored instead.
    Ignored: nothing else. A file of more than two values is an error.

    Args:
        root: the folder.
        split: ``train``, ``val``, ``all`` or, where there is such a folder, ``test``.
        images: images' subfolder.
        masks: masks' subfolder.
        val_share: share of the images that is drawn for ``val`` where no folder is for validation, over 0 and under 1.
        seed: of the draw.
    """
    return per_class_labels(root, images, masks, val_share, seed).dataset(split)


@recognisers.register("per_class")
def recognise_per_class(root: Path) -> Evidence | None:
    """Know masks in a folder for each class, or names with an image's name and more than one ending."""
    image_home, mask_home = root / "images", root / "masks"
    if not image_home.is_dir() or not mask_home.is_dir():
        return None
    try:
        names = _names(_layers(image_home, mask_home))
    except OSError:  # a folder that may not be looked into
        return None
    if not names:
        return None
    seen = f"masks/ holds a mask for each class ({shortened(', '.join(names), 200)})"
    return Evidence(seen, lambda: per_class_labels(root), instead_of=("folder",))


def per_class_labels(
    root: Path, images: str = "images", masks: str = "masks", val_share: float = 0.2, seed: int = 0
) -> Labels:
    """Read all that a folder holds; see :func:`per_class`.

    Raises:
        DataError: a folder is missing, or no mask's name says image and class.
    """
    check_share(val_share)
    found = _layers(require_folder(root / images, "images"), require_folder(root / masks, "masks"))
    if not _names(found):
        raise DataError(
            f"{root / masks} has no masks of one class each: they are called CLASS/IMAGE.png or IMAGE_CLASS.png"
        )
    return layered_labels("per_class", root, found, val_share, seed)


Found = Mapping[str, Mapping[Path, list[tuple[str, Path]]]]
"""Class names and mask files, by part and image."""


def layered_labels(kind: str, root: Path, found: Found, val_share: float, seed: int) -> Labels:
    """Return labels of one mask file per class.

    Raises:
        DataError: there are too many classes, or no image has a mask.
    """
    names = _names(found)
    if not names:
        raise DataError(f"{root} holds no image with a mask; check that the folder is whole")
    own = next((name for name in names if name.casefold() in BACKGROUND), None)
    classes, ids, base = name_classes(names, background=own is None, where=root)
    samples = {
        split_word(part): [
            Sample(image, Layers(tuple((file, ids[name]) for name, file in layers), base))
            for image, layers in entries.items()
            if layers
        ]
        for part, entries in found.items()
    }
    uncovered = f"ignored, as there are masks of {own}" if own else f"the class {classes.names[base]}"
    notes = [RULE, f"what no class covers is {uncovered}"]
    if bare := sum(not layers for entries in found.values() for layers in entries.values()):
        notes.append(f"{bare} images have no mask of any class and are left out")
    splits, drawn = settle_splits(samples, val_share, seed, len(classes))
    return Labels(kind, classes, splits, (*notes, *drawn))


def _names(found: Found) -> list[str]:
    return sorted({name for entries in found.values() for layers in entries.values() for name, _ in layers})


def _folders(home: Path) -> list[Path]:
    return sorted(p for p in home.iterdir() if p.is_dir() and not p.name.startswith("."))


def _layers(images: Path, masks: Path) -> dict[str, dict[Path, list[tuple[str, Path]]]]:
    """Return the class masks of every image, by part."""
    places = {place.name: place for place in _folders(images) if split_word(place.name)}
    if not places:
        return {"": _part(images, masks)}
    return {name: _part(place, masks / name) for name, place in places.items() if (masks / name).is_dir()}


def _part(images: Path, masks: Path) -> dict[Path, list[tuple[str, Path]]]:
    """Return the class masks of the images of one folder; empty where its masks are not of one class each."""
    by_stem = {path.stem: path for path in list_images(images)}
    if folders := _folders(masks):
        named = [(place.name, path.stem, path) for place in folders for path in list_images(place)]
        fits = not list_images(masks) and not any(split_word(place.name) for place in folders)
        fits = fits and all(stem in by_stem for _, stem, _ in named)
    else:
        named = list(_by_ending(by_stem.keys(), list_images(masks)))
        fits = len({name for name, _, _ in named}) > 1
    found: dict[Path, list[tuple[str, Path]]] = {path: [] for path in by_stem.values()}
    if fits:
        for name, stem, path in named:
            found[by_stem[stem]].append((name, path))
    return found


def _by_ending(stems: Iterable[str], masks: list[Path]) -> list[tuple[str, str, Path]]:
    """Return (class, image's stem, file) of masks that are called IMAGE_CLASS; none where one of them is not."""
    known, found = set(stems), []
    for path in masks:
        cuts = [place for place, letter in enumerate(path.stem) if letter in "_-. " and path.stem[:place] in known]
        name = path.stem[cuts[-1] + 1 :] if cuts else ""
        if NO_CLASS.fullmatch(name.casefold()):
            return []
        found.append((name, path.stem[: cuts[-1]], path))
    endings: dict[str, int] = defaultdict(int)
    for name, _, _ in found:
        endings[name] += 1
    if found and all(name.startswith("class_") for name in endings):  # as RectLabel calls them
        found = [(name.removeprefix("class_"), stem, path) for name, stem, path in found]
    return found
