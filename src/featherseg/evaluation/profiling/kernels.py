"""The kernels that an engine runs for a network, each with its time: ONNX Runtime's and OpenVINO's own counters."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ArtifactError, ConfigError, did_you_mean, require
from ...core.precision import check_precision
from ...runtime.sessions.base import refusal, run_failure
from ...runtime.sessions.openvino import HINTS, openvino_core

ENGINES = ("onnxruntime", "openvino")


@dataclass(frozen=True)
class Kernel:
    """One thing that an engine runs.

    Args:
        name: what the engine calls it.
        kind: which operator or kernel it is.
        ms: median over the runs.
        bytes: read and written: inputs, weights, outputs.
    """

    name: str
    kind: str
    ms: float
    bytes: int


@dataclass(frozen=True)
class KernelTimes:
    """All kernels of a network, in the order they run.

    Args:
        kernels: those that took time.
        ms: median of whole runs, measured by the engine's caller while it counts.
        engine: with version and precision.
    """

    kernels: tuple[Kernel, ...]
    ms: float
    engine: str


def time_kernels(
    path: str | Path, images: NDArray[np.uint8], *, engine: str, threads: int, precision: str, runs: int, warmup: int
) -> KernelTimes:
    """Run a file several times with the engine's counters on.

    Args:
        path: an exported ONNX file.
        images: RGB uint8 (1, H, W, 3).
        engine: one of :data:`ENGINES`.
        threads: of the engine.
        precision: what OpenVINO computes floats in; ONNX Runtime knows ``"fp32"`` alone.
        runs: counted runs.
        warmup: runs before them.

    Raises:
        ArtifactError: the engine refuses the file, or cannot run it.
        ConfigError: the engine or the precision is unknown.
    """
    if engine not in ENGINES:
        raise ConfigError(f"engine is {engine!r}; {did_you_mean(engine, ENGINES)}")
    if engine == "onnxruntime":
        if precision != "fp32":
            raise ConfigError(f"precision is {precision!r}, but ONNX Runtime computes in fp32; use --engine openvino")
        return _onnxruntime(path, images, threads, runs, warmup)
    return _openvino(path, images, threads, precision, runs, warmup)


def _onnxruntime(path: str | Path, images: NDArray[np.uint8], threads: int, runs: int, warmup: int) -> KernelTimes:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        try:
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has a dozen of its own, with Exception as their only base
            raise refusal(path, "ONNX Runtime", error) from error
        output = [port.name for port in session.get_outputs()]
        times = []
        try:
            for _ in range(warmup + runs):
                begin = time.perf_counter()
                session.run(output, {"image": images})
                times.append((time.perf_counter() - begin) * 1000)
        except Exception as error:  # of its own again
            raise run_failure("ONNX Runtime", images, error) from error
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    per_node: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            per_node[name.removesuffix("_kernel_time")].append(event)
    kernels = []
    for name, seen in per_node.items():
        facts = seen[-1]["args"]
        sizes = (int(facts.get(key, 0)) for key in ("activation_size", "parameter_size", "output_size"))
        ms = statistics.median(event["dur"] for event in seen[-runs:]) / 1000
        kernels.append(Kernel(name, str(facts.get("op_name", "")), ms, sum(sizes)))
    return KernelTimes(tuple(kernels), statistics.median(times[warmup:]), f"onnxruntime {ort.__version__} fp32")


def _openvino(
    path: str | Path, images: NDArray[np.uint8], threads: int, precision: str, runs: int, warmup: int
) -> KernelTimes:
    hint = HINTS[check_precision(precision, HINTS)]
    openvino = require("openvino", "openvino", "Profiling with OpenVINO")
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": str(threads),
        "PERFORMANCE_HINT": "LATENCY",
        "PERF_COUNT": "YES",
    }
    try:
        model = openvino_core(openvino).read_model(str(path))
        model.reshape({"image": list(images.shape)})
        compiled = openvino_core(openvino).compile_model(model, "CPU", settings)
        request = compiled.create_infer_request()
        times: list[float] = []
        counters: dict[str, list[float]] = defaultdict(list)
        kinds: dict[str, str] = {}
        for i in range(warmup + runs):
            begin = time.perf_counter()
            request.infer({"image": images}, share_inputs=True)
            times.append((time.perf_counter() - begin) * 1000)
            for entry in request.get_profiling_info() if i >= warmup else ():
                if str(entry.status).endswith("EXECUTED"):
                    counters[entry.node_name].append(entry.real_time.total_seconds() * 1000)
                    kinds[entry.node_name] = f"{entry.node_type} {entry.exec_type}"
        operators = {operator.get_friendly_name(): operator for operator in compiled.get_runtime_model().get_ops()}
    except RuntimeError as error:
        raise ArtifactError(f"{path}: OpenVINO cannot profile it ({str(error).splitlines()[-1][:200]})") from error
    kernels = [
        Kernel(name, kinds[name], statistics.median(ms), _traffic(operators.get(name))) for name, ms in counters.items()
    ]
    version = openvino.__version__.partition("-")[0]
    return KernelTimes(tuple(kernels), statistics.median(times[warmup:]), f"openvino {version} {precision}")


def _traffic(operator: Any) -> int:
    """Return the bytes of an executed operator's inputs and outputs, as far as their shapes are fixed."""
    if operator is None:
        return 0
    ports = [*(port.get_source_output() for port in operator.inputs()), *operator.outputs()]
    sizes = (port.partial_shape for port in ports)
    elements = [int(np.prod(shape.to_shape())) if shape.is_static else 0 for shape in sizes]
    return sum(count * port.element_type.size for count, port in zip(elements, ports, strict=True))
