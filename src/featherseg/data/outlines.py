"""Outlines of ellipses and of what was turned, as points in pixels: see :mod:`featherseg.data.shapes`."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .shapes import FARTHEST

SAG = 0.02
"""Pixels by which a chord of an ellipse may stay inside it."""
MAX_CORNERS = 4096


def turned(ring: NDArray[np.float64], angle: float, pivot: tuple[float, float]) -> NDArray[np.float64]:
    """Return points (N, 2) turned clockwise, as seen on a screen, by `angle` degrees about a pivot."""
    if not angle:
        return ring
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    x, y = ring[:, 0] - pivot[0], ring[:, 1] - pivot[1]
    return np.stack([pivot[0] + x * cosine - y * sine, pivot[1] + x * sine + y * cosine], axis=1)


def ellipse_ring(x: float, y: float, radius_x: float, radius_y: float) -> NDArray[np.float64]:
    """Return an ellipse about (x, y), in so many corners (N, 2) that no chord stays more than ``SAG`` inside it.

    Raises:
        ValueError: a radius is no number of pixels.
    """
    radius = max(abs(radius_x), abs(radius_y), 1.0)
    if not radius <= FARTHEST:
        raise ValueError("an ellipse has a radius that is no number of pixels")
    count = min(max(16, math.ceil(math.pi / math.acos(1 - SAG / radius))), MAX_CORNERS)
    angles = np.arange(count) * (2 * math.pi / count)
    return np.stack([x + radius_x * np.cos(angles), y + radius_y * np.sin(angles)], axis=1)


def number(value: object, what: str) -> float:
    """Return a finite number that a file writes as one, or as text.

    Raises:
        ValueError: it is none; one line.
    """
    try:
        found = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"{what} is {str(value)[:40]!r}, which is no number")
    return found
