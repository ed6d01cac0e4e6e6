"""Segment a video from file to file: decoding, the network, and drawing with encoding, each in its own thread.

The network runs in the caller's thread, where Ctrl-C arrives; one thread before it decodes, one after it draws and
encodes. The queues between them are bounded, so a slow stage holds the others up rather than filling the memory.
Whichever stage fails, the frames that are through it already reach the output, the output is closed, both threads
end, and the error is raised in the caller.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol, TypeVar, get_args

import numpy as np

from ..errors import ConfigError, DataError, did_you_mean, require
from ..images import list_images, read_image
from ..types import ClassSet, ImageArray, Latency, MaskArray
from .draw import colorize

Mode = Literal["overlay", "mask", "side-by-side"]

POLL_SECONDS = 0.05
"""How often a waiting stage looks whether the others have stopped."""
FOLDER_FPS = Fraction(25)
QUALITY = {"crf": "20", "preset": "veryfast"}
"""x264's: visually close to the source; a faster preset than its default, so that encoding is not the slow stage."""
BT709 = 1
LIMITED_RANGE = 1
"""ffmpeg's numbers for the colour space and range of high-definition video."""


class FramePrediction(Protocol):
    """What a segmenter returns for a frame: :class:`featherseg.runtime.segmenter.Prediction` is one."""

    @property
    def mask(self) -> MaskArray:
        """Class ids, uint8 (H, W)."""

    @property
    def classes(self) -> ClassSet:
        """Names and colours of the ids."""

    def overlay(self) -> ImageArray:
        """Return the mask's colours over the frame, RGB uint8 (H, W, 3)."""


P = TypeVar("P", bound=FramePrediction)
T = TypeVar("T")


@dataclass(frozen=True)
class VideoResult:
    """What became of a video.

    Args:
        frames: frames segmented.
        seconds: wall time from opening the source to closing the output.
        latency: ms of each frame in the stages ``decode`` and ``segment`` and, with an output, ``draw`` and
            ``encode``. The stages run side by side: their sum is the work on a frame, not the time between two.
        output: the file written, if any.
    """

    frames: int
    seconds: float
    latency: Latency
    output: Path | None

    @property
    def fps(self) -> float:
        """Frames per second from file to file, everything included."""
        return self.frames / self.seconds


def segment_video(
    segment: Callable[[ImageArray], P],
    source: str | Path,
    output: str | Path | None,
    *,
    on_frame: Callable[[int, P], object] | None = None,
    mode: Mode = "overlay",
    queue_size: int = 4,
) -> VideoResult:
    """Segment every frame of `source` and write the result as an H.264 video with the same time stamps.

    Frames are turned upright where the file says so. An odd width or height grows by one pixel, which H.264 needs.
    Sound is left out.

    Args:
        segment: turns a frame, RGB uint8 (H, W, 3), into a prediction; a ``Segmenter`` does. Called in this thread.
        source: a video file, or a folder of images, which play sorted by name at 25 frames per second in the size
            of the first.
        output: the video file to write (``.mp4``, ``.mkv``, ``.mov``), or None to write none.
        on_frame: called in this thread with each frame's number, from 0, and its prediction.
        mode: what is written: the classes laid over the frame, their colours alone, or the frame and the overlay
            side by side.
        queue_size: frames that may wait between two stages.

    Raises:
        ConfigError: an argument is out of range.
        DataError: the source is missing, corrupt or empty, or the output cannot be written. What was decoded before
            the corrupt part is in the output.
        MissingExtraError: PyAV is not installed.
        Exception: whatever `segment` or `on_frame` raises.
    """
    if mode not in get_args(Mode):
        raise ConfigError(f"unknown mode {mode!r}; {did_you_mean(mode, get_args(Mode))}")
    if queue_size < 1:
        raise ConfigError(f"queue_size is {queue_size}; give at least 1")
    source, target = Path(source), Path(output) if output is not None else None
    if not source.exists():
        raise DataError(f"{source} does not exist; check the path")
    if target is not None and target.resolve() == source.resolve():
        raise ConfigError(f"output {target} is the source itself; choose another name")
    av = require("av", "video", "Video")

    start = time.perf_counter()
    stop = threading.Event()
    decoded: queue.Queue[_Frame | None] = queue.Queue(queue_size)
    predicted: queue.Queue[tuple[_Frame, P] | None] = queue.Queue(queue_size)
    timer = _Timer()
    frames = _read_folder(source) if source.is_dir() else _read_video(av, source)
    stages = [_Stage("decode", lambda: _decode(frames, decoded, stop, timer), None)]
    if target is not None:
        writer = _Writer(av, target)
        # Only a failing writer stops the others at once: what was decoded before an error is still worth writing.
        stages.append(_Stage("encode", lambda: _encode(writer, mode, predicted, stop, timer), stop))
    for stage in stages:
        stage.start()
    count = 0
    try:
        for frame in _take(decoded, stop):
            with timer("segment"):
                prediction = segment(frame.image)
            if on_frame is not None:
                on_frame(count, prediction)
            count += 1
            if target is not None and not _put(predicted, (frame, prediction), stop):
                break
        _put(predicted, None, stop)
    finally:
        # After an error here the decoder ends at once, the encoder when it has written what waits in its queue.
        stop.set()
        for stage in stages:
            stage.join()
    for stage in reversed(stages):
        if stage.error is not None:
            raise stage.error
    if count == 0:
        raise DataError(f"{source} has no frames; give a video or a folder of images")
    return VideoResult(count, time.perf_counter() - start, timer.latency(segment), target)


@dataclass(frozen=True, eq=False)
class _Frame:
    """A decoded frame and when it is shown: `pts` in units of `time_base` seconds."""

    image: ImageArray
    pts: int | None
    time_base: Fraction
    rate: Fraction


@dataclass
class _Timer:
    """Collects the milliseconds of each stage; every stage is timed by one thread only."""

    times: dict[str, list[float]] = field(default_factory=lambda: {"decode": [], "segment": []})

    def __call__(self, stage: str) -> _Lap:
        return _Lap(self.times.setdefault(stage, []))

    def latency(self, segment: object) -> Latency:
        """Return the times so far; the device is the segmenter's own word, where it has one."""
        device = getattr(getattr(segment, "session", segment), "device", "unknown device")
        return Latency({stage: tuple(times) for stage, times in self.times.items()}, 0, str(device))


class _Lap:
    """Times one ``with`` block; a block that raises is not counted."""

    def __init__(self, times: list[float]) -> None:
        self.times = times

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.times.append((time.perf_counter() - self.start) * 1000)


class _Stage(threading.Thread):
    """A thread that keeps its error for the caller; `stop` is set where there is one. A daemon: it holds up no exit."""

    def __init__(self, name: str, work: Callable[[], None], stop: threading.Event | None) -> None:
        super().__init__(name=f"featherseg-{name}", daemon=True)
        self.work, self.stop = work, stop
        self.error: BaseException | None = None

    def run(self) -> None:
        """Do the work."""
        try:
            self.work()
        except BaseException as error:
            self.error = error
            if self.stop is not None:
                self.stop.set()


def _put(items: queue.Queue[T], item: T, stop: threading.Event) -> bool:
    """Put `item` as soon as there is room; return False if the pipeline stopped first."""
    while not stop.is_set():
        try:
            items.put(item, timeout=POLL_SECONDS)
            return True
        except queue.Full:
            continue
    return False


def _take(items: queue.Queue[T | None], stop: threading.Event) -> Iterator[T]:
    """Yield items until None, or until the queue is empty and the pipeline stopped."""
    while True:
        try:
            item = items.get(timeout=POLL_SECONDS)
        except queue.Empty:
            if stop.is_set():
                return
            continue
        if item is None:
            return
        yield item


def _decode(
    frames: Generator[_Frame, None, None], decoded: queue.Queue[_Frame | None], stop: threading.Event, timer: _Timer
) -> None:
    """Put the source's frames into `decoded`, then None, also when one of them cannot be decoded."""
    with closing(frames):
        try:
            while True:
                with timer("decode"):
                    frame = next(frames)
                if not _put(decoded, frame, stop):
                    break
        except StopIteration:
            pass
        finally:
            _put(decoded, None, stop)


def _read_video(av: ModuleType, path: Path) -> Generator[_Frame, None, None]:
    """Yield the frames of a video file, upright."""
    count = 0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path} has no video stream; give a video or a folder of images")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            rate = stream.average_rate or stream.guessed_rate or FOLDER_FPS
            cut = False
            for packet in container.demux(stream):
                # The last packet is empty and flushes the decoder. Damage in the one before it is where the file was
                # cut off; with several threads the decoder does not always say so.
                cut = packet.is_corrupt or (cut and not packet.size)
                for frame in packet.decode():
                    image = frame.to_ndarray(format="rgb24")
                    if frame.rotation:
                        image = np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))
                    yield _Frame(image, frame.pts, frame.time_base or 1 / rate, rate)
                    count += 1
            if cut:
                raise DataError(f"{path} is cut off after {count} frames; copy or record it again")
    except (av.FFmpegError, OSError) as error:
        raise DataError(
            f"{path} cannot be decoded after {count} frames ({error.strerror}); repair or replace the file"
        ) from error


def _read_folder(path: Path) -> Generator[_Frame, None, None]:
    """Yield the images of a folder as frames."""
    for i, image in enumerate(list_images(path)):
        yield _Frame(read_image(image), i, 1 / FOLDER_FPS, FOLDER_FPS)


def _encode(
    writer: _Writer,
    mode: Mode,
    predicted: queue.Queue[tuple[_Frame, P] | None],
    stop: threading.Event,
    timer: _Timer,
) -> None:
    """Draw and write predictions until None; the file is finished whatever happens."""
    try:
        for frame, prediction in _take(predicted, stop):
            with timer("draw"):
                drawn = _draw(frame.image, prediction, mode)
            with timer("encode"):
                writer.write(drawn, frame)
    finally:
        writer.close()


def _draw(image: ImageArray, prediction: FramePrediction, mode: Mode) -> ImageArray:
    """Return the picture to write, RGB uint8, of even height and width."""
    if mode == "mask":
        drawn = colorize(prediction.mask, prediction.classes)
    else:
        drawn = prediction.overlay()
        if mode == "side-by-side":
            drawn = np.hstack([image, drawn])
    height, width = drawn.shape[:2]
    if height % 2 or width % 2:
        drawn = np.pad(drawn, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return drawn


class _Writer:
    """An H.264 file that takes the size and rate of its first frame."""

    def __init__(self, av: ModuleType, path: Path) -> None:
        self.av, self.path = av, path
        self.container: Any = None
        self.stream: Any = None
        self.pts = -1

    def write(self, image: ImageArray, frame: _Frame) -> None:
        """Encode RGB uint8 (H, W, 3), even a side, with `frame`'s time stamp; a later size is scaled to the first."""
        with self._explained():
            if self.container is None:
                self._open(image, frame)
            picture = self.av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
                self.stream.width, self.stream.height, "yuv420p", dst_colorspace="ITU709"
            )
            step = max(1, round(1 / (frame.rate * frame.time_base)))
            # Encoders refuse time stamps that are missing or do not rise.
            self.pts = max(self.pts + 1, self.pts + step if frame.pts is None else frame.pts)
            picture.pts, picture.time_base = self.pts, frame.time_base
            self.container.mux(self.stream.encode(picture))

    def close(self) -> None:
        """Write the frames that the encoder still holds, and the index that makes the file playable."""
        if self.container is None:
            return
        with self._explained(), self.container as container:
            if self.stream is not None:
                container.mux(self.stream.encode(None))

    def _open(self, image: ImageArray, frame: _Frame) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.container = self.av.open(str(self.path), "w")
        stream = self.container.add_stream("libx264", rate=frame.rate, options=QUALITY)
        stream.height, stream.width = image.shape[:2]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = frame.time_base
        context.colorspace, context.color_range = BT709, LIMITED_RANGE
        context.color_primaries, context.color_trc = BT709, BT709
        self.stream = stream

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what PyAV and the file system raise into a :class:`DataError`."""
        try:
            yield
        except (self.av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(
                f"{self.path} cannot be written ({reason}); give a .mp4 in a folder you can write"
            ) from error
