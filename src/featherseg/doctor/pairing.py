"""Listing folders and matching images with masks where names may be wrong; nothing here raises for a broken file."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..core.images import IMAGE_SUFFIXES
from ..data.annotations import Annotation
from ..data.readers.public import MAX_SPLIT_BYTES
from .rules import Findings

FOREIGN_SUFFIXES = frozenset(
    {".gif", ".heic", ".heif", ".avif", ".jfif", ".jp2", ".tga", ".exr", ".dng", ".psd", ".npy", ".npz", ".svg"}
)
"""Pictures and arrays that people have as images or masks, and that the loaders do not list."""

_ADDED = re.compile(r"[ _.-]+(mask|masks|label|labels|labelids|seg|segmentation|gt|annotation|l|image|img|rgb)$")
"""What programs add to a name on one side only."""


@dataclass(frozen=True)
class Pair:
    """An image and its mask, in a split.

    Args:
        split: its name.
        image: the file.
        mask: the file; where there is an annotation, only what it is called in messages.
        annotation: reads the labels, where they are no mask file.
    """

    split: str
    image: Path
    mask: Path
    annotation: Annotation | None = None


def shown(path: Path, root: Path) -> str:
    """Return a path below `root` as text that can be printed: names on disk need be neither UTF-8 nor one line."""
    with suppress(ValueError):
        path = path.relative_to(root)
    return printable(path.as_posix())


def printable(text: str) -> str:
    """Return a text whose every character can be printed."""
    clean = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in clean)


def pictures(folder: Path, root: Path, findings: Findings) -> list[Path]:
    """Return the pictures directly in `folder` in the order of their names, as the loaders list them."""
    try:
        entries = sorted(folder.iterdir())
    except PermissionError:
        findings.add("no-permission", f"{shown(folder, root)}/: permission denied")
        return []
    except OSError:
        return []
    found = []
    for path in entries:
        suffix = path.suffix.lower()
        if path.name.startswith("."):
            continue
        try:
            is_file = path.is_file()
        except OSError:
            findings.add("no-permission", shown(path, root))
            continue
        if suffix in IMAGE_SUFFIXES:
            if is_file:
                found.append(path)
            elif path.is_symlink() and not path.is_dir():
                findings.add("broken-link", f"{shown(path, root)} -> {printable(str(path.readlink()))}")
        elif suffix in FOREIGN_SUFFIXES and is_file:
            findings.add("foreign-file", shown(path, root))
    return found


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in `folder`, hidden ones left out; none where it cannot be read."""
    try:
        return sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.is_dir())
    except OSError:
        return []


def deeper_pictures(folder: Path, root: Path, findings: Findings) -> None:
    """Find the pictures below the subfolders of `folder`, where no loader looks. Links are not followed: no loops."""
    for place in (place for place in subfolders(folder) if not place.is_symlink()):
        for home, folders, names in os.walk(place):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                    findings.add("not-read", shown(Path(home) / name, root))


def match(images: Sequence[Path], masks: Sequence[Path], root: Path, findings: Findings) -> list[tuple[Path, Path]]:
    """Match images with masks by name; what the loaders would refuse or not see becomes findings.

    Returns:
        (image, mask) pairs in the order of the images' names.
    """
    by_stem = _one_a_stem(images, root, findings, prefer=""), _one_a_stem(masks, root, findings, prefer=".png")
    pairs = [(image, by_stem[1][stem]) for stem, image in by_stem[0].items() if stem in by_stem[1]]
    lonely_images = {stem: path for stem, path in by_stem[0].items() if stem not in by_stem[1]}
    lonely_masks = {stem: path for stem, path in by_stem[1].items() if stem not in by_stem[0]}
    for stem, other in _alike(lonely_images, lonely_masks):
        image, mask = lonely_images.pop(stem), lonely_masks.pop(other)
        findings.add("names-differ", f"{shown(image, root)} and {shown(mask, root)}")
        pairs.append((image, mask))
    for image in lonely_images.values():
        findings.add("image-without-mask", shown(image, root))
    for mask in lonely_masks.values():
        findings.add("mask-without-image", shown(mask, root))
    return sorted(pairs)


def _one_a_stem(files: Iterable[Path], root: Path, findings: Findings, prefer: str) -> dict[str, Path]:
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        groups[path.stem].append(path)
    kept = {}
    for stem, group in groups.items():
        kept[stem] = min(group, key=lambda path: (path.suffix.lower() != prefer, path.name))
        if len(group) > 1:
            names = ", ".join(printable(path.name) for path in group)
            findings.add("duplicate-stem", f"{shown(group[0].parent, root)}/: {names}", len(group) - 1)
    return kept


def _alike(images: Iterable[str], masks: Iterable[str]) -> list[tuple[str, str]]:
    """Return the stems that mean one another: equal but for case, Unicode form and what programs add; no doubts."""
    keys: tuple[dict[str, list[str]], dict[str, list[str]]] = (defaultdict(list), defaultdict(list))
    for side, stems in zip(keys, (images, masks), strict=True):
        for stem in stems:
            side[bare(stem)].append(stem)
    both = ((group, keys[1][key]) for key, group in keys[0].items() if key in keys[1])
    return [(ours[0], theirs[0]) for ours, theirs in both if len(ours) == len(theirs) == 1]


def bare(stem: str) -> str:
    """Return a name without case, Unicode form, and what programs add to a mask's or image's."""
    plain = unicodedata.normalize("NFC", stem).casefold().strip()
    return _ADDED.sub("", plain) or plain


def read_list(file: Path, root: Path, findings: Findings) -> list[str]:
    """Return the lines of a split list that say something, each once; damage becomes findings."""
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_SPLIT_BYTES)
    except PermissionError:
        findings.add("no-permission", shown(file, root))
        return []
    except OSError:
        return []
    if data.startswith(b"\xef\xbb\xbf"):
        findings.add("list-bom", shown(file, root))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        findings.add("list-encoding", f"{shown(file, root)}: {'UTF-16' if wide else 'not UTF-8'}")
        text = data.decode("utf-16" if wide else "latin-1", "replace")
    lines: dict[str, None] = {}
    for line in filter(None, (line.strip() for line in text.splitlines())):
        if line in lines:
            findings.add("listed-twice", f"{shown(file, root)}: {printable(line)}")
        lines[line] = None
    return list(lines)


def inside(path: Path, root: Path) -> bool:
    """Return whether a path stays below `root` by its words; links, which their owner made, may lead elsewhere."""
    return Path(os.path.normpath(path.absolute())).is_relative_to(os.path.normpath(root.absolute()))
