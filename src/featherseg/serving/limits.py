"""What a server takes on, and the one way in which it says no."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..core.errors import ConfigError
from ..core.machine import available_threads

OVERHEAD = 1 << 20
"""Bytes of a body beside the pixels of an uncompressed picture: headers of files and of tensors."""


@dataclass(frozen=True)
class Limits:
    """What a server takes on; whatever is beyond is refused before it costs anything.

    Args:
        pixels: of one picture, or of all of one tensor.
        bytes: of one body; by default those of an uncompressed RGB picture of so many pixels.
        seconds: from a request's first byte until its picture is decoded: sending and waiting together.
        workers: pictures that are segmented at once; by default one for each processor thread that the process may use.
        waiting: pictures that wait while all workers are busy.
        memory: bytes of all bodies that are held at once; by default those of eight.
        connections: open ones.
        head_seconds: that a client may take for the lines before the body.
        head_bytes: of these lines.
        scans: of one JPEG. Ten are usual; each can cost a whole pass over the picture for a few bytes.

    Raises:
        ConfigError: one of them is below 1.
    """

    pixels: int = 16_000_000
    bytes: int = 0
    seconds: float = 30.0
    workers: int = 0
    waiting: int = 16
    memory: int = 0
    connections: int = 512
    head_seconds: float = 10.0
    head_bytes: int = 1 << 16
    scans: int = 100

    def __post_init__(self) -> None:
        defaults = {"bytes": 3 * self.pixels + OVERHEAD, "workers": available_threads()}
        for name, value in defaults.items():
            object.__setattr__(self, name, getattr(self, name) or value)
        object.__setattr__(self, "memory", self.memory or 8 * self.bytes)
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if not value > 0 and not (name == "waiting" and value == 0):
                raise ConfigError(f"{name.replace('_', ' ')} is {value}; give at least 1")


class Refusal(Exception):
    """A request that is not answered as it was meant to be.

    Args:
        status: of HTTP.
        message: one line: what is wrong, its value, what to do.
        headers: that go with it.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})


class GoneError(Exception):
    """The client has gone away; nobody would read an answer."""


def busy(message: str, seconds: float) -> Refusal:
    """Return a refusal that asks to come again after so many seconds, rounded up."""
    pause = min(max(int(-(-seconds // 1)), 1), 60)
    return Refusal(503, f"{message}; try again in {pause} s", {"Retry-After": str(pause)})
