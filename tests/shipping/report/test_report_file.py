"""The ship report's figures: possible ones alone, and the same ones after a way through JSON."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherseg.core.errors import ArtifactError, ConfigError
from featherseg.core.types import Latency
from featherseg.shipping.report.figures import WorstImage, latency_table
from featherseg.shipping.report.page import read_report, render, write_report
from ship_samples import LATENCY, NAN, PIXEL, shipped, shipping, step


def test_figures_survive_json(tmp_path: Path) -> None:
    worst = WorstImage("s1", "model.onnx", 0.9, 0.5, NAN, {"image": PIXEL}, ("sky",))
    failed = shipped("b.onnx", passed=False, failures=("too far",), latency_ms={}, parity=math.inf, iou={"sky": NAN})
    report = shipping(files=(shipped(twin_latency_ms=48.0, slower=True), failed), worst=(worst,))
    write_report(report, tmp_path)
    text = (tmp_path / "report.json").read_text()
    data = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert data["fp32_iou"] == {"sky": 0.9, "road": None}
    assert data["files"][1]["parity"] is None
    assert data["worst"][0]["miou_file"] is None
    again = read_report(tmp_path)
    assert again.to_dict() == report.to_dict() == read_report(tmp_path / "report.json").to_dict()
    assert again.files[0] == report.files[0]
    assert math.isnan(again.fp32_iou["road"])
    assert math.isnan(again.files[1].latency("net", "p50"))
    assert render(again) == render(report)


def test_a_report_with_the_words_of_0_1_0_is_read(tmp_path: Path) -> None:
    worst = WorstImage("s1", "model.onnx", 0.9, 0.5, 0.4, {"image": PIXEL}, ("sky",))
    report = shipping(worst=(worst,))
    old = report.to_dict() | {"format_version": 1}
    old["float_iou"] = old.pop("fp32_iou")
    old["worst"][0]["miou_float"] = old["worst"][0].pop("miou_fp32")
    old["files"][0]["precision"] = "f32"
    (tmp_path / "report.json").write_text(json.dumps(old))
    assert read_report(tmp_path).to_dict() == report.to_dict()


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
        (lambda: shipping(fp32_iou={"rod": 0.5}), "unknown class 'rod'; did you mean \"road\""),
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
        (lambda data: data["files"][0].update(precision="fp99"), "damaged.*'fp99'"),
        (lambda data: data["files"][0].update(precision=[]), "damaged"),
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


def test_latency_table_is_of_the_network_and_of_the_sum_of_each_run() -> None:
    net, post = (10.0, 30.0, 20.0), (5.0, 1.0, 3.0)
    table = latency_table(Latency({"pre": (1.0, 1.0, 1.0), "net": net, "post": post}, 2, "here"))
    sums = [1 + a + b for a, b in zip(net, post, strict=True)]
    for part, values in (("net", net), ("total", sums)):
        assert table[part] == {f"p{q}": pytest.approx(np.percentile(values, q)) for q in (50, 90, 99)}
    shipped(latency_ms=table)


def test_reports_need_no_torch() -> None:
    code = "import sys, featherseg.shipping.report, featherseg.shipping.folder; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
