"""What a network's probabilities say of an image: how unsure it is, and what is to be seen where."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.types import ImageArray

FloatArray = NDArray[np.float32]

GRID = (4, 6)
"""Rows and columns of the layout: an image of two is in the same place of a street only if halves and thirds agree."""
BAND_PIXELS = 1 << 18
"""Pixels whose probabilities are looked at at once."""


@dataclass(frozen=True, eq=False)
class Look:
    """What a network says of an image.

    Args:
        entropy: mean over the pixels of the probabilities' entropy, as a share of the largest possible; 0–1.
        margin: mean of one minus the lead of the likeliest class over the next; 0–1.
        sure: share of the pixels that are sure enough to be labelled; 0–1.
        layout: square root of each class's mean probability in each cell of a grid, float32 (C · cells,): distances of
            such vectors are Hellinger's.
        colors: mean colour of each cell, 0–1, float32 (3 · cells,).
    """

    entropy: float
    margin: float
    sure: float
    layout: FloatArray
    colors: FloatArray

    def to_dict(self) -> dict[str, Any]:
        """Return what :meth:`from_dict` reads, of JSON types only; vectors are rounded to float16."""
        numbers = {"entropy": self.entropy, "margin": self.margin, "sure": self.sure}
        return numbers | {"layout": _packed(self.layout), "colors": _packed(self.colors)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Look:
        """Rebuild it from what :meth:`to_dict` gave.

        Raises:
            KeyError, TypeError, ValueError: it is no such thing.
        """
        entropy, margin, sure = (float(data[key]) for key in ("entropy", "margin", "sure"))
        return cls(entropy, margin, sure, _unpacked(data["layout"]), _unpacked(data["colors"]))


def look_at(image: ImageArray, probabilities: FloatArray, sure: float) -> Look:
    """Return what probabilities, float32 (C, H, W), say of an image, uint8 (H, W, 3); `sure` is taken as it is.

    A pixel of which the network says nothing, since its logits are no numbers, has probabilities 0 and counts as one of
    which it is sure of nothing.
    """
    classes, height, width = probabilities.shape
    entropy = margin = 0.0
    for rows in _bands(height, width):
        part = probabilities[:, rows].reshape(classes, -1)
        said = part.sum(axis=0) > 0
        unsaid = int(said.size - np.count_nonzero(said))
        entropy += float(-(part * np.log(np.maximum(part, 1e-12))).sum(dtype=np.float64)) + unsaid * math.log(classes)
        if classes > 1:
            best = np.partition(part, classes - 2, axis=0)[-2:]
            margin += float((1 - (best[1] - best[0])).sum(dtype=np.float64))
    pixels = height * width
    layout = np.sqrt(_pooled(probabilities))
    colors = _pooled(np.asarray(cv2.resize(image, (48, 32), interpolation=cv2.INTER_AREA)).transpose(2, 0, 1)) / 255
    return Look(
        entropy / pixels / math.log(max(classes, 2)),
        margin / pixels,
        sure,
        layout.ravel().astype(np.float32),
        colors.ravel().astype(np.float32),
    )


def _bands(height: int, width: int) -> Iterator[slice]:
    rows = max(1, BAND_PIXELS // width)
    return (slice(first, first + rows) for first in range(0, height, rows))


def _pooled(maps: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean of maps (C, H, W) in each cell of the grid, (C, rows, columns)."""
    cells = maps.astype(np.float64) if maps.dtype == np.uint8 else maps
    for axis, count in ((1, GRID[0]), (2, GRID[1])):
        size = cells.shape[axis]
        starts = np.arange(count) * size // count
        ends = np.maximum((np.arange(count) + 1) * size // count, starts + 1)  # of images with fewer pixels than cells
        mean: Callable[..., Any] = np.mean
        parts = [mean(np.take(cells, range(s, e), axis=axis), axis=axis) for s, e in zip(starts, ends, strict=True)]
        cells = np.stack(parts, axis=axis)
    return np.asarray(cells, np.float64)


def _packed(vector: FloatArray) -> str:
    return base64.b64encode(vector.astype("<f2").tobytes()).decode("ascii")


def _unpacked(text: str) -> FloatArray:
    vector: FloatArray = np.frombuffer(base64.b64decode(text, validate=True), "<f2").astype(np.float32)
    if not np.isfinite(vector).all():
        raise ValueError("a vector holds no numbers")
    return vector
