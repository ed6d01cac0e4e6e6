"""Sound goes to the output as it is, or is left out with a word."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherseg.runtime.video.pipeline import segment_video
from featherseg.runtime.video.sources import StreamSource
from featherseg.runtime.video.writer import VideoWriter
from video_clips import FRAMES, HEIGHT, WIDTH, av, bar, picture, read_video, segment, within

SAMPLES = 16000


def write_with_sound(path: Path, codec: str, *, begin: float = 0.0, tracks: int = 1) -> Path:
    """Write a second of frames with `tracks` soundtracks, pictures and sound shown from `begin` seconds on."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FRAMES, options={"crf": "10"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        sounds = [container.add_stream(codec, rate=SAMPLES, layout="mono") for _ in range(tracks)]
        for i in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(picture(i), format="rgb24")
            frame.pts, frame.time_base = round(1000 * (begin + i / FRAMES)), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        waves = np.sin(np.arange(SAMPLES) / 9)[None]
        for sound in sounds:
            audio = (waves * 20000).astype(np.int16) if codec.startswith("pcm") else waves.astype(np.float32)
            for at in range(0, SAMPLES, 800):
                part = av.AudioFrame.from_ndarray(
                    audio[:, at : at + 800], "s16" if codec.startswith("pcm") else "fltp", "mono"
                )
                part.sample_rate, part.time_base = SAMPLES, Fraction(1, SAMPLES)
                part.pts = round(SAMPLES * begin) + at
                container.mux(sound.encode(part))
            container.mux(sound.encode(None))
        container.mux(stream.encode(None))
    return path


def packets(path: Path, track: int = 0) -> list[tuple[float, bytes]]:
    """Return the seconds and the bytes of each packet of a soundtrack."""
    with av.open(str(path)) as container:
        found = container.demux(container.streams.audio[track])
        return [(float(packet.pts * packet.time_base), bytes(packet)) for packet in found if packet.size]


@pytest.mark.parametrize(
    ("source", "codec", "target"),
    [
        ("in.mp4", "aac", "out.mp4"),
        ("in.mp4", "aac", "out.mkv"),
        ("in.mkv", "aac", "out.mov"),
        ("in.mkv", "pcm_s16le", "out.mkv"),
    ],
)
def test_sound_is_copied_byte_for_byte(tmp_path: Path, source: str, codec: str, target: str) -> None:
    video = write_with_sound(tmp_path / source, codec, tracks=2)
    result = within(20, lambda: segment_video(segment, video, tmp_path / target))
    assert result.notes == ()
    for track in range(2):
        before, after = packets(video, track), packets(tmp_path / target, track)
        if target.endswith(".mkv"):  # which has no times before 0: what only primes the decoder goes
            before = [(seconds, data) for seconds, data in before if seconds >= 0]
        assert [data for _, data in after] == [data for _, data in before]
        np.testing.assert_allclose([t for t, _ in after], [t for t, _ in before], atol=1.1e-3)
    np.testing.assert_allclose(read_video(tmp_path / target)[1], read_video(video)[1], atol=1.1e-3)


@pytest.mark.parametrize("target", ["out.mp4", "out.mkv"])
def test_sound_of_a_transport_stream_stays_with_its_pictures(tmp_path: Path, target: str) -> None:
    """Its clock does not begin at 0, and MP4 wants its sound without the heads that it has there."""
    video = write_with_sound(tmp_path / "in.ts", "aac", begin=3.0)
    within(20, lambda: segment_video(segment, video, tmp_path / target))
    times, before, after = (
        read_video(tmp_path / target)[1],
        packets(video),
        packets(tmp_path / target),
    )
    source_times = read_video(video)[1]
    assert source_times[0] >= 3
    np.testing.assert_allclose(times, source_times, atol=2e-3)
    np.testing.assert_allclose([t for t, _ in after], [t for t, _ in before], atol=2e-3)


def test_sound_that_does_not_fit_is_left_out_with_a_line(tmp_path: Path) -> None:
    video = write_with_sound(tmp_path / "in.mov", "pcm_alaw")
    result = within(20, lambda: segment_video(segment, video, tmp_path / "out.mp4"))
    (note,) = result.notes
    assert note == "sound (pcm_alaw) left out: .mp4 cannot hold it as it is; .mkv may"
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert not container.streams.audio
    assert [bar(image) for image in read_video(tmp_path / "out.mp4")[0]] == list(range(FRAMES))


def test_sound_that_the_head_of_the_file_refuses_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a container says that it takes is not the last word."""
    video = write_with_sound(tmp_path / "in.mp4", "aac")
    whole = VideoWriter._start

    def refuse(self: VideoWriter, image: Any, frame: Any, sound: list[Any]) -> None:
        whole(self, image, frame, sound)
        if sound:
            raise av.error.InvalidDataError(-1, "no such head")

    monkeypatch.setattr(VideoWriter, "_start", refuse)
    result = within(20, lambda: segment_video(segment, video, tmp_path / "out.mp4"))
    assert [note.split(":")[0] for note in result.notes] == ["sound (aac) left out"]
    images, times, _ = read_video(tmp_path / "out.mp4")
    assert [bar(image) for image in images] == list(range(FRAMES))
    assert times[0] == 0


def test_a_soundtrack_that_goes_back_in_time_does_not_end_the_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_with_sound(tmp_path / "in.mp4", "aac")
    whole = StreamSource._packets
    count = 0

    def torn(self: StreamSource) -> Iterator[Any]:
        nonlocal count
        for packet in whole(self):
            if packet.stream.type == "audio" and packet.size:
                count += 1
                if count == 7:
                    packet.dts = packet.pts = 0
            yield packet

    monkeypatch.setattr(StreamSource, "_packets", torn)
    within(20, lambda: segment_video(segment, video, tmp_path / "out.mp4"))
    assert len(packets(tmp_path / "out.mp4")) == count - 1
    assert len(read_video(tmp_path / "out.mp4")[0]) == FRAMES
