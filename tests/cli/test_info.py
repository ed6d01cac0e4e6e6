"""`featherseg models`, `data` and `report`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from conftest import Ended, Trained


class TestLists:
    def test_models(self, run: Callable[..., Ended]) -> None:
        assert run("models", "--json").json["jetnet"]["params"] == 133_301
        table = run("models").out
        assert "0.13" in table
        assert "26.70" in table
        lines = [line for line in table.splitlines() if "mobilenet_aspp" in line]
        assert len(lines) == 1  # a pipe gets whole lines
        assert "1905.02244" in lines[0]

    def test_models_and_what_they_reached(self, run: Callable[..., Ended]) -> None:
        best = run("models", "--json").json["fastsegnet"]["results"]["camvid"]
        assert best["miou"] >= 0.75
        assert f"camvid {100 * best['miou']:.1f}" in run("models").out

    def test_data(self, run: Callable[..., Ended]) -> None:
        kinds = run("data", "--json").json
        assert {"camvid", "cityscapes", "folder", "synthetic", "voc"} <= set(kinds)
        text = run("data").out
        assert "ImageSets/Segmentation" in text

    def test_env(self, run: Callable[..., Ended]) -> None:
        facts = run("env", "--json").json
        assert facts["versions"]["featherseg"]
        assert set(facts["engines"]) == {"onnxruntime", "openvino", "tensorrt", "torch"}
        assert "CPUExecutionProvider" in facts["engines"]["onnxruntime"]
        text = run("env").out
        assert "engine tensorrt" in text
        assert facts["processor"] in text

    def test_report(self, run: Callable[..., Ended], trained: Trained, tmp_path: Path) -> None:
        page = tmp_path / "docs" / "results.md"
        assert run("report", trained.run, "-o", page).code == 0
        assert "## tiny" in page.read_text()
        scores = tmp_path / "scores.json"
        assert run("report", trained.run, "-o", page, "--scores", scores).code == 0
        best = json.loads(scores.read_text())["jetnet"]["synthetic"]
        assert best["run"] == "tiny"
        assert f"{100 * best['miou']:.1f}" in page.read_text()
        other = tmp_path / "other.md"
        assert run("report", trained.run, tmp_path, "-o", other).refused("is no run folder")
        assert not other.exists()
