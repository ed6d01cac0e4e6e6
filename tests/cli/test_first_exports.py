"""From exports of CVAT and Roboflow to a verified ONNX file: no kind named, no configuration, no code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Ended
from labelled_exports import cvat_masks, roboflow

SIZE = (64, 96)
Run = Callable[..., Ended]


def cvat(root: Path) -> Path:
    return cvat_masks(root, 20, SIZE)


def of_roboflow(root: Path) -> Path:
    return roboflow(root, (16, 4, 0), SIZE)


@pytest.mark.parametrize(
    ("build", "kind", "word", "names"),
    [
        (cvat, "cvat", "what nobody labelled is the class background", {"Box", "Disc", "background"}),
        (of_roboflow, "roboflow", "in the order of their pixel values", {"box", "disc", "background"}),
    ],
)
def test_from_an_export_to_onnx(
    run: Run, tmp_path: Path, build: Callable[[Path], Path], kind: str, word: str, names: set[str]
) -> None:
    root = build(tmp_path / "photos")
    ended = run("doctor", root, "--json")
    assert ended.code in (0, 1), ended.err
    assert ended.json["kind"] == kind
    assert set(ended.json["classes"]) == names
    assert not [finding for finding in ended.json["findings"] if finding["severity"] == "error"]
    tiny = (f"out={tmp_path / 'runs'}", "model.name=jetnet", "train.epochs=2", "train.device=cpu", "data.workers=0")
    ended = run("train", root, *tiny)
    assert ended.code == 0, ended.err
    assert f"laid out as {kind}" in ended.err
    assert word in ended.err
    file = tmp_path / "photos.onnx"
    ended = run("export", tmp_path / "runs" / "photos", "-o", file, "-q")
    assert ended.code == 0, ended.err
    ended = run("eval", file, "--data", root, "--json", "-q")
    assert ended.code == 0, ended.err
    assert ended.json["protocol"]["images"] == 4
