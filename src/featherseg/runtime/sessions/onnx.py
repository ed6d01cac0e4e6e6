"""ONNX Runtime, which the base install brings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...core.machine import adds_bytes_in_16_bits, cpu_name
from .base import (
    Session,
    check_ports,
    check_size,
    checked_threads,
    fixed_size,
    logits_artifact,
    refusal,
    run_failure,
    sessions,
    shares,
)


@sessions.register("onnxruntime")
class OnnxSession(Session):
    """ONNX Runtime on the CPU. Any number of threads may run it at once.

    Images go in without a copy; binding the output to memory of ours as well was measured to save nothing.

    Args:
        path: the exported ``.onnx`` file.
        threads: threads inside an operator; all that the process may use where not given.

    Raises:
        ArtifactError: see :func:`open_session`.
        ConfigError: `threads` is below 1.
    """

    name = "onnxruntime"
    suffixes = (".onnx",)
    thread_safe = True

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        import onnxruntime as ort

        threads = checked_threads(threads)
        self.path, self.threads = Path(path), threads
        self._divided: OnnxSession | None = None
        self.artifact = logits_artifact(path)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 4  # fatal only: what matters comes as an exception
        if adds_bytes_in_16_bits():
            # Kernels that do not overflow; with VNNI none do, and these take 2.3 times as long.
            options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has a dozen of its own, with Exception as their only base
            raise refusal(path, "ONNX Runtime", error) from error
        inputs = {port.name: port for port in self._session.get_inputs()}
        outputs = {port.name: list(port.shape) for port in self._session.get_outputs()}
        check_ports(path, self.artifact, {name: port.type for name, port in inputs.items()}, outputs)
        self.size = fixed_size(inputs["image"].shape)
        self.device = f"{cpu_name()}, threads: {threads}, CPUExecutionProvider, fp32, onnxruntime {ort.__version__}"

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits (B, C, h, w) of images, uint8 (B, H, W, 3).

        Raises:
            ArtifactError: the file is fixed to another size, or the graph breaks on images of this one.
        """
        check_size(self.size, images)
        try:
            logits: NDArray[np.float32] = self._session.run(["logits"], {"image": images})[0]
        except Exception as error:  # of its own again
            raise run_failure("ONNX Runtime", images, error) from error
        return logits

    def divided(self, count: int | None = None) -> OnnxSession:
        """Return a session of the same file for several images at once; see :meth:`Session.divided`.

        With one thread for each, ONNX Runtime computes in the thread that calls it, and no thread of its own spins.
        """
        streams, threads = shares(self.threads, count)
        if streams == 1 or self.streams > 1:
            return self
        if self._divided is None or self._divided.streams != streams:
            self._divided = OnnxSession(self.path, threads)
            self._divided.streams = streams
            self._divided.device = self.device.replace(", ", f", images at once: {streams}, ", 1)
        return self._divided
