"""How thin trees grow: trunks from the rim or a disc that bend, branch and get thinner.

Lengths are pixels of the picture, x to the right and y down, with the upper left corner at (0, 0).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Disc = tuple[float, float, float]
"""Middle (x, y) and radius."""

STEP = 2.0
"""Length of a straight piece."""
THINNEST, THICKEST = 1.3, 6.0
"""Widths. A line of 1.3 pixels covers half of some pixel wherever it lies, so that the truth has no gaps."""
FULL_INK = 255
"""Ink of a vessel that hides the ground."""


@dataclass(frozen=True)
class Branch:
    """A piece of a tree without forks.

    Args:
        points: (x, y, width) along it, (n, 3).
        ink: how far it stands out from the ground, 1–255.
    """

    points: FloatArray
    ink: int


@dataclass(frozen=True)
class Twig:
    """Where a branch is to begin: its place, heading (radians), width and length."""

    x: float
    y: float
    heading: float
    width: float
    length: float


def plant(size: tuple[int, int], disc: Disc | None, rng: Generator) -> Twig:
    """Return the start of a trunk: at the picture's rim, heading inside, or on the rim of a disc, heading out.

    Args:
        size: (height, width) of the picture.
        disc: (x, y, radius), or None.
        rng: draws place, heading, width and length.
    """
    height, width = size
    thick = min(THICKEST, min(size) / 28) * rng.uniform(0.45, 1.0)
    length = thick * rng.uniform(12, 26)
    if disc is not None and rng.uniform() < 0.7:
        x, y, radius = disc
        heading = rng.uniform(-math.pi, math.pi)
        x, y = x + 0.7 * radius * math.cos(heading), y + 0.7 * radius * math.sin(heading)
        return Twig(x, y, heading, max(thick, THINNEST), length)
    along = rng.uniform(0, 2 * (height + width))
    if along < 2 * width:
        x, y, inward = (along, 0.0, math.pi / 2) if along < width else (along - width, float(height), -math.pi / 2)
    else:
        along -= 2 * width
        x, y, inward = (0.0, along, 0.0) if along < height else (float(width), along - height, math.pi)
    return Twig(x, y, inward + rng.uniform(-0.7, 0.7), max(thick, THINNEST), length)


def grow(
    trunk: Twig,
    size: tuple[int, int],
    budget: float,
    ink: int,
    rng: Generator,
    crowded: Callable[[FloatArray], bool] = lambda points: False,
) -> list[Branch]:
    """Grow a tree, its thick branches first.

    Args:
        trunk: where it begins.
        size: (height, width) of the picture, beyond which nothing grows.
        budget: area that is not to be exceeded by more than a branch.
        ink: of the trunk; thin branches have less.
        rng: draws bends and forks.
        crowded: whether there are others where the points of a branch lie; it does not grow there.
    """
    twigs, branches, area = deque([trunk]), list[Branch](), 0.0
    restless, spacing = rng.uniform(0.02, 0.08), rng.uniform(12, 34)
    while twigs and area < budget:
        twig = twigs.popleft()
        points, headings = _path(twig, size, restless, rng)
        if twig is not trunk and crowded(points):
            continue
        area += float(points[1:, 2].sum()) * STEP
        branches.append(Branch(points, max(round(ink * min(0.55 + 0.45 * twig.width / 3, 1.0)), 1)))
        twigs.extend(_fork(points, headings, size, spacing, rng))
    return branches


def _path(twig: Twig, size: tuple[int, int], restless: float, rng: Generator) -> tuple[FloatArray, list[float]]:
    """Return the points of a branch and its heading at each; it ends just outside the picture."""
    steps = max(round(twig.length / STEP), 2)
    x, y, heading, bend = twig.x, twig.y, twig.heading, 0.0
    points, headings = [(x, y, twig.width)], [heading]
    for i, jolt in enumerate(rng.uniform(-restless, restless, steps).tolist()):
        bend = 0.85 * bend + jolt
        heading += bend
        x, y = x + STEP * math.cos(heading), y + STEP * math.sin(heading)
        points.append((x, y, max(twig.width * (1 - 0.25 * (i + 1) / steps), THINNEST)))
        headings.append(heading)
        if not _inside(x, y, size):
            break
    return np.array(points), headings


def _inside(x: float, y: float, size: tuple[int, int]) -> bool:
    return 0 <= x <= size[1] and 0 <= y <= size[0]


def _fork(
    points: FloatArray, headings: list[float], size: tuple[int, int], spacing: float, rng: Generator
) -> list[Twig]:
    """Return the twigs that a branch bears: some at its sides, and two at its end where that is in the picture."""
    side = 1.0 if rng.uniform() < 0.5 else -1.0
    twigs = []  # (place, turn, share of the width)
    at = rng.uniform(0.4, 1.2) * spacing / STEP
    while at < len(points) - 3:
        side = -side
        twigs.append((int(at), side * rng.uniform(0.5, 1.2), rng.uniform(0.45, 0.8)))
        at += rng.uniform(0.6, 1.6) * spacing / STEP
    end = len(points) - 1
    if _inside(points[end, 0], points[end, 1], size):
        larger = rng.uniform(0.75, 0.95)
        # Murray's law (1926): the cubes of the widths after a fork sum up to that of the width before it.
        smaller = (1 - larger**3) ** (1 / 3)
        twigs += [(end, side * rng.uniform(0.1, 0.4), larger), (end, -side * rng.uniform(0.4, 0.9), smaller)]
    found = []
    for place, turn, share in twigs:
        x, y, width = points[place].tolist()
        thin = width * share
        if thin >= 0.8 * THINNEST:
            length = 8 + thin * rng.uniform(8, 20)
            found.append(Twig(x, y, headings[place] + turn, max(thin, THINNEST), length))
    return found
