"""What is installed here, what it runs on, and what cannot run: the first thing that a question needs beside it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from ..core.errors import FeathersegError, MissingExtraError, require
from ..core.machine import machine_facts
from ..runtime.sessions.base import open_session, sessions
from ..runtime.sessions.cuda import Driver, DriverError
from ..runtime.sessions.tensorrt import PACKAGES
from .opening import STREET


def environment_facts() -> dict[str, Any]:
    """Return the machine, the versions of packages, and of each engine what it would run on or why it cannot.

    Engines that read ONNX files are tried with the network that comes along.
    """
    states = {}
    for name in sessions:
        reads_onnx = ".onnx" in sessions.get(name).suffixes
        try:
            states[name] = open_session(STREET, name).device if reads_onnx else _without_a_file(name)
        except (FeathersegError, DriverError) as error:
            states[name] = f"no: {error}"
    return machine_facts() | {"engines": states}


def _without_a_file(name: str) -> str:
    """Return what an engine that reads no ONNX file would run on."""
    if name == "tensorrt":
        if not any(find_spec(package) for package in PACKAGES):
            raise MissingExtraError('Running TensorRT\'s files needs: pip install "featherseg[tensorrt]"')
        return Driver(0).name
    torch = require("torch", "train", "Running torch's files")
    return "cuda" if torch.cuda.is_available() else "cpu"
