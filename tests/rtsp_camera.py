"""A camera that speaks RTSP, over the loopback: RTP packets of H.264 inside the connection, as featherseg asks for."""

from __future__ import annotations

import base64
import io
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from typing import Any

from video_clips import FRAMES, HEIGHT, WIDTH, av, picture

SESSION = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track0\r\n"
)
PACKET_BYTES = 1400


class _Interleaved(io.RawIOBase):
    """What ffmpeg writes a packet at a time, framed as RFC 2326 (10.12) puts it between the answers."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        packet = bytes(data)
        is_report = 200 <= packet[1] <= 204  # RTCP goes on the channel after RTP's
        self.connection.sendall(struct.pack(">cBH", b"$", int(is_report), len(packet)) + packet)
        return len(packet)


def _send(connection: socket.socket, count: int, rate: int) -> None:
    with av.open(
        _Interleaved(connection), "w", format="rtp", container_options={"packetsize": str(PACKET_BYTES)}
    ) as out:
        options = {"preset": "ultrafast", "tune": "zerolatency", "g": "5", "x264-params": "repeat-headers=1"}
        stream = out.add_stream("libx264", rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        begin = time.monotonic()
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(picture(i % FRAMES), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, rate)
            out.mux(stream.encode(frame))
            time.sleep(max(0.0, begin + i / rate - time.monotonic()))


def _requests(connection: socket.socket) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each request's method and headers."""
    waiting = b""
    while True:
        while b"\r\n\r\n" not in waiting:
            more = connection.recv(4096)
            if not more:
                return
            waiting += more
        head, _, waiting = waiting.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        yield first.split()[0], {name.lower(): value for name, value in headers.items()}


def _serve(connection: socket.socket, count: int, rate: int, login: str | None) -> None:
    proof = f"Basic {base64.b64encode(login.encode()).decode()}" if login else None
    for method, headers in _requests(connection):
        answer = [f"CSeq: {headers['cseq']}", "Session: 1"]
        status, body = "200 OK", ""
        if proof is not None and headers.get("authorization") != proof:
            status = "401 Unauthorized"
            answer.append('WWW-Authenticate: Basic realm="camera"')
        elif method == "OPTIONS":
            answer.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
        elif method == "DESCRIBE":
            body = SESSION
            answer += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        elif method == "SETUP":
            assert "TCP" in headers["transport"]
            answer.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
        lines = [f"RTSP/1.0 {status}", *answer, "", body]
        connection.sendall("\r\n".join(lines).encode())
        if method == "PLAY" and status == "200 OK":
            _send(connection, count, rate)
            return


@contextmanager
def rtsp_camera(count: int, rate: int = 25, login: str | None = None) -> Iterator[str]:
    """Serve `count` frames, once, and hang up; yield the camera's URL.

    Args:
        count: frames.
        rate: frames per second.
        login: ``"user:password"`` that it asks for.
    """
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(10)

    def serve() -> None:
        with suppress(OSError), server.accept()[0] as connection:
            connection.settimeout(10)
            with suppress(OSError, av.FFmpegError):  # the reader has seen enough
                _serve(connection, count, rate, login)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"rtsp://127.0.0.1:{server.getsockname()[1]}/live"
    finally:
        server.close()
        thread.join(15)
