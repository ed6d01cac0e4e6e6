"""The compiled loops of :mod:`.confidence`; see :mod:`.compiled` for how.

They work on gaps: how far each logit lies below the largest of its place, at most 0. Where one class wins by far all
round a cell, the others' gaps say so at the corners, and none of its pixels needs arithmetic. Gaps also keep their
precision where logits are large.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numba.extending import intrinsic
from numpy.typing import NDArray

from .compiled import helper, loose_helper, loose_kernel

FloatArray = NDArray[np.float32]
IndexArray = NDArray[np.int64]
Float = np.float32

STRIP = 128
"""Pixels of a row that are computed together: what they need stays in the processor's nearest cache."""
LANES = 16
"""Numbers that processors take at once, at most; loops over so many at a time leave no rest to go through singly."""
NOTHING = 25.0
"""Classes whose shares are below 2⁻²⁵ all together are left out: a probability is rounded by as much."""

DEEP = np.float32(-120.0)
"""Exponent from which on powers of two are too small to be added up as they are."""
SHIFT = np.float32(1.5 * 2**23 + 127)
"""Added to a small number, it leaves the nearest integer, and 127 more in the lowest bits: the bits of an exponent."""

C1, C2, C3 = np.float32(0.6931469775987168), np.float32(0.24022242084634426), np.float32(0.05550733743574283)
C4, C5 = np.float32(0.009671512688195941), np.float32(0.001326472724722391)
"""Coefficients of 2ˣ from -½ to ½ by powers of x, the constant one being 1: relative error 9e-8 at most. Fitted here
by least squares, weighted until the error was the same at all its peaks."""


def _as_float(context: Any, bits: Any) -> Any:
    """Return the float32 that has the bits of an int32."""

    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], target.get_value_type(signature.return_type))

    return numba.types.float32(numba.types.int32), generate


def _as_bits(context: Any, number: Any) -> Any:
    """Return the bits of a float32 as an int32."""

    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], target.get_value_type(signature.return_type))

    return numba.types.int32(numba.types.float32), generate


_float_of: Any = intrinsic(_as_float)
_bits_of: Any = intrinsic(_as_bits)


@loose_helper
def _power_of_two(x: Float) -> Float:
    """Return 2ˣ of an x from -126 to 0, exactly 1 of 0, within 2e-7 of itself."""
    shifted = x + SHIFT
    part = x - (shifted - SHIFT)
    curve = C1 + part * (C2 + part * (C3 + part * (C4 + part * C5)))
    power: Float = _float_of(np.int32(_bits_of(shifted) << np.int32(23)))
    return (np.float32(1.0) + part * curve) * power


@helper
def _find_gaps(maps: FloatArray, i: int, top: FloatArray, winners: NDArray[np.int32], gaps: FloatArray) -> None:
    """Write how far below the largest each logit of row `i` lies (C, w), and which class has that (w,).

    `top` is room for the largest (w,).
    """
    classes, _, width = maps.shape
    top[:] = -np.inf
    winners[:] = 0
    for k in range(classes):
        row = maps[k, i]
        for j in range(width):
            better = row[j] > top[j]
            winners[j] = k if better else winners[j]
            top[j] = row[j] if better else top[j]
    for k in range(classes):
        row, below = maps[k, i], gaps[k]
        for j in range(width):
            below[j] = row[j] - top[j]


@helper
def _find_floors(gaps: FloatArray, winners: NDArray[np.int32], floors: FloatArray) -> None:
    """Write of each cell of a row what the best gap inside it is at least (w,): 0 where one class wins all corners."""
    width = len(floors)
    for j in range(width):
        after = min(j + 1, width - 1)
        floor = -np.float32(np.inf)
        for corner in range(4):
            k = winners[corner // 2, after if corner % 2 else j]
            least = min(min(gaps[0, k, j], gaps[0, k, after]), min(gaps[1, k, j], gaps[1, k, after]))
            floor = max(floor, least)
        floors[j] = floor


@helper
def _list_classes(
    peaks: FloatArray, floors: FloatArray, first: int, last: int, cut: Float, listed: NDArray[np.int32]
) -> int:
    """Write which classes count in the cells `first` to `last` - 1, and return their number.

    Args:
        peaks: larger of each class's gaps above and below (C, w).
        floors: see :func:`_find_floors`.
        first: first cell.
        last: cell to stop before.
        cut: gap below the best at which a class does not count (negative).
        listed: where to write (C,).
    """
    classes, width = peaks.shape
    count = 0
    for k in range(classes):
        for j in range(first, last):
            peak = max(peaks[k, j], peaks[k, min(j + 1, width - 1)])
            if not peak - floors[j] < cut:  # NaN counts
                listed[count] = k
                count += 1
                break
    return count


@loose_helper
def _widen(
    gaps: FloatArray,
    first: int,
    last: int,
    column_cells: IndexArray,
    column_weights: FloatArray,
    scale: Float,
    wide: FloatArray,
) -> bool:
    """Write a class's exponents at the pixel columns of the cells `first` … `last` - 1; return whether all are high.

    Those above ``DEEP`` are, so that their powers of two can be added up. NaN is not.

    Args:
        gaps: above and below the cells (2, w).
        first: first cell.
        last: cell to stop before.
        column_cells: see :func:`fill_confidence`.
        column_weights: see there.
        scale: what gaps are multiplied by.
        wide: where to write: those above, and by how much those below are larger (2, n).
    """
    high = True
    start = column_cells[first]
    for j in range(first, last):
        after = min(j + 1, gaps.shape[1] - 1)
        above, below = gaps[0, j] * scale, gaps[1, j] * scale
        above_step, below_step = gaps[0, after] * scale - above, gaps[1, after] * scale - below
        high &= above > DEEP and below > DEEP and above + above_step > DEEP and below + below_step > DEEP
        for x in range(column_cells[j], column_cells[j + 1]):
            value = above + above_step * column_weights[x]
            wide[0, x - start] = value
            wide[1, x - start] = below + below_step * column_weights[x] - value
    return high


@loose_helper
def _add_two(one: FloatArray, other: FloatArray, down: Float, lanes: int, best: FloatArray, total: FloatArray) -> None:
    """Add what two classes have to the sums and the largest in a row of pixels: half as many passes as one by one.

    Args:
        one: a class's exponents, as :func:`_widen` wrote them (2, n).
        other: the other's.
        down: share of those below.
        lanes: number of pixels.
        best: largest of the powers so far (n,).
        total: their sum (n,).
    """
    above, step, other_above, other_step = one[0], one[1], other[0], other[1]
    for x in range(lanes):
        power, other_power = (
            _power_of_two(above[x] + step[x] * down),
            _power_of_two(other_above[x] + other_step[x] * down),
        )
        larger = power if power > other_power else other_power
        best[x] = larger if larger > best[x] else best[x]
        total[x] += power + other_power


@helper
def _share_of_best(wide: FloatArray, count: int, x: int, down: Float) -> Float:
    """Return the largest share at one pixel, whatever the exponents; 0 where none is finite."""
    best, total = -np.inf, 0.0
    for a in range(count):
        value = wide[a, 0, x] + wide[a, 1, x] * down
        best = value if value > best else best  # NaN is none
    for a in range(count):
        power = 2.0 ** (wide[a, 0, x] + wide[a, 1, x] * down - best)
        total += power if power >= 0.0 else 0.0
    return np.float32(1.0 / total if total >= 1.0 else 0.0)


@loose_kernel
def fill_confidence(
    maps: FloatArray,
    row_cells: IndexArray,
    row_weights: FloatArray,
    column_cells: IndexArray,
    column_weights: FloatArray,
    first: int,
    last: int,
    scales: FloatArray,
    mask: NDArray[Any],
    confidence: FloatArray,
) -> None:
    """Write the probability of the class that won at each pixel in some rows of cells.

    Args:
        maps: logits (C, h, w).
        row_cells: see :func:`.upsample_kernels.fill_mask`; so are the next three.
        row_weights: share of the lower logits.
        column_cells: pixel columns of each cell.
        column_weights: share of the right logits.
        first: the first row of cells.
        last: the row of cells to stop before.
        scales: by the class that won (C,), what gaps are multiplied by to be exponents of two: log₂ e / temperature.
        mask: class that won (H, W).
        confidence: where to write (H, W).
    """
    classes, height, width = maps.shape
    gaps = np.empty((2, classes, width), np.float32)
    peaks = np.empty((classes, width), np.float32)
    winners = np.empty((2, width), np.int32)
    top, floors = np.empty(width, np.float32), np.empty(width, np.float32)
    listed, groups = np.empty(classes, np.int32), np.empty(classes, np.bool_)
    room = STRIP + LANES
    for j in range(width):
        room = max(room, LANES + column_cells[j + 1] - column_cells[j])
    wide = np.zeros((classes + 1, 2, room), np.float32)
    best, total = np.empty(room, np.float32), np.empty(room, np.float32)
    alike = scales.min() == scales.max()
    cut = np.float32(-(NOTHING + math.log2(classes)) / scales.min())
    _find_gaps(maps, first, top, winners[1], gaps[1])
    for i in range(first, last):
        gaps[0], winners[0] = gaps[1], winners[1]
        if i + 1 < height:
            _find_gaps(maps, i + 1, top, winners[1], gaps[1])
        y0, y1 = row_cells[i], row_cells[i + 1]
        if y1 == y0:
            continue
        for k in range(classes):
            above, below, peak = gaps[0, k], gaps[1, k], peaks[k]
            for j in range(width):
                peak[j] = above[j] if above[j] > below[j] else below[j]
        _find_floors(gaps, winners, floors)
        end = 0
        while end < width:
            begin = end
            end += 1
            while end < width and column_cells[end + 1] - column_cells[begin] <= STRIP:
                end += 1
            x0, count = column_cells[begin], column_cells[end] - column_cells[begin]
            if count == 0:
                continue
            classes_here = _list_classes(peaks, floors, begin, end, cut, listed)
            if classes_here == 1:
                confidence[y0:y1, x0 : x0 + count] = np.float32(1.0)
                continue
            lanes = (count + LANES - 1) // LANES * LANES
            groups[:] = alike
            if not alike:
                for y in range(y0, y1):
                    for x in range(x0, x0 + count):
                        groups[mask[y, x]] = True
            # Pixels of one temperature at a time, which are all where there is but one.
            for group in range(1 if alike else classes):
                if not groups[group]:
                    continue
                high = True
                for a in range(classes_here):
                    k = listed[a]
                    high &= _widen(gaps[:, k], begin, end, column_cells, column_weights, scales[group], wide[a])
                wide[classes_here, 0], wide[classes_here, 1] = DEEP, 0.0
                for y in range(y0, y1):
                    down, out = row_weights[y], confidence[y, x0 : x0 + count]
                    if not high:
                        for x in range(count):
                            best[x], total[x] = _share_of_best(wide, classes_here, x, down), 1.0
                    else:
                        best[:], total[:] = 0.0, 0.0
                        for a in range(0, classes_here, 2):
                            _add_two(wide[a], wide[a + 1], down, lanes, best, total)
                    for x in range(count):
                        if alike or mask[y, x0 + x] == group:
                            out[x] = best[x] / total[x]


def compile_all() -> None:
    """Compile the kernel for the types that it is called with, or load its machine code from the disk."""
    maps, weights, cells = np.zeros((1, 1, 1), np.float32), np.zeros(1, np.float32), np.array([0, 1])
    scales, out = np.ones(1, np.float32), np.zeros((1, 1), np.float32)
    fill_confidence(maps, cells, weights, cells, weights, 0, 1, scales, np.zeros((1, 1), np.uint8), out)
