"""Clocks are put right while programs run: by an hour, or back by a day."""

from __future__ import annotations

import ast
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from stubs import stub_segmenter

import featherseg
from conftest import TINY, Ended, street
from featherseg.core.lock import folder_lock
from featherseg.core.progress import counting, show_progress
from featherseg.training.run_log import read_log


@pytest.fixture
def jumping(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    steps = iter(range(1, 10**9))

    def jump() -> float:
        step = next(steps)
        return now - 86_400 * step if step % 2 else now + 3600 * step

    monkeypatch.setattr(time, "time", jump)
    monkeypatch.setattr(time, "time_ns", lambda: int(jump() * 1e9))


def test_training_does_not_look_at_them(jumping: None, run: Callable[..., Ended], tmp_path: Path) -> None:
    ended = run("train", *TINY, f"out={tmp_path}", "name=run", "--json")
    assert ended.code == 0
    [row] = read_log(tmp_path / "run")
    assert 0 < row["seconds"] < 600
    assert row["images_per_second"] > 0


def test_nor_do_bars_and_locks(jumping: None, tmp_path: Path) -> None:
    show_progress()
    with folder_lock(tmp_path / "run"), counting("frames", 20) as progress:
        for done in range(20):
            progress(done, 20)
    assert not (tmp_path / "run").exists()


def test_latency_is_not_measured_by_them(jumping: None) -> None:
    latency = stub_segmenter().latency(street(0)[0], runs=3, warmup=1)
    assert all(ms >= 0 for times in latency.stages.values() for ms in times)


def test_the_library_never_takes_the_time_of_day_for_a_duration() -> None:
    found = []
    for path in Path(featherseg.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.time", "time.time_ns"):
                found.append(f"{path.name}:{node.lineno}")
    assert found == []
