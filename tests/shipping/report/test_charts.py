"""Charts that tell the truth: places and lengths are those of the figures, and nothing covers anything."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from featherseg.core.chart_texts import shorten, text_width
from featherseg.core.charts import Bar, Group, Point, bars, front, scatter, ticks
from ship_samples import NAN


def test_front_holds_what_nothing_beats() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        spots = rng.integers(0, 6, (8, 2))
        points = [Point(str(i), float(x), float(y), 0, "dot", "", bool(i % 4)) for i, (x, y) in enumerate(spots)]
        compared = [p for p in points if p.compared]

        def beaten(p: Point, others: list[Point] = compared) -> bool:
            return any(o.x <= p.x and o.y >= p.y and (o.x, o.y) != (p.x, p.y) for o in others)

        assert {(p.x, p.y) for p in front(points)} == {(p.x, p.y) for p in compared if not beaten(p)}


def test_scatter_places_points_by_their_figures() -> None:
    points = [
        Point("S0", 90, 75, 0, "target", "base"),
        Point("A", 45, 74, 1, "dot", "a"),
        Point("B", 30, 74.5, 2, "dot", "b"),
        Point("C", 60, 60, 3, "cross", "c", compared=False),
    ]
    chart = ElementTree.fromstring(scatter(points, "latency, ms", "mIoU, %"))
    at = {}
    for group in chart.iter("g"):
        title = group.find("title")
        circle = group.find("circle")
        if title is not None and circle is not None:
            at[title.text] = (float(circle.attrib["cx"]), float(circle.attrib["cy"]))
    assert at["b"][0] < at["a"][0] < at["base"][0]
    assert (at["base"][0] - at["a"][0]) / (at["a"][0] - at["b"][0]) == pytest.approx(3, abs=0.02)
    assert at["base"][1] < at["b"][1] < at["a"][1]  # up is better
    texts = [text.text for text in chart.iter("text")]
    assert "latency, ms" in texts
    assert "mIoU, %" in texts
    assert {text.text for text in chart.iter("text") if "best" in text.attrib["class"]} == {"S0", "B"}
    line = next(path.attrib["d"] for path in chart.iter("path") if path.attrib["class"] == "front")
    assert line.startswith(f"M{at['b'][0]:.1f} ")
    assert f"H{at['base'][0]:.1f}V{at['base'][1]:.1f}" in line


@pytest.mark.parametrize("spread", [0.0, 0.5, 20.0])
def test_keys_of_crowded_points_do_not_cover_one_another(spread: float) -> None:
    rng = np.random.default_rng(1)
    points = [
        Point(f"S{i}" if i < 6 else chr(59 + i), 50 + spread * float(x), 70 + spread * float(y), i, "dot", "")
        for i, (x, y) in enumerate(rng.random((18, 2)))
    ]
    points.append(Point("Z", 400, 30, 1, "dot", ""))  # far away, so that the others crowd
    chart = ElementTree.fromstring(scatter(points, "x", "y"))
    keys = [text for text in chart.iter("text") if "mark" in text.attrib["class"]]
    assert len(keys) == len(points)
    spots = [(float(key.attrib["x"]), float(key.attrib["y"])) for key in keys]
    for i, (x, y) in enumerate(spots):
        assert 0 < x < 960
        assert 0 < y < 410
        for other_x, other_y in spots[:i]:
            assert abs(x - other_x) >= 12 or abs(y - other_y) >= 12


@pytest.mark.parametrize(("x", "y"), [(1.0, 1.0), (0.0, 0.0), (1e-4, 100.0), (5e5, -3.0)])
def test_scatter_of_one_point(x: float, y: float) -> None:
    chart = ElementTree.fromstring(scatter([Point("S0", x, y, 0, "target", "")], "x", "y"))
    assert len(list(chart.iter("circle"))) == 2


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0, 97.3), (71.2, 75.8), (-3, 3), (0, 1e-3), (0, 9.2e6), (70.001, 70.002)]
)
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    values = ticks(low, high)
    assert 3 <= len(values) <= 7
    assert low - 1e-9 <= values[0]
    assert values[-1] <= high + 1e-9
    steps = np.diff(values)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
    mantissa = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9)
    assert min(abs(mantissa - round_one) for round_one in (1, 2, 5)) < 1e-6


def test_bars_are_as_long_as_their_figures() -> None:
    groups = [
        Group("sky", (Bar(80, "80", 0, "sky float"), Bar(40, "40", 1, "sky A"))),
        Group("x" * 300, (Bar(NAN, "absent", 0, "x float"), Bar(0, "0", 1, "x A"))),
    ]
    chart = ElementTree.fromstring(bars(groups, "IoU, %", 100.0))
    lengths = [float(rect.attrib["width"]) for rect in chart.iter("rect")]
    assert lengths[0] == pytest.approx(2 * lengths[1], abs=0.1)
    assert lengths[2:] == [0, 0]
    tops = [float(rect.attrib["y"]) for rect in chart.iter("rect")]
    assert tops == sorted(tops)
    for text in chart.iter("text"):
        assert float(text.attrib["x"]) >= 0
        start = float(text.attrib["x"]) - text_width(text.text or "") * (text.attrib["text-anchor"] == "end")
        assert start >= -1
    assert "x" * 300 in {title.text for title in chart.iter("title")}


def test_long_names_lose_their_middle() -> None:
    short = shorten("fastsegnet_distilled_pruned_int8.onnx", 120)
    assert text_width(short) <= 120
    assert re.fullmatch(r"fastseg\w*…\w*\.onnx", short)
    assert shorten("sky", 120) == "sky"
    assert shorten("工" * 40, 120).count("工") == 9
    assert shorten("W", 1) == "…"
