"""Regions that labels describe by outlines, run lengths or small bitmaps, and the class ids that they make.

A pixel belongs to a region that holds its centre, where x = 0, y = 0 is the picture's upper left corner and the first
pixel's centre is (0.5, 0.5); a centre that lies exactly on an outline counts to the region on its right or below. So
regions that share an outline neither overlap nor leave a gap. Everything here is exact, independent of the order of
an outline's points, and bounded: what strangers' files say costs a few seconds at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DataError
from ..core.images import MAX_PIXELS
from ..core.types import MaskArray

Size = tuple[int, int]
"""Height, width."""

FARTHEST = 1e7
"""Largest coordinate, in pixels: farther out lies no picture, only a damaged file."""
MAX_WORK = 1 << 31
"""Pixels of all regions of a picture together, and rows that their outlines cross: real ones have a thousandth."""
CHUNK = 1 << 22
"""Crossings of outlines and rows that are computed at a time."""


@dataclass(frozen=True, eq=False)
class Patch:
    """Pixels of a region, cut to the picture: `inside`, bool (h, w), begins at row `top` and column `left`."""

    top: int
    left: int
    inside: NDArray[np.bool_]

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.inside))

    @property
    def window(self) -> tuple[slice, slice]:
        """Where it lies in the picture."""
        height, width = self.inside.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


NOTHING = Patch(0, 0, np.zeros((0, 0), np.bool_))


class Region(Protocol):
    """A part of a picture."""

    def patch(self, size: Size) -> Patch:
        """Return its pixels in a picture of (height, width).

        Raises:
            ValueError: it is no region, or none of such a picture; one line.
        """


@dataclass(frozen=True)
class Shape:
    """A region and what it shows.

    Args:
        region: where.
        label: class id, or the ignored id.
        layer: shapes of a higher layer lie on top of those of a lower one, whatever their sizes.
    """

    region: Region
    label: int
    layer: int = 0


def paint(size: Size, shapes: Iterable[Shape], unlabelled: int, *, smaller_on_top: bool = True) -> MaskArray:
    """Return class ids, uint8 (H, W).

    Args:
        size: height and width of the picture.
        shapes: in the file's order.
        unlabelled: value of pixels that lie in no shape.
        smaller_on_top: where shapes of a layer overlap, the one of fewer pixels lies on top, and of two that are
            equally large the later one; else always the later one.

    Raises:
        ValueError: a shape is none, or all together are too much; one line.
    """
    check_size(size)
    mask = np.full(size, unlabelled, np.uint8)
    # What owns each pixel: the smallest rank so far, so that one pass suffices and no shape has to be kept.
    owner = np.full(size, np.iinfo(np.int64).max, np.int64)
    work = 0
    for shape in shapes:
        patch = shape.region.patch(size)
        work += patch.inside.size
        if work > MAX_WORK:
            raise ValueError(f"its shapes have over {MAX_WORK:,} pixels together")
        rank = (-shape.layer << 32) + (patch.area if smaller_on_top else 0)
        ranks = owner[patch.window]
        won = patch.inside & (rank <= ranks)
        ranks[won] = rank
        mask[patch.window][won] = shape.label
    return mask


def check_size(size: Size) -> None:
    """Refuse sizes of no picture.

    Raises:
        ValueError: one line.
    """
    height, width = size
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise ValueError(f"a picture of {height}x{width} pixels is none; 1 to {MAX_PIXELS:,} are")


def cropped(inside: NDArray[np.bool_], top: int = 0, left: int = 0) -> Patch:
    """Return a bitmap, bool (h, w), that lies at row `top` and column `left`, without its empty rows and columns."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return NOTHING
    part = inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Patch(top + int(rows[0]), left + int(columns[0]), part)


@dataclass(frozen=True, eq=False)
class Polygons:
    """An object's outlines, one for each of its parts and holes.

    An outline that crosses itself encloses by the even-odd rule. An outline all of whose pixels lie in larger ones of
    the object is a hole in them, and one in that hole is a part again; outlines that overlap in part, or are the same,
    are united.

    Args:
        rings: points (x, y) of each outline, float (N, 2); the last need not repeat the first.
    """

    rings: tuple[NDArray[np.float64], ...]

    def patch(self, size: Size) -> Patch:
        """See :class:`Region`."""
        patches = [patch for ring in self.rings if (patch := fill(ring, size)).inside.size]
        return patches[0] if len(patches) == 1 else _joined(patches)


def _joined(patches: Sequence[Patch]) -> Patch:
    """Return parts with their holes as one; see :class:`Polygons`."""
    if not patches:
        return NOTHING
    if sum(patch.inside.size for patch in patches) > MAX_WORK:
        raise ValueError(f"its shapes have over {MAX_WORK:,} pixels together")
    top, left = min(p.top for p in patches), min(p.left for p in patches)
    bottom, right = max(p.window[0].stop for p in patches), max(p.window[1].stop for p in patches)
    canvas = np.zeros((bottom - top, right - left), np.bool_)
    seen: set[tuple[int, int, bytes]] = set()
    for patch in sorted(patches, key=lambda p: -p.area):
        # A ring that is written twice is no hole in itself.
        identity = (patch.top, patch.left, np.packbits(patch.inside).tobytes())
        if identity in seen:
            continue
        seen.add(identity)
        rows, columns = patch.window
        part = canvas[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        if part[patch.inside].all():
            part[patch.inside] = False
        else:
            part |= patch.inside
    return cropped(canvas, top, left)


def fill(ring: NDArray[np.float64], size: Size) -> Patch:
    """Return the pixels whose centres an outline encloses, by the even-odd rule.

    Each edge that passes between the rows' centres flips every pixel whose centre lies at its right: a running count
    along the rows is then odd inside.

    Raises:
        ValueError: the coordinates are no numbers, far outside any picture, or too many.
    """
    if not np.isfinite(ring).all() or (ring.size and np.abs(ring).max() > FARTHEST):
        raise ValueError("an outline has a coordinate that is no number of pixels")
    if len(ring) < 3:
        return NOTHING
    height, width = size
    ends = np.roll(ring, -1, axis=0)
    # Upwards and downwards the same arithmetic: an edge that is passed twice, as in a bridge to a hole, vanishes.
    flip = (ring[:, 1] > ends[:, 1])[:, None]
    upper, lower = np.where(flip, ends, ring), np.where(flip, ring, ends)
    first = np.clip(np.ceil(upper[:, 1] - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(lower[:, 1] - 0.5), 0, height).astype(np.int64)
    left, right = (int(np.clip(np.ceil(x - 0.5), 0, width)) for x in (ring[:, 0].min(), ring[:, 0].max()))
    crossing = last > first
    if not crossing.any() or left == right:
        return NOTHING
    upper, lower, first, last = upper[crossing], lower[crossing], first[crossing], last[crossing]
    top, bottom = int(first.min()), int(last.max())
    flips = np.zeros((bottom - top, right - left + 1), np.uint8)
    counts = last - first
    before = np.cumsum(counts) - counts
    total = int(counts.sum())
    if total > MAX_WORK:
        raise ValueError(f"an outline crosses over {MAX_WORK:,} rows")
    slopes = (lower[:, 0] - upper[:, 0]) / (lower[:, 1] - upper[:, 1])
    for chunk in range(0, total, CHUNK):
        places = np.arange(chunk, min(chunk + CHUNK, total))
        edges = np.searchsorted(before, places, side="right") - 1
        rows = first[edges] + places - before[edges]
        x = upper[edges, 0] + (rows + 0.5 - upper[edges, 1]) * slopes[edges]
        columns = np.clip(np.ceil(x - 0.5), left, right).astype(np.int64) - left
        np.add.at(flips.reshape(-1), (rows - top) * flips.shape[1] + columns, np.uint8(1))
    inside = (np.add.accumulate(flips, axis=1, dtype=np.uint8)[:, :-1] & 1).astype(np.bool_)
    return cropped(inside, top, left)


@dataclass(frozen=True, eq=False)
class Runs:
    """A bitmap of the whole picture as run lengths: pixels outside, inside, outside, …, down the columns as in COCO.

    Args:
        counts: lengths of the runs, int64.
        size: height and width of the picture.
    """

    counts: NDArray[np.int64]
    size: Size

    def patch(self, size: Size) -> Patch:
        """See :class:`Region`."""
        if self.size != size:
            raise ValueError(f"run lengths of {_by(self.size)} pixels in a picture of {_by(size)}")
        if (self.counts < 0).any() or (self.counts > size[0] * size[1]).any():
            raise ValueError("a run length is negative, or longer than the picture")
        if int(self.counts.sum()) != size[0] * size[1]:
            raise ValueError(f"run lengths of {int(self.counts.sum())} pixels in a picture of {size[0] * size[1]}")
        values = np.arange(len(self.counts)) % 2 == 1
        return cropped(np.repeat(values, self.counts).reshape(size[1], size[0]).T)


def _by(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def decode_counts(text: str) -> NDArray[np.int64]:
    """Return the run lengths that COCO writes as text: five bits a letter, of differences to the run before the last.

    The format is that of ``rleFrString`` in the COCO API's maskApi.c: each letter, less 48, holds five bits of a
    number, the lowest first, and a sixth that says whether more follow; the last letter's fifth bit is the sign.

    Raises:
        ValueError: it is no such text.
    """
    letters = np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int64) - 48
    if not len(letters):
        return np.zeros(0, np.int64)
    if letters.min() < 0 or letters.max() > 63 or letters[-1] & 32:
        raise ValueError("its run lengths are not written as COCO writes them")
    stops = np.flatnonzero(letters & 32 == 0)
    starts = np.concatenate([[0], stops[:-1] + 1])
    lengths = stops - starts + 1
    if lengths.max() > 8:  # 40 bits, more than the pixels of any picture
        raise ValueError("its run lengths are not written as COCO writes them")
    places = np.arange(len(letters)) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((letters & 31) << (5 * places), starts)
    numbers -= np.where(letters[stops] & 16, np.int64(1) << (5 * lengths), 0)
    counts = numbers.copy()
    counts[1::2] = np.cumsum(numbers[1::2])
    counts[2::2] = np.cumsum(numbers[2::2])
    return counts


@dataclass(frozen=True, eq=False)
class Bitmap:
    """A bitmap, bool (h, w), whose first pixel lies at row `top` and column `left` of the picture."""

    inside: NDArray[np.bool_]
    top: int = 0
    left: int = 0

    def patch(self, size: Size) -> Patch:
        """See :class:`Region`."""
        if max(abs(self.top), abs(self.left)) > FARTHEST:
            raise ValueError("a bitmap lies far outside the picture")
        above, before = max(-self.top, 0), max(-self.left, 0)
        rows, columns = size[0] - self.top, size[1] - self.left
        if rows <= 0 or columns <= 0:
            return NOTHING
        return cropped(self.inside[above:rows, before:columns], self.top + above, self.left + before)


@dataclass(frozen=True, eq=False)
class Strokes:
    """What a round pen leaves: a line through points, or a disc where there is one point.

    Args:
        points: (x, y), float (N, 2).
        radius: of the pen, in pixels.
    """

    points: NDArray[np.float64]
    radius: float

    def patch(self, size: Size) -> Patch:
        """See :class:`Region`."""
        points = self.points
        if not np.isfinite(points).all() or not 0 <= self.radius <= FARTHEST:
            raise ValueError("a line or circle has a coordinate that is no number of pixels")
        if points.size and np.abs(points).max() > FARTHEST:
            raise ValueError("a line or circle has a coordinate that is no number of pixels")
        canvas, work = np.zeros(size, np.bool_), 0
        ends = points[1:] if len(points) > 1 else points
        for start, end in zip(points, ends, strict=False):
            low, high = np.minimum(start, end) - self.radius, np.maximum(start, end) + self.radius
            left, right = (int(np.clip(x, 0, size[1])) for x in (np.floor(low[0]), np.ceil(high[0])))
            top, bottom = (int(np.clip(y, 0, size[0])) for y in (np.floor(low[1]), np.ceil(high[1])))
            work += (bottom - top) * (right - left)
            if work > MAX_WORK:
                raise ValueError(f"its lines have over {MAX_WORK:,} pixels together")
            if bottom > top and right > left:
                y, x = np.ogrid[top:bottom, left:right]
                canvas[top:bottom, left:right] |= _near(x + 0.5, y + 0.5, start, end, self.radius)
        return cropped(canvas)


def _near(
    x: NDArray[np.float64], y: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64], radius: float
) -> NDArray[np.bool_]:
    """Return which of the points (x, y) lie within `radius` of the line from `start` to `end`."""
    along = end - start
    length = float(along @ along)
    share = np.clip(((x - start[0]) * along[0] + (y - start[1]) * along[1]) / length, 0, 1) if length else 0.0
    near: NDArray[np.bool_] = (x - start[0] - share * along[0]) ** 2 + (
        y - start[1] - share * along[1]
    ) ** 2 <= radius**2
    return near


def ring_of(numbers: Sequence[float]) -> NDArray[np.float64]:
    """Return x, y, x, y, … as points (N, 2).

    Raises:
        ValueError: the count is odd.
    """
    if len(numbers) % 2:
        raise ValueError(f"an outline has {len(numbers)} numbers, which make no pairs of x and y")
    return np.asarray(numbers, np.float64).reshape(-1, 2)


def box_ring(left: float, top: float, right: float, bottom: float) -> NDArray[np.float64]:
    """Return the outline of a box, (4, 2)."""
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)


def blamed(error: ValueError, file: object, image: str) -> DataError:
    """Return what is wrong with the labels of one image, as an error for the user."""
    return DataError(f"{file}: the labels of {image} cannot be read ({error}); correct them, or remove the image")
