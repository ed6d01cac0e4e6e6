"""Model repositories of other servers: their configurations against the published schemas."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifact_fixtures import EVERY_FIELD, POOLED, write_pooled
from featherseg.core.types import ClassSet
from featherseg.runtime.artifact import Artifact
from featherseg.runtime.segmenter import Segmenter
from featherseg.runtime.sessions.openvino import openvino_core
from featherseg.shipping.folder_targets import FolderSource, folder_targets
from featherseg.shipping.repositories import write_ovms, write_triton

# The object "config" of MODELS_CONFIG_SCHEMA in src/schema.cpp of OpenVINO Model Server (2024): required and known keys
# with their JSON types; others are refused.
OVMS_REQUIRED = {"name", "base_path"}
OVMS_KNOWN: dict[str, Any] = {
    "name": str,
    "base_path": str,
    "batch_size": (int, str),
    "model_version_policy": dict,
    "shape": (dict, str),
    "nireq": int,
    "target_device": str,
    "plugin_config": dict,
    "stateful": bool,
    "idle_sequence_cleanup": bool,
    "low_latency_transformation": bool,
    "max_sequence_number": int,
    "custom_loader_options": dict,
}


def triton_config(place: Path) -> Any:
    """The configuration as Triton's own schema reads it, which knows no other fields."""
    reason = "needs the dependency group clients: tritonclient[grpc]"
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason=reason)
    text_format = importlib.import_module("google.protobuf.text_format")
    return text_format.Parse(place.read_text(encoding="utf-8"), schema.ModelConfig()), schema


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("size", [None, (64, 96)])
def test_triton(tmp_path: Path, size: tuple[int, int] | None) -> None:
    place = write_triton(write_pooled(tmp_path / "net.onnx", size=size), tmp_path / "triton")
    config, schema = triton_config(place / "net" / "config.pbtxt")
    assert (config.name, config.backend, config.max_batch_size) == ("net", "onnxruntime", 0)
    (image,), (logits,) = config.input, config.output
    sides = list(size or (-1, -1))
    assert (image.name, image.data_type, list(image.dims)) == ("image", schema.TYPE_UINT8, [-1, *sides, 3])
    cells = [side // 8 for side in sides] if size else sides
    assert (logits.name, logits.data_type, list(logits.dims)) == ("logits", schema.TYPE_FP32, [-1, 3, *cells])
    assert (place / "net" / logits.label_filename).read_text().split() == ["red", "green", "blue"]
    assert json.loads(config.parameters["classes"].string_value) == ["red", "green", "blue"]
    assert config.parameters["stride"].string_value == "8"


@pytest.mark.filterwarnings("default")
def test_names_of_any_script_and_with_quotes(tmp_path: Path) -> None:
    names = ("Straße", '"quoted" \\ back', "車\nline")
    artifact = Artifact(ClassSet(names), EVERY_FIELD.input_spec, 8, "pooled", 1)
    place = write_triton(write_pooled(tmp_path / "net.onnx", artifact), tmp_path / "triton")
    assert len((place / "net" / "labels.txt").read_text(encoding="utf-8").splitlines()) == 3
    config, _ = triton_config(place / "net" / "config.pbtxt")
    assert json.loads(config.parameters["classes"].string_value) == list(names)


def test_the_text_of_triton_without_its_schema(tmp_path: Path) -> None:
    place = write_triton(write_pooled(tmp_path / "net.onnx"), tmp_path / "triton")
    text = (place / "net" / "config.pbtxt").read_text()
    assert text.startswith('name: "net"\nbackend: "onnxruntime"\nmax_batch_size: 0\ninput [\n')
    assert "dims: [-1, -1, -1, 3]" in text


def test_ovms(tmp_path: Path) -> None:
    place = write_ovms(write_pooled(tmp_path / "net.onnx"), tmp_path / "ovms")
    content = json.loads((place / "config.json").read_text())
    assert list(content) == ["model_config_list"]
    (entry,) = content["model_config_list"]
    assert list(entry) == ["config"]
    config = entry["config"]
    assert config.keys() >= OVMS_REQUIRED
    for key, value in config.items():
        assert isinstance(value, OVMS_KNOWN[key]), key
    assert (place / config["base_path"] / "1" / "model.onnx").is_file()


def test_what_ovms_is_told_its_engine_takes(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    place = write_ovms(write_pooled(tmp_path / "net.onnx"), tmp_path / "ovms")
    (entry,) = json.loads((place / "config.json").read_text())["model_config_list"]
    core = openvino_core(openvino)
    model = core.read_model(str(place / "net" / "1" / "model.onnx"))
    shape = model.input("image").partial_shape
    shape[0] = entry["config"]["batch_size"]
    model.reshape({"image": shape})
    compiled = core.compile_model(model, "CPU", entry["config"]["plugin_config"])
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)
    expected = Segmenter(tmp_path / "net.onnx").logits(image[0])
    np.testing.assert_allclose(compiled({"image": image})["logits"][0], expected, rtol=1e-5)


def test_they_are_targets_of_ship(tmp_path: Path) -> None:
    main = write_pooled(tmp_path / "net.onnx", POOLED)
    for name in ("triton", "ovms"):
        place = folder_targets.get(name)(FolderSource(main, np.zeros((64, 64, 3), np.uint8), 1), tmp_path)
        assert (place / "net" / "1" / "model.onnx").read_bytes() == main.read_bytes()
        assert name in folder_targets.get(name).says
