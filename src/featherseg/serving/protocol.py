"""Connections, guarded: slow, endless and too many ones are closed with a line that says why.

uvicorn has no limit on how long or how large the lines before a body may be.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any

from .limits import Limits


def guarded_protocol(limits: Limits) -> type[asyncio.Protocol]:
    """Return the class of uvicorn's connections: parsed in C where ``httptools`` is installed, within limits."""
    base: Any
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as base
    except ImportError:
        from uvicorn.protocols.http.h11_impl import H11Protocol as base

    class Guarded(base):  # type: ignore[misc]
        """A connection on which a request has to begin, and its head to end, in time."""

        _timer: asyncio.TimerHandle | None = None
        _head_bytes = 0

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                self._close(503, f"{limits.connections} connections are open, as many as may; try again in 1 s")
            else:
                self._arm()

        def data_received(self, data: bytes) -> None:
            if self._is_waiting():
                self._head_bytes += len(data)
            super().data_received(data)
            if self.transport.is_closing():
                return
            if not self._is_waiting() or self._rests():
                self._head_bytes = 0
            elif self._head_bytes > limits.head_bytes:
                self._close(431, f"the lines before the body have over {limits.head_bytes:,} bytes; send shorter ones")
                return
            self._arm()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._timer is not None:
                self._timer.cancel()
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            self._close(400, "the request is no HTTP/1.1; check what sends it")

        def _is_waiting(self) -> bool:
            """Whether no request is being answered."""
            return self.cycle is None or self.cycle.response_complete

        def _rests(self) -> bool:
            """Whether what comes is the rest of a body whose request was refused: it is dropped."""
            return self.cycle is not None and self.cycle.response_complete and self.cycle.more_body

        def _arm(self) -> None:
            """Start the clock of a request's head, or of the rest of a refused body."""
            if not self._is_waiting():
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
            elif self._timer is None:
                self._timer = self.loop.call_later(limits.head_seconds, self._expire)

        def _expire(self) -> None:
            self._timer = None
            if not self._is_waiting() or self.transport.is_closing():
                return
            if self._rests():
                self.transport.close()
            else:
                self._close(408, f"no whole request came within {limits.head_seconds:g} s; send it faster")

        def _close(self, status: int, message: str) -> None:
            body = json.dumps({"error": message}).encode()
            again = "Retry-After: 1\r\n" if status == 503 else ""
            head = (
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n{again}Connection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
            self.transport.close()

    return Guarded
