"""What is asked: which data, how quick, in which time; a study answers one question alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..core.durations import duration
from ..core.errors import ConfigError
from .candidates import SCALES

MINUTES = 60.0
"""What a pick takes where nobody says otherwise."""


@dataclass(frozen=True)
class Question:
    """What is asked.

    Args:
        data: folder of images and masks.
        limit_ms: what 95 of 100 pictures may take, from file to mask.
        budget: seconds that one process may take for the answer.
        settings: ``dotted.key=value`` of the trainings, as the user gave them.
        networks: names to choose from; all that are registered where empty.
        scales: of the network's input, as shares of the pictures' size.
        threads: of the engines; all that the process may use where None.
        seed: of trainings and of ties' resampling.
        device: name of the device that timings are from; empty for this machine.
        fingerprint: tells timings of another device from others.

    Raises:
        ConfigError: a figure is out of range.
    """

    data: str
    limit_ms: float
    budget: float = 60 * MINUTES
    settings: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    scales: tuple[float, ...] = SCALES
    threads: int | None = None
    seed: int = 0
    device: str = ""
    fingerprint: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.limit_ms < 1e7:
            raise ConfigError(f"--latency is {self.limit_ms:g}; give milliseconds over 0")
        if self.seed < 0:
            raise ConfigError(f"--seed is {self.seed}; give 0 or more")
        taken = ("model", "train.epochs", "train.minutes", "train.eval_every", "distill", "name", "out", "seed")
        for setting in self.settings:
            key = setting.partition("=")[0].strip()
            if any(f"{key}.".startswith(f"{each}.") for each in taken):
                raise ConfigError(f"setting {key} is what a pick chooses itself; leave it out")

    @property
    def limit(self) -> str:
        """The limit in words."""
        return f"{self.limit_ms:.1f} ms ({1000 / self.limit_ms:.0f} pictures per second)"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def difference(self, other: Mapping[str, Any]) -> str:
        """Return how another question, as :meth:`to_dict` gave it, differs from this one; nothing where it does not."""
        mine = self.to_dict()
        for key, value in mine.items():
            if other.get(key) != value:
                shown = duration if key == "budget" else str
                return f"{key} {shown(other.get(key))} there, {shown(value)} now"  # type: ignore[arg-type]
        return ""
