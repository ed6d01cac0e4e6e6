from __future__ import annotations

import numpy as np
import pytest

from featherseg.core.types import ClassSet
from featherseg.data.kept import KeptDataset


class Counting:
    """Samples of 400 bytes that say how often they were read."""

    name, split, classes = "made", "val", ClassSet(("a", "b"))

    def __init__(self) -> None:
        self.reads: list[int] = []

    def __len__(self) -> int:
        return 3

    def stem(self, index: int) -> str:
        return f"s{index}"

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        self.reads.append(index)
        return np.full((10, 10, 3), index, np.uint8), np.full((10, 10), index, np.uint8)


def test_samples_are_read_once_as_far_as_memory_allows() -> None:
    plain = Counting()
    kept = KeptDataset(plain, max_bytes=800)
    for _ in range(2):
        for index in (2, 0, 1):
            image, mask = kept.read(index)
            assert (image == index).all()
            assert (mask == index).all()
    assert plain.reads == [2, 0, 1, 1]
    assert (len(kept), kept.stem(1), kept.name, kept.split, kept.classes) == (3, "s1", "made", "val", plain.classes)
    assert kept[2]["image"].shape == (3, 10, 10)
    with pytest.raises(ValueError, match="read-only"):
        kept.read(0)[0][:] = 1
