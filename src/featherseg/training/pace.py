"""How long a training takes: what its parts took, what it takes in all by that, and how many epochs fit into a time."""

from __future__ import annotations

import math
from dataclasses import dataclass

LOOKS = 50
"""So many looks at the validation images are enough."""
LOOK_SHARE = 0.2
"""Of the time of a training that is planned, at most so much goes into looks at the validation images."""
MOST = 1_000_000
"""Epochs; more would be planned for nobody."""


@dataclass(frozen=True)
class Pace:
    """Seconds that the parts of a training take.

    Args:
        batches: of an epoch.
        step: a batch, loading included.
        look: all validation images, after an epoch.
        final: all validation images in full, boundary F1 included, at the end.
        save: what an epoch takes beside: weights and state are written.
        start: before the first step: data and network are made ready.
    """

    batches: int
    step: float
    look: float
    final: float
    save: float = 0.0
    start: float = 0.0

    @property
    def epoch(self) -> float:
        """Seconds of an epoch without its look."""
        return max(self.batches * self.step + self.save, 1e-6)

    def left(self, epochs: int, every: int, done: int = 0) -> float:
        """Return the seconds that a training takes after `done` of its `epochs`; each `every` epochs comes a look."""
        looks = math.ceil(epochs / every) - done // every if epochs > done else 0
        return (epochs - done) * self.epoch + looks * self.look + self.final

    def look_every(self, epochs: int) -> int:
        """Return after how many epochs to look, so that looks are neither too many nor most of the time."""
        affordable = self.look * (1 - LOOK_SHARE) / (LOOK_SHARE * self.epoch)
        return min(max(math.ceil(epochs / LOOKS), math.ceil(affordable), 1), max(epochs, 1))

    def fitting(self, seconds: float, every: int | None = None, done: int = 0) -> int:
        """Return how many epochs in all end within so many seconds from now; `done` where no further one does.

        Args:
            seconds: there are, final scores included.
            every: after how many epochs a look comes; chosen for the epochs where None.
            done: epochs that are over.
        """
        epochs = done + min(int(max(seconds, 0.0) / self.epoch), MOST)
        while epochs > done:
            over = self.left(epochs, every or self.look_every(epochs), done) - seconds
            if over <= 0:
                break
            epochs -= max(int(over / (2 * (self.epoch + self.look))), 1)
        return max(epochs, done)
