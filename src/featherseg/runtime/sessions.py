"""Sessions: what runs an exported file. uint8 images in, float32 logits out, whatever engine is inside."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..errors import ArtifactError, ConfigError, did_you_mean, first_line, require
from ..registry import Registry
from .artifact import Artifact, read_artifact


@runtime_checkable
class Session(Protocol):
    """A network that is ready to run, in any engine."""

    @property
    def artifact(self) -> Artifact:
        """What the network says of itself."""

    @property
    def name(self) -> str:
        """Short name of the engine."""

    @property
    def device(self) -> str:
        """Where and how it runs, for people: processor, threads, provider, precision, versions."""

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits (B, C, h, w) at the network's stride of RGB images, uint8 (B, H, W, 3).

        H and W are at least ``MIN_SIZE``; smaller frames are the segmenter's business.
        """


sessions: Registry[Callable[..., Session]] = Registry("backend")


def open_session(path: str | Path, backend: str = "auto", **options: Any) -> Session:
    """Open an exported file.

    Args:
        path: the file.
        backend: a name in :data:`sessions`; ``"auto"`` is ONNX Runtime, which the base install brings.
        options: of the backend, such as ``threads`` or ``precision``.

    Raises:
        ArtifactError: the file is missing, damaged, not from featherseg, or gives no logits.
        ConfigError: the backend or one of the options is unknown or out of range.
        MissingExtraError: the backend's package is not installed.
    """
    session: Session = sessions.create("onnxruntime" if backend == "auto" else backend, path, **options)
    return session


def available_threads() -> int:
    """Return the number of processor threads this process may use (its affinity, where the system has one)."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def cpu_name() -> str:
    """Return the processor's name, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.lower().startswith(("model name", "hardware")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@sessions.register("onnxruntime")
class OnnxSession:
    """ONNX Runtime on the CPU.

    Args:
        path: the exported file.
        threads: threads inside an operator; all that the process may use where not given.

    Raises:
        ArtifactError: see :func:`open_session`.
        ConfigError: `threads` is below 1.
    """

    name = "onnxruntime"

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        import onnxruntime as ort

        threads = _checked_threads(threads)
        self.artifact = _logits_artifact(path)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 4  # fatal only: what matters comes as an exception
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has a dozen of its own, with Exception as their only base
            raise ArtifactError(f"{path}: ONNX Runtime refuses it ({first_line(error)}); export it again") from error
        _check_ports(
            path,
            self.artifact,
            {port.name: port.type for port in self._session.get_inputs()},
            {port.name: list(port.shape) for port in self._session.get_outputs()},
        )
        self.device = f"{cpu_name()}, threads: {threads}, CPUExecutionProvider, f32, onnxruntime {ort.__version__}"

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits (B, C, h, w) of images, uint8 (B, H, W, 3).

        Raises:
            ArtifactError: the graph breaks on images of this size.
        """
        try:
            logits: NDArray[np.float32] = self._session.run(["logits"], {"image": images})[0]
        except Exception as error:  # of its own again
            raise ArtifactError(_run_failure("ONNX Runtime", images, error)) from error
        return logits


@sessions.register("openvino")
class OpenVinoSession:
    """OpenVINO on the CPU, from the same ONNX file.

    Args:
        path: the exported file.
        threads: threads to run on; all that the process may use where not given.
        precision: ``"f32"`` (exact), or ``"bf16"`` or ``"f16"``, which are faster where the processor has them.
            Always passed on: by itself OpenVINO takes bf16 on some processors.

    Raises:
        ArtifactError: see :func:`open_session`.
        ConfigError: `threads` is below 1, or `precision` unknown.
        MissingExtraError: OpenVINO is not installed.
    """

    name = "openvino"

    def __init__(self, path: str | Path, threads: int | None = None, precision: str = "f32") -> None:
        threads = _checked_threads(threads)
        known = ("f32", "bf16", "f16")
        if precision not in known:
            raise ConfigError(f"precision is {precision!r}; {did_you_mean(precision, known)}")
        openvino = require("openvino", "openvino", "Running with OpenVINO")
        self.artifact = _logits_artifact(path)
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": str(threads),
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            self._model = openvino.Core().compile_model(str(path), "CPU", settings)
        except RuntimeError as error:
            raise ArtifactError(f"{path}: OpenVINO refuses it ({first_line(error)}); export it again") from error
        _check_ports(
            path,
            self.artifact,
            {port.any_name: f"tensor({port.element_type.to_string()})" for port in self._model.inputs},
            {port.any_name: [d.to_string() for d in port.partial_shape] for port in self._model.outputs},
        )
        self._request = self._model.create_infer_request()
        self.device = f"{cpu_name()}, threads: {threads}, CPU, {precision}, openvino {openvino.__version__}"

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits (B, C, h, w) of images, uint8 (B, H, W, 3).

        Raises:
            ArtifactError: the graph breaks on images of this size.
        """
        try:
            results = self._request.infer({"image": images}, share_inputs=True)
        except RuntimeError as error:
            raise ArtifactError(_run_failure("OpenVINO", images, error)) from error
        return np.array(results["logits"], np.float32)  # a copy: OpenVINO writes the next result over this one


def _checked_threads(threads: int | None) -> int:
    if threads is None:
        return available_threads()
    if threads < 1:
        raise ConfigError(f"threads is {threads}; give at least 1, or leave it out to use all {available_threads()}")
    return threads


def _logits_artifact(path: str | Path) -> Artifact:
    artifact = read_artifact(path)
    if artifact.output != "logits":
        raise ArtifactError(
            f"{path}: gives a {artifact.output}, for foreign runtimes; export it with output logits for featherseg"
        )
    return artifact


def _check_ports(path: str | Path, artifact: Artifact, inputs: dict[str, str], outputs: dict[str, list[Any]]) -> None:
    """Refuse a graph that is not what its metadata says, before it gives wrong masks."""
    if inputs.get("image") not in ("tensor(uint8)", "tensor(u8)") or len(outputs.get("logits", ())) != 4:
        raise ArtifactError(f"{path}: its graph is not uint8 image -> logits (B, C, h, w); export it with featherseg")
    channels = str(outputs["logits"][1])
    if channels.isdigit() and int(channels) != len(artifact.classes):
        raise ArtifactError(
            f"{path}: its graph has {channels} classes but its metadata names {len(artifact.classes)}; export it again"
        )


def _run_failure(engine: str, images: NDArray[np.uint8], error: Exception) -> str:
    return f"{engine} cannot run the file on images {images.shape} ({first_line(error)}); export and verify it again"
