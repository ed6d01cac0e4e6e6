"""Whether a folder's labels fit its pictures as stored or as EXIF turns them: one tool made them all, in one way.

Pictures that EXIF lays on another side tell, since their masks have one size or the other. What they tell holds for
those too of which no size can: photos turned by 180 degrees or mirrored, and square ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from .probe import SIDEWAYS, Facts

Lie = Literal["stored", "upright"]


def labels_lie(facts: Sequence[Facts]) -> Lie | None:
    """Return how the labels lie; None where nothing tells, or one picture says this and another one that."""
    seen: set[Lie] = set()
    for f in facts:
        if _usable(f) and f.image.turned in SIDEWAYS and f.image.size[0] != f.image.size[1]:
            if f.mask.size == f.image.size:
                seen.add("upright")
            elif f.mask.size == f.image.size[::-1]:
                seen.add("stored")
    return seen.pop() if len(seen) == 1 else None


def silent(f: Facts) -> bool:
    """Return whether a pair's picture is turned, and its sizes do not tell how its mask lies."""
    return _usable(f) and f.image.turned != 1 and (f.image.turned not in SIDEWAYS or f.image.size[0] == f.image.size[1])


def _usable(f: Facts) -> bool:
    return f.image.trouble is None and f.mask.trouble is None
