"""The synthetic street set: procedural street scenes with exact masks, for trying, testing and teaching.

Every scene follows from its seed alone, so the set needs no download and is the same everywhere.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence
from PIL import Image

from ..errors import ConfigError, did_you_mean
from ..types import MIN_SIZE, ClassSet, ImageArray, MaskArray
from .actors import CAR_SHAPES, Car, Person
from .scene import (
    LIGHTS,
    STREET_CLASSES,
    Canvas,
    Color,
    FloatArray,
    Label,
    Light,
    Street,
    Thing,
    draw_ground,
    draw_sky,
    finish,
    hide_border,
)
from .scenery import SIGNS, Building, Pole, Tree

__all__ = ["STREET_CLASSES", "SyntheticStreet", "render_street", "write_street"]

SPLITS = ("train", "val", "test")

_WALLS: tuple[Color, ...] = (
    (214, 188, 148), (196, 120, 92), (226, 216, 196), (168, 176, 184), (190, 204, 190), (222, 170, 128), (150, 86, 70),
    (206, 196, 216), (240, 226, 180), (128, 134, 142), (176, 196, 214), (206, 148, 146),
)  # fmt: skip
_ACCENTS: tuple[Color, ...] = (
    (150, 62, 50), (44, 92, 74), (48, 76, 122), (120, 72, 50), (88, 88, 96), (172, 124, 48), (110, 46, 70),
)  # fmt: skip
_PAINTS: tuple[Color, ...] = (
    (178, 36, 38), (34, 62, 120), (232, 232, 232), (44, 46, 52), (150, 154, 160), (206, 178, 130), (38, 96, 74),
    (226, 150, 42), (98, 140, 176), (128, 40, 62), (226, 206, 84),
)  # fmt: skip
_CLOTHES: tuple[Color, ...] = (
    (200, 48, 52), (40, 70, 140), (238, 232, 222), (46, 48, 56), (218, 170, 60), (70, 120, 84), (150, 90, 150),
    (120, 124, 130), (232, 130, 90), (84, 150, 176), (110, 78, 56),
)  # fmt: skip
_SKINS: tuple[Color, ...] = ((244, 208, 178), (222, 176, 138), (176, 124, 88), (116, 78, 56))
_HAIR: tuple[Color, ...] = ((40, 30, 26), (92, 62, 40), (198, 158, 92), (150, 150, 150), (140, 66, 36))
_LEAVES: tuple[Color, ...] = ((86, 136, 58), (104, 146, 66), (66, 118, 62), (122, 142, 56), (80, 128, 84))
_AUTUMN: tuple[Color, ...] = ((206, 128, 46), (188, 84, 44), (214, 172, 66), (122, 142, 56))
_BLOSSOM: tuple[Color, ...] = ((236, 176, 192), (246, 214, 220), (104, 146, 66))


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
    light = _light(plan)
    street = _street(plan)
    canvas = Canvas(
        size,
        horizon=plan.uniform(0.38, 0.5),
        focal=plan.uniform(1.4, 1.75),
        eye=plan.uniform(1.55, 2.2),
        curve=plan.uniform(-0.0022, 0.0022) * (plan.uniform() < 0.6),
    )
    things = _furnish(street, light, plan)
    shadows = [(p, light.shadow) for thing in things for p in thing.shadow(light)]
    shadows += [(thing.shadow(light)[-1], 0.6) for thing in things if isinstance(thing, Car)]

    draw_sky(canvas, light, sky)
    _draw_skyline(canvas, light, sky)
    draw_ground(canvas, street, light, shadows, ground)
    for thing in sorted(things, key=lambda thing: -thing.depth):
        thing.draw(canvas, light)
    bonnet, border = plan.uniform() < 0.2, plan.uniform() < 0.15
    if bonnet:
        _draw_bonnet(canvas, light, plan)
    finish(canvas, light, sharpness=plan.uniform(1.5, 3.2), grain=int(plan.integers(2, 7)), rng=lens)
    if border:
        hide_border(canvas, 0.01)
    return canvas.image, canvas.mask


def _pick(colors: tuple[Color, ...], rng: Generator) -> Color:
    """Return one of `colors`, slightly altered."""
    red, green, blue = colors[int(rng.integers(len(colors)))]
    change, warm = rng.uniform(0.88, 1.1), rng.uniform(-6, 6)
    return red * change + warm, green * change, blue * change - warm


def _light(rng: Generator) -> Light:
    """Draw the time of day."""
    name = rng.choice(sorted(LIGHTS), p=(0.2, 0.26, 0.34, 0.2))
    light = LIGHTS[str(name)]
    return replace(
        light,
        side=1 if rng.uniform() < 0.5 else -1,
        front=rng.uniform(0.2, 0.9),
        slant=light.slant * rng.uniform(0.7, 1.3),
        visibility=light.visibility * rng.uniform(0.7, 1.5),
    )


def _street(rng: Generator) -> Street:
    """Draw the plan of the road; the camera drives in the middle of its lane, on the right or the left."""
    lane = rng.uniform(3.0, 3.6)
    lanes = int(rng.integers(1, 4))  # beside the own one
    own = lane / 2 + (2.2 if rng.uniform() < 0.5 else 0.5)
    other = lane / 2 + lane * lanes + (2.2 if rng.uniform() < 0.5 else 0.4)
    lines = tuple(-lane / 2 - lane * i for i in range(lanes))
    edge = (own - 0.3,) if rng.uniform() < 0.4 else ()
    cross = rng.uniform(16, 40) if rng.uniform() < 0.4 else None
    zebra = rng.uniform(8, 22) if rng.uniform() < 0.3 else None
    if cross is not None and zebra is not None:
        zebra = max(cross - 5.0, 7.0)
    asphalt, paving = rng.uniform(74, 132), rng.uniform(126, 186)
    tint, warm = rng.uniform(-5, 5), rng.uniform(-8, 26)
    middle_solid = lanes > 1 and rng.uniform() < 0.4
    solids, dashes = (lines[:1] + edge, lines[1:]) if middle_solid else (edge, lines)
    flip = rng.uniform() < 0.35
    return Street(
        left=own if flip else other,
        right=other if flip else own,
        pavement=rng.uniform(2.6, 4.6),
        dashes=tuple(-x for x in dashes) if flip else dashes,
        solids=tuple(-x for x in solids) if flip else solids,
        cross=None if cross is None else (cross, cross + rng.uniform(6.5, 9)),
        zebra=zebra,
        asphalt=(asphalt + tint, asphalt, asphalt + 4 - tint),
        paving=(paving + warm, paving + warm * 0.4, paving - warm * 0.5),
        slab=rng.uniform(0.6, 1.2),
    )


def _furnish(street: Street, light: Light, rng: Generator) -> list[Thing]:
    """Place everything that stands along the street."""
    leaves = (_LEAVES, _LEAVES, _LEAVES, _AUTUMN, _BLOSSOM)[int(rng.integers(5))]
    things: list[Thing] = []
    for side, kerb in ((-1, street.left), (1, street.right)):
        things += _row_of_houses(street, side, kerb, leaves, rng)
        things += _trees(street, side, kerb, leaves, rng)
        things += _poles(street, side, kerb, rng)
        if kerb - 1.5 > 2.0 and rng.uniform() < 0.85:
            things += _parked(street, side, kerb, rng)
    things += _traffic(street, rng)
    things += _people(street, rng)
    return things


def _tree(x: float, z: float, leaves: tuple[Color, ...], rng: Generator) -> Tree:
    height = rng.uniform(5.5, 9.0)
    return Tree(
        x,
        z,
        height,
        height * rng.uniform(0.26, 0.36),
        rng.uniform() < 0.15,
        _pick(leaves, rng),
        int(rng.integers(2**32)),
    )


def _row_of_houses(street: Street, side: int, kerb: float, leaves: tuple[Color, ...], rng: Generator) -> list[Thing]:
    """Line one side with houses, with gaps in which trees grow."""
    things: list[Thing] = []
    front, z, storey = kerb + street.pavement, -6.0, rng.uniform(2.9, 3.5)
    tall = rng.uniform(2, 5)
    while z < 100:
        if street.cross and street.cross[0] - 3 < z < street.cross[1] + 3:
            z = street.cross[1] + 3.0
        if rng.uniform() < 0.14:
            gap = rng.uniform(5, 10)
            things.append(_tree(side * (front + rng.uniform(2.5, 6)), z + gap / 2, leaves, rng))
            z += gap
        end = z + rng.uniform(8, 17)
        if street.cross and z < street.cross[0] - 3 < end:
            end = street.cross[0] - 3.0
        if end - z > 4 and end > 3:
            things.append(
                Building(
                    side, front + rng.uniform(0, 0.5), z, end, int(np.clip(round(tall + rng.uniform(-1.4, 1.4)), 1, 6)), storey,
                    rng.uniform(1.6, 3.2) if rng.uniform() < 0.55 else 0.0, bool(rng.uniform() < 0.4), rng.uniform(0.38, 0.66),
                    _pick(_WALLS, rng), _pick(_ACCENTS, rng), int(rng.integers(2**32)),
                )
            )  # fmt: skip
        z = max(end, z + 1)
    return things


def _trees(street: Street, side: int, kerb: float, leaves: tuple[Color, ...], rng: Generator) -> list[Thing]:
    """Plant an avenue, a few trees, or none along the kerb."""
    spacing, chance = ((9.0, 0.95), (12.0, 0.5), (14.0, 0.3))[int(rng.integers(3))]
    z, things = rng.uniform(9, 15), []
    while z < 75:
        if rng.uniform() < chance and not street.crossed(z, 2.0):
            things.append(_tree(side * (kerb + 1.1), z, leaves, rng))
        z += spacing * rng.uniform(0.9, 1.1)
    return list(things)


def _poles(street: Street, side: int, kerb: float, rng: Generator) -> list[Thing]:
    """Set street lamps at even steps, and traffic signs."""
    paint: Color = ((70, 74, 78), (44, 60, 54), (150, 154, 156))[int(rng.integers(3))]
    kind = "lamp" if rng.uniform() < 0.6 else "lantern"
    height, wide = (rng.uniform(5.5, 7.0), 0.25) if kind == "lamp" else (rng.uniform(3.2, 4.0), 0.25)
    first = max(7.0, 1.65 * kerb) + rng.uniform(0, 5)
    things: list[Thing] = []
    for z in (first, first + 12):
        if z < 24 and not street.crossed(z):  # beyond, a post is under three pixels of 192 wide
            things.append(Pole(side * (kerb + 0.55), z, kind, height, wide, -side, paint))
    for _ in range(rng.integers(0, 3)):
        z = max(7.0, 1.7 * kerb) + rng.uniform(0, 10)
        if z < 21 and not street.crossed(z):
            sign = SIGNS[int(rng.integers(len(SIGNS)))]
            things.append(
                Pole(side * (kerb + rng.uniform(0.5, 0.8)), z, sign, rng.uniform(2.4, 3.0), 0.2, -side, (150, 154, 156))
            )
    return things


def _parked(street: Street, side: int, kerb: float, rng: Generator) -> list[Thing]:
    """Park cars along one kerb."""
    z, things = rng.uniform(8, 13), []
    while z < 48:
        clear = street.zebra is None or not street.zebra - 4 < z < street.zebra + 7
        if rng.uniform() < 0.6 and clear and not street.crossed(z, 5.0):
            shape = CAR_SHAPES[int(rng.integers(len(CAR_SHAPES)))]
            things.append(
                Car(
                    side * (kerb - shape.half - 0.25),
                    z,
                    0,
                    1 if rng.uniform() < 0.7 else -1,
                    shape,
                    _pick(_PAINTS, rng),
                )
            )
        z += rng.uniform(5.6, 7.5)
    return list(things)


def _traffic(street: Street, rng: Generator) -> list[Thing]:
    """Drive a car ahead, oncoming ones in the other lanes, and one through the cross street."""
    things: list[Thing] = []

    def add(x: float, z: float, dx: int, dz: int) -> None:
        shape = CAR_SHAPES[int(rng.integers(len(CAR_SHAPES)))]
        things.append(Car(x, z, dx, dz, shape, _pick(_PAINTS, rng)))

    if rng.uniform() < 0.55:
        add(rng.uniform(-0.3, 0.3), rng.uniform(11, 32), 0, 1)
    away = -1 if street.left > street.right else 1
    for i in range(len(street.dashes) + len(street.solids)):
        x = away * (3.3 * (i + 1))
        if abs(x) + 2.6 < (street.left if away < 0 else street.right) and rng.uniform() < 0.7:
            add(x, rng.uniform(8, 18), 0, -1)
            if rng.uniform() < 0.5:
                add(x, rng.uniform(26, 46), 0, -1)
    if street.cross and rng.uniform() < 0.7:
        add(rng.uniform(-9, 9), sum(street.cross) / 2, 1 if rng.uniform() < 0.5 else -1, 0)
    return things


def _people(street: Street, rng: Generator) -> list[Thing]:
    """Let people walk on the pavements and over the zebra crossing, near enough to be seen."""
    things: list[Thing] = []
    spots = []
    for _ in range(rng.integers(4, 10)):
        side, kerb = (-1, street.left) if rng.uniform() < 0.5 else (1, street.right)
        x = kerb + rng.uniform(0.7, street.pavement - 0.4)
        z = max(6.0, 1.7 * x) + rng.uniform(0, 1) * rng.uniform(0, 14)
        if z < 30 and not street.crossed(z, 1.0):
            spots.append((side * x, z, rng.uniform() < 0.4))
    if street.zebra is not None:
        for _ in range(rng.integers(0, 3)):
            spots.append((rng.uniform(-street.left, street.right), street.zebra + rng.uniform(0.5, 2.5), True))
    for x, z, sideways in spots:
        facing = (1 if rng.uniform() < 0.5 else -1) if sideways else 0
        height = rng.uniform(1.15, 1.4) if rng.uniform() < 0.12 else rng.uniform(1.62, 1.92)
        things.append(
            Person(
                x, z, height, facing, rng.uniform(0.3, 1.0) * (1 if rng.uniform() < 0.5 else -1), bool(rng.uniform() < 0.25),
                bool(rng.uniform() < 0.5), _pick(_CLOTHES, rng), _pick(_CLOTHES, rng), _pick(_SKINS, rng), _pick(_HAIR, rng),
                _pick(_CLOTHES, rng) if rng.uniform() < 0.3 else None,
            )
        )  # fmt: skip
    return things


def _draw_skyline(canvas: Canvas, light: Light, rng: Generator) -> None:
    """Close the view with a hazy town on the horizon, trees before it, and now and then a church."""

    def block(x: float, z: float, outline: list[tuple[float, float]], color: Color, label: Label) -> None:
        points = np.array([(x + dx, y, z) for dx, y in outline]) - (canvas.curve * z * z * 0.6, 0, 0)
        canvas.fill_world(points, light.tint(color, 0.5, z), label)

    x = -190.0
    while x < 190:
        wide, high = rng.uniform(9, 22), rng.uniform(5, 15)
        roof = rng.uniform(0, 4)
        outline = [(0, -2), (0, high), (wide / 2, high + roof), (wide, high), (wide, -2)]
        block(x, 130.0, outline, _pick(_WALLS, rng), Label.BUILDING)
        x += wide
    if rng.uniform() < 0.4:
        tower = [(-3, 0), (-3, 20), (0, 33), (3, 20), (3, 0)]
        block(rng.uniform(-12, 12), 128.0, [(float(a), float(b)) for a, b in tower], (150, 140, 128), Label.BUILDING)
    for _ in range(rng.integers(8, 26)):
        wide, high = rng.uniform(4, 9), rng.uniform(4, 8)
        crown = [
            (-wide, -1.5),
            (-wide, high * 0.6),
            (-wide * 0.6, high * 0.95),
            (wide * 0.1, high),
            (wide * 0.8, high * 0.75),
            (wide, -1.5),
        ]
        block(rng.uniform(-120, 120), 118.0, crown, (84, 112, 70), Label.TREE)


def _draw_bonnet(canvas: Canvas, light: Light, rng: Generator) -> None:
    """Paint the own car's bonnet along the lower edge; the mask ignores it."""
    height, width = canvas.mask.shape
    rise, paint = rng.uniform(0.05, 0.1), _pick(_PAINTS, rng)
    t = np.linspace(-1, 1, 25)
    arch = np.column_stack((canvas.center + t * canvas.unit * 1.05, height * (1 - rise * (1 - 0.8 * t**4))))
    body: FloatArray = np.concatenate((arch, [(arch[-1, 0], height + 2), (arch[0, 0], height + 2)]))
    below = canvas.mask.copy()
    canvas.fill(body, light.tint(paint, 0.5, 1.0), Label.CAR)
    canvas.fill(body * (0.7, 1) + (canvas.center * 0.3, height * 0.025), light.tint(paint, 0.9, 1.0))
    canvas.mask[canvas.mask != below] = STREET_CLASSES.ignore_index


class SyntheticStreet:
    """A split of the synthetic street set.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``; no scene is in two of them.
        count: number of scenes; a larger set starts with the scenes of a smaller one.
        size: (height, width) in pixels, at least 64 each.
        seed: chooses another set altogether.

    Raises:
        ConfigError: the split is unknown, `count` is below 1, a side below 64, or the seed negative.
    """

    name = "synthetic"

    def __init__(
        self, split: str = "train", count: int = 256, size: tuple[int, int] = (192, 384), seed: int = 0
    ) -> None:
        if split not in SPLITS:
            raise ConfigError(f"unknown split {split!r}; {did_you_mean(split, SPLITS)}")
        if count < 1:
            raise ConfigError(f"count is {count}; a street set needs at least 1 scene")
        if min(size) < MIN_SIZE:
            raise ConfigError(f"size is {size[0]}x{size[1]}; a street needs at least {MIN_SIZE}x{MIN_SIZE}")
        if seed < 0:
            raise ConfigError(f"seed is {seed}; use 0 or more")
        self.split = split
        self.classes: ClassSet = STREET_CLASSES
        self.count, self.size, self.seed = count, size, seed

    def __len__(self) -> int:
        return self.count

    def stem(self, index: int) -> str:
        """Return the name of scene `index`, such as ``"street_000012"``."""
        return f"street_{self._inside(index):06d}"

    def read(self, index: int) -> tuple[ImageArray, MaskArray]:
        """Draw scene `index`: RGB image, uint8 (H, W, 3), and mask, uint8 (H, W)."""
        stream = SeedSequence([self.seed, SPLITS.index(self.split), self._inside(index)])
        return render_street(int(stream.generate_state(1, np.uint64)[0]), self.size)

    def _inside(self, index: int) -> int:
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        return index


def write_street(out: Path, train: int = 64, val: int = 16, size: tuple[int, int] = (192, 384), seed: int = 0) -> Path:
    """Write a street set as a folder: ``images/<split>/*.png``, ``masks/<split>/*.png`` and ``classes.json``.

    Masks are index PNGs with the classes' palette. Files that are there already are replaced.

    Args:
        out: folder to write to; made if missing.
        train, val: numbers of scenes, at least 1 each.
        size: (height, width) in pixels, at least 64 each.
        seed: chooses the set.

    Returns:
        `out`.

    Raises:
        ConfigError: as for :class:`SyntheticStreet`.
    """
    sets = [SyntheticStreet("train", train, size, seed), SyntheticStreet("val", val, size, seed)]
    palette = STREET_CLASSES.palette().tobytes()
    for dataset in sets:
        images, masks = out / "images" / dataset.split, out / "masks" / dataset.split
        images.mkdir(parents=True, exist_ok=True)
        masks.mkdir(parents=True, exist_ok=True)
        for index in range(len(dataset)):
            image, mask = dataset.read(index)
            Image.fromarray(image).save(images / f"{dataset.stem(index)}.png", compress_level=1)
            indexed = Image.fromarray(mask)
            indexed.putpalette(palette)
            indexed.save(masks / f"{dataset.stem(index)}.png")
    (out / "classes.json").write_text(json.dumps(STREET_CLASSES.to_dict(), indent=2) + "\n", encoding="utf-8")
    return out
