"""Who moves through a synthetic street: cars and people."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import ArrayLike

from .scene import CIRCLE, GLASS, Canvas, Color, FloatArray, Label, Light, cast, scaled, sunlit


@dataclass(frozen=True)
class CarShape:
    """Side view of a car: (u, y) metres from the rear bumper's foot over the roof to the front bumper's foot.

    `rear` and `front` are the corners at which the rear window and the windscreen start.
    """

    profile: tuple[tuple[float, float], ...]
    rear: int = 2
    front: int = 4
    half: float = 0.9

    @property
    def length(self) -> float:
        """Length over the bumpers, m."""
        return self.profile[-1][0]

    @property
    def height(self) -> float:
        """Height of the roof, m."""
        return max(y for _, y in self.profile)


_SALOON = ((0, 0.3), (0, 0.9), (0.7, 1.0), (1.35, 1.42), (2.7, 1.45), (3.4, 1.0), (4.3, 0.85), (4.5, 0.6), (4.5, 0.3))
_HATCH = ((0, 0.3), (0, 0.98), (0.15, 1.02), (0.6, 1.48), (2.3, 1.5), (3.0, 1.03), (3.85, 0.86), (4, 0.6), (4, 0.3))
_ROVER = ((0, 0.38), (0, 1.08), (0.1, 1.12), (0.4, 1.7), (2.6, 1.74), (3.3, 1.14), (4.3, 1.0), (4.5, 0.7), (4.5, 0.38))
_VAN = ((0, 0.36), (0, 1.2), (0.05, 1.25), (0.15, 2.2), (3.7, 2.25), (4.5, 1.25), (4.95, 1.05), (5.1, 0.7), (5.1, 0.36))
CAR_SHAPES = (CarShape(_SALOON), CarShape(_HATCH), CarShape(_ROVER, half=0.97), CarShape(_VAN, half=1.0))
"""Saloon, hatchback, off-roader and van."""


@dataclass(frozen=True)
class Car:
    """A car centred at (`x`, `z`) whose nose points along (`dx`, `dz`), one of the four directions of the grid."""

    x: float
    z: float
    dx: int
    dz: int
    shape: CarShape
    paint: Color

    @property
    def depth(self) -> float:
        """Return the z of its middle."""
        return self.z

    def _place(self, uvy: FloatArray) -> FloatArray:
        """Return street points of car points (..., 3): along from the rear, to the car's right, up."""
        u, v = uvy[..., 0] - self.shape.length / 2, uvy[..., 1]
        return np.stack((self.x + u * self.dx + v * self.dz, uvy[..., 2], self.z + u * self.dz - v * self.dx), axis=-1)

    def _footprint(self, grow: float = 0.0) -> FloatArray:
        """Return the corners (4, 3) on the ground, `grow` metres outside the bumpers and flanks."""
        half, length = self.shape.half + grow, self.shape.length
        corners = [(-grow, -half, 0), (length + grow, -half, 0), (length + grow, half, 0), (-grow, half, 0)]
        return self._place(np.array(corners, np.float64))

    def shadow(self, light: Light) -> list[FloatArray]:
        """Return its footprint and the same swept away from the sun."""
        base = self._footprint()
        swept = np.concatenate((base, base - (light.side * light.slant * self.shape.height * 0.8, 0, 0)))
        hull = cv2.convexHull(swept[:, (0, 2)].astype(np.float32), returnPoints=False).ravel()
        return [swept[hull]]

    def contact(self) -> FloatArray:
        """Return the polygon (4, 3) on the ground that no light reaches."""
        return self._footprint(0.15)

    def draw(self, canvas: Canvas, light: Light) -> None:
        """Paint wheels, the surfaces over the roof that face the camera, and the flank that does."""
        shape = self.shape
        profile = np.array(shape.profile, np.float64)
        belt = profile[shape.rear, 1]
        half = shape.half - 0.24 * np.maximum(profile[:, 1] - belt, 0)  # the cabin narrows upwards
        sides = np.stack([np.column_stack((profile[:, 0], v * half, profile[:, 1])) for v in (-1, 1)])
        placed = self._place(sides)
        seen = canvas.project(placed)
        self._draw_underside(canvas, light)
        strips = np.stack((seen[0, :-1], seen[1, :-1], seen[1, 1:], seen[0, 1:]), axis=1)
        # Near surfaces hide far ones; those that face away are left out by the sense in which their corners turn.
        facing = _turn(strips) < 0
        order = np.argsort(-placed[:, :, 2].sum(axis=0)[:-1], kind="stable")
        for i in order[facing[order]]:
            flat = profile[i + 1, 1] - profile[i, 1]
            color = scaled(self.paint, 1.05 if abs(flat) < 0.3 else 0.92)
            if i in (shape.rear, shape.front):
                color = GLASS
            canvas.fill(strips[i], light.tint(color, 0.75 if abs(flat) < 0.3 else light.front, self.z), Label.CAR)
            if i in (shape.rear, shape.front):
                middle = strips[i].mean(axis=0)
                canvas.fill(middle + (strips[i] - middle) * (0.8, 0.5), light.tint((130, 150, 168), 0.8, self.z))
        for rear in (True, False):
            if facing[0 if rear else -1]:
                self._draw_end(canvas, light, rear=rear)
        for side in (0, 1):
            flank = seen[side] if side == 0 else seen[side, ::-1]
            if _turn(flank) < 0:
                self._draw_flank(canvas, light, seen[side], 2 * side - 1)

    def _quad(self, u: float, v: tuple[float, float], y: tuple[float, float]) -> FloatArray:
        """Return an upright rectangle across the car at `u`."""
        return self._place(np.array([(u, v[0], y[0]), (u, v[1], y[0]), (u, v[1], y[1]), (u, v[0], y[1])]))

    def _draw_underside(self, canvas: Canvas, light: Light) -> None:
        """Paint the dark gap above the road and the tyres as the camera sees them from behind."""
        half, length = self.shape.half, self.shape.length
        rubber = light.tint((26, 26, 30), 0.5, self.z)
        if self.dz:
            u = 0.4 if self.dz > 0 else length - 0.4
            canvas.fill_world(self._quad(u, (-half + 0.05, half - 0.05), (0.16, 0.5)), rubber, Label.CAR)
            for v in (-half + 0.02, half - 0.26):
                canvas.fill_world(self._quad(u, (v, v + 0.24), (0.0, 0.5)), rubber, Label.CAR)

    def _draw_end(self, canvas: Canvas, light: Light, *, rear: bool) -> None:
        """Paint lamps, number plate and bumper on the rear or the front."""
        shape = self.shape
        u = 0.0 if rear else shape.length
        foot, top = shape.profile[0][1], shape.profile[1 if rear else -2][1]
        span, half = top - foot, shape.half
        bumper = (foot, foot + (0.24 if rear else 0.3) * span)
        canvas.fill_world(self._quad(u, (-half, half), bumper), light.tint((48, 48, 52), 0.6, self.z))
        plate = self._quad(u, (-0.26, 0.26), (foot + 0.3 * span, foot + 0.5 * span))
        canvas.fill_world(plate, light.tint((226, 226, 216), 0.9, self.z))
        color: Color = (205, 34, 30) if rear else (248, 246, 230)
        for v in (-half + 0.06, half - 0.42):
            y = (foot + 0.56 * span, foot + 0.9 * span)
            lamp = self._quad(u, (v, v + 0.36), y)
            canvas.fill_world(lamp, color if light.lamps else light.tint(color, 0.9, self.z))
            if light.lamps:
                middle = lamp.mean(axis=0)
                canvas.glow((float(middle[0]), float(middle[1]), float(middle[2])), 0.16, scaled(color, 0.55))

    def _draw_flank(self, canvas: Canvas, light: Light, outline: FloatArray, side: int) -> None:
        """Paint one flank with its windows, wheels and sill; `side` is +1 for the car's right."""
        shape = self.shape
        normal = side * self.dz
        lit = sunlit(normal, light) if normal else light.front
        canvas.fill(outline, light.tint(self.paint, 0.15 + 0.85 * lit, self.z), Label.CAR)
        sill = [(0.1, side * shape.half, 0.3), (shape.length - 0.1, side * shape.half, 0.3)]
        sill += [(shape.length - 0.1, side * shape.half, 0.46), (0.1, side * shape.half, 0.46)]
        canvas.fill_world(self._place(np.array(sill)), light.tint(scaled(self.paint, 0.6), lit, self.z))
        cabin = outline[[shape.rear, shape.rear + 1, shape.front, shape.front + 1]]
        middle = cabin.mean(axis=0)
        rear_low, rear_high, front_high, front_low = middle + (cabin - middle) * (0.86, 0.78)
        for a, b in ((0.0, 0.47), (0.53, 1.0)):
            low, high = front_low - rear_low, front_high - rear_high
            pane = [rear_low + low * a, rear_high + high * a, rear_high + high * b, rear_low + low * b]
            canvas.fill(pane, light.tint(GLASS, 0.3 + 0.7 * lit, self.z))
        for u in (0.85, shape.length - 0.85):
            for radius, color in ((0.34, (24, 24, 27)), (0.2, (150, 152, 156))):
                wheel = np.insert(CIRCLE * radius + (u, 0.34), 1, side * shape.half, axis=1)
                canvas.fill_world(self._place(wheel), light.tint(color, lit, self.z), Label.CAR)


def _turn(polygons: FloatArray) -> FloatArray:
    """Return twice the signed areas (...) of pixel polygons (..., N, 2): above 0 where corners turn clockwise."""
    x, y = polygons[..., 0], polygons[..., 1]
    after = [*range(1, x.shape[-1]), 0]
    areas: FloatArray = (x * y[..., after] - x[..., after] * y).sum(axis=-1)
    return areas


@dataclass(frozen=True)
class Person:
    """Someone on foot.

    Args:
        height: m, from the soles to the crown.
        facing: −1 or +1: walks to the left or right, seen from the side; 0: comes or goes, seen from front or back.
        stride: how far the legs are apart, −1 to 1.
        skirt: a skirt or coat instead of trousers.
        away: whether the back of the head is seen.
    """

    x: float
    z: float
    height: float
    facing: int
    stride: float
    skirt: bool
    away: bool
    top: Color
    bottom: Color
    skin: Color
    hair: Color
    bag: Color | None

    @property
    def depth(self) -> float:
        """Return the z of the feet."""
        return self.z

    def shadow(self, light: Light) -> list[FloatArray]:
        """Return a long thin shadow."""
        return [cast(self.x, self.z, 0.2, self.height, light)]

    def draw(self, canvas: Canvas, light: Light) -> None:
        """Paint legs, arms, body and head; the far arm and leg first and darker."""
        foot = canvas.project((self.x, 0.0, self.z))
        # Everything is drawn for a body 1.75 m tall and scaled.
        scale = canvas.focal / self.z * self.height / 1.75 * np.array((1.0, -1.0))
        side, step = self.facing, self.stride * (0.3 if self.facing else 0.09)

        def limb(joints: list[tuple[float, float]], wide: float, color: Color, lit: float) -> None:
            for a, b in pairwise(joints):
                canvas.fill(foot + _capsule(a, b, wide) * scale, light.tint(color, lit, self.z), Label.PERSON)

        def shape(points: ArrayLike, color: Color, lit: float) -> None:
            canvas.fill(foot + np.asarray(points, np.float64) * scale, light.tint(color, lit, self.z), Label.PERSON)

        hip = 0.0 if side else 0.1
        swing = step * 0.8
        knees = ((-hip - step * 0.35 + side * 0.05, 0.48), (hip + step * 0.35 + side * 0.05, 0.48))
        feet = ((-hip - step, 0.06 + 0.05 * abs(step)), (hip + step, 0.06))
        shoulder = 0.04 if side else 0.23
        hands = ((-shoulder * 1.3 + swing, 0.84), (shoulder * 1.3 - swing, 0.84))
        elbows = ((-shoulder * 1.3 + swing * 0.4, 1.12), (shoulder * 1.3 - swing * 0.4, 1.12))
        leg, shoe = self.skin if self.skirt else self.bottom, scaled(self.bottom, 0.45)
        for i, lit in ((0, 0.25), (1, 0.7)):
            limb([(hip * (2 * i - 1), 0.88), knees[i], feet[i]], 0.17, leg, lit)
            limb([feet[i], (feet[i][0] + 0.12 * side, 0.05)], 0.13, shoe, lit)
        limb([(-shoulder, 1.4), elbows[0], hands[0]], 0.12, self.top, 0.25)
        half = 0.17 if side else 0.23
        if self.skirt:
            shape([(-half * 0.8, 1.0), (half * 0.8, 1.0), (half * 1.25, 0.5), (-half * 1.25, 0.5)], self.bottom, 0.6)
        outline = np.array([(-0.85, 0.82), (-1, 1.36), (-0.5, 1.48), (0.5, 1.48), (1, 1.36), (0.85, 0.82)])
        shaded = np.array([(0.85, 0.82), (1, 1.36), (0.3, 1.46), (0.25, 0.82)])
        shape(outline * (half, 1), self.top, 0.75)
        shape(shaded * (-light.side * half, 1), self.top, 0.3)
        if self.bag is not None:
            x = -side * 0.2
            shape([(x - 0.13, 0.98), (x - 0.13, 1.38), (x + 0.13, 1.38), (x + 0.13, 0.98)], self.bag, 0.6)
        limb([(shoulder, 1.4), elbows[1], hands[1]], 0.12, scaled(self.top, 1.08), 0.85)
        limb([hands[1], hands[1]], 0.11, self.skin, 0.8)
        limb([(0, 1.46), (0, 1.52)], 0.11, self.skin, 0.5)
        shape(CIRCLE * (0.115, 0.14) + (side * 0.02, 1.61), self.skin, 0.8)
        if self.away and not side:
            shape(CIRCLE * (0.125, 0.15) + (0, 1.625), self.hair, 0.7)
        else:
            # The hair lies on the crown and, from the side, reaches down the back of the head.
            cap = [
                *CIRCLE[:9] * (0.13, 0.13) + (0, 1.63),
                (-0.13, 1.63 - 0.05 * (side > 0)),
                (0.13, 1.63 - 0.05 * (side < 0)),
            ]
            shape(np.array(cap) - (side * 0.03, 0), self.hair, 0.7)


def _capsule(a: tuple[float, float], b: tuple[float, float], wide: float) -> FloatArray:
    """Return a rounded stroke (16, 2) from `a` to `b`, `wide` across."""
    start, end = np.array(a), np.array(b)
    dx, dy = b[0] - a[0], b[1] - a[1]
    ahead = CIRCLE[:, 0] * dx + CIRCLE[:, 1] * dy > 0
    return np.where(ahead[:, None], end, start) + CIRCLE * (wide / 2)
