"""What of images' names says which belong together: a patient, a recording, a scene that was cut into tiles."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..core.text_files import shortened
from .splits import group_of

FEWEST_GROUPS = 3
"""Groups of which a share can be drawn; of two, one would be a half of the images or more."""
LARGEST_GROUP = 0.7
"""Share of the images that one group may have: what is left has to train or validate on something else."""
MANY_GROUPS = 5
"""Groups from which on the coarser key is taken: a patient rather than an eye."""
SHOWN_GROUPS = 2

_BREAK = re.compile(r"[_\-. /]+")
_PLACE = re.compile(
    r"(?:[rcxyztsfpkn]|row|col|column|slice|frame|tile|patch|crop|img|image|im|view|part|page|layer|level|scan|shot|"
    r"visit|time|aug|copy)?[0-9]*|l|r|left|right|od|os|leftimg[0-9]*bit",
    re.IGNORECASE,
)
"""Words that say which of a group's images one is: a number, a row and column, a side."""
_TILE = re.compile(r"(?:[rcxyz]|row|col|column)[0-9]+", re.IGNORECASE)
_YEAR = re.compile(r"(?:19|20)[0-9]{2}")


@dataclass(frozen=True)
class GroupKey:
    """What finds the groups of names.

    Args:
        pattern: regular expression, as ``data.options.group`` takes it.
        groups: the groups, in the order of the names.
    """

    pattern: str
    groups: tuple[str, ...]


def find_group(names: Sequence[str]) -> GroupKey | None:
    """Find what of names says which images belong together.

    That is the first words of all names, or what stands before an L or R at their end, where the rest only says which
    of a group's images one is. There have to be three groups or more, and none with most of the images.

    Args:
        names: of the images, without suffix; of those in folders of their own, with these.

    >>> find_group(["Image_01L", "Image_01R", "Image_02L", "Image_02R", "Image_03L", "Image_03R"]).pattern
    '^(.*[0-9])[LR]$'
    """
    found = [key for pattern in _patterns(names) if (key := _key(names, pattern)) is not None]
    found.sort(key=lambda key: len(key.groups))
    return next((key for key in found if len(key.groups) >= MANY_GROUPS), found[0] if found else None)


def _patterns(names: Sequence[str]) -> list[str]:
    """Return the expressions that may find groups, by how many of the first words are the group."""
    if len(names) < 2 * FEWEST_GROUPS:
        return []
    patterns = []
    words = [_BREAK.split(name) for name in names]
    for count in range(1, min(map(len, words))):
        if all(_TILE.fullmatch(parts[count - 1]) for parts in words):  # a row of tiles is no scene
            continue
        if all(all(_PLACE.fullmatch(word) for word in parts[count:]) for parts in words):
            between = re.escape(
                "".join(sorted({letter for name in names for letter in name if _BREAK.fullmatch(letter)}))
            )
            gap = f"{between}+" if len(between.lstrip("\\")) == 1 else f"[{between}]+"
            patterns.append(f"^({gap.join([f'[^{between}]+'] * count)})")
    for sides in ("LR", "lr"):
        if all(len(name) > 1 and name[-1] in sides and name[-2].isdigit() for name in names):
            patterns.append(f"^(.*[0-9])[{sides}]$")
    return patterns


def _key(names: Sequence[str], pattern: str) -> GroupKey | None:
    """Return what a pattern finds, where it makes groups of use."""
    if any(re.search(pattern, name) is None for name in names):
        return None
    keys = [group_of(name, pattern) for name in names]
    groups = tuple(dict.fromkeys(keys))
    if not FEWEST_GROUPS <= len(groups) <= len(names) * 2 // 3 or all(map(_YEAR.fullmatch, groups)):
        return None
    largest = max(map(keys.count, groups))
    return GroupKey(pattern, groups) if largest <= LARGEST_GROUP * len(names) else None


def group_note(names: Sequence[str], pattern: str) -> tuple[str, ...]:
    """Return in a sentence what a drawn split keeps together."""
    groups = list(dict.fromkeys(group_of(name, pattern) for name in names))
    shown = ", ".join(f"`{shortened(name, 30)}`" for name in groups[:SHOWN_GROUPS])
    return (
        f"{len(names)} images of {len(groups)} groups ({shown}, …): a group is never split between train and val; "
        "data.options.group names another key, or '' none",
    )
