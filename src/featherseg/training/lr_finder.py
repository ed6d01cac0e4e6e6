"""The learning-rate range test: a short training with ever larger rates, which shows what network and data stand.

Smith, Cyclical Learning Rates for Training Neural Networks (arXiv 1506.01186), section 3.3, with the rate growing
exponentially, so that each decade gets the same number of steps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
import numpy as np

from ..core.config import Config
from ..core.errors import ConfigError
from ..core.progress import counting
from ..data.loader import Sample, one_line_errors
from .devices import create_fabric
from .fit import set_up
from .step import TrainingStep
from .trainer import Setup

LOWEST, HIGHEST = 1e-6, 10.0
"""Ends of the sweep: below the first nothing trains, above the second nothing lasts."""
SMOOTHING = 0.9
"""Weight of the past in the smoothed loss: about ten steps, of some fourteen a decade."""
DIVERGED = 4.0
"""Multiple of its lowest value at which the smoothed loss counts as lost."""
DECADE = 10.0
"""How far below the diverging rate the suggestion stays."""


@dataclass(frozen=True)
class LrResult:
    """What the sweep saw.

    Args:
        rates: the peak rate of each step; an encoder's rate stays in the recipe's proportion to it.
        losses: of each step.
        smoothed: the losses averaged over about ten steps.
        steepest: rate at which the smoothed loss fell fastest, by factor of the rate.
        diverged: rate at which training was lost; None where it never was.
        suggestion: the steepest rate, or a tenth of the diverging one where that is lower; two digits.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    steepest: float
    diverged: float | None
    suggestion: float

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON types."""
        return asdict(self)

    def __str__(self) -> str:
        rows = ["optim.lr   smoothed loss"]
        # About two rows a decade.
        chosen = range(0, len(self.rates), max(len(self.rates) // 14, 1))
        rows += [f"{self.rates[i]:8.1e}   {self.smoothed[i]:.4f}" for i in chosen]
        end = "never lost" if self.diverged is None else f"lost at {self.diverged:.1e}"
        rows.append(f"falls fastest at {self.steepest:.1e}, {end}; try optim.lr={self.suggestion:g}")
        return "\n".join(rows)


def find_lr(config: Config, *, steps: int = 100) -> LrResult:
    """Train a network as configured for a few steps, each with a larger rate, and suggest ``optim.lr``.

    No run folder is made, and the network is thrown away. Images are decoded as they are needed.

    Args:
        config: the run to find a rate for; its schedule and epochs do not matter.
        steps: optimiser steps from ``LOWEST`` to ``HIGHEST``.

    Raises:
        ConfigError: fewer than 10 steps, or several processes.
        FeathersegError: a setting, dataset or weights file cannot be used.
    """
    if steps < 10:
        raise ConfigError(f"steps is {steps}; give 10 or more, 100 are usual")
    fabric = create_fabric(config.train)
    if fabric.world_size > 1:
        raise ConfigError(f"the rate is looked for in one process, not {fabric.world_size}; start without torchrun")
    fabric.launch()
    uncached = msgspec.structs.replace(config.data, cache=False)
    setup = set_up(msgspec.structs.replace(config, data=uncached), fabric)
    step = TrainingStep(fabric, setup.objective, config)
    step.objective.train()
    groups = step.optimizer.param_groups
    shares = [group["lr"] / config.optim.lr for group in groups]
    accumulate = config.optim.accumulate

    rates = np.geomspace(LOWEST, HIGHEST, steps)
    losses: list[float] = []
    batches = _batches(setup)
    with counting("learning rates", steps) as progress:
        for rate in rates:
            for group, share in zip(groups, shares, strict=True):
                group["lr"] = float(rate) * share
            parts = enumerate(itertools.islice(batches, accumulate), start=1)
            losses.append(sum(float(step(batch, last=n == accumulate)) for n, batch in parts) / accumulate)
            progress(len(losses), steps)
            if _lost(smooth(losses)):
                break
    return suggest(rates[: len(losses)].tolist(), losses)


def smooth(losses: Sequence[float]) -> list[float]:
    """Return the exponential moving average with the start's bias taken out, as Adam's (arXiv 1412.6980)."""
    mean, out = 0.0, []
    for n, loss in enumerate(losses, start=1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        out.append(mean / (1 - SMOOTHING**n))
    return out


def suggest(rates: Sequence[float], losses: Sequence[float]) -> LrResult:
    """Return what a sweep's losses say; it ended where training was lost, or at the last rate.

    Slopes are taken over a decade, and not in the first one, where averages of few steps jump about. The averaged
    losses lag by about ten steps, so that the steepest rate is rather too large than too small by half a decade.

    Args:
        rates: growing by a constant factor, 10 or more.
        losses: of the step at each rate.

    Raises:
        ConfigError: the loss never fell.
    """
    smoothed = smooth(losses)
    diverged = rates[-1] if _lost(smoothed) else None
    half = max(round(0.5 / math.log10(rates[1] / rates[0])), 1)  # steps of half a decade
    finite = np.asarray([loss for loss in smoothed if math.isfinite(loss)])
    lowest = half + int(finite[half:].argmin()) if len(finite) > half else 0
    places = range(2 * half, lowest + 1)
    slopes = [float(finite[min(i + half, lowest)] - finite[i - half]) for i in places]
    if not slopes or min(slopes) >= 0:
        raise ConfigError(f"the loss fell at none of {len(rates)} learning rates; check the masks, loss and network")
    steepest = rates[places[int(np.argmin(slopes))]]
    rate = steepest if diverged is None else min(steepest, diverged / DECADE)
    return LrResult(tuple(rates), tuple(losses), tuple(smoothed), steepest, diverged, float(f"{rate:.2g}"))


def _lost(smoothed: Sequence[float]) -> bool:
    return not math.isfinite(smoothed[-1]) or smoothed[-1] > DIVERGED * min(smoothed)


def _batches(setup: Setup) -> Iterator[Sample]:
    """Yield batches of epoch after epoch, without end."""
    for epoch in itertools.count():
        setup.batches.begin(epoch)
        yield from one_line_errors(setup.loader)
