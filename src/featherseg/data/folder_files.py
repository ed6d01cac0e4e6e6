"""The pairs of a folder by split: from ``images/`` and ``masks/``, or from wherever they are found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import DataError, UndecidedError
from ..core.formats import skipped
from ..core.images import list_images
from ..core.order import natural
from ..core.progress import logger
from .datasets import require_folder
from .folder_pairs import find_pairs, splits_of
from .folder_words import WILD
from .listing import split_word
from .mask_looks import refuse_stack

Pair = tuple[Path, Path]
IMAGES, MASKS = "images", "masks"
"""The two folders, where nobody says otherwise."""


@dataclass(frozen=True)
class FolderFiles:
    """A folder's pairs.

    Args:
        parts: image and mask files by split; where they name none, all of them as ``all``, ``train`` and ``val``.
        home: where the images lie, for messages.
        drawn: the splits are to be drawn.
        note: how names were matched, where images and masks are not called alike or lie elsewhere; else empty.
        options: what means these images and masks, where they were found.
    """

    parts: dict[str, list[Pair]]
    home: Path
    drawn: bool
    note: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def every(self) -> list[Pair]:
        """All pairs."""
        return self.parts["all"]

    def names(self) -> list[str]:
        """Return a name for each pair: of its image alone, or with its folders where names occur again."""
        return drawn_names([image for image, _ in self.every], self.home)


def drawn_names(images: Sequence[Path], home: Path) -> list[str]:
    """Return a name for each image: its own, or its path below a folder where names occur again."""
    names = [image.stem for image in images]
    if len(set(names)) == len(names):
        return names
    return [
        (image.relative_to(home) if image.is_relative_to(home) else image).with_suffix("").as_posix()
        for image in images
    ]


def is_direct(root: Path, split: str = "all", images: str = "", masks: str = "") -> bool:
    """Return whether there are the two folders, with images in the one or in a folder for each split in it.

    A folder in it is a split if its name is one that people give splits, or the one that is wanted.
    """
    images, masks = images or IMAGES, masks or MASKS
    if WILD.search(images + masks) or not ((root / images).is_dir() and (root / masks).is_dir()):
        return False
    places = [place for place in (root / images).iterdir() if place.is_dir() and not place.name.startswith(".")]
    if not places:
        return True
    named = any(split_word(place.name) or place.name == split for place in places)
    return bool(list_images(root / images)) or (named and any(map(list_images, places)))


def folder_files(root: Path, split: str = "all", images: str = "", masks: str = "") -> FolderFiles:
    """Find a folder's pairs by split.

    Args:
        root: the folder.
        split: that is wanted: one without masks matters only where it is asked for.
        images: the images' folder, or a pattern; see :func:`featherseg.data.folder_words.select`.
        masks: the masks'.

    Raises:
        UndecidedError: there are several sets of masks.
        DataError: there are no pairs, or an image has no mask.
    """
    require_folder(root, "dataset folder")
    if not is_direct(root, split, images, masks):
        return _found(root, images, masks)
    files = _direct(root, split, images, masks)
    for path in files.every[0] if files.every else ():
        refuse_stack(path)
    return files


def _direct(root: Path, split: str, images: str, masks: str) -> FolderFiles:
    image_home, mask_home = root / (images or IMAGES), root / (masks or MASKS)
    places = natural(p for p in image_home.iterdir() if p.is_dir() and not p.name.startswith("."))
    wanted = [place for place in places if place.name == split or (mask_home / place.name).is_dir()]
    for place in wanted:
        require_folder(mask_home / place.name, "masks")
    try:
        if not places:
            every = match_stems(image_home, mask_home)
            return FolderFiles({"all": every, "train": every, "val": every}, image_home, drawn=True)
        parts = {p.name: match_stems(p, mask_home / p.name) for p in wanted}
    except DataError:
        found = _matched(root, image_home, mask_home)
        if found is None or (places and split not in (*(p.name for p in wanted), "all")):
            raise
        if not places:
            return FolderFiles(dict.fromkeys(("all", "train", "val"), found.every), image_home, True, found.note)
        parts = {p.name: [pair for pair in found.every if pair[0].is_relative_to(p)] for p in wanted}
        return FolderFiles({**parts, "all": found.every}, image_home, False, found.note)
    return FolderFiles({**parts, "all": [pair for part in parts.values() for pair in part]}, image_home, drawn=False)


def _matched(root: Path, image_home: Path, mask_home: Path) -> FolderFiles | None:
    """Return the pairs of two folders whose names differ; None where they cannot be matched, for whatever reason.

    Raises:
        UndecidedError: the folder of masks holds several sets.
    """
    try:
        return _found(root, image_home.relative_to(root).as_posix(), mask_home.relative_to(root).as_posix())
    except UndecidedError:
        raise
    except (DataError, ValueError):  # of folders that lie elsewhere, too
        return None


def _found(root: Path, images: str, masks: str) -> FolderFiles:
    found = find_pairs(root, images, masks)
    parts = {
        split: [(root / image.path, root / mask.path) for image, mask in part]
        for split, part in splits_of(found).items()
    }
    every = [(root / image.path, root / mask.path) for image, mask in found.pairs]
    drawn = not parts
    if drawn:
        parts = {"train": every, "val": every}
    note = f"images and masks were matched by their names, one to one, such as {found.example()}"
    return FolderFiles({**parts, "all": every}, root, drawn, note, found.options)


def match_stems(images: Path, masks: Path) -> list[Pair]:
    """Return (image, mask) pairs of two folders in the order of their names.

    Raises:
        DataError: a folder has none, two files share a stem, or an image has no mask.
    """
    found = {}
    for what, place in (("images", images), ("masks", masks)):
        files = list_images(place)
        if others := skipped(place):
            logger.warning(f"{place}: skipped {others}, which are no formats that are read")
        if not files:
            raise DataError(f"no {what} in {place}; put .png or .jpg files there")
        stem, count = Counter(path.stem for path in files).most_common(1)[0]
        if count > 1:
            raise DataError(f"{place} holds {count} files named {stem!r}; keep one of them")
        found[what] = {path.stem: path for path in files}
    for stem, image in found["images"].items():
        if stem not in found["masks"]:
            raise DataError(f"image {image} has no mask: {masks / stem}.png does not exist; add it or remove the image")
    return [(image, found["masks"][stem]) for stem, image in found["images"].items()]
