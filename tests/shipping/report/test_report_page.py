"""The ship report's page: whole, asking nobody for anything, with every verdict and its protocol."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from featherseg.core import formatting
from featherseg.core.types import ClassSet
from featherseg.shipping.report.figures import WorstImage
from featherseg.shipping.report.page import read_report, render, write_report
from ship_samples import NAN, PIXEL, shipped, shipping, step

NASTY = "\"><script>alert(1)</script><img src=http://example.com/x onerror=alert(1)>&amp;'`"


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
        fp32_iou={NASTY: 0.5},
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
    drawn = {"svg", "g", "title", "text", "line", "path", "rect", "circle"}
    for chart in charts(text):
        assert {element.tag for element in chart.iter()} <= drawn


def test_the_page_can_be_written_whatever_a_class_is_called(tmp_path: Path) -> None:
    odd = ClassSet(("half \ud800", "\u202eright to left", "a\nb", "工" * 200))
    report = shipping(classes=odd, files=(shipped(classes=odd.names),), fp32_iou={})
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
        i for i, word in enumerate(shown) if word in ("✓ passed", "! slower than fp32: not recommended", "✗ failed")
    ]
    assert [shown[i] for i in rows] == ["✓ passed", "! slower than fp32: not recommended", "✗ failed"]
    assert "2 of 3 files passed their verification; 1 of those slower than fp32" in " ".join(shown)
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
    fp32_iou = dict.fromkeys(names, 0.9)
    lost = {name: 0.9 - i / 1000 for i, name in enumerate(names)}
    many = tuple(shipped(f"f{i}.onnx", iou=lost if i == 1 else fp32_iou) for i in range(files))
    text = render(shipping(classes=ClassSet(names), files=many, fp32_iou=fp32_iou))
    page = Page(text)
    assert len(text) < 2_500_000
    unfolded = [word for word in page.words if word == f"all {classes} classes"]
    assert len(unfolded) == (classes > 24)
    if classes == 150:
        first = charts(text)[2]
        shown = {title.text for title in first.iter("title") if title.text in names}
        assert shown == set(names[-24:])  # those that lose most, of the one file that loses anything


def test_the_table_of_classes_has_dice() -> None:
    classes = ClassSet(("road", "sky", "car"))
    file = shipped(classes=classes.names, iou={"road": 0.5, "sky": NAN, "car": 1.0})
    words = Page(render(shipping(classes=classes, files=(file,), fp32_iou={"road": 0.6, "sky": NAN, "car": 1.0}))).words
    row = words.index("mean", words.index("as a table, with Dice"))
    assert words[row - 5 : row + 5] == ["car", *["100.0"] * 4, "mean", "80.0", "87.5", "75.0", "83.3"]


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
    assert page.words[start + 1 : start + 12] == ["✗ failed", "onnx", "fp32", *["–"] * 8]
    assert page.words.count("gone.xml") == 1  # and not among the sums
    assert page.words.count(" gone.xml") == 1  # in the scatter's keys, not among the classes'
    assert "no OpenVINO" in page.words


def test_words() -> None:
    assert formatting.share(0.999999) == "99.999 %"  # never rounded up to all
    assert formatting.share(1.0) == "100.000 %"
    pairs = [(0.7504, 0.75), (0.75, 0.7504), (0.7, 0.75), (0.76, 0.75)]
    assert [formatting.change(*pair) for pair in pairs] == ["±0.0", "±0.0", "−5.0", "+1.0"]
    assert (
        formatting.change(NAN, 0.5)
        == formatting.ratio(NAN, 5)
        == formatting.ratio(5, NAN)
        == formatting.ratio(5, 0)
        == ""
    )
    assert [formatting.size(n) for n in (0, 999, 1000, 9_185_718, 2.5e9)] == [
        "–",
        "999 B",
        "1.0 kB",
        "9.2 MB",
        "2.5 GB",
    ]
    assert (
        formatting.percent(NAN)
        == formatting.fixed(NAN, 1)
        == formatting.error(NAN)
        == formatting.share(NAN)
        == formatting.DASH
    )
