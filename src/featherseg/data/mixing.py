"""Training crops made of several samples: mosaics, rectangles and objects of one sample put onto another."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.types import ImageArray, MaskArray
from .datasets import SegmentationDataset
from .labels import id_counts
from .transforms import TrainTransform, resize

MIN_OBJECT_PIXELS = 32
"""A class with fewer pixels than this in a mask is no object but what is left of one at a border."""

MAX_COVER = 0.5
"""Largest share of a crop that a pasted object covers; larger ones are made smaller."""

COUNTED_MASKS = 128
"""How many masks, evenly spaced, class frequencies are estimated from; reading all would delay large datasets."""


class MixedCrops:
    """The crops of a dataset; shares of them composed of several samples as the transform's configuration says.

    The other samples are drawn from the generator that is passed in, so that a crop stays a function of (seed, epoch,
    index). What is switched off draws nothing.

    Args:
        dataset: where samples and their companions come from.
        transform: cuts the crops; its configuration holds the shares ``mosaic``, ``cutmix`` and ``copy_paste``.
    """

    def __init__(self, dataset: SegmentationDataset, transform: TrainTransform) -> None:
        self.dataset = dataset
        self.transform = transform
        self._rarity = class_rarity(dataset) if transform.config.copy_paste else None

    def __call__(self, index: int, rng: np.random.Generator) -> tuple[ImageArray, MaskArray]:
        """Return a crop of sample `index`, RGB (H, W, 3), and its mask (H, W), both fresh and of the crop's size."""
        config = self.transform.config
        if config.mosaic and rng.random() < config.mosaic:
            image, mask = self._mosaic(index, rng)
        else:
            image, mask = self.transform.crop(*self.dataset.read(index), rng)
        if config.cutmix and rng.random() < config.cutmix:
            self._cut_in(index, image, mask, rng)
        if self._rarity is not None and rng.random() < config.copy_paste:
            self._paste(image, mask, self._rarity, rng)
        return image, mask

    def _mosaic(self, index: int, rng: np.random.Generator) -> tuple[ImageArray, MaskArray]:
        """Put crops of sample `index` and three random others around a random centre.

        As in YOLOv4 (Bochkovskiy et al., arXiv 2004.10934, section 3.3). The centre keeps a quarter of the crop away
        from its borders, and each part is a crop of its own at a scale of its own.
        """
        height, width = self.transform.config.crop
        y, x = round(height * rng.uniform(0.25, 0.75)), round(width * rng.uniform(0.25, 0.75))
        image, mask = np.empty((height, width, 3), np.uint8), np.empty((height, width), np.uint8)
        sources = [index, *rng.integers(len(self.dataset), size=3).tolist()]
        corners = [(rows, columns) for rows in ((0, y), (y, height)) for columns in ((0, x), (x, width))]
        for source, ((top, bottom), (left, right)) in zip(sources, corners, strict=True):
            if top < bottom and left < right:  # crops of a pixel or two have no four parts
                part = (slice(top, bottom), slice(left, right))
                size = (bottom - top, right - left)
                image[part], mask[part] = self.transform.crop(*self.dataset.read(source), rng, size)
        return image, mask

    def _cut_in(self, index: int, image: ImageArray, mask: MaskArray, rng: np.random.Generator) -> None:
        """Put a rectangle of another sample's crop into a crop and its mask, where it was in its own.

        CutMix: Yun et al. (arXiv 1905.04899, section 3.1), used for segmentation by French et al. (arXiv 1906.01916).
        The rectangle is as :func:`draw_box` has it.
        """
        height, width = mask.shape
        others = len(self.dataset) - 1
        other = (index + 1 + int(rng.integers(others))) % len(self.dataset) if others else index
        top, bottom, left, right = draw_box((height, width), rng)
        room = (slice(top, bottom), slice(left, right))
        part, labels = self.transform.crop(*self.dataset.read(other), rng)
        image[room], mask[room] = part[room], labels[room]

    def _paste(self, image: ImageArray, mask: MaskArray, rarity: NDArray[np.float64], rng: np.random.Generator) -> None:
        """Paste a whole object of a random sample into a crop and its mask, anywhere and at a random scale.

        After Ghiasi et al., Simple Copy-Paste (arXiv 2012.07177): no blending, and no regard to the scene. An object
        is a connected component of one class. A sample that shows no object leaves the crop as it is.
        """
        config = self.transform.config
        source, labels = self.dataset.read(int(rng.integers(len(self.dataset))))
        present = np.flatnonzero(id_counts(labels)[: len(rarity)] >= MIN_OBJECT_PIXELS)
        if not len(present):
            return
        label = int(rng.choice(present, p=rarity[present] / rarity[present].sum()))
        places = np.flatnonzero(labels == label)
        box, cutout = component(labels, divmod(int(places[rng.integers(len(places))]), labels.shape[1]))

        (height, width), (crop_h, crop_w) = cutout.shape, mask.shape
        largest = min(crop_h / height, crop_w / width, math.sqrt(MAX_COVER * crop_h * crop_w / int(cutout.sum())))
        scale = min(self.transform.draw_scale(labels.shape, rng), largest)
        out_h, out_w = max(round(height * scale), 1), max(round(width * scale), 1)
        part, shape = resize(source[box], cutout, (out_h, out_w))
        if rng.random() < config.flip:
            part, shape = part[:, ::-1], shape[:, ::-1]
        top, left = int(rng.integers(crop_h - out_h + 1)), int(rng.integers(crop_w - out_w + 1))
        room = (slice(top, top + out_h), slice(left, left + out_w))
        inside = shape > 0
        np.copyto(image[room], part, where=inside[..., None])
        mask[room][inside] = label


def draw_box(size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw a rectangle in a crop of (height, width): its top, bottom, left and right.

    It has the crop's aspect, a share of its area drawn uniformly from 0 to 1, and a centre anywhere; what reaches over
    the crop's border is cut off.
    """
    height, width = size
    side = math.sqrt(rng.random())
    y, x = rng.uniform(0, height), rng.uniform(0, width)
    top, bottom = (min(max(round(y + sign * height * side / 2), 0), height) for sign in (-1, 1))
    left, right = (min(max(round(x + sign * width * side / 2), 0), width) for sign in (-1, 1))
    return top, bottom, left, right


def component(mask: MaskArray, place: tuple[int, int]) -> tuple[tuple[slice, slice], MaskArray]:
    """Return the connected pixels (8 neighbours) of one id around `place` (row, column).

    Returns:
        Their bounding box as slices of rows and columns, and within it 1 where they are and 0 elsewhere, uint8.
    """
    filled = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), np.uint8)  # floodFill wants a border of one
    row, column = place
    # Written to `filled` alone; the copy is only because floodFill refuses read-only arrays.
    flags = 8 | cv2.FLOODFILL_MASK_ONLY | 1 << 8
    _, _, _, (x, y, width, height) = cv2.floodFill(mask.copy(), filled, (column, row), 0, flags=flags)
    box = (slice(y, y + height), slice(x, x + width))
    return box, filled[1:-1, 1:-1][box]


def class_rarity(dataset: SegmentationDataset) -> NDArray[np.float64]:
    """Return the weight of each class when one is drawn, (num_classes,): the inverse of its share of the pixels.

    Classes of less than a thousandth count about alike, so that a class that hardly occurs is not all that is drawn.
    """
    counts = np.zeros(256)
    for index in range(0, len(dataset), math.ceil(len(dataset) / COUNTED_MASKS)):
        counts += id_counts(dataset.read(index)[1])
    labelled = counts[: len(dataset.classes)]
    rarity: NDArray[np.float64] = 1 / (labelled / max(labelled.sum(), 1) + 1e-3)
    return rarity
