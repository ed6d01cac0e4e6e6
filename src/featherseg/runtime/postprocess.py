"""From logits at the network's stride to the class mask of the image, without ever making full-size logits.

Bilinear interpolation is a convex combination of the four logits at a cell's corners. Where one class wins at
all four, it wins at every pixel between them; elsewhere a class that another one beats at all four corners
cannot win. So whole runs of cells are filled with one id, and only cells on a class border are computed, over
the two or three classes that meet there.

The result is not an approximation: it is, bit for bit, the mask that computing every class at every pixel in
float32 gives. A shortcut is therefore taken only where the lead over a lower id (which wins a tie) is wider than
the rounding of that computation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError

FloatArray = NDArray[np.float32]
IndexArray = NDArray[np.int64]

MAX_CLASSES = 65535

_LEAD = np.float32(2.0**-19)
"""Lead over a lower id, relative to the logit, that rounding cannot undo. Three products and sums round each of
two values by at most 4·2⁻²⁴ of its size, so 2⁻²¹ would do."""
_TINY = np.float32(1e-37)
"""The same where logits are so small that rounding is absolute (subnormal numbers)."""


def upsample_argmax(logits: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Return the arg max over classes of logits resized bilinearly (``align_corners=False``) to `size`.

    The same as ``interpolate(logits, size, mode="bilinear").argmax(0)`` of torch in float32, up to the rounding
    of its sums: the lowest id wins a tie. Any scale works: up, down, non-integer, different a side.
    A class whose interpolated logit is NaN or -inf at a pixel does not win there (in torch a NaN wins); where no
    class is left the id is 0. An infinite logit interpolates to NaN where its weight is 0.

    Args:
        logits: float32 or float16 (C, h, w), 1 ≤ C ≤ 65535. float16 is computed in float32.
        size: (height, width) of the mask.

    Returns:
        Class ids (height, width), uint8, or uint16 for more than 256 classes.

    Raises:
        ConfigError: the logits or the size are none of these.
    """
    maps, mask, rows, columns = _prepare(logits, size)
    kernels = _kernels()
    if kernels is None:
        return _dense(maps, mask, rows, columns)
    find_winners, fill_mask = kernels
    winners, certain = find_winners(maps)
    if winners.shape == mask.shape:
        mask[:] = winners
        return mask
    row_cells, column_cells = _cells(rows[0], maps.shape[1]), _cells(columns[0], maps.shape[2])
    fill_mask(maps, winners, certain, row_cells, rows[1], column_cells, columns[1], mask)
    return mask


def upsample_argmax_numpy(logits: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Return what :func:`upsample_argmax` returns, without numba: every class is computed at every pixel."""
    return _dense(*_prepare(logits, size))


Axis = tuple[IndexArray, FloatArray]
"""For each output row or column: the source position before it, and the weight (0–1) of the one after."""


def _prepare(logits: NDArray[Any], size: tuple[int, int]) -> tuple[FloatArray, NDArray[Any], Axis, Axis]:
    """Check the arguments; return float32 logits, the mask to fill, and both axes."""
    if logits.ndim != 3 or logits.dtype not in (np.float32, np.float16) or 0 in logits.shape:
        raise ConfigError(
            f"logits are {logits.dtype} {logits.shape}; give float32 or float16 (C, h, w), none of them 0"
        )
    if len(logits) > MAX_CLASSES:
        raise ConfigError(f"logits have {len(logits)} classes; at most {MAX_CLASSES} fit in a mask")
    height, width = size
    if height < 1 or width < 1:
        raise ConfigError(f"size is {height}x{width}; give a height and a width of at least 1")
    maps = np.ascontiguousarray(logits, np.float32)
    mask = np.zeros((height, width), np.uint8 if len(maps) <= 256 else np.uint16)
    return maps, mask, _axis(maps.shape[1], height), _axis(maps.shape[2], width)


def _axis(source: int, target: int) -> Axis:
    """Return where each of `target` positions lies among `source` ones: torch's half-pixel rule, in float32."""
    scale = np.float32(source) / np.float32(target)
    half = np.float32(0.5)
    position = np.maximum(scale * (np.arange(target, dtype=np.float32) + half) - half, np.float32(0.0))
    before = np.minimum(position.astype(np.int64), source - 1)
    return before, np.clip(position - before.astype(np.float32), np.float32(0.0), np.float32(1.0))


def _cells(before: IndexArray, source: int) -> IndexArray:
    """Return (source + 1,) bounds: positions ``bounds[i]:bounds[i + 1]`` of the output lie in cell i."""
    return np.searchsorted(before, np.arange(source + 1)).astype(np.int64)


def _dense(maps: FloatArray, mask: NDArray[Any], rows: Axis, columns: Axis) -> NDArray[Any]:
    """Fill `mask` one class at a time: the meaning of the kernels, in as many words."""
    (top, down), (left, right) = rows, columns
    bottom = np.minimum(top + 1, maps.shape[1] - 1)
    after = np.minimum(left + 1, maps.shape[2] - 1)
    up, back = (np.float32(1.0) - down)[:, None], np.float32(1.0) - right
    down = down[:, None]
    best = np.full(mask.shape, -np.inf, np.float32)
    with np.errstate(invalid="ignore"):  # infinite logits make NaN, which wins no comparison
        for k, plane in enumerate(maps):
            value = plane
            if mask.shape != plane.shape:
                wide = plane[:, left] * back + plane[:, after] * right
                value = wide[top] * up + wide[bottom] * down
            better = value > best
            mask[better] = k
            np.copyto(best, value, where=better)
    return mask


@cache
def _kernels() -> tuple[Callable[..., Any], Callable[..., Any]] | None:
    """Return the compiled kernels, or None without numba. Imported here: half a second that few imports need."""
    try:
        import numba
    except ImportError:
        return None
    try:
        compiled = [numba.njit(cache=True, nogil=True)(kernel) for kernel in (_find_winners, _fill_mask)]
    except RuntimeError:  # neither this folder nor the user's cache can be written: compile in each process
        compiled = [numba.njit(nogil=True)(kernel) for kernel in (_find_winners, _fill_mask)]
    return compiled[0], compiled[1]


def _find_winners(maps: FloatArray) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return the arg max of each logit position (h, w), and whether its lead over lower ids survives rounding."""
    classes, height, width = maps.shape
    winners = np.zeros((height, width), np.int32)
    certain = np.empty((height, width), np.bool_)
    best = np.empty(width, np.float32)
    below = np.empty(width, np.float32)
    for i in range(height):
        best[:] = -np.inf
        below[:] = -np.inf
        for k in range(classes):
            for j in range(width):
                value = maps[k, i, j]
                # Each new winner's lead over all lower ids is its lead over the winner before it.
                better = value > best[j]
                below[j] = best[j] if better else below[j]
                winners[i, j] = k if better else winners[i, j]
                best[j] = value if better else best[j]
        for j in range(width):
            certain[i, j] = best[j] - below[j] > _LEAD * abs(best[j]) + _TINY
    return winners, certain


def _fill_mask(
    maps: FloatArray,
    winners: NDArray[np.int32],
    certain: NDArray[np.bool_],
    row_cells: IndexArray,
    row_weights: FloatArray,
    column_cells: IndexArray,
    column_weights: FloatArray,
    mask: NDArray[Any],
) -> None:
    """Write each cell's pixels into `mask`: runs of one class at once, the others by their few classes."""
    classes, height, width = maps.shape
    one = np.float32(1.0)
    widest = 0
    for j in range(width):
        widest = max(widest, column_cells[j + 1] - column_cells[j])
    tallest = 0
    for i in range(height):
        tallest = max(tallest, row_cells[i + 1] - row_cells[i])
    best = np.empty((tallest, widest), np.float32)
    upper = np.empty(widest, np.float32)
    lower = np.empty(widest, np.float32)
    rivals = np.empty(4, np.int32)
    for i in range(height):
        y0, y1 = row_cells[i], row_cells[i + 1]
        if y0 == y1:
            continue
        i1 = min(i + 1, height - 1)
        j = 0
        while j < width:
            # As far as the same class wins at all corners, one fill does.
            first = winners[i, j]
            end = j
            while (
                end < width
                and winners[i, end] == first
                and winners[i1, end] == first
                and certain[i, end]
                and certain[i1, end]
            ):
                end += 1
            # Cells j … end-2 have both sides in the run; the last column's cell has its one side twice.
            stop = width if end == width else end - 1
            if stop > j:
                for y in range(y0, y1):
                    mask[y, column_cells[j] : column_cells[stop]] = first
                j = stop
                continue
            x0, x1 = column_cells[j], column_cells[j + 1]
            j1 = min(j + 1, width - 1)
            rivals[0], rivals[1] = first, winners[i, j1]
            rivals[2], rivals[3] = winners[i1, j], winners[i1, j1]
            best[:] = -np.inf
            for k in range(classes):
                if x0 == x1:
                    break
                a, b, c, d = maps[k, i, j], maps[k, i, j1], maps[k, i1, j], maps[k, i1, j1]
                beaten = False
                for r in range(4):
                    n = rivals[r]
                    if n == k:
                        continue
                    p, q, s, t = maps[n, i, j], maps[n, i, j1], maps[n, i1, j], maps[n, i1, j1]
                    if p == np.inf or q == np.inf or s == np.inf or t == np.inf:
                        continue  # it may be NaN inside the cell
                    if n < k:
                        beaten |= p >= a and q >= b and s >= c and t >= d
                    else:
                        beaten |= (
                            p - a > _LEAD * abs(p) + _TINY
                            and q - b > _LEAD * abs(q) + _TINY
                            and s - c > _LEAD * abs(s) + _TINY
                            and t - d > _LEAD * abs(t) + _TINY
                        )
                if beaten:
                    continue
                for x in range(x0, x1):
                    right = column_weights[x]
                    upper[x - x0] = a * (one - right) + b * right
                    lower[x - x0] = c * (one - right) + d * right
                for y in range(y0, y1):
                    down = row_weights[y]
                    up = one - down
                    for x in range(x0, x1):
                        value = upper[x - x0] * up + lower[x - x0] * down
                        if value > best[y - y0, x - x0]:
                            best[y - y0, x - x0] = value
                            mask[y, x] = k
            j += 1
