"""Timing segmenters fairly: in turns, in one run, so that whatever else the machine does holds up all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .errors import ConfigError
from .runtime.segmenter import Segmenter
from .types import ImageArray, Latency


def time_in_turns(
    segmenters: Mapping[str, Segmenter],
    frame: ImageArray,
    *,
    runs: int = 30,
    warmup: int = 5,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Latency]:
    """Time several segmenters on one frame, one run of each after the other, and the order turned round each time.

    Args:
        segmenters: what to time, by name.
        frame: RGB uint8 (H, W, 3).
        runs: measured runs of each.
        warmup: runs of each before them that are not counted.
        progress: called after each round with the number of rounds done, of ``warmup + runs``.

    Returns:
        The stages ``pre``, ``net`` and ``post`` of each, by name.

    Raises:
        ConfigError: nothing to time, or no run to measure.
    """
    if not segmenters:
        raise ConfigError("there is no segmenter to time; give at least one")
    if runs < 1 or warmup < 0:
        raise ConfigError(f"runs is {runs} and warmup {warmup}; measure at least 1 run after 0 or more")
    rows: dict[str, list[Latency]] = {name: [] for name in segmenters}
    order = list(segmenters.items())
    for i in range(warmup + runs):
        for name, segmenter in order if i % 2 else reversed(order):
            latency = segmenter.latency(frame, runs=1, warmup=0)
            if i >= warmup:
                rows[name].append(latency)
        progress(i + 1)
    return {name: _joined(latencies, warmup) for name, latencies in rows.items()}


def _joined(latencies: list[Latency], warmup: int) -> Latency:
    stages = {stage: tuple(row.stages[stage][0] for row in latencies) for stage in latencies[0].stages}
    return Latency(stages, warmup, latencies[0].device)
