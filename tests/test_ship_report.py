"""The ship report: figures that survive JSON, a page that asks nobody for anything, charts that tell the truth."""

from __future__ import annotations

import base64
import json
import math
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from featherseg.errors import ArtifactError, ConfigError
from featherseg.ship_report import (
    ShippedFile,
    ShipReport,
    Step,
    WorstImage,
    latency_table,
    read_report,
    words,
    worst_images,
    write_report,
)
from featherseg.ship_report.charts import Bar, Group, Point, bars, front, scatter, shorten, text_width, ticks
from featherseg.ship_report.page import render
from featherseg.ship_report.worst import DIFFERENCES, PANEL_SIDE
from featherseg.types import ClassSet, Latency

NAN = float("nan")
NASTY = "\"><script>alert(1)</script><img src=http://example.com/x onerror=alert(1)>&amp;'`"
LATENCY = {"net": {"p50": 40.0, "p90": 44.0, "p99": 60.0}, "total": {"p50": 50.0, "p90": 55.0, "p99": 70.0}}
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)


def step(name: str = "float", **changes: Any) -> Step:
    return replace(Step(name, "baseline", 0.75, 0.7, 2_300_000, 1.56, 9_200_000, 90.0), **changes)


def shipped(name: str = "model.onnx", classes: tuple[str, ...] = ("sky", "road"), **changes: Any) -> ShippedFile:
    iou = dict.fromkeys(classes, 0.7)
    file = ShippedFile(
        name, "onnx", "f32", 9_200_000, "ab" * 32, "a CPU, threads: 1", 0.75, 0.7, iou, 1.0, 1e-6, LATENCY
    )
    return replace(file, **changes)


def shipping(**changes: Any) -> ShipReport:
    report = ShipReport(
        name="streets",
        created="2026-01-01T12:00:00+00:00",
        classes=ClassSet(("sky", "road")),
        protocol="original resolution, single scale, absent classes left out",
        dataset="street val",
        images=101,
        hardware={"cpu": "a CPU", "threads": "1", "onnxruntime": "1.30"},
        steps=(step(),),
        files=(shipped(),),
        float_iou={"sky": 0.9, "road": NAN},
    )
    return replace(report, **changes)


class Page(HTMLParser):
    """Reads a page strictly: each end tag closes the tag that is open, and all are closed at the end."""

    VOID = ("meta", "img", "br")
    # Chart elements that are written as <line …/>.
    CLOSED = ("line", "path", "rect", "circle")

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.CLOSED
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.words.append(data)


def charts(page: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)]


def test_figures_survive_json(tmp_path: Path) -> None:
    worst = WorstImage("s1", "model.onnx", 0.9, 0.5, NAN, {"image": PIXEL}, ("sky",))
    failed = shipped("b.onnx", passed=False, failures=("too far",), latency_ms={}, parity=math.inf, iou={"sky": NAN})
    report = shipping(files=(shipped(twin_latency_ms=48.0, slower=True), failed), worst=(worst,))
    write_report(report, tmp_path)
    text = (tmp_path / "report.json").read_text()
    data = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert data["float_iou"] == {"sky": 0.9, "road": None}
    assert data["files"][1]["parity"] is None
    assert data["worst"][0]["miou_file"] is None
    again = read_report(tmp_path)
    assert again.to_dict() == report.to_dict() == read_report(tmp_path / "report.json").to_dict()
    assert again.files[0] == replace(report.files[0])
    assert math.isnan(again.float_iou["road"])
    assert math.isnan(again.files[1].latency("net", "p50"))
    assert render(again) == render(report)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: step(miou=75.2), "miou is 75.2; give a fraction"),
        (lambda: shipped(agreement=99.9), "agreement is 99.9"),
        (lambda: shipped(iou={"sky": 93.0}), "IoU of sky is 93.0"),
        (lambda: step(kept=False), "rolled back, but its note is empty"),
        (lambda: shipped(failures=("x",)), "passed=True and 1 failures"),
        (lambda: shipped(passed=False), "passed=False and 0 failures"),
        (lambda: shipped(latency_ms={"net": LATENCY["net"]}), "lacks total p50, total p90, total p99"),
        (lambda: shipping(steps=()), "no steps"),
        (lambda: shipping(files=(shipped(), shipped())), "'model.onnx' occurs twice"),
        (lambda: shipping(float_iou={"rod": 0.5}), "unknown class 'rod'; did you mean \"road\""),
        (lambda: shipping(files=(shipped(classes=("see",)),)), "unknown class 'see'"),
    ],
)
def test_figures_that_cannot_be_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.pop("format"), "no featherseg ship report"),
        (lambda data: data.update(format_version=99), "format 99"),
        (lambda data: data.pop("steps"), "damaged"),
        (lambda data: data["steps"][0].update(miou="<b>"), "damaged"),
        (lambda data: data["files"][0].update(iou=None), "damaged"),
        (lambda data: data["classes"].update(names=[]), "damaged"),
    ],
)
def test_damaged_reports_are_refused_in_one_line(tmp_path: Path, change: Callable[[Any], object], message: str) -> None:
    data = shipping().to_dict()
    change(data)
    (tmp_path / "report.json").write_text(json.dumps(data))
    with pytest.raises(ArtifactError, match=message) as caught:
        read_report(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{torn", "[]", "1"])
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        read_report(tmp_path)
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"cannot be read|no featherseg ship report"):
        read_report(tmp_path)


def test_the_page_is_whole_and_asks_nobody_for_anything() -> None:
    classes = ClassSet((NASTY, "road"))
    report = shipping(
        name=NASTY,
        classes=classes,
        protocol=NASTY,
        dataset=NASTY,
        created=NASTY,
        hardware={NASTY: NASTY},
        steps=(step(NASTY, kind=NASTY, kept=True, note=NASTY), step("b", kept=False, note=NASTY)),
        files=(
            shipped(NASTY, classes.names, target=NASTY, precision=NASTY, session=NASTY, timing=NASTY, sha256=NASTY),
            shipped("b", classes.names, passed=False, failures=(NASTY,)),
        ),
        worst=(WorstImage(NASTY, NASTY, 0.9, 0.5, 0.4, {NASTY: PIXEL}, (NASTY,)),),
        float_iou={NASTY: 0.5},
    )
    text = render(report)
    page = Page(text)
    names = {tag for tag, _ in page.tags}
    assert "script" not in names
    assert [attrs["src"] for tag, attrs in page.tags if tag == "img"] == [PIXEL]
    assert not {key for _, attrs in page.tags for key in attrs if key in ("href", "onerror", "onload", "xlink:href")}
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text
    shown = " ".join(page.words)
    assert shown.count(NASTY) > 15  # each is shown as it was written
    for chart in charts(text):
        assert {element.tag for element in chart.iter()} <= {
            "svg",
            "g",
            "title",
            "text",
            "line",
            "path",
            "rect",
            "circle",
        }


def test_the_page_can_be_written_whatever_a_class_is_called(tmp_path: Path) -> None:
    odd = ClassSet(("half \ud800", "\u202eright to left", "a\nb", "工" * 200))
    report = shipping(classes=odd, files=(shipped(classes=odd.names),), float_iou={})
    write_report(report, tmp_path)
    assert "工" * 200 in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert read_report(tmp_path).classes == odd


def test_verdicts_and_the_protocol_are_on_the_page() -> None:
    files = (
        shipped("good.onnx"),
        shipped("slow.onnx", slower=True, twin_latency_ms=25.0),
        shipped("bad.onnx", passed=False, failures=("mIoU falls from 75.00 to 50.00",), miou=0.5),
    )
    steps = (step(), step("pruned", kind="prune", miou=0.71, kept=False, note="fell 4 points"))
    text = render(shipping(files=files, steps=steps))
    shown = Page(text).words
    rows = [
        i for i, word in enumerate(shown) if word in ("✓ passed", "! slower than float: not recommended", "✗ failed")
    ]
    assert [shown[i] for i in rows] == ["✓ passed", "! slower than float: not recommended", "✗ failed"]
    assert "2 of 3 files passed their verification; 1 of those slower than float" in " ".join(shown)
    assert "mIoU falls from 75.00 to 50.00" in shown
    assert "200 %" in shown  # 50 ms against the twin's 25
    assert "−25.0" in shown
    assert "rolled back" in shown
    assert "fell 4 points" in shown
    rules = (
        "street val, 101 images; original resolution, single scale, absent classes left out. "
        "Measured with cpu a CPU, threads 1, onnxruntime 1.30."
    )
    assert shown.count(rules) == 4  # under files, scatter, steps, classes


@pytest.mark.parametrize(("files", "classes"), [(0, 1), (1, 2), (30, 3), (12, 150)])
def test_pages_of_any_size(files: int, classes: int) -> None:
    names = tuple(f"class {i}" for i in range(classes))
    float_iou = dict.fromkeys(names, 0.9)
    lost = {name: 0.9 - i / 1000 for i, name in enumerate(names)}
    many = tuple(shipped(f"f{i}.onnx", iou=lost if i == 1 else float_iou) for i in range(files))
    text = render(shipping(classes=ClassSet(names), files=many, float_iou=float_iou))
    page = Page(text)
    assert len(text) < 2_500_000
    unfolded = [word for word in page.words if word == f"all {classes} classes"]
    assert len(unfolded) == (classes > 24)
    if classes == 150:
        first = charts(text)[2]
        shown = {title.text for title in first.iter("title") if title.text in names}
        assert shown == set(names[-24:])  # those that lose most, of the one file that loses anything


def test_points_that_were_not_measured_are_named_not_drawn() -> None:
    report = shipping(files=(shipped(latency_ms={}),), steps=(step(latency_p50_ms=NAN),))
    text = render(report)
    assert "Not measured: float: mIoU 75.0, – ms, model.onnx: mIoU 75.0, – ms" in " ".join(Page(text).words)
    assert len(charts(text)) == 2


def test_files_that_could_not_be_made_have_dashes() -> None:
    nothing = {"miou": NAN, "boundary_f1": NAN, "agreement": NAN, "parity": NAN, "iou": {}, "latency_ms": {}}
    gone = shipped("gone.xml", bytes=0, sha256="", session="", passed=False, failures=("no OpenVINO",), **nothing)
    page = Page(render(shipping(files=(shipped(), gone))))
    start = page.words.index("gone.xml")
    assert page.words[start + 1 : start + 12] == ["✗ failed", "onnx", "f32", *["–"] * 8]
    assert page.words.count("gone.xml") == 1  # and not among the sums
    assert page.words.count(" gone.xml") == 1  # in the scatter's keys, not among the classes'
    assert "no OpenVINO" in page.words


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


def test_words() -> None:
    assert words.share(0.999999) == "99.999 %"  # never rounded up to all
    assert words.share(1.0) == "100.000 %"
    assert [
        words.change(0.7504, 0.75),
        words.change(0.75, 0.7504),
        words.change(0.7, 0.75),
        words.change(0.76, 0.75),
    ] == [
        "±0.0",
        "±0.0",
        "−5.0",
        "+1.0",
    ]
    assert words.change(NAN, 0.5) == words.ratio(NAN, 5) == words.ratio(5, NAN) == words.ratio(5, 0) == ""
    assert [words.size(n) for n in (0, 999, 1000, 9_185_718, 2.5e9)] == ["–", "999 B", "1.0 kB", "9.2 MB", "2.5 GB"]
    assert words.percent(NAN) == words.fixed(NAN, 1) == words.error(NAN) == words.share(NAN) == words.DASH


def test_latency_table_is_of_the_network_and_of_the_sum_of_each_run() -> None:
    net, post = (10.0, 30.0, 20.0), (5.0, 1.0, 3.0)
    table = latency_table(Latency({"pre": (1.0, 1.0, 1.0), "net": net, "post": post}, 2, "here"))
    sums = [1 + a + b for a, b in zip(net, post, strict=True)]
    for part, values in (("net", net), ("total", sums)):
        assert table[part] == {f"p{q}": pytest.approx(np.percentile(values, q)) for q in (50, 90, 99)}
    shipped(latency_ms=table)


class Streets:
    """Ten pixels a side, all of class 0; each image's grey is its number."""

    name, split, classes = "made", "val", ClassSet(("a", "b", "c"), ((9, 0, 0), (0, 9, 0), (0, 0, 9)))

    def __init__(self, count: int, side: int = 10) -> None:
        self.count, self.side = count, side

    def __len__(self) -> int:
        return self.count

    def stem(self, index: int) -> str:
        return f"s{index}"

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image = np.full((self.side, self.side, 3), index, np.uint8)
        return image, np.zeros((self.side, self.side), np.uint8)


def number(image: np.ndarray) -> int:
    return int(image[0, 0, 0])


def plain(image: np.ndarray) -> np.ndarray:
    return np.zeros(image.shape[:2], np.uint8)


def open_panel(image: WorstImage, title: str) -> np.ndarray:
    kind, _, body = image.panels[title].partition(";base64,")
    assert kind.startswith("data:image/")
    with Image.open(BytesIO(base64.b64decode(body))) as picture:
        return np.asarray(picture.convert("RGB"))


def test_worst_images_are_those_of_least_agreement() -> None:
    wrong = [3, 40, 0, 7, 99, 0, 40, 1]

    def file(image: np.ndarray) -> np.ndarray:
        mask = plain(image)
        mask.ravel()[: wrong[number(image)]] = 1
        return mask

    done: list[int] = []
    found = worst_images(Streets(8), plain, file, 3, file="x.onnx", progress=done.append)
    assert [image.name for image in found] == ["s4", "s1", "s6"]
    assert [image.agreement for image in found] == [0.01, 0.6, 0.6]
    assert found[0].miou_float == 1.0
    assert found[1].miou_file == pytest.approx((60 / 100 + 0) / 2)
    assert {image.file for image in found} == {"x.onnx"}
    assert found[0].seen == ("a", "b")
    assert list(found[0].panels) == ["image", "truth", "float network", "file", "where they differ"]
    assert done == list(range(1, 9))
    assert len(worst_images(Streets(2), plain, file, 5)) == 2
    with pytest.raises(ConfigError, match="count is 0"):
        worst_images(Streets(2), plain, file, 0)
    with pytest.raises(ConfigError, match=r"image s0: truth is \(10, 10\).*\(5, 5\)"):
        worst_images(Streets(2), plain, lambda image: np.zeros((5, 5), np.uint8))


def test_where_masks_agree_everywhere_the_lowest_miou_comes_first() -> None:
    def both(image: np.ndarray) -> np.ndarray:
        mask = plain(image)
        mask.ravel()[: (5, 60, 20)[number(image)]] = 2
        return mask

    assert [image.name for image in worst_images(Streets(3), both, both, 2)] == ["s1", "s2"]


def test_panels_show_the_masks_and_who_is_right() -> None:
    class One(Streets):
        def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            image, target = super().read(index)
            target[:, 6:] = self.classes.ignore_index
            return image, target

    ours, theirs = np.zeros((10, 10), np.uint8), np.zeros((10, 10), np.uint8)
    theirs[0, 0] = 1  # only the float network is right
    ours[1, 1] = 1  # only the file is right
    ours[2, 2], theirs[2, 2] = 1, 2  # both are wrong
    theirs[3, 8] = 1  # ignored
    ours[4, 4] = theirs[4, 4] = 2  # wrong, but no difference
    (image,) = worst_images(One(1), lambda _: ours, lambda _: theirs)
    assert image.agreement == 0.96
    panel = open_panel(image, "where they differ")
    colors = list(DIFFERENCES.values())
    assert [tuple(panel[spot]) for spot in ((0, 0), (1, 1), (2, 2), (3, 8))] == colors
    grey = panel[panel.std(-1) == 0]
    assert len(grey) == 96
    palette = Streets.classes.palette()
    np.testing.assert_array_equal(open_panel(image, "float network"), palette[ours])
    np.testing.assert_array_equal(open_panel(image, "file"), palette[theirs])
    assert tuple(open_panel(image, "truth")[0, 9]) not in {tuple(color) for color in palette}


def test_one_pixel_of_a_large_image_is_not_lost() -> None:
    side = 2 * PANEL_SIDE + 371

    def file(image: np.ndarray) -> np.ndarray:
        mask = plain(image)
        mask[1111, 777] = 1
        return mask

    (image,) = worst_images(Streets(1, side), plain, file)
    panel = open_panel(image, "where they differ")
    assert panel.shape == (PANEL_SIDE, PANEL_SIDE, 3)
    rows, columns = np.nonzero((panel == DIFFERENCES["only the float network is right"]).all(-1))
    assert 1 <= len(rows) <= 4
    assert abs(rows.mean() - 1111 * PANEL_SIDE / side) < 2
    assert abs(columns.mean() - 777 * PANEL_SIDE / side) < 2


def test_memory_does_not_grow_with_the_dataset() -> None:
    def file(image: np.ndarray) -> np.ndarray:
        mask = plain(image)
        mask[: number(image) + 1] = 1  # each image is worse than the one before, so each comes in
        return mask

    peaks = []
    for count in (6, 60):
        tracemalloc.start()
        worst_images(Streets(count, 400), plain, file, 2)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 400 * 400 * 3  # not even one image more


def test_reports_need_no_torch() -> None:
    code = "import sys, featherseg.ship_report, featherseg.model_folder; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
