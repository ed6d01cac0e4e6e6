"""The stage of a synthetic street: its classes, camera, light, sky, ground and lens.

Lengths are metres in the street's own frame: x to the right of the camera, y up from the road, z ahead along the
road, which may bend. Array arithmetic keeps to + - * / and comparisons, which round alike on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from ..types import IGNORE_INDEX, ClassSet, ImageArray, MaskArray

Color = tuple[float, float, float]
FloatArray = NDArray[np.float64]

NEAR = 1.2
"""Nearest depth that is drawn; corners closer to the camera (m) are moved here, outside every picture."""

CIRCLE = np.array([(math.cos(i * math.pi / 8), math.sin(i * math.pi / 8)) for i in range(16)])
"""Sixteen points (x, y) of the unit circle, anticlockwise from (1, 0)."""

GLASS: Color = (74, 88, 104)
"""RGB of window panes."""

_FRACTION_BITS = 4
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

    def fill(self, pixels: ArrayLike, color: Color, label: Label | None = None) -> None:
        """Fill one polygon (N, 2) or a stack of them (M, N, 2), smooth in the image and hard in the mask.

        Where polygons of one stack overlap an even number of times, nothing is filled. Without a `label` the mask
        stays as it is: decoration on a thing that is there already.
        """
        grid = 1 << _FRACTION_BITS
        # OpenCV puts whole numbers at the pixels' centres, half a pixel from where the camera has them.
        fixed = np.rint(np.asarray(pixels, np.float64) * grid - grid / 2).astype(np.int32)
        polygons = list(fixed) if fixed.ndim == 3 else [fixed]
        cv2.fillPoly(self.image, polygons, color, cv2.LINE_AA, _FRACTION_BITS)
        if label is not None:
            cv2.fillPoly(self.mask, polygons, int(label), cv2.LINE_8, _FRACTION_BITS)

    def fill_world(self, points: ArrayLike, color: Color, label: Label | None = None) -> None:
        """Fill polygons given in the street's frame, (N, 3) or (M, N, 3)."""
        self.fill(self.project(points), color, label)

    def glow(self, point: tuple[float, float, float], radius: float, color: Color) -> None:
        """Remember a light at a street point, `radius` metres wide, for :func:`finish` to spread."""
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
    cross: tuple[float, float] | None
    zebra: float | None
    asphalt: Color
    paving: Color
    slab: float

    def crossed(self, z: float, margin: float = 0.0) -> bool:
        """Whether depth `z` lies in the cross street or within `margin` metres of it."""
        return self.cross is not None and self.cross[0] - margin < z < self.cross[1] + margin


def draw_sky(canvas: Canvas, light: Light, rng: Generator) -> None:
    """Fill everything with sky: a gradient, the low sun's glow, heaped clouds."""
    width = canvas.mask.shape[1]
    canvas.mask[:] = Label.SKY
    rows = min(math.ceil(canvas.horizon) + 1, canvas.mask.shape[0])
    low, high = np.float32(light.sky_low), np.float32(light.sky_top)
    t = np.minimum((np.arange(rows, dtype=np.float32)[:, None, None] + 0.5) / np.float32(max(canvas.horizon, 1.0)), 1)
    sky = np.empty((rows, width, 3), np.float32)
    sky[:] = high + (low - high) * t * (1.6 - 0.6 * t)
    if light.glow:
        dx = (np.arange(width, dtype=np.float32) + 0.5 - canvas.center) / canvas.unit
        dy = (np.arange(rows, dtype=np.float32) + 0.5 - canvas.horizon) / canvas.unit + 0.1
        dx -= np.float32(light.side * rng.uniform(0.15, 0.6))
        near = np.float32(light.glow) / (1 + 14 * (dx[None, :] ** 2 + 2 * dy[:, None] ** 2))
        sky += (np.float32((255.0, 222.0, 160.0)) - sky) * near[..., None]
    for alpha, color in zip(_cloud_layers(light, rng), (light.cloud_dark, light.cloud_lit), strict=True):
        # One small cloud sheet, stretched: the same clouds at every size.
        sheet = cv2.resize(
            alpha, (2 * math.ceil(canvas.unit), max(round(canvas.horizon), 1)), interpolation=cv2.INTER_LINEAR_EXACT
        )
        left = (sheet.shape[1] - width) // 2
        weight = sheet[:rows, left : left + width, None] / np.float32(255)
        sky[: len(weight)] += (np.float32(color) - sky[: len(weight)]) * weight
    canvas.image[:rows] = np.rint(sky)
    canvas.image[rows:] = light.sky_low


def _cloud_layers(light: Light, rng: Generator) -> tuple[ImageArray, ImageArray]:
    """Return the opacity (96, 384) of the clouds' dark undersides and of their lit tops."""
    under, top = np.zeros((96, 384), np.uint8), np.zeros((96, 384), np.uint8)
    for _ in range(rng.integers(*light.cover)):
        x, y = rng.uniform(0, 384), rng.uniform(4, 80)
        # Clouds near the horizon are far away: smaller and flatter.
        span = rng.uniform(22, 62) * (1.15 - y / 110)
        opacity = int(rng.integers(130, 235))
        for _ in range(rng.integers(8, 16)):
            offset = rng.uniform(-1, 1)
            rx = span * 0.34 * (1.15 - abs(offset)) * rng.uniform(0.6, 1.1)
            px, py = round(x + offset * span), round(y - rx * rng.uniform(0.0, 0.4))
            cv2.ellipse(under, (px, py), (round(rx) + 1, round(rx * 0.42) + 1), 0, 0, 360, opacity, -1)
            lift, shift = round(rx * 0.2) + 1, round(light.side * rx * 0.2)
            cv2.ellipse(top, (px + shift, py - lift), (round(rx * 0.8), round(rx * 0.3)), 0, 0, 360, opacity, -1)
    return cv2.GaussianBlur(under, (9, 9), 2.0), cv2.GaussianBlur(top, (7, 7), 1.6)


def draw_ground(
    canvas: Canvas, street: Street, light: Light, shadows: Sequence[tuple[FloatArray, float]], rng: Generator
) -> None:
    """Paint road, pavements, markings and kerbs, then darken them by `shadows`: (polygon (N, 3), strength 0–1)."""
    grain = rng.uniform(-0.5, 0.5, 1 << 16).astype(np.float32)
    height, width = canvas.mask.shape
    top = min(max(int(canvas.horizon + 1), 0), height)
    rows = np.arange(top, height) + 0.5
    z = np.minimum(canvas.focal * canvas.eye / (rows - canvas.horizon), 400.0)[:, None]
    x = (np.arange(width)[None, :] + 0.5 - canvas.center) * (z / canvas.focal) - canvas.curve * z * z
    road = (x > -street.left) & (x < street.right)
    if street.cross:
        road |= (z > street.cross[0]) & (z < street.cross[1])
    slab = street.slab

    def noise(column: NDArray[np.int64], row: NDArray[np.int64], pitch: float, strength: float) -> NDArray[np.float32]:
        """Return a random value for each square of `pitch` metres, fading where that is too fine to be seen."""
        visible = np.minimum(166 * pitch * canvas.focal / (canvas.unit * z), 1) * strength
        values: NDArray[np.float32] = grain[((row << 8) + column) & 0xFFFF] * visible.astype(np.float32)
        return values

    across, along = np.floor(x / slab).astype(np.int64), np.floor(z / slab).astype(np.int64)
    joint = (x - across * slab < 0.07 * slab) | (z - along * slab < 0.09 * slab)
    paved = noise(across, along, slab, 0.14) - joint * (0.2 * np.clip(1.3 - z / 16, 0, 1)).astype(np.float32)
    fine = noise(np.floor(x / 0.055).astype(np.int64), np.floor(z / 0.055).astype(np.int64), 0.055, 0.13)
    tone = 1 + fine + np.where(road, np.float32(0), paved)
    fog = (z / (z + light.visibility)).astype(np.float32)[..., None]
    sun, haze = np.float32(light.sun), np.float32(light.haze) * fog
    lit = np.where(road[..., None], np.float32(street.asphalt) * sun, np.float32(street.paving) * sun) * (1 - fog)
    canvas.image[top:] = np.rint(np.clip(lit * tone[..., None] + haze, 0, 255))
    canvas.mask[top:] = np.where(road, Label.ROAD, Label.PAVEMENT)
    _draw_markings(canvas, street, light)

    dark = np.zeros((height, width), np.uint8)
    for polygon, strength in shadows:
        pixels = np.rint(canvas.project(polygon) * 16 - 8).astype(np.int32)
        cv2.fillPoly(dark, [pixels], round(255 * strength), cv2.LINE_AA, _FRACTION_BITS)
    dark = cv2.GaussianBlur(dark, (0, 0), canvas.unit * 0.006)
    # What the sun does not reach is lit by the blue sky.
    kept = [np.rint(np.clip((255 - np.arange(256)) * blue, 0, 255)) for blue in (0.96, 0.98, 1.06)]
    factor = cv2.LUT(cv2.merge([dark[top:]] * 3), np.stack(kept, axis=-1).astype(np.uint8)[None])
    canvas.image[top:] = cv2.multiply(canvas.image[top:], factor, scale=1 / 255)


def _draw_markings(canvas: Canvas, street: Street, light: Light) -> None:
    """Paint kerbs, lane lines and the zebra crossing."""

    def stripe(x: float, wide: float, z0: float, z1: float, color: Color, label: Label | None = None) -> None:
        zs = [z0 + (z1 - z0) * i / 6 for i in range(7)]
        edge = [(x - wide / 2, 0.0, z) for z in zs] + [(x + wide / 2, 0.0, z) for z in reversed(zs)]
        canvas.fill_world(edge, light.tint(color, 1.0, (z0 + z1) / 2), label)

    starts = [(2.0, 95.0)]
    if street.cross:
        starts = [(2.0, street.cross[0]), (street.cross[1], 95.0)]
    for z0, z1 in starts:
        for x, side in ((-street.left, -1), (street.right, 1)):
            stripe(x + side * 0.2, 0.4, z0, z1, (176, 174, 170), Label.PAVEMENT)
            stripe(x - side * 0.12, 0.24, z0, z1, scaled(street.asphalt, 0.82), Label.ROAD)
        for x in street.solids:
            stripe(x, 0.16, z0, z1 - 1, (226, 226, 220))
    for x in street.dashes:
        for z0 in range(2, 70, 7):
            if not street.crossed(z0 + 1.5, 2.0):
                stripe(x, 0.17, z0, z0 + 3.2, (232, 232, 226))
    if street.zebra is not None:
        bars = int((street.left + street.right - 0.6) / 1.0)
        for i in range(bars):
            stripe(-street.left + 0.8 + i, 0.52, street.zebra, street.zebra + 3.0, (230, 230, 226))


def finish(canvas: Canvas, light: Light, sharpness: float, grain: int, rng: Generator) -> None:
    """Do what lens and sensor do: spread bright lamps, blur, darken the corners, add noise.

    Args:
        sharpness: sigma of the blur, in thousandths of the picture's height.
        grain: the noise's largest step, of 255.
    """
    image = canvas.image
    height, width = canvas.mask.shape
    if canvas.glows and light.lamps:
        small = np.zeros((-(-height // 2), -(-width // 2), 3), np.uint8)
        for x, y, radius, color in canvas.glows:
            cv2.circle(small, (round(x / 2), round(y / 2)), max(round(radius / 2), 1), color, -1)
        halo = cv2.GaussianBlur(small, (0, 0), canvas.unit * 0.012)
        image = cv2.add(image, cv2.resize(halo, (width, height), interpolation=cv2.INTER_LINEAR_EXACT))
    image = cv2.GaussianBlur(image, (0, 0), max(sharpness * canvas.unit / 1000, 0.2))
    dx = (np.arange(width, dtype=np.float32) + 0.5) / width - 0.5
    dy = (np.arange(height, dtype=np.float32) + 0.5) / height - 0.5
    corner = 1 - np.float32(0.32) * (dx[None, :] ** 2 + dy[:, None] ** 2)
    # The noise comes from a table of whole numbers, the sums of two dice: no exponential to be rounded differently.
    dice = np.sort(np.add.outer(np.arange(16), np.arange(16)).ravel() - 15)
    bell = np.rint(dice * (grain / 15)).astype(np.float32)
    noise = bell[rng.integers(0, 256, image.shape, np.uint8)]
    canvas.image = np.clip(np.rint(image * corner[..., None] + noise), 0, 255).astype(np.uint8)


def hide_border(canvas: Canvas, share: float) -> None:
    """Mark a frame of the picture, `share` of its height wide and one pixel at least, as unlabelled."""
    wide = max(round(share * canvas.mask.shape[0]), 1)
    canvas.mask[:wide] = canvas.mask[-wide:] = IGNORE_INDEX
    canvas.mask[:, :wide] = canvas.mask[:, -wide:] = IGNORE_INDEX
