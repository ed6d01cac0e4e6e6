"""The synthetic sets: procedural street scenes, or vessels, with exact masks, for trying, testing and teaching.

Every scene follows from its seed alone, so the set needs no download and is the same everywhere.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence

from ...core.errors import ConfigError, did_you_mean
from ...core.images import write_image, write_mask
from ...core.types import MIN_SIZE, ClassSet, ImageArray, MaskArray
from ..datasets import Indexed, datasets
from ..street.actors import Car
from ..street.backdrop import draw_bonnet, draw_ground, draw_sky, draw_skyline, finish, hide_border
from ..street.layout import choose_light, choose_street, furnish
from ..street.scene import STREET_CLASSES, Canvas
from ..vessels.picture import VESSEL_CLASSES, render_vessels

__all__ = [
    "SCENES",
    "STREET_CLASSES",
    "VESSEL_CLASSES",
    "SyntheticScenes",
    "SyntheticStreet",
    "SyntheticVessels",
    "render_street",
    "render_vessels",
    "write_street",
    "write_synthetic",
]

SPLITS = ("train", "val", "test")


def render_street(seed: int, size: tuple[int, int] = (192, 384)) -> tuple[ImageArray, MaskArray]:
    """Draw the street scene of `seed`.

    One seed gives the same bytes at the same size, and the same scene at every size (but for the sensor's noise);
    shapes other than 2:1 show a part of it.

    Args:
        seed: any whole number from 0.
        size: (height, width) in pixels, at least 64 each.

    Returns:
        RGB image, uint8 (H, W, 3), and mask, uint8 (H, W): ids of :data:`STREET_CLASSES`, or 255 on the own car's
        bonnet and on the unlabelled border that some scenes have.

    Raises:
        ConfigError: the seed is negative or a side is below 64.
    """
    if seed < 0:
        raise ConfigError(f"seed is {seed}; use 0 or more")
    if min(size) < MIN_SIZE:
        raise ConfigError(f"size is {size[0]}x{size[1]}; a street needs at least {MIN_SIZE}x{MIN_SIZE}")
    # Own streams: what depends on the size must not move what does not.
    plan, sky, ground, lens = (Generator(PCG64(stream)) for stream in SeedSequence(seed).spawn(4))
    light = choose_light(plan)
    street = choose_street(plan)
    canvas = Canvas(
        size,
        horizon=plan.uniform(0.38, 0.5),
        focal=plan.uniform(1.4, 1.75),
        eye=plan.uniform(1.55, 2.2),
        curve=plan.uniform(-0.0022, 0.0022) * (plan.uniform() < 0.6),
    )
    things = furnish(street, plan)
    shadows = [(p, light.shadow) for thing in things for p in thing.shadow(light)]
    shadows += [(thing.contact(), 0.6) for thing in things if isinstance(thing, Car)]

    draw_sky(canvas, light, sky)
    draw_skyline(canvas, light, sky)
    draw_ground(canvas, street, light, shadows, ground)
    for thing in sorted(things, key=lambda thing: -thing.depth):
        thing.draw(canvas, light)
    bonnet, border = plan.uniform() < 0.2, plan.uniform() < 0.15
    if bonnet:
        draw_bonnet(canvas, light, plan)
    finish(canvas, light, sharpness=plan.uniform(1.5, 3.2), grain=int(plan.integers(2, 7)), rng=lens)
    if border:
        hide_border(canvas, 0.01)
    return canvas.image, canvas.mask


MAX_SIDE = 4096
"""Pixels; a larger scene takes gigabytes to draw."""


class SyntheticScenes(Indexed):
    """A split of a synthetic set; its scenes are what a subclass draws.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``; no scene is in two of them.
        count: number of scenes; a larger set starts with the scenes of a smaller one.
        size: (height, width) in pixels, at least 64 each.
        seed: chooses another set altogether.

    Raises:
        ConfigError: the split is unknown, `count` is below 1, a side below 64, or the seed negative.
    """

    name = "synthetic"
    scene: str
    classes: ClassSet

    def __init__(
        self, split: str = "train", count: int = 256, size: tuple[int, int] = (192, 384), seed: int = 0
    ) -> None:
        if split not in SPLITS:
            raise ConfigError(f"unknown split {split!r}; {did_you_mean(split, SPLITS)}")
        if count < 1:
            raise ConfigError(f"count is {count}; a synthetic set needs at least 1 scene")
        if min(size) < MIN_SIZE or max(size) > MAX_SIDE:
            raise ConfigError(f"size is {size[0]}x{size[1]}; a scene has {MIN_SIZE} to {MAX_SIDE} pixels a side")
        if seed < 0:
            raise ConfigError(f"seed is {seed}; use 0 or more")
        self.split = split
        self.count, self.size, self.seed = count, size, seed

    def __len__(self) -> int:
        return self.count

    def stem(self, index: int) -> str:
        """Return the name of scene `index`, such as ``"street_000012"``."""
        return f"{self.scene}_{self._inside(index):06d}"

    def read(self, index: int) -> tuple[ImageArray, MaskArray]:
        """Draw scene `index`: RGB image, uint8 (H, W, 3), and mask, uint8 (H, W)."""
        stream = SeedSequence([self.seed, SPLITS.index(self.split), self._inside(index)])
        return self._render(int(stream.generate_state(1, np.uint64)[0]))

    def _render(self, seed: int) -> tuple[ImageArray, MaskArray]:
        raise NotImplementedError

    def _inside(self, index: int) -> int:
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        return index


class SyntheticStreet(SyntheticScenes):
    """A split of the synthetic street set."""

    scene = "street"
    classes = STREET_CLASSES

    def _render(self, seed: int) -> tuple[ImageArray, MaskArray]:
        return render_street(seed, self.size)


class SyntheticVessels(SyntheticScenes):
    """A split of the synthetic vessels: thin trees on textured ground."""

    scene = "vessels"
    classes = VESSEL_CLASSES

    def _render(self, seed: int) -> tuple[ImageArray, MaskArray]:
        return render_vessels(seed, self.size)


SCENES: dict[str, type[SyntheticScenes]] = {kind.scene: kind for kind in (SyntheticStreet, SyntheticVessels)}


@datasets.register("synthetic")
def synthetic(
    root: Path,
    split: str = "train",
    *,
    scene: str = "street",
    count: int = 256,
    val_count: int = 48,
    size: tuple[int, int] = (192, 384),
    seed: int = 0,
) -> SyntheticScenes:
    """Draw scenes instead of reading files; no folder is needed.

    Args:
        root: not used.
        split: ``train``, ``val`` or ``test``.
        scene: ``street``, of nine classes, or ``vessels``: trees 1 to 6 pixels wide on textured ground, two classes.
        count: scenes of the training split.
        val_count: scenes of each other split.
        size: (height, width) in pixels.
        seed: chooses the set.
    """
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(isinstance(side, int) for side in size):
        raise ConfigError(f"data.options.size is {size!r}; give [height, width]")
    return _kind(scene)(split, count if split == "train" else val_count, (size[0], size[1]), seed)


def _kind(scene: str) -> type[SyntheticScenes]:
    if scene not in SCENES:
        raise ConfigError(f"unknown scene {scene!r}; {did_you_mean(scene, SCENES)}")
    return SCENES[scene]


def write_synthetic(
    out: Path, scene: str, train: int = 64, val: int = 16, size: tuple[int, int] = (192, 384), seed: int = 0
) -> Path:
    """Write a synthetic set as a folder: ``images/<split>/*.png``, ``masks/<split>/*.png`` and ``classes.json``.

    Masks are index PNGs with the classes' palette. Files that are there already are replaced.

    Args:
        out: folder to write to; made if missing.
        scene: ``"street"`` or ``"vessels"``.
        train, val: numbers of scenes, at least 1 each.
        size: (height, width) in pixels, at least 64 each.
        seed: chooses the set.

    Returns:
        `out`.

    Raises:
        ConfigError: the scene is unknown, or as for :class:`SyntheticScenes`.
    """
    kind = _kind(scene)
    for dataset in [kind("train", train, size, seed), kind("val", val, size, seed)]:
        images, masks = out / "images" / dataset.split, out / "masks" / dataset.split
        for index in range(len(dataset)):
            image, mask = dataset.read(index)
            write_image(images / f"{dataset.stem(index)}.png", image)
            write_mask(masks / f"{dataset.stem(index)}.png", mask, kind.classes)
    (out / "classes.json").write_text(json.dumps(kind.classes.to_dict(), indent=2) + "\n", encoding="utf-8")
    return out


def write_street(out: Path, train: int = 64, val: int = 16, size: tuple[int, int] = (192, 384), seed: int = 0) -> Path:
    """Write a street set as a folder; see :func:`write_synthetic`."""
    return write_synthetic(out, "street", train, val, size, seed)
