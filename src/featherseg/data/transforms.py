"""Random changes of an image and its mask together, in NumPy and OpenCV.

Crops are cut before they are resized, so a sample costs what its crop costs, not its photograph. Every
random number comes from the generator that is passed in: a sample is a function of (seed, epoch, index),
whichever worker makes it and whenever.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..config import AugmentConfig
from ..types import IGNORE_INDEX, IMAGENET_MEAN, ImageArray, MaskArray

PADDING_COLOR = tuple(round(255 * mean) for mean in IMAGENET_MEAN)
"""Colour beside the image where a crop reaches over its edge: zero after ImageNet normalisation."""

cv2.setNumThreads(0)  # loader workers are the parallelism; OpenCV's own threads would only fight them


class TrainTransform:
    """Random scale, crop, flip, colour jitter and blur, as `config` says.

    Args:
        config: strengths and crop size.
        ignore_index: mask value of padding.
    """

    def __init__(self, config: AugmentConfig, ignore_index: int = IGNORE_INDEX) -> None:
        self.config = config
        self.ignore_index = ignore_index

    def __call__(self, image: ImageArray, mask: MaskArray, rng: np.random.Generator) -> tuple[ImageArray, MaskArray]:
        """Return a changed copy of an RGB image (H, W, 3) and its mask (H, W), both of the crop's size."""
        config = self.config
        image, mask = self._scaled_crop(image, mask, rng)
        if rng.random() < config.flip:
            image, mask = image[:, ::-1], mask[:, ::-1]
        if config.jitter:
            image = jitter_colors(image, config.jitter, rng)
        if rng.random() < config.blur:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigmaX=rng.uniform(0.3, 1.5)), np.uint8)
        return np.ascontiguousarray(image), np.ascontiguousarray(mask)

    def _scaled_crop(
        self, image: ImageArray, mask: MaskArray, rng: np.random.Generator
    ) -> tuple[ImageArray, MaskArray]:
        """Cut a window that the crop would cover at a random scale, and resize just that."""
        crop_h, crop_w = self.config.crop
        scale = rng.uniform(*self.config.scale)
        window_h, window_w = max(round(crop_h / scale), 1), max(round(crop_w / scale), 1)
        top, left = self._place(mask, window_h, window_w, rng)
        height, width = mask.shape
        y0, x0 = max(top, 0), max(left, 0)
        y1, x1 = min(top + window_h, height), min(left + window_w, width)

        # Where the window lies within the image, in the crop's pixels; all of the crop in the usual case.
        to_y, to_x = crop_h / window_h, crop_w / window_w
        out_y0, out_x0 = round((y0 - top) * to_y), round((x0 - left) * to_x)
        out_h = max(round((y1 - top) * to_y) - out_y0, 1)
        out_w = max(round((x1 - left) * to_x) - out_x0, 1)
        out_y0, out_x0 = min(out_y0, crop_h - out_h), min(out_x0, crop_w - out_w)  # images thinner than a crop's pixel
        method = cv2.INTER_AREA if out_h < y1 - y0 else cv2.INTER_LINEAR
        part = np.asarray(cv2.resize(image[y0:y1, x0:x1], (out_w, out_h), interpolation=method), np.uint8)
        # INTER_NEAREST takes the upper left neighbour and shifts masks by half a pixel; _EXACT does not.
        nearest = cv2.resize(mask[y0:y1, x0:x1], (out_w, out_h), interpolation=cv2.INTER_NEAREST_EXACT)
        ids = np.asarray(nearest, np.uint8)
        if (out_h, out_w) == (crop_h, crop_w):
            return part, ids
        canvas = np.empty((crop_h, crop_w, 3), np.uint8)
        canvas[:] = PADDING_COLOR
        labels = np.full((crop_h, crop_w), self.ignore_index, np.uint8)
        room = (slice(out_y0, out_y0 + out_h), slice(out_x0, out_x0 + out_w))
        canvas[room], labels[room] = part, ids
        return canvas, labels

    def _place(self, mask: MaskArray, window_h: int, window_w: int, rng: np.random.Generator) -> tuple[int, int]:
        """Return the window's top and left: within the image where it fits, around it where it does not."""
        room_h, room_w = mask.shape[0] - window_h, mask.shape[1] - window_w
        if rng.random() < self.config.class_balance:
            present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
            present = present[present != self.ignore_index]
            if len(present):
                rows, columns = np.nonzero(mask == rng.choice(present))
                pick = rng.integers(len(rows))
                top = int(rows[pick] - rng.integers(window_h))
                left = int(columns[pick] - rng.integers(window_w))
                return _clamp(top, room_h), _clamp(left, room_w)
        return _uniform(room_h, rng), _uniform(room_w, rng)


def jitter_colors(image: ImageArray, strength: float, rng: np.random.Generator) -> ImageArray:
    """Change brightness, contrast and saturation by up to ± `strength`, hue by a tenth of that (of the circle)."""
    brightness, contrast, saturation = 1 + strength * rng.uniform(-1, 1, 3)
    hue = strength * rng.uniform(-0.1, 0.1)
    grey = float(image.mean())
    values = np.arange(256, dtype=np.float32)
    curve = np.clip((values - grey) * contrast * brightness + grey * brightness, 0, 255)
    hsv = cv2.cvtColor(cv2.LUT(image, np.rint(curve).astype(np.uint8)), cv2.COLOR_RGB2HSV_FULL)
    hues = ((np.arange(256) + round(hue * 256)) % 256).astype(np.uint8)
    saturations = np.rint(np.clip(values * saturation, 0, 255)).astype(np.uint8)
    table = np.stack([hues, saturations, np.arange(256, dtype=np.uint8)], axis=-1)[None]
    return np.asarray(cv2.cvtColor(cv2.LUT(hsv, table), cv2.COLOR_HSV2RGB_FULL), dtype=np.uint8)


def _uniform(room: int, rng: np.random.Generator) -> int:
    return int(rng.integers(min(room, 0), max(room, 0) + 1))


def _clamp(place: int, room: int) -> int:
    return min(max(place, min(room, 0)), max(room, 0))
