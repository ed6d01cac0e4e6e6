"""Which picture labels mean by a name, and which split they are of: names written on another machine, found on this."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ..core.errors import DataError, FeathersegError
from ..core.images import IMAGE_SUFFIXES
from ..core.text_files import plain
from .annotations import Sample
from .splits import Contents, draw_split

MAX_DEPTH = 8
"""Folders within each other that are looked into."""
MAX_FILES = 4_000_000
"""Names that are looked at; the largest public sets have a few hundred thousand pictures."""
SPLIT_WORDS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""What people call the splits, and what they are called here."""


def walk(root: Path, depth: int = MAX_DEPTH) -> Iterator[tuple[Path, str]]:
    """Give every file below `root`, and its path below it as text, in the order of names; hidden ones are left out.

    Links are followed, since their owner made them, but no folder is entered twice.

    Raises:
        DataError: there are too many.
    """
    for folder, name, path in _walk(root, depth):
        yield folder / name, path


def _walk(root: Path, depth: int) -> Iterator[tuple[Path, str, str]]:
    """Give the folder, name, and path as text of each file; making a Path of each takes longer than finding it."""
    seen: set[tuple[int, int]] = set()
    waiting: list[tuple[Path, str, int]] = [(root, "", 0)]
    count = 0
    while waiting:
        folder, below, level = waiting.pop()
        try:
            about = folder.stat()
            if (about.st_dev, about.st_ino) in seen and about.st_ino:
                continue
            seen.add((about.st_dev, about.st_ino))
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:  # no right to look
            continue
        folders = []
        for entry in entries:
            count += 1
            if count > MAX_FILES:
                raise DataError(f"{root} holds over {MAX_FILES:,} files; name a smaller folder")
            if entry.name.startswith("."):
                continue
            path = f"{below}{entry.name}"
            if _is_folder(entry):
                folders.append((folder / entry.name, f"{path}/", level + 1))
            else:
                yield folder, entry.name, path
        if level < depth:
            waiting += reversed(folders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def files_of(root: Path, suffixes: Iterable[str], depth: int = 2) -> list[Path]:
    """Return the files below `root` with one of the suffixes (lower case), those less deep first."""
    wanted = tuple(suffixes)
    found = [path for _, _, path in _walk(root, depth) if path.lower().endswith(wanted)]
    return [root / path for path in sorted(found, key=lambda path: (path.count("/"), path))]


class Pictures:
    """All pictures below a folder, to be found by what labels call them.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self.count = 0
        for file, path in walk(root):
            if file.suffix.lower() in IMAGE_SUFFIXES:
                self._by_name[file.name].append(path)
                self.count += 1

    def find(self, name: str, near: Sequence[str] = ()) -> Path | None:
        """Return the picture that is meant, always one below the folder; None where there is none.

        Of a path that was written on another machine as much of the end counts as agrees: ``/home/eva/day1/a.jpg`` is
        ``images/day1/a.jpg`` here, and so it is with Windows' separators.

        Args:
            name: what labels call it.
            near: words that one of the folders' names on the way to it has, where several pictures are called so; the
                most telling first.

        Raises:
            DataError: several pictures could be meant.
        """
        parts = name_parts(name)
        if not parts:
            return None
        found = self._by_name.get(parts[-1], [])
        for first in range(len(parts)):
            end = "/".join(parts[first:])
            hits = [path for path in found if path == end or path.endswith(f"/{end}")]
            if hits:
                return self.root / self._nearest(hits, name, near)
        return None

    def _nearest(self, hits: list[str], name: str, near: Sequence[str]) -> str:
        for word in near:
            if len(hits) > 1:
                hits = [path for path in hits if word in _words_of(path)] or hits
        if len(hits) > 1:
            shown = " and ".join(plain(path) for path in hits[:2])
            raise DataError(f"{plain(name)} may be {shown} below {self.root}; give pictures names of their own")
        return hits[0]

    def all(self) -> list[str]:
        """Return the paths below the folder, in order."""
        return sorted(path for paths in self._by_name.values() for path in paths)


def name_parts(name: str) -> list[str]:
    """Return the parts of a path from any machine, without its root and what leads upwards."""
    plain = name.replace("\\", "/").partition("\0")[0]
    parts = [part for part in plain.split("/") if part not in ("", ".", "..")]
    return parts[1:] if parts and re.fullmatch("[A-Za-z]:", parts[0]) else parts


def _words_of(path: str) -> set[str]:
    folders = PurePosixPath(path).parts[:-1]
    return {*folders, *(word for folder in folders if (word := split_word(folder)) is not None)}


def split_word(name: str) -> str | None:
    """Return the split that a file's or folder's name speaks of: ``instances_train2017`` of ``train``."""
    for word in re.split(r"[^a-z]+", name.lower()):
        if word in SPLIT_WORDS:
            return SPLIT_WORDS[word]
    return None


def split_of(file: Path, root: Path) -> str | None:
    """Return the split that a file's name speaks of, or else a folder's on the way to it, the nearest first."""
    parts = file.relative_to(root).parts
    return next((word for part in (file.stem, *reversed(parts[:-1])) if (word := split_word(part))), None)


def settle_splits(
    found: Mapping[str | None, Sequence[Sample]], val_share: float, seed: int, classes: int = 0
) -> tuple[dict[str, tuple[Sample, ...]], tuple[str, ...]]:
    """Return splits with ``train`` and ``val`` (or ``test``) among them, drawn where the labels name none.

    Args:
        found: samples by what :func:`split_word` says of their names; None where that is nothing.
        val_share: share of ``val`` where it is drawn.
        seed: of the draw.
        classes: how many there are; where labels are read to have each of them on both sides, it is no more than this
            takes. With 0 the draw is by names alone.

    Returns:
        the splits, and what was drawn, as notes.
    """
    named = {split: tuple(samples) for split, samples in found.items() if split is not None and samples}
    if loose := tuple(found.get(None, ())):
        named["train" if "train" not in named else "other"] = loose
    train = named.get("train", ())
    if "val" in named or "test" in named or len(train) < 2:
        return _ordered(named), ()
    by_image = {sample.image: sample for sample in train}
    if len(by_image) < 2:
        return _ordered(named), ()
    images = list(by_image)
    # By their paths below what they have in common: in folders of days or patients, names occur again.
    home = os.path.commonpath([image.parent for image in images])
    names = [image.relative_to(home).with_suffix("").as_posix() for image in images]
    if len(set(names)) < len(names):  # a.jpg and a.png
        names = [image.relative_to(home).as_posix() for image in images]
    contents = label_contents([*by_image.values()], classes) if classes else None
    places = draw_split(names, val_share, seed, classes=classes, contents=contents)
    named |= {
        split: tuple(by_image[images[place]] for place in part)
        for split, part in zip(("train", "val"), places, strict=True)
    }
    note = f"the labels name no validation split: {len(named['val'])} of {len(train)} images were drawn for it"
    return _ordered(named), (note,)


def _ordered(named: Mapping[str, tuple[Sample, ...]]) -> dict[str, tuple[Sample, ...]]:
    return {name: named[name] for name in sorted(named, key=lambda n: (n != "train", n != "val", n))}


def label_contents(samples: Sequence[Sample], classes: int) -> Contents:
    """Return a function that says which of so many classes a sample's labels hold; none where they cannot be read.

    Nothing is remembered: what a file of labels means depends on the options that it is read with.
    """

    def contents(place: int) -> frozenset[int]:
        try:
            found = np.unique(samples[place].annotation.read())
        except (FeathersegError, OSError):  # said where the sample is read
            return frozenset()
        return frozenset(label for label in map(int, found) if label < classes)

    return contents
