"""The int8 graph itself: small networks whose integers a few lines of NumPy compute too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from featherseg.compress.graph import FloatGraph
from featherseg.compress.plan import plan
from featherseg.compress.qdq import calibrate, quantize_onnx
from featherseg.core.types import IMAGENET_MEAN
from featherseg.runtime.artifact import read_artifact
from int8_graphs import SCALE, SHIFT, STREETS, Draw, arrays, conv, logits, noise, operators, optimised, write_graph


def test_first_convolution_is_integer_arithmetic_on_the_image_bytes(draw: Draw, tmp_path: Path) -> None:
    """NumPy computes it in int64, with the byte that is nearest to the mean for zero: it is what padding is."""
    kernel, bias, eye = draw(4, 3, 3, 3), draw(4), np.eye(4, dtype=np.float32)[:, :, None, None]
    nodes = [
        conv("add", "stem", "s", pads=[1] * 4),
        helper.make_node("Relu", ["s"], ["r"], "relu"),
        conv("r", "head", "logits", bias=False),
    ]
    tensors = {"stem.weight": kernel, "stem.bias": bias, "head.weight": eye}
    source = write_graph(tmp_path / "float.onnx", nodes, tensors, classes=4)
    path = quantize_onnx(source, tmp_path / "int8.onnx", STREETS)
    image = STREETS[0]

    zero = round(255 * float(np.mean(IMAGENET_MEAN)))
    codes = image.astype(np.int64) - zero
    full = kernel * SCALE * 255
    bias = bias + (kernel * (SHIFT + SCALE * zero)).sum(axis=(1, 2, 3))
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
    left = operators(optimised(path))
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
        assert 0 < noise(plain, exact) < 0.01


def test_the_file_says_what_it_is(residual: Path, tmp_path: Path) -> None:
    path = quantize_onnx(residual, tmp_path / "int8.onnx", STREETS, keep=["mix"], method="minmax")
    before, after = read_artifact(residual), read_artifact(path)
    facts = {"flavour": "onnxruntime", "method": "minmax", "fp32_layers": ["mix"]}
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


def test_pooling_shares_its_inputs_scale(residual: Path) -> None:
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
    assert 0 < noise(rounded, exact) < 0.02
