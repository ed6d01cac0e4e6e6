"""Multiply-accumulates and parameters of each layer, from an ONNX graph and the size of its image alone."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import ArtifactError, first_line, require

HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that multiply and accumulate. Others are counted as none, as everywhere in featherseg."""


@dataclass(frozen=True)
class Cost:
    """What a layer computes in one image.

    Args:
        layer: name of the module in the network, or else of the node.
        macs: multiply-accumulates.
        params: weights and biases.
    """

    layer: str
    macs: int
    params: int


class GraphCosts:
    """The costs of an exported ONNX file's layers, and which layer an engine's own name of a kernel means.

    Attributes:
        costs: by node name, in the order they run.

    Args:
        path: the file.
        size: (height, width) of the image.

    Raises:
        ArtifactError: the file is no ONNX that can be read, or does not run on an image of that size.
        MissingExtraError: the package ``onnx`` is not installed.
    """

    def __init__(self, path: str | Path, size: tuple[int, int]) -> None:
        onnx = require("onnx", "train", "Profiling")
        try:
            proto = onnx.load(str(path))
            self._shapes = _shapes(onnx, proto, size)
        except Exception as error:  # of protobuf, onnx and ONNX Runtime, with Exception as their only base
            raise ArtifactError(f"{path}: its shapes cannot be found ({first_line(error)}); export it again") from error
        graph = proto.graph
        self._constants: dict[str, int] = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
        self._producer = {name: node for node in graph.node for name in node.output}
        self._nodes = {node.name: node for node in graph.node}
        self._readers: dict[str, list[Any]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self._readers[name].append(node)
        self.costs: dict[str, Cost] = {}
        names: Counter[str] = Counter()
        for node in graph.node:
            if node.op_type in HEAVY:
                name = self._layer_name(node)
                names[name] += 1  # two nodes may share a weight
                layer = name if names[name] == 1 else f"{name} ({names[name]})"
                params = sum(self._elements(name) for name in node.input[1:])
                self.costs[node.name] = Cost(layer, self._macs(node), params)
        self._owners = self._end_tensors()

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole network."""
        return sum(cost.macs for cost in self.costs.values())

    def find(self, kernel: str) -> tuple[str, Cost | None]:
        """Return the layer (or node) that an engine's kernel stands for, and its costs if it has any.

        Args:
            kernel: the engine's name of it: that of the node, or of the tensor that it gives, with endings of its own.
        """
        for name in _stems(kernel):
            node = name if name in self._nodes else self._owners.get(name, "")
            if node in self.costs:
                return self.costs[node].layer, self.costs[node]
            if name in self._nodes:
                return name, None
        return next(iter(_stems(kernel))), None

    def _end_tensors(self) -> dict[str, str]:
        """Return by tensor the heavy node that makes it, by itself or with what engines fuse into it.

        Engines call a fused kernel after the last tensor it gives, so the chain is followed as long as each tensor has
        one reader. A sum of two layers' tensors is the earlier one's: the later owns it by overwriting.
        """
        owners: dict[str, str] = {}
        for name in self.costs:
            tensor = self._nodes[name].output[0]
            owners[tensor] = name
            while len(self._readers[tensor]) == 1:
                reader = self._readers[tensor][0]
                if reader.op_type in HEAVY or not reader.output:
                    break
                tensor = reader.output[0]
                owners[tensor] = name
        return owners

    def _root(self, tensor: str) -> str:
        """Return the constant that a tensor is made of, behind the scaling of an int8 file; itself if there is none."""
        node = self._producer.get(tensor)
        while node is not None and node.op_type == "DequantizeLinear":
            tensor = node.input[0]
            node = self._producer.get(tensor)
        return tensor

    def _elements(self, tensor: str) -> int:
        return self._constants.get(self._root(tensor), 0)

    def _layer_name(self, node: Any) -> str:
        weight = self._root(node.input[1])
        name, found, _ = weight.removeprefix("model.").rpartition(".weight")
        return name if found and weight in self._constants else str(node.name)

    def _macs(self, node: Any) -> int:
        out, left, right = (self._shapes[name] for name in (node.output[0], *node.input[:2]))
        if node.op_type == "Conv":
            return math.prod(out) * math.prod(right[1:])
        if node.op_type == "ConvTranspose":
            return math.prod(left) * math.prod(right[1:])
        turned = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        shared = int(left[-2] if turned else left[-1])
        return math.prod(out) * shared


def _shapes(onnx: Any, proto: Any, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of what heavy nodes take and give for one image of `size`, and of the constants.

    They are asked of ONNX Runtime in one run, since onnx's own inference stops where a graph computes with shapes.
    """
    import onnxruntime as ort

    asking = onnx.ModelProto()
    asking.CopyFrom(proto)
    graph = asking.graph
    constants = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    heavy = [node for node in graph.node if node.op_type in HEAVY]
    wanted = sorted({name for node in heavy for name in (*node.input[:2], node.output[0])} - constants.keys())
    del graph.output[:]
    for i, name in enumerate(wanted):
        graph.node.append(onnx.helper.make_node("Shape", [name], [f"shape_of_{i}"]))
        graph.output.append(onnx.helper.make_tensor_value_info(f"shape_of_{i}", onnx.TensorProto.INT64, None))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # the graph as it is written
    options.log_severity_level = 4
    session = ort.InferenceSession(asking.SerializeToString(), options, providers=["CPUExecutionProvider"])
    shapes = session.run(None, {graph.input[0].name: np.zeros((1, *size, 3), np.uint8)})
    return constants | {name: tuple(int(n) for n in shape) for name, shape in zip(wanted, shapes, strict=True)}


def _stems(kernel: str) -> list[str]:
    """Return `kernel` without the endings that ONNX Runtime and OpenVINO give names, the longest first.

    >>> _stems("node_Conv_1048_token_22")
    ['node_Conv_1048_token_22', 'node_Conv_1048']
    """
    found = [kernel]
    for ending in ("_nchwc", "/WithoutBiases", "_original"):
        if kernel.endswith(ending):
            found.append(kernel.removesuffix(ending))
    name, token, number = kernel.rpartition("_token_")
    if token and number.isdigit():
        found.append(name)
    return found
