"""Which masks belong to which images by their names, where the two are not called alike.

A name is a run of words and numbers. What all images of a folder share (``training`` in ``21_training.tif``) names the
folder's kind, not the picture, and is taken out; so is one run of words of a mask's name (``manual1`` in
``21_manual1.gif``, ``lane`` in ``um_lane_000012.png``). Masks with the same run taken out are one series: one set of
labels, of which a folder may hold several.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Literal

Words = tuple[str, ...]
Key = tuple[str, Words]
"""What tells a picture from others: the folder that it shares with its mask, and the words that are its own."""

_WORDS = re.compile(r"[0-9]+|[^\W\d_]+")
FEWEST = 2
"""Images of a series of masks; one pair that fits may be chance."""


def words_of(stem: str) -> Words:
    """Return the words and numbers of a name, in lower case and one Unicode form.

    >>> words_of("Image_01L_1stHO")
    ('image', '01', 'l', '1', 'st', 'ho')
    """
    return tuple(_WORDS.findall(unicodedata.normalize("NFC", stem).casefold()))


@dataclass(frozen=True)
class Named:
    """A picture file as its names tell of it.

    Args:
        path: below the dataset's folder, with ``/``.
        home: the folder that it shares with its counterpart, however each calls it.
    """

    path: str
    home: str = ""

    @cached_property
    def stem(self) -> str:
        """Its name without suffix."""
        return PurePosixPath(self.path).stem

    @cached_property
    def words(self) -> Words:
        """The words and numbers of its name."""
        return words_of(self.stem)


@dataclass
class Series:
    """Masks that are named in one way.

    Args:
        run: the words that their names have and their images' have not.
        pairs: mask by image.
        twice: images for which there are several such masks.
    """

    run: Words
    pairs: dict[Named, Named] = field(default_factory=dict)
    twice: set[Named] = field(default_factory=set)

    def add(self, image: Named, mask: Named) -> None:
        """Add a pair; the first mask of an image counts, and another one is noted."""
        if self.pairs.setdefault(image, mask) is not mask:
            self.twice.add(image)

    def fits(self, images: Sequence[Named]) -> bool:
        """Return whether it has exactly one mask for each of the images, each another one."""
        return not self.twice and len(self.pairs) == len(images) == len(set(self.pairs.values()))


def series_of(images: Sequence[Named], masks: Sequence[Named]) -> list[Series]:
    """Match masks with images by name.

    Args:
        images: all of one kind.
        masks: files that may be masks of these, of any number of kinds.

    Returns:
        the series, those that have a mask for every image first, then by the number of their images. Of masks that
        a complete series holds there is no other.
    """
    if not images or not masks:
        return []
    done, left = list[Series](), list(masks)
    for spell in (_same, _whole, *_spells(images)):
        if not left:
            break
        found = _matched(images, left, spell)
        done += [series for series in found if series.fits(images)]
        claimed = {mask for series in done for mask in series.pairs.values()}
        left = [mask for mask in left if mask not in claimed]
    if not done:
        done += [
            series for series in (_both_sides(images, left, way) for way in (str, _number)) if series.fits(images)
        ][:1]
        claimed = {mask for series in done for mask in series.pairs.values()}
        left = [mask for mask in left if mask not in claimed]
    return done + _partial(images, left)


def _spells(images: Sequence[Named]) -> list[Spell]:
    """Return the ways to take out what all images share, or all of a folder: at the end, at the beginning, anywhere."""
    return [
        _own(images, by_home=by_home, where=where) for by_home in (False, True) for where in ("back", "front", "all")
    ]


def _partial(images: Sequence[Named], masks: Sequence[Named]) -> list[Series]:
    """Return the series that have masks for some images alone, each mask in the largest one."""
    found, left = list[Series](), set(masks)
    every = [s for spell in (_whole, *_spells(images)[3:]) for s in _matched(images, masks, spell)]
    for series in sorted(every, key=lambda s: (-len(s.pairs), len(s.run))):
        mine = {image: mask for image, mask in series.pairs.items() if mask in left}
        if len(mine) >= FEWEST:
            found.append(Series(series.run, mine, series.twice))
            left -= set(mine.values())
    return found


Where = Literal["front", "back", "all"]
Spell = Callable[[Named], tuple[Words, Words]]
"""Gives what is an image's own of its words, and what it shares with the others."""


def _same(image: Named) -> tuple[Words, Words]:
    return (image.stem,), ()


def _whole(image: Named) -> tuple[Words, Words]:
    return image.words, ()


def _own(images: Sequence[Named], *, by_home: bool, where: Where) -> Spell:
    """Return what takes the words out that all images share, or all of a folder; none where one is alone in it."""
    groups: dict[str, list[Words]] = defaultdict(list)
    for image in images:
        groups[image.home if by_home else ""].append(image.words)
    shared = {home: shared_places(group, where) for home, group in groups.items()}

    def spell(image: Named) -> tuple[Words, Words]:
        return without(image.words, shared[image.home if by_home else ""])

    return spell


Places = tuple[frozenset[int], frozenset[int]]
"""Places counted from the front, and from the back."""


def shared_places(names: Sequence[Words], where: Where = "all") -> Places:
    """Return at which places all of the names have one and the same word; nowhere, where there is one name alone."""
    if len(names) < 2:
        return frozenset(), frozenset()
    least = min(map(len, names))
    front = [i for i in range(least) if len({name[i] for name in names}) == 1]
    back = [i for i in range(least) if len({name[-1 - i] for name in names}) == 1]
    if where == "front":
        return frozenset(i for place, i in enumerate(front) if i == place), frozenset()
    if where == "back":
        return frozenset(), frozenset(i for place, i in enumerate(back) if i == place)
    return frozenset(front), frozenset(back)


def without(words: Words, shared: Places) -> tuple[Words, Words]:
    """Return the words at other places, and those at the places."""
    gone = [i in shared[0] or len(words) - 1 - i in shared[1] for i in range(len(words))]
    own = tuple(word for word, out in zip(words, gone, strict=True) if not out)
    return own, tuple(word for word, out in zip(words, gone, strict=True) if out)


def _matched(images: Sequence[Named], masks: Iterable[Named], spell: Spell) -> list[Series]:
    """Return the series of masks whose names are images' own words but for one run."""
    known: dict[Key, tuple[Named, Words] | None] = {}
    for image in images:
        own, shared = spell(image)
        key = (image.home, own)
        known[key] = None if key in known else (image, shared)  # two images of one name: of neither
    found: dict[Words, Series] = {}
    for mask in masks:
        for run, rest in [((), (mask.stem,))] if spell is _same else _runs(mask.words):
            hit = known.get((mask.home, rest))
            if hit is not None and hit[0] != mask and not _numbered_otherwise(hit[1], run):
                found.setdefault(run, Series(run)).add(hit[0], mask)
    return list(found.values())


def _runs(words: Words) -> Iterator[tuple[Words, Words]]:
    """Give every run of a name's words, none among them, and what is left without it."""
    yield (), words
    for first in range(len(words)):
        for end in range(first + 1, len(words) + (first > 0)):
            yield words[first:end], words[:first] + words[end:]


def _numbered_otherwise(ours: Words, theirs: Words) -> bool:
    """Return whether two runs are the same but for numbers: ``day1`` and ``day2`` are other pictures, not labels."""
    letters = [[word for word in run if not word[0].isdigit()] for run in (ours, theirs)]
    return ours != theirs and len(ours) == len(theirs) and letters[0] == letters[1]


def _number(word: str) -> str:
    return word.lstrip("0") or "0" if word[0].isdigit() else word


def _both_sides(images: Sequence[Named], masks: Sequence[Named], way: Callable[[str], str]) -> Series:
    """Match names whose own words are the same, what each side shares taken out of both, wherever it stands."""
    places = shared_places([image.words for image in images]), shared_places([mask.words for mask in masks])
    series = Series(without(masks[0].words, places[1])[1] if masks else ())
    by_key: dict[Key, Named] = {}
    for image in images:
        own, shared = without(image.words, places[0])
        if not _numbered_otherwise(shared, series.run):
            by_key[image.home, tuple(map(way, own))] = image
    for mask in masks:
        hit = by_key.get((mask.home, tuple(map(way, without(mask.words, places[1])[0]))))
        if hit is not None and hit != mask:
            series.add(hit, mask)
    return series


def kinds_within(files: Sequence[Named]) -> Iterator[list[Named]]:
    """Give what of the files of one folder may be all its images, the others being their masks.

    That is: files whose names no other is an addition to; all with one suffix; all that end in the same word, or begin
    with it.
    """
    given: set[frozenset[str]] = set()
    for part in (_bases(files), *_by(files, lambda f: PurePosixPath(f.path).suffix.casefold()), *_by_word(files)):
        paths = frozenset(file.path for file in part)
        if FEWEST <= len(part) < len(files) and paths not in given:
            given.add(paths)
            yield part


def _bases(files: Sequence[Named]) -> list[Named]:
    names = {(file.home, file.words) for file in files}
    return [file for file in files if not any(run and (file.home, rest) in names for run, rest in _runs(file.words))]


def _by(files: Sequence[Named], trait: Callable[[Named], str]) -> list[list[Named]]:
    groups: dict[str, list[Named]] = defaultdict(list)
    for file in files:
        groups[trait(file)].append(file)
    return [group for name, group in groups.items() if name] if len(groups) > 1 else []


def _by_word(files: Sequence[Named]) -> list[list[Named]]:
    found = []
    for place in (-1, 0):
        words = [re.split(r"[^\w]|_", file.stem.casefold()) for file in files]
        parts = [word[place].strip("0123456789") or word[place] for word in words]
        count = Counter(parts)
        table = dict(zip(files, parts, strict=True))
        found += _by(files, lambda f, table=table, count=count: table[f] if count[table[f]] >= FEWEST else "")  # type: ignore[misc]
    return found
