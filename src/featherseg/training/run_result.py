"""What a training ends with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..evaluation.result import EvalResult


@dataclass(frozen=True)
class RunResult:
    """What a training ended with.

    Args:
        path: the run folder.
        best: scores of the best epoch's weights on the validation split.
        best_epoch: that epoch, from 1.
        epochs: epochs trained in all.
        seconds: of this sitting.
    """

    path: Path
    best: EvalResult
    best_epoch: int
    epochs: int
    seconds: float

    def __str__(self) -> str:
        sitting = f"{self.seconds / 60:.1f} min"
        return f"{self.best}\nbest of {self.epochs} epochs: {self.best_epoch}; {sitting}; run folder {self.path}"
