"""Frames, with their times, out of a video file, a folder of images, a camera or a stream.

Files and folders give every frame, however long the reader takes. Cameras and streams are live: they do not wait, so
whoever reads them too slowly misses frames, and an end of any kind after the first frame is an end, not an error.
"""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from ...core.errors import DataError, first_line, require
from ...core.images import list_images, read_image
from ...core.types import ImageArray
from .addresses import Address, find_address

DEFAULT_RATE = Fraction(25)
"""Frames per second of folders, and of files that do not say."""
SILENCE_SECONDS = 10.0
"""How long a live source may take to open or to give its next frame before it counts as gone."""
MAX_TRIES = 100
"""How many reads in a row may fail before nothing more is expected of a file."""
UNTIMED_FORMATS = frozenset({"mpjpeg", "mjpeg"})
"""Formats of cameras whose streams tell no times; ffmpeg makes some up at 25 frames per second."""
CLOCK = Fraction(1, 90_000)


@dataclass(eq=False)
class Frame:
    """A frame and when it is shown.

    Args:
        image: RGB uint8 (H, W, 3), upright.
        pts: when it is shown, in units of `time_base`; None where the source does not say.
        time_base: seconds.
        rate: frames per second of the source, on average.
        duration: how long it is shown, in units of `time_base`; 0 where the source does not say.
        aspect: width of a pixel over its height.
        laps: ms that each stage took for it so far.
    """

    image: ImageArray
    pts: int | None
    time_base: Fraction
    rate: Fraction
    duration: int = 0
    aspect: Fraction = Fraction(1)
    laps: dict[str, float] = field(default_factory=dict)


class Source(Protocol):
    """Where frames come from. `frames` may run in another thread; `close` must not run while it does."""

    name: str
    live: bool
    total: int | None
    """Frames to expect, where that is known."""
    skipped: int
    """Damaged frames left out so far."""
    notes: list[str]
    """One line for each thing that happened on the way and that people should know."""
    sound: Sound | None
    started: float
    """``time.perf_counter()`` when it was about to be opened."""

    def frames(self) -> Generator[Frame, None, None]:
        """Yield the frames.

        Raises:
            DataError: there are none, or the end is damaged.
        """

    def close(self) -> None:
        """Let go of the file or device."""


@dataclass
class Sound:
    """Sound that goes to the output as it is: PyAV's streams, and their packets in the order they were read."""

    streams: list[Any]
    packets: deque[Any] = field(default_factory=deque)


def open_source(source: str | Path | int, *, sound: bool = False) -> Source:
    """Open a video file, a folder of images, a camera or a stream.

    Args:
        source: a path; a camera's number, from 0, or device; or a URL (``rtsp://``, ``http://``, ``udp://``, …).
            Images of a folder play in natural order (frames 1, 2, … 10) at 25 frames per second.
        sound: whether to collect the sound too.

    Raises:
        DataError: it does not exist or cannot be opened.
        MissingExtraError: PyAV is not installed.
    """
    av = require("av", "video", "Video")
    started = time.perf_counter()
    address = find_address(source, av)
    if address.kind == "folder":
        return FolderSource(Path(address.url), started)
    return StreamSource(av, address, started, sound=sound)


class FolderSource:
    """The images of a folder as frames.

    Args:
        path: the folder.
        started: see :class:`Source`.
    """

    live = False

    def __init__(self, path: Path, started: float) -> None:
        self.sound: Sound | None = None
        self.name, self.started = str(path), started
        self.images = list_images(path)
        self.total: int | None = len(self.images)
        self.skipped = 0
        self.notes: list[str] = []

    def frames(self) -> Generator[Frame, None, None]:
        """Yield the images; see :class:`Source`."""
        broken: DataError | None = None
        for i, path in enumerate(self.images):
            begin = time.perf_counter()
            try:
                image, broken = read_image(path), None
            except DataError as error:
                self.skipped += 1
                broken = error
                continue
            yield Frame(image, i, 1 / DEFAULT_RATE, DEFAULT_RATE, 1, laps={"decode": _ms(begin)})
        if broken is not None:
            raise broken

    def close(self) -> None:
        """Do nothing: each image was closed when it was read."""


class StreamSource:
    """What PyAV opens: a video file, a camera or a stream.

    Args:
        av: PyAV.
        address: what to open.
        started: see :class:`Source`.
        sound: whether to collect the sound too.

    Raises:
        DataError: it cannot be opened or has no pictures.
    """

    def __init__(self, av: ModuleType, address: Address, started: float, *, sound: bool) -> None:
        self.name, self.started = address.name, started
        self.skipped = 0
        self.notes: list[str] = []
        self._av, self._connected = av, address.kind == "stream"
        # Asking whether the time is up takes Python's lock at every read, so files, which always answer, do without.
        timeout = SILENCE_SECONDS if address.kind in ("camera", "stream") else None
        try:
            self._container = av.open(
                address.url, format=address.format, options=address.options, timeout=timeout, **_lenient(av)
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            if timeout is None:
                raise DataError(f"{self.name} cannot be decoded ({_reason(error)}); give a video file") from error
            remedy = "check that it is there and not in use"
            if isinstance(error, av.error.HTTPUnauthorizedError):  # RTSP's too
                remedy = "give the login it asks for in the URL: //user:password@…"
            raise DataError(f"{self.name} cannot be opened ({_reason(error)}); {remedy}") from error
        self._stream = self._container.streams.best("video")  # not the cover of a song
        if self._stream is None or self._stream.codec_context is None:
            self.close()
            what = "no video stream" if self._stream is None else "a video stream that PyAV has no decoder for"
            raise DataError(f"{self.name} has {what}; give a video or a folder of images")
        codec = self._stream.codec_context
        self.frame_size = codec.height or 480, codec.width or 640
        """(height, width) as it is stored, before it is turned upright."""
        self._rate = _fraction(self._stream.average_rate) or _fraction(self._stream.guessed_rate) or DEFAULT_RATE
        duration = self._container.duration
        self.live = timeout is not None and not (address.download and duration)
        self.total: int | None = None
        if not self.live:
            self.total = self._stream.frames or (round(duration * self._rate / av.time_base) if duration else None)
        # Decoding several frames at once is fastest; a live source would lag behind by as many.
        self._stream.thread_type = "SLICE" if self.live else "AUTO"
        self.sound = Sound(list(self._container.streams.audio)) if sound else None
        self._untimed = self.live and self._container.format.name in UNTIMED_FORMATS
        self._origin: Fraction | None = None
        self._shown = -1 / self._rate
        self._converter = av.video.reformatter.VideoReformatter()
        self._count = 0

    def frames(self) -> Generator[Frame, None, None]:
        """Yield the frames; see :class:`Source`."""
        begin = time.perf_counter()
        ends_damaged, last_sent, last_shown = False, None, None
        for packet in self._packets():
            if packet.stream.type == "audio":
                self._keep_sound(packet)
                continue
            if self.live:  # waiting for a frame is not work
                begin = time.perf_counter()
            # The last packet is empty and flushes the decoder. Damage in the one before it is where the file was cut
            # off; with several threads the decoder does not always say so.
            ends_damaged = packet.is_corrupt or (ends_damaged and not packet.size)
            if not packet.is_discard:  # what comes before or after the part that the file shows
                last_sent = _latest(last_sent, packet.pts)
            for picture in self._decode(packet):
                if picture.is_corrupt:
                    self.skipped += 1
                    continue
                last_shown = _latest(last_shown, picture.pts)
                frame = self._frame(picture)
                frame.laps["decode"] = _ms(begin)
                self._count += 1
                yield frame
                begin = time.perf_counter()
        missing = self.skipped and last_sent is not None and (last_shown is None or last_shown < last_sent)
        if (ends_damaged or missing) and not self.live:
            raise DataError(f"{self.name} is cut off after {self._count} frames; copy or record it again")

    def close(self) -> None:
        """Close the file or device."""
        self._container.close()

    def _packets(self) -> Iterator[Any]:
        """Yield what the source holds; where a file's container is damaged, go on behind that place."""
        streams = [self._stream, *(self.sound.streams if self.sound else ())]
        failures = 0
        while True:
            try:
                for packet in self._container.demux(*streams):
                    failures = 0
                    yield packet
                return
            except self._av.error.InvalidDataError as error:
                failures += 1
                if failures == MAX_TRIES or self.live:
                    self._end(error)
                    return
                self.skipped += failures == 1
            except (self._av.FFmpegError, OSError) as error:
                self._end(error)
                return

    def _end(self, error: Exception) -> None:
        """Raise why a file cannot be read on; say why a live source that gave frames does not go on."""
        reason = _reason(error)
        if isinstance(error, self._av.error.ExitError):
            reason = f"nothing came for {SILENCE_SECONDS:g} s"
        elif self.live and self._connected and getattr(error, "errno", None) == errno.EIO:
            reason = "the connection was closed"  # how ffmpeg says so where no length was announced
        if not self.live:
            raise DataError(
                f"{self.name} cannot be decoded after {self._count} frames ({reason}); repair or replace the file"
            ) from error
        if not self._count:
            raise DataError(f"{self.name} gives no frames ({reason}); check that it is there and sends") from error
        self.notes.append(f"{self.name} stopped after sending {self._count} frames ({reason})")

    def _decode(self, packet: Any) -> Iterator[Any]:
        """Yield the pictures that the decoder has after one more packet; count those it cannot make out."""
        failures = 0
        while True:
            try:
                pictures = packet.decode()
            except EOFError:
                return
            except self._av.FFmpegError:
                self.skipped += 1
                failures += 1
                # At the end the decoder still holds pictures behind a damaged one.
                if packet.size or failures == MAX_TRIES:
                    return
                continue
            yield from pictures
            if packet.size or not pictures:
                return

    def _frame(self, picture: Any) -> Frame:
        image = self._converter.reformat(picture, format="rgb24").to_ndarray()
        if picture.rotation:
            image = np.ascontiguousarray(np.rot90(image, round(picture.rotation / 90)))
        pts, time_base, duration = picture.pts, _fraction(picture.time_base) or 1 / self._rate, picture.duration or 0
        if self._untimed or (self.live and pts is None):
            pts, time_base, duration = round((time.perf_counter() - self.started) / CLOCK), CLOCK, 0
        if self.live:
            seconds = pts * time_base
            # Their clocks began long ago, and start over with the camera.
            if self._origin is None or seconds - self._origin < self._shown - 1:
                self._origin = seconds - self._shown - 1 / self._rate
            self._shown = seconds - self._origin
            pts -= round(self._origin / time_base)
        aspect = _fraction(self._stream.sample_aspect_ratio) or Fraction(1)
        return Frame(image, pts, time_base, self._rate, duration, aspect)

    def _keep_sound(self, packet: Any) -> None:
        """Keep a packet of sound; live ones that were heard before the first frame go."""
        if self.sound is None or not packet.size or packet.dts is None:
            return
        if self.live:
            time_base = _fraction(packet.time_base)
            if self._origin is None or time_base is None or packet.dts * time_base < self._origin or self._untimed:
                return
            shift = round(self._origin / time_base)
            packet.dts -= shift
            with suppress(TypeError):  # no time to show it at
                packet.pts -= shift
        self.sound.packets.append(packet)


def _lenient(av: ModuleType) -> dict[str, str]:
    """Return what lets PyAV before 19 open files whose tags are no UTF-8; later ones always do."""
    return {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


def _fraction(value: Any) -> Fraction | None:
    """Return PyAV's fraction as Python's; None for none or 0."""
    return Fraction(value.numerator, value.denominator) if value else None


def _latest(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else max(one, other)


def _ms(begin: float) -> float:
    return (time.perf_counter() - begin) * 1000


def _reason(error: BaseException) -> str:
    """Return what PyAV or the system say, without number and path."""
    return getattr(error, "strerror", None) or first_line(error)
