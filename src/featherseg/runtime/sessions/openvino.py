"""OpenVINO, for Intel's and other processors."""

from __future__ import annotations

import copy
from collections import deque
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ArtifactError, require
from ...core.files import sha256
from ...core.machine import cpu_name
from ...core.precision import check_precision
from ..containers import WEIGHTS_KEY, openvino_info
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

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
"""Our words for precisions, and those of OpenVINO's setting."""


@sessions.register("openvino")
class OpenVinoSession(Session):
    """OpenVINO on the CPU, from its own format or an ONNX file. Any number of threads may run it at once.

    Images of a batch go through the network one after the other (see :func:`pin_batch`).

    Args:
        path: the exported ``.xml``, with its ``.bin`` beside it, or ``.onnx`` file.
        threads: threads to run on; all that the process may use where not given.
        precision: ``"fp32"`` (exact), or ``"bf16"`` or ``"fp16"``, which are faster where the processor has them.
            Always passed on: by itself OpenVINO takes bf16 on some processors.

    Raises:
        ArtifactError: see :func:`open_session`; the ``.bin`` is missing or another's.
        ConfigError: `threads` is below 1, or `precision` unknown.
        MissingExtraError: OpenVINO is not installed.
    """

    name = "openvino"
    suffixes = (".xml", ".onnx")
    thread_safe = True

    def __init__(self, path: str | Path, threads: int | None = None, precision: str = "fp32") -> None:
        threads, hint = checked_threads(threads), HINTS[check_precision(precision, HINTS)]
        self.precision = precision
        openvino = require("openvino", "openvino", "Running with OpenVINO")
        self.artifact = logits_artifact(path)
        if Path(path).suffix.lower() == ".xml":
            _check_weights(Path(path))
        settings = {
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": str(threads),
            "PERFORMANCE_HINT": "LATENCY",
        }
        self.threads = threads
        core = openvino_core(openvino)
        try:
            self._source = core.read_model(str(path))
            pin_batch(openvino, self._source)
            self._settings = settings
            self._compile: Any = partial(core.compile_model, device_name="CPU", config=settings)
            self._model = self._compile(self._source)
        except RuntimeError as error:
            raise refusal(path, "OpenVINO", error) from error
        inputs = {port.any_name: port for port in self._model.inputs}
        check_ports(
            path,
            self.artifact,
            {name: f"tensor({port.element_type.to_string()})" for name, port in inputs.items()},
            {port.any_name: [d.to_string() for d in port.partial_shape] for port in self._model.outputs},
        )
        self.size = fixed_size([dimension.to_string() for dimension in inputs["image"].partial_shape])
        self._idle: deque[Any] = deque()
        self.device = f"{cpu_name()}, threads: {threads}, CPU, {precision}, openvino {openvino.__version__}"

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits (B, C, h, w) of images, uint8 (B, H, W, 3).

        Raises:
            ArtifactError: the file is fixed to another size, or the graph breaks on images of this one.
        """
        check_size(self.size, images)
        try:
            logits = [self._infer(images[i : i + 1]) for i in range(len(images))]
        except RuntimeError as error:
            raise run_failure("OpenVINO", images, error) from error
        return logits[0] if len(logits) == 1 else np.concatenate(logits)

    def planned(self, size: tuple[int, int]) -> OpenVinoSession:
        """Return a session of the same file for images of (height, width) `size` alone: 2 to 5 % quicker.

        Raises:
            ArtifactError: the graph breaks on images of this size.
        """
        model = self._source.clone()
        other = copy.copy(self)
        other.size, other._idle = size, deque()
        try:
            model.reshape({"image": [1, *size, 3]})
            other._model = self._compile(model)
        except RuntimeError as error:
            raise run_failure("OpenVINO", np.empty((1, *size, 3), np.uint8), error) from error
        return other

    def divided(self, count: int | None = None) -> OpenVinoSession:
        """Return a session of the same file for several images at once; see :meth:`Session.divided`."""
        streams, _ = shares(self.threads, count)
        if streams == 1 or self.streams > 1:
            return self
        other = copy.copy(self)
        other._idle, other.streams = deque(), streams
        hint = {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": str(streams)}
        other._compile = partial(self._compile, config=self._settings | hint)
        other._model = other._compile(self._source)
        other.device = self.device.replace(", ", f", images at once: {streams}, ", 1)
        return other

    def _infer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run a request that no other thread runs at the moment; there are as many as ever ran at once."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._model.create_infer_request()
        try:
            # A copy, since the request writes its next result over this one.
            return np.array(
                request.infer({"image": images}, share_inputs=True, share_outputs=True)["logits"], np.float32
            )
        finally:
            self._idle.append(request)


@cache
def openvino_core(openvino: Any) -> Any:
    """Return the one ``openvino.Core`` of this process.

    One that is never let go: each core puts a stack for signal handlers in place and puts back, when it goes, the one
    it found. Of two cores that go in the order in which they came, the second puts back the stack that the first took
    away, and the next signal that Python handles (a worker's end, Ctrl-C) is a segmentation fault (2026.4, Linux).
    """
    return openvino.Core()


def pin_batch(openvino: Any, model: Any) -> None:
    """Fix the batch of a model's images to one, height and width as they are.

    OpenVINO computes some int8 networks of a free batch wrongly, without a word: of FastSegNet (2026.4, CPU) 5 % of
    the pixels came out right, and 97 % with a batch of one, as in ONNX Runtime. Several images at once are no quicker
    on a CPU than one after the other.
    """
    shape = model.input("image").partial_shape
    shape[0] = openvino.Dimension(1)
    model.reshape({"image": shape})


def _check_weights(path: Path) -> None:
    """Refuse an ``.xml`` whose weights are missing or another's; OpenVINO itself would run any of the same length."""
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise ArtifactError(f"{path}: its weights, {weights.name}, are not beside it; copy both files")
    expected = openvino_info(path).get(WEIGHTS_KEY)
    if expected is not None and sha256(weights) != expected:
        raise ArtifactError(f"{path}: {weights.name} is damaged or another file's; copy both files again")
