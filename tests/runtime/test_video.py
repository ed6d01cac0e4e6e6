from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featherseg.errors import ConfigError, DataError, MissingExtraError
from featherseg.runtime.draw import colorize
from featherseg.runtime.draw import overlay as draw_overlay
from featherseg.runtime.video import Mode, VideoResult, segment_video
from featherseg.types import ClassSet, ImageArray, MaskArray

av = pytest.importorskip("av", reason="needs the video extra")

CLASSES = ClassSet(("dark", "bright"), ((20, 40, 200), (220, 60, 30)))
FRAMES, HEIGHT, WIDTH, RATE = 12, 48, 64, Fraction(30000, 1001)


@dataclass
class Prediction:
    """The least that a segmenter returns."""

    image: ImageArray
    mask: MaskArray
    classes: ClassSet = CLASSES

    def overlay(self) -> ImageArray:
        return draw_overlay(self.image, self.mask, self.classes)


def segment(frame: ImageArray) -> Prediction:
    assert frame.dtype == np.uint8
    assert frame.flags.c_contiguous
    return Prediction(frame, (frame[..., 1] > 127).astype(np.uint8))


def picture(i: int, height: int = HEIGHT, width: int = WIDTH) -> ImageArray:
    """Frame `i`: dark, with a bright bar whose right end tells the number."""
    image = np.full((height, width, 3), 40, np.uint8)
    image[height // 4 : height // 2, : 4 * (i + 1)] = 210
    return image


def write_video(path: Path, times: list[int] | None = None, height: int = HEIGHT, width: int = WIDTH) -> Path:
    """Write frames shown at `times`, in units of 1/30000 s (by default at a steady rate)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "10"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 30000)
        for i, pts in enumerate(times or [1001 * i for i in range(FRAMES)]):
            frame = av.VideoFrame.from_ndarray(picture(i, height, width), format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 30000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read_video(path: Path) -> tuple[list[ImageArray], list[float], float]:
    """Return frames, the seconds at which they are shown, and the duration in seconds."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        frames = list(container.decode(stream))
        images = [frame.to_ndarray(format="rgb24") for frame in frames]
        return images, [frame.time for frame in frames], float(stream.duration * stream.time_base)


def within(seconds: float, work: Callable[[], Any]) -> Any:
    """Run `work` in a thread; a hang is a failure, an exception is raised here."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((work(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert outcome, f"no end after {seconds} s"
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [t.name for t in threading.enumerate() if t.name.startswith("featherseg")]


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "in.mp4")


def bar(image: ImageArray) -> int:
    """Read a frame's number off its bar, in an overlay or colour mask: red where bright."""
    row = image[3 * HEIGHT // 8, :WIDTH].astype(int)
    return round(int((row[:, 0] > row[:, 2]).sum()) / 4) - 1


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
