"""The int8 graph itself: small networks whose integers a few lines of NumPy compute too."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from featherseg.compress.graph import FloatGraph
from featherseg.compress.plan import plan
from featherseg.compress.qdq import calibrate, quantize_onnx
from featherseg.compress.quantize import store_int8
from featherseg.compress.ranges import Histogram
from featherseg.data.synthetic import render_street
from featherseg.errors import ArtifactError, ConfigError, DataError, MissingExtraError
from featherseg.export.onnx import write_artifact
from featherseg.runtime.artifact import Artifact, read_artifact
from featherseg.types import IMAGENET_MEAN, IMAGENET_STD, ClassSet, InputSpec

RNG = np.random.default_rng(0)
STREETS = [render_street(i, (64, 96))[0] for i in range(6)]
SCALE = (1 / (255 * np.array(IMAGENET_STD))).astype(np.float32).reshape(1, 3, 1, 1)
SHIFT = (-np.array(IMAGENET_MEAN) / np.array(IMAGENET_STD)).astype(np.float32).reshape(1, 3, 1, 1)


def weights(*shape: int) -> NDArray[np.float32]:
    return (RNG.standard_normal(shape) * 10.0 ** RNG.uniform(-1, 0.3, (shape[0], *[1] * (len(shape) - 1)))).astype(
        np.float32
    )


def conv(x: str, name: str, out: str, **options: Any) -> Any:
    operator = options.pop("operator", "Conv")
    bias = options.pop("bias", True)
    inputs = [x, f"model.{name}.weight", *[f"model.{name}.bias"] * bias]
    return helper.make_node(operator, inputs, [out], f"node_{name}", **options)


def write(path: Path, nodes: list[Any], tensors: dict[str, NDArray[Any]], classes: int = 3) -> Path:
    """Write nodes that turn ``add`` (the normalised image) into ``logits`` as an exported file."""
    head = [
        helper.make_node("Transpose", ["image"], ["chw"], "t", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["chw"], ["float"], "c", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["mul"], "m"),
        helper.make_node("Add", ["mul", "shift"], ["add"], "a"),
    ]
    stored = {"scale": SCALE, "shift": SHIFT} | {f"model.{k}" if "." in k else k: v for k, v in tensors.items()}
    graph = helper.make_graph(
        [*head, *nodes],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["b", "h", "w", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", classes, "y", "x"])],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    names = tuple(f"c{i}" for i in range(classes))
    write_artifact(path, Artifact(ClassSet(names), InputSpec(), 8, "small", 9, training={"epochs": 3}))
    return path


@pytest.fixture
def residual(tmp_path: Path) -> Path:
    """Conv, ReLU6, conv, sum with the first, ReLU, max-pool, conv to class scores."""
    nodes = [
        conv("add", "stem", "s", pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Clip", ["s", "zero", "six"], ["r"], "clip"),
        conv("r", "body", "y", pads=[1] * 4),
        helper.make_node("Add", ["r", "y"], ["sum"], "node_sum"),
        helper.make_node("Relu", ["sum"], ["rs"], "relu"),
        helper.make_node("MaxPool", ["rs"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        conv("p", "mix", "q", pads=[0] * 4),
        helper.make_node("Relu", ["q"], ["rq"], "relu2"),
        conv("rq", "head", "logits"),
    ]
    tensors = {
        "zero": np.array(0, np.float32),
        "six": np.array(6, np.float32),
        "stem.weight": weights(8, 3, 3, 3),
        "stem.bias": weights(8),
        "body.weight": weights(8, 8, 3, 3) * np.float32(0.2),
        "body.bias": weights(8),
        "mix.weight": weights(6, 8, 1, 1),
        "mix.bias": weights(6),
        "head.weight": weights(3, 6, 1, 1),
        "head.bias": weights(3),
    }
    return write(tmp_path / "float.onnx", nodes, tensors)


def session(path: Path, optimised: Path | None = None, level: str = "ORT_ENABLE_ALL") -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def logits(path: Path, image: NDArray[np.uint8], level: str = "ORT_ENABLE_ALL") -> NDArray[np.float32]:
    result: NDArray[np.float32] = session(path, level=level).run(None, {"image": image[None]})[0]
    return result


def arrays(path: Path) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def test_first_convolution_is_integer_arithmetic_on_the_image_bytes(tmp_path: Path) -> None:
    """NumPy computes it in int64, the shift as a fourth channel; its edge is where padding would go wrong."""
    kernel, bias, eye = weights(4, 3, 3, 3), weights(4), np.eye(4, dtype=np.float32)[:, :, None, None]
    nodes = [
        conv("add", "stem", "s", pads=[1] * 4),
        helper.make_node("Relu", ["s"], ["r"], "relu"),
        conv("r", "head", "logits", bias=False),
    ]
    tensors = {"stem.weight": kernel, "stem.bias": bias, "head.weight": eye}
    source = write(tmp_path / "float.onnx", nodes, tensors, classes=4)
    path = quantize_onnx(source, tmp_path / "int8.onnx", STREETS)
    image = STREETS[0]

    codes = np.concatenate([image, np.full((*image.shape[:2], 1), 255, np.uint8)], axis=2).astype(np.int64)
    full = np.concatenate([kernel * SCALE * 255, (kernel * SHIFT).sum(axis=1, keepdims=True)], axis=1)
    steps = np.abs(full).max(axis=(1, 2, 3)) / 127
    integers = np.rint(full / steps[:, None, None, None]).astype(np.int64)
    padded = np.pad(codes, ((1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
    sums = (
        np.einsum("hwcij,ocij->ohw", windows, integers) + np.rint(bias / (steps / 255)).astype(np.int64)[:, None, None]
    )
    values = np.maximum(sums * (steps / 255)[:, None, None], 0)
    step = float(arrays(path)["r_scale"])
    expected = np.clip(np.rint(values / step), 0, 255) * step
    difference = np.abs(logits(path, image)[0] - expected)
    assert difference.max() <= step * 1.01, "a value on the edge of two codes may fall to either"
    assert (difference > step / 2).mean() < 0.002
    exact = logits(source, image)[0]
    assert np.abs(expected - exact)[:, 0].mean() < 2 * np.abs(expected - exact)[:, 20].mean() + step, "edge as inside"


def test_nothing_is_left_between_a_layer_and_its_activation(residual: Path, tmp_path: Path) -> None:
    path = quantize_onnx(residual, tmp_path / "int8.onnx", STREETS)
    graph = onnx.load(path).graph
    producer = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type in ("Relu", "Clip"):
            assert producer[node.input[0]].op_type in ("Conv", "Add")
    session(path, tmp_path / "optimised.onnx")
    left = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert left["QLinearConv"] == 3
    assert left["QLinearAdd"] == 1
    assert left["Conv"] + left["FusedConv"] == 1, "the class scores'"
    assert not {"Relu", "Clip", "Cast", "Mul"} & set(left), "fused, and the image stays bytes"


def test_fused_kernels_give_what_the_graph_says(residual: Path, tmp_path: Path) -> None:
    path = quantize_onnx(residual, tmp_path / "int8.onnx", STREETS)
    for image in STREETS[:2]:
        fused, plain = logits(path, image), logits(path, image, "ORT_DISABLE_ALL")
        exact = logits(residual, image)
        assert np.abs(fused - plain).mean() < 0.1 * np.abs(exact - plain).mean()
        noise = ((plain - exact) ** 2).mean() / exact.var()
        assert 0 < noise < 0.01


def test_the_file_says_what_it_is(residual: Path, tmp_path: Path) -> None:
    path = quantize_onnx(residual, tmp_path / "int8.onnx", STREETS, keep=["mix"], method="minmax")
    before, after = read_artifact(residual), read_artifact(path)
    facts = {"flavour": "onnxruntime", "method": "minmax", "float_layers": ["mix"]}
    assert after.training == {"epochs": 3, "weights": "int8 QDQ", "quantization": facts}
    assert after.verification == {}
    assert (after.classes, after.stride, after.network) == (before.classes, before.stride, before.network)
    onnx.checker.check_model(onnx.load(path), full_check=True)


def test_ranges_are_those_of_onnx_runtimes_own_tool(residual: Path, tmp_path: Path) -> None:
    """Its quantiser as the oracle for scales and zero points of smallest and largest values."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.images = iter(STREETS)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            image = next(self.images, None)
            return None if image is None else {"image": image[None]}

    types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(str(residual), str(tmp_path / "theirs.onnx"), Reader(), per_channel=True, **types)
    theirs = arrays(tmp_path / "theirs.onnx")
    ours = arrays(quantize_onnx(residual, tmp_path / "ours.onnx", STREETS, method="minmax"))
    for name in ("r", "y", "rs", "rq"):
        np.testing.assert_allclose(ours[f"{name}_scale"], theirs[f"{name}_scale"], rtol=1e-5)
        assert int(ours[f"{name}_zero"]) == pytest.approx(int(theirs[f"{name}_zero_point"]), abs=1)
    np.testing.assert_array_equal(ours["model.body.weight_q"], theirs["model.body.weight_quantized"])


def test_pooling_shares_its_inputs_scale(residual: Path, tmp_path: Path) -> None:
    whole = plan(FloatGraph(residual), "onnxruntime")
    assert whole.roots["p"] == "rs"
    assert list(whole.layers) == ["stem", "body", "mix"]
    assert list(whole.nodes) == ["stem", "body", "node_sum", "pool", "mix"]
    assert whole.image is not None
    assert "p" not in calibrate(whole, STREETS)


def test_tensorrt_gets_symmetric_codes_and_its_fused_sum(residual: Path, tmp_path: Path) -> None:
    path = quantize_onnx(residual, tmp_path / "int8.onnx", STREETS, flavour="tensorrt")
    graph, stored = onnx.load(path).graph, arrays(path)
    zeros = {node.input[2] for node in graph.node if node.op_type.endswith("Linear") and len(node.input) > 2}
    assert zeros
    assert all(stored[name].dtype == np.int8 and not stored[name].any() for name in zeros)
    assert {"model.stem.bias", "model.body.bias", "model.mix.bias"} <= set(stored), "float, as they were"
    sum_node = next(node for node in graph.node if node.op_type == "Add" and node.name == "node_sum")
    assert set(sum_node.input) == {"r_dq", "y"}, "the convolution's own output is not rounded before its sum"
    inputs = {node.name: node.input[0] for node in graph.node if node.op_type == "Conv"}
    assert inputs == {"node_stem": "add_dq", "node_body": "r_dq", "node_mix": "p_dq", "node_head": "rq"}
    exact, rounded = logits(residual, STREETS[0]), logits(path, STREETS[0])
    assert 0 < ((rounded - exact) ** 2).mean() / exact.var() < 0.02


def test_transposed_convolutions_have_their_channels_second(tmp_path: Path) -> None:
    tensors = {
        "stem.weight": weights(4, 3, 3, 3),
        "up.weight": weights(5, 4, 2, 2).transpose(1, 0, 2, 3).copy(),
        "up.bias": weights(5),
        "head.weight": weights(3, 5, 1, 1),
    }
    nodes = [
        conv("add", "stem", "s", bias=False, pads=[1] * 4),
        helper.make_node("Relu", ["s"], ["r"], "relu"),
        conv("r", "up", "u", operator="ConvTranspose", strides=[2, 2]),
        conv("u", "head", "logits", bias=False),
    ]
    source = write(tmp_path / "float.onnx", nodes, tensors)
    stored = arrays(quantize_onnx(source, tmp_path / "trt.onnx", STREETS, flavour="tensorrt"))
    assert stored["model.up.weight_scale"].shape == (5,)
    assert stored["model.up.weight_q"].dtype == np.int8
    restored = stored["model.up.weight_q"] * stored["model.up.weight_scale"][:, None, None]
    np.testing.assert_allclose(restored, tensors["up.weight"], atol=stored["model.up.weight_scale"].max() / 2)
    assert "up" not in plan(FloatGraph(source), "onnxruntime").layers, "which has no integer kernel for it"


def test_layers_that_share_a_weight_keep_biases_of_their_own(tmp_path: Path) -> None:
    nodes = [
        conv("add", "stem", "s", pads=[1] * 4),
        helper.make_node("Relu", ["s"], ["r"], "relu"),
        conv("r", "body", "y", pads=[1] * 4),
        helper.make_node("Conv", ["y", "model.body.weight", "model.body.bias"], ["z"], "node_again", pads=[1] * 4),
        conv("z", "head", "logits"),
    ]
    tensors = {"stem.weight": weights(4, 3, 3, 3), "stem.bias": weights(4), "body.bias": weights(4)}
    tensors |= {"body.weight": weights(4, 4, 3, 3), "head.weight": weights(3, 4, 1, 1), "head.bias": weights(3)}
    source = write(tmp_path / "float.onnx", nodes, tensors)
    path = quantize_onnx(source, tmp_path / "int8.onnx", STREETS)
    exact, rounded = logits(source, STREETS[0]), logits(path, STREETS[0])
    assert ((rounded - exact) ** 2).mean() / exact.var() < 0.02
    session(path, tmp_path / "optimised.onnx")
    left = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert left["QLinearConv"] == 3
    again = quantize_onnx(source, path, STREETS, keep=["node_again"])
    assert read_artifact(again).training["quantization"]["float_layers"] == ["node_again"]


def test_graphs_with_branches_are_refused(residual: Path, tmp_path: Path) -> None:
    proto = onnx.load(residual)
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    inner = helper.make_graph([helper.make_node("Identity", ["add"], ["o"])], "inner", [], [out])
    proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    proto.graph.node.append(helper.make_node("If", ["yes"], ["w"], then_branch=inner, else_branch=inner))
    onnx.save(proto, residual)
    with pytest.raises(ArtifactError, match="branches or loops"):
        quantize_onnx(residual, tmp_path / "int8.onnx", STREETS)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("keep", [["stem"], ["body"], ["mix"], ["st*", "body"], ["*"]])
def test_kept_layers_stay_float(residual: Path, tmp_path: Path, keep: list[str], biased: bool) -> None:
    """ONNX Runtime itself would round a float convolution that lies between two integers, and worse than we do."""
    if not biased:
        proto = onnx.load(residual)
        for node in proto.graph.node:
            del node.input[2 : 2 + (node.op_type == "Conv")]
        onnx.save(proto, residual)
    path = quantize_onnx(residual, tmp_path / "int8.onnx", STREETS, keep=keep)
    kept = ["stem", "body", "mix"] if keep == ["*"] else [name.replace("st*", "stem") for name in keep]
    assert read_artifact(path).training["quantization"]["float_layers"] == kept
    session(path, tmp_path / "optimised.onnx")
    optimised = onnx.load(tmp_path / "optimised.onnx")
    left = Counter(node.op_type for node in optimised.graph.node)
    assert left["QLinearConv"] == 3 - len(kept)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in optimised.graph.initializer}
    integers = [values for values in stored.values() if values.dtype == np.int8 and values.ndim == 4]
    assert len(integers) == 3 - len(kept)
    exact = logits(residual, STREETS[0])
    rounded = logits(path, STREETS[0])
    noise = ((rounded - exact) ** 2).mean() / exact.var()
    if len(kept) == 3:
        np.testing.assert_allclose(rounded, exact, rtol=1e-4, atol=1e-4 * np.abs(exact).max())
    assert noise < 0.01


def test_keep_names_what_there_is(residual: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'stam'.*did you mean \"stem\"") as caught:
        quantize_onnx(residual, tmp_path / "int8.onnx", STREETS, keep=["stam"])
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="'head'"):
        quantize_onnx(residual, tmp_path / "int8.onnx", STREETS, keep=["head"])


def test_seven_bits_for_old_processors(residual: Path, tmp_path: Path) -> None:
    stored = arrays(quantize_onnx(residual, tmp_path / "int8.onnx", STREETS, reduce_range=True))
    codes = stored["model.body.weight_q"]
    assert np.abs(codes).max() == 63
    restored = codes * stored["model.body.weight_scale"][:, None, None, None]
    half = stored["model.body.weight_scale"].max() / 2 * 1.001
    np.testing.assert_allclose(restored, arrays(residual)["model.body.weight"], atol=half)


def test_one_calibration_serves_many_files(residual: Path, tmp_path: Path) -> None:
    table = calibrate(plan(FloatGraph(residual), "onnxruntime"), STREETS)
    for keep in ((), ("body",), ("stem", "mix")):
        ours = quantize_onnx(residual, tmp_path / "a.onnx", table, keep=keep)
        again = quantize_onnx(residual, tmp_path / "b.onnx", STREETS, keep=keep)
        assert ours.read_bytes() == again.read_bytes()


def test_leaky_relu_is_integer_and_prelu_stays_float(tmp_path: Path) -> None:
    nodes = [
        conv("add", "stem", "s", pads=[1] * 4),
        helper.make_node("LeakyRelu", ["s"], ["r"], "leaky", alpha=0.25),
        conv("r", "body", "y", pads=[1] * 4),
        helper.make_node("PRelu", ["y", "slopes"], ["z"], "prelu2"),
        conv("z", "head", "logits"),
    ]
    tensors = {"stem.weight": weights(4, 3, 3, 3), "stem.bias": weights(4), "body.bias": weights(4)}
    tensors |= {"body.weight": weights(4, 4, 3, 3), "head.weight": weights(3, 4, 1, 1), "head.bias": weights(3)}
    tensors |= {"slopes": RNG.random((4, 1, 1)).astype(np.float32)}
    source = write(tmp_path / "float.onnx", nodes, tensors)
    path = quantize_onnx(source, tmp_path / "int8.onnx", STREETS)
    session(path, tmp_path / "optimised.onnx")
    left = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert (left["QLinearLeakyRelu"], left["PRelu"]) == (1, 1)
    exact, rounded = logits(source, STREETS[0]), logits(path, STREETS[0])
    assert ((rounded - exact) ** 2).mean() / exact.var() < 0.02


def test_an_image_that_more_than_convolutions_read_is_rounded(tmp_path: Path) -> None:
    nodes = [
        conv("add", "stem", "s", pads=[1] * 4, strides=[2, 2]),
        helper.make_node("MaxPool", ["add"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Concat", ["s", "p"], ["cat"], "node_cat", axis=1),
        conv("cat", "body", "y"),
        conv("y", "head", "logits"),
    ]
    tensors = {"stem.weight": weights(4, 3, 3, 3), "stem.bias": weights(4), "body.bias": weights(4)}
    tensors |= {"body.weight": weights(4, 7, 1, 1), "head.weight": weights(3, 4, 1, 1), "head.bias": weights(3)}
    source = write(tmp_path / "float.onnx", nodes, tensors)
    assert plan(FloatGraph(source), "onnxruntime").image is None
    path = quantize_onnx(source, tmp_path / "int8.onnx", STREETS)
    exact, rounded = logits(source, STREETS[0]), logits(path, STREETS[0])
    assert ((rounded - exact) ** 2).mean() / exact.var() < 0.02


def test_what_cannot_be_quantised(residual: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out.onnx"
    noise = list(RNG.integers(0, 256, (4, 64, 96, 3), dtype=np.uint8))
    with pytest.raises(DataError, match="random noise"):
        quantize_onnx(residual, target, noise)
    with pytest.raises(ConfigError, match='did you mean "tensorrt"'):
        quantize_onnx(residual, target, STREETS, flavour="tensort")
    with pytest.raises(ConfigError, match="method is 'kl'"):
        quantize_onnx(residual, target, STREETS, method="kl")
    with pytest.raises(ConfigError, match="float32 file itself"):
        quantize_onnx(residual, residual, STREETS)
    with pytest.raises(ConfigError, match=r"ends in \.onnx"):
        quantize_onnx(residual, tmp_path / "out.xml", STREETS)
    with pytest.raises(ArtifactError, match="no such file"):
        quantize_onnx(tmp_path / "none.onnx", target, STREETS)
    quantised = quantize_onnx(residual, tmp_path / "int8.onnx", STREETS)
    with pytest.raises(ArtifactError, match="quantised or in 16 bits already"):
        quantize_onnx(quantised, target, STREETS)
    mask = tmp_path / "mask.onnx"
    mask.write_bytes(residual.read_bytes())
    write_artifact(mask, Artifact(ClassSet(("a",)), InputSpec(), 8, "small", 9, output="mask"))
    with pytest.raises(ArtifactError, match="gives a mask"):
        quantize_onnx(mask, target, STREETS)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"Quantising needs: pip install \"featherseg\[train\]\""):
        quantize_onnx(residual, target, STREETS)
    assert not target.exists()


def test_weight_only_int8_files_are_not_quantised_again(tmp_path: Path) -> None:
    nodes = [conv("add", "stem", "s", bias=False), conv("s", "head", "logits", bias=False)]
    tensors = {"stem.weight": weights(64, 3, 3, 3), "head.weight": weights(3, 64, 1, 1)}
    source = write(tmp_path / "float.onnx", nodes, tensors)
    store_int8(source, tmp_path / "small.onnx")
    with pytest.raises(ArtifactError, match="already"):
        quantize_onnx(tmp_path / "small.onnx", tmp_path / "out.onnx", STREETS)


def test_networks_without_layers_or_with_broken_weights(tmp_path: Path) -> None:
    single = write(
        tmp_path / "single.onnx", [conv("add", "head", "logits", bias=False)], {"head.weight": weights(3, 3, 1, 1)}
    )
    with pytest.raises(ArtifactError, match="has no Conv to quantise"):
        quantize_onnx(single, tmp_path / "out.onnx", STREETS)
    broken = weights(4, 3, 1, 1)
    broken[0] = np.nan
    nodes = [conv("add", "stem", "s", bias=False), conv("s", "head", "logits", bias=False)]
    source = write(tmp_path / "b.onnx", nodes, {"stem.weight": broken, "head.weight": weights(3, 4, 1, 1)})
    with pytest.raises(ArtifactError, match="calibration image 1, tensor s: values are not finite"):
        quantize_onnx(source, tmp_path / "out.onnx", STREETS)
    table = dict.fromkeys(("add", "s"), Histogram())
    with pytest.raises(ArtifactError, match=r"weight model\.stem\.weight is not finite"):
        quantize_onnx(source, tmp_path / "out.onnx", table)
    assert not (tmp_path / "out.onnx").exists()


def test_dead_channels_and_large_biases(tmp_path: Path) -> None:
    """A channel without weights has only its bias, which its own scale could not hold."""
    kernel, bias = weights(4, 3, 3, 3), weights(4)
    kernel[1], kernel[2] = 0, 1e-30
    bias[1], bias[2] = 5, 0.5
    tensors = {"stem.weight": kernel, "stem.bias": bias, "head.weight": np.eye(4, dtype=np.float32)[:, :, None, None]}
    nodes = [conv("add", "stem", "s"), conv("s", "head", "logits", bias=False)]
    source = write(tmp_path / "float.onnx", nodes, tensors, classes=4)
    rounded = logits(quantize_onnx(source, tmp_path / "int8.onnx", STREETS), STREETS[0])[0]
    step = float(arrays(tmp_path / "int8.onnx")["s_scale"])
    np.testing.assert_allclose(rounded[1], 5, atol=step)
    np.testing.assert_allclose(rounded[2], 0.5, atol=step)
