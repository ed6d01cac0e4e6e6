"""TensorRT engines from exported files, for NVIDIA GPUs.

Networks are strongly typed, the only kind that TensorRT 11 and TensorRT-RTX have: the precision is the graph's own,
so an fp16 engine comes from a graph that is turned to fp16 here, and an int8 engine from a file that has its
``QuantizeLinear`` operators already.

Source of the interface: https://docs.nvidia.com/deeplearning/tensorrt/latest/api/migration/ and the docstrings of
``tensorrt_rtx`` 1.7, with which engines were built on a machine without a GPU.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ArtifactError, ConfigError, did_you_mean, require
from ..core.files import write_atomically
from ..core.staging import staged
from ..core.types import MIN_SIZE
from ..runtime.artifact import read_artifact
from ..runtime.containers import METADATA_KEY, write_companion
from ..runtime.sessions.tensorrt import error_log, first_message
from .fixed import graph_size

PRECISIONS = ("fp16", "fp32", "int8")
SIZES = ((MIN_SIZE, MIN_SIZE), (512, 1024), (1088, 2048))
"""Smallest, best and largest (height, width) where neither caller nor file says."""
MAX_HALF = float(np.finfo(np.float16).max)

_FLOAT32_OPERATORS = {"GlobalAveragePool", "Range", "ReduceMean", "ReduceSum"}
"""Sums over thousands of pixels, which may pass float16's 65504, stay float32; Range has no float16 in ONNX."""
_FLOAT32_INPUTS = {"Resize": (1, 2)}
"""Inputs that ONNX wants in float32 whatever the others are: of Resize the region and the scales."""


def build_engine(
    onnx_path: str | Path,
    path: str | Path,
    *,
    precision: str = "fp16",
    min_size: tuple[int, int] | None = None,
    opt_size: tuple[int, int] | None = None,
    max_size: tuple[int, int] | None = None,
    max_batch: int = 1,
    timing_cache: str | Path | None = None,
) -> Path:
    """Build an engine that takes ``image``, uint8 RGB (B, H, W, 3), and gives what the file gives, such as logits.

    The package ``tensorrt`` is used where it is installed; its engines run on GPUs like the one they are built on.
    Else ``tensorrt_rtx``, which needs no GPU to build; its engines run on RTX GPUs from Ampere on, with that package.
    An engine cannot say what it is, so ``model.engine.json`` does, beside ``model.engine``; it is a plain engine for
    other programs. Neither is verified here.

    Args:
        onnx_path: the exported file.
        path: engine to write, ending in ``.engine``; it appears whole, with its companion, or not at all.
        precision: ``"fp32"``, exact (no TF32); ``"fp16"``, sums over whole maps still in fp32; ``"int8"``, for a
            file with ``QuantizeLinear`` operators, whose other operators stay fp32.
        min_size: smallest (height, width) of images; 64x64 where left out. A file of one size has that alone.
        opt_size: (height, width) that the engine is fastest at; 512x1024 where left out.
        max_size: largest (height, width), which memory is set aside for; 1088x2048 where left out.
        max_batch: largest number of images at once; it is fastest at one.
        timing_cache: file of kernel timings to read, if it is there, and to write: building again is then much
            faster. TensorRT-RTX has none.

    Returns:
        `path`.

    Raises:
        ConfigError: an argument is out of range, or the file is not of a kind that `precision` can be made of.
        ArtifactError: the file is missing or not from featherseg, or TensorRT refuses it or fails on it.
        MissingExtraError: neither TensorRT nor ``onnx`` is installed.
    """
    onnx_path, path = Path(onnx_path), Path(path)
    if precision not in PRECISIONS:
        raise ConfigError(f"precision is {precision!r}; {did_you_mean(precision, PRECISIONS)}")
    if path.suffix.lower() != ".engine":
        raise ConfigError(f"{path}: engines end in .engine; call it {path.with_suffix('.engine').name}")
    artifact = read_artifact(onnx_path)
    onnx = require("onnx", "train", "Reading an exported file")
    proto = onnx.load(str(onnx_path))
    shapes = _profile_shapes((min_size, opt_size, max_size), graph_size(proto), max_batch)
    trt = _tensorrt()
    if timing_cache is not None and trt.__name__ == "tensorrt_rtx":
        raise ConfigError(
            f"timing_cache is {timing_cache}, but tensorrt_rtx times nothing when it builds; leave it out"
        )
    proto = _prepare(onnx, proto, onnx_path, precision)
    cache = Path(timing_cache) if timing_cache is not None else None
    engine = _build(trt, proto.SerializeToString(), onnx_path, precision, shapes, cache)
    with staged(path) as temporary:
        temporary.write_bytes(engine)
        text = replace(artifact, verification={}).to_metadata()[METADATA_KEY]
        write_companion(temporary, text, f"{trt.__name__} {trt.__version__}, {precision}")
    return path


def _tensorrt() -> Any:
    try:
        return importlib.import_module("tensorrt")
    except ImportError:
        return require("tensorrt_rtx", "tensorrt", "Building a TensorRT engine")


def _profile_shapes(
    given: tuple[tuple[int, int] | None, ...], fixed: tuple[int, int] | None, max_batch: int
) -> tuple[tuple[int, ...], ...]:
    """Return the smallest, best and largest shape of ``image``, from the sizes that were given and the file's own."""
    names = ("min_size", "opt_size", "max_size")
    sizes = []
    for name, size, default in zip(names, given, SIZES, strict=True):
        if size is not None and (len(size) != 2 or min(size) < MIN_SIZE):
            raise ConfigError(f"{name} is {size}; give (height, width) of at least {MIN_SIZE} each")
        if fixed is not None and size not in (None, fixed):
            raise ConfigError(f"{name} is {size}, but the file takes {fixed[0]}x{fixed[1]} alone; leave it out")
        sizes.append(fixed or size or default)
    low, best, high = sizes
    if not all(low[i] <= best[i] <= high[i] for i in (0, 1)):
        raise ConfigError(f"sizes {low}, {best}, {high} do not rise; give min_size <= opt_size <= max_size")
    if max_batch < 1:
        raise ConfigError(f"max_batch is {max_batch}; give at least 1")
    return (1, *low, 3), (1, *best, 3), (max_batch, *high, 3)


def _build(
    trt: Any, content: bytes, source: Path, precision: str, shapes: tuple[tuple[int, ...], ...], cache: Path | None
) -> Any:
    """Return the engine of an ONNX file's `content`, a buffer of bytes."""
    log = error_log(trt)
    try:
        builder = trt.Builder(log)
    except Exception as error:  # the full TensorRT has no builder without a GPU, and says so with a TypeError
        reason = first_message([*log.errors, str(error)])
        raise ConfigError(
            f"{trt.__name__} {trt.__version__} cannot build engines on this machine ({reason}); build on one with an "
            "NVIDIA GPU and its driver, or with tensorrt-rtx instead"
        ) from error
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(content):
        raise ArtifactError(
            f"{source}: TensorRT refuses {_failing_node(parser)}; try another precision, or export it again"
        )
    config = builder.create_builder_config()
    if precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default: products of 10-bit mantissas
    profile = builder.create_optimization_profile()
    profile.set_shape("image", *shapes)
    config.add_optimization_profile(profile)
    if cache is not None:
        timings = config.create_timing_cache(cache.read_bytes() if cache.is_file() else b"")
        if timings is None or not config.set_timing_cache(timings, False):
            raise ConfigError(f"timing_cache {cache} is not of this GPU and TensorRT; name another, or delete it")
    log.errors.clear()
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ArtifactError(f"{source}: TensorRT cannot build it ({first_message(log.errors)}); try smaller sizes")
    if cache is not None:
        write_atomically(cache, lambda file: file.write(config.get_timing_cache().serialize()))
    return engine


def _failing_node(parser: Any) -> str:
    """Describe the first node that the parser refuses."""
    if parser.num_errors == 0:
        return "the file"
    error = parser.get_error(0)
    lines = [line.strip() for line in error.desc().splitlines() if line.strip()]
    # The first line only repeats the node's name where there is a second; of a check that failed it is "false".
    reason = first_message(lines[1:] or lines)
    code = error.code().name.lower().replace("_", " ")
    words = [error.node_operator(), code, *([] if reason == "false" else [reason])]
    return f"node {error.node_name() or error.node()} ({': '.join(words)})"


def _prepare(onnx: Any, proto: Any, source: Path, precision: str) -> Any:
    """Return `proto` as TensorRT takes it in this precision; refuse what would give another one."""
    graph = proto.graph
    quantized = any(node.op_type == "QuantizeLinear" for node in graph.node)
    if precision == "int8" and not quantized:
        raise ConfigError(
            f"{source}: has no QuantizeLinear operators, so its activations have no int8 ranges; give a file quantised "
            "with calibration, or precision fp16"
        )
    if precision != "int8" and quantized:
        raise ConfigError(f"{source}: has int8 operators, so its engine is none of {precision}; give precision int8")
    _fold_weights(onnx, graph)
    # TensorRT takes uint8 as a network's input, but no operator other than Cast takes it there.
    image = f"{graph.input[0].name}_float"
    cast = onnx.helper.make_node("Cast", [graph.input[0].name], [image], name="image_cast", to=onnx.TensorProto.FLOAT)
    for node in graph.node:
        if node.op_type not in ("Cast", "Shape"):
            _rename_inputs(node, {graph.input[0].name: image})
    graph.node.insert(0, cast)
    del graph.value_info[:]  # types of before
    try:
        if precision == "fp16":
            inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True).graph
            _Halver(onnx, graph, inferred, source).run()
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = first_message([str(error)])
        raise ArtifactError(
            f"{source}: ONNX finds its graph faulty in {precision} ({reason}); export it again"
        ) from error
    return proto


def _rename_inputs(node: Any, names: dict[str, str]) -> None:
    for i, name in enumerate(node.input):
        node.input[i] = names.get(name, name)


def _fold_weights(onnx: Any, graph: Any) -> None:
    """Turn the weights stored by :mod:`featherseg.compress.weights_int8` back; TensorRT refuses them as they are.

    In place: a ``Cast`` of an int8 tensor and the ``Mul`` with its scales become one float32 tensor.
    """
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for cast in [node for node in graph.node if node.op_type == "Cast" and node.input[0] in tensors]:
        readers = [node for node in graph.node if cast.output[0] in node.input]
        codes = tensors[cast.input[0]]
        if codes.data_type != onnx.TensorProto.INT8 or len(readers) != 1 or readers[0].op_type != "Mul":
            continue
        mul = readers[0]
        scale = next((tensors[name] for name in mul.input if name in tensors), None)
        if scale is None:
            continue
        to_array = onnx.numpy_helper.to_array
        weight = to_array(codes).astype(np.float32) * to_array(scale)
        graph.initializer.append(onnx.numpy_helper.from_array(weight, mul.output[0]))
        for used in (codes, scale):
            graph.initializer.remove(used)
        for node in (cast, mul):
            graph.node.remove(node)


class _Halver:
    """Turns the float32 tensors of a graph to float16 in place, but for its inputs, outputs and sums.

    It goes node by node; a tensor that is needed in the other of the two types is cast there.

    Args:
        onnx: the package.
        graph: a GraphProto, sorted.
        inferred: the same with the types of all tensors.
        source: the file, for messages.
    """

    def __init__(self, onnx: Any, graph: Any, inferred: Any, source: Path) -> None:
        self.onnx, self.graph, self.source = onnx, graph, source
        ports = (*inferred.value_info, *inferred.input, *inferred.output)
        self.types = {port.name: port.type.tensor_type.elem_type for port in ports}
        self.types |= {tensor.name: tensor.data_type for tensor in inferred.initializer}
        self.full, self.half = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.wide = {port.name for port in graph.input}  # tensors that stay float32
        self.nodes: list[Any] = []
        self.cast_names: dict[str, str] = {}

    def run(self) -> None:
        """Rewrite the graph."""
        for node in self.graph.node:
            self._rewrite(node)
        for port in self.graph.output:
            if self._is_float(port.name) and port.name not in self.wide:
                self._restore(port.name)
        read = {name for node in self.nodes for name in node.input}
        kept = [tensor for tensor in self.tensors.values() if tensor.name in read]
        del self.graph.node[:], self.graph.initializer[:], self.graph.value_info[:]
        self.graph.node.extend(self.nodes)
        self.graph.initializer.extend(kept)

    def _is_float(self, name: str) -> bool:
        return bool(self.types.get(name) == self.full)

    def _rewrite(self, node: Any) -> None:
        wide = node.op_type in _FLOAT32_OPERATORS
        if any(attribute.HasField("g") for attribute in node.attribute):
            raise ArtifactError(f"{self.source}: node {node.name} has branches or loops; build it in fp32")
        if node.op_type == "Cast" and self._is_float(node.output[0]):
            if self.types.get(node.input[0]) in (self.onnx.TensorProto.INT64, self.onnx.TensorProto.INT32):
                # Sizes above 2048 are no longer whole in float16.
                raise ArtifactError(f"{self.source}: node {node.name} reckons sizes in floats; build it in fp32")
            next(a for a in node.attribute if a.name == "to").i = self.half
        for attribute in node.attribute:  # of Constant and ConstantOfShape
            if attribute.HasField("t") and attribute.t.data_type == self.full:
                attribute.t.CopyFrom(self._half_tensor(attribute.t, attribute.t.name))
        for i, name in enumerate(node.input):
            if self._is_float(name):
                node.input[i] = self._typed(name, wide or i in _FLOAT32_INPUTS.get(node.op_type, ()))
        if wide:
            self.wide.update(node.output)
        self.nodes.append(node)

    def _typed(self, name: str, wide: bool) -> str:
        """Return the name of tensor `name` in float32 if `wide`, else in float16."""
        if name in self.tensors:
            half = f"{name}_half"
            if not wide and half not in self.tensors:
                self.tensors[half] = self._half_tensor(self.tensors[name], half)
            return name if wide else half
        if (name in self.wide) == wide:
            return name
        if name not in self.cast_names:
            self.cast_names[name] = f"{name}_{'full' if wide else 'half'}"
            to = self.full if wide else self.half
            self.nodes.append(self._cast(name, self.cast_names[name], to))
        return self.cast_names[name]

    def _restore(self, output: str) -> None:
        """Give the graph's output its float32 again."""
        inner = f"{output}_inner"
        for node in self.nodes:
            _rename_inputs(node, {output: inner})
            for i, name in enumerate(node.output):
                node.output[i] = inner if name == output else name
        self.nodes.append(self._cast(inner, output, self.full))

    def _cast(self, name: str, output: str, to: int) -> Any:
        return self.onnx.helper.make_node("Cast", [name], [output], name=f"{output}_cast", to=to)

    def _half_tensor(self, tensor: Any, name: str) -> Any:
        values = self.onnx.numpy_helper.to_array(tensor)
        if values.size > 1 and not np.abs(values).max() <= MAX_HALF:
            raise ArtifactError(
                f"{self.source}: tensor {tensor.name} has values that float16 cannot hold (above {MAX_HALF:.0f}); "
                "build it in fp32"
            )
        # Of a lone number, such as a Clip's bound, the largest float16 does as well.
        return self.onnx.numpy_helper.from_array(np.clip(values, -MAX_HALF, MAX_HALF).astype(np.float16), name)
