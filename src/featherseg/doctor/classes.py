"""What the masks' values mean, from a table that is given or from what occurs, and all that is wrong with them.

The outcome is a :class:`Meaning` that reads the masks as they were meant: ids that begin at 1 are shifted, 0/255 is a
foreground, values that were smoothed are snapped. Where nothing is wrong it is what the loader uses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.types import IGNORE_INDEX, ClassSet
from ..data.labels import UNKNOWN
from ..data.readers.folder import MAX_INFERRED
from ..data.storage import colors_of_given, colors_of_votes, differ, palette_votes, usual_ids
from .meaning import APART, Meaning, unpack
from .pairing import shown
from .probe import Facts, MaskFacts
from .raw import IGNORED_COLOR, NO_COLOR
from .rules import Findings
from .seen import MIXED, mask_is_image, seen

DOMINANT = 0.002
"""Least share of the pixels of a value that stands for a class where others are damage."""
COVERED = 0.9
"""Least share of the pixels that dominant values hold, they and what lies close to them."""
DAMAGED = 0.4
"""Largest share of pixels of unknown values that smoothing leaves; more are wrong values."""
MANY = 16
"""More unknown values than this are damage, not ids that someone chose."""
SPARSE = 4
"""Smallest largest id at which gaps are told from classes that happen to be absent."""

OFTEN, OFTEN_PIXELS = 0.25, 0.005
"""Shares of the masks and of the pixels from which on a value is no slip of the pen."""
FEW = 0.5
"""Of an average class's pixels: what is unlabelled has fewer than this."""
LEFT_OVER = ("background", "other", "others", "void", "unlabelled", "unlabeled", "unknown", "ignore", "ignored", "none")
"""What people call the class of whatever is not named."""


def understand(facts: Sequence[Facts], given: Meaning | None, root: Path, findings: Findings) -> Meaning | None:
    """Find out what the masks' values mean.

    Args:
        facts: of the pairs.
        given: what the kind of dataset or a class file says.
        root: of the dataset, for the examples.
        findings: what is wrong is added here.

    Returns:
        how to read the masks as they were meant; None where that cannot be known.
    """
    if given is not None and given.sure:
        return given
    readable = [f for f in facts if f.mask.trouble is None]
    _judge_forms(readable, root, findings)
    plain = [f for f in readable if not f.mask.alpha and f.mask.form != "JPEG" and not mask_is_image(f)]
    damaged = [f for f in readable if f.mask.form == "JPEG"]
    base = given or Meaning(ClassSet(("class_0",)), {}, {})
    base = _judge_grey_rgb(plain, base, given is not None, root, findings)
    base = _judge_palettes(plain, base, given is not None, root, findings)
    meaning: Meaning | None
    if given is not None:
        meaning = _check(plain, base, root, findings)
    elif plain:
        meaning = _infer(plain, base, root, findings)
    elif damaged:
        meaning = _infer_damaged(damaged, base)
    else:
        alpha = any(f.mask.alpha for f in readable)
        meaning = Meaning.identity(ClassSet(("background", "foreground"))) if alpha else None
    for f in damaged:
        findings.add("mask-jpeg", f"{shown(f.pair.mask, root)}: {_damage(f.mask, meaning)}")
    return meaning


def _judge_forms(readable: Sequence[Facts], root: Path, findings: Findings) -> None:
    for f in readable:
        name = shown(f.pair.mask, root)
        if f.mask.alpha:
            findings.add("mask-alpha", name)
        if f.mask.floats:
            findings.add("mask-float", f"{name}: whole numbers as floats")
        elif f.mask.bits > 8 and not f.mask.alpha:
            findings.add("mask-16bit", name)
        if mask_is_image(f):
            findings.add("mask-is-image", name)


def _judge_grey_rgb(plain: Sequence[Facts], base: Meaning, given: bool, root: Path, findings: Findings) -> Meaning:
    """Find RGB masks that hold ids in all three channels; only where no other colour occurs."""
    colour = [f for f in plain if f.mask.colour]
    if not colour or not all(f.mask.grey for f in colour):
        return base
    if given and all(int(value) in base.colors for f in colour for value in f.mask.values):
        return base
    for f in colour:
        findings.add("mask-grey-as-rgb", shown(f.pair.mask, root))
    return replace(base, grey_rgb=True)


def _judge_palettes(plain: Sequence[Facts], base: Meaning, given: bool, root: Path, findings: Findings) -> Meaning:
    """Find palettes in which a colour has another id than in most files; the colours are what was meant then."""
    palettes = [f.mask for f in plain if f.mask.palette is not None]
    votes = palette_votes(
        list(zip(m.values.tolist(), m.palette.tolist(), strict=True)) for m in palettes if m.palette is not None
    )
    if not differ(votes):
        return base
    usual = usual_ids(votes)
    for f in plain:
        if f.mask.palette is not None:
            pairs = zip(f.mask.values.tolist(), f.mask.palette.tolist(), strict=True)
            if wrong := next(((v, c) for v, c in pairs if usual.get(c, v) != v), None):
                color = f"#{wrong[1]:06x}"
                text = f"{shown(f.pair.mask, root)}: {color} is {wrong[0]}, elsewhere {usual[wrong[1]]}"
                findings.add("palette-differs", text)
    if given:
        known = colors_of_given(votes, base.ids, base.colors)
        return replace(base, colors=known | {IGNORED_COLOR: base.classes.ignore_index}, by_palette=True)
    return replace(base, colors=colors_of_votes(votes), by_palette=True)


def _tally(masks: Sequence[Facts], meaning: Meaning, *, flat: bool = False) -> tuple[Counter[int], Counter[int]]:
    """Return the pixels of each id and of each colour over the masks, or of those amid pixels of nearly their value."""
    tallies: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
    for f in masks:
        values, counts, colour = seen(f.mask, meaning)
        some = f.mask.flat if flat else counts
        for value, count in zip(values.tolist(), some.tolist(), strict=True):
            tallies[colour][value] += count
    return tallies


def _check(plain: Sequence[Facts], base: Meaning, root: Path, findings: Findings) -> Meaning:
    """Compare what occurs with classes that are given."""
    classes, ids = base.classes, _tally(plain, base)[0]
    ignored = {value for value, label in base.ids.items() if label == classes.ignore_index}
    count = len(classes)
    if count == 2 and not base.states_ids and 255 in ignored and (set(ids) == {0, 255} or _white_is_one(plain)):
        base = replace(base, ids={0: base.ids.get(0, 0), 1: 1, 255: 1})
        _blame(plain, "mask-0-255", lambda f: not f.mask.colour and not f.mask.bilevel, root, findings)
    elif 0 not in ids and count in ids and count not in base.ids and max(ids.keys() - ignored) == count:
        base = replace(base, ids={value: value for value in ignored} | {i + 1: i for i in range(count)})
        _blame(plain, "ids-shifted", lambda f: not f.mask.colour, root, findings)
    elif not base.states_ids and 0 in ids and count >= 2 and count in ids and count not in base.ids:
        base = _judge_zero(plain, base, ids, root, findings)
    for colour in (False, True):
        tally = _tally(plain, base)[colour]
        unknown = [v for v in tally if v not in base.table(colour)]
        share = sum(tally[v] for v in unknown) / max(tally.total(), 1)
        if len(unknown) > MANY and share <= DAMAGED and base.can_snap(colour):
            base = replace(base, snap=True)
    for f in plain:
        _judge_values(f, base, root, findings)
    return base


def _judge_zero(plain: Sequence[Facts], base: Meaning, ids: Counter[int], root: Path, findings: Findings) -> Meaning:
    """Find out whether 0 is unlabelled where the values go up to the number of the names, as ADE20K has it.

    It is, if every value from 0 to n occurs, n in many masks, 0 on few pixels, and the first name is none for what is
    left over. Else a slip of the pen, or a class without a name, is as likely: nothing is concluded then.
    """
    classes, count = base.classes, len(base.classes)
    used = {value for value in ids if base.ids.get(value) != classes.ignore_index}
    holders = sum(count in f.mask.values for f in plain)
    often = holders >= OFTEN * len(plain) and ids[count] >= OFTEN_PIXELS * ids.total()
    few = ids[0] < FEW / (count + 1) * ids.total()
    if used == set(range(count + 1)) and often and few and classes.names[0].strip(" _").casefold() not in LEFT_OVER:
        _blame(plain, "zero-unlabelled", lambda f: not f.mask.colour, root, findings)
        ignored = {value: label for value, label in base.ids.items() if label == classes.ignore_index}
        return replace(base, ids=ignored | {0: classes.ignore_index} | {i + 1: i for i in range(count)})
    if often or used == set(range(count + 1)):
        shown_names = f"{classes.names[0]}, …, {classes.names[-1]}"
        findings.add("zero-unclear", f"{count} names ({shown_names}), and {count} in {holders} masks")
    return base


def _white_is_one(masks: Sequence[Facts]) -> bool:
    """Return whether some masks have one bit, and 255 of the others, which hold 0 and 255 alone, is what 1 is there."""
    wide = {value for f in masks if not f.mask.bilevel and not f.mask.colour for value in f.mask.values.tolist()}
    return any(f.mask.bilevel for f in masks) and wide <= {0, 255} and 255 in wide


def _judge_values(f: Facts, meaning: Meaning, root: Path, findings: Findings) -> None:
    """Find a mask's values that are no class."""
    values, counts, colour = seen(f.mask, meaning)
    foreign = meaning.labels(values, colour) == UNKNOWN
    if not foreign.any() and f.mask.distinct <= len(values):
        return
    share = 1 - int(counts[~foreign].sum()) / max(f.mask.pixels, 1)
    name = shown(f.pair.mask, root)
    if f.mask.distinct > MAX_INFERRED and share > MIXED:
        findings.add("masks-photographs", f"{name}: {f.mask.distinct} values")
    elif meaning.snap:
        findings.add("mask-antialiased", f"{name}: {share:.1%} of pixels between the classes")
    else:
        text = ", ".join(f"#{v:06x}" if colour else str(v) for v in values[foreign][:5].tolist())
        findings.add("unknown-ids", f"{name}: {text} ({share:.1%} of pixels)")


def _blame(masks: Sequence[Facts], rule: str, applies: Callable[[Facts], bool], root: Path, findings: Findings) -> None:
    for f in masks:
        if applies(f):
            findings.add(rule, shown(f.pair.mask, root))


def _infer(plain: Sequence[Facts], base: Meaning, root: Path, findings: Findings) -> Meaning | None:
    """Make classes of the values that occur, as the folder loader does where it can."""
    photographs = {id(f) for f in plain if _looks_like_photograph(f.mask)}
    for f in plain:
        if id(f) in photographs:
            findings.add("masks-photographs", f"{shown(f.pair.mask, root)}: {f.mask.distinct} values")
    masks = [f for f in plain if id(f) not in photographs]
    if not masks:
        return None
    sides: tuple[list[Facts], list[Facts]] = ([], [])
    for f in masks:
        sides[seen(f.mask, base)[2]].append(f)
    colour = len(sides[1]) > len(sides[0])
    tally = _tally(sides[colour], base)[colour]
    if colour:
        meaning = _classes_of_colors(tally, _tally(sides[1], base, flat=True)[1], base)
    else:
        meaning = _classes_of_ids(sides[0], tally, base, root, findings)
    if meaning is None:
        for f in sides[colour]:
            findings.add("masks-photographs", f"{shown(f.pair.mask, root)}: {f.mask.distinct} values")
        return None
    if sides[not colour]:
        for f in sides[not colour]:
            findings.add("masks-mixed", f"{shown(f.pair.mask, root)}: {'ids' if colour else 'colours'}")
        meaning = _with_other_side(meaning, sides, colour)
    elif colour and not base.by_palette and not meaning.snap:
        for f in sides[1]:
            findings.add("mask-colour", shown(f.pair.mask, root))
    if meaning.snap:
        for f in sides[colour]:
            values, counts, _ = seen(f.mask, meaning)
            off = 1 - int(counts[meaning.labels(values, colour) != UNKNOWN].sum()) / max(f.mask.pixels, 1)
            if off:
                text = f"{shown(f.pair.mask, root)}: {off:.1%} of pixels between the classes"
                findings.add("mask-antialiased", text)
    return meaning


def _looks_like_photograph(mask: MaskFacts) -> bool:
    """Return whether a mask has many values of which few are large areas."""
    if mask.distinct <= MAX_INFERRED:
        return False
    large = mask.counts >= DOMINANT * mask.pixels
    return int(mask.counts[large].sum()) < MIXED * mask.pixels


def _classes_of_colors(tally: Counter[int], flat: Counter[int], base: Meaning) -> Meaning | None:
    if base.by_palette:
        ordered, snap = sorted(base.colors, key=lambda color: base.colors[color]), False
        ordered += sorted(set(tally) - set(ordered) - {IGNORED_COLOR, NO_COLOR})
        names = tuple(f"class_{i}" for i in range(len(ordered)))
    else:
        snap = len(tally) > MAX_INFERRED
        chosen = dominant(flat, True) if snap else sorted(tally)
        if chosen is None:
            return None
        ordered, names = chosen, tuple(f"#{color:06x}" for color in chosen)
    colors = tuple((int(r), int(g), int(b)) for r, g, b in unpack(np.array(ordered, np.int64)))
    table = {IGNORED_COLOR: IGNORE_INDEX} | {color: i for i, color in enumerate(ordered)}
    return replace(base, classes=ClassSet(names, colors), ids={}, colors=table, snap=snap)


def _classes_of_ids(
    masks: Sequence[Facts], tally: Counter[int], base: Meaning, root: Path, findings: Findings
) -> Meaning | None:
    used = sorted(set(tally) - {IGNORE_INDEX})
    ignored = {IGNORE_INDEX: IGNORE_INDEX}
    if set(tally) == {0, 255} or _white_is_one(masks):
        _blame(masks, "mask-0-255", lambda f: not f.mask.bilevel, root, findings)
        ids = {0: 0, 255: 1} if set(tally) == {0, 255} else {0: 0, 1: 1, 255: 1}
        return replace(base, classes=ClassSet(("background", "foreground")), ids=ids, colors={})
    largest = max(used, default=0)
    if largest >= MAX_INFERRED:
        found = dominant(_tally(masks, base, flat=True)[0], False)
        if found is not None and len(tally) - len(found) > len(found):
            both = found == [0, 255]
            names = ("background", "foreground") if both else tuple(f"class_{v}" for v in found)
            return replace(base, classes=ClassSet(names), ids={v: i for i, v in enumerate(found)}, colors={}, snap=True)
        if len(used) > MAX_INFERRED:
            return None
    if largest >= SPARSE and 2 * len(used) < largest + 1:
        _blame(masks, "ids-sparse", lambda f: True, root, findings)
        classes = ClassSet(tuple(f"class_{value}" for value in used))
        return replace(base, classes=classes, ids=ignored | {value: i for i, value in enumerate(used)}, colors={})
    shift = int(len(used) >= 2 and used == list(range(1, largest + 1)))
    if shift:
        _blame(masks, "ids-shifted", lambda f: True, root, findings)
    count = largest + 1 - shift
    names = tuple(f"class_{i}" for i in range(count))
    colors = _palette_colors(masks, {i + shift: i for i in range(count)})
    classes = ClassSet(names, colors)
    ids = ignored | {i + shift: i for i in range(count)}
    return replace(base, classes=classes, ids=ids, colors=Meaning.identity(classes).colors)


def _palette_colors(masks: Sequence[Facts], ids: dict[int, int]) -> tuple[tuple[int, int, int], ...]:
    """Return a colour for each class from the masks' palettes; nothing where they do not give each its own."""
    found: dict[int, int] = {}
    for f in masks:
        if f.mask.palette is not None:
            for value, color in zip(f.mask.values.tolist(), f.mask.palette.tolist(), strict=True):
                if value in ids and color >= 0:
                    found.setdefault(ids[value], color)
    if len(found) < len(ids) or len(set(found.values())) < len(ids):
        return ()
    packed = np.array([found[i] for i in range(len(ids))], np.int64)
    return tuple((int(r), int(g), int(b)) for r, g, b in unpack(packed))


def _with_other_side(meaning: Meaning, sides: tuple[list[Facts], list[Facts]], colour: bool) -> Meaning:
    """Add what the masks of the other way of saving mean, from the palettes of those with ids."""
    pairs = {
        (value, color)
        for f in sides[0]
        if f.mask.palette is not None
        for value, color in zip(f.mask.values.tolist(), f.mask.palette.tolist(), strict=True)
        if color >= 0
    }
    if colour:
        ids = {v: meaning.colors[c] for v, c in pairs if c in meaning.colors}
        return replace(meaning, ids=ids)
    return replace(meaning, colors={c: meaning.ids[v] for v, c in pairs if v in meaning.ids})


def _infer_damaged(damaged: Sequence[Facts], base: Meaning) -> Meaning | None:
    """Make classes of JPEG masks alone, if their large areas are far enough apart."""
    tallies = _tally(damaged, base, flat=True)
    colour = tallies[1].total() > tallies[0].total()
    found = dominant(tallies[colour], colour)
    if found is None:
        return None
    if not colour:
        names = ("background", "foreground") if found[0] < APART and len(found) == 2 else None
        classes = ClassSet(names or tuple(f"class_{value}" for value in found))
        return replace(base, classes=classes, ids={value: i for i, value in enumerate(found)})
    colors = tuple((int(r), int(g), int(b)) for r, g, b in unpack(np.array(found, np.int64)))
    classes = ClassSet(tuple(f"#{color:06x}" for color in found), colors)
    return replace(base, classes=classes, colors={color: i for i, color in enumerate(found)})


def dominant(tally: Counter[int], colour: bool) -> list[int] | None:
    """Return, in order, the values that large areas have, where all others are damage around them; else None.

    Args:
        tally: pixels by value, of those in flat areas: along a smoothed border one value may be frequent too.
        colour: values are packed colours.
    """
    order = [value for value, _ in tally.most_common()]
    points = unpack(np.array(order, np.int64)) if colour else np.array(order, np.int64)[:, None]
    counts = np.array([tally[value] for value in order], np.int64)
    chosen: list[int] = []
    near = np.zeros(len(order), bool)
    for place, count in enumerate(counts):
        if count < DOMINANT * counts.sum() or len(chosen) >= MAX_INFERRED:
            break
        apart = np.abs(points - points[place]).max(axis=1)
        if all(apart[other] >= APART for other in chosen):
            chosen.append(place)
            near |= apart < APART // 2
    if len(chosen) < 2 or counts[near].sum() < COVERED * counts.sum():
        return None
    return sorted(order[place] for place in chosen)


def _damage(mask: MaskFacts, meaning: Meaning | None) -> str:
    if meaning is None:
        return f"{mask.distinct} values"
    values, counts, colour = seen(mask, meaning)
    known = meaning.labels(values, colour) != UNKNOWN
    return f"{1 - int(counts[known].sum()) / max(mask.pixels, 1):.1%} of pixels are no class"
