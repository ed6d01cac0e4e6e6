"""Which operators of an fp32 graph become integer ones, and where values are rounded for that.

What one engine needs to be fast another refuses, so there is a flavour for each:

- ``"onnxruntime"``: activations uint8 with a zero point, weights int8, biases int32; joins and reshaping operators
  work on integers too, and the image goes in as the bytes it is. FastSegNet at 360x480 takes 0.49 times the float
  file's time (one thread of an AMD EPYC with VNNI); with int8 activations it took 1.06 times.
- ``"openvino"``: uint8 activations too, rounded only where a layer reads them; biases stay fp32.
- ``"tensorrt"``: activations and weights int8 without zero points, biases float, and no rounding between a
  convolution and the residual sum that TensorRT fuses it with.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.errors import ArtifactError, ConfigError, did_you_mean
from .graph import FloatGraph, NormalizedImage

PASSING = ("MaxPool", "Resize", "Reshape", "Transpose", "Split", "Slice", "Gather", "Expand", "Squeeze", "Unsqueeze")
"""Operators that move values but make none beyond their range: what goes in and comes out has one scale."""


MAX_REST = 0.5
"""Of a normalised image's values, in standard deviations: how far from 0 the byte may be that stands for it where a
convolution pads, beyond the image's edge."""


@dataclass(frozen=True)
class Flavour:
    """What one engine wants.

    Args:
        layers: operators with weights that it computes in integers.
        joins: operators without weights that it computes in integers, each with a scale of its own for the result.
        symmetric: whether activations are int8 without zero point, else uint8 with one.
        bias: whether biases are int32.
        after_layers: whether every layer's output is rounded, else only where an integer operator reads it.
        byte_image: whether the first convolution takes the image's bytes as they are.
    """

    layers: tuple[str, ...]
    joins: tuple[str, ...]
    symmetric: bool
    bias: bool
    after_layers: bool
    byte_image: bool


FLAVOURS = {
    "onnxruntime": Flavour(("Conv",), ("Add", "Mul", "Concat", "LeakyRelu"), False, True, True, True),
    "openvino": Flavour(("Conv", "ConvTranspose"), ("Add",), False, False, False, False),
    "tensorrt": Flavour(("Conv", "ConvTranspose"), ("Add",), True, False, False, False),
}


@dataclass(frozen=True)
class Plan:
    """What becomes an integer.

    Args:
        graph: the fp32 graph.
        flavour: of the engine.
        nodes: the integer nodes by name, in the order they run: layers called as their modules, others as they are.
        roots: activations that are rounded, in the order they are made, each with the tensor whose scale it has: not
            its own where operators only passed it on.
        direct: (node, tensor) whose node reads the tensor as it was before it was rounded.
        image: the normalised image, where bytes can stand for it.
    """

    graph: FloatGraph
    flavour: Flavour
    nodes: dict[str, Any]
    roots: dict[str, str]
    direct: frozenset[tuple[str, str]]
    image: NormalizedImage | None

    @property
    def layers(self) -> dict[str, Any]:
        """The nodes with weights."""
        return {name: node for name, node in self.nodes.items() if node.op_type in self.flavour.layers}


def plan(graph: FloatGraph, flavour: str, names: Iterable[str] | None = None, joins: bool = True) -> Plan:
    """Decide what becomes an integer.

    Layers do (convolutions with constant weights, but those that give class scores); then, going back from them, joins
    and passing operators, as far as integers that come out of them are read.

    Args:
        graph: the fp32 graph.
        flavour: a name in ``FLAVOURS``.
        names: layers that may, of :attr:`Plan.layers`; all where left out.
        joins: whether joins may, without which a layer shows what it does alone.

    Raises:
        ConfigError: the flavour is unknown.
        ArtifactError: there is no layer that could.
    """
    if flavour not in FLAVOURS:
        raise ConfigError(f"flavour is {flavour!r}; {did_you_mean(flavour, FLAVOURS)}")
    wants = FLAVOURS[flavour]
    layers = {node.name: name for name, node in graph.layers(wants.layers).items()}
    if not layers:
        raise ArtifactError(f"{graph.source}: has no {' or '.join(wants.layers)} to quantise; use it as it is")
    allowed = set(layers.values() if names is None else names)
    picked: dict[str, Any] = {}
    read: set[str] = set()  # by integer nodes
    for node in reversed(graph.proto.graph.node):
        name = layers.get(node.name, node.name)
        if node.name in layers:
            wanted = name in allowed
        elif node.op_type in PASSING:
            wanted = bool(read.intersection(node.output))
        else:
            wanted = joins and node.op_type in wants.joins and graph.end(node) in read
        data = _data_inputs(node, node.name in layers)
        if wanted and all(graph.is_activation(tensor) for tensor in data):
            picked[name] = node
            read.update(data)
    nodes = dict(reversed(picked.items()))
    roots, direct = _rounded(graph, wants, nodes)
    return Plan(graph, wants, nodes, roots, direct, _byte_image(graph, nodes, roots) if wants.byte_image else None)


def _data_inputs(node: Any, layer: bool) -> list[str]:
    """Return the activations that a node works on: of layers and passing operators the first input only."""
    return list(node.input[:1] if layer or node.op_type in PASSING else node.input)


def _rounded(
    graph: FloatGraph, flavour: Flavour, nodes: dict[str, Any]
) -> tuple[dict[str, str], frozenset[tuple[str, str]]]:
    """Return ``roots`` and ``direct`` of a plan."""
    wanted: set[str] = set()
    direct: set[tuple[str, str]] = set()
    passed: dict[str, str] = {}
    for node in nodes.values():
        layer, passing = node.op_type in flavour.layers, node.op_type in PASSING
        inputs = _data_inputs(node, layer)
        if not (layer or passing or flavour.after_layers):
            fused = next((name for name in inputs if _ends_layer(graph, name, flavour)), None)
            if fused is not None:
                inputs.remove(fused)
                direct.add((node.name, fused))
        wanted.update(inputs)
        if passing:
            passed |= dict.fromkeys(node.output, node.input[0])
        if flavour.after_layers:
            wanted.update(node.output if passing else [graph.end(node)])
    made = [name for node in graph.proto.graph.node for name in node.output if name in wanted]
    return {name: _root(name, passed) for name in made}, frozenset(direct)


def _ends_layer(graph: FloatGraph, name: str, flavour: Flavour) -> bool:
    """Return whether tensor `name` comes straight from a layer and goes nowhere else."""
    producer = graph.producer.get(name)
    return producer is not None and producer.op_type in flavour.layers and len(graph.readers[name]) == 1


def _root(name: str, passed: dict[str, str]) -> str:
    while name in passed:
        name = passed[name]
    return name


def _byte_image(graph: FloatGraph, nodes: dict[str, Any], roots: dict[str, str]) -> NormalizedImage | None:
    """Return the normalised image if all that reads it are integer convolutions, and one byte can be its zero."""
    image = graph.normalized_image()
    integer = {node.name for node in nodes.values() if node.op_type == "Conv"}
    if image is None or image.name not in roots or np.abs(image.rest).max() > MAX_REST:
        return None
    return image if all(reader.name in integer for reader in graph.readers[image.name]) else None
