"""Whole networks in int8 and in 16 bits: FastSegNet of half the width, with batch norms as training leaves them."""

from __future__ import annotations

import logging
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper

from featherseg.compress.calibration import calibration_images
from featherseg.compress.graph import FloatGraph
from featherseg.compress.openvino_int8 import quantize_openvino
from featherseg.compress.plan import plan
from featherseg.compress.qdq import calibrate, quantize_onnx
from featherseg.compress.sensitivity import LayerDamage, layer_sensitivity
from featherseg.compress.weights_fp16 import store_fp16
from featherseg.core.errors import ArtifactError, ConfigError, DataError
from featherseg.core.types import ClassSet
from featherseg.data.readers.synthetic import SyntheticStreet, render_street
from featherseg.exporting.onnx import export_onnx
from featherseg.exporting.tensorrt import build_engine
from featherseg.models.factory import create_model
from featherseg.models.session import describe
from featherseg.runtime.artifact import read_artifact
from featherseg.runtime.segmenter import Segmenter
from int8_graphs import settle_norms

CLASSES = ClassSet(tuple("abcdefg"))
IMAGES = calibration_images(SyntheticStreet(count=6, size=(96, 128)), 6)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = create_model("fastsegnet", len(CLASSES), width=0.5)
    settle_norms(model, IMAGES)
    artifact = replace(describe(model, CLASSES, {"epochs": 3}), verification={"miou": 0.7})
    return export_onnx(model, tmp_path_factory.mktemp("float") / "f.onnx", artifact)


@pytest.fixture(scope="module")
def int8(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantize_onnx(source, tmp_path_factory.mktemp("int8") / "i.onnx", IMAGES)


def noise(expected: Path, actual: Path, backend: str = "auto") -> float:
    """Share of the logits' spread over classes that is changed, on a picture that was not calibrated with."""
    picture = render_street(99, (96, 128))[0]
    first, second = Segmenter(expected).logits(picture), Segmenter(actual, backend=backend).logits(picture)
    exact = first - first.mean(axis=0)
    return float(((second - second.mean(axis=0) - exact) ** 2).mean() / (exact**2).mean())


def test_every_layer_runs_in_integers(source: Path, int8: Path, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(int8), options, providers=["CPUExecutionProvider"])
    left = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    whole = plan(FloatGraph(source), "onnxruntime")
    assert left["QLinearConv"] == len(whole.layers) == 62
    assert left["Conv"] + left["FusedConv"] == 1
    assert left["Clip"] + left["Relu"] == 0
    assert left["QLinearAdd"] >= 10


def test_file_is_smaller_and_its_logits_are_near(source: Path, int8: Path) -> None:
    assert int8.stat().st_size < 0.36 * source.stat().st_size, "0.6 M parameters; of 2.3 M it is 0.28"
    assert 0 < noise(source, int8) < 0.05
    assert read_artifact(int8).verification == {}
    assert read_artifact(int8).training["weights"] == "int8 QDQ"


def test_any_size_and_batch_still_run(source: Path, int8: Path) -> None:
    session = Segmenter(int8).session
    pictures = np.stack([render_street(i, (71, 133))[0] for i in range(3)])
    batch = session.run(pictures)
    assert batch.shape == (3, 7, 9, 17)
    for i in range(3):
        np.testing.assert_allclose(batch[i], session.run(pictures[i : i + 1])[0], atol=1e-4)


@pytest.mark.parametrize("stride", [pytest.param(4, marks=pytest.mark.slow), 2])
def test_finer_strides_are_exported_and_run_in_integers(stride: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_model("fastsegnet", len(CLASSES), width=0.5, stride=stride)
    settle_norms(model, IMAGES)
    source = export_onnx(model, tmp_path / "f.onnx", describe(model, CLASSES))
    assert read_artifact(source).stride == stride
    for size in ((71, 133), (128, 96)):
        picture = render_street(5, size)[0]
        with torch.no_grad():
            expected = model.eval().outputs(torch.from_numpy(model.input_spec.normalize(picture))[None])["out"].numpy()
        logits = Segmenter(source).session.run(picture[None])
        assert logits.shape == (1, 7, -(-size[0] // stride), -(-size[1] // stride))
        np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())
    int8 = quantize_onnx(source, tmp_path / "i.onnx", IMAGES)
    whole = plan(FloatGraph(source), "onnxruntime")
    assert {"finer.0.below.0", "finer.0.skip.0", "head.0.0"} < set(whole.layers)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(int8), options, providers=["CPUExecutionProvider"])
    left = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert left["QLinearConv"] == len(whole.layers)
    assert left["Conv"] + left["FusedConv"] == 1, "the class scores"
    assert 0 < noise(source, int8) < 0.05


def test_worst_layer_is_found(source: Path, tmp_path: Path) -> None:
    """One layer gets a channel whose values dwarf the others', which eight bits of one scale cannot hold."""
    proto = onnx.load(source)
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    bias = tensors["model.features.5.conv.0.0.weight_bias"]
    clips = [node for node in proto.graph.node if node.op_type == "Clip"]
    producer = next(node for node in proto.graph.node if node.op_type == "Conv" and bias.name in node.input)
    clip = next(node for node in clips if node.input[0] == producer.output[0])
    values = numpy_helper.to_array(bias).copy()
    values[0] = 4000
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    clip.op_type = "Relu"
    del clip.input[1:]
    reader = next(node for node in proto.graph.node if clip.output[0] in node.input)
    weight = tensors[reader.input[1]]
    kernel = numpy_helper.to_array(weight).copy()
    kernel[0] = 0  # nothing of it reaches the output
    weight.CopyFrom(numpy_helper.from_array(kernel, weight.name))
    (tmp_path / "hard.onnx").write_bytes(proto.SerializeToString())
    seen: list[tuple[int, int]] = []
    found = layer_sensitivity(
        tmp_path / "hard.onnx",
        IMAGES,
        images=2,
        method="minmax",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert {damage.name for damage in found[:2]} == {"features.5.conv.0.0", "features.5.conv.1.0"}
    assert found[0].sqnr < found[2].sqnr - 6
    assert [damage.sqnr for damage in found] == sorted(damage.sqnr for damage in found)
    assert seen[-1] == (62, 62)
    rescued = quantize_onnx(
        tmp_path / "hard.onnx", tmp_path / "r.onnx", IMAGES, keep=[d.name for d in found[:2]], method="minmax"
    )
    spoiled = quantize_onnx(tmp_path / "hard.onnx", tmp_path / "s.onnx", IMAGES, method="minmax")
    assert noise(tmp_path / "hard.onnx", rescued) < 0.3 * noise(tmp_path / "hard.onnx", spoiled)


def test_sensitivity_is_refused_what_quantising_is(source: Path) -> None:
    with pytest.raises(ConfigError, match="images is 0"):
        layer_sensitivity(source, IMAGES, images=0)
    with pytest.raises(DataError, match="give at least"):
        layer_sensitivity(source, IMAGES[:1])
    assert str(LayerDamage("a.b", 12.34, 0.012)) == "a.b: 12.3 dB, 1.20% of the places with another class"


def test_half_weights_are_half_the_file_and_the_same_network(source: Path, tmp_path: Path) -> None:
    path = store_fp16(source, tmp_path / "half.onnx")
    assert path.stat().st_size < 0.56 * source.stat().st_size
    assert noise(source, path) < 1e-5
    artifact = read_artifact(path)
    assert artifact.training == {"epochs": 3, "weights": "fp16"}
    assert artifact.verification == {}
    kinds = {tensor.data_type for tensor in onnx.load(path).graph.initializer if np.prod(tensor.dims) >= 64}
    assert TensorProto.FLOAT not in kinds
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    left = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert left["Cast"] <= 1, "the image's; weights are cast when the file is opened"
    with pytest.raises(ArtifactError, match="16 bits already"):
        store_fp16(path, tmp_path / "again.onnx")
    with pytest.raises(ConfigError, match="fp32 file itself"):
        store_fp16(source, source)


def test_what_float16_cannot_hold_is_refused(source: Path, tmp_path: Path) -> None:
    proto = onnx.load(source)
    tensor = next(t for t in proto.graph.initializer if t.name == "model.head.0.0.weight")
    values = numpy_helper.to_array(tensor).copy()
    values[0, 0] = 7e4
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    (tmp_path / "large.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ArtifactError, match=r"model\.head\.0\.0\.weight holds values above 65504"):
        store_fp16(tmp_path / "large.onnx", tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_openvino_int8(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO's int8 files are run")
    path = quantize_openvino(source, tmp_path / "i.xml", IMAGES, keep=["head.0.0"])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["i.bin", "i.xml"]
    assert path.with_suffix(".bin").stat().st_size < 0.33 * source.stat().st_size
    assert 0 < noise(source, path, "openvino") < 0.05
    artifact = read_artifact(path)
    facts = {"flavour": "openvino", "way": "qdq", "fp32_layers": ["head.0.0"], "method": "mse"}
    assert artifact.training == {"epochs": 3, "weights": "int8 OpenVINO", "quantization": facts}
    assert artifact.verification == {}
    table = calibrate(plan(FloatGraph(source), "openvino"), IMAGES)
    again = quantize_openvino(source, tmp_path / "j.xml", table, keep=["head.0.0"])
    assert again.with_suffix(".bin").read_bytes() == path.with_suffix(".bin").read_bytes()


def test_openvino_reads_the_onnx_runtime_flavour_too(source: Path, int8: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO runs the ONNX file")
    assert 0 < noise(source, int8, "openvino") < 0.05


def test_openvino_is_refused_what_it_cannot_do(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="checked first")
    target = tmp_path / "i.xml"
    with pytest.raises(ConfigError, match=r"end in \.xml"):
        quantize_openvino(source, tmp_path / "i.onnx", IMAGES)
    with pytest.raises(ConfigError, match='did you mean "nncf"'):
        quantize_openvino(source, target, IMAGES, way="nccf")
    with pytest.raises(ConfigError, match="preset is 'fast'"):
        quantize_openvino(source, target, IMAGES, preset="fast")
    with pytest.raises(ConfigError, match="NNCF cannot use"):
        quantize_openvino(source, target, {}, way="nncf")
    noisy = list(np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8))
    with pytest.raises(DataError, match="random noise"):
        quantize_openvino(source, target, noisy)
    assert not list(tmp_path.iterdir())


def test_tensorrt_builds_an_int8_engine(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the engine is built, which needs no GPU")
    path = quantize_onnx(source, tmp_path / "i.onnx", IMAGES, flavour="tensorrt")
    sizes = {"min_size": (64, 64), "opt_size": (96, 128), "max_size": (96, 128)}
    assert build_engine(path, tmp_path / "i.engine", precision="int8", **sizes).stat().st_size > 10_000


def test_nncf_works_without_a_word(source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openvino", reason="NNCF makes an OpenVINO file")
    pytest.importorskip("nncf", reason="the other way to one")
    before = dict(os.environ)
    path = quantize_openvino(source, tmp_path / "n.xml", IMAGES, way="nncf", keep=["head.0.0", "features.0.0"])
    assert capfd.readouterr() == ("", "")
    assert dict(os.environ) == before
    assert logging.root.manager.disable == 0
    assert 0 < noise(source, path, "openvino") < 0.05
    assert read_artifact(path).training["quantization"]["preset"] == "mixed"
    text = path.read_text()
    assert "miou" not in text.replace("epochs", ""), "nothing of the fp32 file's verification"
    openvino = pytest.importorskip("openvino")
    inputs = {
        operator.get_friendly_name(): operator.input_value(0).get_node().get_type_name()
        for operator in openvino.Core().read_model(str(path)).get_ops()
        if operator.get_type_name() == "Convolution"
    }
    floats = {name for name, kind in inputs.items() if kind != "FakeQuantize"}
    assert len(floats) >= 3, "both that were kept, and the class scores"
