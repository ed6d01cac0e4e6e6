"""Where an exported file parts from its network: the first layer whose activations are not the network's.

The layers of both are matched by the names of their weights, which exporting, quantising and folding batch norms into
convolutions keep. It answers for ONNX files; other formats are written from one that was proven.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..core.errors import require
from ..core.types import ImageArray
from ..models.base import SegmentationModel

_LAYERS = {"Conv", "ConvTranspose", "Gemm"}
_MODULES = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
_PREFIX = "model."
"""What :class:`featherseg.exporting.onnx.Deployed` puts before the names of the network's weights."""


@dataclass(frozen=True)
class Divergence:
    """Where a file parts from its network.

    Args:
        layer: name of the first layer that differs; None where all layers agree, so that what follows them differs.
        error: largest difference of its activations, relative to the largest of the network's.
        before: the layer before it, which still agrees; None where it is the first.
    """

    layer: str | None
    error: float
    before: str | None

    def __str__(self) -> str:
        if self.layer is None:
            return f"all layers agree up to {self.before}; the fault is after it, in resizing or the output"
        if self.before is None:
            return (
                f"it differs from the first layer on, {self.layer} (by {self.error:.1e}): "
                "look at normalisation, colour order and that layer's weights"
            )
        return f"it differs from layer {self.layer} on (by {self.error:.1e}), while {self.before} still agrees"


def first_divergence(
    model: SegmentationModel, path: str | Path, image: ImageArray, limit: float = 0.01
) -> Divergence | None:
    """Compare the layers of an exported ONNX file with its network's, in the order of computing.

    Args:
        model: the network; left as it is.
        path: the file.
        image: RGB (H, W, 3) of at least ``MIN_SIZE`` a side.
        limit: relative difference of activations from which a layer differs; rounding stays far below it.

    Returns:
        What was found, or None where no layer of the file has a counterpart in the network.

    Raises:
        MissingExtraError: the package ``onnx`` is not installed.
    """
    net = copy.deepcopy(model).to("cpu", torch.float32).eval()
    ours = _torch_activations(net, image)
    theirs = _file_activations(Path(path), image, set(ours))
    before: str | None = None
    for name, actual in theirs.items():
        expected = ours[name]
        if actual.shape != expected.shape:
            return Divergence(name, float("inf"), before)
        scale = max(float(np.abs(expected).max()), float(np.finfo(np.float32).tiny))
        error = float(np.abs(actual - expected).max()) / scale
        if not error <= limit:  # NaN differs too
            return Divergence(name, error, before)
        before = name
    return Divergence(None, 0.0, before) if theirs else None


def _torch_activations(net: SegmentationModel, image: ImageArray) -> dict[str, NDArray[np.float32]]:
    """Return what each layer gives, by the layer's name, after the batch norm that follows it directly.

    A layer that runs more than once has no one answer, and is left out.
    """
    found: dict[str, Tensor] = {}
    calls: dict[str, int] = {}
    latest: list[tuple[str, Tensor]] = []

    def on_layer(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            calls[name] = calls.get(name, 0) + 1
            found[name] = output.clone()  # what follows may work in place
            latest[:] = [(name, output)]

        return hook

    def on_norm(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if latest and inputs[0] is latest[0][1]:
            found[latest[0][0]] = output.clone()

    for name, module in net.named_modules():
        if isinstance(module, _MODULES):
            module.register_forward_hook(on_layer(name))
        elif isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(on_norm)
    pixels = torch.from_numpy(net.input_spec.normalize(image))[None]
    with torch.no_grad():
        net.outputs(pixels)
    return {name: output.numpy() for name, output in found.items() if calls[name] == 1}


def _file_activations(path: Path, image: ImageArray, known: set[str]) -> dict[str, NDArray[np.float32]]:
    """Return what each known layer of the file gives, by the layer's name in the network, in order of computing."""
    import onnxruntime as ort

    onnx = require("onnx", "train", "Comparing layers")
    proto = onnx.load(str(path))
    graph = proto.graph
    makers = {output: node for node in graph.node for output in node.output}
    stored = {tensor.name for tensor in graph.initializer}
    layers: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in _LAYERS and len(node.input) > 1:
            name = _layer_name(node.input[1], makers, stored)
            if name in known:
                layers[name] = node.output[0]
    outputs = {port.name for port in graph.output}
    for value in layers.values():
        if value not in outputs:
            graph.output.append(onnx.helper.make_empty_tensor_value_info(value))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # fused layers would vanish
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = session.run(list(layers.values()), {"image": image[None]})
    return dict(zip(layers, values, strict=True))


def _layer_name(weight: str, makers: dict[str, Any], stored: set[str]) -> str | None:
    """Return the network's layer whose weight arrives as `weight`, through whatever turns codes back into floats."""
    while weight not in stored:
        node = makers.get(weight)
        if node is None or not node.input:
            return None
        weight = node.input[0]
    name, found, _ = weight.removeprefix(_PREFIX).rpartition(".weight")
    return name if found else None
