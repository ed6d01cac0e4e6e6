"""Images and their masks in a folder as people have it, found by names and by a look at a few files.

Images and masks lie in folders of their own, wherever in the tree (``training/images`` and ``training/1st_manual``,
``images/a`` and ``masks/a``, ``train`` and ``train_masks``), or side by side in one folder. Names are matched as
:mod:`featherseg.data.name_series` does. What is not one to one and complete, or of which there are several, is a
question to the owner, never a choice.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ..core.errors import DataError, UndecidedError
from ..core.order import natural_key
from ..core.text_files import plain
from .folder_words import (
    IMAGE_NAMES,
    MASK_NAMES,
    WILD,
    folder_of,
    folders_of,
    home_at,
    pattern_of,
    picture_files,
    place_of,
    select,
    side_of,
    unlabelled,
    word_of,
    written,
)
from .listing import split_word
from .mask_looks import are_masks, are_photographs, look, refuse_stack, sampled
from .name_series import Named, Series, kinds_within, series_of

SHOWN_PAIRS = 5
"""Pairs by which a set of masks shows itself."""
WORTH_ASKING = 0.1
"""Share of the images from which on an incomplete set of masks is worth a question."""
MOST_SIDES = 32
"""Names of folders, those with the most files below them, that may be those of the images or masks."""
FOLDERS_LOOKED_AT = 8
"""Folders of a side of which a file is looked at."""


@dataclass(frozen=True)
class Candidate:
    """Images and what may be their masks.

    Args:
        images: what the option ``images`` says to mean these; empty where nothing does.
        masks: what the option ``masks`` says.
        pairs: in natural order of the images.
        lonely: images without such a mask.
        spare: files of the masks' folders that are no masks of these images, in any naming.
    """

    images: str
    masks: str
    pairs: tuple[tuple[Named, Named], ...]
    lonely: tuple[Named, ...] = ()
    spare: int = 0

    @property
    def complete(self) -> bool:
        """Whether every image has a mask."""
        return not self.lonely

    @property
    def count(self) -> int:
        """Number of the images."""
        return len(self.pairs) + len(self.lonely)

    @property
    def options(self) -> dict[str, str]:
        """The options that mean it."""
        return {key: word for key, word in (("images", self.images), ("masks", self.masks)) if word}

    def example(self) -> str:
        """Return its first pair as text."""
        image, mask = self.pairs[0]
        return f"{plain(image.path)} + {plain(mask.path)}"


def find_pairs(root: Path, images: str = "", masks: str = "") -> Candidate:
    """Find a folder's images and masks.

    Args:
        root: the folder.
        images: which files are images, see :func:`featherseg.data.folder_words.select`; empty: all that fit.
        masks: which are masks, in the same way.

    Raises:
        UndecidedError: there are several sets of images or masks; its details list them.
        DataError: there are no pairs, or an image has no mask.
    """
    files = picture_files(root)
    found = candidates(root, files, images, masks)
    if not found:
        raise DataError(_nothing(root, files, images, masks))
    if len(found) > 1:
        raise question(root, found)
    only = found[0]
    if not only.complete:
        raise DataError(
            f"{len(only.lonely)} of {only.count} images in {root} have no mask, such as {plain(only.lonely[0].path)} "
            f"({only.example()} is how they are named); add the masks, or remove the images"
        )
    for named in only.pairs[0]:
        refuse_stack(root / named.path)
    return only


def candidates(root: Path, files: Sequence[str], images: str = "", masks: str = "") -> list[Candidate]:
    """Return every set of images and masks that a folder's picture files may be, the complete ones first.

    Args:
        root: the folder.
        files: paths of its pictures.
        images: see :func:`find_pairs`.
        masks: see :func:`find_pairs`.

    Raises:
        DataError: an option means no files.
    """
    ask = _Asked(root, files, images, masks)
    if ask.ours is not None and ask.theirs is not None:
        found = ask.of_both()
    else:
        found = ask.in_folders()
        if not any(candidate.complete for candidate in found):
            found += ask.side_by_side()
    complete = [c for c in found if c.complete]
    complete = [c for c in complete if not c.spare] or complete  # masks of other images, too, are not these images' own
    known = {name.casefold() for name in IMAGE_NAMES}
    named = [c for c in complete if PurePosixPath(c.images).name.casefold() in known]
    partial = [c for c in found if not c.complete and len(c.pairs) >= WORTH_ASKING * c.count]
    if complete:  # else a set of the few images that lie elsewhere is as good a guess as any
        usual = {c.images for c in named or complete}
        partial = [c for c in partial if c.images in usual]
    return [*(named or complete), *partial]


class _Asked:
    """A folder's files, and what the options say of them.

    Args:
        root: the folder.
        files: paths of its pictures.
        images: the option; empty where it says nothing.
        masks: the option.
    """

    def __init__(self, root: Path, files: Sequence[str], images: str, masks: str) -> None:
        self.root, self.files, self.images, self.masks = root, files, images, masks
        self.ours = set(select(root, files, images, "images")) if images else None
        self.theirs = set(select(root, files, masks, "masks")) if masks else None
        if self.ours is not None and self.theirs is not None:
            self.theirs -= self.ours

    def paths(self, named: Iterable[Named]) -> list[Path]:
        """Return the files themselves."""
        return [self.root / file.path for file in named]

    # Folders for images and for masks

    def in_folders(self) -> list[Candidate]:
        """Return the sets whose images and masks have folders of their own."""
        sides: dict[str, list[Named]] = defaultdict(list)
        for path in self.files:
            for place, part in enumerate(folders_of(path)):
                sides[side_of(part)[0]].append(Named(path, home_at(path, place)))
        found = []
        # Of a folder for each patient there are thousands, each with a few of the files.
        sides = {name: sides[name] for name in sorted(sides, key=lambda name: -len(sides[name]))[:MOST_SIDES]}
        for name, every in sides.items():
            side = [file for file in every if self._is_ours(file.path)]
            if not side or (self.ours is None and not self._holds_images(name, side)):
                continue
            homes, mine = {file.home for file in side}, {file.path for file in side}
            for there, some in sides.items():
                rest = [file for file in some if file.home in homes and self._is_theirs(file.path)]
                if there != name and rest and mine.isdisjoint(file.path for file in rest):
                    found += self._of_sides(name, side, there, rest)
        return _once(found)

    def _of_sides(self, name: str, side: list[Named], there: str, rest: list[Named]) -> list[Candidate]:
        found = []
        every = self._series(side, rest)
        spare = len(rest) - len({mask.path for series in every for mask in series.pairs.values()})
        for series in every:
            chosen = [mask.path for mask in series.pairs.values()]
            whole = set(chosen) == {file.path for file in rest}
            masks = word_of(there, chosen) if whole else pattern_of(chosen, self.files, series.run)
            images = word_of(name, [file.path for file in side])
            found.append(replace(_candidate(self.images or images, self.masks or masks, side, series), spare=spare))
        return found

    def _is_ours(self, path: str) -> bool:
        return path in self.ours if self.ours is not None else self.theirs is None or path not in self.theirs

    def _is_theirs(self, path: str) -> bool:
        if self.theirs is not None:
            return path in self.theirs
        return not written(path) and (self.ours is None or path not in self.ours)

    def _holds_images(self, name: str, side: Sequence[Named]) -> bool:
        """Return whether a side's files are photographs: as its name says, or by a look into each of its folders."""
        if name.casefold() in map(str.casefold, MASK_NAMES):
            return False
        if name.casefold() in map(str.casefold, IMAGE_NAMES):
            return True
        homes: dict[str, list[Named]] = defaultdict(list)
        for file in side:
            homes[file.home].append(file)
        each = [homes[home][0] for home in sorted(homes)[:FOLDERS_LOOKED_AT]]
        return all(are_photographs([path]) for path in self.paths(each)) and are_photographs(self.paths(side))

    def _series(self, images: Sequence[Named], masks: Sequence[Named]) -> list[Series]:
        """Return the series of masks for images; unless they are given, what holds photographs is none."""
        every = series_of(_labelled(images, masks), masks)
        return [s for s in every if self.theirs is not None or are_masks(self.paths(s.pairs.values()))]

    # Images and masks in one folder

    def side_by_side(self) -> list[Candidate]:
        """Return the sets whose images and masks lie in the same folders."""
        every = [Named(path, folder_of(path)) for path in self.files]
        masks = [file for file in every if self.theirs is not None and file.path in self.theirs]
        rest = [file for file in every if self._is_ours(file.path)]
        parts = [rest] if self.ours is not None else [*kinds_within(rest), *([rest] if masks else [])]
        found = []
        for part in parts:
            if self.ours is None and not are_photographs(self.paths(part)):
                continue
            mine = set(part)
            for series in self._series(part, masks or [file for file in every if file not in mine]):
                chosen = [mask.path for mask in series.pairs.values()]
                words = (
                    self.images or pattern_of([file.path for file in part], self.files),
                    self.masks or pattern_of(chosen, self.files, series.run),
                )
                found.append(_candidate(*words, part, series))
        most = max((len(c.pairs) for c in found if c.complete), default=0)
        claimed = {file.path for c in found if c.complete for pair in c.pairs for file in pair}
        kept = [c for c in found if c.complete and len(c.pairs) == most]
        kept += [c for c in found if not c.complete and claimed.isdisjoint(mask.path for _, mask in c.pairs)]
        return _once(kept)

    # Both are given

    def of_both(self) -> list[Candidate]:
        """Return the sets of the images and masks that the options mean, wherever these lie to each other."""
        ours, theirs = ([path for path in self.files if path in part] for part in (self.ours or (), self.theirs or ()))
        best: list[Candidate] = []
        if len(ours) == len(theirs) == 1:
            pair = Named(ours[0]), Named(theirs[0])
            return [Candidate(self.images, self.masks, (pair,))]
        for here, there in (
            (_below(ours), _below(theirs)),
            (_beside(self.images), _beside(self.masks)),
            (_splits_of, _splits_of),
            (lambda path: "", lambda path: ""),
        ):
            images, masks = [Named(path, here(path)) for path in ours], [Named(path, there(path)) for path in theirs]
            every = series_of(_labelled(images, masks), masks)
            found = []
            for series in every:
                chosen = [mask.path for mask in series.pairs.values()]
                word = self.masks if len(every) == 1 else pattern_of(chosen, self.files, series.run)
                found.append(_candidate(self.images, word, images, series))
            if any(candidate.complete for candidate in found):
                return found
            best = max(best, found, key=lambda each: max((len(candidate.pairs) for candidate in each), default=0))
        return best


Home = Callable[[str], str]


def _below(paths: Sequence[str]) -> Home:
    """Return what gives a file's folder below the one that all of the files have in common."""
    common = os.path.commonpath([folder_of(path) for path in paths]) if paths else ""
    return lambda path: PurePosixPath(folder_of(path)).relative_to(common or ".").as_posix()


def _beside(word: str) -> Home:
    """Return what gives a file's folder as both sides have it, where an option names the sides' folders."""

    def home(path: str) -> str:
        place = None if WILD.search(word) else place_of(path, word.strip("/"))
        return folder_of(path) if place is None else home_at(path, place)

    return home


def _splits_of(path: str) -> str:
    return "/".join(split for part in folders_of(path) if (split := side_of(part)[1]))


def _labelled(images: Sequence[Named], masks: Sequence[Named]) -> list[Named]:
    """Leave out the images of folders for testing in which there is no mask at all."""
    homes = {mask.home for mask in masks}
    return [image for image in images if image.home in homes or not unlabelled(image.path)]


def _candidate(images: str, masks: str, side: Sequence[Named], series: Series) -> Candidate:
    homes = {mask.home for mask in series.pairs.values()}
    pairs = {image: mask for image, mask in series.pairs.items() if image not in series.twice}
    lonely = [i for i in side if i not in pairs and (i.home in homes or not unlabelled(i.path))]
    order = sorted(pairs.items(), key=lambda pair: natural_key(PurePosixPath(pair[0].path)))
    return Candidate(images, masks, tuple(order), tuple(sorted(lonely, key=lambda i: natural_key(i.path))))


def _once(found: Iterable[Candidate]) -> list[Candidate]:
    """Return candidates, each set of pairs once: a folder within a folder gives the same ones again."""
    kept: dict[frozenset[tuple[str, str]], Candidate] = {}
    for candidate in found:
        if candidate.pairs:
            kept.setdefault(frozenset((image.path, mask.path) for image, mask in candidate.pairs), candidate)
    return list(kept.values())


# Splits


def splits_of(candidate: Candidate) -> Mapping[str, list[tuple[Named, Named]]]:
    """Return the pairs by the split that their images' folders speak of; nothing where none speaks of two."""
    named: dict[str, list[tuple[Named, Named]]] = defaultdict(list)
    for image, mask in candidate.pairs:
        parts = reversed(folders_of(image.path))
        named[next((split for part in parts if (split := split_word(part))), "")].append((image, mask))
    if loose := named.pop("", []):
        named["train" if "train" not in named else "other"] += loose
    if "train" not in named or not {"val", "test"} & named.keys():
        return {}
    return {name: named[name] for name in sorted(named, key=lambda n: (n != "train", n != "val", n))}


# What is said


def question(root: Path, found: Sequence[Candidate]) -> UndecidedError:
    """Return the question which of several sets is meant."""
    several = len({candidate.images for candidate in found}) > 1
    heads = [_setting(candidate, several) for candidate in found]
    example = next((head for head in heads if head), "data.options.masks=FOLDER")
    lines = []
    for candidate, head in zip(found, heads, strict=True):
        values = _values([root / mask.path for _, mask in candidate.pairs])
        head = head or "(no name or pattern means these alone; move them into a folder of their own)"
        lines.append(f"{head}: masks of {len(candidate.pairs)} of {candidate.count} images{values}")
        lines += [f"    {plain(image.path)} + {plain(mask.path)}" for image, mask in candidate.pairs[:SHOWN_PAIRS]]
    what = "images and masks" if several else "masks"
    return UndecidedError(
        f"{root} has {len(found)} sets of {what}, and only you know which is meant; choose one with a setting such as "
        f"{example}",
        lines,
    )


def _setting(candidate: Candidate, several: bool) -> str:
    """Return the settings that mean a candidate: that of the masks alone, where all have the same images."""
    options = candidate.options if several else {"masks": candidate.masks}
    return " ".join(f"data.options.{key}={_quoted(word)}" for key, word in options.items() if word)


def _values(masks: Sequence[Path]) -> str:
    """Return what a few masks hold, as text: a disc that is white all over is known by its shares."""
    shares: dict[str, float] = defaultdict(float)
    some = sampled(masks)
    for path in some:
        for value, share in look(path).values:
            shares[value] += share / len(some)
    order = sorted(shares, key=lambda value: -shares[value])[:4]
    return f"; {', '.join(f'{value} on {shares[value]:.0%}' for value in order)} of the pixels" if order else ""


def _quoted(word: str) -> str:
    return f"'{word}'" if re.search(r"[^\w./-]", word) else word


def _nothing(root: Path, files: Sequence[str], images: str, masks: str) -> str:
    if not files:
        return f"no pictures in {root}; check the path"
    example = f"{len(files)} pictures, such as {plain(files[0])}"
    given = " ".join(f"data.options.{key}={word}" for key, word in (("images", images), ("masks", masks)) if word)
    if given:
        return f"no image and mask in {root} belong together by their names with {given} ({example}); correct it"
    return (
        f"neither folders nor names in {root} tell images from masks ({example}); say which are which with "
        "data.options.images=… data.options.masks=…, each a folder or a pattern such as '*_mask.png'"
    )
