"""Pictures per second of one worker process, of several, and of `predict` without Ray, in turns in one program.

    python benchmarks/scale.py [MODEL.onnx] [--images FOLDER] [--size 360x480] [--count 400] [--workers 2] [--rounds 5]

Without --images, street scenes are drawn into a temporary folder as JPEGs. Each turn segments all of them into a new
folder: masks, an index and confidence, as `featherseg predict --ray` does by default; `predict` writes masks alone and
computes no confidence unless told to, so it is told to here, and has one thread as each worker has.

A rate is that of the steady part: pictures after the first block that is complete, over the time since then, for
starting processes takes seconds however many pictures there are. The start is reported by itself. The medians are of
the rounds; the order changes from round to round. Memory is what all worker processes hold, a quarter of the way into
the largest turn and at its end.

So many workers have as many processors: they, this program and Ray's own processes are confined to them together, for
what lists, passes on and counts needs processors too. One more turn has one worker and all processors, where all that
is beside it is done by idle ones.

Other work on the machine takes its cores from the larger pool first: look at the load that is printed. What it does
not change much is the processor time of a picture, the workers' and that of all else.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import NamedTuple

import ray
from PIL import Image

from featherseg.batch import segment_dataset
from featherseg.cli.app import parse_size
from featherseg.cli.tables import print_json, print_table, print_text
from featherseg.core.machine import available_threads, cpu_name, load
from featherseg.core.progress import logger
from featherseg.data.datasets import create_dataset
from featherseg.evaluation.opening import STREET, open_segmenter
from featherseg.runtime.predict import find_images, predict
from featherseg.scaling.cluster import cluster

PROCESSORS = sorted(os.sched_getaffinity(0))
DRAWN = 40
"""Scenes that are drawn; more pictures than these are copies."""


class Pool(NamedTuple):
    """What takes a turn."""

    workers: int  # 0 is `predict` without Ray
    processors: int

    def __str__(self) -> str:
        """Return its name in the table."""
        what = f"{self.workers} of Ray" if self.workers else "predict, without Ray"
        return f"{what}, {self.processors} processor{'s' * (self.processors > 1)}"


class Turn(NamedTuple):
    """What one turn took."""

    start: float  # seconds to the first complete block, or picture
    rate: float  # pictures/s from then on
    early: int  # bytes of the workers a quarter of the way
    late: int  # and at the end
    worked: float  # ms of processor time of the workers for each picture
    beside: float  # of all else


class Clock:
    """Notes when how many pictures were done, and what the workers held."""

    def __init__(self, total: int) -> None:
        self.total, self.begin = total, time.perf_counter()
        self.marks: list[tuple[float, int, float, float]] = []
        self.early = self.late = 0

    def __call__(self, done: int, total: int) -> None:
        """Note that so many are done."""
        if len(self.marks) < 2 or done >= self.total:  # only the first and the last count, and it takes milliseconds
            self.marks.append((time.perf_counter(), done, *processor_time()))
        if not self.early and done >= self.total / 4:
            self.early = held()
        if done >= self.total:
            self.late = held()

    def turn(self) -> Turn:
        """Return what the notes say."""
        (first, before, *then), (last, after, *now) = self.marks[0], self.marks[-1]
        pictures = after - before
        worked, beside = (1000 * (b - a) / pictures for a, b in zip(then, now, strict=True))
        return Turn(first - self.begin, pictures / (last - first), self.early, self.late, worked, beside)


def held() -> int:
    """Return the bytes that all worker processes of Ray's hold, on Linux."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"MapWorker" in (process / "cmdline").read_bytes():
                line = next(each for each in (process / "status").read_text().splitlines() if each.startswith("VmRSS"))
                total += int(line.split()[1]) * 1024
        except (OSError, StopIteration):  # it ended meanwhile
            continue
    return total


def processes() -> Iterator[Path]:
    """Give the folders in /proc, on Linux, of this process and of all processes of this Ray."""
    session = getattr(ray._private.worker._global_node, "get_session_dir_path", str)().encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
        except OSError:  # it ended meanwhile
            continue
        if b"MapWorker" in words or session in words or process.name == str(os.getpid()):
            yield process


def processor_time() -> tuple[float, float]:
    """Return the seconds of processor time of Ray's workers, and of this process and all others of Ray's, on Linux."""
    workers = others = 0.0
    for process in processes():
        try:
            is_worker = b"MapWorker" in (process / "cmdline").read_bytes()
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        workers, others = (workers + seconds, others) if is_worker else (workers, others + seconds)
    return workers, others


def confine(processors: Iterable[int]) -> None:
    """Let all threads of all these processes, and what they will start, use these processors alone."""
    for process in processes():
        for thread in (process / "task").glob("[0-9]*"):
            with suppress(OSError):  # it ended meanwhile
                os.sched_setaffinity(int(thread.name), processors)


def draw(folder: Path, count: int, size: tuple[int, int]) -> Path:
    """Write street scenes as JPEGs, the later ones copies of the first."""
    folder.mkdir()
    scenes = create_dataset("synthetic", count=min(count, DRAWN), size=size)
    for i in range(count):
        path = folder / f"s{i:06}.jpg"
        if i < DRAWN:
            Image.fromarray(scenes.read(i)[0]).save(path, quality=90)
        else:
            path.write_bytes((folder / f"s{i % DRAWN:06}.jpg").read_bytes())
    return folder


def take_turn(pool: Pool, model: Path, folder: Path, out: Path, count: int) -> Turn:
    """Segment all pictures with so many workers, or with `predict` where that is 0."""
    confine(PROCESSORS[: pool.processors])
    clock = Clock(count)
    if pool.workers:
        segment_dataset(model, folder, out, workers=pool.workers, progress=clock)
    else:
        segmenter = open_segmenter(model, threads=1)
        segmenter.confidence = True
        predict(segmenter, find_images([folder]), out, overlays=False, progress=clock)
    return clock.turn()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, default=STREET)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--size", default="360x480", help="of the scenes that are drawn")
    parser.add_argument("--count", type=int, default=400, help="of the scenes that are drawn")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logger.setLevel("ERROR")
    if len(PROCESSORS) < options.workers:
        parser.error(f"{options.workers} workers need as many processors; here are {len(PROCESSORS)}")
    one, many = Pool(1, 1), Pool(options.workers, options.workers)
    pools = [Pool(0, 1), one, Pool(1, options.workers), many]
    turns: dict[Pool, list[Turn]] = {pool: [] for pool in pools}
    before = load()
    with tempfile.TemporaryDirectory() as place:
        size = parse_size(options.size) or (360, 480)
        folder = options.images or draw(Path(place) / "photos", options.count, size)
        count = len(find_images([folder]))
        with cluster(options.workers, 1):
            for number in range(options.rounds):
                order = pools if number % 2 == 0 else pools[::-1]
                for pool in order:
                    out = Path(place) / f"{pool.workers}_{pool.processors}_{number}"
                    turns[pool].append(take_turn(pool, options.model, folder, out, count))
            confine(PROCESSORS)
    rates = {pool: statistics.median(turn.rate for turn in turns[pool]) for pool in pools}
    ratios = [more.rate / less.rate for more, less in zip(turns[many], turns[one], strict=True)]
    if options.json:
        found = {str(pool): {"rate": rates[pool], "turns": turns[pool]} for pool in pools}
        print_json({"pools": found, "ratio": statistics.median(ratios), "load": [before, load()]})
        return
    rows = [
        (
            str(pool),
            f"{rates[pool]:.1f}",
            f"{rates[pool] / rates[one]:.2f}",
            f"{statistics.median(turn.start for turn in turns[pool]):.1f}",
            f"{statistics.median(turn.early for turn in turns[pool]) / 1e6:.0f}",
            f"{statistics.median(turn.late for turn in turns[pool]) / 1e6:.0f}",
            f"{statistics.median(turn.worked for turn in turns[pool]):.1f}",
            f"{statistics.median(turn.beside for turn in turns[pool]):.1f}",
        )
        for pool in pools
    ]
    heads = (
        "workers of one thread",
        "pictures/s",
        "times one",
        "start, s",
        "MB at a quarter",
        "at the end",
        "CPU ms of workers",
        "of all else",
    )
    print_table(f"{count} pictures, medians of {options.rounds} rounds in turns", heads, rows)
    shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print_text(f"{options.workers} workers against 1, round by round: {shown}; median {statistics.median(ratios):.2f}")
    print_text(f"{date.today()}, {cpu_name()}, {available_threads()} cores, load {before} before and {load()} after")


if __name__ == "__main__":
    main()
