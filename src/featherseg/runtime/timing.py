"""Timing things fairly: in turns, in one run, so that whatever else the machine does holds up all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from ..core.errors import ConfigError
from ..core.progress import OnProgress, no_progress
from ..core.types import ImageArray, Latency
from .segmenter import Segmenter

T = TypeVar("T")

TURN = 3
"""Measured runs of one turn. A few, as in a video, where each run finds the caches as the one before left them."""
LEAD_IN = 1
"""Runs of a turn before them that are not counted: the caches hold what the others left."""
PAUSE = 0.05
"""Seconds before a turn. The threads of ONNX Runtime spin for 30 ms after a run, and would take half of two cores from
whatever runs next."""


def take_turns(
    tasks: Mapping[str, Callable[[int, int], Sequence[T]]],
    *,
    runs: int = 30,
    warmup: int = 5,
    progress: OnProgress = no_progress,
) -> dict[str, list[T]]:
    """Let tasks take turns of a few runs each, in an order that is turned round each time.

    Args:
        tasks: by name; called with a number of runs, and of runs before them that are not counted, a task returns what
            it measured, one for each counted run or one for all of them.
        runs: counted runs of each.
        warmup: runs of each before the first turn that are not counted.
        progress: called with the numbers of runs of each that are done and of all, warm-up included.

    Returns:
        What each task returned, in the order of time.

    Raises:
        ConfigError: there is no task, or no run to measure.
    """
    if not tasks:
        raise ConfigError("there is no segmenter to time; give at least one")
    if runs < 1 or warmup < 0:
        raise ConfigError(f"runs is {runs} and warmup {warmup}; measure at least 1 run after 0 or more")
    results: dict[str, list[T]] = {name: [] for name in tasks}
    order = list(tasks.items())
    done = 0
    while done < runs:
        turn = min(TURN, runs - done)
        for name, task in order:
            time.sleep(PAUSE)
            results[name] += task(turn, LEAD_IN if done else warmup)
        done += turn
        order.reverse()
        progress(warmup + done, warmup + runs)
    return results


def time_in_turns(
    segmenters: Mapping[str, Segmenter],
    frame: ImageArray,
    *,
    runs: int = 30,
    warmup: int = 5,
    draw: bool = False,
    progress: OnProgress = no_progress,
) -> dict[str, Latency]:
    """Time several segmenters on one frame, a few runs of each after the other; see :func:`take_turns`.

    Args:
        segmenters: what to time, by name.
        frame: RGB uint8 (H, W, 3).
        runs: measured runs of each.
        warmup: runs of each before them that are not counted.
        draw: whether to time the overlay, with its legend, as well.
        progress: called with the numbers of runs of each that are done and of all, warm-up included.

    Returns:
        The stages ``pre``, ``net``, ``post`` and, if asked for, ``draw`` of each, by name.

    Raises:
        ConfigError: nothing to time, or no run to measure.
    """

    def task(segmenter: Segmenter) -> Callable[[int, int], list[Latency]]:
        return lambda count, before: [segmenter.latency(frame, runs=count, warmup=before, draw=draw)]

    tasks = {name: task(segmenter) for name, segmenter in segmenters.items()}
    turns = take_turns(tasks, runs=runs, warmup=warmup, progress=progress)
    return {name: joined(latencies, warmup) for name, latencies in turns.items()}


def joined(latencies: Sequence[Latency], warmup: int) -> Latency:
    """Return the runs of several measurements of one thing as one, in the order given."""
    names = latencies[0].stages
    stages = {stage: tuple(ms for latency in latencies for ms in latency.stages[stage]) for stage in names}
    return Latency(stages, warmup, latencies[0].device)
