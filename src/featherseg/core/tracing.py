"""From a bitmap to outlines that enclose exactly its pixels.

Each pixel that is inside has up to four sides that face the outside. An outline goes through the middles of such
sides, so that it is straight along rows, columns and diagonals, and no centre of a pixel is nearer to it than a third
of a pixel: it encloses exactly the centres of the pixels inside, even after its coordinates were rounded.
"""

from __future__ import annotations

from collections import defaultdict

import cv2
import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.float64]
"""Points (x, y), (N, 2); the last does not repeat the first."""


def outlines(inside: NDArray[np.bool_]) -> list[Ring]:
    """Return one outline of each connected piece of a bitmap, bool (H, W); pixels that touch at a corner connect.

    A hole is reached by a bridge of no width, there and back along one line. By the even-odd rule, and by the non-zero
    rule as well, it is a hole then; programs that draw an outline's own line may fill a bridge of one pixel.
    """
    return [_bridged(rings) for rings in traced(inside)]


def traced(inside: NDArray[np.bool_]) -> list[list[Ring]]:
    """Return the rings of each connected piece of a bitmap: first the outer one, then those of its holes.

    The outer one goes clockwise, as seen on a screen, and those of holes the other way round.
    """
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return []
    top, left = int(rows[0]), int(columns[0])
    part = np.ascontiguousarray(inside[top : rows[-1] + 1, left : columns[-1] + 1])
    pieces: dict[int, list[Ring]] = defaultdict(list)
    for piece, ring in _rings(part):
        pieces[piece].append(ring / 2 + (left, top))
    return [sorted(rings, key=signed_area, reverse=True) for _, rings in sorted(pieces.items())]


def _rings(inside: NDArray[np.bool_]) -> list[tuple[int, NDArray[np.int64]]]:
    """Return the rings round pieces and holes: the piece's number, and points in half pixels, (N, 2).

    Sides are gone along with the inside on the right: clockwise, as seen on a screen, round pieces, and the other way
    round holes. Directions are 0 right, 1 down, 2 left, 3 up; a side is known by direction and starting corner.
    """
    height, width = inside.shape
    padded = np.pad(inside, 1)
    center = padded[1:-1, 1:-1]
    sides = np.zeros((4, height + 1, width + 1), np.bool_)
    sides[0, :-1, :-1] = center & ~padded[:-2, 1:-1]
    sides[1, :-1, 1:] = center & ~padded[1:-1, 2:]
    sides[2, 1:, 1:] = center & ~padded[2:, 1:-1]
    sides[3, 1:, :-1] = center & ~padded[1:-1, :-2]
    step_x, step_y = np.array([1, 0, -1, 0]), np.array([0, 1, 0, -1])
    flat = sides.reshape(4, -1)
    direction, corner = np.nonzero(flat)
    y, x = np.divmod(corner, width + 1)
    end = corner + step_x[direction] + step_y[direction] * (width + 1)
    # To the left first: where two pixels touch at a corner, from one of them to the other.
    turn = np.where(flat[(direction + 3) % 4, end], 3, np.where(flat[direction, end], 0, 1))
    keys = direction * flat.shape[1] + corner
    following = np.searchsorted(keys, (direction + turn) % 4 * flat.shape[1] + end).tolist()
    points = np.stack([2 * x + step_x[direction], 2 * y + step_y[direction]], axis=1)
    # The pixel of a side lies at its right.
    pixel_x, pixel_y = x - np.isin(direction, (1, 2)), y - np.isin(direction, (2, 3))
    _, numbers = cv2.connectedComponents(inside.astype(np.uint8), connectivity=8)
    seen, found = bytearray(len(keys)), []
    for start in range(len(keys)):
        if seen[start]:
            continue
        places, place = [], start
        while not seen[place]:
            seen[place] = 1
            places.append(place)
            place = following[place]
        ring = points[places]
        before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
        corners = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
        found.append((int(numbers[pixel_y[start], pixel_x[start]]), ring[corners]))
    return found


def signed_area(ring: Ring) -> float:
    """Return the area that a ring encloses; negative round a hole."""
    after = np.roll(ring, -1, axis=0)
    return float((ring[:, 0] * after[:, 1] - after[:, 0] * ring[:, 1]).sum()) / 2


def _bridged(rings: list[Ring]) -> Ring:
    """Return a piece's ring, the first, and those of its holes as one."""
    whole = rings[0]
    for hole in rings[1:]:
        entry = int(hole[:, 1].argmin())
        hole = np.roll(hole, -entry, axis=0)
        gate = int(np.abs(whole - hole[0]).sum(axis=1).argmin())
        whole = np.concatenate([whole[: gate + 1], hole, hole[:1], whole[gate:]])
    return whole
