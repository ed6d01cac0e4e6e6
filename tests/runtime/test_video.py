"""From source to file: order, times, errors, and a file that plays whatever happens."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import mounted_disk
from featherseg.errors import ConfigError, DataError, MissingExtraError
from featherseg.runtime.draw import colorize
from featherseg.runtime.video import Frame, Mode, VideoResult, open_source, segment_video
from featherseg.runtime.video.sources import DEFAULT_RATE
from featherseg.types import ImageArray
from video_clips import (
    CLASSES,
    FRAMES,
    HEIGHT,
    RATE,
    WIDTH,
    Prediction,
    av,
    bar,
    picture,
    read_video,
    segment,
    within,
    write_video,
)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())  # other tests may have left one that waits for a source that never speaks
    yield
    assert not [t.name for t in threading.enumerate() if t.name.startswith("featherseg") and t not in before]


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "in.mp4")


@pytest.mark.parametrize(("mode", "width"), [("overlay", WIDTH), ("mask", WIDTH), ("side-by-side", 2 * WIDTH)])
def test_every_frame_comes_through_in_order(video: Path, tmp_path: Path, mode: Mode, width: int) -> None:
    seen: list[int] = []
    result = within(
        20,
        lambda: segment_video(
            segment, str(video), tmp_path / "new" / "out.mp4", mode=mode, on_frame=lambda i, _: seen.append(i)
        ),
    )
    images, times, duration = read_video(tmp_path / "new" / "out.mp4")
    assert isinstance(result, VideoResult)
    assert result.frames == len(images) == FRAMES
    assert seen == list(range(FRAMES))
    assert {image.shape for image in images} == {(HEIGHT, width, 3)}
    assert [bar(image[:, -WIDTH:]) for image in images] == list(range(FRAMES))
    np.testing.assert_allclose(times, [float(i / RATE) for i in range(FRAMES)], atol=1e-4)
    assert duration == pytest.approx(float(FRAMES / RATE), abs=1e-3)
    expected = segment(picture(5))
    drawn = {
        "overlay": expected.overlay(),
        "mask": colorize(expected.mask, CLASSES),
        "side-by-side": np.hstack([picture(5), expected.overlay()]),
    }[mode]
    assert np.abs(images[5].astype(int) - drawn).mean() < 8


def test_result_adds_up(video: Path, tmp_path: Path) -> None:
    def slow(frame: ImageArray) -> Prediction:
        time.sleep(0.02)
        return segment(frame)

    slow.device = "a snail"  # type: ignore[attr-defined]
    result = within(20, lambda: segment_video(slow, video, tmp_path / "out.mp4"))
    assert list(result.latency.stages) == ["decode", "segment", "draw", "encode"]
    assert {len(times) for times in result.latency.stages.values()} == {FRAMES}
    assert 20 <= result.latency.percentile(50, "segment") < 40
    assert result.latency.device == "a snail"
    assert result.seconds >= FRAMES * 0.02
    assert result.fps == pytest.approx(FRAMES / result.seconds)
    assert result.output == tmp_path / "out.mp4"
    assert (result.dropped, result.skipped, result.notes) == (0, 0, ())  # a file waits for whoever is slow


def test_what_can_plan_does_so_for_the_first_frame(video: Path) -> None:
    class Planner:
        def __init__(self) -> None:
            self.sizes: list[tuple[int, int]] = []

        def planned(self, size: tuple[int, int]) -> object:
            self.sizes.append(size)
            return segment

        def __call__(self, frame: ImageArray) -> Prediction:
            raise AssertionError("what was planned is to be called")

    planner = Planner()
    assert within(20, lambda: segment_video(planner, video, None)).frames == FRAMES
    assert planner.sizes == [(HEIGHT, WIDTH)]


def test_without_output(video: Path) -> None:
    result = within(20, lambda: segment_video(segment, video, None))
    assert result.frames == FRAMES
    assert result.output is None
    assert list(result.latency.stages) == ["decode", "segment"]
    assert list(video.parent.iterdir()) == [video]


def test_uneven_times_are_kept(tmp_path: Path) -> None:
    times = [3000, 4000, 9000, 9500, 21000, 60000]
    video = write_video(tmp_path / "in.mp4", times)
    within(20, lambda: segment_video(segment, video, tmp_path / "out.mp4"))
    np.testing.assert_allclose(read_video(tmp_path / "out.mp4")[1], np.array(times) / 30000, atol=1e-4)
    assert read_video(video)[1] == pytest.approx(read_video(tmp_path / "out.mp4")[1], abs=1e-4)


def test_stages_run_side_by_side_but_not_ahead(video: Path, tmp_path: Path) -> None:
    threads, waiting = set(), []

    def watched(frame: ImageArray) -> Prediction:
        prediction = segment(frame)
        threads.add(threading.current_thread().name)
        waiting.append(frame)
        return prediction

    class Slow(Prediction):
        def overlay(self) -> ImageArray:
            threads.add(threading.current_thread().name)
            time.sleep(0.03)
            drawn.append(len(waiting))
            return super().overlay()

    drawn: list[int] = []
    within(
        20,
        lambda: segment_video(
            lambda f: Slow(watched(f).image, segment(f).mask), video, tmp_path / "out.mp4", queue_size=2
        ),
    )
    assert len(threads) == 2
    ahead = [done - i for i, done in enumerate(drawn)]
    assert max(ahead) > 1  # the network went on while a frame was drawn,
    assert max(ahead) <= 5  # though by no more than the queue holds: one drawn, two waiting, one to put, one to spare


@pytest.mark.parametrize("where", ["segment", "on_frame", "draw"])
@pytest.mark.parametrize("failing", [0, 5, FRAMES - 1])
@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_errors_come_out_and_leave_a_playable_file(
    video: Path, tmp_path: Path, where: str, failing: int, kind: type[BaseException]
) -> None:
    class Failing(Prediction):
        def overlay(self) -> ImageArray:
            if where == "draw" and bar(colorize(self.mask, CLASSES)) == failing:
                raise kind("bang")
            return super().overlay()

    def failing_segment(frame: ImageArray) -> Prediction:
        prediction = segment(frame)
        if where == "segment" and bar(colorize(prediction.mask, CLASSES)) == failing:
            raise kind("bang")
        return Failing(prediction.image, prediction.mask)

    def on_frame(i: int, _: Prediction) -> None:
        if where == "on_frame" and i == failing:
            raise kind("bang")

    out = tmp_path / "out.mp4"
    with pytest.raises(kind, match="bang"):
        within(20, lambda: segment_video(failing_segment, video, out, on_frame=on_frame, queue_size=1))
    if failing:
        images, _, _ = read_video(out)
        assert [bar(image) for image in images] == list(range(failing))
    else:
        assert not out.exists()


def test_slow_network_is_not_awaited_after_the_encoder_failed(video: Path, tmp_path: Path) -> None:
    calls = []

    def slow(frame: ImageArray) -> Prediction:
        calls.append(1)
        time.sleep(0.05)
        return segment(frame)

    with pytest.raises(DataError, match=r"out\.webm cannot be written"):
        within(20, lambda: segment_video(slow, video, tmp_path / "out.webm"))
    assert len(calls) <= 4


@pytest.mark.parametrize("name", ["out.webm", "out.xyz", "in.mp4/out.mp4"])
def test_output_that_cannot_be_written(video: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=rf"{name} cannot be written"):
        within(20, lambda: segment_video(segment, video, tmp_path / name))


def test_odd_sizes_grow_by_a_pixel(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in (2, 10, 1):  # sorted by name, not by number or time
        Image.fromarray(picture(i, 47, 63)).save(folder / f"{i:03d}.png")
    Image.fromarray(picture(11, 94, 126)).save(folder / "zzz.jpg")
    (folder / "notes.txt").write_text("no picture")
    shapes: list[tuple[int, ...]] = []

    def watched(frame: ImageArray) -> Prediction:
        shapes.append(frame.shape)
        return segment(frame)

    result = within(20, lambda: segment_video(watched, folder, tmp_path / "out.mkv"))
    assert result.frames == 4
    assert shapes == [(47, 63, 3)] * 3 + [(94, 126, 3)]
    with av.open(str(tmp_path / "out.mkv")) as container:
        frames = list(container.decode(video=0))
    assert [(f.height, f.width) for f in frames] == [(48, 64)] * 4
    assert [bar(f.to_ndarray(format="rgb24")) for f in frames[:3]] == [1, 2, 10]
    np.testing.assert_allclose([f.time for f in frames], [0, 0.04, 0.08, 0.12], atol=1e-3)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_phone_videos_are_turned_upright(video: Path, tmp_path: Path, turns: int) -> None:
    cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][turns]
    one = 1 << 16
    matrix = [cos * one, sin * one, 0, -sin * one, cos * one, 0, 0, 0, 1 << 30]  # ISO 14496-12: clockwise by 90°·turns
    data = bytearray(video.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    video.write_bytes(data)
    seen: list[ImageArray] = []

    def watched(frame: ImageArray) -> Prediction:
        seen.append(frame)
        return segment(frame)

    within(20, lambda: segment_video(watched, video, None))
    assert np.abs(seen[5].astype(int) - np.rot90(picture(5), -turns)).mean() < 5


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


def test_refuses_wrong_arguments(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for options, message in (({"mode": "overlai"}, 'did you mean "overlay"'), ({"queue_size": 0}, "queue_size is 0")):
        with pytest.raises(ConfigError, match=message):
            segment_video(segment, video, None, **options)
    with pytest.raises(ConfigError, match="is the source itself"):
        segment_video(segment, video, tmp_path / "." / "in.mp4")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"Video needs: pip install \"featherseg\[video\]\""):
        segment_video(segment, video, None)


def test_stops_at_the_limit(video: Path, tmp_path: Path) -> None:
    source = open_source(video)
    assert (source.total, source.live) == (FRAMES, False)
    result = within(20, lambda: segment_video(segment, source, tmp_path / "out.mp4", limit=5, queue_size=1))
    assert result.frames == 5
    assert [bar(image) for image in read_video(tmp_path / "out.mp4")[0]] == list(range(5))
    with pytest.raises(ConfigError, match="limit is 0"):
        segment_video(segment, video, None, limit=0)
    with closing(open_source(video)) as again, pytest.raises(ConfigError, match="is the source itself"):
        segment_video(segment, again, video)


def test_colours_come_out_as_they_were_drawn(tmp_path: Path) -> None:
    """Red, green, blue and grey in quarters, through the mask's colours and both conversions."""
    folder = tmp_path / "images"
    folder.mkdir()
    corners = np.array([[(220, 30, 40), (30, 200, 60)], [(40, 50, 210), (128, 128, 128)]], np.uint8)
    image = corners.repeat(32, axis=0).repeat(32, axis=1)
    for i in range(3):
        Image.fromarray(image).save(folder / f"{i}.png")
    within(20, lambda: segment_video(lambda f: _Plain(f, np.zeros(f.shape[:2], np.uint8)), folder, tmp_path / "o.mp4"))
    images, _, _ = read_video(tmp_path / "o.mp4")
    for y in (16, 48):
        for x in (16, 48):
            assert np.abs(images[1][y, x].astype(int) - image[y, x]).max() <= 6


class _Plain(Prediction):
    def overlay(self) -> ImageArray:
        return self.image


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
            within(20, lambda: segment_video(lambda f: _Plain(f, np.zeros((96, 128), np.uint8)), video, out))
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
        within(20, lambda: segment_video(lambda f: _Plain(f, np.zeros((96, 128), np.uint8)), video, out))
    assert 25 <= plays(out) < 150


def test_a_refused_format_leaves_the_file_that_was_there(video: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.webm"
    out.write_text("precious")
    with pytest.raises(DataError, match="cannot be written"):
        within(20, lambda: segment_video(segment, video, out))
    assert out.read_text() == "precious"


class Endless:
    """A source of frames from memory."""

    name, live, skipped, sound = "endless", False, 0, None

    def __init__(self, total: int) -> None:
        self.total: int | None = total
        self.notes: list[str] = []
        self.started = time.perf_counter()
        self.image = picture(3, 180, 320)

    def frames(self) -> Iterator[Frame]:
        for i in range(self.total or 0):
            yield Frame(self.image.copy(), i, 1 / DEFAULT_RATE, DEFAULT_RATE, 1, laps={"decode": 0.0})

    def close(self) -> None:
        pass


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads its memory from /proc")
def test_memory_stays_flat_over_ten_thousand_frames(tmp_path: Path) -> None:
    held: dict[int, float] = {}

    def note(i: int, _: object) -> None:
        if i % 1000 == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            held[i] = pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    result = within(300, lambda: segment_video(segment, Endless(10_001), tmp_path / "out.mp4", on_frame=note))
    assert result.frames == 10_001
    assert result.latency.runs == 10_000
    # A frame is 0.17 MB: a list of them that is never emptied would take 1,700 MB.
    assert held[10_000] - held[2000] < 10, held
    assert len(read_video(tmp_path / "out.mp4")[1]) == 10_001
