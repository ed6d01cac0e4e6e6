"""From source to file: order, times, errors, and a file that plays whatever happens."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featherseg.core.errors import ConfigError, DataError, MissingExtraError
from featherseg.core.types import ImageArray
from featherseg.runtime.draw import colorize
from featherseg.runtime.video.pipeline import Mode, VideoResult, segment_video
from featherseg.runtime.video.sources import DEFAULT_RATE, Frame, open_source
from video_clips import (
    CLASSES,
    FRAMES,
    HEIGHT,
    RATE,
    WIDTH,
    Plain,
    Prediction,
    av,
    bar,
    picture,
    read_video,
    segment,
    within,
    write_video,
)

pytestmark = pytest.mark.usefixtures("no_video_thread_left")


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
    within(20, lambda: segment_video(lambda f: Plain(f, np.zeros(f.shape[:2], np.uint8)), folder, tmp_path / "o.mp4"))
    images, _, _ = read_video(tmp_path / "o.mp4")
    for y in (16, 48):
        for x in (16, 48):
            assert np.abs(images[1][y, x].astype(int) - image[y, x]).max() <= 6


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
