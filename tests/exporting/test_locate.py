"""The layer at which a file parts from its network."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper

from export_fixtures import images_of
from featherseg.compress.weights_int8 import store_int8
from featherseg.core.types import ClassSet
from featherseg.exporting.locate import first_divergence
from featherseg.exporting.onnx import export_onnx
from featherseg.models.base import SegmentationModel
from featherseg.models.factory import create_model, list_models
from featherseg.models.session import describe


def test_an_honest_file_agrees_to_its_last_layer(model: SegmentationModel, exported: Path) -> None:
    found = first_divergence(model, exported, images_of(77, 130)[0])
    assert found is not None
    assert found.layer is None
    assert found.before == "head"
    assert "resizing or the output" in str(found)


@pytest.mark.parametrize("name", ["jetnet", pytest.param("fastsegnet", marks=pytest.mark.slow)])
def test_each_layer_of_a_network_is_found(name: str, tmp_path: Path) -> None:
    assert name in list_models()
    torch.manual_seed(0)
    net = create_model(name, num_classes=3, **({"width": 0.5} if name == "fastsegnet" else {})).eval()
    path = export_onnx(net, tmp_path / "net.onnx", describe(net, ClassSet(("a", "b", "c"))))
    image = images_of(70, 100)[0]
    last = first_divergence(net, path, image)
    assert last is not None
    assert last.layer is None
    proto = onnx.load(str(path))
    layers = [t.name for t in proto.graph.initializer if t.name.endswith(".weight") and len(t.dims) == 4]
    for weight in (layers[0], layers[len(layers) // 2], layers[-1]):
        bad = onnx.load(str(path))
        tensor = next(t for t in bad.graph.initializer if t.name == weight)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[..., ::-1, ::-1] * 1.5, weight))
        onnx.save(bad, str(tmp_path / "bad.onnx"))
        found = first_divergence(net, tmp_path / "bad.onnx", image)
        assert found is not None
        assert found.layer == weight.removeprefix("model.").removesuffix(".weight")


def test_codes_are_followed_to_their_layer(model: SegmentationModel, exported: Path, tmp_path: Path) -> None:
    store_int8(exported, tmp_path / "small.onnx")
    image = images_of(64, 96)[0]
    exact = first_divergence(model, tmp_path / "small.onnx", image, limit=1e-4)
    assert exact is not None
    assert exact.layer in ("body.0.0", "body.1.0")  # the first that is large enough for codes
    rough = first_divergence(model, tmp_path / "small.onnx", image, limit=0.1)
    assert rough is not None
    assert rough.layer is None
