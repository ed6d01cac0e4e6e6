"""How sure a mask is: the probability of the class that won at each pixel, without ever making full-size logits.

It is the softmax of the logits resized bilinearly as :mod:`.postprocess` does it, divided by a temperature first. A
network's own probabilities are mostly too high; the temperature that makes them right on labelled images is fitted by
:mod:`featherseg.evaluation.calibration` and travels with the exported file. There may be one temperature for each class
that can win. Whichever it is, it divides all logits of a pixel, so that the class that wins stays the same, and its
probability is the largest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError
from .postprocess import (
    CONFIDENCE_KERNELS,
    Axis,
    FloatArray,
    IndexArray,
    Layout,
    cell_bounds,
    in_bands,
    kernels,
    prepare,
    upsample_argmax,
)

LOG2_E = math.log2(math.e)
BAND_PIXELS = 1 << 15
"""Pixels that NumPy computes at once: a band of rows whose probabilities stay in the processor's cache."""

Temperature = float | Sequence[float]
"""One for all pixels, or one for each class that can win."""


def upsample_confidence(
    logits: NDArray[Any],
    size: tuple[int, int],
    *,
    temperature: Temperature = 1.0,
    extent: tuple[float, float] | None = None,
    layout: Layout = "chw",
    threads: int = 1,
) -> tuple[NDArray[Any], FloatArray]:
    """Return the mask that :func:`.upsample_argmax` does, and the probability of the class that won at each pixel.

    The probability is right to 1e-6, beside what rounding of the interpolated logits makes of it, which is in torch as
    much. It is 0 where no class wins, since no logit there is a finite number.

    Args:
        logits: see :func:`.upsample_argmax`; so are `size`, `extent`, `layout` and `threads`.
        size: (height, width) of the mask.
        temperature: what logits are divided by: one for all pixels, or one for each class that can win.
        extent: how many of the logits the mask covers.
        layout: ``"hwc"`` for logits (h, w, C).
        threads: threads that share the rows.

    Returns:
        class ids and probabilities, float32 from 0 to 1, both (height, width).

    Raises:
        ConfigError: an argument is none of these.
    """
    mask = upsample_argmax(logits, size, extent=extent, layout=layout, threads=threads)
    maps, _, rows, columns = prepare(logits, size, extent, layout)
    scales = scales_of(temperature, len(maps))
    confidence = np.empty(size, np.float32)
    found = kernels(name=CONFIDENCE_KERNELS) if mask.dtype == np.uint8 else None
    if found is None:
        for band in _bands(size):
            np.max(_shares(maps, rows, columns, band, scales[mask[band]]), axis=0, out=confidence[band])
        return mask, confidence
    _, height, width = maps.shape
    cells = cell_bounds(rows[0], height), rows[1], cell_bounds(columns[0], width), columns[1]
    in_bands(
        threads,
        height,
        lambda first, last: found.fill_confidence(maps, *cells, first, last, scales, mask, confidence),
    )
    return mask, confidence


def upsample_probabilities(
    logits: NDArray[Any],
    size: tuple[int, int],
    *,
    temperature: Temperature = 1.0,
    extent: tuple[float, float] | None = None,
) -> FloatArray:
    """Return the probability of every class at every pixel, float32 (C, height, width), which sum to 1.

    Args:
        logits: see :func:`.upsample_argmax`; so are `size` and `extent`.
        size: (height, width).
        temperature: see :func:`upsample_confidence`.
        extent: how many of the logits are covered.

    Raises:
        ConfigError: an argument is none of these.
    """
    maps, mask, rows, columns = prepare(logits, size, extent, "chw")
    scales = scales_of(temperature, len(maps))
    probabilities = np.empty((len(maps), *mask.shape), np.float32)
    alike = len(np.unique(scales)) == 1
    if not alike:
        mask = upsample_argmax(logits, size, extent=extent)
    for band in _bands(size):
        probabilities[:, band] = _shares(maps, rows, columns, band, scales[0] if alike else scales[mask[band]])
    return probabilities


def logits_at(
    logits: NDArray[Any],
    size: tuple[int, int],
    rows: IndexArray,
    columns: IndexArray,
    *,
    extent: tuple[float, float] | None = None,
) -> FloatArray:
    """Return the upsampled logits of a few pixels, float32 (n, C).

    Args:
        logits: see :func:`.upsample_argmax`; so are `size` and `extent`.
        size: (height, width) of the mask.
        rows: of the pixels (n,).
        columns: of the pixels (n,).
        extent: how many of the logits the mask covers.
    """
    maps, _, (before, downs), (lefts, rights) = prepare(logits, size, extent, "chw")
    top, down, left, right = before[rows], downs[rows], lefts[columns], rights[columns]
    bottom, after = np.minimum(top + 1, maps.shape[1] - 1), np.minimum(left + 1, maps.shape[2] - 1)
    above = maps[:, top, left] * (1 - right) + maps[:, top, after] * right
    below = maps[:, bottom, left] * (1 - right) + maps[:, bottom, after] * right
    return np.ascontiguousarray((above * (1 - down) + below * down).T)


def scales_of(temperature: Temperature, classes: int) -> FloatArray:
    """Return what logits are multiplied by to be exponents of two, by the class that wins (C,).

    Raises:
        ConfigError: a temperature is not a positive number, or there is not one for each class.
    """
    values = np.atleast_1d(np.asarray(temperature, np.float64))
    if values.shape not in ((1,), (classes,)):
        raise ConfigError(
            f"there are {values.size} temperatures for {classes} classes; give one, or one for each class"
        )
    if not (np.isfinite(values) & (values > 0)).all():
        raise ConfigError(f"temperature is {temperature}; give numbers above 0")
    scales: FloatArray = np.broadcast_to(LOG2_E / values, (classes,)).astype(np.float32)
    return scales


def _bands(size: tuple[int, int]) -> list[slice]:
    rows = max(1, BAND_PIXELS // size[1])
    return [slice(first, min(first + rows, size[0])) for first in range(0, size[0], rows)]


def _shares(
    maps: FloatArray, rows: Axis, columns: Axis, band: slice, scale: FloatArray | np.floating[Any]
) -> FloatArray:
    """Return the probabilities of all classes (C, n, W) in a band of rows; those of NaN and -inf are 0.

    Gaps to the largest logit of each place are interpolated, not logits: they keep their precision where logits are
    large.
    """
    top, down = rows[0][band], rows[1][band, None]
    left, right = columns
    bottom, after = np.minimum(top + 1, maps.shape[1] - 1), np.minimum(left + 1, maps.shape[2] - 1)
    needed = slice(int(top[0]), int(bottom[-1]) + 1)
    part = maps[:, needed]
    with np.errstate(invalid="ignore"):  # infinite logits make NaN
        gaps = part - part.max(axis=0)
        wide = gaps[:, :, left] + (gaps[:, :, after] - gaps[:, :, left]) * right
        values = wide[:, top - needed.start]
        values += (wide[:, bottom - needed.start] - values) * down
        values *= scale
        values -= values.max(axis=0)
        shares: FloatArray = np.exp2(values, out=values)
    np.nan_to_num(shares, copy=False, nan=0.0)
    total = shares.sum(axis=0)
    np.divide(shares, total, out=shares, where=total > 0)
    return shares
