from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from featherseg.compress.weights_int8 import _to_int8
from featherseg.core.errors import ArtifactError, ConfigError, MissingExtraError
from featherseg.core.types import ClassSet, InputSpec
from featherseg.exporting import tensorrt as module
from featherseg.exporting.fixed import fix_size
from featherseg.exporting.tensorrt import build_engine
from featherseg.runtime.artifact import Artifact, read_artifact
from featherseg.runtime.containers import read_companion

CLASSES = ClassSet(("a", "b", "c", "d"))
ARTIFACT = Artifact(CLASSES, InputSpec(), 4, "hand", 1, {"epochs": 2}, {"agreement": 1.0})


def network(path: Path, nodes: list[Any] | None = None, **tensors: NDArray[Any]) -> Path:
    """Write a file of ours with all that the conversions treat in its own way: a sum, a resize, a bound, a constant."""
    rng = np.random.default_rng(0)
    stored: dict[str, NDArray[Any]] = {
        "w1": rng.standard_normal((24, 3, 5, 5)).astype(np.float32) / 9,
        "w2": rng.standard_normal((4, 24, 3, 3)).astype(np.float32) / 9,
        "zero": np.array(0, np.float32),
        "most": np.array(3.4e38, np.float32),
        "axes": np.array([2, 3], np.int64),
        "grow": np.array([1, 1, 1.3, 1.3], np.float32),
        "scale": np.array(1 / 64, np.float32),
    }
    body = [
        helper.make_node("Transpose", ["image"], ["chw"], "turn", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["chw"], ["float"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"], "scaling"),
        helper.make_node("Conv", ["scaled", "w1"], ["one"], "conv1", strides=[4, 4], pads=[2, 2, 2, 2]),
        helper.make_node("Clip", ["one", "zero", "most"], ["bound"], "clip"),
        helper.make_node("ReduceMean", ["bound", "axes"], ["mean"], "pool"),
        helper.make_node("Add", ["bound", "mean"], ["sum"], "add"),
        helper.make_node("Resize", ["sum", "", "grow"], ["large"], "resize", mode="linear"),
        helper.make_node(
            "Constant", [], ["half"], "constant", value=numpy_helper.from_array(np.array([0.5], np.float32))
        ),
        helper.make_node("Mul", ["large", "half"], ["halved"], "halve"),
        helper.make_node("Conv", ["halved", "w2"], ["logits"], "conv2", pads=[1, 1, 1, 1]),
    ]
    stored |= tensors
    ports = [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", "height", "width", 3])]
    ends = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4, "h", "w"])]
    chosen = body if nodes is None else nodes
    used = {name for node in chosen for name in node.input}
    initializers = [numpy_helper.from_array(np.asarray(v), name) for name, v in stored.items() if name in used]
    graph = helper.make_graph(chosen, "net", ports, ends, initializers)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(proto, ARTIFACT.to_metadata())
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.fixture
def hand(tmp_path: Path) -> Path:
    return network(tmp_path / "net.onnx")


def run(proto: Any) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(1).integers(0, 256, (2, 64, 96, 3), np.uint8)
    result: NDArray[np.float32] = session.run(None, {"image": image})[0]
    return result


def prepared(path: Path, precision: str) -> Any:
    return module._prepare(onnx, onnx.load(str(path)), path, precision)


def types_of(proto: Any) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(proto, strict_mode=True).graph
    return {port.name: port.type.tensor_type.elem_type for port in (*graph.value_info, *graph.input, *graph.output)}


def test_full_precision_graph_computes_the_same(hand: Path) -> None:
    proto = prepared(hand, "fp32")
    np.testing.assert_array_equal(run(proto), run(onnx.load(str(hand))))
    readers = {node.op_type for node in proto.graph.node if "image" in node.input}
    assert readers == {"Cast"}, "TensorRT takes uint8 into no other operator"
    assert TensorProto.FLOAT16 not in types_of(proto).values()


def test_half_precision_graph(hand: Path) -> None:
    proto = prepared(hand, "fp16")
    types = types_of(proto)
    assert types["image"] == TensorProto.UINT8
    assert types["logits"] == TensorProto.FLOAT
    nodes = {node.name: node for node in proto.graph.node}
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    for name in ("conv1", "conv2"):
        assert types[nodes[name].input[0]] == types[nodes[name].output[0]] == TensorProto.FLOAT16
        assert stored[nodes[name].input[1]].data_type == TensorProto.FLOAT16
    assert types[nodes["pool"].input[0]] == types[nodes["pool"].output[0]] == TensorProto.FLOAT
    np.testing.assert_array_equal(
        numpy_helper.to_array(stored[nodes["resize"].input[2]]), np.array([1, 1, 1.3, 1.3], np.float32)
    )
    assert "w1" not in stored, "the fp32 weight is left in the graph"
    expected, logits = run(onnx.load(str(hand))), run(proto)
    assert logits.dtype == np.float32
    assert 0 < np.abs(logits - expected).max() < 5e-3 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("tensors", "precision", "word"),
    [
        ({"w1": np.full((24, 3, 5, 5), 7e4, np.float32)}, "fp16", "tensor w1 has values that float16 cannot hold"),
        ({"w1": np.full((24, 3, 5, 5), np.nan, np.float32)}, "fp16", "tensor w1"),
    ],
)
def test_what_float16_cannot_hold(tmp_path: Path, tensors: dict[str, Any], precision: str, word: str) -> None:
    path = network(tmp_path / "net.onnx", **tensors)
    with pytest.raises(ArtifactError, match=word):
        prepared(path, precision)
    prepared(path, "fp32")


def test_sizes_reckoned_in_floats_are_refused_in_half(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["image"], ["shape"], "shape"),
        helper.make_node("Cast", ["shape"], ["sizes"], "sizes", to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["sizes", "form"], ["logits"]),
    ]
    path = network(tmp_path / "net.onnx", nodes, form=np.array([1, 4, 1, 1], np.int64))
    with pytest.raises(ArtifactError, match="node sizes reckons sizes"):
        prepared(path, "fp16")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_faulty_graph_is_one_line(tmp_path: Path, precision: str) -> None:
    path = network(tmp_path / "net.onnx", [helper.make_node("Transpose", ["image"], ["logits"], perm=[0, 3, 1])])
    with pytest.raises(ArtifactError, match=f"faulty in {precision}") as caught:
        prepared(path, precision)
    assert "\n" not in str(caught.value)


def test_weights_stored_in_int8_are_turned_back(hand: Path) -> None:
    proto = onnx.load(str(hand))
    _to_int8(onnx, proto, hand)
    assert any(tensor.data_type == TensorProto.INT8 for tensor in proto.graph.initializer)
    expected = run(proto)
    folded = module._prepare(onnx, proto, hand, "fp32")
    assert not any(tensor.data_type == TensorProto.INT8 for tensor in folded.graph.initializer)
    assert Counter(node.op_type for node in folded.graph.node) == Counter(
        node.op_type for node in prepared(hand, "fp32").graph.node
    )
    np.testing.assert_allclose(run(folded), expected, rtol=1e-5, atol=1e-5)


class Recorder:
    """A module that looks like TensorRT and notes what is asked of it."""

    def __init__(self, engine: bytes | None = b"engine", errors: tuple[Any, ...] = (), gpu: bool = True) -> None:
        calls = self.calls = []  # type: list[tuple[Any, ...]]

        class ILogger:
            ERROR, WARNING = 1, 2

        class Config:
            def clear_flag(self, flag: str) -> None:
                calls.append(("clear_flag", flag))

            def create_timing_cache(self, content: bytes) -> bytes:
                return content

            def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
                calls.append(("set_timing_cache", cache))
                assert not ignore_mismatch
                return cache != b"of another GPU"

            def get_timing_cache(self) -> Any:
                return SimpleNamespace(serialize=lambda: memoryview(b"timings"))

            def add_optimization_profile(self, profile: Any) -> int:
                calls.append(("add_optimization_profile", profile))
                return 0

        class Builder:
            def __init__(self, log: Any) -> None:
                self.log = log
                if not gpu:
                    log.log(1, "CUDA initialization failure with error: 35")
                    raise TypeError("factory function returned nullptr")

            def create_network(self, flags: int) -> str:
                calls.append(("create_network", flags))
                return "network"

            def create_builder_config(self) -> Config:
                return Config()

            def create_optimization_profile(self) -> Any:
                return SimpleNamespace(set_shape=lambda *shapes: calls.append(("set_shape", *shapes)))

            def build_serialized_network(self, network: str, config: Config) -> memoryview | None:
                calls.append(("build", network))
                self.log.log(2, "a warning")
                self.log.log(1, "no tactic for conv1\nsecond line")
                return None if engine is None else memoryview(engine)

        class OnnxParser:
            num_errors = len(errors)

            def __init__(self, network: str, log: Any) -> None:
                assert network == "network"

            def parse(self, content: bytes) -> bool:
                calls.append(("parse", onnx.load_model_from_string(content)))
                return not errors

            def get_error(self, i: int) -> Any:
                return errors[i]

        self.module = ModuleType("tensorrt_rtx")
        self.module.__dict__.update(
            __version__="1.0",
            ILogger=ILogger,
            Builder=Builder,
            OnnxParser=OnnxParser,
            BuilderFlag=SimpleNamespace(TF32="tf32"),
            NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1),
        )

    def named(self, name: str) -> list[Any]:
        return [call[1:] for call in self.calls if call[0] == name]


def install(monkeypatch: pytest.MonkeyPatch, recorder: Recorder, name: str = "tensorrt_rtx") -> Recorder:
    for other in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, other, recorder.module if other == name else None)
    recorder.module.__name__ = name
    return recorder


def node_error(desc: str, code: str, name: str = "det") -> Any:
    return SimpleNamespace(
        desc=lambda: desc,
        code=lambda: SimpleNamespace(name=code),
        node=lambda: 7,
        node_name=lambda: name,
        node_operator=lambda: "Det",
    )


@pytest.mark.parametrize("package", ["tensorrt", "tensorrt_rtx"])
def test_calls(hand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    trt = install(monkeypatch, Recorder(), package)
    target = tmp_path / "new" / "model.engine"
    assert build_engine(hand, target, opt_size=(128, 256), max_batch=4) == target
    assert target.read_bytes() == b"engine"
    assert sorted(p.name for p in target.parent.iterdir()) == ["model.engine", "model.engine.json"]
    assert read_artifact(target) == replace(ARTIFACT, verification={})
    assert read_companion(target)["built_with"] == f"{package} 1.0, fp16"
    assert trt.named("create_network") == [(2,)], "strongly typed"
    assert trt.named("set_shape") == [("image", (1, 64, 64, 3), (1, 128, 256, 3), (4, 1088, 2048, 3))]
    assert len(trt.named("add_optimization_profile")) == len(trt.named("build")) == 1
    assert trt.named("clear_flag") == []
    (parsed,) = trt.named("parse")[0]
    assert TensorProto.FLOAT16 in types_of(parsed).values()


def test_full_precision_is_without_tf32(hand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = install(monkeypatch, Recorder())
    build_engine(hand, tmp_path / "a.engine", precision="fp32")
    assert trt.named("clear_flag") == [("tf32",)]
    (parsed,) = trt.named("parse")[0]
    assert TensorProto.FLOAT16 not in types_of(parsed).values()


def test_int8_needs_a_quantised_file(hand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = install(monkeypatch, Recorder())
    with pytest.raises(ConfigError, match="no QuantizeLinear") as caught:
        build_engine(hand, tmp_path / "a.engine", precision="int8")
    assert "\n" not in str(caught.value)
    step = np.array(1 / 64, np.float32)
    pair = [
        helper.make_node("Transpose", ["image"], ["chw"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["chw"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("QuantizeLinear", ["float", "step", "none"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "none"], ["d"]),
        helper.make_node("Conv", ["d", "w"], ["logits"]),
    ]
    weight = np.ones((4, 3, 1, 1), np.float32)
    quantized = network(tmp_path / "q.onnx", pair, step=step, none=np.array(0, np.int8), w=weight)
    build_engine(quantized, tmp_path / "a.engine", precision="int8")
    assert len(trt.named("build")) == 1
    for precision in ("fp16", "fp32"):
        with pytest.raises(ConfigError, match=f"none of {precision}; give precision int8"):
            build_engine(quantized, tmp_path / "b.engine", precision=precision)


def test_timing_cache(hand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = install(monkeypatch, Recorder(), "tensorrt")
    cache = tmp_path / "new" / "timings"
    for known in (b"", b"timings"):
        build_engine(hand, tmp_path / "a.engine", timing_cache=cache)
        assert trt.named("set_timing_cache")[-1] == (known,)
        assert cache.read_bytes() == b"timings"
    cache.write_bytes(b"of another GPU")
    with pytest.raises(ConfigError, match="is not of this GPU"):
        build_engine(hand, tmp_path / "b.engine", timing_cache=cache)
    assert not (tmp_path / "b.engine").exists()
    build_engine(hand, tmp_path / "b.engine")
    assert len(trt.named("set_timing_cache")) == 3
    install(monkeypatch, Recorder())
    with pytest.raises(ConfigError, match="tensorrt_rtx times nothing"):
        build_engine(hand, tmp_path / "c.engine", timing_cache=cache)


def test_file_of_one_size(hand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = install(monkeypatch, Recorder())
    fixed = fix_size(hand, tmp_path / "fixed.onnx", (96, 128))
    build_engine(fixed, tmp_path / "a.engine", max_batch=2, opt_size=(96, 128))
    assert trt.named("set_shape") == [("image", (1, 96, 128, 3), (1, 96, 128, 3), (2, 96, 128, 3))]
    with pytest.raises(ConfigError, match=r"max_size is \(512, 512\), but the file takes 96x128 alone"):
        build_engine(fixed, tmp_path / "b.engine", max_size=(512, 512))


@pytest.mark.parametrize(
    ("recorder", "kind", "message"),
    [
        (
            Recorder(errors=(node_error("Invalid Node - det\nDet: no\nmore", "INVALID_NODE"),)),
            ArtifactError,
            "TensorRT refuses node det (Det: invalid node: Det: no); try",
        ),
        (
            Recorder(errors=(node_error("false", "UNSUPPORTED_NODE", ""), node_error("x", "y"))),
            ArtifactError,
            "TensorRT refuses node 7 (Det: unsupported node); try",
        ),
        (Recorder(engine=None), ArtifactError, "TensorRT cannot build it (no tactic for conv1); try"),
        (
            Recorder(gpu=False),
            ConfigError,
            "tensorrt_rtx 1.0 cannot build engines on this machine (CUDA initialization failure with error: 35); build",
        ),
    ],
)
def test_what_tensorrt_says(
    hand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorder: Recorder, kind: type, message: str
) -> None:
    install(monkeypatch, recorder)
    old = tmp_path / "a.engine"
    old.write_bytes(b"earlier")
    with pytest.raises(kind) as caught:
        build_engine(hand, old)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert old.read_bytes() == b"earlier"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.engine", "net.onnx"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"precision": "fp61"}, 'did you mean "fp16"'),
        ({"path": "a.onnx"}, "call it a.engine"),
        ({"path": "a.plan"}, "call it a.engine"),
        ({"min_size": (32, 64)}, "min_size"),
        ({"opt_size": (2000, 1024)}, "do not rise"),
        ({"max_size": (512, 1000)}, "do not rise"),
        ({"max_batch": 0}, "max_batch"),
    ],
)
def test_wrong_arguments(hand: Path, tmp_path: Path, options: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        build_engine(hand, tmp_path / options.pop("path", "a.engine"), **options)


def test_what_is_missing(hand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r'Building a TensorRT engine needs: pip install "featherseg\[tensorrt'):
        build_engine(hand, tmp_path / "a.engine")
    with pytest.raises(ArtifactError, match="no such file"):
        build_engine(tmp_path / "none.onnx", tmp_path / "a.engine")
