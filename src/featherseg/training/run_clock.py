"""What a run took so far by the clock, when it will end by that, and how many epochs end in time."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from statistics import median

import numpy as np

from ..core.durations import clock_time, duration
from ..data.datasets import SegmentationDataset
from ..evaluation.centerline import take_widths
from ..evaluation.scores import Segment, score
from ..runtime.postprocess import kernels
from .pace import Pace

SETTLED = 60.0
"""Seconds of training after which its figures are believed,"""
SETTLED_SHARE = 0.05
"""or this share of the time that the run may take, where that is less."""
EARLY, LATE = 0.9, 1.05
"""Shares of its time between which a run may end; beyond, its epochs are planned anew."""
RECENT = 5
"""Epochs by which the rest is judged: a machine may have got other work meanwhile."""
WARM = 5
"""Batches of a sitting that are no measure of the others."""
PROBED = 4
"""Validation images that are timed."""

Probe = Callable[[], tuple[float, float]]
"""Returns seconds of a look at all validation images, and of boundary F1 and clDice of all of them."""


class RunClock:
    """The clock of a sitting.

    Args:
        batches: of an epoch.
        limit: seconds that the whole run may take; 0 where it may take as long as it takes.
        probe: times a few validation images, where no look was taken yet.
    """

    def __init__(self, batches: int, limit: float, probe: Probe) -> None:
        self.batches, self.limit = batches, limit
        self.spent = 0.0
        """Seconds of earlier sittings."""
        self._probe = probe
        self._begin = time.monotonic()
        self._trained = 0.0
        self._first: float | None = None
        self._steps: deque[float] = deque(maxlen=RECENT)
        self._saves: deque[float] = deque(maxlen=RECENT)
        self._look = self._boundary = math.nan
        self._warm = (0, 0.0)
        self._said = False

    @property
    def seconds(self) -> float:
        """Seconds of the run by now."""
        return self.spent + time.monotonic() - self._begin

    @property
    def settled(self) -> bool:
        """Whether this sitting trained for long enough for its figures to be believed."""
        return self._trained >= (min(SETTLED, SETTLED_SHARE * self.limit) if self.limit else SETTLED)

    def trained(self, seconds: float) -> None:
        """Note the training of an epoch."""
        self._trained += seconds
        self._steps.append(seconds / self.batches)

    def looked(self, seconds: float) -> None:
        """Note a look at the validation images."""
        self._look = seconds

    def saved(self, seconds: float) -> None:
        """Note what it took to write an epoch's files."""
        self._saves.append(seconds)

    def pace(self, step: float | None = None) -> Pace:
        """Return the figures of late, with `step` for the seconds of a batch where it is given."""
        if math.isnan(self._boundary):
            look, self._boundary = self._probe()
            self._look = look if math.isnan(self._look) else self._look
        save = median(self._saves) if self._saves else 0.0
        return Pace(self.batches, step or median(self._steps), self._look, self._look + self._boundary, save)

    def said_early(self, step: int, seconds: float, done: int, epochs: int, every: int) -> str:
        """Return, once in a first epoch that is long, when the run will end; else nothing.

        Args:
            step: batches of the epoch that are over, `seconds` after its begin.
            seconds: since the epoch's begin.
            done: epochs before it.
            epochs: of the run.
            every: after how many of them a look comes.
        """
        if not self._warm[0] and step >= WARM:
            self._warm = step, seconds
        timed = step - self._warm[0]
        if self._said or self._steps or seconds < SETTLED or not self._warm[0] or timed < 1:
            return ""
        pace = self.pace((seconds - self._warm[1]) / timed)
        return self._end(pace.left(epochs, every, done) - step * pace.step)

    def ends(self, done: int, epochs: int, every: int) -> str:
        """Return when the run will end, behind an epoch that is over; nothing where it is too early to say."""
        if done >= epochs or not (self.settled or self._said):
            return ""
        return self._end(self.pace().left(epochs, every, done))

    def plan(self, done: int, epochs: int, every: int) -> int:
        """Return how many epochs there should be in all: `epochs`, or others that end in time where these do not.

        Args:
            done: epochs that are trained, the last of them without its look.
            epochs: as planned by now.
            every: after how many of them a look comes.
        """
        if not self.limit or not self.settled or done >= epochs:
            return epochs
        pace = self.pace()
        due = pace.save + (0.0 if done % every else pace.look)  # of the epoch that is over
        now = self.seconds + due
        total = now + pace.left(epochs, every, done)
        if EARLY * self.limit <= total <= LATE * self.limit:
            return epochs
        return pace.fitting(self.limit - now, every, done)

    def _end(self, left: float) -> str:
        self._said = True
        return f"ends about {clock_time(datetime.now(), left)}, {duration(self.seconds + left)} in all"


def time_scores(segment: Segment, val_set: SegmentationDataset, processes: int = 1) -> tuple[float, float]:
    """Time a few validation images, and return the seconds of all: segmented and counted; boundary F1 and clDice.

    Args:
        segment: as in :func:`featherseg.evaluation.scores.score`.
        val_set: the images.
        processes: that share them.
    """
    places = np.linspace(0, len(val_set) - 1, min(PROBED, len(val_set))).round().astype(int).tolist()
    thin = take_widths(val_set).thin
    kernels(None)  # the first of an installation are compiled beside the first masks, which take longer for it
    score(segment, val_set, indices=places[:1], boundary=True)  # engines are made ready
    seconds = []
    for full in (False, True):
        begin = time.monotonic()
        score(segment, val_set, indices=places, boundary=full, thin=thin if full else ())
        seconds.append((time.monotonic() - begin) / len(places) * math.ceil(len(val_set) / processes))
    return seconds[0], max(seconds[1] - seconds[0], 0.0)
