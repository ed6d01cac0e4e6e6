"""All of a synthetic street's picture that is not a thing in it: sky, skyline, ground, bonnet and lens."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ...core.types import IGNORE_INDEX, ImageArray
from .layout import PAINTS, WALLS, pick
from .scene import FRACTION_BITS, Canvas, Color, FloatArray, Label, Light, Street, scaled


def _row(color: Color) -> NDArray[np.float32]:
    """Return a colour as three floats of the pictures' precision."""
    return np.array(color, np.float32)


def draw_sky(canvas: Canvas, light: Light, rng: Generator) -> None:
    """Fill everything with sky: a gradient, the low sun's glow, heaped clouds."""
    width = canvas.mask.shape[1]
    canvas.mask[:] = Label.SKY
    rows = min(math.ceil(canvas.horizon) + 1, canvas.mask.shape[0])
    low, high = _row(light.sky_low), _row(light.sky_top)
    t = np.minimum((np.arange(rows, dtype=np.float32)[:, None, None] + 0.5) / np.float32(max(canvas.horizon, 1.0)), 1)
    sky = np.empty((rows, width, 3), np.float32)
    sky[:] = high + (low - high) * t * (1.6 - 0.6 * t)
    if light.glow:
        dx = (np.arange(width, dtype=np.float32) + np.float32(0.5 - canvas.center)) / np.float32(canvas.unit)
        dy = (np.arange(rows, dtype=np.float32) + np.float32(0.5 - canvas.horizon)) / np.float32(canvas.unit)
        dy += np.float32(0.1)
        dx -= np.float32(light.side * rng.uniform(0.15, 0.6))
        near = np.float32(light.glow) / (1 + 14 * (dx[None, :] ** 2 + 2 * dy[:, None] ** 2))
        sky += (_row((255.0, 222.0, 160.0)) - sky) * near[..., None]
    for alpha, color in zip(_cloud_layers(light, rng), (light.cloud_dark, light.cloud_lit), strict=True):
        # One small cloud sheet, stretched: the same clouds at every size.
        extent = 2 * math.ceil(canvas.unit), round(canvas.horizon)
        sheet = cv2.resize(alpha, extent, interpolation=cv2.INTER_LINEAR_EXACT)
        left = (sheet.shape[1] - width) // 2
        weight = sheet[:rows, left : left + width, None] / np.float32(255)
        sky[: len(weight)] += (_row(color) - sky[: len(weight)]) * weight
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
    cv2.GaussianBlur(under, (9, 9), 2.0, dst=under)
    cv2.GaussianBlur(top, (7, 7), 1.6, dst=top)
    return under, top


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
    sun, haze = _row(light.sun), _row(light.haze) * fog
    lit = np.where(road[..., None], _row(street.asphalt) * sun, _row(street.paving) * sun) * (1 - fog)
    canvas.image[top:] = np.rint(np.clip(lit * tone[..., None] + haze, 0, 255))
    canvas.mask[top:] = np.where(road, Label.ROAD, Label.PAVEMENT)
    _draw_markings(canvas, street, light)

    dark = np.zeros((height, width), np.uint8)
    for polygon, strength in shadows:
        pixels = np.rint(canvas.project(polygon) * 16 - 8).astype(np.int32)
        cv2.fillPoly(dark, [pixels], round(255 * strength), cv2.LINE_AA, FRACTION_BITS)
    cv2.GaussianBlur(dark, (0, 0), canvas.unit * 0.006, dst=dark)
    # What the sun does not reach is lit by the blue sky.
    kept = [np.rint(np.clip((255 - np.arange(256)) * blue, 0, 255)) for blue in (0.96, 0.98, 1.06)]
    factor = cv2.LUT(cv2.merge([dark[top:]] * 3), np.stack(kept, axis=-1).astype(np.uint8)[None])
    canvas.image[top:] = cv2.multiply(canvas.image[top:], factor, scale=1 / 255)


def _draw_markings(canvas: Canvas, street: Street, light: Light) -> None:
    """Paint kerbs, lane lines and the zebra crossing."""

    def stripe(x: float, wide: float, z0: float, z1: float, color: Color, label: int | None = None) -> None:
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
        for i in range(int(street.left + street.right - 0.6)):
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
        cv2.add(image, cv2.resize(halo, (width, height), interpolation=cv2.INTER_LINEAR_EXACT), dst=image)
    cv2.GaussianBlur(image, (0, 0), max(sharpness * canvas.unit / 1000, 0.2), dst=image)
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


def draw_skyline(canvas: Canvas, light: Light, rng: Generator) -> None:
    """Close the view with a hazy town on the horizon, trees before it, and now and then a church."""

    def block(x: float, z: float, outline: list[tuple[float, float]], color: Color, label: Label) -> None:
        points = np.array([(x + dx, y, z) for dx, y in outline]) - (canvas.curve * z * z * 0.6, 0, 0)
        canvas.fill_world(points, light.tint(color, 0.5, z), label)

    x = -190.0
    while x < 190:
        wide, high = rng.uniform(9, 22), rng.uniform(5, 15)
        roof = rng.uniform(0, 4)
        outline = [(0, -2), (0, high), (wide / 2, high + roof), (wide, high), (wide, -2)]
        block(x, 130.0, outline, pick(WALLS, rng), Label.BUILDING)
        x += wide
    if rng.uniform() < 0.4:
        tower = [(-3.0, 0.0), (-3.0, 20.0), (0.0, 33.0), (3.0, 20.0), (3.0, 0.0)]
        block(rng.uniform(-12, 12), 128.0, tower, (150, 140, 128), Label.BUILDING)
    for _ in range(rng.integers(6, 16)):
        wide, high = rng.uniform(6, 12), rng.uniform(5, 9)
        crown = [(-wide, -1.5), (-wide, high * 0.6), (-wide * 0.6, high * 0.95)]
        crown += [(wide * 0.1, high), (wide * 0.8, high * 0.75), (wide, -1.5)]
        block(rng.uniform(-120, 120), 118.0, crown, (84, 112, 70), Label.TREE)


def draw_bonnet(canvas: Canvas, light: Light, rng: Generator) -> None:
    """Paint the own car's bonnet along the lower edge; the mask ignores it."""
    height = canvas.mask.shape[0]
    rise, paint = rng.uniform(0.05, 0.1), pick(PAINTS, rng)
    t = np.linspace(-1, 1, 25)
    arch = np.column_stack((canvas.center + t * canvas.unit * 1.05, height * (1 - rise * (1 - 0.8 * t * t * t * t))))
    body = np.concatenate((arch, [(arch[-1, 0], height + 2), (arch[0, 0], height + 2)]))
    canvas.fill(body, light.tint(paint, 0.5, 1.0), IGNORE_INDEX)
    canvas.fill(body * (0.7, 1) + (canvas.center * 0.3, height * 0.025), light.tint(paint, 0.9, 1.0))
