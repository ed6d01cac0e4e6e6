"""Bodies of requests, read within limits: nothing grows with what a client claims or sends."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request

from .limits import GoneError, Limits, Refusal, busy

WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""Window bits by content coding; 16 more are zlib's sign for gzip's header."""


class Bodies:
    """Reads the bodies of all requests, and knows how many bytes of them are held.

    Args:
        limits: of bytes, of each and of all, and of time.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.held = 0

    def check(self, headers: Headers) -> None:
        """Refuse by its headers what would be refused later.

        Raises:
            Refusal: it says that it is too long, or that it is a form.
        """
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self._limits.bytes:
            raise _too_long(f"the body has {int(length):,} bytes", self._limits)
        if headers.get("content-type", "").lower().startswith("multipart/"):
            raise Refusal(
                415, "the body is a form; send the bytes themselves, as `curl --data-binary @street.jpg` does"
            )

    @asynccontextmanager
    async def read(self, request: Request, since: float) -> AsyncIterator[bytearray]:
        """Read a body; its bytes count as held until the block ends.

        Args:
            request: whose it is.
            since: when its time began, as ``time.perf_counter()`` has it.

        Raises:
            Refusal: it is too long, empty or too slow, or others hold too much.
            GoneError: the client has left.
        """
        self.check(request.headers)
        body = bytearray()
        try:
            await self._fill(body, request, max(self._limits.seconds - (time.perf_counter() - since), 0.001))
            yield body
        finally:
            self.held -= len(body)

    async def _fill(self, body: bytearray, request: Request, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                async for part in request.stream():
                    self._grow(body, part)
        except TimeoutError:
            raise Refusal(
                408,
                f"{len(body):,} bytes came within {self._limits.seconds:g} s, and the body is not whole; send it "
                "faster, or a smaller picture",
            ) from None
        except ClientDisconnect:
            raise GoneError from None
        coding = request.headers.get("content-encoding", "identity").strip().lower()
        if coding != "identity":
            whole = self._expanded(bytes(body), coding)
            self.held += len(whole) - len(body)
            body[:] = whole

    def _grow(self, body: bytearray, part: bytes) -> None:
        if len(body) + len(part) > self._limits.bytes:
            raise _too_long("the body is longer than it may be", self._limits)
        if self.held + len(part) > self._limits.memory:
            raise busy(f"{self.held:,} bytes of other requests are held, as many as may", 1.0)
        body += part
        self.held += len(part)

    def _expanded(self, body: bytes, coding: str) -> bytearray:
        """Return what a compressed body holds, never more than a body may have."""
        if coding not in WINDOWS:
            raise Refusal(415, f"the content encoding {coding[:40]!r} is not known; use gzip or none")
        machine = zlib.decompressobj(WINDOWS[coding])
        try:
            whole = bytearray(machine.decompress(body, self._limits.bytes + 1))
        except zlib.error as error:
            raise Refusal(400, f"the body is not {coding} as its header says ({error}); compress it again") from None
        if len(whole) > self._limits.bytes:
            raise _too_long(f"the body has more bytes once it is no {coding} any more", self._limits)
        if not machine.eof:
            raise Refusal(400, f"the body's {coding} is cut short; send it whole")
        return whole


def _too_long(what: str, limits: Limits) -> Refusal:
    return Refusal(
        413,
        f"{what}; at most {limits.bytes:,} are taken: make the picture smaller, or start the server with --max-bytes",
    )
