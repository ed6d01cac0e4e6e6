"""PyTorch, for programs of torch.export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...core.errors import require
from ...core.machine import cpu_name
from ..containers import is_compiled
from .base import Session, checked_threads, logits_artifact, refusal, run_failure, sessions


@sessions.register("torch")
class ProgramSession(Session):
    """PyTorch on the CPU, from a program of torch.export or the machine code that AOTInductor made of one.

    Opening such a file runs code that is in it: open none from people you do not trust.

    Args:
        path: the exported ``.pt2`` file.
        threads: threads of PyTorch in this process, other networks included; as they are where not given.

    Raises:
        ArtifactError: see :func:`open_session`.
        ConfigError: `threads` is below 1.
        MissingExtraError: PyTorch is not installed.
    """

    name = "torch"
    suffixes = (".pt2",)

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        if threads is not None:
            checked_threads(threads)
        self._torch = require("torch", "train", "Running a .pt2 file")
        self.artifact = logits_artifact(path)
        if threads is not None:
            self._torch.set_num_threads(threads)
        compiled = is_compiled(Path(path))
        try:
            if compiled:
                package = require("torch._inductor", "train", "Running compiled code")
                self._program = package.aoti_load_package(str(path))
            else:
                self._program = self._torch.export.load(str(path)).module()
        except Exception as error:  # torch reads archives, JSON and symbols, each with errors of its own
            raise refusal(path, "torch", error) from error
        words = [cpu_name(), f"threads: {self._torch.get_num_threads()}", "fp32", *["compiled"] * compiled]
        self.device = f"{', '.join(words)}, torch {self._torch.__version__}"

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits (B, C, h, w) of images, uint8 (B, H, W, 3).

        Raises:
            ArtifactError: the program breaks on images of this size.
        """
        # torch cannot wrap read-only arrays or negative strides; frames can have both.
        pixels = self._torch.from_numpy(np.require(images, requirements=["C", "W"]))
        try:
            with self._torch.inference_mode():
                logits: NDArray[np.float32] = self._program(pixels).numpy()
        except Exception as error:  # as above
            raise run_failure("torch", images, error) from error
        return logits
