"""Segment a video from source to file: decoding, the network, and drawing with encoding, each in threads of its own.

One thread decodes; as many as the segmenter is best called from at once segment a frame each; one draws and encodes,
and the caller's, where Ctrl-C arrives, passes the frames on in their order. The queues between them are bounded, so a
slow stage holds the others up rather than filling the memory; a live source does not wait, so there the oldest frame
goes instead. Whichever stage fails, the frames that are through it already reach the output, the output is closed, the
threads end, and the error is raised in the caller.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from operator import methodcaller
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, get_args, runtime_checkable

import numpy as np

from ...core.errors import ConfigError, DataError, did_you_mean
from ...core.types import ClassSet, ImageArray, Latency, MaskArray
from ..draw import colorize
from . import sources
from .sources import Frame, Source, open_source
from .stages import Channel, Lap, LapTable, Stage, in_order
from .writer import VideoWriter

Mode = Literal["overlay", "mask", "side-by-side"]

GRACE_SECONDS = 2.0
"""How much longer than it should a live source may hang, before it is left alone."""


class FramePrediction(Protocol):
    """What a segmenter returns for a frame: :class:`featherseg.runtime.prediction.Prediction` is one."""

    @property
    def mask(self) -> MaskArray:
        """Class ids, uint8 (H, W)."""

    @property
    def classes(self) -> ClassSet:
        """Names and colours of the ids."""

    def overlay(self) -> ImageArray:
        """Return the mask's colours over the frame, RGB uint8 (H, W, 3)."""


P = TypeVar("P", bound=FramePrediction)


@runtime_checkable
class Planning(Protocol):
    """What can be told the size of the frames beforehand, as a ``Segmenter`` can."""

    def planned(self, frame_size: tuple[int, int], /) -> Callable[[ImageArray], Any]:
        """Return what segments frames of one (height, width), and is quicker where the engine can plan ahead."""


@runtime_checkable
class Dividing(Protocol):
    """What can work on several frames at once, as a ``Segmenter`` can."""

    def divided(self) -> Callable[[ImageArray], Any]:
        """Return what segments frames in as many threads at once as its ``streams`` says."""


@runtime_checkable
class InTwoParts(Protocol):
    """What is to see the frames in their order, but not with the heavy part of the work, as ``Smoothed``."""

    def begin(self, frame: ImageArray, /) -> Any:
        """Do the heavy part, in any thread."""

    def finish(self, frame: ImageArray, begun: Any, /) -> Any:
        """Return the prediction of the next frame."""


@runtime_checkable
class Located(Protocol):
    """What says where it runs, as a ``Segmenter`` does."""

    device: str


@dataclass(frozen=True)
class VideoResult:
    """What became of a video.

    Args:
        frames: frames segmented.
        seconds: wall time from opening the source to closing the output.
        latency: ms of each frame, or of the last 10,000, in the stages ``decode`` and ``segment`` and, with an output,
            ``draw`` and ``encode``. The stages run side by side: their sum is the work on a frame, not the time
            between two.
        output: the file written, if any.
        dropped: frames of a live source that came while the network was busy; 0 for files, always.
        skipped: damaged frames of the source that were left out.
        notes: one line for each thing else that people should know, such as sound that was left out.
    """

    frames: int
    seconds: float
    latency: Latency
    output: Path | None
    dropped: int = 0
    skipped: int = 0
    notes: tuple[str, ...] = ()

    @property
    def fps(self) -> float:
        """Frames per second from source to file, everything included."""
        return self.frames / self.seconds


def segment_video(
    segment: Callable[[ImageArray], P],
    source: str | Path | int | Source,
    output: str | Path | None,
    *,
    on_frame: Callable[[int, P], object] | None = None,
    mode: Mode = "overlay",
    overlay: Callable[[P], ImageArray] = methodcaller("overlay"),
    queue_size: int = 4,
    limit: int | None = None,
) -> VideoResult:
    """Segment every frame of `source` and write the result as an H.264 video with the same time stamps and sound.

    Frames are turned upright where the file says so. An odd width or height grows by one pixel, which H.264 needs.
    Files and folders lose no frame. A live source, a camera or stream, loses those that the network is too slow for;
    its time stamps count from the first frame it sent; and that it stops or breaks off is its end, not an error.

    Args:
        segment: turns a frame, RGB uint8 (H, W, 3), into a prediction; a ``Segmenter`` does. Called in this thread.
            If it has a method ``planned``, as a ``Segmenter`` has, what that gives for the first frame's (height,
            width) is called instead; and if it has ``divided``, what that gives, in as many threads at once as its
            ``streams`` says.
        source: a video file; a folder of images, which play sorted by name at 25 frames per second in the size of
            the first; a camera's number or device; a URL; or what :func:`open_source` gave, which is closed in the
            end.
        output: the video file to write (``.mp4``, ``.mkv``, ``.mov``), or None to write none.
        on_frame: called in this thread with each frame's number, from 0, and its prediction.
        mode: what is written: the classes laid over the frame, their colours alone, or the frame and the overlay
            side by side.
        overlay: draws a prediction over its frame, RGB uint8 (H, W, 3); in a thread of its own. By default its method
            of that name, without arguments.
        queue_size: frames that may wait between two stages.
        limit: frames to segment at most.

    Raises:
        ConfigError: an argument is out of range.
        DataError: the source is missing or empty, it ends damaged, or the output cannot be written. What was decoded
            before is in the output.
        MissingExtraError: PyAV is not installed.
        Exception: whatever `segment` or `on_frame` raises.

    Example:
        >>> segmenter = featherseg.Segmenter("street.onnx")
        >>> featherseg.segment_video(segmenter, "photos/images", None, limit=5).frames
        5
    """
    if mode not in get_args(Mode):
        raise ConfigError(f"unknown mode {mode!r}; {did_you_mean(mode, get_args(Mode))}")
    for argument, number in (("queue_size", queue_size), ("limit", 1 if limit is None else limit)):
        if number < 1:
            raise ConfigError(f"{argument} is {number}; give at least 1")
    target = Path(output) if output is not None else None
    name = str(source) if isinstance(source, str | Path | int) else source.name
    if target is not None and target.resolve() == Path(name).resolve():
        raise ConfigError(f"output {target} is the source itself; choose another name")
    if isinstance(source, str | Path | int):
        source = open_source(source, sound=target is not None)

    stop = threading.Event()
    decoded: Channel[Frame] = Channel(queue_size, stop, lossy=source.live)
    predicted: Channel[tuple[Frame, P]] = Channel(queue_size, stop)
    laps = LapTable()
    decoder = Stage("decode", lambda: _decode(source, decoded))
    stages = [decoder]
    writer = None
    if target is not None:
        writer = VideoWriter(target, source.sound)
        # Only a failing writer stops the others at once: what was decoded before an error is still worth writing.
        stages.append(Stage("encode", lambda: _encode(writer, mode, overlay, predicted, laps), stop))
    count = 0
    frames = decoded.items(sources.SILENCE_SECONDS + GRACE_SECONDS if source.live else None)
    with _running(stages, source, stop), closing(_segmented(segment, frames, stop)) as results:
        for frame, prediction in results:
            if on_frame is not None:
                on_frame(count, prediction)
            count += 1
            if writer is None:
                laps.add(frame.laps)
            elif not predicted.put((frame, prediction)):
                break
            if count == limit:
                break
        predicted.close()
    for stage in reversed(stages):
        if stage.error is not None:
            raise stage.error
    if count == 0:
        raise DataError(f"{source.name} has no frames; {_no_frames(source)}")
    notes = [*source.notes, *(writer.notes if writer is not None else ())]
    if decoded.silent:
        notes.append(f"{source.name} stopped after {count} frames (it does not answer any more)")
    seconds = time.perf_counter() - source.started
    device = segment.device if isinstance(segment, Located) else "unknown device"
    return VideoResult(count, seconds, laps.latency(device), target, decoded.dropped, source.skipped, tuple(notes))


def _segmented(
    segment: Callable[[ImageArray], P], frames: Iterator[Frame], stop: threading.Event
) -> Generator[tuple[Frame, P], None, None]:
    """Yield frames with their predictions, in their order."""
    first = next(frames, None)
    if first is None:
        return
    prepared: Any = _prepared(segment, first.image)
    in_two = isinstance(prepared, InTwoParts)
    begin = prepared.begin if in_two else prepared

    def work(frame: Frame) -> Any:
        with Lap(frame.laps, "segment"):
            return begin(frame.image)

    with closing(in_order(work, chain((first,), frames), getattr(prepared, "streams", 1), stop)) as results:
        for frame, result in results:
            if in_two:
                with Lap(frame.laps, "segment"):
                    result = prepared.finish(frame.image, result)
            yield frame, result


def _prepared(segment: Any, image: ImageArray) -> Any:
    """Return what segments frames such as the first most quickly: several at once, and planned for their size."""
    if isinstance(segment, Dividing):
        segment = segment.divided()
    return segment.planned(image.shape[:2]) if isinstance(segment, Planning) else segment


@contextmanager
def _running(stages: list[Stage], source: Source, stop: threading.Event) -> Iterator[None]:
    """Run the threads beside a block, and see them end after it."""
    decoder, *others = stages
    for stage in stages:
        stage.start()
    try:
        yield
        for stage in others:
            stage.join()
    finally:
        # After an error the decoder ends at once, the encoder when it has written what waits in its queue.
        stop.set()
        for stage in others:
            stage.join()
        # A camera that hangs cannot be woken; its thread ends with it, or with the process.
        decoder.join(GRACE_SECONDS if source.live else None)
        if not decoder.is_alive():
            source.close()


def _decode(source: Source, decoded: Channel[Frame]) -> None:
    """Put the source's frames into `decoded`, and close it also when one of them cannot be decoded."""
    try:
        with closing(source.frames()) as frames:
            for frame in frames:
                if not decoded.put(frame):
                    return
    finally:
        decoded.close()


def _encode(
    writer: VideoWriter,
    mode: Mode,
    overlay: Callable[[P], ImageArray],
    predicted: Channel[tuple[Frame, P]],
    laps: LapTable,
) -> None:
    """Draw and write predictions; the file is finished whatever happens."""
    with closing(writer):
        for frame, prediction in predicted.items():
            with Lap(frame.laps, "draw"):
                drawn = _draw(frame.image, prediction, mode, overlay)
            with Lap(frame.laps, "encode"):
                writer.write(drawn, frame)
            laps.add(frame.laps)


def _draw(image: ImageArray, prediction: P, mode: Mode, overlay: Callable[[P], ImageArray]) -> ImageArray:
    """Return the picture to write, RGB uint8, of even height and width."""
    if mode == "mask":
        drawn = colorize(prediction.mask, prediction.classes)
    else:
        drawn = overlay(prediction)
        if mode == "side-by-side":
            drawn = np.hstack([image, drawn])
    height, width = drawn.shape[:2]
    if height % 2 or width % 2:
        drawn = np.pad(drawn, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return drawn


def _no_frames(source: Source) -> str:
    return "check that it sends" if source.live else "give a video or a folder of images"
