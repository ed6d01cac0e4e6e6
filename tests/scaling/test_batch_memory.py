"""However many pictures there are, nobody holds them."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from pooled_jobs import make_job, paint, rows_of

from featherseg.scaling import seen
from featherseg.scaling.listing import Picture, blocks, unseen
from featherseg.scaling.seen import Seen
from featherseg.scaling.worker import Worker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def many(count: int) -> Iterator[Picture]:
    for i in range(count):
        yield Picture(f"s3://bucket/photos/{i // 1000:05}/picture_{i:09}.jpg", f"{i // 1000:05}/picture_{i:09}")


@pytest.mark.parametrize("count", [60_000, pytest.param(300_000, marks=pytest.mark.slow)])
def test_listing_holds_eight_bytes_of_each_path_and_name(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "RUN", 4096)
    paths, names = Seen(), Seen()
    listed = sum(map(len, blocks(unseen(many(1000), paths, names), 128, 4)))
    tracemalloc.start()
    try:
        listed = sum(map(len, blocks(unseen(many(count), paths, names), 128, 4)))
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert listed == count - 1000
    few = 3 << 20  # 4096 digests of each are Python's numbers for a while
    assert held < 2 * 8 * count + few
    assert peak < 2 * (2 * 8 * count) + few  # sorting takes as much again as is sorted


def marks_of_a_worker(folder: Path, count: int) -> list[int]:
    """Let a worker segment pictures, and return the bytes that the process held after each 50."""
    picture = paint(folder / "photos" / "p.png", "red", (240, 320))
    job = make_job(folder, folder / "out")
    worker = Worker(job)
    marks = []
    for first in range(0, count, 50):
        for i in range(first, first + 50):
            (picture.parent / f"{i}.png").hardlink_to(picture)
        done = worker([Picture(str(picture.parent / f"{i}.png"), f"{i}") for i in range(first, first + 50)])
        assert done.done == 50
        marks.append(resident())
    assert len(rows_of(job)) == count
    return marks


@pytest.mark.parametrize("count", [600, pytest.param(3000, marks=pytest.mark.slow)])
def test_a_worker_holds_memory_flat(tmp_path: Path, count: int) -> None:
    # A process of its own: in this one, other tests have left holes that fill as they will.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        marks = pool.submit(marks_of_a_worker, tmp_path, count).result()
    assert marks[-1] - marks[3] < 16 << 20
