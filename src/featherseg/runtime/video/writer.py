"""An H.264 video file that can be played wherever its writing ends: at the end, at an error, on a full disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

from ...core.errors import DataError, first_line, require
from ...core.types import ImageArray
from .sources import Frame, Sound

QUALITY = {"crf": "20", "preset": "ultrafast", "x264-params": "mbtree=1:rc-lookahead=5"}
"""x264's: visually close to the source, at a quarter of the CPU time that its preset veryfast takes for the same error
(2.4 and 9.0 ms a frame of 960×540, 35.7 and 35.6 dB), in files a third larger. Looking five frames ahead for what stays
in the picture is what keeps them from being twice as large."""
BT709 = 1
LIMITED_RANGE = 1
"""ffmpeg's numbers for the colour space and range of high-definition video."""
FRAGMENTED = {"movflags": "hybrid_fragmented", "frag_duration": "1000000", "use_editlist": "1"}
"""Of MP4 and MOV: a file that can be played up to the last full second (10⁶ µs), until its end makes it a plain one.
Without an edit list such files would begin late by as many frames as the encoder reorders."""
FRAGMENTED_SUFFIXES = frozenset({".mp4", ".m4v", ".mov"})


class VideoWriter:
    """Writes frames, which tell size, rate and times, and sound as it is.

    Args:
        path: the file; nothing is written before the first frame.
        sound: what sound to take along, as far as the container can hold it.
    """

    def __init__(self, path: Path, sound: Sound | None) -> None:
        self.path, self.sound = path, sound
        self.notes: list[str] = []
        self._fragmented = path.suffix.lower() in FRAGMENTED_SUFFIXES
        self._av = require("av", "video", "Video")
        self._converter = self._av.video.reformatter.VideoReformatter()
        self._file = _File(path)
        self._container: Any = None
        self._stream: Any = None
        self._tracks: dict[int, _Track] = {}
        self._pts = -1

    def write(self, image: ImageArray, frame: Frame) -> None:
        """Encode RGB uint8 (H, W, 3), of even sides, with `frame`'s time stamp; a later size is scaled to the first.

        Raises:
            DataError: the file cannot be written.
        """
        with self._explained():
            if self._container is None:
                self._open(image, frame)
            picture = self._converter.reformat(
                self._av.VideoFrame.from_numpy_buffer(image, format="rgb24"),
                self._stream.width,
                self._stream.height,
                "yuv420p",
                dst_colorspace="ITU709",
            )
            step = max(1, round(1 / (frame.rate * frame.time_base)))
            # Encoders refuse time stamps that are missing or do not rise.
            self._pts = max(self._pts + 1, self._pts + step if frame.pts is None else frame.pts)
            picture.pts, picture.time_base = self._pts, frame.time_base
            picture.duration = frame.duration
            self._write_sound()
            self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        """Write what the encoder still holds and the rest of the sound, and finish the file.

        Raises:
            DataError: the file cannot be written.
        """
        if self._container is None:
            return
        try:
            with self._explained():
                if not self._file.failed:
                    self._container.mux(self._stream.encode(None))
                    self._write_sound()
                self._container.close()
        finally:
            self._file.close()

    def _open(self, image: ImageArray, frame: Frame) -> None:
        """Write the head of the file; without sound if it cannot be with it."""
        streams = self.sound.streams if self.sound is not None else []
        try:
            self._start(image, frame, streams)
        except (self._av.FFmpegError, ValueError):
            if not streams:
                raise
            self._file.empty()
            self._start(image, frame, [])
        for stream in streams:
            if stream.index not in self._tracks:
                codec = stream.codec_context.name if stream.codec_context is not None else "of unknown kind"
                self.notes.append(f"sound ({codec}) left out: {self.path.suffix} cannot hold it as it is; .mkv may")

    def _start(self, image: ImageArray, frame: Frame, sound: list[Any]) -> None:
        options = FRAGMENTED if self._fragmented else {}
        self._tracks = {}
        container = self._av.open(self._file, "w", container_options=options)
        stream = container.add_stream("libx264", rate=frame.rate, options=QUALITY)
        stream.height, stream.width = image.shape[:2]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = frame.time_base
        context.sample_aspect_ratio = frame.aspect
        context.colorspace, context.color_range = BT709, LIMITED_RANGE
        context.color_primaries, context.color_trc = BT709, BT709
        for source in sound:
            with suppress(ValueError, self._av.FFmpegError):  # the container does not take it
                self._tracks[source.index] = _Track(container.add_stream_from_template(source))
        container.start_encoding()
        self._container, self._stream = container, stream

    def _write_sound(self) -> None:
        """Write the packets of sound that were read so far."""
        while self.sound is not None and self.sound.packets:
            packet = self.sound.packets.popleft()
            track = self._tracks.get(packet.stream_index)
            # What only primes the decoder has times before 0. Other containers would move all the rest to hold it.
            if packet.dts < 0 and not self._fragmented:
                continue
            # Containers refuse packets that go back in time, and a torn soundtrack is no reason to lose the pictures.
            if track is not None and track.follows(packet):
                packet.stream = track.stream
                self._container.mux(packet)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what PyAV and the file system raise into a :class:`DataError`."""
        try:
            yield
        except (self._av.FFmpegError, OSError, ValueError) as error:
            cause = self._file.failed or error
            reason = getattr(cause, "strerror", None) or first_line(cause)
            advice = "make room" if self._file.failed else "give a .mp4 in a folder you can write"
            raise DataError(f"{self.path} cannot be written ({reason}); {advice}") from error


class _Track:
    """A soundtrack of the output."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self._end: Fraction | None = None

    def follows(self, packet: Any) -> bool:
        """Return whether `packet` comes after those before it."""
        begin = Fraction(packet.dts * packet.time_base.numerator, packet.time_base.denominator)
        if self._end is not None and begin <= self._end:
            return False
        self._end = begin
        return True


class _File:
    """The output as PyAV writes it: made when there is something to write, and left alone after a failure.

    What ends a container goes where its head was. On a full disk that would spoil what can be played.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.failed: OSError | None = None
        self._path = path
        self._file: BinaryIO | None = None

    def write(self, data: bytes) -> int:
        if self.failed is None:
            try:
                self._write_all(data)
            except OSError as error:
                self.failed = error
                raise
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return offset if self._file is None or self.failed else self._file.seek(offset, whence)

    def tell(self) -> int:
        return 0 if self._file is None else self._file.tell()

    def empty(self) -> None:
        """Take back what was written."""
        if self._file is not None:
            self._file.seek(0)
            self._file.truncate()

    def close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # said already, or of no consequence: nothing is buffered
                self._file.close()

    def _write_all(self, data: bytes) -> None:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w+b", buffering=0)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
