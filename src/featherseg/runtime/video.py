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
from collections.abc import Callable, Iterator
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
            if target is not None:
                _put(predicted, (frame, prediction), stop)
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
        self.work, self.stop, self.error = work, stop, None
        self.error: BaseException | None

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
