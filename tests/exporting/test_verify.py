"""Verification: its figures, its limits, and what passes neither."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from export_fixtures import CLASSES, QUICK, Scenes, torch_mask
from featherseg.core.errors import ConfigError, DataError, VerificationError
from featherseg.core.types import ClassSet, InputSpec
from featherseg.exporting import verify as verify_module
from featherseg.exporting.verdict import Parity, Quality, Tolerance, VerifyResult
from featherseg.exporting.verify import export_verified, verify
from featherseg.models.base import SegmentationModel
from featherseg.models.checkpoint import Checkpoint
from featherseg.models.factory import create_model
from featherseg.runtime.artifact import Artifact, read_artifact
from featherseg.runtime.sessions.onnx import OnnxSession


@pytest.mark.parametrize("long_side", [None, 160])
def test_jetnet(tmp_path: Path, long_side: int | None) -> None:
    torch.manual_seed(0)
    net = create_model("jetnet", num_classes=4)
    net.input_spec = InputSpec(long_side=long_side)
    scenes = Scenes(sizes=((96, 130), (50, 150)), truth=lambda image: torch_mask(net.eval(), image))
    path = tmp_path / "net.onnx"
    result = export_verified(Checkpoint(net, CLASSES), path, scenes, threads=1)
    assert result.passed, str(result)
    assert [parity.size for parity in result.parity] == [(64, 96), (256, 512), (333, 517)]
    assert read_artifact(path).input_spec == net.input_spec


def test_verified_export_carries_its_figures(
    model: SegmentationModel, artifact: Artifact, scenes: Scenes, tmp_path: Path
) -> None:
    seen = []
    path = tmp_path / "a.onnx"
    net = copy.deepcopy(model).train()
    result = export_verified(
        Checkpoint(net, artifact.classes, artifact.training),
        path,
        scenes,
        progress=lambda *done: seen.append(done),
        **QUICK,
    )
    assert net.training
    assert result.passed
    assert result.failures == ()
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    # The truth is the network's own mask, so every figure of torch is exactly one.
    assert result.torch == Quality(1.0, (1.0,) * 4, 1.0)
    assert result.file.miou == pytest.approx(1, abs=1e-3)
    assert result.agreement > 0.9995
    assert "passed" in str(result)
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]
    stored = read_artifact(path)
    assert replace(stored, verification={}, calibration={}) == artifact
    assert result.calibration is not None
    assert stored.calibration == result.calibration.to_dict()
    assert stored.temperature == pytest.approx(result.calibration.temperature, abs=1e-5)
    assert result.confidence_error < 1e-4
    figures = stored.verification
    assert figures == json.loads(json.dumps(result.to_dict()))
    assert figures["dataset"] == "scenes val"
    assert (figures["images"], figures["sizes"]) == (4, [[64, 96], [77, 101]])
    assert figures["tolerance"] == {
        "max_logit_error": 1e-3,
        "min_agreement": 0.9995,
        "max_miou_drop": 0.001,
        "max_confidence_error": 0.001,
    }
    assert figures["miou_torch"] == 1.0


def test_figures_are_those_of_the_masks(model: SegmentationModel, exported: Path) -> None:
    scenes = Scenes()  # random truth: mIoU is low, and must be so in both
    result = verify(model, exported, scenes, **QUICK)
    hits, union = np.zeros(4), np.zeros(4)
    for i in range(len(scenes)):
        image, target = scenes.read(i)
        mask, valid = torch_mask(model, image), target != 255
        for k in range(4):
            hits[k] += (valid & (mask == k) & (target == k)).sum()
            union[k] += (valid & ((mask == k) | (target == k))).sum()
    assert result.torch.miou == pytest.approx((hits / union).mean())
    assert result.torch.iou == pytest.approx(tuple(hits / union))
    assert result.passed


@pytest.mark.usefixtures("no_export")
def test_failed_export_keeps_the_earlier_file(
    model: SegmentationModel, artifact: Artifact, scenes: Scenes, tmp_path: Path
) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"earlier")
    with pytest.raises(VerificationError):
        export_verified(
            Checkpoint(model, artifact.classes, artifact.training),
            path,
            scenes,
            Tolerance(max_logit_error=0.0),
            **QUICK,
        )
    assert path.read_bytes() == b"earlier"
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]


def test_wrong_spatial_size_of_logits_fails(
    model: SegmentationModel, exported: Path, scenes: Scenes, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = OnnxSession.run
    monkeypatch.setattr(OnnxSession, "run", lambda self, images: run(self, images)[:, :, :-1])
    result = verify(model, exported, scenes, **QUICK)
    assert not result.passed
    assert "inf" in result.failures[0]
    json.dumps(result.to_dict(), allow_nan=False)


def test_file_that_breaks_at_a_size_fails(
    model: SegmentationModel, exported: Path, scenes: Scenes, tmp_path: Path
) -> None:
    proto = onnx.load(str(exported))
    wanted = numpy_helper.from_array(np.zeros((1, 4, 32, 32), np.float32), "place")
    proto.graph.initializer.append(wanted)
    proto.graph.node[-1].output[0] = "before"
    proto.graph.node.append(helper.make_node("Add", ["before", "place"], ["logits"]))
    path = tmp_path / "a.onnx"
    onnx.save(proto, str(path))
    with pytest.raises(VerificationError, match=r"does not run where its network does.*\(2, 64, 96, 3\)") as caught:
        verify(model, path, scenes, **QUICK)
    assert "\n" not in str(caught.value)


def test_nan_logits_fail(
    model: SegmentationModel, exported: Path, scenes: Scenes, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = OnnxSession.run
    monkeypatch.setattr(OnnxSession, "run", lambda self, images: run(self, images) * np.float32("nan"))
    result = verify(model, exported, scenes, **QUICK)
    assert "logits differ by nan" in result.failures[0]


def test_verify_refuses_other_data(model: SegmentationModel, exported: Path) -> None:
    with pytest.raises(ConfigError, match="verify on the dataset"):
        verify(model, exported, Scenes(classes=ClassSet(("sky", "tree", "road", "car"))), **QUICK)
    with pytest.raises(DataError, match="empty"):
        verify(model, exported, Scenes(sizes=()), **QUICK)
    for sizes in ((), ((32, 64),)):
        with pytest.raises(ConfigError, match="sizes"):
            verify(model, exported, Scenes(), sizes=sizes)
    unlabelled = Scenes(sizes=((64, 64),), truth=lambda image: np.full(image.shape[:2], 255, np.uint8))
    result = verify(model, exported, unlabelled, **QUICK)
    assert result.agreement > 0.999
    assert "no labelled pixel" in result.failures[0]
    assert result.to_dict()["miou"] is None


def result_with(**changes: Any) -> VerifyResult:
    quality = Quality(0.7, (0.5, 0.9, 0.7, math.nan), 0.6)
    whole = VerifyResult(
        CLASSES,
        "x val",
        2,
        "paper",
        (Parity((64, 64), 1e-4, 1e-5, "a"),),
        1.0,
        ("a", 1.0),
        quality,
        quality,
        Tolerance(),
    )
    return replace(whole, **changes)


def test_limits_name_figure_limit_and_place() -> None:
    assert result_with().passed
    at_limit = Parity((64, 64), 1.0, 1e-3, "a")
    assert result_with(parity=(at_limit,), agreement=0.9995).passed
    beyond = (at_limit, Parity((77, 99), 1.0, 1.1e-3, "b"))
    (failure,) = result_with(parity=beyond).failures
    assert failure == "logits differ by 1.10e-03 of the largest (limit 1.00e-03), worst at 77x99 in image b"
    (failure,) = result_with(agreement=0.9, worst_image=("c", 0.25)).failures
    assert failure == "masks agree in 90.0000% of the pixels (limit 99.9500%), worst in image c with 25.0000%"
    (failure,) = result_with(file=Quality(0.69, (0.5, 0.87, 0.7, math.nan), 0.6)).failures
    assert failure == "mIoU falls from 70.00 to 69.00 (limit 0.10 points), worst in class road: 90.00 to 87.00"
    (failure,) = result_with(file=Quality(0.525, (0.5, 0.9, 0.7, 0.0), 0.6)).failures
    assert failure.endswith("worst in class car: absent to 0.00")
    assert result_with(file=Quality(0.9, (0.9,) * 4, 0.9)).passed, "a gain is no failure"
    assert result_with(confidence_error=0.001).passed
    (failure,) = result_with(confidence_error=0.02).failures
    assert failure == "confidence differs by 0.0200 on average (limit 0.0010)"
    nan = Parity((64, 64), math.nan, math.nan, "n")
    assert "image n" in result_with(parity=(nan, *beyond)).failures[0]
    text = str(result_with(file=Quality(0.69, (0.5, 0.87, 0.7, math.nan), 0.6)))
    assert "mIoU 69.00 (torch 70.00)" in text
    assert "FAILED: mIoU" in text


@pytest.mark.parametrize("limits", [{"min_agreement": 99.95}, {"max_logit_error": -1.0}, {"max_miou_drop": math.nan}])
def test_tolerance_is_checked(limits: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="out of range"):
        Tolerance(**limits)


def test_parity_reads_images_spread_over_the_dataset(model: SegmentationModel, exported: Path) -> None:
    scenes = Scenes()
    parity = verify_module._parity(model, OnnxSession(exported, threads=1), scenes, (333, 517))
    assert parity.image in {"scene0", "scene3"}
    assert 0 <= parity.relative < 1e-4
