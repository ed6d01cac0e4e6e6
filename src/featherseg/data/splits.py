"""Splits that are drawn: the same on every machine, groups whole, and every class on both sides wherever possible."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np

from ..core.errors import ConfigError, DataError, FeathersegError
from ..core.files import FileMemo
from ..core.order import natural
from ..core.text_files import shortened
from .labels import LabelTable

VAL_SHARE = 0.2
"""Share of the samples that are drawn for validation where nobody says otherwise."""
THREADS = 4

Contents = Callable[[int], Collection[int]]
"""Class ids in the mask of a sample, by its place."""

_contents: FileMemo[frozenset[int]] = FileMemo()


def draw_split(
    names: Sequence[str],
    val_share: float = VAL_SHARE,
    seed: int = 0,
    *,
    group: str = "",
    groups: Sequence[str] | None = None,
    classes: int = 0,
    contents: Contents | None = None,
) -> tuple[list[int], list[int]]:
    """Divide samples into training and validation.

    Samples come in the order of a hash of seed and name, and the first `val_share` of them validate. Where a class
    that occurs in two samples or more is missing on a side then, the first sample in that order that has it changes
    places with one that is not needed; a class of one sample is trained on.

    Args:
        names: of the samples, each another; their order does not matter.
        val_share: share to validate on, over 0 and under 1; at least one sample is on each side.
        seed: another one draws another split.
        group: regular expression that finds in a name what must stay together (a recording, a patient, a site): its
            first bracketed part, or all of it. Empty: each sample stands for itself.
        groups: in place of `group`, what each sample stays together with.
        classes: how many there may be; once a side has so many, no further sample of it is looked at.
        contents: class ids in a sample's mask; None divides by names alone.

    Returns:
        places of the training and of the validation samples, each in the order given.

    Raises:
        ConfigError: share or expression cannot be used.
        DataError: there is one sample or one group, or a name in which `group` finds nothing.
    """
    if not 0 < val_share < 1:
        raise ConfigError(f"data.options.val_share is {val_share}; it must be over 0 and under 1")
    units = _units(groups or [group_of(name, group) if group else name for name in names], seed)
    if len(units) < 2:
        what = f"one group ({group_of(names[0], group)!r})" if group and names else f"{len(names)} sample"
        raise DataError(f"{what} makes no split; add images, or validate on a folder of its own")
    target = min(max(round(len(names) * val_share), 1), len(names) - 1)
    drawn = _Draw(units, target, contents)
    if contents is not None and not drawn.holds_all(classes):
        drawn.mend()
    val = sorted(chain.from_iterable(units[unit] for unit in drawn.val))
    chosen = set(val)
    return [place for place in range(len(names)) if place not in chosen], val


def made_split(
    pairs: list[tuple[Path, Path]],
    val_share: float = VAL_SHARE,
    seed: int = 0,
    *,
    group: str = "",
    classes: int = 0,
    contents: Contents | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, list[tuple[Path, Path]]]:
    """Return ``train`` and ``val`` pairs of images and masks, drawn by the images' names; see :func:`draw_split`."""
    names = names or [image.stem for image, _ in pairs]
    train, val = draw_split(names, val_share, seed, group=group, classes=classes, contents=contents)
    return {"train": [pairs[place] for place in train], "val": [pairs[place] for place in val]}


def draw_folds(keys: Sequence[str], folds: int, seed: int = 0) -> list[int]:
    """Divide samples into folds of as equal sizes as their groups allow.

    Groups come the largest first, of equal ones in the order of a hash of seed and key, and each goes to the fold that
    has the fewest samples by then.

    Args:
        keys: of each sample; those of one key stay together.
        folds: how many, at least 2.
        seed: another one draws other folds.

    Returns:
        the fold of each sample, from 0; the same for the same keys in any order.

    Raises:
        ConfigError: there are not 2 folds or more.
        DataError: there are fewer groups than folds.
    """
    if folds < 2:
        raise ConfigError(f"folds is {folds}; give 2 or more")
    units = _units(keys, seed)
    if len(units) < folds:
        few = natural({*keys})
        named = f" ({', '.join(few)})" if len(units) < min(len(keys), 10) else ""
        raise DataError(f"{len(keys)} images in {len(units)} groups{named} make no {folds} folds; give fewer folds")
    sizes = [0] * folds
    drawn = [0] * len(keys)
    for unit in sorted(units, key=len, reverse=True):  # stable: of equal ones in the order of the hash
        fold = sizes.index(min(sizes))
        sizes[fold] += len(unit)
        for place in unit:
            drawn[place] = fold
    return drawn


def group_of(name: str, pattern: str) -> str:
    """Return what of a name `pattern` finds: the first bracketed part, or all of it.

    Raises:
        ConfigError: it is no regular expression.
        DataError: it finds nothing.
    """
    try:
        found = re.search(pattern, name)
    except re.error as error:
        raise ConfigError(f"data.options.group {pattern!r} is no regular expression ({error}); correct it") from error
    if found is None:
        shown = shortened(repr(name))
        raise DataError(f"data.options.group {pattern!r} finds nothing in the name {shown}; every name needs a group")
    return (found[1] or "") if found.re.groups else found[0]


def mask_contents(masks: Sequence[Path], table: LabelTable, classes: int) -> Contents:
    """Return a function that says which of so many classes are in a mask file; none where it cannot be read."""

    def contents(place: int) -> frozenset[int]:
        path = masks[place]
        try:
            found = _contents.get(path, lambda: frozenset(map(int, np.unique(table.read(path)))), table.key)
        except (FeathersegError, OSError):  # said where the sample is read
            return frozenset()
        return frozenset(label for label in found if label < classes)

    return contents


def _units(keys: Sequence[str], seed: int) -> list[list[int]]:
    """Return the places of what stays together, in the order of the hash."""
    groups: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)

    def rank(key: str) -> str:
        return hashlib.sha256(f"{seed}:{key}".encode("utf-8", "surrogateescape")).hexdigest()

    return [groups[key] for key in sorted(groups, key=rank)]


class _Draw:
    """Units on two sides; those that validate are in `val`.

    Args:
        units: places of samples that stay together.
        target: how many samples shall validate.
        contents: class ids of a sample.
    """

    def __init__(self, units: list[list[int]], target: int, contents: Contents | None) -> None:
        self.units, self.target, self.contents = units, target, contents
        self.val: set[int] = set()
        for unit in range(len(units)):
            if self._nearer(len(units[unit])) and len(self.val) < len(units) - 1:
                self.val.add(unit)
        if not self.val:  # every group is too large
            self.val.add(min(range(len(units)), key=lambda unit: len(units[unit])))
        self.fixed: set[int] = set()
        self.of_unit: list[frozenset[int]] = []

    def holds_all(self, classes: int) -> bool:
        """Return whether each side has so many classes, looking at no more samples than that takes."""
        return classes > 0 and all(self._reaches(side, classes) for side in (sorted(self.val), self._train()))

    def mend(self) -> None:
        """Bring the classes that a side lacks over from the other one, and something else back in their place."""
        assert self.contents is not None
        flat = list(chain.from_iterable(self.units))
        with ThreadPoolExecutor(THREADS) as pool:  # decoders release the interpreter lock
            found = dict(zip(flat, pool.map(self.contents, flat), strict=True))
        self.of_unit = [frozenset(chain.from_iterable(found[place] for place in unit)) for unit in self.units]
        count = {label: sum(label in has for has in self.of_unit) for label in frozenset[int]().union(*self.of_unit)}
        rarest_first = sorted(count, key=lambda label: (count[label], label))
        for label in rarest_first:
            if label not in self._classes(self._train()):
                self._bring(label, to_val=False)
        for label in rarest_first:
            if count[label] > 1 and label not in self._classes(self.val):
                self._bring(label, to_val=True)

    def _bring(self, label: int, *, to_val: bool) -> None:
        """Move the first unit that has a class over, unless the training samples would lose another class by that."""
        source = self._train() if to_val else sorted(self.val)
        owners = [unit for unit in source if label in self.of_unit[unit]]
        spare = [unit for unit in owners if self._spare(unit, source)]
        if not spare and to_val:
            return
        before = set(self.val), set(self.fixed)
        unit = (spare or owners)[0]
        self.val ^= {unit}
        self.fixed.add(unit)
        self._balance()
        if not self.val or len(self.val) == len(self.units):
            self.val, self.fixed = before

    def _balance(self) -> None:
        """Move units that their side can spare, until it has the number of samples it should have."""
        while True:
            large = self._size() > self.target
            source = sorted(self.val, reverse=True) if large else self._train()
            sign = -1 if large else 1
            unit = next((u for u in source if self._free(u, source) and self._nearer(sign * len(self.units[u]))), None)
            if unit is None:
                return
            self.val ^= {unit}

    def _free(self, unit: int, side: Sequence[int]) -> bool:
        return unit not in self.fixed and len(side) > 1 and self._spare(unit, side)

    def _spare(self, unit: int, side: Sequence[int]) -> bool:
        """Return whether a side has every class of a unit elsewhere too."""
        return self.of_unit[unit] <= self._classes(other for other in side if other != unit)

    def _classes(self, side: Iterable[int]) -> frozenset[int]:
        return frozenset(chain.from_iterable(self.of_unit[unit] for unit in side))

    def _reaches(self, side: Iterable[int], classes: int) -> bool:
        assert self.contents is not None
        seen: set[int] = set()
        for place in chain.from_iterable(self.units[unit] for unit in side):
            seen.update(self.contents(place))
            if len(seen) >= classes:
                return True
        return False

    def _nearer(self, change: int) -> bool:
        size = self._size()
        return abs(size + change - self.target) < abs(size - self.target)

    def _size(self) -> int:
        return sum(len(self.units[unit]) for unit in self.val)

    def _train(self) -> list[int]:
        return [unit for unit in range(len(self.units)) if unit not in self.val]
