"""Cameras and streams: real ones over the loopback, and what an address means on each system."""

from __future__ import annotations

import contextlib
import http.server
import io
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featherseg.core.errors import DataError
from featherseg.core.types import ImageArray
from featherseg.runtime.video import pipeline, sources
from featherseg.runtime.video.addresses import find_address
from featherseg.runtime.video.pipeline import segment_video
from featherseg.runtime.video.sources import DEFAULT_RATE, Frame, open_source
from rtsp_camera import rtsp_camera
from video_clips import (
    FRAMES,
    Prediction,
    Sender,
    av,
    bar,
    camera,
    picture,
    read_video,
    segment,
    send_frames,
    within,
    write_video,
)

pytestmark = pytest.mark.usefixtures("no_video_thread_left")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "SILENCE_SECONDS", 1.0)
    monkeypatch.setattr(pipeline, "GRACE_SECONDS", 0.3)


def slowly(frame: ImageArray) -> Prediction:
    time.sleep(0.06)
    return segment(frame)


def follows(bars: list[int]) -> list[int]:
    """Return by how many each frame's number is ahead of the one before; numbers begin again after the last."""
    return [(b - a) % FRAMES for a, b in itertools.pairwise(bars)]


def assert_shown_when_sent(bars: list[int], times: list[float]) -> None:
    """A step in numbers is a step of as many fiftieths of a second."""
    for step, seconds in zip(follows(bars), np.diff(times), strict=True):
        assert (round(50 * seconds) - step) % FRAMES == 0


def test_every_frame_of_a_camera_that_is_slow_enough(tmp_path: Path) -> None:
    with camera(lambda out: send_frames(out, 30, rate=25)) as url:
        source = open_source(url)
        assert source.live
        assert source.total is None
        result = within(20, lambda: segment_video(segment, source, tmp_path / "out.mp4", queue_size=30))
    images, times, _ = read_video(tmp_path / "out.mp4")
    assert len(images) == result.frames == 30
    assert result.dropped == result.skipped == 0
    assert set(follows([bar(image) for image in images])) == {1}
    np.testing.assert_allclose(times, np.arange(30) / 25, atol=1e-3)  # the camera's clock stood at 1000 s
    assert result.notes == (f"{url} stopped after sending 30 frames (the connection was closed)",)


def test_frames_that_come_too_fast_are_dropped_and_counted(tmp_path: Path) -> None:
    with camera(lambda out: send_frames(out, 60, sound=True)) as url:
        result = within(20, lambda: segment_video(slowly, url, tmp_path / "out.mp4", queue_size=2))
    images, times, _ = read_video(tmp_path / "out.mp4")
    assert result.frames == len(images)
    assert result.dropped > 15
    assert result.frames + result.dropped == 60
    assert_shown_when_sent([bar(image) for image in images], times)
    assert 0 <= times[0] < 0.8
    assert times[-1] == pytest.approx(59 / 50, abs=1e-3)  # the newest frame is never the one to go
    with av.open(str(tmp_path / "out.mp4")) as container:
        sound = [packet for packet in container.demux(audio=0) if packet.size]
    heard = [float(packet.pts * packet.time_base) for packet in sound]
    assert heard[0] < 0.2
    assert heard[-1] < 1.3
    np.testing.assert_allclose(np.diff(heard), 1024 / 16000, atol=2e-3)  # none of the sound is dropped


@pytest.mark.parametrize(
    ("end", "reason"), [("reset", "Connection reset by peer"), ("silence", "nothing came for 1 s")]
)
@pytest.mark.usefixtures("impatient")
def test_a_camera_that_vanishes_leaves_what_it_sent(tmp_path: Path, end: str, reason: str) -> None:
    with camera(lambda out: send_frames(out, 20), end) as url:
        result = within(20, lambda: segment_video(segment, url, tmp_path / "out.mp4", queue_size=30))
    assert len(read_video(tmp_path / "out.mp4")[0]) == result.frames
    assert result.frames >= 19
    assert result.notes == (f"{url} stopped after sending {result.frames} frames ({reason})",)


@pytest.mark.usefixtures("impatient")
def test_a_camera_that_hangs_for_good_is_left_alone(tmp_path: Path) -> None:
    """A device's driver may never return, and nothing can wake it."""
    back = threading.Event()
    closed = []

    class Hanging:
        name, live, total, skipped, sound = "camera 7", True, None, 0, None
        started = time.perf_counter()

        def __init__(self) -> None:
            self.notes: list[str] = []

        def frames(self) -> Iterator[Frame]:
            for i in range(3):
                yield Frame(picture(i), i, 1 / DEFAULT_RATE, DEFAULT_RATE, laps={"decode": 0.0})
            back.wait(30)

        def close(self) -> None:
            closed.append(True)

    try:
        result = within(10, lambda: segment_video(segment, Hanging(), tmp_path / "out.mp4"))
    finally:
        back.set()
    assert result.frames == 3
    assert result.notes == ("camera 7 stopped after 3 frames (it does not answer any more)",)
    assert not closed  # under a thread that still reads from it that would be a crash
    assert [bar(image) for image in read_video(tmp_path / "out.mp4")[0]] == [0, 1, 2]


def test_an_error_of_the_caller_ends_a_live_source_at_once(tmp_path: Path) -> None:
    def on_frame(i: int, _: Any) -> None:
        if i == 5:
            raise RuntimeError("bang")

    with camera(lambda out: send_frames(out, 500)) as url:
        begin = time.monotonic()
        with pytest.raises(RuntimeError, match="bang"):
            within(20, lambda: segment_video(segment, url, tmp_path / "out.mp4", on_frame=on_frame))
        assert time.monotonic() - begin < 6
        assert len(read_video(tmp_path / "out.mp4")[0]) == 5


@pytest.mark.parametrize("login", ["", "me:secret@"])
def test_a_camera_over_rtsp(tmp_path: Path, login: str) -> None:
    with rtsp_camera(30, login=login[:-1] or None) as address:
        source = open_source(address.replace("//", f"//{login}"))
        assert (source.name, source.live, source.total) == (address, True, None)
        result = within(20, lambda: segment_video(segment, source, tmp_path / "out.mp4", queue_size=30))
    images, times, _ = read_video(tmp_path / "out.mp4")
    assert len(images) == result.frames == 30
    assert result.dropped == result.skipped == 0
    assert set(follows([bar(image) for image in images])) == {1}
    np.testing.assert_allclose(times, np.arange(30) / 25, atol=1e-3)


def test_a_camera_that_asks_for_a_login() -> None:
    with rtsp_camera(30, login="me:secret") as url, pytest.raises(DataError, match="Unauthorized") as caught:
        within(20, lambda: open_source(url.replace("//", "//me:guess@")))
    assert "//user:password@" in str(caught.value)
    assert "guess" not in str(caught.value)


def test_a_stream_over_udp(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        url = f"udp://127.0.0.1:{free.getsockname()[1]}"
    sending = threading.Thread(target=lambda: send_frames(f"{url}?pkt_size=1316", 120), daemon=True)
    sending.start()
    result = within(20, lambda: segment_video(segment, url, tmp_path / "out.mp4", limit=20))
    sending.join(20)
    images, times, _ = read_video(tmp_path / "out.mp4")
    assert result.frames == len(images) == 20
    assert 0 <= times[0] < 1  # not the sender's 1000 s
    assert_shown_when_sent([bar(image) for image in images], times)


def test_a_camera_that_starts_over_goes_on(tmp_path: Path) -> None:
    def send(out: Sender) -> None:
        send_frames(out, 75, rate=50)  # from 1000 s on
        send_frames(out, 20, rate=25)  # from 1000 s on, once more

    with camera(send) as url:
        result = within(20, lambda: segment_video(segment, url, tmp_path / "out.mp4", queue_size=95))
    _, times, duration = read_video(tmp_path / "out.mp4")
    assert len(times) == result.frames >= 94
    steps = np.diff(times)
    assert steps.min() > 0.01
    assert steps.max() < 0.1
    assert duration == pytest.approx(75 / 50 + 20 / 25, abs=0.1)


def test_a_camera_without_times_is_shown_as_it_came(tmp_path: Path) -> None:
    """MJPEG over HTTP, as cheap cameras send it: ffmpeg takes it for 25 frames per second, whatever they are."""

    def send(out: Sender) -> None:
        for i in range(8):
            file = io.BytesIO()
            Image.fromarray(picture(i)).save(file, format="JPEG")
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(file.getvalue())}\r\n\r\n"
            out.write(head.encode() + file.getvalue() + b"\r\n")
            time.sleep(0.1)

    with camera(send, head="multipart/x-mixed-replace; boundary=frame") as url:
        result = within(20, lambda: segment_video(segment, url, tmp_path / "out.mp4", queue_size=20))
    _, times, _ = read_video(tmp_path / "out.mp4")
    assert result.frames == len(times) >= 6
    assert times[-1] - times[1] == pytest.approx(0.1 * (len(times) - 2), rel=0.5)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Serve a folder; the yielded function gives a file's URL."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def copyfile(self, source: Any, outputfile: Any) -> None:
            with contextlib.suppress(OSError):  # the reader has seen enough
                super().copyfile(source, outputfile)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield lambda name: f"http://127.0.0.1:{server.server_port}/{name}"
    server.shutdown()
    server.server_close()


def test_a_file_behind_a_url_is_a_file(tmp_path: Path, web: Callable[[str], str]) -> None:
    write_video(tmp_path / "in.mp4")
    source = open_source(web("in.mp4"))
    assert (source.live, source.total) == (False, FRAMES)
    result = within(20, lambda: segment_video(slowly, source, tmp_path / "out.mp4", queue_size=1))
    assert (result.frames, result.dropped) == (FRAMES, 0)
    with pytest.raises(DataError, match=r"none\.mp4 cannot be opened"):
        open_source(web("none.mp4"))


@pytest.mark.usefixtures("impatient")
def test_a_source_that_never_sends(tmp_path: Path) -> None:
    with camera(lambda out: None, "silence") as url, pytest.raises(DataError, match="live cannot be opened"):
        within(20, lambda: segment_video(segment, url, tmp_path / "out.mp4"))
    assert not (tmp_path / "out.mp4").exists()


class TestAddresses:
    DEVICES = SimpleNamespace(
        enumerate_input_devices=lambda _: [
            SimpleNamespace(name="Microphone", media_types=["audio"]),
            SimpleNamespace(name="Webcam", media_types=["video"]),
        ]
    )

    @pytest.mark.parametrize("source", [0, "0"])
    def test_cameras_by_number(self, monkeypatch: pytest.MonkeyPatch, source: str | int) -> None:
        monkeypatch.setattr("platform.system", lambda: "Darwin")
        mac = find_address(source, av)
        assert (mac.kind, mac.url, mac.format, mac.options) == ("camera", "0:none", "avfoundation", {"framerate": "30"})
        monkeypatch.setattr("platform.system", lambda: "Windows")
        pc = find_address(source, self.DEVICES)
        assert (pc.kind, pc.url, pc.format) == ("camera", "video=Webcam", "dshow")
        with pytest.raises(DataError, match=r"camera 1 does not exist; there are 1: Webcam"):
            find_address(1, self.DEVICES)
        assert find_address("video=Webcam", self.DEVICES).format == "dshow"
        monkeypatch.setattr("platform.system", lambda: "Linux")
        monkeypatch.setattr(Path, "exists", lambda path: str(path) == "/dev/video0")
        box = find_address(source, av)
        assert (box.kind, box.url, box.format) == ("camera", "/dev/video0", "v4l2")
        with pytest.raises(DataError, match=r"camera 3 \(/dev/video3\) does not exist"):
            find_address(3, av)
        monkeypatch.setattr("platform.system", lambda: "Plan 9")
        with pytest.raises(DataError, match="cameras of Plan 9"):
            find_address(0, av)

    @pytest.mark.skipif(not Path("/dev/null").is_char_device(), reason="needs a device file")
    def test_a_device_that_is_no_camera(self) -> None:
        assert find_address("/dev/null", av).format == "v4l2"
        with pytest.raises(DataError, match="/dev/null cannot be opened"):
            open_source("/dev/null")

    def test_urls(self, tmp_path: Path) -> None:
        rtsp = find_address("rtsp://user:secret@camera:554/stream", av)
        assert (rtsp.kind, rtsp.url) == ("stream", "rtsp://user:secret@camera:554/stream")
        assert rtsp.name == "rtsp://camera:554/stream"
        assert rtsp.options == {"rtsp_transport": "tcp"}
        assert not rtsp.download
        assert find_address("https://host/film.mp4", av).download
        assert not find_address("udp://127.0.0.1:5000", av).download
        (tmp_path / "a b.mp4").write_text("")
        local = find_address(f"file://{tmp_path}/a%20b.mp4", av)
        assert (local.kind, local.url) == ("file", str(tmp_path / "a b.mp4"))

    def test_files_and_folders(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("0").write_text("")
        assert find_address("./0", av).kind == "file"
        assert find_address(tmp_path, av).kind == "folder"
        with pytest.raises(DataError, match="none does not exist; check the path"):
            find_address("none", av)

    def test_passwords_are_not_said(self) -> None:
        with pytest.raises(DataError, match="cannot be opened") as caught:
            open_source("rtsp://user:secret@127.0.0.1:9/x")
        assert "secret" not in str(caught.value)
