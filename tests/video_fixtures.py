"""Fixtures of the tests of video. Apart from video_clips, which is only to be imported where PyAV is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def no_video_thread_left() -> Iterator[None]:
    """No stage of a pipeline that was begun in the test goes on after it."""
    before = set(threading.enumerate())
    yield

    def left() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name.startswith("featherseg") and t not in before]

    deadline = time.monotonic() + 5  # one that read from a silent camera ends when that has been silent for long enough
    while time.monotonic() < deadline and left():
        time.sleep(0.02)
    assert not left()


@pytest.fixture
def video(tmp_path: Path) -> Path:
    from video_clips import write_video

    return write_video(tmp_path / "in.mp4")
