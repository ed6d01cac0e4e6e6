"""A dataset of masks that a test makes up."""

from __future__ import annotations

import numpy as np

from featherseg.core.types import ClassSet, ImageArray, MaskArray

NAMES = ("background", "road", "car")


class Given:
    """A split of pictures with the masks of a test."""

    name, split = "given", "train"

    def __init__(self, masks: dict[str, MaskArray], classes: ClassSet | tuple[str, ...] = NAMES) -> None:
        self.masks = masks
        self.classes = classes if isinstance(classes, ClassSet) else ClassSet(classes)

    def __len__(self) -> int:
        return len(self.masks)

    def stem(self, index: int) -> str:
        return list(self.masks)[index]

    def read(self, index: int) -> tuple[ImageArray, MaskArray]:
        mask = self.masks[self.stem(index)]
        noise = np.random.default_rng(index).integers(0, 256, (*mask.shape, 3), dtype=np.uint8)
        return noise, mask


def noise(seed: int, classes: int = 3, size: tuple[int, int] = (23, 31), ignored: float = 0.0) -> MaskArray:
    """Blocks and single pixels of every class."""
    rng = np.random.default_rng(seed)
    mask = np.kron(rng.integers(0, classes, (6, 8)), np.ones((4, 4))).astype(np.uint8)[: size[0], : size[1]]
    specks = rng.random(mask.shape)
    mask[specks < 0.1] = rng.integers(0, classes)
    mask[specks > 1 - ignored] = 255
    return mask
