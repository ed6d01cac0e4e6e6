"""Weights in eight bits: an exported file of a quarter of the size, which computes in fp32 as before.

Each large weight is stored as int8 with one fp32 scale per channel of the layer's output, and turned back by a
``Cast`` and a ``Mul`` in the graph. Not by ``DequantizeLinear``: ONNX Runtime keeps that one for int8 kernels, so it
runs anew with every frame and keeps the convolution from its fast layout (measured: 1.2 to 1.8 times slower), while
constant ``Cast`` and ``Mul`` are folded when the file is loaded. TensorRT alone takes int8 constants only before
``DequantizeLinear``; :func:`featherseg.exporting.tensorrt.build_engine` therefore turns the weights back first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ArtifactError, ConfigError, require
from ..core.types import MIN_SIZE, ImageArray
from ..data.readers.synthetic import render_street
from ..exporting.onnx import atomic_path, write_artifact
from ..exporting.verdict import Tolerance
from ..runtime.artifact import read_artifact
from ..runtime.segmenter import Segmenter

MIN_ELEMENTS = 512
"""Smaller tensors stay fp32: two more operators and the scales would cost a good part of what they save."""
MAX_CODE = 127
"""Codes are symmetric, -127 to 127, so that zero stays exactly zero; -128 is not used."""
PICTURES = 3
"""Synthetic street scenes that the two files' masks are compared on."""
WARMUP = 3

INT8_WEIGHTS = Tolerance(max_logit_error=0.3, min_agreement=0.985, max_miou_drop=0.005, max_confidence_error=0.02)
"""Limits for a file with int8 weights: single logits move visibly, few pixels change class, mIoU by half a point."""

_QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"}
_WEIGHT_INPUT = 1  # of Conv, ConvTranspose, MatMul and Gemm alike


def quantize_weights(
    source: str | Path, path: str | Path, *, runs: int = 10, size: tuple[int, int] = (256, 512)
) -> dict[str, Any]:
    """Write an exported file again with its weights in int8, and measure what that does to size, speed and masks.

    Weights of Conv, ConvTranspose, MatMul and Gemm from ``MIN_ELEMENTS`` elements are stored in int8. Biases, small
    tensors, and weights that reach their layer through other operators or are used otherwise too, stay fp32.
    The new file says ``"weights": "int8 per channel"`` in its training facts, and has no verification: the old
    figures no longer hold, so verify it on real images with limits that suit it.

    Args:
        source: an exported fp32 file that gives logits.
        path: file to write, ending in ``.onnx``; it appears whole or not at all.
        runs: timed runs of either file; they take turns.
        size: (height, width) of the synthetic street scenes for timing and comparing.

    Returns:
        ``path``; ``bytes``, ``fp32_bytes`` and ``times_smaller``; ``latency_ms`` and ``fp32_latency_ms``, medians
        of the network alone; ``agreement``, the share 0–1 of pixels with the same class in synthetic scenes;
        ``device`` and ``size`` of the measurements; ``summary``, a sentence.

    Raises:
        ConfigError: an argument is out of range.
        ArtifactError: `source` is not an exported file, gives no logits, is quantised already, or has no weights
            that could be.
        MissingExtraError: the package ``onnx`` is not installed.
    """
    source, path = Path(source), Path(path)
    if path.suffix.lower() != ".onnx":
        raise ConfigError(f"{path}: an exported file ends in .onnx, not {path.suffix!r}; rename it")
    if path.resolve() == source.resolve():
        raise ConfigError(f"path {path} is the fp32 file itself; choose another name")
    if runs < 1:
        raise ConfigError(f"runs is {runs}; measure at least 1")
    if len(size) != 2 or min(size) < MIN_SIZE:
        raise ConfigError(f"size is {size}; give (height, width) of at least {MIN_SIZE} each")
    original = Segmenter(source)
    with atomic_path(path) as temporary:
        store_int8(source, temporary)
        smaller = Segmenter(temporary)
        pictures = [render_street(i, size)[0] for i in range(PICTURES)]
        figures = _compare(original, smaller, pictures, runs)
        figures |= {"bytes": temporary.stat().st_size, "fp32_bytes": source.stat().st_size}
    figures["times_smaller"] = figures["fp32_bytes"] / figures["bytes"]
    return {"path": path, **figures, "size": size, "summary": _summary(figures)}


def store_int8(source: str | Path, path: str | Path | None = None) -> None:
    """Write an exported file again with its weights in int8; see :func:`quantize_weights`, which measures too.

    Args:
        source: an exported fp32 file that gives logits.
        path: file to write; `source` itself where left out.
    """
    source = Path(source)
    onnx = require("onnx", "train", "Quantising")
    artifact = read_artifact(source)
    proto = onnx.load(str(source))
    _to_int8(onnx, proto, source)
    noted = replace(artifact, training=artifact.training | {"weights": "int8 per channel"}, verification={})
    with atomic_path(path or source) as temporary:
        temporary.write_bytes(proto.SerializeToString())
        write_artifact(temporary, noted)


def _to_int8(onnx: Any, proto: Any, source: Path) -> None:
    """Replace the weights of `proto` in place."""
    graph = proto.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    if any(node.op_type in _QUANTIZED for node in _all_nodes(graph)) or any(
        tensor.data_type == onnx.TensorProto.INT8 for tensor in graph.initializer
    ):
        raise ArtifactError(f"{source}: is quantised already; give the fp32 file")
    nodes = []
    for name, axis in _weight_axes(graph).items():
        tensor = tensors.get(name)
        if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        if len(tensor.dims) < 2 or np.prod(tensor.dims) < MIN_ELEMENTS:  # a vector is one channel, or all of them
            continue
        weight = onnx.numpy_helper.to_array(tensor)
        if not np.isfinite(weight).all():
            raise ArtifactError(f"{source}: weight {name} is not finite; export a network that trained well")
        codes, scale = quantize_array(weight, axis)
        graph.initializer.remove(tensor)
        graph.initializer.append(onnx.numpy_helper.from_array(codes, f"{name}_int8"))
        graph.initializer.append(onnx.numpy_helper.from_array(scale, f"{name}_scale"))
        cast = onnx.helper.make_node("Cast", [f"{name}_int8"], [f"{name}_codes"], to=onnx.TensorProto.FLOAT)
        nodes += [cast, onnx.helper.make_node("Mul", [f"{name}_codes", f"{name}_scale"], [name])]
    if not nodes:
        raise ArtifactError(f"{source}: has no fp32 weight of {MIN_ELEMENTS} elements to quantise; use it as it is")
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes + rest)
    del graph.value_info[:]  # notes of inner shapes, which runtimes infer themselves: 4 % of LEDNet's small file


def quantize_array(weight: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8 codes and fp32 scales, of a shape to multiply them with, one for each index of `axis`.

    ``codes * scale`` is within half a scale of `weight`, and a channel's largest weight is met as closely as fp32
    can. Channels of zeros have scale 1.
    """
    others = tuple(i for i in range(weight.ndim) if i != axis % weight.ndim)
    largest = np.abs(weight).max(axis=others, keepdims=True)
    # Below the smallest normal fp32 number a scale loses digits, or runtimes flush it to zero.
    scale = np.maximum(largest / np.float32(MAX_CODE), np.finfo(np.float32).tiny, dtype=np.float32)
    scale = np.where(largest == 0, np.float32(1), scale).astype(np.float32)
    codes = np.clip(np.rint(weight / scale), -MAX_CODE, MAX_CODE).astype(np.int8)
    return codes, scale


def _weight_axes(graph: Any) -> dict[str, int]:
    """Return the axis of the output's channels by weight, for tensors that are weights of one kind and nothing else.

    A weight that two layers share is there if they agree on the axis.
    """
    axes: dict[str, set[int | None]] = {}
    for node in _all_nodes(graph):
        for i, name in enumerate(node.input):
            axes.setdefault(name, set()).add(_axis(node) if i == _WEIGHT_INPUT else None)
    for port in (*graph.input, *graph.output):  # what a caller may replace or reads
        axes.setdefault(port.name, set()).add(None)
    single = {name: next(iter(found)) for name, found in axes.items() if len(found) == 1}
    return {name: axis for name, axis in single.items() if axis is not None}


def _axis(node: Any) -> int | None:
    """Return the axis of the output's channels in `node`'s weight, None if it has no weight."""
    if node.op_type == "Gemm":
        turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        return 0 if turned else 1
    return {"Conv": 0, "ConvTranspose": 1, "MatMul": -1}.get(node.op_type)


def _all_nodes(graph: Any) -> Iterator[Any]:
    """Yield the nodes of a graph and of the graphs inside them, which read its tensors too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g] * attribute.HasField("g") + list(attribute.graphs):
                yield from _all_nodes(inner)


def _compare(original: Segmenter, smaller: Segmenter, pictures: list[ImageArray], runs: int) -> dict[str, Any]:
    """Return the agreement of the masks and the medians of the two networks' times."""
    same = [np.mean(original.segment(picture) == smaller.segment(picture)) for picture in pictures]
    times: dict[str, list[float]] = {"fp32_latency_ms": [], "latency_ms": []}
    turns = list(zip(times, (original, smaller), strict=True))
    # In turns, either first as often, so that other programs and a processor that slows down hold up both alike.
    for i in range(WARMUP + runs):
        for key, segmenter in turns if i % 2 else reversed(turns):
            latency = segmenter.latency(pictures[0], runs=1, warmup=0)
            if i >= WARMUP:
                times[key].append(latency.percentile(50, "net"))
    medians = {key: float(np.median(values)) for key, values in times.items()}
    return {**medians, "agreement": float(np.mean(same)), "device": original.session.device}


def _summary(figures: dict[str, Any]) -> str:
    ratio, large, small = figures["times_smaller"], figures["fp32_bytes"] / 1e6, figures["bytes"] / 1e6
    return (
        f"{ratio:.1f} times smaller ({large:.1f} → {small:.1f} MB); {figures['latency_ms']:.1f} ms a frame against "
        f"{figures['fp32_latency_ms']:.1f} ms in fp32: weights are stored in 8 bits and computed in fp32, "
        "so it saves space, not time"
    )
