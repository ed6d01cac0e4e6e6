"""Layers out of the ordinary in int8: transposed, leaky, dead, with a shared weight or a shared image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import helper

from featherseg.compress.graph import FloatGraph
from featherseg.compress.plan import plan
from featherseg.compress.qdq import quantize_onnx
from featherseg.runtime.artifact import read_artifact
from int8_graphs import STREETS, Draw, arrays, conv, logits, noise, operators, optimised, write_graph


def test_transposed_convolutions_have_their_channels_second(draw: Draw, tmp_path: Path) -> None:
    tensors = {
        "stem.weight": draw(4, 3, 3, 3),
        "up.weight": draw(5, 4, 2, 2).transpose(1, 0, 2, 3).copy(),
        "up.bias": draw(5),
        "head.weight": draw(3, 5, 1, 1),
    }
    nodes = [
        conv("add", "stem", "s", bias=False, pads=[1] * 4),
        helper.make_node("Relu", ["s"], ["r"], "relu"),
        conv("r", "up", "u", operator="ConvTranspose", strides=[2, 2]),
        conv("u", "head", "logits", bias=False),
    ]
    source = write_graph(tmp_path / "float.onnx", nodes, tensors)
    stored = arrays(quantize_onnx(source, tmp_path / "trt.onnx", STREETS, flavour="tensorrt"))
    assert stored["model.up.weight_scale"].shape == (5,)
    assert stored["model.up.weight_q"].dtype == np.int8
    restored = stored["model.up.weight_q"] * stored["model.up.weight_scale"][:, None, None]
    np.testing.assert_allclose(restored, tensors["up.weight"], atol=stored["model.up.weight_scale"].max() / 2)
    assert "up" not in plan(FloatGraph(source), "onnxruntime").layers, "which has no integer kernel for it"


def test_layers_that_share_a_weight_keep_biases_of_their_own(draw: Draw, tmp_path: Path) -> None:
    nodes = [
        conv("add", "stem", "s", pads=[1] * 4),
        helper.make_node("Relu", ["s"], ["r"], "relu"),
        conv("r", "body", "y", pads=[1] * 4),
        helper.make_node("Conv", ["y", "model.body.weight", "model.body.bias"], ["z"], "node_again", pads=[1] * 4),
        conv("z", "head", "logits"),
    ]
    tensors = {"stem.weight": draw(4, 3, 3, 3), "stem.bias": draw(4), "body.bias": draw(4)}
    tensors |= {"body.weight": draw(4, 4, 3, 3), "head.weight": draw(3, 4, 1, 1), "head.bias": draw(3)}
    source = write_graph(tmp_path / "float.onnx", nodes, tensors)
    path = quantize_onnx(source, tmp_path / "int8.onnx", STREETS)
    exact, rounded = logits(source, STREETS[0]), logits(path, STREETS[0])
    assert noise(rounded, exact) < 0.02
    assert operators(optimised(path))["QLinearConv"] == 3
    again = quantize_onnx(source, path, STREETS, keep=["node_again"])
    assert read_artifact(again).training["quantization"]["fp32_layers"] == ["node_again"]


def test_leaky_relu_is_integer_and_prelu_stays_float(draw: Draw, tmp_path: Path) -> None:
    nodes = [
        conv("add", "stem", "s", pads=[1] * 4),
        helper.make_node("LeakyRelu", ["s"], ["r"], "leaky", alpha=0.25),
        conv("r", "body", "y", pads=[1] * 4),
        helper.make_node("PRelu", ["y", "slopes"], ["z"], "prelu2"),
        conv("z", "head", "logits"),
    ]
    tensors = {"stem.weight": draw(4, 3, 3, 3), "stem.bias": draw(4), "body.bias": draw(4)}
    tensors |= {"body.weight": draw(4, 4, 3, 3), "head.weight": draw(3, 4, 1, 1), "head.bias": draw(3)}
    tensors |= {"slopes": np.random.default_rng(1).random((4, 1, 1)).astype(np.float32)}
    source = write_graph(tmp_path / "float.onnx", nodes, tensors)
    path = quantize_onnx(source, tmp_path / "int8.onnx", STREETS)
    left = operators(optimised(path))
    assert (left["QLinearLeakyRelu"], left["PRelu"]) == (1, 1)
    exact, rounded = logits(source, STREETS[0]), logits(path, STREETS[0])
    assert noise(rounded, exact) < 0.02


def test_an_image_that_more_than_convolutions_read_is_rounded(draw: Draw, tmp_path: Path) -> None:
    nodes = [
        conv("add", "stem", "s", pads=[1] * 4, strides=[2, 2]),
        helper.make_node("MaxPool", ["add"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Concat", ["s", "p"], ["cat"], "node_cat", axis=1),
        conv("cat", "body", "y"),
        conv("y", "head", "logits"),
    ]
    tensors = {"stem.weight": draw(4, 3, 3, 3), "stem.bias": draw(4), "body.bias": draw(4)}
    tensors |= {"body.weight": draw(4, 7, 1, 1), "head.weight": draw(3, 4, 1, 1), "head.bias": draw(3)}
    source = write_graph(tmp_path / "float.onnx", nodes, tensors)
    assert plan(FloatGraph(source), "onnxruntime").image is None
    path = quantize_onnx(source, tmp_path / "int8.onnx", STREETS)
    exact, rounded = logits(source, STREETS[0]), logits(path, STREETS[0])
    assert noise(rounded, exact) < 0.02


def test_dead_channels_and_large_biases(draw: Draw, tmp_path: Path) -> None:
    """A channel without weights has only its bias, which its own scale could not hold."""
    kernel, bias = draw(4, 3, 3, 3), draw(4)
    kernel[1], kernel[2] = 0, 1e-30
    bias[1], bias[2] = 5, 0.5
    tensors = {"stem.weight": kernel, "stem.bias": bias, "head.weight": np.eye(4, dtype=np.float32)[:, :, None, None]}
    nodes = [conv("add", "stem", "s"), conv("s", "head", "logits", bias=False)]
    source = write_graph(tmp_path / "float.onnx", nodes, tensors, classes=4)
    rounded = logits(quantize_onnx(source, tmp_path / "int8.onnx", STREETS), STREETS[0])[0]
    step = float(arrays(tmp_path / "int8.onnx")["s_scale"])
    np.testing.assert_allclose(rounded[1], 5, atol=step)
    np.testing.assert_allclose(rounded[2], 0.5, atol=step)
