"""How long candidates take, from a picture's file to its mask, in turns; and whether the machine was steady meanwhile.

Candidates go through the runtime as they would be deployed. They are timed a few at a time, for hundreds of open
networks would fill the memory; the same network is timed in each group beside them, and a group in which that one took
clearly more or less than in the others is timed again.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..core.errors import ArtifactError, FeathersegError
from ..core.images import read_image
from ..core.progress import OnProgress, no_progress
from ..core.types import Latency
from ..evaluation.benchmark import MAX_DRIFT, drift
from ..evaluation.opening import STREET
from ..runtime.segmenter import Segmenter
from ..runtime.timing import LEAD_IN, PAUSE, TURN, joined, take_turns

GROUP = 12
"""Candidates that are open at once."""
LOOK = 2
"""Runs by which a candidate that is far too slow is told."""
FAR_TOO_SLOW = 2.0
"""Of the budget: what takes longer in its quickest of those runs is not timed any further."""
RUNS = (6, 30)
"""Runs of the others, at least and at most."""
REPEATS = 2
"""How often a group is timed again where the machine was not steady."""
REFERENCE = "reference"

Open = Callable[[], Segmenter]


@dataclass(frozen=True)
class Timing:
    """What was measured of a candidate.

    Args:
        p50: median of the whole path in ms, from a file to its mask.
        p95: 95th percentile of it.
        stages: median of each stage in ms.
        runs: that were measured.
        drift: by which share the last third of them took longer than the first.
        device: where and how.
    """

    p50: float
    p95: float
    stages: dict[str, float]
    runs: int
    drift: float
    device: str

    @classmethod
    def of(cls, latency: Latency) -> Timing:
        """Read the figures off measured stages."""
        stages = {stage: round(latency.percentile(50, stage), 3) for stage in latency.stages}
        p50, p95 = (round(latency.percentile(q), 3) for q in (50, 95))
        return cls(p50, p95, stages, latency.runs, round(drift(latency), 4), latency.device)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Timing:
        """Rebuild it from what :meth:`to_dict` gave.

        Raises:
            KeyError, TypeError, ValueError: it is no such thing.
        """
        stages = {str(stage): float(ms) for stage, ms in data["stages"].items()}
        p50, p95, drifted = (float(data[key]) for key in ("p50", "p95", "drift"))
        return cls(p50, p95, stages, int(data["runs"]), drifted, str(data["device"]))


@dataclass(frozen=True)
class Timings:
    """What was measured of many.

    Args:
        found: by key.
        failures: why others do not run, by key.
        untimed: keys that there was no time for.
        notes: what makes the figures doubtful, a sentence each.
    """

    found: dict[str, Timing]
    failures: dict[str, str]
    untimed: tuple[str, ...]
    notes: tuple[str, ...]


def time_whole_path(
    segmenters: Mapping[str, Segmenter], file: Path, *, runs: int, warmup: int = LEAD_IN
) -> dict[str, Latency]:
    """Time segmenters from a picture's file to its mask, in turns; stages are ``decode``, ``pre``, ``net``, ``post``.

    Args:
        segmenters: by name.
        file: the picture, which is decoded anew for each run.
        runs: measured runs of each.
        warmup: runs of each before them.
    """

    def task(segmenter: Segmenter) -> Callable[[int, int], list[Latency]]:
        def measure(count: int, before: int) -> list[Latency]:
            frame = read_image(file)
            for _ in range(before):
                segmenter.segment(frame)
            return [_once(segmenter, file) for _ in range(count)]

        return measure

    turns = take_turns({name: task(each) for name, each in segmenters.items()}, runs=runs, warmup=warmup)
    return {name: joined(latencies, warmup) for name, latencies in turns.items()}


def _once(segmenter: Segmenter, file: Path) -> Latency:
    begin = time.perf_counter()
    frame = read_image(file)
    decode = (time.perf_counter() - begin) * 1000
    latency = segmenter.latency(frame, runs=1, warmup=0)
    return Latency({"decode": (decode,), **latency.stages}, 0, latency.device)


def time_many(
    opened: Mapping[str, Open],
    file: Path,
    *,
    limit_ms: float,
    seconds: float,
    threads: int | None = None,
    progress: OnProgress = no_progress,
) -> Timings:
    """Time many candidates in groups, those that come first first.

    Args:
        opened: opens each, by key.
        file: picture that is decoded and segmented.
        limit_ms: what the whole path may take.
        seconds: that all of it may take; what there is no time for is left out.
        threads: of the engine that runs the network timed in each group.
        progress: called with the numbers of candidates done and of all.
    """
    begin = time.monotonic()
    frame = read_image(file)
    reference = Segmenter(STREET, threads=threads)
    found: dict[str, Timing] = {}
    failures: dict[str, str] = {}
    steady: list[float] = []
    shaken: list[str] = []
    keys = list(opened)
    groups = [keys[start : start + GROUP] for start in range(0, len(keys), GROUP)]
    untimed: list[str] = []
    for number, group in enumerate(groups):
        left = seconds - (time.monotonic() - begin)
        if number and left <= 0:
            untimed += group
            continue
        ready: dict[str, Segmenter] = {}
        for key in group:
            try:
                segmenter = opened[key]().planned((frame.shape[0], frame.shape[1]))
                segmenter.segment(frame)
                looks = [_once(segmenter, file) for _ in range(LOOK)]
            except FeathersegError as error:
                failures[key] = str(error)
                continue
            if min(look.percentile(50) for look in looks) > FAR_TOO_SLOW * limit_ms:
                found[key] = Timing.of(joined(looks, 1))
            else:
                ready[key] = segmenter
                found[key] = Timing.of(joined(looks, 1))
        if ready:
            turn = sum(found[key].p50 / 1000 + PAUSE / TURN for key in ready)
            now = time.monotonic()
            share = max(seconds - (now - begin), 0.0) / (len(groups) - number)
            runs = int(min(max(share / turn, RUNS[0]), RUNS[1]) // TURN * TURN)
            latencies, wrong = _steadily({REFERENCE: reference, **ready}, file, runs, steady, now + share)
            steady.append(latencies[REFERENCE].percentile(50))
            found |= {key: Timing.of(latencies[key]) for key in ready}
            if wrong:
                shaken.append(wrong)
        progress(min((number + 1) * GROUP, len(keys)), len(keys))
    notes = [f"not steady: {words}" for words in shaken]
    if not found and failures:
        raise ArtifactError(f"no candidate runs here: {next(iter(failures.values()))}")
    return Timings(found, failures, tuple(untimed), tuple(notes))


def _steadily(
    segmenters: Mapping[str, Segmenter], file: Path, runs: int, before: Sequence[float], until: float
) -> tuple[dict[str, Latency], str]:
    """Time a group, again where the machine was not steady and there is time; return what was wrong at last."""
    tries = 0
    while True:
        tries, begin = tries + 1, time.monotonic()
        latencies = time_whole_path(segmenters, file, runs=runs)
        wrong = _unsteady(latencies, before)
        now = time.monotonic()
        if not wrong:
            return latencies, ""
        if tries > REPEATS or now + (now - begin) > until:
            return latencies, f"{wrong}, measured {tries} times" if tries > 1 else wrong


def _unsteady(latencies: Mapping[str, Latency], before: Sequence[float]) -> str:
    """Return in which way the machine was not steady while a group was timed; nothing where it was."""
    drifts = {key: drift(latency) for key, latency in latencies.items()}
    moved = [share for share in drifts.values() if abs(share) > MAX_DRIFT]
    if 2 * len(moved) > len(drifts):
        return f"{len(moved)} of {len(drifts)} candidates of a group drifted by up to {max(moved, key=abs):+.0%}"
    usual = statistics.median(before) if before else latencies[REFERENCE].percentile(50)
    change = latencies[REFERENCE].percentile(50) / usual - 1
    if abs(change) > MAX_DRIFT:
        return f"the network that every group is timed beside took {change:+.0%} of its usual time in one of them"
    return ""
