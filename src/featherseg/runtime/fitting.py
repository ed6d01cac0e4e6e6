"""How frames of any size come to the size that a network is to see, and where their masks come from in its logits.

A network's logits cover its input evenly: of an input of 100 rows with 13 rows of logits, each is 100/13 rows high,
as ``interpolate(align_corners=False)`` has it. Frames lie in the top left corner of the input, so that logits begin
where frames do, and what lies right of them or below is padding. How many of the logits a frame covers may be a
fraction; the mask is interpolated over just that many, and logits wholly of padding have no influence on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, did_you_mean
from ..core.types import MIN_SIZE, ImageArray
from .area import shrink

Fit = Literal["stretch", "letterbox", "tile"]
Size = tuple[int, int]
"""Height and width."""
Color = tuple[int, int, int]

OVERLAP = 4
"""Tiles overlap by this part of their side: a quarter. Masks are cut in the middle, an eighth from either's border."""
GRID = 32
"""Tiles begin at multiples of it, since the deepest maps of a network have a value for so many pixels: they then fall
on the same pixels in every tile as in the whole image."""
CELL = 8
"""Pixels a side for which most networks have one logit. The last logits of other sizes reach beyond the image, which
stretches the mask: of CamVid's images at 450x600 the street network has 73.8 mIoU, and 76.4 at 448x608."""


@dataclass(frozen=True)
class Piece:
    """What of a frame goes through the network at once.

    Args:
        top: first row of the frame that is seen.
        left: first column of it.
        seen: (height, width) that is seen.
        content: (height, width) that this is resized to.
        canvas: (height, width) of the network's input, padded to the right and below.
        kept: rows and columns of the frame whose mask comes from this piece.
        color: RGB (0-255) of the padding; None repeats the frame's edge.
        whole_logits: whether the last logits, though partly of padding, count as the frame's own. Networks themselves
            take them so for frames below ``MIN_SIZE``.
    """

    top: int
    left: int
    seen: Size
    content: Size
    canvas: Size
    kept: tuple[slice, slice]
    color: Color | None = None
    whole_logits: bool = False

    def extent(self, logits: Size) -> tuple[float, float]:
        """Return how many of the (rows, columns) of logits what is seen covers, fractions included."""
        parts = [part * count / whole for part, count, whole in zip(self.content, logits, self.canvas, strict=True)]
        if self.whole_logits:
            parts = [float(math.ceil(part)) for part in parts]
        return parts[0], parts[1]

    def inner(self) -> tuple[slice, slice]:
        """Return the rows and columns that are kept, counted from the first that are seen."""
        rows, columns = self.kept
        return (
            slice(rows.start - self.top, rows.stop - self.top),
            slice(columns.start - self.left, columns.stop - self.left),
        )

    def network_input(self, frames: Sequence[ImageArray]) -> NDArray[np.uint8]:
        """Return what the network gets of frames of one size, uint8 (B, H, W, 3)."""
        images = [self._fitted(frame) for frame in frames]
        return images[0][None] if len(images) == 1 else np.stack(images)

    def _fitted(self, frame: ImageArray) -> ImageArray:
        image = frame[self.top : self.top + self.seen[0], self.left : self.left + self.seen[1]]
        image = np.ascontiguousarray(resized(image, self.content))
        below, right = (whole - part for whole, part in zip(self.canvas, self.content, strict=True))
        if below or right:
            way = cv2.BORDER_REPLICATE if self.color is None else cv2.BORDER_CONSTANT
            image = np.asarray(cv2.copyMakeBorder(image, 0, below, 0, right, way, value=self.color or 0), np.uint8)
        return image


def pieces(
    frame: Size,
    size: Size | None,
    fit: Fit | None,
    *,
    natural: Size | None = None,
    stride: int,
    color: Color,
    fixed: bool = False,
) -> list[Piece]:
    """Return the pieces in which frames of a size go through a network; the masks of all make up the frame's.

    Args:
        frame: (height, width) of the frames.
        size: (height, width) for the network; `natural` where None.
        fit: how they come to `size`: stretched to it; resized to fit into it with their shape kept, the rest padded;
            or cut into overlapping tiles of it. None where `size` is.
        natural: (height, width) at which the network wants frames of this size; their own where left out.
        stride: of the network.
        color: RGB (0-255) of a letterbox's padding. The mean of the images that a network was trained on does best:
            with an edge repeated over a quarter of the input, a CamVid network loses 2 points of mIoU.
        fixed: whether the network takes `size` alone: then even a tile at the border of a small frame is as large.
    """
    everything = slice(0, frame[0]), slice(0, frame[1])
    if size is None:
        natural = natural or frame
        return [Piece(0, 0, frame, natural, at_least_smallest(natural), everything, whole_logits=True)]
    if fit == "tile":
        return _tiles(frame, size, stride, fixed)
    if fit == "letterbox":
        scale = min(size[0] / frame[0], size[1] / frame[1])
        content = _clipped(round(frame[0] * scale), size[0]), _clipped(round(frame[1] * scale), size[1])
        return [Piece(0, 0, frame, content, at_least_smallest(size), everything, color)]
    return [Piece(0, 0, frame, size, at_least_smallest(size), everything, whole_logits=True)]


def check_fit(fit: Fit | None, size: Size | None, stride: int) -> Fit | None:
    """Return how frames are fitted: as `fit` says, "stretch" where it says nothing but there is a size.

    Raises:
        ConfigError: `fit` is unknown or needs a size, or tiles of this size do not go with the network's stride.
    """
    if fit is not None and fit not in get_args(Fit):
        raise ConfigError(f"unknown fit {fit!r}; {did_you_mean(fit, get_args(Fit))}")
    if size is None:
        if fit is not None:
            raise ConfigError(
                f"fit is {fit!r}, but there is no size to fit frames to; give size=(height, width) "
                "too (the option --size HxW)"
            )
        return None
    if fit == "tile":
        whole = tuple(max(-(-side // stride) * stride, MIN_SIZE) for side in size)
        if whole != tuple(size):
            raise ConfigError(
                f"size is {size[0]}x{size[1]}, but tiles need multiples of the network's stride {stride} from "
                f"{MIN_SIZE}; give {whole[0]}x{whole[1]}"
            )
    return fit or "stretch"


def _tiles(frame: Size, size: Size, stride: int, fixed: bool) -> list[Piece]:
    """Return tiles row by row; each pixel's mask comes from the tile in which it is farthest from an inner border."""
    row_spans, column_spans = (_spans(length, side) for length, side in zip(frame, size, strict=True))
    found = []
    for top, *rows in row_spans:
        for left, *columns in column_spans:
            seen = min(size[0], frame[0] - top), min(size[1], frame[1] - left)
            canvas = size if fixed else (_canvas(seen[0], size[0], stride), _canvas(seen[1], size[1], stride))
            found.append(Piece(top, left, seen, seen, canvas, (slice(*rows), slice(*columns))))
    return found


def _spans(length: int, side: int) -> list[tuple[int, int, int]]:
    """Return each tile's first position, and where the part of it that is kept starts and stops."""
    last = max(-(-(length - side) // GRID) * GRID, 0)
    step = max((side - side // OVERLAP) // GRID * GRID, GRID)
    starts = [*range(0, last, step), last]
    cuts = [0, *((before + side + after) // 2 for before, after in pairwise(starts)), length]
    return list(zip(starts, cuts[:-1], cuts[1:], strict=True))


def _canvas(seen: int, side: int, stride: int) -> int:
    return min(side, max(-(-seen // stride) * stride, MIN_SIZE))


def _clipped(length: int, most: int) -> int:
    return min(max(length, 1), most)


def at_least_smallest(size: Size) -> Size:
    """Return a (height, width) of at least what networks take."""
    return max(size[0], MIN_SIZE), max(size[1], MIN_SIZE)


def whole_cells(size: Size) -> Size:
    """Return the (height, width) next to `size` that logits cover just so."""
    height, width = (max(round(side / CELL), 1) * CELL for side in size)
    return height, width


def resized(frame: ImageArray, size: Size) -> ImageArray:
    """Return an RGB frame (H, W, 3) as the network gets it at another (height, width), its shape not kept."""
    height, width = frame.shape[:2]
    if size == (height, width):
        return frame
    frame = np.ascontiguousarray(frame)
    if size[0] <= height and size[1] <= width:
        return shrink(frame, size)
    return np.asarray(cv2.resize(frame, size[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
