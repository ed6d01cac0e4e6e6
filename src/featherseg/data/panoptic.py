"""COCO's panoptic pictures: a segment's number in each pixel's colour."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import DataError
from ..core.images import read_ids
from ..core.types import IGNORE_INDEX, MaskArray


@dataclass(frozen=True)
class PanopticAnnotation:
    """A picture of segment numbers; `labels` has the class id of each."""

    file: Path
    labels: tuple[tuple[int, int], ...]

    def read(self) -> MaskArray:
        """Return class ids, uint8 (H, W)."""
        values = read_ids(self.file)
        if values.ndim != 3:
            raise DataError(f"{self.file} is no panoptic picture: it holds ids, not colours; export it again")
        wide = values.astype(np.int64)
        numbers, places = np.unique(wide[..., 0] | wide[..., 1] << 8 | wide[..., 2] << 16, return_inverse=True)
        table = {0: IGNORE_INDEX} | dict(self.labels)
        if foreign := [int(number) for number in numbers if int(number) not in table]:
            raise DataError(f"{self.file} holds segment {foreign[0]}, which its JSON does not name; export it again")
        ids = np.array([table[int(number)] for number in numbers], np.uint8)
        mask: MaskArray = ids[places.reshape(values.shape[:2])]
        return mask
