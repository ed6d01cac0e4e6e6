"""The demo, small: every stage leaves its file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featherseg.cli.main import main
from featherseg.core.config import Config
from featherseg.core.recipes import config_from_dict, config_to_dict
from featherseg.data.datasets import create_dataset
from featherseg.runtime.artifact import read_artifact
from featherseg.runtime.segmenter import Segmenter
from featherseg.shipping import demo


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's own way, with a network that exports quickly, on smaller pictures and in this process."""
    full = demo.demo_config

    def config(out: str | Path, epochs: int = 12, images: int = 800) -> Config:
        tree = full(out, epochs, images)
        assert tree.data.workers == 1
        assert tree.data.options["count"] == images
        assert tree.train.epochs == epochs
        changed = config_to_dict(tree)
        changed["model"] = {"name": "jetnet"}
        changed["data"] |= {"workers": 0, "options": {"count": images, "val_count": 4, "size": [64, 96]}}
        changed["augment"]["crop"] = [64, 96]
        return config_from_dict(changed)

    monkeypatch.setattr(demo, "demo_config", config)


@pytest.mark.usefixtures("small")
def test_the_whole_way(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level("INFO", "featherseg")
    result = demo.run_demo(tmp_path, epochs=1, images=8)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""  # results and progress are the command's to print
    for step in ("1/4", "2/4", "3/4", "4/4"):
        assert step in caplog.text
    assert result.artifact == tmp_path / "demo" / "fastsegnet.onnx"
    assert result.verification.passed
    assert read_artifact(result.artifact).verification["agreement"] == result.verification.agreement
    assert result.scores.protocol["split"] == "test"
    assert result.scores.protocol["images"] == 4
    test_set = create_dataset("synthetic", split="test", count=8, val_count=4, size=(64, 96))
    segmenter = Segmenter(result.artifact)
    for i in range(demo.GRID):
        mask = np.array(Image.open(tmp_path / "demo" / "masks" / f"{test_set.stem(i)}.png"))
        np.testing.assert_array_equal(mask, segmenter.segment(test_set.read(i)[0]))
    with Image.open(result.picture) as picture:
        assert picture.height > picture.width * 64 / 96 * demo.GRID / 3 * 0.8
    assert {"pre", "net", "post", "draw"} == set(result.latency.stages)
    figures = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert figures["file_bytes"] == result.artifact.stat().st_size
    assert figures["miou"] == result.scores.miou
    rows = dict(result.rows())
    assert rows["mIoU on held-out images"] == f"{100 * result.scores.miou:.1f} %"

    monkeypatch.setattr(demo, "run_demo", lambda *_, **__: result)
    main(["demo"])
    printed = capsys.readouterr().out
    assert f"{100 * result.scores.miou:.1f} %" in printed
    assert f"file    {result.artifact}\npicture {result.picture}\n" in printed
    main(["demo", "--json"])
    assert json.loads(capsys.readouterr().out) == figures
    monkeypatch.undo()


def test_an_earlier_demo_is_kept(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        config = demo.demo_config(tmp_path)
        names.append(config.name)
        (tmp_path / config.name).mkdir()
    assert names == ["demo", "demo-2", "demo-3"]


def test_the_demos_settings_are_valid(tmp_path: Path) -> None:
    config = demo.demo_config(tmp_path)
    assert (config.model.name, config.data.name) == ("fastsegnet", "synthetic")
    assert all(crop <= size for crop, size in zip(config.augment.crop, demo.SIZE, strict=True))
