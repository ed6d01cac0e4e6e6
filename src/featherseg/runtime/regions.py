"""What other programs want of a mask: its connected pieces, their outlines, and both in the words of their formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError
from ..core.run_lengths import run_lengths
from ..core.tracing import Ring, signed_area, traced
from ..core.types import ClassSet, MaskArray

DIGITS = 2
"""Decimals of a coordinate in JSON: a hundredth of a pixel."""

Affine = Sequence[float]
"""a, b, c, d, e, f of x = a·column + b·row + c and y = d·column + e·row + f, in the order of rasterio's ``Affine``."""


@dataclass(frozen=True, eq=False)
class Polygon:
    """An outline of one connected piece of a class, in pixels: (0, 0) is the upper left corner of the first pixel.

    Args:
        name: of the class.
        label: its id.
        outer: points (x, y) round the piece, clockwise as seen on a screen, (N, 2); the last does not repeat the first.
        holes: rings inside it that are not of the class, the other way round.
        confidence: mean probability of the piece's pixels; None where it is not known.
    """

    name: str
    label: int
    outer: Ring
    holes: tuple[Ring, ...]
    confidence: float | None

    @property
    def area(self) -> float:
        """Pixels that it encloses, without its holes."""
        return sum(signed_area(ring) for ring in (self.outer, *self.holes))


@dataclass(frozen=True, eq=False)
class Instance:
    """A connected piece of a class; pixels that touch at a corner connect.

    Args:
        name: of the class.
        label: its id.
        area: number of pixels.
        box: (left, top, right, bottom) in pixels, right and bottom being the first column and row outside.
        confidence: mean probability of its pixels; None where it is not known.
        inside: which pixels of the box are of it, bool (bottom - top, right - left).
    """

    name: str
    label: int
    area: int
    box: tuple[int, int, int, int]
    confidence: float | None
    inside: NDArray[np.bool_]

    @cached_property
    def rings(self) -> list[Ring]:
        """Its exact outline and those of its holes, in the frame's pixels."""
        (rings,) = traced(self.inside)
        return [ring + self.box[:2] for ring in rings]

    def polygon(self, tolerance: float) -> Polygon:
        """Return its outline, from which no point that was left out is farther than `tolerance` pixels."""
        outer, *holes = (_simplified(ring, tolerance) for ring in self.rings)
        kept = tuple(hole for hole in holes if len(hole) >= 3)
        if len(outer) < 3:
            outer = self.rings[0]
        return Polygon(self.name, self.label, outer, kept, self.confidence)

    def whole(self, size: tuple[int, ...]) -> NDArray[np.bool_]:
        """Return which pixels of a frame of (height, width) `size` are of it, bool (H, W)."""
        left, top, right, bottom = self.box
        inside = np.zeros(size, np.bool_)
        inside[top:bottom, left:right] = self.inside
        return inside


def instances(
    mask: MaskArray,
    classes: ClassSet,
    confidence: NDArray[np.float32] | None = None,
    *,
    min_area: int = 1,
    background: bool = False,
) -> list[Instance]:
    """Return the connected pieces of each class in a mask, by class, and by the rows in which they begin.

    Args:
        mask: class ids, uint8 (H, W).
        classes: what they stand for; other ids, the ignored one above all, are no piece of anything.
        confidence: probability of each pixel's class (H, W), if it is known.
        min_area: pixels of the smallest piece that counts.
        background: whether the background counts as a class; see :attr:`.ClassSet.background`.

    Raises:
        ConfigError: `min_area` is below 1.
    """
    if min_area < 1:
        raise ConfigError(f"min_area is {min_area}; give a number of pixels from 1")
    found = []
    for label in np.flatnonzero(np.bincount(mask.ravel(), minlength=256)[: len(classes)] >= min_area).tolist():
        if label == classes.background and not background:
            continue
        of_class = mask == label
        _, numbers, stats, _ = cv2.connectedComponentsWithStats(of_class.astype(np.uint8), connectivity=8)
        sums = None if confidence is None else np.bincount(numbers[of_class], confidence[of_class], len(stats))
        for number in np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= min_area) + 1:
            left, top, width, height, area = (int(value) for value in stats[number])
            inside = np.asarray(numbers[top : top + height, left : left + width] == number, np.bool_)
            mean = None if sums is None else float(sums[number] / area)
            box = left, top, left + width, top + height
            found.append(Instance(classes.names[label], label, area, box, mean, inside))
    return found


def described(each: Instance, tolerance: float | None) -> dict[str, Any]:
    """Return what JSON says of a piece: class, area, box, confidence, and its outline if `tolerance` is a number."""
    said: dict[str, Any] = {"class": each.name, "id": each.label, "area": each.area, "box": list(each.box)}
    if each.confidence is not None:
        said["confidence"] = round(each.confidence, 4)
    if tolerance is not None:
        polygon = each.polygon(tolerance)
        said["polygon"] = [_points(ring) for ring in (polygon.outer, *polygon.holes)]
    return said


def coco_annotations(
    pieces: Sequence[Instance], size: tuple[int, ...], classes: ClassSet, image_id: int
) -> list[dict[str, Any]]:
    """Return pieces as COCO's annotations with run lengths; ``score`` is their confidence, as in COCO's results.

    Categories count from 1, as in COCO; with a background, which is 0, a category is the class's id.
    """
    first = 0 if classes.background == 0 else 1
    found = []
    for number, each in enumerate(pieces, start=1):
        left, top, right, bottom = each.box
        about: dict[str, Any] = {"id": number, "image_id": image_id, "category_id": each.label + first}
        about |= {"segmentation": run_lengths(each.whole(size)), "area": each.area, "iscrowd": 0}
        about["bbox"] = [left, top, right - left, bottom - top]
        found.append(about if each.confidence is None else about | {"score": round(each.confidence, 4)})
    return found


def feature_collection(polygons: Sequence[Polygon], transform: Affine | None) -> dict[str, Any]:
    """Return polygons as a GeoJSON FeatureCollection (RFC 7946), their outer rings anticlockwise on a map.

    Args:
        polygons: what to write.
        transform: from pixels to the map, see ``Affine``; pixels themselves where left out, with y downwards.

    Raises:
        ConfigError: `transform` is not six finite numbers, or makes all areas 0.
    """
    values = np.asarray([1, 0, 0, 0, 1, 0] if transform is None else transform, np.float64)
    if values.shape != (6,) or not np.isfinite(values).all():
        raise ConfigError(f"transform is {transform}; give the six numbers a, b, c, d, e, f of an affine one")
    a, b, c, d, e, f = values.tolist()
    turn = a * e - b * d
    if turn == 0:
        raise ConfigError(f"transform is {transform}, which maps all pixels onto a line; give the raster's own")
    features = []
    for each in polygons:
        rings = []
        for ring in (each.outer, *each.holes):
            x, y = ring[:, 0], ring[:, 1]
            points = np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)
            # Clockwise on a screen is anticlockwise in coordinates whose y goes down, and stays so unless turned over.
            points = points if turn > 0 else points[::-1]
            rings.append([*points.tolist(), points[0].tolist()])
        about: dict[str, Any] = {"class": each.name, "id": each.label}
        about |= {} if each.confidence is None else {"confidence": round(each.confidence, 4)}
        geometry = {"type": "Polygon", "coordinates": rings}
        features.append({"type": "Feature", "properties": about, "geometry": geometry})
    return {"type": "FeatureCollection", "features": features}


def checked_tolerance(tolerance: float) -> float:
    """Return by how many pixels outlines may be off.

    Raises:
        ConfigError: it is not a number from 0.
    """
    if not 0 <= tolerance < np.inf:
        raise ConfigError(f"tolerance is {tolerance}; give a number of pixels from 0, which keeps outlines exact")
    return tolerance


def _simplified(ring: Ring, tolerance: float) -> Ring:
    """Return a ring with fewer points, by Douglas and Peucker's rule."""
    if tolerance == 0 or len(ring) < 4:
        return ring
    points = cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance, closed=True)
    return np.asarray(points, np.float64).reshape(-1, 2)


def _points(ring: Ring) -> list[list[float]]:
    return [[round(x, DIGITS), round(y, DIGITS)] for x, y in ring.tolist()]
