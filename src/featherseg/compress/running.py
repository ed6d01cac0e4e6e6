"""Running the graph of an exported file, whole or in parts, for the tensors inside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ArtifactError, first_line
from ..core.types import ImageArray
from .graph import FloatGraph

Values = dict[str, NDArray[Any]]
"""Tensors by name."""


def open_graph(proto: Any, threads: int | None = None) -> Any:
    """Return an ONNX Runtime session of a ModelProto.

    Raises:
        ArtifactError: ONNX Runtime refuses it.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads or 0
    # Between two runs comes work of ours, whose core the waiting threads would take.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a dozen of its own, with Exception as their only base
        raise ArtifactError(f"ONNX Runtime refuses the graph ({first_line(error)}); export it again") from error


def intermediate_runner(
    proto: Any, names: Sequence[str], threads: int | None = None
) -> Callable[[ImageArray], dict[str, NDArray[np.float32]]]:
    """Return a function that runs a graph on one image and gives its tensors `names`, which may lie inside it.

    The arrays hold until the next image of their size, whose values take their place: new memory for all tensors of a
    network takes as long as computing them.
    """
    import onnx

    extended = onnx.ModelProto()
    extended.CopyFrom(proto)
    present = {port.name for port in proto.graph.output}
    extra = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names]
    extended.graph.output.extend(port for port in extra if port.name not in present)
    session = open_graph(extended, threads)
    bindings: dict[tuple[int, ...], Any] = {}
    tensors: dict[tuple[int, ...], dict[str, NDArray[np.float32]]] = {}

    def run(image: ImageArray) -> dict[str, NDArray[np.float32]]:
        batch = np.ascontiguousarray(image[None])
        try:
            if image.shape not in tensors:
                found = dict(zip(names, session.run(list(names), {"image": batch}), strict=True))
                bindings.clear()
                tensors.clear()  # one size at a time
                tensors[image.shape], bindings[image.shape] = found, session.io_binding()
                for name, values in found.items():
                    place = name, "cpu", 0, values.dtype, values.shape, values.ctypes.data
                    bindings[image.shape].bind_output(*place)
            else:
                bindings[image.shape].bind_cpu_input("image", batch)
                session.run_with_iobinding(bindings[image.shape])
        except Exception as error:  # of its own again
            size = "x".join(map(str, image.shape[:2]))
            raise ArtifactError(f"the graph breaks on an image of {size} ({first_line(error)})") from error
        return tensors[image.shape]

    return run


class Walk:
    """A float graph that is run part by part on a few images, and stops before one node after the other.

    What comes after can so be run in versions that differ from there on, without the part before, which is most of the
    work where there are many versions. No more is held than what the rest reads.

    Args:
        graph: the graph.
        images: RGB uint8 (H, W, 3).
        threads: threads of the engine.
    """

    def __init__(self, graph: FloatGraph, images: Sequence[ImageArray], threads: int | None = None) -> None:
        self.graph, self.threads = graph, threads
        self._image = graph.proto.graph.input[0].name
        self._held: list[Values] = [{self._image: np.ascontiguousarray(image[None])} for image in images]

    def to(self, place: int) -> None:
        """Run on to the node at `place`, without it; places must not become smaller."""
        nodes, ports = self.graph.proto.graph.node, self.graph.ports
        made = {name for node in nodes[:place] for name in node.output}
        read = {name for node in nodes[place:] for name in node.input}
        wanted = sorted(made & read & ports.keys())
        new = [name for name in wanted if name not in self._held[0]]
        if new:
            for values, found in zip(self._held, self._run(self.graph.proto, new), strict=True):
                values |= found
        keep = {*wanted, self._image}
        self._held = [{name: value for name, value in values.items() if name in keep} for values in self._held]

    def logits(self, proto: Any) -> list[NDArray[np.float32]]:
        """Return the logits (C, h, w) of each image by a version of the graph that differs from here on only."""
        return [values["logits"][0] for values in self._run(proto, ["logits"])]

    def _run(self, proto: Any, names: Sequence[str]) -> list[Values]:
        part = between(proto, self._held[0].keys(), names, self.graph.ports)
        session, inputs = open_graph(part, self.threads), [port.name for port in part.graph.input]
        try:
            return [
                dict(zip(names, session.run(names, {name: values[name] for name in inputs}), strict=True))
                for values in self._held
            ]
        except Exception as error:  # of its own
            raise ArtifactError(f"the graph breaks on a calibration image ({first_line(error)})") from error


def between(proto: Any, start: Iterable[str], names: Sequence[str], ports: Mapping[str, Any]) -> Any:
    """Return a ModelProto of the nodes that make tensors `names` of those at its start.

    Args:
        proto: the whole.
        start: tensors that are at hand; those that are used become inputs.
        names: tensors that become the outputs.
        ports: type and shape of all of them.
    """
    import onnx

    given, used = set(start), set[str]()
    wanted, nodes = set(names), []
    for node in reversed(proto.graph.node):
        if wanted.intersection(node.output):
            nodes.append(node)
            used |= given.intersection(node.input)
            wanted |= set(node.input) - given
    part = onnx.ModelProto(ir_version=proto.ir_version)
    part.opset_import.extend(proto.opset_import)
    part.functions.extend(proto.functions)
    part.graph.name = proto.graph.name
    part.graph.node.extend(reversed(nodes))
    part.graph.initializer.extend(tensor for tensor in proto.graph.initializer if tensor.name in wanted)
    part.graph.input.extend(ports[name] for name in sorted(used))
    part.graph.output.extend(ports[name] for name in names)
    return part
