"""How fast networks segment frames on this machine: each stage, each engine, in one run, with what has to be known.

What is timed comes as :class:`Contender`: a name and a way to open it. One that cannot be opened or run is a row that
says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.errors import ArtifactError, ConfigError, FeathersegError
from ..core.machine import machine_facts
from ..core.progress import OnProgress, no_progress
from ..core.types import ImageArray, Latency
from ..runtime.segmenter import Segmenter
from ..runtime.timing import time_in_turns

__all__ = ["BenchmarkResult", "Contender", "Standing", "benchmark", "drift", "time_in_turns"]

MAX_DRIFT = 0.1
"""By how much the medians of the first and the last third of a run may differ."""


@dataclass(frozen=True)
class Contender:
    """Something to time.

    Args:
        file: the model's file or folder, for people.
        engine: what runs it, for people.
        open: opens it; a :class:`FeathersegError` says why it cannot be.
        peak_memory: measures the peak memory of a process that does nothing else, in bytes; None where it cannot.
    """

    file: str
    engine: str
    open: Callable[[], Segmenter]
    peak_memory: Callable[[], int | None] = lambda: None


@dataclass(frozen=True)
class Standing:
    """What was measured of a contender.

    Args:
        file: as the contender's.
        engine: as the contender's.
        latency: the stages ``pre``, ``net``, ``post`` and ``draw``; None where it does not run.
        peak_bytes: peak memory of a process that opens it and segments a few frames, everything included.
        failure: why it does not run.
    """

    file: str
    engine: str
    latency: Latency | None = None
    peak_bytes: int | None = None
    failure: str = ""

    @property
    def fps(self) -> float | None:
        """Frames per second, from the median of the stages' sum."""
        return None if self.latency is None else 1000 / self.latency.percentile(50)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON types."""
        figures = self.latency.to_dict() | {"fps": self.fps, "drift": drift(self.latency)} if self.latency else {}
        return {
            "file": self.file,
            "engine": self.engine,
            **figures,
            "peak_bytes": self.peak_bytes,
            "failure": self.failure,
        }


@dataclass(frozen=True)
class BenchmarkResult:
    """All that was measured in one run.

    Args:
        standings: in the order of the contenders.
        size: (height, width) of the frame.
        machine: processor, threads, load and versions.
        notes: what makes the figures doubtful; empty if nothing does.
    """

    standings: tuple[Standing, ...]
    size: tuple[int, int]
    machine: dict[str, Any]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON types."""
        return {
            "size": list(self.size),
            "machine": self.machine,
            "notes": list(self.notes),
            "results": [standing.to_dict() for standing in self.standings],
        }


def benchmark(
    contenders: Sequence[Contender],
    frame: ImageArray,
    *,
    runs: int = 30,
    warmup: int = 5,
    threads: int | None = None,
    progress: OnProgress = no_progress,
) -> BenchmarkResult:
    """Time contenders on one frame in turns, drawing included, and measure the memory that each takes by itself.

    Args:
        contenders: what to time.
        frame: RGB uint8 (H, W, 3).
        runs: measured runs of each.
        warmup: runs of each before them that are not counted.
        threads: that the contenders were told to use, for the machine's facts.
        progress: called with the numbers of steps done and of all: memory, then runs.

    Raises:
        ConfigError: nothing to time, or no run to measure.
        ArtifactError: none of them runs.
    """
    if not contenders:
        raise ConfigError("there is nothing to time; give a model")
    if runs < 1 or warmup < 0:
        raise ConfigError(f"runs is {runs} and warmup {warmup}; measure at least 1 run after 0 or more")
    facts = machine_facts(threads)
    steps = len(contenders) + warmup + runs
    peaks: dict[int, int | None] = {}
    ready: dict[str, Segmenter] = {}
    failures: dict[int, str] = {}
    for i, contender in enumerate(contenders):
        try:
            ready[str(i)] = segmenter = contender.open()
            segmenter.segment(frame)
            peaks[i] = contender.peak_memory()
        except FeathersegError as error:
            failures[i] = str(error)
            ready.pop(str(i), None)
        progress(i + 1, steps)
    if not ready:
        raise ArtifactError(f"nothing here runs {contenders[0].file}: {failures[0]}")
    times = time_in_turns(
        ready,
        frame,
        runs=runs,
        warmup=warmup,
        draw=True,
        progress=lambda done, _: progress(len(contenders) + done, steps),
    )
    standings = tuple(
        Standing(c.file, c.engine, times.get(str(i)), peaks.get(i), failures.get(i, ""))
        for i, c in enumerate(contenders)
    )
    return BenchmarkResult(standings, (frame.shape[0], frame.shape[1]), facts, _notes(standings, facts))


def drift(latency: Latency) -> float:
    """Return by which share the last third's median sum differs from the first third's; 0 for less than 6 runs."""
    sums = [sum(run) for run in zip(*latency.stages.values(), strict=True)]
    third = len(sums) // 3
    if third < 2:
        return 0.0
    first, last = float(np.median(sums[:third])), float(np.median(sums[-third:]))
    return last / first - 1


def _notes(standings: Sequence[Standing], facts: dict[str, Any]) -> tuple[str, ...]:
    notes = []
    load = facts["load"]
    if load is not None and load > max(facts["cores"] - facts["threads"], 0) + 0.3:
        notes.append(
            f"{load} processes wanted the {facts['cores']} cores already before: compare rows, take no time as the "
            "machine's best"
        )
    drifts = {f"{s.file} {s.engine}": drift(s.latency) for s in standings if s.latency}
    unsteady = {name: share for name, share in drifts.items() if abs(share) > MAX_DRIFT}
    if unsteady:
        name = max(unsteady, key=lambda name: abs(unsteady[name]))
        notes.append(
            f"not steady: {len(unsteady)} of {len(drifts)} drifted by more than {MAX_DRIFT:.0%} from the first to the "
            f"last third of the runs, {name} by {unsteady[name]:+.0%}: the machine is busy or throttles"
        )
    return tuple(notes)
