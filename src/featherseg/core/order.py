"""The order in which people number things: frame 2 before frame 10."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import TypeVar

P = TypeVar("P", str, Path)
Key = tuple[tuple[tuple[int, str], ...], ...]

_NUMBERS = re.compile(r"([0-9]+)")


def natural_key(name: str | PurePath) -> tuple[Key, str]:
    """Return what names are sorted by: runs of digits count as numbers, the rest as text; paths go part by part.

    >>> sorted(["f10", "f9", "f1"], key=natural_key)
    ['f1', 'f9', 'f10']
    """
    parts = name.parts if isinstance(name, PurePath) else (name,)
    return tuple(tuple(map(_weighed, _NUMBERS.split(part))) for part in parts), str(name)


def natural(names: Iterable[P]) -> list[P]:
    """Return names or paths in natural order, the same on every machine."""
    return sorted(names, key=natural_key)


def _weighed(piece: str) -> tuple[int, str]:
    """Return a piece of text as it is, and a number by its length first: it may have too many digits for an int."""
    if not piece[:1].isdigit() or not piece.isascii():
        return 0, piece
    digits = piece.lstrip("0")
    return len(digits), digits
