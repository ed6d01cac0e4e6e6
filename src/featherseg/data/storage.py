"""How a folder's mask files are stored, where one file alone does not tell what its values mean.

Two things only a look at all files shows. Drawing programs order a palette by how often its colours occur, so that an
id means different classes in different files, and the colours are what was meant. And tools that save a foreground
write 255 with eight bits but 1 with one bit, so that in a mixture 255 is the foreground too, not what is ignored.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.images import read_mask
from ..core.mask_files import palette_of
from ..core.types import IGNORE_INDEX

Used = Sequence[tuple[int, int]]
"""The values that a palette file holds, each with its colour, packed as one number."""
Votes = Mapping[int, Counter[int]]
"""How many files give a colour which id."""
WHITE = 255
WHITE_NOTE = (
    "masks hold 0 and 255, which are read as two classes: 0 as the first (background), 255 as the second (foreground)"
)
"""What a loader and the doctor say of such masks, once and alike."""


def palette_votes(files: Iterable[Used]) -> Votes:
    """Count the files that give each colour each id. Colours that a file has twice say nothing; 255 never does."""
    votes: dict[int, Counter[int]] = defaultdict(Counter)
    for used in files:
        uses = Counter(color for _, color in used)
        for value, color in used:
            if color >= 0 and uses[color] == 1 and value != IGNORE_INDEX:
                votes[color][value] += 1
    return votes


def differ(votes: Votes) -> bool:
    """Return whether a colour has one id in some files and another in others."""
    return any(len(ids) > 1 for ids in votes.values())


def usual_ids(votes: Votes) -> dict[int, int]:
    """Return the id that most files give each colour."""
    return {color: max(ids, key=lambda value: (ids[value], -value)) for color, ids in votes.items()}


def colors_of_given(votes: Votes, ids: Mapping[int, int], colors: Mapping[int, int]) -> dict[int, int]:
    """Return class ids by packed colour, for palettes that differ, where classes are given.

    Args:
        votes: of the files.
        ids: class id by mask value.
        colors: class id by packed colour, as the classes have them: taken where they are all that the files use.
    """
    if set(votes) <= set(colors):
        return dict(colors)
    return {color: ids[value] for color, value in usual_ids(votes).items() if value in ids}


def colors_of_votes(votes: Votes) -> dict[int, int]:
    """Return class ids 0, 1, … by packed colour, for palettes that differ, where no classes are given.

    The most frequent colour keeps its id, and one that would share it takes the next that is free.
    """
    usual, order = usual_ids(votes), dict[int, int]()
    for color in sorted(votes, key=lambda c: (-votes[c].total(), usual[c], c)):
        taken = set(order.values())
        order[color] = usual[color] if usual[color] not in taken else min(set(range(len(votes) + 1)) - taken)
    return {color: place for place, color in enumerate(sorted(order, key=lambda c: order[c]))}


@dataclass(frozen=True)
class Storage:
    """What a look at a folder's mask files shows.

    Args:
        votes: of palettes, where they differ in what they use; else empty.
        white: files of one bit stand beside files of eight that hold 0 and 255 alone: 255 is what 1 is there.
    """

    votes: Votes
    white: bool


def look_at(masks: Sequence[Path]) -> Storage:
    """Look at how mask files are stored: at their first bytes, and at their pixels only where those raise a doubt."""
    modes: dict[str, list[Path]] = defaultdict(list)
    palettes = set()
    for path in masks:
        mode, palette = palette_of(path)
        modes[mode].append(path)
        if mode == "P":
            palettes.add(palette)
    votes = palette_votes(map(_used, modes["P"])) if len(palettes) > 1 else {}
    white = bool(modes["1"]) and _hold_white(modes["L"])
    return Storage(votes if differ(votes) else {}, white)


def _used(path: Path) -> Used:
    mask = read_mask(path)
    if mask.palette is None:
        return []
    values = np.unique(mask.values.astype(np.int64))
    return [(int(value), pack(mask.palette[value])) for value in values if value < len(mask.palette)]


def pack(color: Iterable[int]) -> int:
    """Return an RGB colour as one number."""
    red, green, blue = (int(part) for part in color)
    return (red << 16) | (green << 8) | blue


def unpack(color: int) -> tuple[int, int, int]:
    """Return the RGB colour that was packed as one number."""
    return color >> 16, color >> 8 & 255, color & 255


def _hold_white(masks: Sequence[Path]) -> bool:
    """Return whether masks hold 0 and 255 and nothing else, and 255 somewhere."""
    found: set[int] = set()
    for path in masks:
        found |= {int(value) for value in np.unique(read_mask(path).values)}
        if found - {0, WHITE}:
            return False
    return WHITE in found
