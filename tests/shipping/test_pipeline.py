"""Shipping: the whole folder from a run, steps that are rolled back, and files that must not leave."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from conftest import Ended, Trained
from featherseg.core.config import ShipConfig, ToleranceConfig
from featherseg.core.errors import ConfigError, VerificationError
from featherseg.core.images import read_image
from featherseg.data.datasets import create_dataset
from featherseg.evaluation.opening import open_labelled
from featherseg.exporting.targets import targets
from featherseg.models.checkpoint import load_checkpoint
from featherseg.runtime.artifact import read_artifact
from featherseg.runtime.segmenter import Segmenter
from featherseg.shipping import pipeline as ship_module
from featherseg.shipping.context import ShipContext
from featherseg.shipping.pipeline import ship
from featherseg.shipping.report.page import read_report

LOOSE = {"int8": ToleranceConfig(min_agreement=0.5, max_logit_error=2.0, max_confidence_error=0.5)}
"""A network of two epochs is unsure nearly everywhere, so int8 turns many of its pixels over."""


@pytest.fixture
def copy(trained: Trained, tmp_path: Path) -> Path:
    """A run folder that may get a sister."""
    return Path(shutil.copytree(trained.run, tmp_path / "runs" / "tiny"))


@pytest.mark.slow
def test_the_whole_way(copy: Path, tmp_path: Path) -> None:
    config = ShipConfig(
        int8=True, prune=0.3, finetune_epochs=1, max_drop=0.9, calibration=4, threads=1, tolerances=LOOSE
    )
    out = tmp_path / "dist"
    report = ship(copy, out, config)
    assert [step.kind for step in report.steps] == ["baseline", "prune", "finetune"]
    assert all(step.kept for step in report.steps)
    assert report.steps[2].params == report.steps[1].params < report.steps[0].params
    assert report.steps[2].bytes < report.steps[0].bytes
    assert [(file.target, file.precision) for file in report.files] == [("onnx", "fp32"), ("onnx", "int8")]
    assert report.files[1].bytes < 0.5 * report.files[0].bytes
    assert report.files[1].twin_latency_ms == report.files[0].latency("total", "p50")
    assert report.files[1].slower == (report.files[1].latency("total", "p50") > report.files[1].twin_latency_ms)
    assert read_report(out).to_dict() == report.to_dict()
    for file in report.files:
        artifact = read_artifact(out / file.name)
        assert artifact.verification["passed"]
        assert artifact.verification["miou"] == file.miou
        assert artifact.params == report.steps[2].params
    assert list(tmp_path.glob(".*")) == []  # nothing half-made
    sister = load_checkpoint(copy.parent / "tiny_pruned30")
    assert sister.model.options["pruned"]
    subprocess.run([sys.executable, "run.py", "--check"], cwd=out, check=True, capture_output=True)
    # The pruned network is there already: it is not trained again.
    before = (copy.parent / "tiny_pruned30" / "result.json").stat().st_mtime_ns
    ship(copy, out, msgspec.structs.replace(config, int8=False))
    assert (copy.parent / "tiny_pruned30" / "result.json").stat().st_mtime_ns == before
    assert sorted(path.suffix for path in out.glob("*.onnx")) == [".onnx"]  # the folder was replaced as a whole


@pytest.mark.parametrize("pictures", [0, 1])
def test_pictures_of_the_data_go_along_if_wanted(trained: Trained, tmp_path: Path, pictures: int) -> None:
    config = ShipConfig(int8=True, max_drop=0.9, calibration=4, threads=1, tolerances=LOOSE, pictures=pictures)
    report = ship(trained.run, tmp_path / "dist", config)
    assert len(report.worst) == pictures
    page = (tmp_path / "dist" / "report.html").read_text()
    assert page.count("<img") == sum(len(image.panels) for image in report.worst)
    first = open_labelled(trained.run, load_checkpoint(trained.run).training).read(0)[0]
    golden = read_image(tmp_path / "dist" / "golden.png")
    assert golden.shape == first.shape
    assert np.array_equal(golden, first) == bool(pictures)


@pytest.mark.slow
def test_a_step_that_costs_too_much_is_rolled_back(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = ship_module.load_checkpoint

    def damaged(path: str | Path) -> Any:
        checkpoint = honest(path)
        if "pruned" in str(path):
            for parameter in checkpoint.model.parameters():
                parameter.data.zero_()  # one class everywhere
        return checkpoint

    monkeypatch.setattr(ship_module, "load_checkpoint", damaged)
    config = ShipConfig(prune=0.5, finetune_epochs=1, max_drop=0.01, threads=1)
    report = ship(copy, tmp_path / "dist", config)
    assert [step.kept for step in report.steps] == [True, False, False]
    assert "points of mIoU lost, 1.00 allowed" in report.steps[2].note
    assert report.files[0].miou == report.steps[0].miou
    assert read_artifact(tmp_path / "dist" / "tiny.onnx").params == report.steps[0].params


def test_a_file_that_fails_stays_out_and_the_others_are_there(trained: Trained, tmp_path: Path) -> None:
    strict = {"int8": ToleranceConfig(min_agreement=1.0, max_logit_error=0.0)}
    config = ShipConfig(int8=True, max_drop=0.9, calibration=4, threads=1, tolerances=strict)
    reason = r"1 of 2 files are not in .*tiny_int8.onnx was not written: logits differ"
    with pytest.raises(VerificationError, match=reason) as caught:
        ship(trained.run, tmp_path / "dist", config)
    assert "\n" not in str(caught.value)
    report = read_report(tmp_path / "dist")
    assert [file.passed for file in report.files] == [True, False]
    assert sorted(path.name for path in (tmp_path / "dist").glob("*.onnx")) == ["tiny.onnx"]


def test_a_target_is_shipped_in_its_usual_precision_and_held_to_the_limits_of_that(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_first = replace(targets.get("openvino"), precisions=("fp16", "fp32"))  # as TensorRT's are
    monkeypatch.setitem(targets._entries, "openvino", half_first)
    limits = {"fp32": ToleranceConfig(max_logit_error=1e-5)}
    report = ship(trained.run, tmp_path / "dist", ShipConfig(to=("openvino",), threads=1, tolerances=limits))
    assert [(file.target, file.precision, file.passed) for file in report.files[1:]] == [("openvino", "fp16", True)]
    assert report.files[1].parity > 1e-5


def test_nothing_is_left_where_the_float_file_fails(trained: Trained, tmp_path: Path) -> None:
    impossible = {"fp32": ToleranceConfig(max_logit_error=0.0, min_agreement=1.0)}
    with pytest.raises(VerificationError, match="logits differ"):
        ship(trained.run, tmp_path / "dist", ShipConfig(tolerances=impossible, threads=1))
    assert list(tmp_path.iterdir()) == []


def test_refused_before_any_work(trained: Trained, tmp_path: Path) -> None:
    cases = [
        (ShipConfig(to=("tflite",)), "unknown target"),
        (ShipConfig(to=("tensorrt",)), "cannot be proven here"),
    ]
    for config, words in cases:
        with pytest.raises(ConfigError, match=words):
            ship(trained.run, tmp_path / "dist", config)
    with pytest.raises(ConfigError, match="is no run folder"):
        ship(trained.run / "best.safetensors", tmp_path / "dist", ShipConfig(prune=0.3), kind="synthetic")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.txt").write_text("")
    with pytest.raises(ConfigError, match="is no whole model folder"):
        ship(trained.run, tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_limits_come_from_the_configuration() -> None:
    val_set = create_dataset("synthetic", split="val", val_count=1)
    usual = ShipContext(Path("work"), Path("run"), ShipConfig(), val_set)
    config = ShipConfig(max_drop=0.02, tolerances={"fp32": ToleranceConfig(min_agreement=0.9)})
    own = ShipContext(Path("work"), Path("run"), config, val_set)
    assert own.tolerance("fp32").min_agreement == 0.9
    assert own.tolerance("fp32").max_logit_error == usual.tolerance("fp32").max_logit_error
    assert own.tolerance("int8").max_miou_drop == 0.02


@pytest.mark.slow
def test_the_command(run: Callable[..., Ended], trained: Trained, tmp_path: Path) -> None:
    ended = run("ship", trained.run, "-o", tmp_path / "dist", "--threads", "1", "--json", "-q")
    assert ended.code == 0, ended.err
    assert ended.json["files"][0]["name"] == "tiny.onnx"
    assert json.loads((tmp_path / "dist" / "report.json").read_text()) == ended.json
    table = run("ship", trained.run, "-o", tmp_path / "dist", "--threads", "1", "-q").out
    assert "fp32" in table
    assert "report.html" in table
    assert run("ship", trained.run, "--to", "tflite").refused("unknown target")
    golden = np.array(Segmenter(tmp_path / "dist" / "tiny.onnx").segment(np.zeros((64, 96, 3), np.uint8)))
    assert golden.shape == (64, 96)
