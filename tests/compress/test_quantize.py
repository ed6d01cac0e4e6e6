from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Trained
from featherseg.compress import search
from featherseg.compress.calibration import calibration_images
from featherseg.compress.quantize import QuantizeConfig, QuantizeResult, quantize
from featherseg.compress.search import Search
from featherseg.compress.sensitivity import layer_sensitivity
from featherseg.core.errors import ConfigError, VerificationError
from featherseg.core.types import ClassSet
from featherseg.data.datasets import create_dataset
from featherseg.evaluation.result import EvalResult
from featherseg.evaluation.scores import evaluate
from featherseg.runtime.artifact import read_artifact
from featherseg.runtime.segmenter import Segmenter

OPTIONS: dict[str, Any] = {"count": 16, "val_count": 4, "size": [64, 96]}
VAL = create_dataset("synthetic", split="val", **OPTIONS)
IMAGES = calibration_images(create_dataset("synthetic", split="train", **OPTIONS), 8)


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let scores come out as told, the fp32 file's first, and no try be given up."""

    def tell(*mious: float) -> None:
        told, honest = iter(mious), Search._result
        monkeypatch.setattr(Search, "_result", lambda *given: replace(honest(*given), miou=next(told)))
        monkeypatch.setattr(search, "best_miou", lambda *given: 1.0)

    return tell


def test_int8_of_a_trained_network(trained: Trained, tmp_path: Path) -> None:
    result = quantize(trained.file, tmp_path / "i.onnx", IMAGES, VAL, QuantizeConfig(max_drop=0.05, runs=2))
    assert [file.name for file in tmp_path.iterdir()] == ["i.onnx"]
    again = evaluate(Segmenter(result.path), VAL, boundary=False)
    np.testing.assert_array_equal(again.matrix, result.int8_eval.matrix)
    assert result.fp32_eval.miou == evaluate(Segmenter(trained.file), VAL, boundary=False).miou
    assert result.drop == result.fp32_eval.miou - result.int8_eval.miou <= 0.05
    assert result.bytes == result.path.stat().st_size < 0.31 * result.fp32_bytes
    assert result.layers == 7
    assert result.rounds[-1] == (len(result.fp32_layers), result.int8_eval.miou)
    assert result.latency_ms is not None
    assert result.latency_ms > 0
    facts = read_artifact(result.path).training["quantization"]
    assert facts["miou"] == result.int8_eval.miou
    assert facts["fp32_layers"] == list(result.fp32_layers)
    assert facts["rounds"] == [list(entry) for entry in result.rounds]


def test_worst_layers_go_back_to_float_in_doubling_numbers(
    trained: Trained, tmp_path: Path, scores: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "featherseg")
    ranking = [damage.name for damage in layer_sensitivity(trained.file, IMAGES)]
    scores(0.8, 0.7, 0.75, 0.795)
    result = quantize(trained.file, tmp_path / "i.onnx", IMAGES, VAL, QuantizeConfig(runs=1))
    assert result.rounds == ((0, 0.7), (1, 0.75), (2, 0.795))
    assert list(result.fp32_layers) == ranking[:2]
    kept = read_artifact(result.path).training["quantization"]["fp32_layers"]
    assert sorted(kept) == sorted(ranking[:2])
    assert "i.onnx: scoring int8 with 2 layers in fp32" in caplog.messages
    assert sum("measuring each layer's damage" in message for message in caplog.messages) == 1


def test_what_stays_bad_is_not_written(trained: Trained, tmp_path: Path, scores: Callable[..., None]) -> None:
    target = tmp_path / "i.onnx"
    target.write_bytes(b"earlier")
    scores(0.8, 0.5, 0.51, 0.52, 0.53, 0.54)
    with pytest.raises(VerificationError, match=r"with 2 layers in fp32 int8 still loses 28\.00 points") as caught:
        quantize(trained.file, target, IMAGES, VAL, QuantizeConfig(runs=1))
    assert "\n" not in str(caught.value)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("i.onnx", b"earlier")]


def test_openvino_within(trained: Trained, tmp_path: Path, scores: Callable[..., None]) -> None:
    pytest.importorskip("openvino", reason="its int8 file is scored")
    scores(0.8, 0.7, 0.8)
    result = quantize(trained.file, tmp_path / "i.xml", IMAGES, VAL, QuantizeConfig(flavour="openvino", runs=1))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["i.bin", "i.xml"]
    assert result.bytes == sum(file.stat().st_size for file in tmp_path.iterdir())
    assert "openvino" in result.device
    assert len(result.fp32_layers) == 1
    assert read_artifact(result.path).training["quantization"]["miou"] == 0.8
    assert Segmenter(result.path).segment(IMAGES[0]).shape == (64, 96)


def test_openvino_within_as_one_onnx_file(trained: Trained, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="its int8 file is scored")
    result = quantize(
        trained.file, tmp_path / "i.onnx", IMAGES, VAL, QuantizeConfig(flavour="openvino", max_drop=0.1, runs=1)
    )
    assert [file.name for file in tmp_path.iterdir()] == ["i.onnx"]
    assert "openvino" in result.device
    assert read_artifact(result.path).training["quantization"]["flavour"] == "openvino"


def test_tensorrt_is_scored_but_not_timed(trained: Trained, tmp_path: Path) -> None:
    result = quantize(trained.file, tmp_path / "i.onnx", IMAGES, VAL, QuantizeConfig(flavour="tensorrt", max_drop=0.1))
    assert (result.latency_ms, result.slower) == (None, False)
    assert "not timed" in str(result)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"max_drop": -0.1}, "max_drop is -0.1"),
        ({"max_drop": 1.0}, r"max_drop is 1\.0"),
        ({"max_drop": float("nan")}, "max_drop is nan"),
        ({"runs": 0}, "runs is 0"),
        ({"flavour": "onnx"}, "flavour is 'onnx'"),
        ({"path": "i.xml"}, r"ends in \.onnx"),
        ({"path": "i.onnx", "flavour": "openvino", "way": "nncf"}, r"way is 'nncf'.* end in \.xml"),
    ],
)
def test_wrong_arguments(trained: Trained, tmp_path: Path, options: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        quantize(trained.file, tmp_path / options.pop("path", "i.onnx"), IMAGES, VAL, QuantizeConfig(**options))
    assert not list(tmp_path.iterdir())


def scored(miou: float, iou: list[float]) -> EvalResult:
    protocol = {
        "dataset": "street",
        "split": "val",
        "images": 4,
        "resolution": "original resolution",
        "scales": [1.0],
        "flip": False,
        "rule": "absent left out",
    }
    nan = np.full(len(iou), np.nan)
    zeros = np.zeros((len(iou), len(iou)), np.int64)
    classes = ClassSet(tuple("abcd"[: len(iou)]))
    return EvalResult(
        classes, zeros, miou, np.array(iou), 0.9, float("nan"), nan, (), protocol, *[nan] * 4, float("nan")
    )


def test_text_tells_what_was_won_and_lost() -> None:
    result = QuantizeResult(
        path=Path("i.onnx"),
        flavour="onnxruntime",
        fp32_eval=scored(0.7523, [0.9, 0.8, 0.5, float("nan")]),
        int8_eval=scored(0.7456, [0.89, 0.77, 0.505, float("nan")]),
        fp32_layers=("stem.0",),
        layers=9,
        rounds=((0, 0.70), (1, 0.7456)),
        fp32_bytes=9_180_000,
        bytes=2_550_000,
        fp32_latency_ms=18.9,
        latency_ms=9.1,
        device="a processor",
        size=(360, 480),
    )
    assert list(result.damage) == ["b", "a", "c"]
    assert result.damage["b"] == pytest.approx(0.03)
    assert str(result).splitlines() == [
        "int8 for onnxruntime: mIoU 74.56% (fp32 75.23%) on street val, 4 images, original resolution",
        "  2.55 MB, 28% of 9.18 MB",
        "  9.1 ms an image of 360x480 (fp32 18.9 ms, in turns): a processor",
        "  points of IoU lost, the most: b 3.0, a 1.0, c -0.5",
        "  1 of 9 layers stayed fp32: stem.0",
    ]
    assert not result.slower
    slow = replace(result, latency_ms=20.0)
    assert slow.slower
    assert "20.0 ms an image of 360x480 (fp32 18.9 ms, in turns); slower, so not recommended" in str(slow)
    assert slow.to_dict()["slower"] is True
