"""What all steps of one shipment share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from ..core.config import ShipConfig
from ..data.datasets import SegmentationDataset
from ..evaluation.ways import Ways
from ..exporting.targets import TOLERANCES
from ..exporting.verdict import Tolerance


@dataclass(frozen=True)
class ShipContext:
    """A shipment under way.

    Args:
        folder: to work in; what passed moves out of it together.
        run: the run that is shipped.
        config: what to make, and how much may be lost.
        val_set: labelled images that every figure is of.
    """

    folder: Path
    run: Path
    config: ShipConfig
    val_set: SegmentationDataset

    @cached_property
    def ways(self) -> Ways:
        """Masks of the labelled images by the network and by its files, each made once."""
        return Ways(self.val_set)

    @property
    def name(self) -> str:
        """What files are called."""
        return self.run.resolve().name if self.run.is_dir() else self.run.stem

    @property
    def threads(self) -> int | None:
        """Threads of the engines; None for all that the process may use."""
        return self.config.threads or None

    @cached_property
    def size(self) -> tuple[int, int]:
        """(height, width) of the first image, which networks are timed and counted at."""
        height, width = self.val_set.read(0)[1].shape
        return height, width

    def tolerance(self, precision: str) -> Tolerance:
        """Return the limits of a precision: the usual ones, with those that the configuration sets."""
        limits = TOLERANCES[precision]
        if precision == "int8":
            limits = replace(limits, max_miou_drop=self.config.max_drop)
        chosen: dict[str, Any] = {}
        for name, own in self.config.tolerances.items():
            if name == precision:
                chosen = {key: value for key, value in msgspec.structs.asdict(own).items() if value is not None}
        return replace(limits, **chosen)
