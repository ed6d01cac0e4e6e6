"""Resizing masks so that thin things stay: taking each target pixel's nearest source pixel loses poles and wires."""

from __future__ import annotations

import cv2
import numpy as np

from ..core.types import IGNORE_INDEX, MaskArray

THIN = 0.8
"""A class that keeps less of its share than this is thinner than the pixels, and is drawn by coverage."""


def resize_mask(mask: MaskArray, size: tuple[int, int]) -> tuple[MaskArray, tuple[int, ...]]:
    """Return a mask of another size in which every class keeps about its share of the pixels.

    Most classes come out as with the nearest pixel. One that is too thin for that gets as many pixels as its share
    asks for, one at least, there where it covers most of them; the rarest is drawn last, over the others.

    Args:
        mask: ids, uint8 (H, W); 255 is ignored.
        size: height and width wanted.

    Returns:
        the resized mask, and the ids that would have lost their share.
    """
    nearest = np.array(cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
    before, after = (np.bincount(part.ravel(), minlength=256) for part in (mask, nearest))
    wanted = before / mask.size * nearest.size
    thin = [i for i in np.flatnonzero(before).tolist() if i != IGNORE_INDEX and after[i] < THIN * wanted[i] - 0.5]
    thin += [i for i in np.flatnonzero(before).tolist() if i != IGNORE_INDEX and not after[i] and i not in thin]
    flat = nearest.ravel()
    for i in sorted(thin, key=lambda i: -before[i]):
        cover = np.asarray(cv2.resize((mask == i).astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA))
        best = np.argsort(-cover.ravel(), kind="stable")[: max(1, round(wanted[i]))]
        flat[best] = i
    return nearest, tuple(sorted(thin))
