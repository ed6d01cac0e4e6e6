"""TensorRT and TensorRT-RTX, on NVIDIA GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ArtifactError, ConfigError, require
from ...core.files import sha256
from ..containers import read_companion
from .base import Session, check_ports, check_size, checked_threads, fixed_size, logits_artifact, run_failure, sessions
from .cuda import Driver, DriverError, Memory

PACKAGES = ("tensorrt", "tensorrt_rtx")
"""Engines of one run with that one alone."""


@sessions.register("tensorrt")
class TensorRTSession(Session):
    """An engine on an NVIDIA GPU, with the package that built it.

    Args:
        path: the ``.engine`` file, with its ``.engine.json`` beside it.
        gpu: number of the GPU, from 0.
        threads: taken as by all sessions, and of no effect: nothing is computed on the processor.

    Raises:
        ArtifactError: see :func:`open_session`; the engine is another than its companion's, or of another version.
        ConfigError: this machine has no NVIDIA driver or no such GPU.
        MissingExtraError: the package that built it is not installed.
    """

    name = "tensorrt"
    suffixes = (".engine",)
    precision = None  # as it was built

    def __init__(self, path: str | Path, gpu: int = 0, threads: int | None = None) -> None:
        if threads is not None:
            checked_threads(threads)
        path = Path(path)
        self.artifact = logits_artifact(path)
        companion = read_companion(path)
        if sha256(path) != companion["sha256"]:
            raise ArtifactError(f"{path}: is not the engine that {path.name}.json is of; copy both files, or build it")
        package = companion["built_with"].partition(" ")[0]
        if package not in PACKAGES:
            raise ArtifactError(f"{path}: was built with {package[:40]!r}, not {' or '.join(PACKAGES)}; build it again")
        trt = require(package, "tensorrt", f"Running {path.name}")
        try:
            self._driver = Driver(gpu)
        except DriverError as error:
            raise ConfigError(
                f"{path}: GPU {gpu} cannot be used ({error}); run the .onnx file that it was built from instead"
            ) from error
        self._log = error_log(trt)
        self._runtime = trt.Runtime(self._log)  # has to outlive the engine
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise ArtifactError(
                f"{path}: {package} {trt.__version__} refuses it, built with {companion['built_with'][:80]} "
                f"({first_message(self._log.errors)}); build it on this machine"
            )
        self._check(trt, path)
        self._low, _, self._high = (tuple(shape) for shape in self._engine.get_tensor_profile_shape("image", 0))
        self.size = fixed_size(self._low) if self._low[1:3] == self._high[1:3] else None
        self._context = self._engine.create_execution_context()
        if self._context is None:
            reason = first_message(self._log.errors)
            raise ConfigError(
                f"{path}: GPU {gpu} cannot run it ({reason}); free its memory, or build for smaller sizes"
            )
        self._image, self._logits = Memory(self._driver), Memory(self._driver)
        self.device = f"{self._driver.name}, {companion['built_with']}"

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits (B, C, h, w) of images, uint8 (B, H, W, 3); of as many at once as the engine was built for.

        Raises:
            ArtifactError: the engine was not built for this size, or breaks on it.
        """
        check_size(self.size, images)
        low, high = self._low, self._high
        if not all(low[i] <= images.shape[i] <= high[i] for i in (1, 2)):
            raise ArtifactError(
                f"the engine takes images from {low[1]}x{low[2]} to {high[1]}x{high[2]}, not "
                f"{images.shape[1]}x{images.shape[2]}; give the segmenter a size, or build it with another max_size"
            )
        count = high[0]
        try:
            self._driver.enter()
            parts = [self._infer(np.ascontiguousarray(images[i : i + count])) for i in range(0, len(images), count)]
        except DriverError as error:
            raise run_failure("TensorRT", images, error) from error
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _infer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self._log.errors.clear()
        self._driver.upload(self._image, images)
        self._context.set_input_shape("image", images.shape)
        logits = np.empty(tuple(self._context.get_tensor_shape("logits")), np.float32)
        self._context.set_tensor_address("image", self._image.reserve(images.nbytes))
        self._context.set_tensor_address("logits", self._logits.reserve(logits.nbytes))
        if not self._context.execute_async_v3(self._driver.stream):
            raise DriverError(first_message(self._log.errors))
        self._driver.download(self._logits, logits)
        self._driver.wait()
        return logits

    def _check(self, trt: Any, path: Path) -> None:
        """Refuse an engine that is not what its companion says."""
        engine = self._engine
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        bytes_in = {name: engine.get_tensor_dtype(name) == trt.DataType.UINT8 for name in inputs}
        floats_out = [n for n in names if n not in inputs and engine.get_tensor_dtype(n) == trt.DataType.FLOAT]
        check_ports(
            path,
            self.artifact,
            {name: "tensor(uint8)" if is_uint8 else "another" for name, is_uint8 in bytes_in.items()},
            {name: tuple(engine.get_tensor_shape(name)) for name in floats_out},
        )


def error_log(trt: Any) -> Any:
    """Return a logger for `trt` that keeps the errors, which TensorRT would print, in ``.errors``."""

    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps the errors."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.errors.append(message)

    return Log()


def first_message(messages: list[str]) -> str:
    """Return the first line that says something, cut to a readable length."""
    lines = [line.strip() for message in messages for line in message.splitlines() if line.strip()]
    return lines[0][:200] if lines else "no reason given"
