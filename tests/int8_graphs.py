"""Graphs and networks that are worth quantising, and ways to see what int8 makes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from featherseg.core.types import IMAGENET_MEAN, IMAGENET_STD, ClassSet, InputSpec
from featherseg.data.readers.synthetic import render_street
from featherseg.exporting.onnx import write_artifact
from featherseg.models.base import SegmentationModel
from featherseg.runtime.artifact import Artifact

Draw = Callable[..., NDArray[np.float32]]

STREETS = [render_street(i, (64, 96))[0] for i in range(6)]
SCALE = (1 / (255 * np.array(IMAGENET_STD))).astype(np.float32).reshape(1, 3, 1, 1)
SHIFT = (-np.array(IMAGENET_MEAN) / np.array(IMAGENET_STD)).astype(np.float32).reshape(1, 3, 1, 1)


@pytest.fixture
def draw() -> Draw:
    """Draws weights of a shape, with channels of very different size; the same ones in every test."""
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> NDArray[np.float32]:
        spread = 10.0 ** rng.uniform(-1, 0.3, (shape[0], *[1] * (len(shape) - 1)))
        return (rng.standard_normal(shape) * spread).astype(np.float32)

    return weights


def conv(x: str, name: str, out: str, **options: Any) -> Any:
    operator = options.pop("operator", "Conv")
    bias = options.pop("bias", True)
    inputs = [x, f"model.{name}.weight", *[f"model.{name}.bias"] * bias]
    return helper.make_node(operator, inputs, [out], f"node_{name}", **options)


def write_graph(path: Path, nodes: list[Any], tensors: dict[str, NDArray[Any]], classes: int = 3) -> Path:
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
def residual(tmp_path: Path, draw: Draw) -> Path:
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
        "stem.weight": draw(8, 3, 3, 3),
        "stem.bias": draw(8),
        "body.weight": draw(8, 8, 3, 3) * np.float32(0.2),
        "body.bias": draw(8),
        "mix.weight": draw(6, 8, 1, 1),
        "mix.bias": draw(6),
        "head.weight": draw(3, 6, 1, 1),
        "head.bias": draw(3),
    }
    return write_graph(tmp_path / "float.onnx", nodes, tensors)


def session(path: Path, level: str = "ORT_ENABLE_ALL", optimised: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def logits(path: Path, image: NDArray[np.uint8], level: str = "ORT_ENABLE_ALL") -> NDArray[np.float32]:
    result: NDArray[np.float32] = session(path, level).run(None, {"image": image[None]})[0]
    return result


def noise(rounded: NDArray[np.float32], exact: NDArray[np.float32]) -> float:
    """What rounding adds to the logits, as a share of their variance."""
    return float(((rounded - exact) ** 2).mean() / exact.var())


def optimised(path: Path) -> Path:
    """Write what ONNX Runtime makes of a file, with its fused layers, beside it."""
    target = path.with_name(f"optimised_{path.name}")
    session(path, optimised=target)
    return target


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def arrays(path: Path) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def settle_norms(model: SegmentationModel, images: Sequence[NDArray[np.uint8]]) -> None:
    """Give batch norms the statistics of real activations, and weights that are not all alike, as training does."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.5
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    pixels = torch.from_numpy(np.stack([model.input_spec.normalize(image) for image in images]))
    with torch.no_grad():
        for _ in range(4):
            model.outputs(pixels)
    model.eval()
