"""What a network's stride leaves of each class: masks are averaged to cells, enlarged and decided again, and compared.

A network that decides once for every 8x8 pixels can be right at all of them and still lose a class that is finer. How
much is a matter of the masks alone, and can be known before any training: the shares of the classes in each cell are
the best that a network of that stride could say, and enlarging them bilinearly is what becomes of its logits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError
from ..core.types import ClassSet, MaskArray
from .shares import count_classes

STRIDES = (1, 2, 4, 8)
TILE = 64
"""Pixels a side that are worked on at once: most tiles hold few classes, and one alone needs no arithmetic. Products
are then so small that NumPy's OpenBLAS does not share them among threads (64³ multiplications and fewer: see its
interface/gemm.c), which wait for one another, and beside other programs for long."""
ENOUGH = 0.001
"""Share of the labelled pixels from which on a class counts: rarer ones are learnt late or not at all at any stride."""

FINE, COARSE = 0.9, 0.7
"""Dice that a class is to keep, and under which a stride is too coarse for it. A Dice of 0.9 is an IoU of 0.82, which
few trained networks reach on thin classes, so that the stride is not what limits them; 0.7 is an IoU of 0.54, so that
of a perfect decision in every cell half is lost."""

Grid = tuple[int, int]
"""Rows and columns of cells."""


@dataclass(frozen=True, eq=False)
class KeptDetail:
    """What each class keeps at strides and sizes of the input.

    Args:
        names: of the classes.
        pixels: labelled pixels of each class in the masks, int64 (classes,).
        masks: how many were looked at.
        kept: Dice of each class against the masks, float64 (classes,), by stride and scale; NaN for a class that does
            not occur.
    """

    names: tuple[str, ...]
    pixels: NDArray[np.int64]
    masks: int
    kept: Mapping[tuple[int, float], NDArray[np.float64]]

    def dice(self, stride: int, scale: float = 1.0) -> NDArray[np.float64]:
        """Return what each class keeps, float64 (classes,), 0–1; NaN for one that does not occur.

        Args:
            stride: input pixels for each decision and side.
            scale: by which images are resized before the network sees them.

        Raises:
            ConfigError: that was not measured.
        """
        if (stride, scale) not in self.kept:
            known = ", ".join(f"{stride} at scale {scale:g}" for stride, scale in self.kept)
            raise ConfigError(f"stride {stride} at scale {scale:g} was not measured; measured are {known}")
        return self.kept[stride, scale]

    @property
    def weighty(self) -> NDArray[np.bool_]:
        """Which classes have pixels enough to count, bool (classes,)."""
        return (self.pixels > 0) & (self.pixels >= ENOUGH * max(int(self.pixels.sum()), 1))

    def finest(self, stride: int, scale: float = 1.0) -> int | None:
        """Return the class that keeps least, among those with pixels enough to count; None where there is none."""
        dice = np.where(self.weighty, self.dice(stride, scale), np.nan)
        return None if np.isnan(dice).all() else int(np.nanargmin(dice))

    def least(self, stride: int, scale: float = 1.0) -> float:
        """Return what the class that keeps least keeps, 1 where there is none."""
        place = self.finest(stride, scale)
        return 1.0 if place is None else float(self.dice(stride, scale)[place])

    def coarsest(self, strides: Sequence[int], scale: float = 1.0, place: int | None = None) -> int:
        """Return the coarsest of the strides that is fine enough, else the finest.

        Args:
            strides: that were measured.
            scale: of the images.
            place: of the class that is to keep ``FINE`` of its Dice; the one that keeps least where None.
        """
        for stride in sorted(strides, reverse=True):
            kept = self.least(stride, scale) if place is None else float(self.dice(stride, scale)[place])
            if kept >= FINE:
                return stride
        return min(strides)

    def sentence(self, place: int, stride: int, scale: float = 1.0, finer: Sequence[tuple[int, float]] = ()) -> str:
        """Return in words what a class keeps.

        Such as "at stride 8 `vessel` keeps 0.46 of its Dice; stride 2 keeps 0.92".

        Args:
            place: of the class.
            stride: of the network.
            scale: of its images.
            finer: strides and scales to compare with.
        """
        said = (
            f"at {_where(stride, scale)} `{self.names[place]}` keeps {self.dice(stride, scale)[place]:.2f} of its Dice"
        )
        more = [f"{_where(*each)} keeps {self.dice(*each)[place]:.2f}" for each in finer]
        return "; ".join([said, *more])

    def to_dict(self) -> dict[str, object]:
        """Return all of it, of JSON types only; None for a class that does not occur."""
        rows = [
            {
                "stride": stride,
                "scale": scale,
                "dice": {
                    name: None if math.isnan(value) else round(float(value), 4)
                    for name, value in zip(self.names, dice, strict=True)
                },
            }
            for (stride, scale), dice in self.kept.items()
        ]
        return {"masks": self.masks, "kept": rows}


def _where(stride: int, scale: float) -> str:
    return f"stride {stride}" if scale == 1 else f"stride {stride} of images {scale:.3g} times as large"


def measure_detail(
    masks: Iterable[MaskArray],
    classes: ClassSet,
    strides: Sequence[int] = STRIDES,
    scales: Sequence[float] = (1.0,),
    *,
    most: int = 40_000_000,
) -> KeptDetail:
    """Measure on masks what each class keeps when it is decided once in a cell.

    The counts of all masks are pooled. Cells cover an image evenly, as a network's logits do: of 100 rows at stride 8
    there are 13, each 100/13 rows high.

    Args:
        masks: ids, uint8 (H, W); what is no class is ignored.
        classes: of the masks.
        strides: of networks.
        scales: by which images are resized before the network sees them; a stride is the finer for a larger one.
        most: pixels after which no further mask is begun, a few seconds of work. Time itself is no limit, so that the
            same masks give the same answer on every machine.

    Raises:
        ConfigError: a stride or scale is out of range.
    """
    if not all(stride >= 1 for stride in strides) or not all(0 < scale < math.inf for scale in scales):
        given = f"strides are {list(strides)} and scales {list(scales)}"
        raise ConfigError(f"{given}; give strides of 1 or more and scales over 0")
    looked_at, seen = 0, 0
    wanted = [(stride, float(scale)) for scale in scales for stride in strides]
    totals = {key: np.zeros((3, len(classes)), np.int64) for key in wanted}
    for mask in masks:
        done: dict[Grid, NDArray[np.int64]] = {}
        for stride, scale in wanted:
            cells = grid((mask.shape[0], mask.shape[1]), stride, scale)
            if cells not in done:
                done[cells] = _counts(mask, cells, len(classes))
            totals[stride, scale] += done[cells]
        looked_at += 1
        seen += mask.size
        if seen >= most:
            break
    kept = {}
    for key, (both, drawn, true) in totals.items():
        with np.errstate(invalid="ignore"):
            kept[key] = np.where(true > 0, 2 * both / (drawn + true), np.nan)
    pixels = next(iter(totals.values()))[2] if totals else np.zeros(len(classes), np.int64)
    return KeptDetail(classes.names, pixels, looked_at, kept)


def grid(size: tuple[int, int], stride: int, scale: float = 1.0) -> Grid:
    """Return how many (rows, columns) of logits a network of a stride has for images of a (height, width)."""
    height, width = (max(round(side * scale), 1) for side in size)
    return -(-height // stride), -(-width // stride)


def _counts(mask: MaskArray, cells: Grid, classes: int) -> NDArray[np.int64]:
    """Return pixels by class, int64 (3, classes): right after cells decided, decided, and in the mask."""
    if cells == mask.shape:
        return np.tile(count_classes(mask, classes), (3, 1))
    total = np.zeros((3, classes), np.int64)
    for rows in _spans(mask.shape[0], cells[0]):
        for columns in _spans(mask.shape[1], cells[1]):
            tile = mask[rows.pixels, columns.pixels]
            true = count_classes(tile, classes)
            region = mask[rows.source, columns.source]
            present = np.flatnonzero(count_classes(region, classes))
            total[2] += true
            if len(present) < 2:
                total[:2] += true
                continue
            decided = _decided(region, present.astype(np.uint8), rows, columns)
            decided[tile >= classes] = 255  # never a class, since there are 255 at most
            total[0] += count_classes(decided[decided == tile], classes)
            total[1] += count_classes(decided, classes)
    return total


@dataclass(frozen=True, eq=False)
class _Span:
    """Rows, or columns, of a tile: what is decided in it, from which cells, and those from which pixels.

    Args:
        pixels: of the tile.
        source: pixels that its cells cover.
        shrink: averages `source` to the cells, float32 (cells, source).
        enlarge: interpolates the cells to `pixels`, float32 (pixels, cells).
    """

    pixels: slice
    source: slice
    shrink: NDArray[np.float32]
    enlarge: NDArray[np.float32]


@lru_cache(maxsize=64)
def _spans(size: int, cells: int) -> tuple[_Span, ...]:
    """Return the tiles of a side of `size` pixels on which `cells` lie."""
    step = size / cells
    spans = []
    for first in range(0, size, TILE):
        last = min(first + TILE, size)
        at = np.clip((np.arange(first, last) + 0.5) / step - 0.5, 0, cells - 1)
        low, high = int(at[0]), min(int(at[-1]) + 2, cells)
        edges = np.arange(low, high + 1) * step
        begin, end = int(edges[0]), min(math.ceil(edges[-1] - 1e-9), size)
        places = np.arange(begin, end)
        overlap = np.minimum(places + 1, edges[1:, None]) - np.maximum(places, edges[:-1, None])
        near = 1 - np.abs(at[:, None] - np.arange(low, high))
        spans.append(
            _Span(
                slice(first, last),
                slice(begin, end),
                (np.maximum(overlap, 0) / step).astype(np.float32),
                np.maximum(near, 0).astype(np.float32),
            )
        )
    return tuple(spans)


def _decided(region: MaskArray, present: NDArray[np.uint8], rows: _Span, columns: _Span) -> MaskArray:
    """Return the ids that cells decide in a tile, uint8; of classes with equal shares, the lowest."""
    planes = (region == present[:, None, None]).astype(np.float32)
    shares = rows.shrink @ planes @ columns.shrink.T
    # Where pixels are ignored, shares are those of the labelled ones; a cell without any says nothing.
    labelled = shares.sum(axis=0)
    shares /= np.where(labelled > 0, labelled, 1)
    full = rows.enlarge @ shares @ columns.enlarge.T
    best, place = full[0], np.zeros(full.shape[1:], np.uint8)
    for i in range(1, len(full)):
        place[full[i] > best] = i
        best = np.maximum(best, full[i])
    decided: MaskArray = present[place]
    return decided
