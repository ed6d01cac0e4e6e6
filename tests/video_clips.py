"""Small videos and live streams for tests: frames that tell their number, segmented by a threshold."""

from __future__ import annotations

import io
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherseg.core.types import ClassSet, ImageArray, MaskArray
from featherseg.runtime.draw import overlay as draw_overlay

av = pytest.importorskip("av", reason="needs the video extra")

CLASSES = ClassSet(("dark", "bright"), ((20, 40, 200), (220, 60, 30)))
FRAMES, HEIGHT, WIDTH, RATE = 12, 48, 64, Fraction(30000, 1001)


@dataclass
class Prediction:
    """The least that a segmenter returns."""

    image: ImageArray
    mask: MaskArray
    classes: ClassSet = CLASSES

    def overlay(self) -> ImageArray:
        return draw_overlay(self.image, self.mask, self.classes)


class Plain(Prediction):
    """Shows the frame as it is."""

    def overlay(self) -> ImageArray:
        return self.image


def segment(frame: ImageArray) -> Prediction:
    assert frame.dtype == np.uint8
    assert frame.flags.c_contiguous
    return Prediction(frame, (frame[..., 1] > 127).astype(np.uint8))


def picture(i: int, height: int = HEIGHT, width: int = WIDTH) -> ImageArray:
    """Frame `i`: dark, with a bright bar whose right end tells the number."""
    image = np.full((height, width, 3), 40, np.uint8)
    image[height // 4 : height // 2, : 4 * (i + 1)] = 210
    return image


def bar(image: ImageArray) -> int:
    """Read a frame's number off its bar, in an overlay or colour mask: red where bright."""
    row = image[3 * HEIGHT // 8, :WIDTH].astype(int)
    return round(int((row[:, 0] > row[:, 2]).sum()) / 4) - 1


def write_video(
    path: Path, times: list[int] | None = None, height: int = HEIGHT, width: int = WIDTH, **options: str
) -> Path:
    """Write frames shown at `times`, in units of 1/30000 s (by default at a steady rate)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "10"} | options)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 30000)
        for i, pts in enumerate(times or [1001 * i for i in range(FRAMES)]):
            frame = av.VideoFrame.from_ndarray(picture(i, height, width), format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 30000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read_video(path: Path) -> tuple[list[ImageArray], list[float], float]:
    """Return frames, the seconds at which they are shown, and the duration in seconds."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        frames = list(container.decode(stream))
        images = [frame.to_ndarray(format="rgb24") for frame in frames]
        return images, [frame.time for frame in frames], float((stream.duration or 0) * stream.time_base)


def within(seconds: float, work: Callable[[], Any]) -> Any:
    """Run `work` in a thread; a hang is a failure, an exception is raised here."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((work(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert outcome, f"no end after {seconds} s"
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


class Sender(io.RawIOBase):
    """A file that is the other end of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.connection.sendall(bytes(data))
        return len(data)


def send_frames(target: Any, count: int, rate: int = 50, *, sound: bool = False) -> None:
    """Send `count` frames as an MPEG transport stream, `rate` a second as a camera does; None is no end."""
    with av.open(target, "w", format="mpegts") as container:
        options = {"preset": "ultrafast", "tune": "zerolatency", "g": "5"}
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        audio = container.add_stream("aac", rate=16000, layout="mono") if sound else None
        begin = time.monotonic()
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(picture(i % FRAMES), format="rgb24")
            frame.pts, frame.time_base = 1000 * rate + i, Fraction(1, rate)  # a camera that has been on for long
            container.mux(stream.encode(frame))
            if audio is not None:
                samples = av.AudioFrame.from_ndarray(np.zeros((1, 16000 // rate), np.float32), "fltp", "mono")
                samples.sample_rate, samples.pts = 16000, (1000 * rate + i) * (16000 // rate)
                samples.time_base = Fraction(1, 16000)
                container.mux(audio.encode(samples))
            time.sleep(max(0.0, begin + i / rate - time.monotonic()))
        container.mux(stream.encode(None))


@contextmanager
def camera(send: Callable[[Sender], None], end: str = "close", head: str = "video/mp2t") -> Iterator[str]:
    """Serve what `send` writes over HTTP, once, as a live stream; yield its URL.

    Args:
        send: writes the stream.
        end: what comes after it: "close", "reset" (the connection breaks) or "silence" (nothing, for as long as the
            block lasts).
        head: the content's type.
    """
    done = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(10)

    def serve() -> None:
        with suppress(OSError), server.accept()[0] as connection:
            connection.settimeout(10)
            connection.recv(4096)
            connection.sendall(f"HTTP/1.0 200 OK\r\nContent-Type: {head}\r\n\r\n".encode())
            with suppress(OSError, av.FFmpegError):  # the reader has seen enough
                send(Sender(connection))
            if end == "silence":
                done.wait(30)
            if end == "reset":
                time.sleep(0.2)  # so that what was sent is read
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/live"
    finally:
        done.set()
        server.close()
        thread.join(15)
