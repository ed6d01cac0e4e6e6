"""From a run to a proven int8 file."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_quantize import IMAGES, OPTIONS, VAL

from conftest import Trained
from featherseg.compress.proven import export_int8, quantize_proven, scores_by_scale
from featherseg.compress.quantize import QuantizeConfig
from featherseg.core.errors import VerificationError
from featherseg.data.datasets import create_dataset
from featherseg.evaluation.scores import evaluate
from featherseg.evaluation.ways import Ways
from featherseg.exporting.verdict import Tolerance
from featherseg.models.checkpoint import load_checkpoint
from featherseg.runtime.artifact import read_artifact
from featherseg.runtime.segmenter import Segmenter
from featherseg.runtime.video.pace import SCALES, candidates

LOOSE = QuantizeConfig(max_drop=0.05, threads=1, runs=1)


def test_from_a_run_to_a_file_that_says_what_sizes_cost(trained: Trained, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(trained.run)
    train_set = create_dataset("synthetic", split="train", **OPTIONS)
    path = tmp_path / "street.onnx"
    quantized, verified = export_int8(checkpoint, path, train_set, VAL, calibration=8, config=LOOSE)
    assert [file.name for file in tmp_path.iterdir()] == ["street.onnx"]
    assert (quantized.path, quantized.bytes) == (path, path.stat().st_size)
    artifact = read_artifact(path)
    assert artifact.training["weights"] == "int8 QDQ"
    assert artifact.training["quantization"]["miou"] == pytest.approx(verified.file.miou)
    said = artifact.verification
    assert said["passed"]
    assert said["miou_torch"] == verified.torch.miou
    assert [scale for scale, _ in said["scales"]] == list(SCALES)
    assert said["scales"][0][1] == pytest.approx(said["miou"], abs=1e-5)
    half = evaluate(Segmenter(path, size=(32, 48), threads=1), VAL, boundary=False)
    assert scores_by_scale(path, Ways(VAL), threads=1)[-1] == [0.5, pytest.approx(half.miou, abs=1e-5)]
    assert all(each.miou is not None for each in candidates(path))


def test_a_file_past_a_limit_is_not_there(trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "street.onnx"
    path.write_bytes(b"before")
    with pytest.raises(VerificationError, match=r"street\.onnx was not written: masks agree") as caught:
        quantize_proven(
            load_checkpoint(trained.run),
            trained.file,
            path,
            IMAGES,
            VAL,
            LOOSE,
            tolerance=Tolerance(max_logit_error=9, min_agreement=1, max_miou_drop=1),
        )
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"before"
    assert [file.name for file in tmp_path.iterdir()] == ["street.onnx"]
