"""The graph of an exported fp32 file, as quantisation reads it: who makes and reads a tensor, what a layer is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ArtifactError, ConfigError, did_you_mean, require
from ..runtime.artifact import read_artifact

QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"}
ACTIVATIONS = ("Relu", "Clip")
"""What a layer takes in: rounding to its range does the same, so that nothing is rounded between the two."""


@dataclass(frozen=True)
class NormalizedImage:
    """The tensor that is ``bytes * scale + shift``, (B, 3, H, W); scale and shift have one value per channel."""

    name: str
    scale: NDArray[np.float32]
    shift: NDArray[np.float32]

    @property
    def zero(self) -> int:
        """The byte that comes nearest to 0 in all channels: what stands for the convolution's padding among bytes."""
        return int(np.clip(np.rint(-(self.shift / self.scale).mean()), 0, 255))

    @property
    def rest(self) -> NDArray[np.float32]:
        """What that byte really is, per channel: at most 0.2 with ImageNet's means."""
        return self.shift + self.scale * np.float32(self.zero)


class FloatGraph:
    """An fp32 file that gives logits.

    Attributes:
        source: the file.
        artifact: what it says of itself.
        proto: its ModelProto.
        producer: the node that makes a tensor, by the tensor's name.
        readers: the nodes that read it.
        tensors: its constants.
        ports: type and shape of its other tensors, as far as ONNX can infer them.

    Args:
        source: path of the exported file.

    Raises:
        ArtifactError: it is not an exported file, gives no logits, is no ONNX that can be read, or is compressed
            already.
        MissingExtraError: the package ``onnx`` is not installed.
    """

    def __init__(self, source: str | Path) -> None:
        onnx = require("onnx", "train", "Quantising")
        self.source = Path(source)
        self.artifact = read_artifact(self.source)
        if self.artifact.output != "logits":
            raise ArtifactError(f"{source}: gives a {self.artifact.output}; quantise a file with output logits")
        self.proto = onnx.load(str(self.source))
        graph = self.proto.graph
        types = {onnx.TensorProto.INT8, onnx.TensorProto.FLOAT16}
        if any(node.op_type in QUANTIZED for node in graph.node) or any(
            t.data_type in types for t in graph.initializer
        ):
            raise ArtifactError(f"{source}: is quantised or in 16 bits already; give the fp32 file")
        if any(a.HasField("g") or a.graphs for node in graph.node for a in node.attribute):
            raise ArtifactError(f"{source}: has branches or loops; export a network without them")
        inferred = onnx.shape_inference.infer_shapes(self.proto).graph
        ports = (*inferred.value_info, *inferred.input, *inferred.output)
        self.ports = {port.name: port for port in ports if port.type.tensor_type.elem_type}
        self._float = onnx.TensorProto.FLOAT
        self._to_array = onnx.numpy_helper.to_array
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.outputs = {port.name for port in graph.output}
        self.producer: dict[str, Any] = {}
        self.readers: dict[str, list[Any]] = defaultdict(list)
        for node in graph.node:
            self.producer |= dict.fromkeys(node.output, node)
            for name in node.input:
                self.readers[name].append(node)

    def is_activation(self, name: str) -> bool:
        """Return whether tensor `name` is float32 and depends on the image."""
        port = self.ports.get(name)
        return port is not None and port.type.tensor_type.elem_type == self._float and name not in self.tensors

    def layers(self, operators: Sequence[str]) -> dict[str, Any]:
        """Return the nodes of these operators by layer name, in the order they run.

        Only those whose weight and bias are float32 constants, and that end in no class score: see :meth:`heads`.
        """
        heads = self.heads(operators)
        found: dict[str, Any] = {}
        for node in self.proto.graph.node:
            if node.op_type not in operators or node.name in heads:
                continue
            if all(name in self.tensors and self.tensors[name].data_type == self._float for name in node.input[1:]):
                name = self.layer_name(node)
                found[node.name if name in found else name] = node
        return found

    def heads(self, operators: Sequence[str]) -> set[str]:
        """Return the names of the nodes that make class scores: no other layer lies between them and the logits."""
        found: set[str] = set()
        seen: set[str] = set()
        waiting = list(self.outputs)
        while waiting:
            node = self.producer.get(waiting.pop())
            if node is None or node.name in seen:
                continue
            seen.add(node.name)
            if node.op_type in operators:
                found.add(node.name)
            else:
                waiting += node.input
        return found

    def layer_name(self, node: Any) -> str:
        """Return what people know a node by: its module in the network, or else its own name.

        >>> # node_Conv_1047, whose weight is model.features.0.0.weight: features.0.0
        """
        weight = node.input[1] if len(node.input) > 1 and node.input[1] in self.tensors else ""
        module = weight.removeprefix("model.").removesuffix(".weight")
        return module if weight.endswith(".weight") else node.name

    def normalized_image(self) -> NormalizedImage | None:
        """Return what :class:`featherseg.exporting.onnx.Deployed` makes of the image; None where it differs."""
        name = self.proto.graph.input[0].name
        found: list[NDArray[np.float32]] = []
        for operator in ("Transpose", "Cast", "Mul", "Add"):
            step = next((node for node in self.readers[name] if node.op_type == operator), None)
            if step is None:
                return None
            constants = [tensor for tensor in step.input if tensor in self.tensors]
            if len(constants) != len(step.input) - 1:
                return None
            found += [self.array(tensor).ravel() for tensor in constants]
            name = step.output[0]
        return NormalizedImage(name, *found) if [values.size for values in found] == [3, 3] else None

    def array(self, name: str) -> NDArray[Any]:
        """Return the values of constant `name`.

        Raises:
            ArtifactError: one is not finite.
        """
        values: NDArray[Any] = self._to_array(self.tensors[name])
        if not np.isfinite(values).all():
            raise ArtifactError(f"{self.source}: weight {name} is not finite; export a network that trained well")
        return values

    def end(self, node: Any) -> str:
        """Return the tensor that `node` gives to others: its output, behind the activation that follows it, if any."""
        name: str = node.output[0]
        while name not in self.outputs and len(self.readers[name]) == 1:
            reader = self.readers[name][0]
            bounds = reader.input[1:]
            if reader.op_type not in ACTIVATIONS or not all(not bound or bound in self.tensors for bound in bounds):
                break
            name = reader.output[0]
        return name


def matching(patterns: Iterable[str], names: Sequence[str]) -> list[str]:
    """Return those of `names` that match one of the shell-style `patterns`, in their order.

    Raises:
        ConfigError: a pattern matches nothing.
    """
    wanted: set[str] = set()
    for pattern in patterns:
        matched = [name for name in names if fnmatchcase(name, pattern)]
        if not matched:
            raise ConfigError(f"keep names {pattern!r}, but no quantised layer is called so; {_hint(pattern, names)}")
        wanted.update(matched)
    return [name for name in names if name in wanted]


def _hint(pattern: str, names: Sequence[str]) -> str:
    """Suggest one name; a whole network's would be no single line to read."""
    suggestion = did_you_mean(pattern, names)
    return suggestion if suggestion.startswith("did") else f"layers are called like {names[0]!r} and {names[-1]!r}"
