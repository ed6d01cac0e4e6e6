from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from featherseg.compress import weights_int8 as module
from featherseg.compress.weights_int8 import MIN_ELEMENTS, quantize_array, quantize_weights
from featherseg.core.errors import ArtifactError, ConfigError, MissingExtraError
from featherseg.core.types import ClassSet
from featherseg.data.readers.synthetic import render_street
from featherseg.exporting.onnx import export_onnx, write_artifact
from featherseg.models.factory import create_model
from featherseg.models.session import describe
from featherseg.runtime.artifact import read_artifact
from featherseg.runtime.segmenter import Segmenter

RNG = np.random.default_rng(0)
CLASSES = ClassSet(tuple("abcdefg"))
QUICK: dict[str, Any] = {"runs": 1, "size": (64, 96)}


def rounded(weight: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Oracle: every channel rounded to 255 levels, one at a time."""
    result = np.empty_like(weight)
    for i in range(weight.shape[axis]):
        place = (slice(None),) * (axis % weight.ndim) + (i,)
        step = float(np.abs(weight[place]).max()) / 127
        result[place] = np.round(weight[place].astype(np.float64) / step) * step
    return result


def graph_of(
    nodes: list[Any],
    tensors: dict[str, NDArray[Any]],
    shape: list[int],
    outputs: tuple[str, ...] = ("y",),
    inputs: tuple[Any, ...] = (),
) -> Any:
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape), *inputs]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    stored = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    graph = helper.make_graph(nodes, "g", ports, ends, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(proto: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(["y"], {"x": x})[0]
    return result


def int8_tensors(proto: Any) -> set[str]:
    return {t.name.removesuffix("_int8") for t in proto.graph.initializer if t.data_type == TensorProto.INT8}


def normal(*shape: int) -> NDArray[np.float32]:
    spread = 10.0 ** RNG.uniform(-3, 1, shape)  # channels and entries of very different size
    return (RNG.standard_normal(shape) * spread).astype(np.float32)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_codes_are_the_nearest_of_255_levels(axis: int) -> None:
    weight = normal(6, 5, 3, 4)
    codes, scale = quantize_array(weight, axis)
    assert codes.dtype == np.int8
    assert scale.dtype == np.float32
    assert scale.size == weight.shape[axis]
    np.testing.assert_allclose(codes * scale, rounded(weight, axis), rtol=1e-5)
    largest = np.abs(np.moveaxis(codes.astype(int), axis, 0).reshape(weight.shape[axis], -1)).max(axis=1)
    assert (largest == 127).all()


def test_channels_of_zeros_and_of_almost_nothing() -> None:
    weight = np.zeros((3, 4), np.float32)
    weight[1] = 1e-44  # denormal: its scale would be zero
    weight[2] = [3e38, -3e38, 0, 1]
    codes, scale = quantize_array(weight, 0)
    assert (np.isfinite(scale) & (scale > 0)).all()
    assert (codes[0] == 0).all()
    np.testing.assert_allclose((codes * scale)[2], weight[2], rtol=1e-6, atol=3e38 / 254)
    assert np.abs(codes * scale - weight)[1].max() < 1e-37


@pytest.mark.parametrize(
    ("operator", "options", "weight", "shape", "axis"),
    [
        ("Conv", {}, normal(24, 8, 3, 3), [1, 8, 9, 9], 0),
        ("Conv", {"group": 64}, normal(64, 1, 3, 3), [1, 64, 9, 9], 0),
        ("ConvTranspose", {"strides": [2, 2]}, normal(16, 12, 2, 2), [1, 16, 4, 4], 1),
        ("MatMul", {}, normal(32, 20), [5, 32], 1),
        ("Gemm", {}, normal(32, 20), [5, 32], 1),
        ("Gemm", {"transB": 1}, normal(20, 32), [5, 32], 0),
    ],
)
def test_each_layer_computes_with_rounded_weights(
    operator: str, options: dict[str, Any], weight: NDArray[np.float32], shape: list[int], axis: int
) -> None:
    nodes = [helper.make_node(operator, ["x", "w"], ["y"], **options)]
    proto = graph_of(nodes, {"w": weight}, shape)
    oracle = graph_of(nodes, {"w": rounded(weight, axis)}, shape)
    module._to_int8(onnx, proto, Path("a.onnx"))
    assert int8_tensors(proto) == {"w"}
    x = RNG.standard_normal(shape).astype(np.float32)
    expected = run(oracle, x)
    np.testing.assert_allclose(run(proto, x), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_a_shared_weight_is_stored_once() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    weight = normal(32, 32)
    proto = graph_of(nodes, {"w": weight}, [4, 32])
    module._to_int8(onnx, proto, Path("a.onnx"))
    assert sum(t.data_type == TensorProto.INT8 for t in proto.graph.initializer) == 1
    x = RNG.standard_normal((4, 32)).astype(np.float32)
    expected = run(graph_of(nodes, {"w": rounded(weight, 1)}, [4, 32]), x)
    np.testing.assert_allclose(run(proto, x), expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def branch(name: str) -> Any:
    out = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)
    return helper.make_graph([helper.make_node("Identity", ["w"], [f"{name}_out"])], name, [], [out])


@pytest.mark.parametrize(
    ("nodes", "more"),
    [
        ([helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "w"], ["y"])], {}),
        (
            [
                helper.make_node("MatMul", ["x", "w"], ["h"]),
                helper.make_node("Gemm", ["h", "w"], ["y"], transB=1),
            ],
            {},
        ),
        ([helper.make_node("Transpose", ["w"], ["t"]), helper.make_node("MatMul", ["x", "t"], ["y"])], {}),
        ([helper.make_node("MatMul", ["x", "w"], ["y"])], {"outputs": ("y", "w")}),
        (
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            {"inputs": (helper.make_tensor_value_info("w", TensorProto.FLOAT, [32, 32]),)},
        ),
        (
            [
                helper.make_node("If", ["yes"], ["h"], then_branch=branch("a"), else_branch=branch("b")),
                helper.make_node("MatMul", ["x", "w"], ["k"]),
                helper.make_node("Add", ["h", "k"], ["y"]),
            ],
            {},
        ),
    ],
    ids=["other use", "two axes", "behind an operator", "output", "input", "inner graph"],
)
def test_weights_with_another_use_stay_float(nodes: list[Any], more: dict[str, Any]) -> None:
    tail = helper.make_node("MatMul", ["y", "v"], ["z"])
    tensors = {"w": normal(32, 32), "v": normal(32, 32), "yes": np.array(True)}
    used = {k: v for k, v in tensors.items() if k != "yes" or nodes[0].op_type == "If"}
    proto = graph_of([*nodes, tail], used, [32, 32], **more)
    x = RNG.standard_normal((32, 32)).astype(np.float32)
    before = run(proto, x) if "inputs" not in more else None
    module._to_int8(onnx, proto, Path("a.onnx"))
    assert int8_tensors(proto) == {"v"}, "only the weight that is nothing else"
    if before is not None:
        np.testing.assert_array_equal(run(proto, x), before)


def test_small_tensors_stay_float() -> None:
    small, large = normal(MIN_ELEMENTS // 16 - 1, 16), normal(16, MIN_ELEMENTS // 16)
    nodes = [helper.make_node("MatMul", ["x", "s"], ["h"]), helper.make_node("MatMul", ["h", "l"], ["y"])]
    proto = graph_of(nodes, {"s": small, "l": large}, [2, len(small)])
    module._to_int8(onnx, proto, Path("a.onnx"))
    assert int8_tensors(proto) == {"l"}
    with pytest.raises(ArtifactError, match="no fp32 weight"):
        module._to_int8(onnx, graph_of(nodes[:1], {"s": small}, [2, len(small)], ("h",)), Path("a.onnx"))
    vector = graph_of(
        [helper.make_node("MatMul", ["x", "v"], ["y"])], {"v": normal(2 * MIN_ELEMENTS)}, [2, 2 * MIN_ELEMENTS]
    )
    with pytest.raises(ArtifactError, match="no fp32 weight"):
        module._to_int8(onnx, vector, Path("a.onnx"))
    broken = large.copy()
    broken[0, 0] = np.nan
    with pytest.raises(ArtifactError, match="weight l is not finite"):
        module._to_int8(onnx, graph_of(nodes, {"s": small, "l": broken}, [2, len(small)]), Path("a.onnx"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JetNet with weights that tell classes apart on any picture, exported once."""
    torch.manual_seed(0)
    model = create_model("jetnet", len(CLASSES)).eval()
    artifact = replace(describe(model, CLASSES, {"epochs": 3}), verification={"miou": 0.7})
    return export_onnx(model, tmp_path_factory.mktemp("float") / "jetnet.onnx", artifact)


@pytest.fixture(scope="module")
def result(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return quantize_weights(source, tmp_path_factory.mktemp("int8") / "small.onnx", **QUICK)


def test_file_is_a_quarter_and_says_what_it_is(source: Path, result: dict[str, Any]) -> None:
    path = result["path"]
    assert result["bytes"] == path.stat().st_size
    assert result["fp32_bytes"] == source.stat().st_size
    assert result["times_smaller"] == result["fp32_bytes"] / result["bytes"] >= 3.5
    before = read_artifact(source)
    assert before.verification, "else nothing shows that it is cleared"
    training = {"epochs": 3, "weights": "int8 per channel"}
    assert read_artifact(path) == replace(before, training=training, verification={})
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    proto = onnx.load(str(path))
    onnx.checker.check_model(proto, full_check=True)
    assert not proto.graph.value_info, "notes that runtimes do not need"


def test_masks_are_nearly_the_same(source: Path, result: dict[str, Any]) -> None:
    picture = render_street(9, (128, 192))[0]
    logits, expected = (Segmenter(path).session.run(picture[None]) for path in (result["path"], source))
    assert 0 < np.abs(logits - expected).max() < 0.1 * np.abs(expected).max()
    assert 0.9 < result["agreement"] <= 1


def test_onnx_runtime_computes_as_with_the_float_file(source: Path, result: dict[str, Any], tmp_path: Path) -> None:
    """What is left after its optimisation is the same work, so the speed is too."""
    counts = []
    for path in (source, result["path"]):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        options.log_severity_level = 4
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        counts.append(Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node))
    assert counts[0] == counts[1]


def test_summary_tells_the_figures(result: dict[str, Any]) -> None:
    assert result["latency_ms"] > 0
    assert result["fp32_latency_ms"] > 0
    assert "onnxruntime" in result["device"]
    figures = {"times_smaller": 3.79, "fp32_bytes": 9_290_000, "bytes": 2_450_000}
    text = module._summary(figures | {"latency_ms": 21.34, "fp32_latency_ms": 21.06})
    assert text == (
        "3.8 times smaller (9.3 → 2.5 MB); 21.3 ms a frame against 21.1 ms in fp32: weights are stored in 8 bits "
        "and computed in fp32, so it saves space, not time"
    )
    assert "\n" not in result["summary"]


def test_what_cannot_be_quantised(source: Path, result: dict[str, Any], tmp_path: Path) -> None:
    target = tmp_path / "out.onnx"
    with pytest.raises(ArtifactError, match="quantised already"):
        quantize_weights(result["path"], target, **QUICK)
    with pytest.raises(ArtifactError, match="no such file"):
        quantize_weights(tmp_path / "none.onnx", target, **QUICK)
    foreign = tmp_path / "foreign.onnx"
    foreign.write_bytes(graph_of([helper.make_node("Relu", ["x"], ["y"])], {}, [1]).SerializeToString())
    with pytest.raises(ArtifactError, match="metadata"):
        quantize_weights(foreign, target, **QUICK)
    mask = tmp_path / "mask.onnx"
    mask.write_bytes(source.read_bytes())
    write_artifact(mask, replace(read_artifact(source), output="mask"))
    with pytest.raises(ArtifactError, match="gives a mask"):
        quantize_weights(mask, target, **QUICK)
    assert not target.exists()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"path": "out.pth"}, r"ends in \.onnx"),
        ({"path": "jetnet.onnx"}, "fp32 file itself"),
        ({"runs": 0}, "runs is 0"),
        ({"size": (32, 256)}, "size is"),
    ],
)
def test_wrong_arguments(source: Path, tmp_path: Path, options: dict[str, Any], word: str) -> None:
    copy = tmp_path / "jetnet.onnx"
    copy.write_bytes(source.read_bytes())
    with pytest.raises(ConfigError, match=word) as caught:
        quantize_weights(copy, tmp_path / options.pop("path", "out.onnx"), **(QUICK | options))
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["jetnet.onnx"]
    assert copy.read_bytes() == source.read_bytes()


def test_what_fails_late_leaves_the_old_file(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out.onnx"
    target.write_bytes(b"earlier")
    monkeypatch.setattr(module, "_compare", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        quantize_weights(source, target, **QUICK)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("out.onnx", b"earlier")]


def test_needs_onnx(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"Quantising needs: pip install \"featherseg\[train\]\""):
        quantize_weights(source, tmp_path / "out.onnx", **QUICK)
