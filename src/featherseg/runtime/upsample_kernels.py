"""The compiled loops of :mod:`.postprocess`, :mod:`.draw` and :mod:`.area`; see :mod:`.compiled` for how."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .compiled import helper, kernel

FloatArray = NDArray[np.float32]
IndexArray = NDArray[np.int64]

_LEAD = np.float32(2.0**-19)
"""Lead over a lower id, relative to the logit, that rounding cannot undo. Three products and sums round each of
two values by at most 4·2⁻²⁴ of its size, so 2⁻²¹ would do."""
_TINY = np.float32(1e-37)
"""The same where logits are so small that rounding is absolute (subnormal numbers)."""


@helper
def _find_winners(maps: FloatArray, i: int, winners: NDArray[np.int32], certain: NDArray[np.bool_]) -> None:
    """Write the arg max of each logit of row `i` (w,), and whether its lead over lower ids survives rounding."""
    classes, _, width = maps.shape
    best = np.full(width, -np.inf, np.float32)
    below = np.full(width, -np.inf, np.float32)
    winners[:] = 0
    for k in range(classes):
        for j in range(width):
            value = maps[k, i, j]
            # Each new winner's lead over all lower ids is its lead over the winner before it.
            better = value > best[j]
            below[j] = best[j] if better else below[j]
            winners[j] = k if better else winners[j]
            best[j] = value if better else best[j]
    for j in range(width):
        certain[j] = best[j] - below[j] > _LEAD * abs(best[j]) + _TINY


@helper
def _is_beaten(maps: FloatArray, i: int, i1: int, j: int, j1: int, k: int, n: int) -> bool:
    """Return whether class `n` leads class `k` at all four corners, so that `k` cannot win between them."""
    p, q, s, t = maps[n, i, j], maps[n, i, j1], maps[n, i1, j], maps[n, i1, j1]
    if p == np.inf or q == np.inf or s == np.inf or t == np.inf:
        return False  # it may be NaN inside the cell
    a, b, c, d = maps[k, i, j], maps[k, i, j1], maps[k, i1, j], maps[k, i1, j1]
    if n < k:
        return bool(p >= a and q >= b and s >= c and t >= d)
    return bool(
        p - a > _LEAD * abs(p) + _TINY
        and q - b > _LEAD * abs(q) + _TINY
        and s - c > _LEAD * abs(s) + _TINY
        and t - d > _LEAD * abs(t) + _TINY
    )


@helper
def _fill_cells(
    maps: FloatArray,
    i: int,
    winners: NDArray[np.int32],
    certain: NDArray[np.bool_],
    row_weights: FloatArray,
    column_cells: IndexArray,
    column_weights: FloatArray,
    best: FloatArray,
    sides: FloatArray,
    mask: NDArray[Any],
) -> None:
    """Write the pixels of one row of cells: runs of one class at once, the others by their few classes.

    Args:
        maps: the logits.
        i: the row of cells.
        winners: arg max at the cells' upper and lower corners (2, w).
        certain: whether it leads beyond rounding.
        row_weights: of the cells' pixel rows alone (r,).
        column_cells: see :func:`fill_mask`.
        column_weights: see :func:`fill_mask`.
        best: room for the best logit of each pixel of a cell.
        sides: room for the logits along a cell's upper and lower side.
        mask: the cells' pixel rows alone (r, W).
    """
    classes, height, width = maps.shape
    one = np.float32(1.0)
    i1 = min(i + 1, height - 1)
    j = 0
    while j < width:
        # As far as the same class wins at all corners, one fill does.
        first = winners[0, j]
        end = j
        while (
            end < width
            and winners[0, end] == first
            and winners[1, end] == first
            and certain[0, end]
            and certain[1, end]
        ):
            end += 1
        # Cells j … end-2 have both sides in the run; the last column's cell has its one side twice.
        stop = width if end == width else end - 1
        if stop > j:
            for y in range(len(mask)):
                mask[y, column_cells[j] : column_cells[stop]] = first
            j = stop
            continue
        x0, x1 = column_cells[j], column_cells[j + 1]
        j1 = min(j + 1, width - 1)
        best[:] = -np.inf
        for k in range(classes if x1 > x0 else 0):
            beaten = False
            for corner in range(4):
                n = winners[corner // 2, j1 if corner % 2 else j]
                beaten = n != k and _is_beaten(maps, i, i1, j, j1, k, n)
                if beaten:
                    break
            if beaten:
                continue
            a, b, c, d = maps[k, i, j], maps[k, i, j1], maps[k, i1, j], maps[k, i1, j1]
            for x in range(x0, x1):
                right = column_weights[x]
                sides[0, x - x0] = a * (one - right) + b * right
                sides[1, x - x0] = c * (one - right) + d * right
            for y in range(len(mask)):
                down = row_weights[y]
                up = one - down
                for x in range(x0, x1):
                    value = sides[0, x - x0] * up + sides[1, x - x0] * down
                    if value > best[y, x - x0]:
                        best[y, x - x0] = value
                        mask[y, x] = k
        j += 1


@helper
def _largest_step(bounds: IndexArray) -> int:
    largest = 0
    for i in range(len(bounds) - 1):
        largest = max(largest, bounds[i + 1] - bounds[i])
    return largest


@kernel
def fill_mask(
    maps: FloatArray,
    row_cells: IndexArray,
    row_weights: FloatArray,
    column_cells: IndexArray,
    column_weights: FloatArray,
    first: int,
    last: int,
    mask: NDArray[Any],
) -> None:
    """Write the class of each pixel in some rows of cells; cell (i, j) lies between the logits i, i+1 and j, j+1.

    Args:
        maps: logits (C, h, w).
        row_cells: pixel rows ``row_cells[i]:row_cells[i + 1]`` lie in row i of the cells (h + 1,).
        row_weights: share (0-1) of the lower logits in each pixel row (H,).
        column_cells: the same of columns (w + 1,).
        column_weights: share (0-1) of the right logits in each pixel column (W,).
        first: the first row of cells.
        last: the row of cells to stop before.
        mask: where to write (H, W); 0 where no class is to win.
    """
    _, height, width = maps.shape
    winners = np.empty((2, width), np.int32)
    certain = np.empty((2, width), np.bool_)
    best = np.empty((_largest_step(row_cells), _largest_step(column_cells)), np.float32)
    sides = np.empty((2, best.shape[1]), np.float32)
    _find_winners(maps, first, winners[1], certain[1])
    for i in range(first, last):
        winners[0], certain[0] = winners[1], certain[1]
        if i + 1 < height:
            _find_winners(maps, i + 1, winners[1], certain[1])
        y0, y1 = row_cells[i], row_cells[i + 1]
        weights, rows = row_weights[y0:y1], mask[y0:y1]
        if y1 > y0:
            _fill_cells(maps, i, winners, certain, weights, column_cells, column_weights, best, sides, rows)


@kernel
def pick_winners(maps: FloatArray, first: int, last: int, mask: NDArray[Any]) -> None:
    """Write the arg max of logits (C, h, w) in the rows `first` to `last` - 1 into `mask` (h, w)."""
    winners = np.empty(maps.shape[2], np.int32)
    certain = np.empty(maps.shape[2], np.bool_)
    for i in range(first, last):
        _find_winners(maps, i, winners, certain)
        mask[i] = winners


@kernel
def blend(
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    table: NDArray[np.uint8],
    seen: NDArray[np.bool_],
    drawn: NDArray[np.uint8],
) -> None:
    """Write ``table[id, channel, value]`` of each pixel into `drawn`, and which ids there are into `seen`.

    Args:
        image: RGB (H, W, 3).
        mask: class ids (H, W).
        table: new values (256, 3, 256).
        seen: by id (256,).
        drawn: RGB (H, W, 3).
    """
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            k = mask[y, x]
            seen[k] = True
            for c in range(3):
                drawn[y, x, c] = table[k, c, image[y, x, c]]


@kernel
def average_areas(
    frame: NDArray[np.uint8],
    top: IndexArray,
    row_weights: FloatArray,
    left: IndexArray,
    column_weights: FloatArray,
    room: FloatArray,
    small: NDArray[np.uint8],
) -> None:
    """Write the weighted mean of the pixels that each pixel of a smaller frame covers.

    Rows are added up first: that is one long sum, which processors do many numbers at a time, and leaves the fewest
    pixels for the columns, whose places are irregular.

    Args:
        frame: RGB (H, W, 3).
        top: first row that each row of `small` covers (h,).
        row_weights: of the rows from there on (h, n), 0 after the last.
        left: first column that each column of `small` covers (w,).
        column_weights: of the columns from there on (w, m), m ≥ 3.
        room: for a row (3 (W + m),), zeros after the first 3 W.
        small: RGB (h, w, 3), written.
    """
    values = frame.reshape(frame.shape[0], frame.shape[1] * 3)
    length, most = values.shape[1], column_weights.shape[1]
    for y in range(small.shape[0]):
        row, weight = values[top[y]], row_weights[y, 0]
        for x in range(length):
            room[x] = weight * np.float32(row[x])
        for k in range(1, row_weights.shape[1]):
            weight = row_weights[y, k]
            if weight > 0:
                row = values[top[y] + k]
                for x in range(length):
                    room[x] += weight * np.float32(row[x])
        for x in range(small.shape[1]):
            i = 3 * left[x]
            a, b, c = column_weights[x, 0], column_weights[x, 1], column_weights[x, 2]
            red = a * room[i] + b * room[i + 3] + c * room[i + 6]
            green = a * room[i + 1] + b * room[i + 4] + c * room[i + 7]
            blue = a * room[i + 2] + b * room[i + 5] + c * room[i + 8]
            for k in range(3, most):
                a, i = column_weights[x, k], 3 * (left[x] + k)
                red += a * room[i]
                green += a * room[i + 1]
                blue += a * room[i + 2]
            small[y, x, 0], small[y, x, 1], small[y, x, 2] = np.rint(red), np.rint(green), np.rint(blue)


def compile_all() -> None:
    """Compile the kernels for the types that they are called with, or load their machine code from the disk."""
    maps, weights = np.zeros((1, 1, 1), np.float32), np.zeros(1, np.float32)
    cells, mask, image = np.array([0, 1]), np.zeros((1, 1), np.uint8), np.zeros((1, 1, 3), np.uint8)
    fill_mask(maps, cells, weights, cells, weights, 0, 1, mask)
    pick_winners(maps, 0, 1, mask)
    blend(image, mask, np.zeros((256, 3, 256), np.uint8), np.zeros(256, np.bool_), image)
    place, one = np.zeros(1, np.int64), np.zeros((1, 3), np.float32)
    average_areas(image, place, one, place, one, np.zeros(12, np.float32), image)
