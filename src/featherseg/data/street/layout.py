"""Town planning for a synthetic street: what light, which road, and what stands and moves along it."""

from __future__ import annotations

import math
from dataclasses import replace

from numpy.random import Generator

from .actors import CAR_SHAPES, Car, CarShape, Person
from .scene import LIGHTS, Color, Light, Street, Thing
from .scenery import SIGNS, Building, Pole, Tree

WALLS: tuple[Color, ...] = (
    (214, 188, 148), (196, 120, 92), (226, 216, 196), (168, 176, 184), (190, 204, 190), (222, 170, 128), (150, 86, 70),
    (206, 196, 216), (240, 226, 180), (128, 134, 142), (176, 196, 214), (206, 148, 146),
)  # fmt: skip
_ACCENTS: tuple[Color, ...] = (
    (150, 62, 50), (44, 92, 74), (48, 76, 122), (120, 72, 50), (88, 88, 96), (172, 124, 48), (110, 46, 70),
)  # fmt: skip
PAINTS: tuple[Color, ...] = (
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


def pick(colors: tuple[Color, ...], rng: Generator) -> Color:
    """Return one of `colors`, slightly altered."""
    red, green, blue = colors[int(rng.integers(len(colors)))]
    change, warm = rng.uniform(0.88, 1.1), rng.uniform(-6, 6)
    return red * change + warm, green * change, blue * change - warm


def choose_light(rng: Generator) -> Light:
    """Choose time of day, weather and where the sun stands."""
    light = LIGHTS[str(rng.choice(("noon", "golden", "overcast", "dusk"), p=(0.34, 0.26, 0.2, 0.2)))]
    return replace(
        light,
        side=_sign(rng),
        front=rng.uniform(0.2, 0.9),
        slant=light.slant * rng.uniform(0.7, 1.3),
        visibility=light.visibility * rng.uniform(0.7, 1.5),
    )


def choose_street(rng: Generator) -> Street:
    """Choose the plan of the road; the camera drives in the middle of its lane, on the right or the left."""
    lane = rng.uniform(3.0, 3.6)
    lanes = int(rng.integers(1, 4))  # beside the own one
    park_own, park_other = bool(rng.uniform() < 0.55), bool(rng.uniform() < 0.55)
    own = lane / 2 + (2.3 if park_own else 0.5)
    other = lane * (lanes + 0.5) + (2.3 if park_other else 0.4)
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
    across = 1 if flip else -1
    return Street(
        left=own if flip else other,
        right=other if flip else own,
        pavement=rng.uniform(2.6, 4.6),
        dashes=tuple(-across * x for x in dashes),
        solids=tuple(-across * x for x in solids),
        oncoming=tuple(across * lane * (i + 1) for i in range(lanes)),
        parking=(park_own, park_other) if flip else (park_other, park_own),
        cross=None if cross is None else (cross, cross + rng.uniform(6.5, 9)),
        zebra=zebra,
        asphalt=(asphalt + tint, asphalt, asphalt + 4 - tint),
        paving=(paving + warm, paving + warm * 0.4, paving - warm * 0.5),
        slab=rng.uniform(0.6, 1.2),
    )


def furnish(street: Street, rng: Generator) -> list[Thing]:
    """Place everything that stands along the street."""
    leaves = (_LEAVES, _LEAVES, _LEAVES, _AUTUMN, _BLOSSOM)[int(rng.integers(5))]
    things: list[Thing] = []
    for side, kerb, parking in ((-1, street.left, street.parking[0]), (1, street.right, street.parking[1])):
        things += _row_of_houses(street, side, kerb, leaves, rng)
        things += _trees(street, side, kerb, leaves, rng)
        things += _poles(street, side, kerb, rng)
        if parking:
            things += _parked(street, side, kerb, rng)
    things += _traffic(street, rng)
    things += _people(street, rng)
    return things


def _tree(x: float, z: float, leaves: tuple[Color, ...], rng: Generator) -> Tree:
    """Return a tree at (`x`, `z`)."""
    height = rng.uniform(5.5, 9.0)
    return Tree(
        x=x,
        z=z,
        height=height,
        radius=height * rng.uniform(0.26, 0.36),
        conifer=bool(rng.uniform() < 0.15),
        leaf=pick(leaves, rng),
        seed=int(rng.integers(2**32)),
    )


def _row_of_houses(street: Street, side: int, kerb: float, leaves: tuple[Color, ...], rng: Generator) -> list[Thing]:
    """Line one side with houses, with gaps in which trees grow."""
    things: list[Thing] = []
    front, z, storey, tall = kerb + street.pavement, -6.0, rng.uniform(2.9, 3.5), rng.uniform(2, 5)
    corner = street.cross[0] - 3 if street.cross else math.inf
    while z < 100:
        if rng.uniform() < 0.14:
            gap = rng.uniform(5, 10)
            if z > 4 and not street.crossed(z + gap / 2, 3.0):
                things.append(_tree(side * (front + rng.uniform(2.5, 6)), z + gap / 2, leaves, rng))
            z += gap
        if street.cross and street.crossed(z, 3.0):
            z = street.cross[1] + 3.0
        end = z + rng.uniform(8, 17)
        if z <= corner < end:
            end = corner
        if end - z > 4 and end > 3:
            house = Building(
                side=side,
                x=front + rng.uniform(0, 0.5),
                z0=z,
                z1=end,
                floors=min(max(round(tall + rng.uniform(-1.4, 1.4)), 1), 6),
                storey=storey,
                roof=rng.uniform(1.6, 3.2) if rng.uniform() < 0.55 else 0.0,
                shop=bool(rng.uniform() < 0.4),
                wide=rng.uniform(0.38, 0.66),
                wall=pick(WALLS, rng),
                accent=pick(_ACCENTS, rng),
                seed=int(rng.integers(2**32)),
            )
            things.append(house)
        z = end + 0.01  # so that a house ending at the corner is not started again
    return things


def _trees(street: Street, side: int, kerb: float, leaves: tuple[Color, ...], rng: Generator) -> list[Thing]:
    """Plant an avenue or a few trees along the kerb."""
    spacing, chance = ((9.0, 0.95), (12.0, 0.5), (14.0, 0.3))[int(rng.integers(3))]
    things: list[Thing] = []
    z = rng.uniform(9, 15)
    while z < 75:
        if rng.uniform() < chance and not street.crossed(z, 2.0):
            things.append(_tree(side * (kerb + 1.1), z, leaves, rng))
        z += spacing * rng.uniform(0.9, 1.1)
    return things


def _poles(street: Street, side: int, kerb: float, rng: Generator) -> list[Thing]:
    """Set street lamps at even steps, and traffic signs."""
    paint: Color = ((70, 74, 78), (44, 60, 54), (150, 154, 156))[int(rng.integers(3))]
    kind = "lamp" if rng.uniform() < 0.6 else "lantern"
    height = rng.uniform(5.5, 7.0) if kind == "lamp" else rng.uniform(3.2, 4.0)
    # The nearest depth at which the kerb is inside a 2:1 picture grows with its distance.
    first = max(7.0, 1.65 * kerb) + rng.uniform(0, 5)
    things: list[Thing] = []
    for z in (first, first + 9):
        if z < 20 and not street.crossed(z):  # beyond, a post is under five pixels of 192 wide
            things.append(Pole(side * (kerb + 0.55), z, kind, height, 0.38, -side, paint))
    for _ in range(rng.integers(0, 3)):
        z = max(7.0, 1.7 * kerb) + rng.uniform(0, 8)
        if z < 17 and not street.crossed(z):
            sign = SIGNS[int(rng.integers(len(SIGNS)))]
            x = side * (kerb + rng.uniform(0.5, 0.8))
            things.append(Pole(x, z, sign, rng.uniform(2.4, 3.0), 0.32, -side, (150, 154, 156)))
    return things


def _parked(street: Street, side: int, kerb: float, rng: Generator) -> list[Thing]:
    """Park cars along one kerb."""
    things: list[Thing] = []
    z = rng.uniform(8, 13)
    while z < 48:  # beyond, a car is under ten pixels of 192 high
        clear = street.zebra is None or not street.zebra - 4 < z < street.zebra + 7
        if rng.uniform() < 0.65 and clear and not street.crossed(z, 5.0):
            shape, heading = _car_shape(rng), 1 if rng.uniform() < 0.7 else -1
            things.append(Car(side * (kerb - shape.half - 0.25), z, 0, heading, shape, pick(PAINTS, rng)))
        z += rng.uniform(5.6, 7.5)
    return things


def _car_shape(rng: Generator) -> CarShape:
    """Return one of the kinds of car."""
    return CAR_SHAPES[int(rng.integers(len(CAR_SHAPES)))]


def _traffic(street: Street, rng: Generator) -> list[Thing]:
    """Drive a car ahead, oncoming ones in the other lanes, and one through the cross street."""
    places: list[tuple[float, float, int, int]] = []
    if rng.uniform() < 0.55:
        places.append((rng.uniform(-0.3, 0.3), rng.uniform(11, 32), 0, 1))
    for x in street.oncoming:
        places += [(x, z, 0, -1) for z in (rng.uniform(8, 18), rng.uniform(26, 46)) if rng.uniform() < 0.6]
    if street.cross and rng.uniform() < 0.7:
        places.append((rng.uniform(-9, 9), sum(street.cross) / 2, _sign(rng), 0))
    # Whoever would stand in the way of the crossing car stays at home.
    crossing = [z for _, z, dx, _ in places if dx]
    return [
        Car(x, z, dx, dz, _car_shape(rng), pick(PAINTS, rng))
        for x, z, dx, dz in places
        if dx or not any(abs(z - other) < 5 for other in crossing)
    ]


def _sign(rng: Generator) -> int:
    """Return −1 or +1."""
    return 1 if rng.uniform() < 0.5 else -1


def _people(street: Street, rng: Generator) -> list[Thing]:
    """Let people walk on the pavements and over the zebra crossing, near enough to be seen."""
    things: list[Thing] = []
    spots: list[tuple[float, float, bool]] = []
    for _ in range(rng.integers(4, 10)):
        side, kerb = (-1, street.left) if rng.uniform() < 0.5 else (1, street.right)
        x = kerb + rng.uniform(0.7, street.pavement - 0.4)
        z = max(6.0, 1.6 * x) + rng.uniform(0, 1) * rng.uniform(0, 6)
        if z < 14 and not street.crossed(z, 1.0):  # beyond, a person is under 40 pixels of 192 high
            spots.append((side * x, z, bool(rng.uniform() < 0.4)))
    if street.zebra is not None and street.zebra < 13:
        for _ in range(rng.integers(0, 3)):
            spots.append((rng.uniform(-street.left, street.right), street.zebra + rng.uniform(0.5, 2.5), True))
    for x, z, sideways in spots:
        someone = Person(
            x=x,
            z=z,
            height=rng.uniform(1.15, 1.4) if rng.uniform() < 0.12 else rng.uniform(1.62, 1.92),
            facing=_sign(rng) if sideways else 0,
            stride=rng.uniform(0.3, 1.0) * _sign(rng),
            skirt=bool(rng.uniform() < 0.25),
            away=bool(rng.uniform() < 0.5),
            top=pick(_CLOTHES, rng),
            bottom=pick(_CLOTHES, rng),
            skin=pick(_SKINS, rng),
            hair=pick(_HAIR, rng),
            bag=pick(_CLOTHES, rng) if rng.uniform() < 0.3 else None,
        )
        things.append(someone)
    return things
