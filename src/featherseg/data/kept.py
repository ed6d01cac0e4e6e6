"""Decode each file once where a dataset is gone through several times in one process: samples stay in memory."""

from __future__ import annotations

from ..core.types import ImageArray, MaskArray
from .datasets import Indexed, SegmentationDataset

MAX_KEPT_BYTES = 1 << 30
"""Memory that samples may take; those that come after are read each time."""


class KeptDataset(Indexed):
    """A dataset that decodes a sample when it is first asked for, and keeps it.

    Args:
        dataset: what to read; its order, names and classes stay.
        max_bytes: memory that may be taken.
    """

    def __init__(self, dataset: SegmentationDataset, max_bytes: int = MAX_KEPT_BYTES) -> None:
        self.dataset = dataset
        self.name, self.split, self.classes = dataset.name, dataset.split, dataset.classes
        self._free = max_bytes
        self._kept: dict[int, tuple[ImageArray, MaskArray]] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def stem(self, index: int) -> str:
        """Return the name of sample `index`."""
        return self.dataset.stem(index)

    def read(self, index: int) -> tuple[ImageArray, MaskArray]:
        """Return sample `index`, RGB (H, W, 3) and ids (H, W), uint8; read-only where it is kept."""
        if index in self._kept:
            return self._kept[index]
        image, mask = self.dataset.read(index)
        size = image.nbytes + mask.nbytes
        if size <= self._free:
            self._free -= size
            image.flags.writeable = mask.flags.writeable = False
            self._kept[index] = image, mask
        return image, mask
