"""What the parts of a synthetic street share: its classes, light, camera and plan.

Lengths are metres in the street's own frame: x to the right of the camera, y up from the road, z ahead along the
road, which may bend. Array arithmetic keeps to + - * / and comparisons, which round alike on every machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...core.types import ClassSet, ImageArray, MaskArray

Color = tuple[float, float, float]
FloatArray = NDArray[np.float64]

NEAR = 1.2
"""Nearest depth that is drawn; corners closer to the camera (m) are moved here, outside every picture."""

CIRCLE = np.array([(math.cos(i * math.pi / 8), math.sin(i * math.pi / 8)) for i in range(16)])
"""Sixteen points (x, y) of the unit circle, anticlockwise from (1, 0)."""

GLASS: Color = (74, 88, 104)
"""RGB of window panes."""

FRACTION_BITS = 4
"""Corners are handed to OpenCV in 1/16 pixel."""


class Label(IntEnum):
    """Class ids of the street set."""

    ROAD = 0
    PAVEMENT = 1
    BUILDING = 2
    SKY = 3
    TREE = 4
    CAR = 5
    PERSON = 6
    POLE = 7
    SIGN = 8


STREET_CLASSES = ClassSet(
    ("road", "pavement", "building", "sky", "tree", "car", "person", "pole", "traffic sign"),
    (
        (128, 64, 128),
        (244, 35, 232),
        (70, 70, 70),
        (70, 130, 180),
        (107, 142, 35),
        (0, 0, 142),
        (220, 20, 60),
        (153, 153, 153),
        (220, 220, 0),
    ),
)
"""Classes of the synthetic street, in the colours Cityscapes gives them."""


@dataclass(frozen=True)
class Light:
    """Time of day and weather.

    Args:
        sky_top, sky_low: RGB of the sky overhead and at the horizon.
        haze: RGB that far things fade to.
        sun, shade: factors on a surface's RGB in full light and in shadow.
        shadow: how much a cast shadow darkens the ground, 0–1.
        slant: metres of shadow per metre of height.
        cloud_lit, cloud_dark: RGB of the clouds' sunny and shaded parts.
        cover: number of clouds.
        lamps: share of windows that are lit, 0–1; above 0 lamps and headlights are on.
        glow: strength of the low sun's glow in the sky, 0–1.
        side: where the sun stands: +1 right, −1 left.
        front: light on surfaces that face the camera, 0–1.
        visibility: depth at which haze and colour are even, m.
    """

    sky_top: Color
    sky_low: Color
    haze: Color
    sun: Color
    shade: Color
    shadow: float
    slant: float
    cloud_lit: Color
    cloud_dark: Color
    cover: tuple[int, int]
    lamps: float = 0.0
    glow: float = 0.0
    side: int = 1
    front: float = 0.5
    visibility: float = 200.0

    def tint(self, color: Color, lit: float, z: float) -> Color:
        """Return `color` as seen at depth `z` under a share `lit` (0–1) of the sun."""
        fog = z / (z + self.visibility)
        parts = zip(color, self.sun, self.shade, self.haze, strict=True)
        red, green, blue = (
            (1 - fog) * min(part * (shade + (sun - shade) * lit), 255.0) + fog * haze
            for part, sun, shade, haze in parts
        )
        return red, green, blue


LIGHTS = {
    "noon": Light(
        sky_top=(58, 118, 205), sky_low=(182, 212, 238), haze=(188, 208, 228), sun=(1.22, 1.19, 1.12),
        shade=(0.64, 0.68, 0.78), shadow=0.5, slant=0.75, cloud_lit=(252, 252, 252), cloud_dark=(196, 206, 222),
        cover=(3, 7), visibility=260.0,
    ),
    "golden": Light(
        sky_top=(86, 128, 196), sky_low=(255, 208, 140), haze=(244, 204, 152), sun=(1.36, 1.12, 0.8),
        shade=(0.56, 0.54, 0.62), shadow=0.52, slant=2.2, cloud_lit=(255, 226, 182), cloud_dark=(196, 160, 162),
        cover=(2, 6), glow=0.8, visibility=170.0,
    ),
    "overcast": Light(
        sky_top=(158, 166, 176), sky_low=(212, 215, 217), haze=(200, 204, 208), sun=(1.0, 1.0, 1.01),
        shade=(0.82, 0.84, 0.88), shadow=0.1, slant=0.4, cloud_lit=(216, 219, 222), cloud_dark=(150, 156, 166),
        cover=(9, 14), visibility=110.0,
    ),
    "dusk": Light(
        sky_top=(40, 50, 104), sky_low=(240, 150, 118), haze=(158, 116, 132), sun=(0.66, 0.54, 0.58),
        shade=(0.42, 0.42, 0.54), shadow=0.12, slant=1.2, cloud_lit=(238, 146, 132), cloud_dark=(104, 82, 122),
        cover=(3, 7), lamps=0.5, glow=0.6, visibility=150.0,
    ),
}  # fmt: skip
"""The four times of day."""


class Canvas:
    """An image and its mask behind one pinhole camera.

    The camera sees at least a 2:1 frame's worth of the street in one direction: other shapes are cut from it, so
    a scene keeps its proportions at every size.

    Args:
        size: (height, width) in pixels.
        horizon: height of the horizon, as a share of the picture's height from its top.
        focal: focal length in picture heights (of a 2:1 frame).
        eye: height of the camera, m.
        curve: bend of the road, m sideways per m² ahead; above 0 it bends to the right.
    """

    def __init__(self, size: tuple[int, int], horizon: float, focal: float, eye: float, curve: float) -> None:
        height, width = size
        self.unit = max(height, width / 2)
        self.center, self.horizon = width / 2, horizon * height
        self.focal, self.eye, self.curve = focal * self.unit, eye, curve
        self.image: ImageArray = np.zeros((height, width, 3), np.uint8)
        self.mask: MaskArray = np.zeros((height, width), np.uint8)
        self.glows: list[tuple[float, float, float, Color]] = []

    def project(self, points: ArrayLike) -> FloatArray:
        """Return pixel positions (..., 2), as (x, y), of street points (..., 3)."""
        world = np.asarray(points, np.float64)
        z = np.maximum(world[..., 2], NEAR)
        scale = self.focal / z
        seen = np.empty((*world.shape[:-1], 2))
        seen[..., 0] = self.center + scale * (world[..., 0] + self.curve * z * z)
        seen[..., 1] = self.horizon + scale * (self.eye - world[..., 1])
        return seen

    def fill(self, pixels: ArrayLike, color: Color, label: int | None = None) -> None:
        """Fill one polygon (N, 2) or a stack of them (M, N, 2), smooth in the image and hard in the mask.

        Where polygons of one stack overlap an even number of times, nothing is filled. Without a `label` the mask
        stays as it is: decoration on a thing that is there already.
        """
        grid = 1 << FRACTION_BITS
        # OpenCV puts whole numbers at the pixels' centres, half a pixel from where the camera has them.
        fixed = np.rint(np.asarray(pixels, np.float64) * grid - grid / 2).astype(np.int32)
        polygons = list(fixed) if fixed.ndim == 3 else [fixed]
        cv2.fillPoly(self.image, polygons, color, cv2.LINE_AA, FRACTION_BITS)
        if label is not None:
            cv2.fillPoly(self.mask, polygons, int(label), cv2.LINE_8, FRACTION_BITS)

    def fill_world(self, points: ArrayLike, color: Color, label: int | None = None) -> None:
        """Fill polygons given in the street's frame, (N, 3) or (M, N, 3)."""
        self.fill(self.project(points), color, label)

    def glow(self, point: tuple[float, float, float], radius: float, color: Color) -> None:
        """Remember a light at a street point, `radius` metres wide, for the lens to spread."""
        x, y = self.project(point)
        self.glows.append((float(x), float(y), radius * self.focal / max(point[2], NEAR), color))


class Thing(Protocol):
    """What stands in the street; the painter goes from far to near."""

    @property
    def depth(self) -> float:
        """Return the z (m) by which the painter orders it."""
        ...

    def shadow(self, light: Light) -> list[FloatArray]:
        """Return the polygons (N, 3) that it darkens on the ground."""
        ...

    def draw(self, canvas: Canvas, light: Light) -> None:
        """Paint it and set its class in the mask."""
        ...


def scaled(color: Color, factor: float) -> Color:
    """Return `color` brighter or darker by `factor`."""
    return color[0] * factor, color[1] * factor, color[2] * factor


def sunlit(side: float, light: Light) -> float:
    """Return the share of sun (0–1) on a wall whose outside looks to x = `side` (−1 or +1)."""
    return 0.5 + 0.5 * side * light.side


def cast(x: float, z: float, half: float, height: float, light: Light) -> FloatArray:
    """Return the shadow (4, 3) of an upright thing `half` metres to each side: a band away from the sun."""
    far = x - light.side * light.slant * height
    away = z + (light.front - 0.5) * light.slant * height
    return np.array([(x, 0, z - half), (x, 0, z + half), (far, 0, away + half), (far, 0, away - half)])


@dataclass(frozen=True)
class Street:
    """Where road and pavements lie: kerbs at x = −left and +right, one optional cross street.

    Args:
        left, right: distance from the camera's line to each kerb, m.
        pavement: width of the pavements, m.
        dashes, solids: x of the dashed and of the solid lane markings, m.
        oncoming: x of the middle of each lane of the traffic that comes towards us, m.
        parking: whether cars park along the left and the right kerb.
        cross: near and far z of a cross street, m.
        zebra: near z of a zebra crossing, m.
        asphalt, paving: RGB of road and pavement.
        slab: side of a paving slab, m.
    """

    left: float
    right: float
    pavement: float
    dashes: tuple[float, ...]
    solids: tuple[float, ...]
    oncoming: tuple[float, ...]
    parking: tuple[bool, bool]
    cross: tuple[float, float] | None
    zebra: float | None
    asphalt: Color
    paving: Color
    slab: float

    def crossed(self, z: float, margin: float = 0.0) -> bool:
        """Whether depth `z` lies in the cross street or within `margin` metres of it."""
        return self.cross is not None and self.cross[0] - margin < z < self.cross[1] + margin
