"""What lies under the vessels: textured, unevenly lit ground with a disc, spots and soft folds that are no vessels."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ...core.types import ImageArray
from .trees import Disc, Twig, grow

FloatImage = NDArray[np.float32]
Color = tuple[int, int, int]


def value_noise(size: tuple[int, int], cell: float, rng: Generator) -> FloatImage:
    """Return smooth noise from -1 to 1, (H, W): a random value at each corner of cells of so many pixels a side."""
    (rows, down), (columns, across) = _places(size[0], cell), _places(size[1], cell)
    values = rng.random((int(rows[-1]) + 2, int(columns[-1]) + 2), np.float32) * np.float32(2) - np.float32(1)
    lines = values[rows] * (1 - down[:, None]) + values[rows + 1] * down[:, None]
    return np.asarray(lines[:, columns] * (1 - across) + lines[:, columns + 1] * across, np.float32)


def _places(side: int, cell: float) -> tuple[NDArray[np.int64], FloatImage]:
    """Return the cell of each pixel along a side, and how far into it the pixel is: 0–1, eased at both ends."""
    steps = (np.arange(side, dtype=np.float32) + np.float32(0.5)) / np.float32(cell)
    cells = steps.astype(np.int64)
    t = steps - cells.astype(np.float32)
    return cells, t * t * (3 - 2 * t)


def lighting(size: tuple[int, int], rng: Generator) -> FloatImage:
    """Return the light on the ground, a factor (H, W, 1) about 1: brighter to one side, with clouds of shade."""
    height, width = size
    unit = min(size)
    slope = rng.uniform(-0.25, 0.25, 2).astype(np.float32)
    y = (np.arange(height, dtype=np.float32) / height - np.float32(0.5)) * slope[0]
    x = (np.arange(width, dtype=np.float32) / width - np.float32(0.5)) * slope[1]
    light = 1 + y[:, None] + x[None, :] + np.float32(rng.uniform(0.1, 0.3)) * value_noise(size, 0.6 * unit, rng)
    lit: FloatImage = np.clip(light, 0.45, 1.5)[..., None]
    return lit


def texture(size: tuple[int, int], rng: Generator) -> FloatImage:
    """Return the ground's grain, a factor (H, W, 1) about 1, from coarse to fine."""
    strength = rng.uniform(0.5, 1.3)
    grain = np.ones(size, np.float32)
    for cell, depth in ((27, 0.07), (9, 0.05), (3, 0.05)):
        grain += np.float32(strength * depth) * value_noise(size, cell, rng)
    return grain[..., None]


def disc_layer(size: tuple[int, int], disc: Disc) -> ImageArray:
    """Return how much of each pixel (H, W) a disc (x, y, radius) covers, 0–255, with a soft rim."""
    layer = np.zeros(size, np.uint8)
    x, y, radius = disc
    cv2.circle(layer, (round(x), round(y)), round(radius), 255, -1, cv2.LINE_AA)
    return _blurred(layer, radius / 5)


def folds(size: tuple[int, int], rng: Generator) -> ImageArray:
    """Return soft, wide bands, 0–255, (H, W)."""
    layer = np.zeros(size, np.uint8)
    unit = min(size)
    for _ in range(rng.integers(2, 6)):
        x, y = rng.uniform(0, size[1]), rng.uniform(0, size[0])
        start = Twig(x, y, rng.uniform(-math.pi, math.pi), 1.5, rng.uniform(0.4, 1.2) * unit)
        wide, depth = rng.uniform(0.04, 0.1) * unit, int(rng.integers(40, 120))
        for branch in grow(start, size, 1.0, 255, rng):
            path = np.rint(branch.points[:, :2]).astype(np.int32)
            cv2.polylines(layer, [path], False, depth, max(round(wide), 2))
    return _blurred(layer, 0.035 * unit)


def spots(size: tuple[int, int], rng: Generator) -> ImageArray:
    """Return round and oval blots, 0–255, (H, W): as dark as vessels and some as thin, but none long."""
    layer = np.zeros(size, np.uint8)
    count = round(size[0] * size[1] / 6000 * rng.uniform(0.4, 1.6)) + 2
    for _ in range(count):
        center = int(rng.integers(0, size[1])), int(rng.integers(0, size[0]))
        radius = rng.uniform(1.5, 4) if rng.uniform() < 0.6 else rng.uniform(4, 12)
        axes = max(round(radius), 1), max(round(radius * rng.uniform(0.5, 1)), 1)
        cv2.ellipse(layer, center, axes, rng.uniform(0, 180), 0, 360, int(rng.integers(50, 200)), -1, cv2.LINE_AA)
    return _blurred(layer, rng.uniform(0.6, 1.6))


def mixed(image: FloatImage, layer: ImageArray, color: FloatImage) -> FloatImage:
    """Return `image` (H, W, 3) with `color` (H, W, 3) where a layer (H, W) covers it."""
    share = layer[..., None].astype(np.float32) / np.float32(255)
    both: FloatImage = image + (color - image) * share
    return both


def _blurred(layer: ImageArray, sigma: float) -> ImageArray:
    cv2.GaussianBlur(layer, (0, 0), max(sigma, 0.3), dst=layer)
    return layer
