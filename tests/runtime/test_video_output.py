"""Outputs that cannot be written, or no further: what is there plays."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from conftest import mounted_disk
from featherseg.core.errors import DataError
from featherseg.runtime.video.pipeline import segment_video
from video_clips import (
    Plain,
    av,
    segment,
    within,
)

pytestmark = pytest.mark.usefixtures("no_video_thread_left")


@pytest.mark.parametrize("name", ["out.webm", "out.xyz", "in.mp4/out.mp4"])
def test_output_that_cannot_be_written(video: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=rf"{name} cannot be written"):
        within(20, lambda: segment_video(segment, video, tmp_path / name))


def write_long_video(path: Path, frames: int = 150) -> Path:
    """Write noise, of which every frame takes about 10 kB."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 96, 128, 3)).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        for i in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise[i % 8], format="rgb24")))
        container.mux(stream.encode(None))
    return path


def plays(path: Path) -> int:
    """Return how many frames can be decoded before the file breaks off, if it does."""
    count = 0
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            try:
                count += len(packet.decode())
            except av.error.InvalidDataError:
                break
    return count


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_a_file_that_may_not_grow_further_plays_up_to_there(tmp_path: Path, suffix: str) -> None:
    video, out = write_long_video(tmp_path / "in.mp4"), tmp_path / f"out{suffix}"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, before[1]))
    try:
        with pytest.raises(DataError, match=rf"out{suffix} cannot be written \(File too large\); make room"):
            within(20, lambda: segment_video(lambda f: Plain(f, np.zeros((96, 128), np.uint8)), video, out))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert out.stat().st_size == 600_000
    assert 25 <= plays(out) < 150


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 600 kB."""
    with mounted_disk(tmp_path / "disk", "size=600k") as disk:
        yield disk


def test_a_full_disk_leaves_a_file_that_plays(small_disk: Path, tmp_path: Path) -> None:
    video, out = write_long_video(tmp_path / "in.mp4"), small_disk / "out.mp4"
    with pytest.raises(DataError, match=r"out\.mp4 cannot be written \(No space left on device\); make room"):
        within(20, lambda: segment_video(lambda f: Plain(f, np.zeros((96, 128), np.uint8)), video, out))
    assert 25 <= plays(out) < 150


def test_a_refused_format_leaves_the_file_that_was_there(video: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.webm"
    out.write_text("precious")
    with pytest.raises(DataError, match="cannot be written"):
        within(20, lambda: segment_video(segment, video, out))
    assert out.read_text() == "precious"
