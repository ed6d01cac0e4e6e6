"""What folders are called, and the words by which the options ``images`` and ``masks`` mean files of a dataset."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from ..core.errors import DataError
from ..core.images import IMAGE_SUFFIXES
from .listing import SPLIT_WORDS, walk

IMAGE_NAMES = ("images", "image", "imgs", "img", "JPEGImages", "rgb", "photos", "pictures", "frames")
MASK_NAMES = ("masks", "mask", "labels", "label", "annotations", "annotation", "ann", "gt", "SegmentationClass", "seg")
"""What people call the two folders, the most common first."""
WRITTEN = frozenset(
    {"pred", "preds", "prediction", "predictions", "predicted", "out", "output", "outputs"}
    | {"overlay", "overlays", "result", "results", "run", "runs", "vis"}
)
"""Words of folders that programs write into; what lies there is no label, unless it is asked for."""
UNLABELLED = frozenset({"test", "testing", "unlabeled", "unlabelled"})
"""Words of folders whose images rightly have no masks."""
WILD = re.compile(r"[*?\[]")
"""Letters that make a pattern of a word."""


def picture_files(root: Path) -> list[str]:
    """Return the paths of all pictures below a folder."""
    return [path for _, path in walk(root) if PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES]


def folders_of(path: str) -> tuple[str, ...]:
    """Return the folders that a file below the dataset's folder lies in, the outermost first."""
    return PurePosixPath(path).parts[:-1]


def folder_of(path: str) -> str:
    """Return the path of the folder that a file lies in; ``"."`` where that is the dataset's own."""
    return PurePosixPath(path).parent.as_posix()


def side_of(folder: str) -> tuple[str, str]:
    """Return what a folder's name says but for a split, and the split: ``("masks", "train")`` of ``train_masks``."""
    words = re.split(r"([^a-zA-Z]+)", folder)
    for place, word in enumerate(words):
        if (split := SPLIT_WORDS.get(word.lower())) is not None:
            return "".join(words[:place] + words[place + 1 :]).strip(" _-."), split
    return folder, ""


def home_at(path: str, place: int) -> str:
    """Return a file's folder as both sides have it: of the folder at `place`, nothing is left but its split."""
    parts = folders_of(path)
    return "/".join((*parts[:place], f"{side_of(parts[place])[1]}*", *parts[place + 1 :]))


def place_of(path: str, word: str) -> int | None:
    """Return which of a file's folders an option means, as its name or as its path; None where it means none."""
    parts = folders_of(path)
    depth = word.count("/") + 1
    if "/".join(parts[:depth]) == word:
        return depth - 1
    return next((place for place, part in enumerate(parts) if word in (part, side_of(part)[0])), None)


def unlabelled(path: str) -> bool:
    """Return whether a file lies in a folder for testing, which may have no masks."""
    return any(word in UNLABELLED for part in folders_of(path) for word in re.split(r"[^a-z]+", part.lower()))


def written(path: str) -> bool:
    """Return whether a file lies in a folder that programs write what they have predicted into."""
    return any(word in WRITTEN for part in folders_of(path) for word in re.split(r"[^a-z]+", part.lower()))


def select(root: Path, files: Sequence[str], word: str, option: str) -> list[str]:
    """Return the files that an option means.

    Args:
        root: the dataset's folder.
        files: paths below it.
        word: a folder below `root`, the name of folders anywhere below it, or a pattern: of names, or of paths where
            it has a ``/``.
        option: its name, for messages.

    Raises:
        DataError: it means none, or leads out of the folder.
    """
    clean = word.strip("/")
    if not clean or ".." in PurePosixPath(clean).parts or Path(word).is_absolute():
        raise DataError(f"data.options.{option} is {word!r}, which is not below {root}; name a folder or pattern in it")
    if WILD.search(clean):
        found = [path for path in files if fits(path, clean)]
    elif (root / clean).is_dir():
        found = [path for path in files if path.startswith(f"{clean}/")]
    else:
        found = [p for p in files if place_of(p, clean) is not None or clean in (p, PurePosixPath(p).name)]
    if not found:
        raise DataError(
            f"data.options.{option} is {word!r}, which means no pictures in {root}; give a folder in it, an absolute "
            'path, or a pattern such as "*_mask.png"'
        )
    return found


def fits(path: str, pattern: str) -> bool:
    """Return whether a pattern means a file: its name, or the end of its path where the pattern has a ``/``."""
    if "/" not in pattern:
        return fnmatchcase(PurePosixPath(path).name, pattern)
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"*/{pattern}")


def word_of(name: str, paths: Sequence[str]) -> str:
    """Return what means all files of a side: its folder's path where there is one, else the folders' name."""
    heads = set()
    for path in paths:
        parts = folders_of(path)
        place = next(i for i, part in enumerate(parts) if side_of(part)[0] == name)
        heads.add("/".join(parts[: place + 1]))
    return heads.pop() if len(heads) == 1 else name


def pattern_of(chosen: Sequence[str], files: Sequence[str], run: Sequence[str] = ()) -> str:
    """Return a pattern that means these files and no others.

    Args:
        chosen: the files.
        files: all there are.
        run: words that the names of the chosen have in common, in lower case.

    Returns:
        the pattern; empty where none is found.
    """
    names, wanted = [PurePosixPath(path).name for path in chosen], set(chosen)
    begin, ending = _beginning(names), _beginning([name[::-1] for name in names])[::-1]
    ends = [ending[m.start() :] for m in reversed(list(re.finditer(r"[_\-. ]", ending)))]
    starts = [begin[: m.end()] for m in re.finditer(r"[_\-. ]", begin)] or [begin.rstrip("0123456789")]
    tries = [f"*{end}" for end in ends]
    if len(run) == 1 and (word := re.search(run[0], names[0], re.IGNORECASE)):
        tries += [f"*{between}{word[0]}{between}*" for between in "_-. "]
    tries += [f"{start}*" for start in starts if start]
    tries += [f"{start}*{end}" for start in starts for end in ends if start]
    folder = os.path.commonpath([folder_of(path) for path in chosen])
    for word_tried in (*tries, *(f"{folder}/{each}" for each in tries if folder not in ("", "."))):
        if not re.search(r"[?\[]", word_tried) and {path for path in files if fits(path, word_tried)} == wanted:
            return word_tried
    return ""


def _beginning(names: Sequence[str]) -> str:
    """Return the letters that all names begin with."""
    least, most = min(names), max(names)
    return least[: next((i for i, letter in enumerate(least) if letter != most[i]), len(least))]
