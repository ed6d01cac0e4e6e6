"""What a mask holds, in the eyes of a meaning: its values, and its pixels by class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..core.types import IGNORE_INDEX, MaskArray
from ..data.labels import UNKNOWN
from .meaning import Meaning
from .probe import Facts, MaskFacts, count_values
from .raw import RawMask

MIXED = 0.5
"""A mask with more unknown pixels than this is not one of these classes'."""


Seen = tuple[NDArray[np.int32], NDArray[np.int64], bool]


def seen(mask: MaskFacts, meaning: Meaning | None) -> Seen:
    """Return a mask's values, their counts and whether they are colours, as `meaning` looks at them."""
    if meaning is not None and meaning.by_palette and mask.palette is not None:
        return mask.palette, mask.counts, True
    if meaning is not None and meaning.grey_rgb and mask.colour and mask.grey:
        return mask.values & 255, mask.counts, False
    return mask.values, mask.counts, mask.colour


def snaps(mask: MaskFacts, meaning: Meaning, colour: bool) -> bool:
    """Return whether unknown values of a mask are taken for the nearest known one."""
    return meaning.snap or (mask.form == "JPEG" and meaning.can_snap(colour))


def label_counts(mask: MaskFacts, meaning: Meaning) -> NDArray[np.int64]:
    """Return pixels by label, int64 (257,): 256 stands for what is no class."""
    values, counts, colour = seen(mask, meaning)
    labels = meaning.labels(values, colour, snap=snaps(mask, meaning, colour))
    table = np.bincount(np.where(labels == UNKNOWN, 256, labels), weights=counts, minlength=257).astype(np.int64)
    if not snaps(mask, meaning, colour):  # else the values that were not kept have an owner too
        table[256] += mask.pixels - int(counts.sum())
    return table


def decode(raw: RawMask, facts: MaskFacts, meaning: Meaning) -> MaskArray:
    """Return a mask file's values as class ids, uint8 (H, W); 255 is ignored, and so is what is no class."""
    values, colour = raw.values, raw.colour
    if meaning.by_palette and raw.palette is not None:
        values, colour = raw.palette[np.clip(values, 0, IGNORE_INDEX)], True
    elif meaning.grey_rgb and colour and raw.grey:
        values, colour = values & 255, False
    found = count_values(values)[0]
    labels = meaning.labels(found, colour, snap=snaps(facts, meaning, colour)).astype(np.int64)
    labels[(labels == UNKNOWN) | (labels == meaning.classes.ignore_index)] = IGNORE_INDEX
    ids: NDArray[np.uint8] = labels.astype(np.uint8)[np.searchsorted(found, values)]
    return ids


def mask_is_image(f: Facts) -> bool:
    """Return whether a mask file holds its image, pixel for pixel."""
    return bool(f.mask.picture) and f.mask.picture == f.image.digest
