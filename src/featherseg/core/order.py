"""Orders: that in which people number things, frame 2 before frame 10, and one that spreads what is taken first."""

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


def spread(total: int, count: int) -> list[int]:
    """Return places that are spread evenly over `total`, at most `count` of them, those far apart first.

    Wherever one stops, what was taken is spread over the whole; the same each time.
    """
    if not total:
        return []
    step = (total - 1) / max(min(count, total) - 1, 1)
    places = [round(i * step) for i in range(min(count, total))]
    # Knuth's multiplicative hash: an order that looks shuffled.
    return sorted(places, key=lambda place: place * 2654435761 % (1 << 32))


def _weighed(piece: str) -> tuple[int, str]:
    """Return a piece of text as it is, and a number by its length first: it may have too many digits for an int."""
    if not piece[:1].isdigit() or not piece.isascii():
        return 0, piece
    digits = piece.lstrip("0")
    return len(digits), digits
