"""Charts as SVG texts: points by two figures, curves, bars, and heat maps. They know nothing of what figures mean.

Colours come from the page's style sheet, by class: ``c0`` … ``c12`` are series, the rest is named after its use. So
one chart serves light and dark pages.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from .chart_texts import FONT, shorten, text_width

WIDTH = 960
"""Width of every chart in its own units; the page scales it."""
SERIES = 13
"""Colours of series in the style sheet; further ones begin again at 1, for 0 is the fp32 network's."""
LABEL = 190
"""Largest width of a bar's or group's name; of longer ones the middle is left out, except in the tooltip."""
DOTS = 120
"""Points of a curve that have large dots; of more they are small."""
MIN_LETTERS = 5
"""Height of the smallest letters beside a heat map; where there is no room for them, its cells' titles must do."""
VALUE = 150
"""Room right of the longest bar for its figure."""


def style_sheet() -> str:
    """Return the style sheet of pages with charts, which knows all their classes."""
    return Path(__file__).with_name("style.css").read_text(encoding="utf-8")


Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Point:
    """A mark of :func:`scatter`.

    Args:
        key: one to three characters that are written beside it.
        x: figure across.
        y: figure upwards.
        series: place of its colour.
        shape: ``"dot"``, ``"ring"``, ``"target"`` (two rings, with lines to both axes) or ``"cross"``.
        title: shown when it is pointed at.
        compared: whether it may stand on the front of the best.
    """

    key: str
    x: float
    y: float
    series: int
    shape: str
    title: str
    compared: bool = True


@dataclass(frozen=True)
class Bar:
    """A bar: its length, its figure as text, and the place of its colour. A NaN has no length."""

    value: float
    text: str
    series: int
    title: str


@dataclass(frozen=True)
class Group:
    """Bars that belong together, under one name."""

    name: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Curve:
    """A line of :func:`curves`.

    Args:
        name: for tooltips.
        points: figures across and upwards, from left to right; NaN upwards is left out.
        series: place of its colour.
        marked: figure across of the point that has a ring; None for none.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    series: int
    marked: float | None = None


def color_class(series: int) -> str:
    """Return the style sheet's class of a series' colour."""
    return f"c{series if series < SERIES else 1 + (series - 1) % (SERIES - 1)}"


def front(points: Iterable[Point]) -> list[Point]:
    """Return the compared points that no other one beats: none is further left and at least as high, or the reverse.

    They are sorted from left to right; of several in one place the first stands for all.
    """
    best: list[Point] = []
    for point in sorted((p for p in points if p.compared), key=lambda p: (p.x, -p.y)):
        if not best or point.y > best[-1].y:
            best.append(point)
    return best


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Return about `count` round numbers (1, 2 or 5 times a power of ten apart) from `low` to `high`."""
    power = 10.0 ** math.floor(math.log10((high - low) / count))
    step = next(power * factor for factor in (1, 2, 5, 10) if (high - low) / (power * factor) <= count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def scatter(
    points: Sequence[Point],
    x_title: str,
    y_title: str,
    *,
    limit: tuple[float, str] | None = None,
    unscored: Sequence[tuple[float, str]] = (),
) -> str:
    """Draw points with their keys, the front of the best (left and high is good), and labelled axes.

    Args:
        points: with finite figures; at least one.
        x_title: name and unit of what is across.
        y_title: name and unit of what is upwards.
        limit: a figure across that a line is drawn at, with what it is called.
        unscored: of what has no figure upwards: that across, and what is shown when it is pointed at. They are strokes
            at the foot.
    """
    height, left, top, right, bottom = 460, 70, 16, WIDTH - 20, 404
    x0, x1 = _span([*(p.x for p in points), *(x for x, _ in unscored), *((limit[0],) if limit else ())], from_zero=True)
    y0, y1 = _span([p.y for p in points], from_zero=False)

    def place(p: Point) -> tuple[float, float]:
        return left + (p.x - x0) / (x1 - x0) * (right - left), bottom - (p.y - y0) / (y1 - y0) * (bottom - top)

    parts = _axes((x0, x1), (y0, y1), (left, top, right, bottom), (x_title, y_title))
    best = front(points)
    if best:
        corners = [place(p) for p in best]
        steps = "".join(f"H{x:.1f}V{y:.1f}" for x, y in corners[1:])
        parts.append(f'<path class="front" d="M{corners[0][0]:.1f} {bottom}V{corners[0][1]:.1f}{steps}H{right}"/>')
    for p in points:
        if p.shape == "target":
            x, y = place(p)
            parts.append(f'<path class="guide" d="M{left} {y:.1f}H{right}M{x:.1f} {top}V{bottom}"/>')
    for x, title in unscored:
        across = left + (x - x0) / (x1 - x0) * (right - left)
        stroke = f'<path class="stroke" d="M{across:.1f} {bottom}v-10"/>'
        parts.append(f"<g><title>{html.escape(title)}</title>{stroke}</g>")
    if limit is not None:
        across = left + (limit[0] - x0) / (x1 - x0) * (right - left)
        parts.append(f'<path class="limit" d="M{across:.1f} {top}V{bottom}"/>')
        end = across + 6 + text_width(limit[1]) < right
        parts.append(_text(across + (6 if end else -6), top + 14, limit[1], "ink", "start" if end else "end"))
    parts += [_mark(p, *place(p)) for p in points]
    labels = _labels([(place(p), p.key) for p in points], (left + 2, top + 2, right - 2, bottom - 2))
    for p, (x, y) in zip(points, labels, strict=True):
        at = place(p)
        if math.hypot(x - at[0], y - at[1]) > 20:
            parts.append(f'<line class="lead" x1="{at[0]:.1f}" y1="{at[1]:.1f}" x2="{x:.1f}" y2="{y:.1f}"/>')
    for p, (x, y) in zip(points, labels, strict=True):
        parts.append(_text(x, y + 4, p.key, "mark best" if p in best else "mark", "middle"))
    return _svg(height, parts, f"{y_title} against {x_title}")


def bars(groups: Sequence[Group], unit: str, maximum: float | None = None) -> str:
    """Draw groups of horizontal bars below one another, each with its figure.

    Args:
        groups: at least one, of at least one bar each.
        unit: of the figures, for the axis.
        maximum: figure at the right end of the axis; the largest bar's where not given.
    """
    widest = max(len(group.bars) for group in groups)
    thick, space, letters = (18, 12, 12) if widest == 1 else (14, 14, 11.5) if widest <= 4 else (11, 16, 10)
    top, left = 26, min(LABEL, max(text_width(group.name) for group in groups)) + 24
    room = WIDTH - left - VALUE
    largest = max((bar.value for group in groups for bar in group.bars if math.isfinite(bar.value)), default=0.0)
    end = maximum or largest or 1.0
    bottom = top + sum(len(group.bars) * thick + space for group in groups)
    parts = []
    for value in ticks(0, end, 5):
        x = left + value / end * room
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 4}" y2="{bottom - 4}"/>')
        parts.append(_text(x, top - 10, f"{value:g}", "soft", "middle"))
    parts.append(_text(WIDTH - 4, top - 10, unit, "soft", "end"))
    y = top + 4
    for group in groups:
        middle = y + len(group.bars) * thick / 2
        name = _text(left - 10, middle + 4, shorten(group.name, LABEL), "ink", "end")
        parts.append(f"<g><title>{html.escape(group.name)}</title>{name}</g>")
        for bar in group.bars:
            length = bar.value / end * room if math.isfinite(bar.value) else 0.0
            shape = f'<rect class="{color_class(bar.series)}" x="{left:.1f}" y="{y}" width="{length:.1f}"'
            shape += f' height="{thick - 1}" rx="1.5"/>'
            figure = _text(left + length + 6, y + thick / 2 + 0.33 * letters, bar.text, "soft", "start", letters)
            parts.append(f"<g><title>{html.escape(bar.title)}</title>{shape}{figure}</g>")
            y += thick
        y += space
    return _svg(bottom + 4, parts, unit)


def curves(lines: Sequence[Curve], x_title: str, y_title: str, across: tuple[int, int]) -> str:
    """Draw curves over whole numbers such as epochs, with axes; the vertical one begins at zero where that fits.

    Args:
        lines: at least one, with a point that is not NaN.
        x_title: name and unit of what is across.
        y_title: name and unit of what is upwards.
        across: the first and the last number, for several charts of one span.
    """
    height, left, top, right, bottom = 280.0, 70.0, 14.0, WIDTH - 20.0, 228.0
    known = [[(x, y) for x, y in line.points if math.isfinite(y)] for line in lines]
    y0, y1 = _span([y for points in known for _, y in points], from_zero=True)
    x0, x1 = across if across[0] < across[1] else (across[0] - 1, across[1] + 1)

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (x - x0) / (x1 - x0) * (right - left), bottom - (y - y0) / (y1 - y0) * (bottom - top)

    parts = _axes((x0, x1), (y0, y1), (left, top, right, bottom), (x_title, y_title), whole=True)
    for line, points in zip(lines, known, strict=True):
        color = color_class(line.series)
        spots = [place(x, y) for x, y in points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in spots)
        parts.append(f'<path class="curve" style="stroke:var(--{color})" d="M{path}"/>' * (len(spots) > 1))
        radius = 3 if len(spots) <= DOTS else 1.5
        for (x, y), (cx, cy) in zip(points, spots, strict=True):
            title = html.escape(f"{line.name}, {x:g}: {y:.4g}")
            dot = f'<circle class="{color}" cx="{cx:.1f}" cy="{cy:.1f}" r="{radius}"/>'
            ring = f'<circle class="ring {color}" cx="{cx:.1f}" cy="{cy:.1f}" r="8"/>' if x == line.marked else ""
            parts.append(f"<g><title>{title}</title>{dot}{ring}</g>")
    return _svg(height, parts, f"{y_title} against {x_title}")


def heat_map(names: Sequence[str], shares: Sequence[Sequence[float]], titles: Sequence[Sequence[str]]) -> str:
    """Draw a square of shares: the diagonal in one colour, the rest in another, the darker the larger.

    Colours go by the root of a share, so that a few percent are seen. Shares under half a thousandth are left blank, as
    are the rows that are NaN.

    Args:
        names: of rows and columns.
        shares: 0–1, by row and column.
        titles: shown where a cell is pointed at.
    """
    count = len(names)
    left = min(LABEL, max(text_width(name) for name in names)) + 24
    side = min(56.0, (WIDTH - left - 90) / count)
    letters = min(12.0, 0.8 * side)
    rise = 0.71 * min(LABEL, max(text_width(name, letters) for name in names))
    top = rise + 22
    parts = []
    for i, name in enumerate(names):
        middle = i * side + side / 2
        short = html.escape(shorten(name, LABEL, letters))
        if letters >= MIN_LETTERS:
            parts.append(_text(left - 8, top + middle + 0.35 * letters, shorten(name, LABEL), "ink", "end", letters))
            turned = f"translate({left + middle + 0.3 * letters:.1f} {top - 6:.1f}) rotate(-45)"
            parts.append(f'<text class="ink" transform="{turned}" font-size="{letters:g}">{short}</text>')
        for j in range(count):
            share = shares[i][j]
            if not share >= 0.0005:  # NaN is not either
                continue
            x, y = left + j * side, top + i * side
            shape = (
                f'<rect class="c{1 if i == j else 8}" x="{x:.1f}" y="{y:.1f}" width="{side - 1:.1f}" '
                f'height="{side - 1:.1f}" fill-opacity="{0.08 + 0.82 * math.sqrt(share):.2f}"/>'
            )
            figure = _text(x + side / 2, y + side / 2 + 4, f"{100 * share:.0f}", "mark", "middle", 11)
            figure = figure if side >= 24 and share >= 0.005 else ""
            parts.append(f"<g><title>{html.escape(titles[i][j])}</title>{shape}{figure}</g>")
    end = count * side - 1
    parts.append(f'<rect class="frame" x="{left:.1f}" y="{top:.1f}" width="{end:.1f}" height="{end:.1f}"/>')
    return _svg(top + count * side + 8, parts, "rows: true classes, columns: predicted classes")


def _span(values: Sequence[float], *, from_zero: bool) -> tuple[float, float]:
    """Return the ends of an axis: from zero where that leaves the values half of it, else a margin round them."""
    low, high = min(values), max(values)
    margin = 0.12 * (high - low) or 0.1 * abs(high) or 1.0
    if from_zero and 0 <= low <= 0.7 * high:
        return 0.0, high + margin
    return low - margin, high + margin


def _axes(
    across: tuple[float, float],
    upwards: tuple[float, float],
    frame: Box,
    titles: tuple[str, str],
    whole: bool = False,
) -> list[str]:
    """Return a grid, axes and their titles, for figures within these ends; `whole` numbers across, where they are."""
    left, top, right, bottom = frame
    (x0, x1), (y0, y1), (x_title, y_title) = across, upwards, titles
    parts = []
    for value in ticks(x0, x1, min(8, round(x1 - x0)) if whole else 8):
        x = left + (value - x0) / (x1 - x0) * (right - left)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(_text(x, bottom + 18, f"{value:g}", "soft", "middle"))
    for value in ticks(y0, y1):
        y = bottom - (value - y0) / (y1 - y0) * (bottom - top)
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(left - 8, y + 4, f"{value:g}", "soft", "end"))
    parts.append(f'<path class="axis" d="M{left} {top}V{bottom}H{right}"/>')
    parts.append(_text((left + right) / 2, bottom + 40, x_title, "ink", "middle"))
    middle = (top + bottom) / 2
    parts.append(f'<g transform="rotate(-90 18 {middle})">{_text(18, middle, y_title, "ink", "middle")}</g>')
    return parts


def _labels(points: Sequence[tuple[tuple[float, float], str]], frame: Box) -> list[tuple[float, float]]:
    """Return where the keys' middles go: near their points, off all marks and one another, inside the frame.

    One after the other takes the nearest free place; where there is none, the one that covers least.
    """
    taken: list[Box] = [(x - 8, y - 8, x + 8, y + 8) for (x, y), _ in points]
    placed = []
    for (x, y), key in points:
        half = text_width(key, 13) / 2 + 2

        def box(spot: tuple[float, float], half: float = half) -> Box:
            return spot[0] - half, spot[1] - 8, spot[0] + half, spot[1] + 8

        turns = [k * math.pi / 8 for k in (14, 2, 12, 4, 10, 6, 0, 8, 15, 1, 13, 3, 11, 5, 9, 7)]
        spots = [
            (x + radius * math.cos(turn), y + radius * math.sin(turn))
            for radius, turn in product((18, 30, 44, 60, 78, 98, 120), turns)
        ]
        inside = [spot for spot in spots if _contains(frame, box(spot))] or spots
        best = min(inside, key=lambda spot: sum(_overlap(box(spot), other) for other in taken))
        taken.append(box(best))
        placed.append(best)
    return placed


def _contains(frame: Box, box: Box) -> bool:
    return frame[0] <= box[0] and frame[1] <= box[1] and box[2] <= frame[2] and box[3] <= frame[3]


def _overlap(a: Box, b: Box) -> float:
    """Return the area that two boxes share."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def _mark(point: Point, x: float, y: float) -> str:
    color = color_class(point.series)
    if point.shape == "cross":
        shape = f'<path class="cross {color}" d="M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10"/>'
    elif point.shape == "dot":
        shape = f'<circle class="dot {color}" cx="{x:.1f}" cy="{y:.1f}" r="5.5"/>'
    else:
        radii = (9, 5) if point.shape == "target" else (8,)
        shape = "".join(f'<circle class="ring {color}" cx="{x:.1f}" cy="{y:.1f}" r="{r}"/>' for r in radii)
    return f"<g><title>{html.escape(point.title)}</title>{shape}</g>"


def _text(x: float, y: float, text: str, style: str, anchor: str, size: float = FONT) -> str:
    return (
        f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size:g}">'
        f"{html.escape(text)}</text>"
    )


def _svg(height: float, parts: Sequence[str], label: str) -> str:
    head = f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{html.escape(label)}">'
    return f"{head}{''.join(parts)}</svg>"
