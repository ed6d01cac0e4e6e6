"""The share of the pixels that each class has, before and after labels are written anew: a proof that none was lost.

Whatever copies or converts labels counts them twice, from the source and from what it wrote, and compares. Where no
mask is resized the shares are equal to the pixel. Where one is, a share may move by the class's outline: each pixel
along it may fall on either side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import DataError
from ..core.formatting import percent
from ..core.types import MaskArray

NAMELESS, NAMELESS_MASKS = 0.01, 0.25
"""Pixels of values that are no class may become ignored where they are no larger a share of all pixels, or lie in no
larger a share of the masks: a slip of the pen, not a class without a name."""


def count_classes(mask: MaskArray, classes: int) -> NDArray[np.int64]:
    """Return the pixels of each class, int64 (classes,); what is ignored is not counted."""
    counts = cv2.calcHist([np.ascontiguousarray(mask)], [0], None, [256], [0, 256])
    return np.asarray(counts).ravel().astype(np.int64)[:classes]


def outline_share(mask: MaskArray, size: tuple[int, int], classes: int) -> NDArray[np.float64]:
    """Return by how much resizing a mask may move each class's share, float64 (classes,).

    Args:
        mask: ids (H, W), before it is resized.
        size: height and width afterwards.
        classes: their number.
    """
    edge = np.zeros(mask.shape, bool)
    for ours, theirs in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        apart = mask[ours] != mask[theirs]
        edge[ours] |= apart
        edge[theirs] |= apart
    scale = max(1.0, mask.shape[0] / size[0], mask.shape[1] / size[1])
    along = np.bincount(mask[edge], minlength=256)[:classes]
    slack: NDArray[np.float64] = along * scale / mask.size + 1 / (size[0] * size[1])
    return slack


@dataclass(frozen=True)
class Account:
    """A pair's labels, counted twice.

    Args:
        source: pixels of each class in the source, (classes,).
        nameless: pixels of values there that are no class.
        pixels: all pixels of the source.
        written: pixels of each class in what was written, (classes,).
        written_pixels: all pixels of it.
        slack: by how much each share may have moved, (classes,) or 0.
    """

    source: NDArray[np.int64]
    nameless: int
    pixels: int
    written: NDArray[np.int64]
    written_pixels: int
    slack: NDArray[np.float64] | float = 0.0


def check_shares(accounts: Sequence[Account], names: Sequence[str]) -> None:
    """Compare what was written with its source, over all pairs.

    Raises:
        DataError: a class is gone, a share moved by more than resizing explains, or pixels became ignored for which the
            source has a value.
    """
    weights = np.array([each.written_pixels for each in accounts], np.float64)
    sizes = np.array([each.pixels for each in accounts], np.float64)
    nameless = float((np.array([each.nameless for each in accounts]) / sizes * weights).sum() / weights.sum())
    holders = sum(each.nameless > 0 for each in accounts)
    if nameless > NAMELESS and holders > NAMELESS_MASKS * len(accounts):
        raise DataError(
            f"{percent(nameless)} % of the pixels hold values that are no class, and would become ignored; name them, "
            "or state with ignore_index that they are ignored"
        )
    source = np.array([each.source for each in accounts], np.float64) / sizes[:, None] * weights[:, None]
    slack = np.array([np.broadcast_to(each.slack, len(names)) for each in accounts]) * weights[:, None]
    before, after = source.sum(axis=0), np.sum([each.written for each in accounts], axis=0)
    for i, name in enumerate(names):
        if before[i] > 0 and not after[i]:
            raise DataError(f"class {name!r} would be gone: of its {int(before[i])} pixels none is left")
        if abs(after[i] - before[i]) > slack[:, i].sum() + 0.5:
            shares = [percent(float(part / weights.sum())) for part in (before[i], after[i])]
            raise DataError(f"class {name!r} would have {shares[1]} % of the pixels, not {shares[0]} %")
