"""From logits at the network's stride to the class mask of the image, without ever making full-size logits.

Bilinear interpolation is a convex combination of the four logits at a cell's corners. Where one class wins at
all four, it wins at every pixel between them; elsewhere a class that another one beats at all four corners
cannot win. So whole runs of cells are filled with one id, and only cells on a class border are computed, over
the two or three classes that meet there.

The result is not an approximation: it is, bit for bit, the mask that computing every class at every pixel in
float32 gives. A shortcut is therefore taken only where the lead over a lower id (which wins a tie) is wider than
the rounding of that computation.

Counting a confusion matrix or drawing an overlay in the same pass, so that no mask is ever whole, was tried and is
no faster: a mask of uint8 stays in the processor's cache (``benchmarks/postprocess.py`` measures both).
"""

from __future__ import annotations

import importlib
import math
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from types import ModuleType
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, did_you_mean

FloatArray = NDArray[np.float32]
IndexArray = NDArray[np.int64]
Layout = Literal["chw", "hwc"]

MAX_CLASSES = 65535
MASK_KERNELS = "upsample_kernels"
CONFIDENCE_KERNELS = "confidence_kernels"
"""Modules of kernels: those that any mask needs, and those that only confidence does."""
PATIENCE_SECONDS = 0.6
"""How long the first masks wait for the kernels. From the disk they come sooner. At the first use of an installation
they are compiled, for three seconds; until they are there, NumPy makes the masks, the same ones at a hundred times the
cost."""


def upsample_argmax(
    logits: NDArray[Any],
    size: tuple[int, int],
    *,
    extent: tuple[float, float] | None = None,
    layout: Layout = "chw",
    threads: int = 1,
) -> NDArray[Any]:
    """Return the arg max over classes of logits resized bilinearly (``align_corners=False``) to `size`.

    The same as ``interpolate(logits, size, mode="bilinear").argmax(0)`` of torch in float32, up to the rounding
    of its sums: the lowest id wins a tie. Any scale works: up, down, non-integer, different per side.
    A class whose interpolated logit is NaN or -inf at a pixel does not win there (in torch a NaN wins); where no
    class is left the id is 0. An infinite logit interpolates to NaN where its weight is 0.

    Args:
        logits: float32 or float16 (C, h, w), 1 ≤ C ≤ 65535. float16 is computed in float32.
        size: (height, width) of the mask.
        extent: how many of the logits, (rows, columns) from the top left corner, the mask covers, fractions included;
            all by default. Logits wholly outside it have no influence: those of padding, for example.
        layout: ``"hwc"`` for logits (h, w, C).
        threads: threads that share the rows. The mask is the same whatever their number.

    Returns:
        Class ids (height, width), uint8, or uint16 for more than 256 classes.

    Raises:
        ConfigError: an argument is none of these.
    """
    if threads < 1:
        raise ConfigError(f"threads is {threads}; give at least 1")
    maps, mask, rows, columns = prepare(logits, size, extent, layout)
    found = kernels()
    if found is None:
        return _dense(maps, mask, rows, columns)
    _, height, width = maps.shape
    if is_identity(rows, height) and is_identity(columns, width):
        in_bands(threads, height, lambda first, last: found.pick_winners(maps, first, last, mask))
        return mask
    cells = cell_bounds(rows[0], height), rows[1], cell_bounds(columns[0], width), columns[1]
    in_bands(threads, height, lambda first, last: found.fill_mask(maps, *cells, first, last, mask))
    return mask


def upsample_argmax_numpy(
    logits: NDArray[Any],
    size: tuple[int, int],
    *,
    extent: tuple[float, float] | None = None,
    layout: Layout = "chw",
) -> NDArray[Any]:
    """Return what :func:`upsample_argmax` returns, without numba: every class is computed at every pixel."""
    return _dense(*prepare(logits, size, extent, layout))


def kernels(patience: float | None = PATIENCE_SECONDS, name: str = MASK_KERNELS) -> ModuleType | None:
    """Return a module of kernels, or None without numba, and for as long as they are still being compiled.

    Args:
        patience: seconds after the first call in which calls wait for them; None waits until they are there, for
            callers that measure.
        name: of the module in this package, which has a function ``compile_all``.
    """
    loader = _loader(name)
    if loader.is_alive():
        loader.join(None if patience is None else max(0.0, loader.began + patience - time.monotonic()))
    return loader.module


def ready_kernels() -> ModuleType | None:
    """Return :mod:`.upsample_kernels` where an earlier mask has brought them; nothing is begun, or waited for."""
    return next((loader.module for loader in list(_loaders) if loader.kernels == MASK_KERNELS), None)


class _Loader(threading.Thread):
    """Brings kernels: imports numba and them, which takes a third of a second, and compiles what is not on disk.

    Begun with the first mask, not before: while that one waits, nothing else is imported, and two threads that import
    at once can meet half a module. Not a daemon: a short program ends when the kernels are on disk for the next one.
    """

    def __init__(self, kernels: str) -> None:
        super().__init__(name=kernels)
        self.kernels = kernels
        self.module: ModuleType | None = None
        self.began = time.monotonic()

    def run(self) -> None:
        """Bring them."""
        with suppress(ImportError):
            module = importlib.import_module(f".{self.kernels}", __package__)
            module.compile_all()
            self.module = module


_LOADING = threading.Lock()
_loaders: list[_Loader] = []


def _loader(name: str) -> _Loader:
    """Return the one loader of a module in this process, started."""
    with _LOADING:
        found = next((loader for loader in _loaders if loader.kernels == name), None)
        if found is None:
            found = _Loader(name)
            _loaders.append(found)
            found.start()
        return found


def await_kernels() -> None:
    """Return when no kernels are being compiled: while torch traces, it changes functions that numba calls."""
    with _LOADING:
        begun = list(_loaders)
    for loader in begun:
        loader.join()


def as_kernels_take(array: NDArray[Any], dtype: type[np.generic]) -> NDArray[Any]:
    """Return the array itself, or a copy that is in C order, aligned, writable, and of no subclass."""
    return np.require(array, dtype, ["C", "A", "W", "E"])


Axis = tuple[IndexArray, FloatArray]
"""For each output row or column: the source position before it, and the weight (0–1) of the one after."""


def prepare(
    logits: NDArray[Any], size: tuple[int, int], extent: tuple[float, float] | None, layout: Layout
) -> tuple[FloatArray, NDArray[Any], Axis, Axis]:
    """Check the arguments; return float32 logits (C, h, w), the mask to fill, and both axes."""
    if layout not in get_args(Layout):
        raise ConfigError(f"unknown layout {layout!r}; {did_you_mean(layout, get_args(Layout))}")
    if logits.ndim != 3 or logits.dtype not in (np.float32, np.float16) or 0 in logits.shape:
        axes = "(C, h, w)" if layout == "chw" else "(h, w, C)"
        raise ConfigError(f"logits are {logits.dtype} {logits.shape}; give float32 or float16 {axes}, none of them 0")
    if layout == "hwc":
        logits = logits.transpose(2, 0, 1)
    if len(logits) > MAX_CLASSES:
        raise ConfigError(f"logits have {len(logits)} classes; at most {MAX_CLASSES} fit in a mask")
    height, width = size
    if height < 1 or width < 1:
        raise ConfigError(f"size is {height}x{width}; give a height and a width of at least 1")
    if extent is None:
        extent = logits.shape[1:]
    if not all(0 < part <= whole for part, whole in zip(extent, logits.shape[1:], strict=True)):
        whole = f"{logits.shape[1]}, {logits.shape[2]}"
        raise ConfigError(f"extent is {extent} of logits {logits.shape}; give more than 0 and at most ({whole})")
    covered = logits[:, : math.ceil(extent[0]), : math.ceil(extent[1])]
    maps = as_kernels_take(covered, np.float32)
    mask = np.zeros((height, width), np.uint8 if len(maps) <= 256 else np.uint16)
    return maps, mask, _axis(extent[0], height), _axis(extent[1], width)


def _axis(extent: float, target: int) -> Axis:
    """Return where each of `target` positions lies among `extent` source ones: torch's half-pixel rule, in float32."""
    scale = np.float32(extent) / np.float32(target)
    half = np.float32(0.5)
    position = np.maximum(scale * (np.arange(target, dtype=np.float32) + half) - half, np.float32(0.0))
    before = np.minimum(position.astype(np.int64), math.ceil(extent) - 1)
    return before, np.clip(position - before.astype(np.float32), np.float32(0.0), np.float32(1.0))


def cell_bounds(before: IndexArray, source: int) -> IndexArray:
    """Return (source + 1,) bounds: positions ``bounds[i]:bounds[i + 1]`` of the output lie in cell i."""
    return np.searchsorted(before, np.arange(source + 1)).astype(np.int64)


def is_identity(axis: Axis, source: int) -> bool:
    """Return whether each position is the source's own: then no logit meets another, infinite ones included."""
    before, after = axis
    return len(before) == source and not after.any() and bool((before == np.arange(source)).all())


def _dense(maps: FloatArray, mask: NDArray[Any], rows: Axis, columns: Axis) -> NDArray[Any]:
    """Fill `mask` one class at a time: the meaning of the kernels, in as many words."""
    (top, down), (left, right) = rows, columns
    identity = is_identity(rows, maps.shape[1]) and is_identity(columns, maps.shape[2])
    bottom = np.minimum(top + 1, maps.shape[1] - 1)
    after = np.minimum(left + 1, maps.shape[2] - 1)
    up, back = (np.float32(1.0) - down)[:, None], np.float32(1.0) - right
    down = down[:, None]
    best = np.full(mask.shape, -np.inf, np.float32)
    with np.errstate(invalid="ignore"):  # infinite logits make NaN, which wins no comparison
        for k, plane in enumerate(maps):
            value = plane
            if not identity:
                wide = plane[:, left] * back + plane[:, after] * right
                value = wide[top] * up + wide[bottom] * down
            better = value > best
            mask[better] = k
            np.copyto(best, value, where=better)
    return mask


def in_bands(threads: int, rows: int, work: Callable[[int, int], object]) -> None:
    """Call `work` with the first row and the row to stop before, for bands that together are all `rows`."""
    threads = min(threads, rows)
    bounds = [rows * i // threads for i in range(threads + 1)]
    others = [_pool(threads).submit(work, *bounds[i : i + 2]) for i in range(1, threads)]
    work(*bounds[:2])
    for other in others:
        other.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Return the threads that work beside the calling one."""
    return ThreadPoolExecutor(threads - 1, "featherseg-post")


def _begin_anew() -> None:
    """Forget threads that a forked process does not have."""
    _pool.cache_clear()
    _loaders[:] = [loader for loader in _loaders if loader.module is not None]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
