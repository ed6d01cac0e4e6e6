"""A picture of vessels and its exact mask, from a seed alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray

from ...core.errors import ConfigError
from ...core.types import MIN_SIZE, ClassSet, ImageArray, MaskArray
from .ground import Color, FloatImage, disc_layer, folds, lighting, mixed, spots, texture, value_noise
from .trees import FULL_INK, Branch, Disc, FloatArray, grow, plant

VESSEL_CLASSES = ClassSet(("background", "vessel"), ((0, 0, 0), (230, 60, 60)))
"""Classes of the synthetic vessels."""

FINE = 4
"""Trees are drawn this many times larger; a pixel is as much vessel as its 16 parts are."""
FRACTION_BITS = 4
"""Points are handed to OpenCV in 1/16 of such a part."""
SHARES = (0.075, 0.115)
"""Least and largest part of a picture that trees grow to cover; the last branch and half-covered pixels add to it."""


class Subject(NamedTuple):
    """What a picture shows, as RGB of the ground, of a vessel of full ink, and of the disc."""

    ground: Color
    vessel: Color
    disc: Color


SUBJECTS = (
    Subject((190, 96, 52), (96, 18, 16), (246, 196, 128)),  # a retina
    Subject((206, 160, 138), (96, 92, 128), (236, 206, 186)),  # veins under skin
    Subject((104, 78, 56), (206, 186, 150), (60, 44, 34)),  # roots in soil
    Subject((152, 150, 146), (48, 46, 46), (196, 194, 188)),  # cracks in concrete
    Subject((84, 124, 56), (184, 206, 136), (140, 160, 84)),  # a leaf
)


class Forest:
    """All that is vessel in a picture of `size`, drawn `FINE` times larger.

    Attributes:
        ink: of each part, 0 where there is no vessel, uint8 (H·FINE, W·FINE).
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.ink = np.zeros((size[0] * FINE, size[1] * FINE), np.uint8)

    def draw(self, branches: Iterable[Branch]) -> None:
        """Draw branches over what is there, the ones of more ink later."""
        unit = 1 << FRACTION_BITS
        for branch in sorted(branches, key=lambda branch: branch.ink):
            # OpenCV's whole numbers are the middles of pixels, ours their corners.
            places = np.rint((branch.points[:, :2] * FINE - 0.5) * unit).astype(np.int64).tolist()
            wide = np.rint(branch.points[1:, 2] * FINE).astype(np.int64).tolist()
            for start, end, thick in zip(places, places[1:], wide, strict=False):
                cv2.line(self.ink, start, end, branch.ink, thick, cv2.LINE_8, FRACTION_BITS)

    def crowded(self, points: FloatArray) -> bool:
        """Return whether a third of the points (x, y, …) of a branch, but for its first, lie on others."""
        x, y = (points[4:, :2] * FINE).astype(np.int64).T
        places = self.ink[np.clip(y, 0, self.ink.shape[0] - 1), np.clip(x, 0, self.ink.shape[1] - 1)]
        return bool(3 * np.count_nonzero(places) > len(places))

    @property
    def share(self) -> float:
        """Part of the picture that is vessel, 0–1."""
        return cv2.countNonZero(self.ink) / self.ink.size

    @property
    def layer(self) -> ImageArray:
        """Mean ink of each pixel, (H, W)."""
        return _smaller(self.ink)

    @property
    def mask(self) -> MaskArray:
        """1 where at least half of a pixel is vessel, else 0, (H, W)."""
        parts = _smaller((self.ink > 0).astype(np.uint8) * np.uint8(FINE * FINE))  # whose mean is their number
        return (parts >= FINE * FINE // 2).astype(np.uint8)


def render_vessels(seed: int, size: tuple[int, int] = (192, 384)) -> tuple[ImageArray, MaskArray]:
    """Draw the vessels of `seed`: thin trees on textured ground, among spots and folds.

    Branches are 1 to 6 pixels wide at every size; a larger picture shows more of them. 8 to 12 % of the pixels are
    vessel.

    Args:
        seed: any whole number from 0.
        size: (height, width) in pixels, at least 64 each.

    Returns:
        RGB image, uint8 (H, W, 3), and mask, uint8 (H, W): ids of :data:`VESSEL_CLASSES`, vessel where a branch
        covers at least half of the pixel.

    Raises:
        ConfigError: the seed is negative or a side is below 64.
    """
    if seed < 0:
        raise ConfigError(f"seed is {seed}; use 0 or more")
    if min(size) < MIN_SIZE:
        raise ConfigError(f"size is {size[0]}x{size[1]}; vessels need at least {MIN_SIZE}x{MIN_SIZE}")
    plan, trees, soil, lens = (Generator(PCG64(stream)) for stream in SeedSequence(seed).spawn(4))
    subject = SUBJECTS[plan.integers(len(SUBJECTS))]
    height, width = size
    disc = None
    if plan.uniform() < 0.5:
        x, y = width * plan.uniform(0.15, 0.85), height * plan.uniform(0.15, 0.85)
        disc = x, y, min(size) * plan.uniform(0.07, 0.13)
    forest = _grown(size, disc, plan.uniform(*SHARES), trees)

    light = lighting(size, soil)
    tint = plan.uniform(0.9, 1.1, 3).astype(np.float32)
    ground, vessel, pale = (np.array(color, np.float32) * tint * light for color in subject)
    image = ground * texture(size, soil)
    if disc is not None:
        image = mixed(image, disc_layer(size, disc), pale)
    image = mixed(image, folds(size, soil), vessel)
    image = mixed(image, folds(size, soil) // 3, pale)
    image = mixed(image, spots(size, soil), vessel)
    image = mixed(image, spots(size, soil) // 2, pale)
    image = mixed(image, forest.layer, vessel * (1 + np.float32(0.12) * value_noise(size, 5, soil)[..., None]))
    return _seen(image, plan.uniform(0.35, 0.8), int(plan.integers(2, 8)), lens), forest.mask


def _grown(size: tuple[int, int], disc: Disc | None, share: float, rng: Generator) -> Forest:
    """Grow trees until they have a share of the picture."""
    forest, branches, area = Forest(size), list[Branch](), size[0] * size[1]
    while (left := share - forest.share) > 0:
        faint = rng.uniform() < 0.3
        ink = round(FULL_INK * (rng.uniform(0.18, 0.35) if faint else rng.uniform(0.45, 0.9)))
        budget = min(left, rng.uniform(0.02, 0.05)) * area
        tree = grow(plant(size, disc, rng), size, budget, ink, rng, forest.crowded)
        forest.draw(tree)
        branches += tree
    forest.draw(branches)  # once more, since a faint tree may have hidden a dark one
    return forest


def _smaller(fine: NDArray[np.uint8]) -> ImageArray:
    size = fine.shape[1] // FINE, fine.shape[0] // FINE
    return np.asarray(cv2.resize(fine, size, interpolation=cv2.INTER_AREA), np.uint8)


def _seen(image: FloatImage, blur: float, grain: int, rng: Generator) -> ImageArray:
    """Return what a sensor makes of it: a little blurred, with noise."""
    seen = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    cv2.GaussianBlur(seen, (0, 0), blur, dst=seen)
    # Sums of two dice, as in the street: whole numbers are the same on every machine.
    dice = np.sort(np.add.outer(np.arange(16), np.arange(16)).ravel() - 15)
    bell = np.rint(dice * (grain / 15)).astype(np.int16)
    noisy: ImageArray = np.clip(seen + bell[rng.integers(0, 256, seen.shape, np.uint8)], 0, 255).astype(np.uint8)
    return noisy
