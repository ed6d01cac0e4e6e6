"""Which engines read an exported file, and which precisions each can compute it in on this machine."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError
from .sessions.base import Session, open_session, sessions
from .sessions.openvino import openvino_core

ANY = "any"
"""Stands for every precision that the machine has."""
OPENVINO_NAMES = {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16"}
"""Our names of precisions, and OpenVINO's of what a processor is good at."""


@dataclass(frozen=True)
class Engine:
    """A backend, and what it computes floats in.

    Args:
        backend: name of a session; see :func:`featherseg.runtime.sessions.base.open_session`.
        precision: what it is told to compute in; None for a backend that has one only.
    """

    backend: str
    precision: str | None = None

    def __str__(self) -> str:
        return f"{self.backend} {self.precision}" if self.precision else self.backend

    def open(self, path: str | Path, threads: int | None = None) -> Session:
        """Open an exported file.

        Raises:
            FeathersegError: as :func:`featherseg.runtime.sessions.base.open_session` does.
        """
        options: dict[str, Any] = {} if self.precision is None else {"precision": self.precision}
        if threads is not None:
            options["threads"] = threads
        return open_session(path, self.backend, **options)


def engines_of(path: str | Path, precision: str | None = None) -> list[Engine]:
    """Return the engines that read files such as `path`, the one whose own kind of file it is first.

    Whether they are installed, and take this very file, shows when they open it.

    Args:
        path: an exported file; an int8 file's integer layers are computed as they are by all of them.
        precision: what floats are computed in, such as ``"bf16"``; :data:`ANY` for all that the processor is good at;
            left out, as the file has them, which is fp32 for all but TensorRT's.

    Raises:
        ConfigError: no engine has that precision for such a file.
    """
    suffix = Path(path).suffix.lower()
    readers = {name: sessions.get(name).suffixes for name in sessions}
    backends = sorted(
        (name for name in readers if suffix in readers[name]), key=lambda name: (readers[name][0] != suffix, name)
    )
    found = [engine for backend in backends for engine in _variants(backend, precision)]
    if backends and not found:
        raise ConfigError(
            f"precision is {precision!r}, which no engine for {Path(path).name} has on this machine; "
            "leave it out, or give fp32, bf16 or any"
        )
    return found


def _variants(backend: str, precision: str | None) -> list[Engine]:
    """Return a backend in the precisions asked for, as far as it has them."""
    if backend == "openvino":
        if precision is None:
            return [Engine(backend, "fp32")]
        return [Engine(backend, name) for name in openvino_precisions() if precision in (name, ANY)]
    # TensorRT's engines are of the precision they were built for, which only a look inside would tell.
    own = {None, ANY} if backend == "tensorrt" else {None, ANY, "fp32"}
    return [Engine(backend)] if precision in own else []


def openvino_precisions() -> tuple[str, ...]:
    """Return the precisions that OpenVINO is good at on this processor; ``fp32`` alone where it is not installed."""
    try:
        openvino = importlib.import_module("openvino")
    except ImportError:
        return ("fp32",)
    able = openvino_core(openvino).get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return tuple(name for name, theirs in OPENVINO_NAMES.items() if theirs in able)
