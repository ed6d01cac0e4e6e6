"""Sources that are missing, empty, damaged or cut off: what can be shown is, and the rest is said."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featherseg.core.errors import DataError
from featherseg.runtime.video.pipeline import segment_video
from video_clips import (
    FRAMES,
    HEIGHT,
    RATE,
    WIDTH,
    av,
    bar,
    picture,
    read_video,
    segment,
    within,
    write_video,
)

pytestmark = pytest.mark.usefixtures("no_video_thread_left")


def test_missing_corrupt_and_empty_sources(video: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video " * 100)
    (tmp_path / "headless.mp4").write_bytes(video.read_bytes()[:1500])
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_text("no image")
    for name in ("missing.mp4", "text.mp4", "headless.mp4", "empty", "broken"):
        with pytest.raises(DataError, match=name):
            within(20, partial(segment_video, segment, tmp_path / name, tmp_path / "out.mp4"))
        assert not (tmp_path / "out.mp4").exists()
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(DataError, match="no video stream"):
        within(20, lambda: segment_video(segment, tmp_path / "sound.wav", None))


def test_what_came_before_the_corrupt_part_is_written(video: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(4):
        Image.fromarray(picture(i)).save(folder / f"{i}.png")
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:60])
    with pytest.raises(DataError, match=r"3\.png"):
        within(20, lambda: segment_video(segment, folder, tmp_path / "out.mp4"))
    assert [bar(image) for image in read_video(tmp_path / "out.mp4")[0]] == [0, 1, 2]


def test_file_that_was_cut_off(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3)).astype(np.uint8)
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    with av.open(str(whole), "w", options={"movflags": "faststart"}) as container:  # its index comes first
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for image in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    assert within(20, lambda: segment_video(segment, whole, None)).frames == FRAMES
    with pytest.raises(DataError, match=r"cut\.mp4 (is cut off|cannot be decoded) after \d frames"):
        within(20, lambda: segment_video(segment, cut, tmp_path / "out.mp4"))
    assert 1 < len(read_video(tmp_path / "out.mp4")[0]) < FRAMES


def damage(path: Path, numbers: list[int]) -> None:
    """Overwrite the inside of these packets of a video of key frames."""
    with av.open(str(path)) as container:
        spans = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for number in numbers:
        start, size = spans[number]
        data[start : start + size] = np.random.default_rng(number).integers(0, 256, size, np.uint8).tobytes()
    path.write_bytes(data)


def test_damaged_frames_in_the_middle_are_left_out_and_counted(tmp_path: Path) -> None:
    video = write_video(tmp_path / "in.mp4", g="1", preset="ultrafast")
    damage(video, [3, 4, 8])
    result = within(20, lambda: segment_video(segment, video, tmp_path / "out.mp4"))
    assert (result.frames, result.skipped) == (FRAMES - 3, 3)
    images, times, duration = read_video(tmp_path / "out.mp4")
    whole = [i for i in range(FRAMES) if i not in (3, 4, 8)]
    assert [bar(image) for image in images] == whole
    np.testing.assert_allclose(times, [float(i / RATE) for i in whole], atol=1e-4)
    assert duration == pytest.approx(float(FRAMES / RATE), abs=1e-3)


def test_damage_at_the_end_is_an_error(tmp_path: Path) -> None:
    video = write_video(tmp_path / "in.mp4", g="1", preset="ultrafast")
    damage(video, [FRAMES - 2, FRAMES - 1])
    with pytest.raises(DataError, match=rf"in\.mp4 is cut off after {FRAMES - 2} frames"):
        within(20, lambda: segment_video(segment, video, tmp_path / "out.mp4"))
    assert len(read_video(tmp_path / "out.mp4")[0]) == FRAMES - 2


def test_damaged_images_of_a_folder_are_left_out_and_counted(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(4):
        Image.fromarray(picture(i)).save(folder / f"{i}.png")
    (folder / "1.png").write_text("no image")
    result = within(20, lambda: segment_video(segment, folder, tmp_path / "out.mp4"))
    assert (result.frames, result.skipped) == (3, 1)
    np.testing.assert_allclose(read_video(tmp_path / "out.mp4")[1], [0, 0.08, 0.12], atol=1e-4)
