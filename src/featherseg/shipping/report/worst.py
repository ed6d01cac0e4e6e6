"""The images on which an exported file's masks are furthest from the fp32 network's, as panels to look at."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from ...core.errors import ConfigError
from ...core.progress import OnProgress, no_progress
from ...core.types import ClassSet, ImageArray, MaskArray
from ...data.datasets import SegmentationDataset
from .figures import WorstImage
from .panels import IGNORED, PANEL_SIDE, image_miou, jpeg, marked, png

MaskOf = Callable[[int], MaskArray]
"""Index of an image to class ids uint8 (H, W)."""

DIFFERENCES = {
    "only the fp32 network is right": (222, 60, 40),
    "only the file is right": (0, 114, 220),
    "both are wrong, otherwise": (240, 190, 0),
    "the truth is ignored": (170, 90, 200),
}
"""Colours of pixels whose two masks differ, the worst kind first: it wins where several share a shrunken pixel."""


def worst_images(
    dataset: SegmentationDataset,
    mask_fp32: MaskOf,
    mask_file: MaskOf,
    count: int = 4,
    *,
    file: str = "",
    progress: OnProgress = no_progress,
) -> tuple[WorstImage, ...]:
    """Find the images with the lowest agreement of two masks; among equals, those with the file's lowest mIoU.

    Each image is read once, and no more than `count` of them are held, small as they are shown.

    Args:
        dataset: labelled images.
        mask_fp32: gives the fp32 network's mask of an image.
        mask_file: the exported file's.
        count: how many images; all where the dataset has fewer.
        file: name of the file, for the titles.
        progress: called with the numbers of images done and of all.

    Returns:
        The worst first.

    Raises:
        ConfigError: `count` is below 1, or the two masks of an image differ in shape.
    """
    if count < 1:
        raise ConfigError(f"count is {count}; show at least 1 image")
    found: list[_Candidate] = []
    for i in range(len(dataset)):
        image, target = dataset.read(i)
        masks = mask_fp32(i), mask_file(i)
        if not target.shape == masks[0].shape == masks[1].shape:
            raise ConfigError(
                f"image {dataset.stem(i)}: truth is {target.shape}, the fp32 mask {masks[0].shape} and the file's "
                f"{masks[1].shape}; give masks of the image's size"
            )
        agreement = float(np.count_nonzero(masks[0] == masks[1]) / target.size)
        mious = image_miou(target, masks[0], dataset.classes), image_miou(target, masks[1], dataset.classes)
        rank = (agreement, math.inf if math.isnan(mious[1]) else mious[1], i)
        if len(found) < count or rank < found[-1].rank:
            panels = _shrink(image, target, *masks, dataset.classes)
            found = sorted([*found, _Candidate(rank, dataset.stem(i), mious, panels)], key=lambda c: c.rank)[:count]
        progress(i + 1, len(dataset))
    return tuple(_finish(candidate, dataset.classes, file) for candidate in found)


@dataclass(frozen=True, eq=False)
class _Panels:
    """Small pictures of one image: RGB, three masks, and the kind of difference by pixel (0 is none)."""

    image: ImageArray
    masks: tuple[MaskArray, ...]
    kinds: MaskArray


@dataclass(frozen=True, eq=False)
class _Candidate:
    """An image that may be among the worst; lower ranks are worse."""

    rank: tuple[float, float, int]
    stem: str
    mious: tuple[float, float]
    panels: _Panels


def _shrink(image: ImageArray, target: MaskArray, ours: MaskArray, theirs: MaskArray, classes: ClassSet) -> _Panels:
    """Return what is shown of an image, its longer side at most ``PANEL_SIDE``."""
    height, width = target.shape
    scale = min(1.0, PANEL_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    masks = tuple(
        np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
        for mask in (target, ours, theirs)
    )
    differs = ours != theirs
    ignored = target == classes.ignore_index
    wrong = (ours != target) & ~ignored, (theirs != target) & ~ignored
    every = (~wrong[0] & ~ignored, ~wrong[1] & ~ignored, wrong[0] & wrong[1], ignored)
    kinds = np.zeros(size[::-1], np.uint8)
    for kind in range(len(every), 0, -1):
        # Averaged rather than picked: one differing pixel under a shrunken one shows, however thin the line it is of.
        share = cv2.resize((differs & every[kind - 1]).astype(np.float32), size, interpolation=cv2.INTER_AREA)
        kinds[np.asarray(share) > 0] = kind
    return _Panels(small, masks, kinds)


def _finish(candidate: _Candidate, classes: ClassSet, file: str) -> WorstImage:
    panels = candidate.panels
    palette = classes.palette()
    palette[classes.ignore_index] = IGNORED
    titles = ("truth", "fp32 network", "file")
    pictures = {"image": jpeg(panels.image)}
    pictures |= {title: png(mask, palette) for title, mask in zip(titles, panels.masks, strict=True)}
    pictures["where they differ"] = _differences(panels)
    ids = np.unique(np.stack(panels.masks))
    seen = tuple(classes.names[i] for i in ids if i < len(classes))
    agreement, _, _ = candidate.rank
    miou_fp32, miou_file = candidate.mious
    return WorstImage(candidate.stem, file, agreement, miou_fp32, miou_file, pictures, seen)


def _differences(panels: _Panels) -> str:
    """Draw the kinds of difference in colours over the image in pale grey."""
    return marked(panels.image, panels.kinds, list(DIFFERENCES.values()))
