"""Making frames smaller: each pixel becomes the mean of the area that it covers, as OpenCV's INTER_AREA has it.

OpenCV takes most of the time that a frame spends before the network, except where whole numbers of pixels become one.
A loop of our own gives the same bytes but for the rounding of a sum that lies in the middle of two, several times as
quickly (``benchmarks/resize.py`` measures both).
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.types import ImageArray
from .postprocess import as_kernels_take, ready_kernels

FEWEST_TAPS = 3
"""The loop takes at least so many columns at once."""
SLIVER = 1e-3
"""Parts of a pixel that OpenCV leaves out where they are no more than this."""
Cover = tuple[NDArray[np.int64], NDArray[np.float32]]
"""First position that each pixel covers (n,), and the weights from there on (n, most), 0 after the last."""


def shrink(frame: ImageArray, size: tuple[int, int]) -> ImageArray:
    """Return an RGB frame, uint8 (H, W, 3), at a (height, width) that is smaller or equal on both sides."""
    height, width = frame.shape[:2]
    found = None if height % size[0] == width % size[1] == 0 else ready_kernels()
    if found is None:
        return np.asarray(cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    top, row_weights = cover(height, size[0])
    left, column_weights = cover(width, size[1])
    room = np.zeros(3 * (width + column_weights.shape[1]), np.float32)
    small = np.empty((*size, 3), np.uint8)
    found.average_areas(as_kernels_take(frame, np.uint8), top, row_weights, left, column_weights, room, small)
    return small


@lru_cache(maxsize=32)
def cover(source: int, target: int) -> Cover:
    """Return what of `source` positions in a row each of `target` positions covers, the weights of each adding up to 1.

    As OpenCV's ``computeResizeAreaTab`` (modules/imgproc/src/resize.cpp) has it, slivers left out likewise.
    """
    begin = np.arange(target) * (source / target)
    end = np.minimum(begin + source / target, source)
    first = np.floor(begin + SLIVER).astype(np.int64)  # a position of which only a sliver is covered is passed over
    first = np.minimum(first, source - 1)
    most = max(int(np.ceil(source / target)) + 1, FEWEST_TAPS)
    positions = first[:, None] + np.arange(most)
    covered = np.minimum(positions + 1, end[:, None]) - np.maximum(positions, begin[:, None])
    covered[covered <= SLIVER] = 0
    weights = covered / np.minimum(source / target, source - begin)[:, None]
    return first, weights.astype(np.float32)
