"""Static int8: weights and activations in eight bits, written into the graph as QuantizeLinear/DequantizeLinear pairs.

Activations get their ranges from calibration images, weights one scale per channel of their output. A pair stands
wherever a tensor goes into or comes out of an integer operator, and nowhere between a convolution and its activation,
so that engines fuse what lies between two pairs to one integer kernel; :mod:`.plan` tells where, for which engine.

The layers that give class scores stay in fp32: they are cheap, and class scores in eight bits are full of ties.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, require
from ..core.progress import OnProgress, no_progress
from ..core.types import ImageArray
from ..exporting.onnx import atomic_path, onnx_path, write_artifact
from .calibration import check_calibration
from .graph import FloatGraph, matching
from .plan import Plan, plan
from .ranges import METHOD, TINY, Histogram, Range, check_method, observe, step
from .weights_int8 import quantize_array

MAX_BIAS = 2.0**30
"""Largest code of a bias, which leaves as much for the sum it is added to."""

Calibration = Sequence[ImageArray] | Mapping[str, Histogram]
"""Images, or what :func:`calibrate` made of them, to write several files from one calibration."""


def quantize_onnx(
    source: str | Path,
    path: str | Path,
    calibration: Calibration,
    *,
    flavour: str = "onnxruntime",
    keep: Iterable[str] = (),
    method: str = METHOD,
    reduce_range: bool = False,
) -> Path:
    """Write an exported fp32 file again in int8.

    The new file says ``"weights": "int8 QDQ"`` in its training facts, with flavour, method and the layers that stayed
    float, and has no verification: the old figures no longer hold.

    Args:
        source: an exported fp32 file that gives logits.
        path: file to write, ending in ``.onnx``; it appears whole or not at all.
        calibration: RGB images at the deployed size, see :func:`.calibration.calibration_images`.
        flavour: the engine that will run it: ``"onnxruntime"``, ``"openvino"`` or ``"tensorrt"``.
        keep: names, or shell-style patterns, of what stays fp32: layers are called as their modules, such as
            ``"features.0.0"``; :func:`.sensitivity.layer_sensitivity` tells all names.
        method: how ranges follow from the values seen: ``"mse"``, ``"percentile"`` or ``"minmax"``.
        reduce_range: weights in seven bits, for x86 processors without VNNI (before 2019), whose 16-bit sums would
            overflow without a word. FastSegNet loses 1.7 points of mIoU by it.

    Returns:
        `path`.

    Raises:
        ConfigError: an argument is out of range or a pattern in `keep` matches nothing.
        DataError: the calibration images are too few, or random noise.
        ArtifactError: `source` is not an exported fp32 file, or has nothing to quantise.
        MissingExtraError: the package ``onnx`` is not installed.
    """
    path = onnx_path(path)
    if path.resolve() == Path(source).resolve():
        raise ConfigError(f"path {path} is the fp32 file itself; choose another name")
    check_method(method)
    graph = FloatGraph(source)
    whole = plan(graph, flavour)
    kept = matching(keep, list(whole.layers))
    histograms = calibration if isinstance(calibration, Mapping) else calibrate(whole, calibration)
    chosen = plan(graph, flavour, [name for name in whole.layers if name not in kept])
    proto = integer_proto(chosen, histograms, method, reduce_range)
    notes = {"weights": "int8 QDQ", "quantization": {"flavour": flavour, "method": method, "fp32_layers": kept}}
    with atomic_path(path) as temporary:
        temporary.write_bytes(proto.SerializeToString())
        artifact = graph.artifact
        write_artifact(temporary, replace(artifact, training=artifact.training | notes, verification={}))
    return path


def calibrate(
    whole: Plan, images: Sequence[ImageArray], progress: OnProgress = no_progress, threads: int | None = None
) -> dict[str, Histogram]:
    """Return a histogram of each tensor that is rounded to a scale of its own.

    Args:
        whole: plan of all layers; it serves plans of fewer too.
        images: RGB uint8 (H, W, 3) at the deployed size.
        progress: called with the numbers of images done and of all.
        threads: threads of the engine that runs the network.

    Raises:
        DataError: the images are too few, or random noise.
    """
    check_calibration(images)
    return observe(whole.graph.proto, sorted(set(whole.roots.values())), images, progress, threads)


def integer_proto(
    chosen: Plan, histograms: Mapping[str, Histogram], method: str = METHOD, reduce_range: bool = False
) -> Any:
    """Return the ModelProto of a plan; see :func:`quantize_onnx` for the arguments."""
    symmetric = chosen.flavour.symmetric
    of = {root: histograms[root].range(method, symmetric) for root in set(chosen.roots.values())}
    onnx = require("onnx", "train", "Quantising")
    proto = onnx.ModelProto()
    proto.CopyFrom(chosen.graph.proto)
    graph = proto.graph
    writer = _Writer(onnx, chosen, of, reduce_range)
    nodes: list[Any] = []
    for node in graph.node:
        made = list(node.output)
        nodes += [*writer.turn(node), node, *writer.guard(node), *writer.pairs(made)]
    nodes = _needed(nodes, {port.name for port in graph.output})
    used = {name for node in nodes for name in node.input}
    constants = [tensor for tensor in (*graph.initializer, *writer.tensors) if tensor.name in used]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    return proto


def _needed(nodes: Sequence[Any], names: set[str]) -> list[Any]:
    """Return the nodes that tensors `names` depend on, in their order."""
    found = []
    for node in reversed(nodes):
        if names.intersection(node.output):
            names.update(node.input)
            found.append(node)
    return found[::-1]


class _Writer:
    """Writes the pairs of a plan, and its layers' weights in integers.

    Args:
        onnx: the package.
        chosen: the plan.
        of: range of each root tensor.
        reduce_range: weights in seven bits.
    """

    def __init__(self, onnx: Any, chosen: Plan, of: Mapping[str, Range], reduce_range: bool) -> None:
        self.onnx, self.chosen, self.reduce_range = onnx, chosen, reduce_range
        self.tensors: list[Any] = []
        self.layers = {node.name for node in chosen.layers.values()}
        self.steps: dict[str, float] = {}
        for root, bounds in of.items():
            self._store_step(root, bounds)

    def pairs(self, names: Sequence[str]) -> list[Any]:
        """Return the pairs of tensors, each the same scale and zero point twice."""
        found = []
        for name in names:
            if name not in self.chosen.roots:
                continue
            root = self.chosen.roots[name]
            parts = [f"{root}_scale", f"{root}_zero"]
            if self.chosen.image is not None and name == self.chosen.image.name:
                # Bytes are codes already, whose scale the weights have taken in and whose shift the bias.
                bytes_in = self.chosen.graph.proto.graph.input[0].name
                found.append(self._make("Transpose", [bytes_in], f"{name}_q", perm=[0, 3, 1, 2]))
            else:
                found.append(self._make("QuantizeLinear", [name, *parts], f"{name}_q"))
            found.append(self._make("DequantizeLinear", [f"{name}_q", *parts], f"{name}_dq"))
        return found

    def turn(self, node: Any) -> list[Any]:
        """Let a node read integers behind their pairs, and constants likewise; return what makes those float again."""
        made = self._turn_constants(node) if node.name in self.layers else []
        for i, name in enumerate(node.input):
            if name in self.chosen.roots and (node.name, name) not in self.chosen.direct:
                node.input[i] = f"{name}_dq"
        return made

    def guard(self, node: Any) -> list[Any]:
        """Keep ONNX Runtime from rounding a float layer that lies between integers, which it does where it can.

        It looks for a convolution that reads a pair and ends in one, takes a sum with constants for its bias, and has
        no rule for a difference.
        """
        chosen = self.chosen
        kept = node.op_type in chosen.flavour.layers and node.name not in self.layers
        if not kept or not chosen.flavour.after_layers or chosen.graph.end(node) not in chosen.roots:
            return []
        channels = chosen.graph.tensors[node.input[1]].dims[0]
        bias = chosen.graph.array(node.input[2]) if len(node.input) > 2 else np.zeros(channels, np.float32)
        # A difference with zeros would be taken out again.
        self._store(f"{node.name}_minus", np.where(bias == 0, np.float32(TINY), -bias).reshape(-1, 1, 1))
        output = node.output[0]
        node.output[0] = f"{output}_raw"
        del node.input[2:]
        return [self._make("Sub", [node.output[0], f"{node.name}_minus"], output)]

    def _turn_constants(self, node: Any) -> list[Any]:
        graph, image = self.chosen.graph, self.chosen.image
        axis = 1 if node.op_type == "ConvTranspose" else 0
        name, weight = node.input[1], graph.array(node.input[1])
        if len(graph.readers[name]) > 1:
            name = f"{node.name}_weight"  # each sharer has codes of its own, for its bias may want a wider scale
        bias = graph.array(node.input[2]) if self.chosen.flavour.bias and len(node.input) > 2 else None
        if image is not None and node.input[0] == image.name:
            bias = (weight * image.rest[:, None, None]).sum(axis=(1, 2, 3)) + (0 if bias is None else bias)
            weight = weight * (image.scale * 255)[:, None, None]
        codes, scale = quantize_array(weight, axis)
        if self.reduce_range:
            scale *= np.float32(127 / 63)
        input_step = self.steps[self.chosen.roots[node.input[0]]]
        if bias is not None:
            # A channel of next to no weights, as training leaves some, has a scale its bias would overflow.
            scale = np.maximum(scale, (np.abs(bias) / (input_step * MAX_BIAS)).reshape(scale.shape), dtype=np.float32)
        codes, scale = np.rint(weight / scale).astype(np.int8), scale.ravel()
        made = self._constant(node, 1, name, codes, scale, axis)
        if bias is not None:
            unit = np.maximum(input_step * scale.astype(np.float64), TINY)
            integers = np.rint(bias / unit).astype(np.int32)
            made += self._constant(node, 2, f"{node.name}_bias", integers, unit.astype(np.float32), 0)
        return made

    def _constant(
        self, node: Any, place: int, name: str, codes: NDArray[Any], scale: NDArray[np.float32], axis: int
    ) -> list[Any]:
        """Store codes and scales of a constant, let the node read them, return what makes them float again."""
        node.input[place:] = [f"{name}_dq", *node.input[place + 1 :]]
        parts = {f"{name}_q": codes, f"{name}_scale": scale}
        for part, values in parts.items():
            self._store(part, values)
        return [self._make("DequantizeLinear", list(parts), f"{name}_dq", axis=axis)]

    def _store_step(self, root: str, bounds: Range) -> None:
        """Store scale and zero point of an activation."""
        image = self.chosen.image
        scale, zero = step(bounds, self.chosen.flavour.symmetric)
        if image is not None and root == image.name:
            scale, zero = float(np.float32(1 / 255)), image.zero
        self.steps[root] = scale
        self._store(f"{root}_scale", np.array(scale, np.float32))
        self._store(f"{root}_zero", np.array(zero, np.int8 if self.chosen.flavour.symmetric else np.uint8))

    def _store(self, name: str, values: NDArray[Any]) -> None:
        self.tensors.append(self.onnx.numpy_helper.from_array(values, name))

    def _make(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> Any:
        # Without names: nobody asks for these nodes, and names take room.
        return self.onnx.helper.make_node(operator, inputs, [output], **attributes)
