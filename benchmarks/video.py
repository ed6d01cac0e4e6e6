"""Frames per second from file to file, against each stage of the pipeline alone: what running side by side is worth.

    python benchmarks/video.py VIDEO [--model FILE ...] [--ways 1 2 1+1] [--frames 60] [--rounds 7] [--json]

A way is how many engine threads there are, and how many of them share a frame: ``2`` has two threads on each frame, and
``1+1``, which is what ``featherseg video`` does, two with a frame each. Models and ways take turns: in each round every
one's stages are timed alone, one after the other, and then its pipeline, over the same first frames; figures are
medians of rounds, and shares those of each round's own figures, as other work on the machine changes from one to the
next. A stage's CPU time is that of all threads of the process.

What the cores allow: no pipeline is faster than its slowest stage alone, nor than all cores together get through the
CPU time of all stages. The bound is the larger of these two times; the CPU time that counts is the least that any way
takes for its stages, since threads that spin while they wait are no work. How much of its cores the slowest stage got
when it was alone says how busy the machine was: well below 1 all shares vary widely. The ratio of CPU times does not
depend on that.

Then the whole video is segmented, the output decoded again, its frames counted and their times compared with the
source's. Flicker is the share of pixels whose class is another than in the frame before, without and with smoothing.
Memory is the growth of what the process holds in the second half of a loop of many frames through the pipeline, with a
threshold in place of the network.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from itertools import islice, pairwise
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import av
import cv2
import numpy as np

from featherseg.cli.tables import print_json, print_table, print_text
from featherseg.core.machine import available_threads, cpu_name, load
from featherseg.core.types import ClassSet, ImageArray
from featherseg.evaluation.opening import STREET, open_segmenter
from featherseg.runtime.prediction import Prediction
from featherseg.runtime.video.pipeline import segment_video
from featherseg.runtime.video.smoothing import Smoothed
from featherseg.runtime.video.sources import Frame, Sound, open_source
from featherseg.runtime.video.stages import in_order
from featherseg.runtime.video.writer import VideoWriter

STAGES = ("decode", "segment", "draw", "encode")


class Pace(NamedTuple):
    """What one frame costs in a stage, or in all of them."""

    ms: float
    cpu_ms: float


def timed(work: Callable[[], Any], frames: int) -> tuple[Pace, Any]:
    cpu, begin = time.process_time(), time.perf_counter()
    value = work()
    seconds, spent = time.perf_counter() - begin, time.process_time() - cpu
    return Pace(1000 * seconds / frames, 1000 * spent / frames), value


def decode(video: Path, count: int | None = None) -> list[Frame]:
    source = open_source(video)
    try:
        with closing(source.frames()) as frames:
            return list(islice(frames, count))
    finally:
        source.close()


def encode(pictures: list[ImageArray], frames: list[Frame], out: Path) -> None:
    writer = VideoWriter(out, None)
    for picture, frame in zip(pictures, frames, strict=True):
        writer.write(picture, frame)
    writer.close()


def time_alone(way: Way, video: Path, count: int, out: Path) -> dict[str, Pace]:
    """Return what each stage takes where it has the machine to itself."""
    pace, frames = timed(lambda: decode(video, count), count)
    paces = {"decode": pace}
    paces["segment"], predictions = timed(lambda: way.segment_all([frame.image for frame in frames]), count)
    paces["draw"], pictures = timed(lambda: [prediction.overlay() for prediction in predictions], count)
    paces["encode"] = timed(lambda: encode(pictures, frames, out), count)[0]
    return paces


class Way:
    """A model, and how the engine's threads share the frames.

    Args:
        model: the file.
        text: ``"2"`` for two threads on each frame, ``"1+1"`` for two with a frame each.
    """

    def __init__(self, model: Path, text: str) -> None:
        self.name = f"{model.stem}, threads {text}"
        self.shared = "+" not in text
        self.threads = sum(map(int, text.split("+")))
        self.segmenter = open_segmenter(model, threads=self.threads)
        self.rounds: list[Round] = []

    @property
    def called(self) -> Callable[[ImageArray], Prediction]:
        """What the pipeline calls: a function has nothing that it could divide."""
        return (lambda image: self.segmenter(image)) if self.shared else self.segmenter

    def segment_all(self, images: list[ImageArray]) -> list[Prediction]:
        """Segment images as the pipeline does."""
        if self.shared:
            return [self.segmenter(image) for image in images]
        divided = self.segmenter.divided()
        return [found for _, found in in_order(divided, images, divided.streams, Event())]

    def measure(self, video: Path, count: int, out: Path) -> None:
        """Add a round."""
        alone = time_alone(self, video, count, out)
        pace, result = timed(lambda: segment_video(self.called, video, out, limit=count), count)
        beside = {stage: statistics.mean(laps) for stage, laps in result.latency.stages.items()}
        self.rounds.append(Round(alone, Pace(1000 / result.fps, pace.cpu_ms), beside))


class Round(NamedTuple):
    """What one round measured."""

    alone: dict[str, Pace]
    together: Pace
    beside: dict[str, float]  # ms of each stage in the pipeline

    @property
    def slowest(self) -> str:
        """The stage that takes longest alone."""
        return max(self.alone, key=lambda stage: self.alone[stage].ms)

    @property
    def work(self) -> float:
        """CPU time of all stages in ms a frame."""
        return sum(pace.cpu_ms for pace in self.alone.values())


def median(values: Iterable[float]) -> float:
    return float(statistics.median(values))


def measure(options: argparse.Namespace, out: Path) -> list[dict[str, Any]]:
    """Return the figures of each model and way, in turns."""
    ways = {model: [Way(model, text) for text in options.ways] for model in options.model}
    every = [way for group in ways.values() for way in group]
    count = min(options.frames, len(decode(options.video, options.frames)))
    for _ in range(options.rounds + 1):
        for way in every:
            way.measure(options.video, count, out)
        every.reverse()
    figures = []
    for group in ways.values():
        for way in group:
            del way.rounds[0]  # it warmed up
        least = [min(each.work for each in same) for same in zip(*(way.rounds for way in group), strict=True)]
        figures += [summary(way, least, count) for way in group]
    return figures


def summary(way: Way, least_work: list[float], frames: int) -> dict[str, Any]:
    """Return a way's figures; `least_work` is each round's least CPU time in ms a frame."""
    rounds = way.rounds
    slowest = statistics.mode(each.slowest for each in rounds)
    cores = available_threads()
    bounds = [max(each.alone[each.slowest].ms, work / cores) for each, work in zip(rounds, least_work, strict=True)]
    return {
        "way": way.name,
        "threads": way.threads,
        "frames": frames,
        "alone": {
            stage: Pace(*(median(each.alone[stage][i] for each in rounds) for i in (0, 1)))._asdict()
            for stage in STAGES
        },
        "in_pipeline_ms": {stage: median(each.beside[stage] for each in rounds) for stage in STAGES},
        "pipeline": Pace(*(median(each.together[i] for each in rounds) for i in (0, 1)))._asdict(),
        "fps": 1000 / median(each.together.ms for each in rounds),
        "best_fps": 1000 / min(each.together.ms for each in rounds),
        "slowest": slowest,
        "of_slowest": [each.alone[each.slowest].ms / each.together.ms for each in rounds],
        "of_bound": [bound / each.together.ms for bound, each in zip(bounds, rounds, strict=True)],
        "of_cores": [work / cores / each.together.ms for work, each in zip(least_work, rounds, strict=True)],
        "cores_allow_fps": 1000 * cores / median(least_work),
        "one_after_the_other_fps": 1000 / median(sum(p.ms for p in each.alone.values()) for each in rounds),
        "core_share": median(each.alone[slowest].cpu_ms / each.alone[slowest].ms for each in rounds) / way.threads,
        "device": way.segmenter.session.device,
    }


def times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.time) for frame in container.decode(video=0)]


def check_output(video: Path, out: Path) -> str:
    source, written = times(video), times(out)
    worst = max(abs(a - b) for a, b in zip(source, written, strict=True))
    return f"{len(written)} of {len(source)} frames decoded again, time stamps at most {1000 * worst:.3f} ms apart"


def flicker(segmenter: Callable[[ImageArray], Prediction], frames: list[Frame]) -> float:
    masks = [segmenter(frame.image).mask for frame in frames]
    return float(np.mean([np.mean(a != b) for a, b in pairwise(masks)]))


@dataclass
class Loop:
    """The frames of a video over and over, from memory, as a source."""

    pictures: list[Frame]
    total: int
    name: str = "loop"
    live: bool = False
    skipped: int = 0
    sound: Sound | None = None
    started: float = 0.0

    def __post_init__(self) -> None:
        self.notes: list[str] = []
        self.started = time.perf_counter()

    def frames(self) -> Generator[Frame, None, None]:
        """Yield copies of the frames."""
        for i in range(self.total):
            frame = self.pictures[i % len(self.pictures)]
            yield Frame(frame.image.copy(), i, 1 / frame.rate, frame.rate, 1, laps={"decode": 0.0})

    def close(self) -> None:
        """Do nothing."""


def resident_mb() -> float:
    """Return the memory that this process holds (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory_growth(frames: list[Frame], total: int, out: Path) -> float:
    """Return MB by which the process grew in the second half of `total` frames."""
    classes = ClassSet(("dark", "bright"))
    small = [Frame(cv2.resize(f.image, (320, 180)), f.pts, f.time_base, f.rate) for f in frames[:20]]
    held: list[float] = []

    def note(i: int, _: object) -> None:
        if i in (total // 2, total - 1):
            held.append(resident_mb())

    def threshold(image: ImageArray) -> Prediction:
        return Prediction((image[..., 1] > 127).astype(np.uint8), classes, image)

    segment_video(threshold, Loop(small, total), out, on_frame=note)
    return held[1] - held[0]


def show(case: dict[str, Any]) -> None:
    rows = [
        [stage, *(f"{pace[key]:.2f}" for key in ("ms", "cpu_ms")), f"{case['in_pipeline_ms'][stage]:.2f}"]
        for stage, pace in case["alone"].items()
    ]
    rows.append(["all, side by side", f"{case['pipeline']['ms']:.2f}", f"{case['pipeline']['cpu_ms']:.2f}", ""])
    print_table(f"{case['way']}: {case['device']}", ["ms a frame", "alone", "CPU", "in the pipeline"], rows)
    print_text(
        f"{case['fps']:.1f} frames/s end to end (best round {case['best_fps']:.1f}; one stage after the other "
        f"{case['one_after_the_other_fps']:.1f}): {shares(case['of_slowest'])} of the slowest stage alone "
        f"({case['slowest']}), {shares(case['of_cores'])} of the {case['cores_allow_fps']:.1f} that all cores allow, "
        f"{shares(case['of_bound'])} of the bound; alone the slowest got {case['core_share']:.2f} of its cores"
    )


def shares(values: list[float]) -> str:
    """Return the median of shares in per cent, and their range."""
    return f"{100 * median(values):.0f} % ({100 * min(values):.0f}-{100 * max(values):.0f})"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--model", type=Path, nargs="+", default=[STREET], help="files that take turns")
    parser.add_argument("--ways", nargs="+", default=["1", "2", "1+1"], help="engine threads, with + where they divide")
    parser.add_argument("--frames", type=int, default=60, help="of each round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--smooth", type=float, default=0.5)
    parser.add_argument("--loop", type=int, default=10_000, help="frames of the memory check; 0 for none")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> None:
    options = parse()
    facts = (
        f"{date.today()}, {available_threads()} cores of {cpu_name()}, load {load()}, "
        f"{options.video.name}, PyAV {av.__version__}, OpenCV {cv2.__version__}, "
        f"Python {platform.python_version()}; {options.rounds} rounds of {options.frames} frames"
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.mp4"
        cases = measure(options, out)
        if not options.json:
            for case in cases:
                show(case)
        segmenter = open_segmenter(options.model[0], threads=1)
        frames = decode(options.video, options.frames)
        segment_video(segmenter, options.video, out)
        report = {
            "machine": facts,
            "cases": cases,
            "output": check_output(options.video, out),
            "flicker": flicker(segmenter, frames),
            "flicker_smoothed": flicker(Smoothed(segmenter, options.smooth), frames),
        }
        if options.loop:
            report["memory_growth_mb"] = memory_growth(frames, options.loop, out)
    if options.json:
        print_json(report)
        return
    print_text(report["output"])
    print_text(
        f"flicker: {100 * report['flicker']:.2f} % of pixels per frame, {100 * report['flicker_smoothed']:.2f} % "
        f"smoothed by {options.smooth}"
    )
    if options.loop:
        print_text(
            f"memory: {report['memory_growth_mb']:+.1f} MB over the last {options.loop // 2} of {options.loop} frames"
        )
    print_text(facts)


if __name__ == "__main__":
    main()
