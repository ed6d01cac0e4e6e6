"""What stands in a synthetic street: buildings, trees, lamps and signs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import ArrayLike

from .scene import CIRCLE, GLASS, NEAR, Canvas, Color, FloatArray, Label, Light, cast, scaled, sunlit

LAMPLIGHT: Color = (255, 214, 132)
"""RGB of lit windows and lamps."""


@dataclass(frozen=True)
class Building:
    """A house in the row on one side (+1 right, −1 left), its front `x` metres from the camera's line.

    Args:
        z0, z1: near and far end, m.
        floors: storeys, of `storey` metres each.
        roof: height of a gable roof above the wall, m; 0 is a flat one.
        shop: whether the ground floor is a shop with an awning.
        wide: width of a window as a share of its bay.
    """

    side: int
    x: float
    z0: float
    z1: float
    floors: int
    storey: float
    roof: float
    shop: bool
    wide: float
    wall: Color
    accent: Color
    seed: int

    @property
    def depth(self) -> float:
        """Return the far end: whoever walks beside the house is in front of it."""
        return self.z1

    @property
    def height(self) -> float:
        """Height of the wall, m."""
        return self.floors * self.storey + 0.6

    def shadow(self, light: Light) -> list[FloatArray]:
        """Return the shadow over the street, if the sun stands behind the house."""
        if light.side != self.side:
            return []
        reach, x = self.side * (self.x - light.slant * self.height), self.side * self.x
        return [np.array([(x, 0, self.z0), (x, 0, self.z1), (reach, 0, self.z1), (reach, 0, self.z0)])]

    def draw(self, canvas: Canvas, light: Light) -> None:
        """Paint roof, chimneys, end wall and front with its windows."""
        rng = Generator(PCG64(self.seed))
        lit, z = sunlit(-self.side, light), max((self.z0 + self.z1) / 2, 1.0)
        x, back, top = self.side * self.x, self.side * (self.x + 9), self.height
        tile = light.tint(scaled(self.accent, 0.75), 0.3 + 0.7 * lit, z)
        if self.roof:
            ridge = self.side * (self.x + 4.5)
            for _ in range(2):
                cz = rng.uniform(self.z0 + 1, self.z1 - 1)
                shaft = [(ridge, top, cz), (ridge, top + self.roof + 1.3, cz)]
                shaft += [(ridge, top + self.roof + 1.3, cz + 1.1), (ridge, top, cz + 1.1)]
                canvas.fill_world(shaft, light.tint((128, 84, 70), lit, z), Label.BUILDING)
            peak = [(ridge, top + self.roof, self.z0), (ridge, top + self.roof, self.z1)]
            eaves = self.side * (self.x - 0.35)
            canvas.fill_world([(eaves, top, self.z0), *peak, (eaves, top, self.z1)], tile, Label.BUILDING)
        end = [(x, 0, self.z0), (x, top, self.z0), (back, top, self.z0), (back, 0, self.z0)]
        if self.roof:
            end.insert(2, (self.side * (self.x + 4.5), top + self.roof, self.z0))
        canvas.fill_world(end, light.tint(scaled(self.wall, 0.9), light.front, max(self.z0, NEAR)), Label.BUILDING)

        self._band(canvas, 0.0, top, light.tint(self.wall, lit, z), Label.BUILDING)
        self._band(canvas, 0.0, self.storey if self.shop else 0.6, light.tint(scaled(self.accent, 0.9), lit, z))
        trim = light.tint(scaled(self.wall, 1.18), lit, z)
        for floor in range(1, self.floors):
            self._band(canvas, floor * self.storey + 0.1, floor * self.storey + 0.3, trim)
        self._band(canvas, top - 0.45, top, tile if self.roof else trim, Label.BUILDING)
        self._draw_windows(canvas, light, lit, z, rng)

    def _band(self, canvas: Canvas, low: float, high: float, color: Color, label: Label | None = None) -> None:
        """Paint the front from height `low` to `high`, following the bend of the road."""
        zs = [max(self.z0, NEAR) + (self.z1 - max(self.z0, NEAR)) * i / 4 for i in range(5)]
        x = self.side * self.x
        canvas.fill_world([(x, low, z) for z in zs] + [(x, high, z) for z in reversed(zs)], color, label)

    def _panes(self, z: FloatArray, y: FloatArray, wide: float, high: float) -> FloatArray:
        """Return rectangles (M, 4, 3) on the front, centred at `z`, with sills at `y`."""
        panes = np.empty((len(z), 4, 3))
        panes[..., 0] = self.side * self.x
        panes[..., 1] = y[:, None] + np.array((0, high, high, 0))
        panes[..., 2] = z[:, None] + np.array((-0.5, -0.5, 0.5, 0.5)) * wide
        return panes

    def _draw_windows(self, canvas: Canvas, light: Light, lit: float, z: float, rng: Generator) -> None:
        """Paint the grid of windows, then doors or the shop."""
        bays = max(round((self.z1 - self.z0) / 2.7), 1)
        pitch = (self.z1 - self.z0) / bays
        centers = self.z0 + (np.arange(bays, dtype=np.float64) + 0.5) * pitch
        wide, high = pitch * self.wide, self.storey * 0.52
        first = 1 if self.shop else 0
        grid_z = np.tile(centers, self.floors - first)
        sills = (np.arange(first, self.floors, dtype=np.float64) + 0.32) * self.storey
        grid_y = np.repeat(sills, bays)
        state = rng.uniform(size=len(grid_z))
        frame = light.tint((224, 220, 210), lit, z)
        if len(grid_z):
            canvas.fill_world(self._panes(grid_z, grid_y - 0.12, wide + 0.3, high + 0.26), frame)
        bright, dark = (light.tint(scaled(GLASS, factor), 0.4 + 0.6 * lit, z) for factor in (1.0, 0.7))
        lamp, mixed = state < light.lamps, state < 0.5 + 0.5 * light.lamps
        for chosen, color in ((lamp, LAMPLIGHT), (mixed & ~lamp, dark), (~mixed, bright)):
            if chosen.any():
                canvas.fill_world(self._panes(grid_z[chosen], grid_y[chosen], wide, high), color)
        if z < 40 and len(grid_z):
            canvas.fill_world(self._panes(grid_z, grid_y, 0.12, high), frame)  # mullions
        if self.shop:
            pane = LAMPLIGHT if light.lamps else light.tint(scaled(GLASS, 0.9), 0.3 + 0.7 * lit, z)
            canvas.fill_world(self._panes(centers, np.full(bays, 0.5), pitch * 0.8, 1.9), pane)
            self._draw_awning(canvas, light, lit, z)
        else:
            bay = int(rng.integers(bays))
            door = centers[bay : bay + 1]
            canvas.fill_world(self._panes(door, np.zeros(1), 1.7, 2.5), frame)
            canvas.fill_world(self._panes(door, np.zeros(1), 1.3, 2.3), light.tint(scaled(self.accent, 0.6), lit, z))

    def _draw_awning(self, canvas: Canvas, light: Light, lit: float, z: float) -> None:
        """Paint a striped awning over the shop windows."""
        near, far = max(self.z0 + 0.5, NEAR), self.z1 - 0.5
        stripes = max(round((far - near) / 0.7), 1)
        inner, outer = self.side * self.x, self.side * (self.x - 1.1)
        cuts = near + (far - near) * np.arange(stripes + 1) / stripes
        cloth = np.empty((stripes, 4, 3))
        cloth[..., 0] = (inner, outer, outer, inner)
        cloth[..., 1] = (3.0, 2.35, 2.35, 3.0)
        cloth[:, :2, 2], cloth[:, 2:, 2] = cuts[:-1, None], cuts[1:, None]
        canvas.fill_world(cloth[::2], light.tint(self.accent, 0.3 + 0.7 * lit, z), Label.BUILDING)
        canvas.fill_world(cloth[1::2], light.tint((238, 232, 220), 0.3 + 0.7 * lit, z), Label.BUILDING)


@dataclass(frozen=True)
class Tree:
    """A broad-leaved tree, or a conifer: leaves of one hue in three lights around a trunk."""

    x: float
    z: float
    height: float
    radius: float
    conifer: bool
    leaf: Color
    seed: int

    @property
    def depth(self) -> float:
        """Return the trunk's z."""
        return self.z

    def shadow(self, light: Light) -> list[FloatArray]:
        """Return the shadows of trunk and crown."""
        reach = -light.side * light.slant * self.height * 0.6
        crown = np.zeros((16, 3))
        crown[:, 0] = self.x + reach + CIRCLE[:, 0] * self.radius * (1 + 0.3 * light.slant)
        crown[:, 2] = self.z + CIRCLE[:, 1] * self.radius
        return [cast(self.x, self.z, 0.18, self.height * 0.6, light), crown]

    def draw(self, canvas: Canvas, light: Light) -> None:
        """Paint the trunk, then the crown's clumps and leaves from dark to light."""
        rng = Generator(PCG64(self.seed))
        scale = canvas.focal / self.z
        foot = canvas.project((self.x, 0.0, self.z))
        thick = 0.055 * self.height / 2
        top = self.height * 0.6
        trunk = np.array([(-1.3, 0), (-0.8, top), (0.8, top), (1.3, 0)]) * (thick, -1) * scale
        canvas.fill(foot + trunk, light.tint((98, 78, 62), 0.6, self.z), Label.TREE)
        sunny = trunk * (0.45, 1) + (light.side * thick * 0.5 * scale, 0)
        canvas.fill(foot + sunny, light.tint((128, 104, 82), 1, self.z))
        if self.conifer:
            tier = np.arange(6)
            centers = np.column_stack((tier * 0.0, (0.22 + 0.13 * tier) * self.height))
            sizes = (1 - 0.155 * tier) * self.radius * 0.8
            shape = np.array([(-1.1, -0.25), (0, 1.9), (1.1, -0.25), (0.4, -0.05), (-0.5, -0.1)])
        else:
            angle = rng.integers(0, 16, 12)
            spread = np.sqrt(rng.uniform(0.05, 1, (12, 1))) * (0.72, 0.8)
            high = self.height - self.radius
            centers = CIRCLE[angle] * spread * self.radius + (0, high)
            sizes = rng.uniform(0.34, 0.52, 12) * self.radius
            shape = CIRCLE
        tones = ((0.62, 0.2), (0.88, 0.55), (1.18, 1.0))
        dark, middle, bright = (light.tint(scaled(self.leaf, factor), lit, self.z) for factor, lit in tones)
        for center, size in zip(centers, sizes, strict=True):
            canvas.fill(foot + (center + shape * size) * (1, -1) * scale, dark, Label.TREE)
        count = 46 if self.z < 30 else 18
        sun = np.array((light.side * 0.3, 0.38))
        for color, shift, size in ((middle, 0.3, 0.30), (bright, 1.0, 0.2)):
            pick = rng.integers(0, len(sizes), count)
            inside = CIRCLE[rng.integers(0, 16, count)] * np.sqrt(rng.uniform(0, 1, (count, 1))) * 0.55
            at = centers[pick] + (inside + sun * shift) * sizes[pick, None]
            blade = CIRCLE[::2] * rng.uniform(0.35, 1.0, (count, 8, 1)) * size * self.radius * 0.55
            canvas.fill(foot + (at[:, None] + blade) * (1, -1) * scale, color)
        rim = CIRCLE[rng.integers(0, 16, 24)] * 0.95
        pick = rng.integers(0, len(sizes), 24)
        at = centers[pick] + rim * sizes[pick, None] * (0.7 if self.conifer else 1.0)
        leaves = at[:, None] + CIRCLE[::2] * rng.uniform(0.05, 0.1, (24, 1, 1)) * self.radius
        canvas.fill(foot + leaves * (1, -1) * scale, middle, Label.TREE)


@dataclass(frozen=True)
class Pole:
    """A post by the kerb that carries a street lamp, a lantern or a traffic sign.

    Args:
        kind: ``"lamp"`` (with an arm over the road), ``"lantern"``, or a sign: ``"limit"``, ``"stop"``,
            ``"warning"``, ``"yield"``, ``"ahead"`` or ``"parking"``.
        wide: thickness at the foot, m.
        arm: where the arm points: −1 left, +1 right.
    """

    x: float
    z: float
    kind: str
    height: float
    wide: float
    arm: int
    paint: Color

    @property
    def depth(self) -> float:
        """Return the z of the foot."""
        return self.z

    def shadow(self, light: Light) -> list[FloatArray]:
        """Return a long thin shadow."""
        return [cast(self.x, self.z, self.wide * 0.6, self.height, light)]

    def draw(self, canvas: Canvas, light: Light) -> None:
        """Paint the post with its sunny edge, then what it carries."""
        foot = canvas.project((self.x, 0.0, self.z))
        scale = canvas.focal / self.z * np.array((1.0, -1.0))
        half, top = self.wide / 2, self.height

        def shape(points: ArrayLike, color: Color, lit: float, label: Label | None) -> None:
            canvas.fill(foot + np.asarray(points, np.float64) * scale, light.tint(color, lit, self.z), label)

        shape(_taper(half, half * 0.8, 0, top), self.paint, 0.35, Label.POLE)
        edge = light.side * half
        shape([(edge * 0.2, 0), (edge * 0.2, top), (edge * 0.8, top), (edge, 0)], self.paint, 1.0, None)
        if self.kind in _SIGNS:
            board, layers = _SIGNS[self.kind]
            center = np.array((0.0, top - 0.1))
            shape(center + np.array(board) * 1.06, (92, 94, 96), 0.6, Label.SIGN)
            for size, outline, color in layers:
                shape(center + np.array(outline) * size, color, 0.4 + 0.6 * light.front, None)
            return
        shape(_taper(half * 1.5, half * 1.4, 0, 0.9), scaled(self.paint, 0.85), 0.5, Label.POLE)
        glass = LAMPLIGHT if light.lamps else (206, 210, 206)
        if self.kind == "lamp":
            reach = np.array((self.arm * 1.7, 1.0))
            beam = [(-0.05, top - 0.25), (-0.05, top), (1.0, top + 0.4), (1.0, top + 0.18)]
            head = [(0.75, top + 0.12), (0.75, top + 0.42), (1.35, top + 0.5), (1.35, top + 0.2)]
            pane = [(0.8, top + 0.1), (0.8, top + 0.2), (1.3, top + 0.26), (1.3, top + 0.16)]
            shape(beam * reach, self.paint, 0.6, Label.POLE)
            shape(head * reach, scaled(self.paint, 0.9), 0.7, Label.POLE)
            shape(pane * reach, glass, 1.0, None)
            canvas.glow((self.x + self.arm * 1.7, top + 0.15, self.z), 0.3, scaled(LAMPLIGHT, 0.6))
        else:
            shape(_taper(0.16, 0.27, top, top + 0.6), self.paint, 0.5, Label.POLE)
            shape(_taper(0.11, 0.19, top + 0.06, top + 0.54), glass, 1.0, None)
            shape(_taper(0.34, 0.03, top + 0.58, top + 0.9), self.paint, 0.6, Label.POLE)
            canvas.glow((self.x, top + 0.35, self.z), 0.3, scaled(LAMPLIGHT, 0.6))


def _taper(low_half: float, high_half: float, low: float, high: float) -> list[tuple[float, float]]:
    """Return an upright trapezium about x = 0, from height `low` to `high`."""
    return [(-low_half, low), (-high_half, high), (high_half, high), (low_half, low)]


_DISC = tuple((float(x) * 0.5, float(y) * 0.5) for x, y in CIRCLE)
_OCTAGON = tuple((float(x) * 0.53, float(y) * 0.53) for x, y in CIRCLE[1::2])
_PEAK = ((-0.58, -0.42), (0.0, 0.6), (0.58, -0.42))
_DOWN = ((-0.58, 0.45), (0.58, 0.45), (0.0, -0.56))
_BOARD = ((-0.45, -0.5), (-0.45, 0.5), (0.45, 0.5), (0.45, -0.5))
_THREE = ((-0.28, -0.2), (-0.28, -0.11), (-0.12, -0.11), (-0.12, -0.04), (-0.24, -0.04), (-0.24, 0.05), (-0.12, 0.05),
          (-0.12, 0.11), (-0.28, 0.11), (-0.28, 0.2), (-0.03, 0.2), (-0.03, -0.2))  # fmt: skip
_NOUGHT = ((0.03, -0.2), (0.03, 0.2), (0.28, 0.2), (0.28, -0.2), (0.03, -0.2),
           (0.12, -0.11), (0.19, -0.11), (0.19, 0.11), (0.12, 0.11), (0.12, -0.11))  # fmt: skip
_STROKE = ((-0.38, -0.1), (-0.38, 0.1), (0.38, 0.1), (0.38, -0.1))
_MARK = ((-0.07, -0.26), (-0.1, 0.22), (0.1, 0.22), (0.07, -0.26))
_ARROW = ((-0.08, -0.34), (-0.08, 0.08), (-0.24, 0.08), (0.0, 0.38), (0.24, 0.08), (0.08, 0.08), (0.08, -0.34))
_LETTER = ((-0.22, -0.36), (-0.22, 0.36), (0.22, 0.36), (0.22, -0.04), (-0.06, -0.04), (-0.06, -0.36))
_EYE = ((-0.07, 0.1), (-0.07, 0.24), (0.08, 0.24), (0.08, 0.1))
_RED, _WHITE, _BLUE, _BLACK = (204, 28, 32), (240, 240, 236), (28, 78, 170), (30, 30, 32)
_Outline = tuple[tuple[float, float], ...]
_SIGNS: dict[str, tuple[_Outline, tuple[tuple[float, _Outline, Color], ...]]] = {
    "limit": (_DISC, ((1.0, _DISC, _RED), (0.74, _DISC, _WHITE), (1.0, _THREE, _BLACK), (1.0, _NOUGHT, _BLACK))),
    "stop": (_OCTAGON, ((1.0, _OCTAGON, _RED), (1.0, _STROKE, _WHITE))),
    "warning": (_PEAK, ((1.0, _PEAK, _RED), (0.68, _PEAK, _WHITE), (0.7, _MARK, _BLACK))),
    "yield": (_DOWN, ((1.0, _DOWN, _RED), (0.62, _DOWN, _WHITE))),
    "ahead": (_DISC, ((1.0, _DISC, _BLUE), (1.0, _ARROW, _WHITE))),
    "parking": (_BOARD, ((1.0, _BOARD, _BLUE), (1.0, _LETTER, _WHITE), (1.0, _EYE, _BLUE))),
}
"""Outline of each sign's board (m from its centre) and what is painted on it: (scale, outline, RGB)."""

SIGNS = tuple(_SIGNS)
"""Kinds of traffic sign."""
