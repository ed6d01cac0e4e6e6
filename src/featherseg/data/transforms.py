"""Random changes of an image and its mask together, in NumPy and OpenCV.

Crops are cut before they are resized, so a sample costs what its crop costs, not its photograph. Every
random number comes from the generator that is passed in: a sample is a function of (seed, epoch, index),
whichever worker makes it and whenever. How a sample shall look is drawn apart from making it look so, which
:mod:`.on_device` does too.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from ..core.config import AugmentConfig
from ..core.types import IGNORE_INDEX, IMAGENET_MEAN, ImageArray, InputSpec, MaskArray
from .labels import id_counts

PADDING_COLOR = tuple(round(255 * mean) for mean in IMAGENET_MEAN)
"""Colour beside the image where a crop reaches over its edge: zero after ImageNet normalisation."""

cv2.setNumThreads(0)  # loader workers are the parallelism; OpenCV's own threads would only fight them


class Look(NamedTuple):
    """What is done to a crop once it is cut.

    Args:
        flip: whether it is mirrored.
        brightness, contrast, saturation: factors, about 1.
        hue: turn of the colour circle, in 256ths.
        sigma: of the Gaussian blur, in pixels; 0 leaves it sharp.
    """

    flip: bool
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: int = 0
    sigma: float = 0.0


class TrainTransform:
    """Random scale, crop, flip, colour jitter and blur, as `config` says.

    Args:
        config: strengths and crop size.
        ignore_index: mask value of padding.
        spec: at which size the network wants images; scales count from there.
    """

    def __init__(self, config: AugmentConfig, ignore_index: int = IGNORE_INDEX, spec: InputSpec | None = None) -> None:
        self.config = config
        self.ignore_index = ignore_index
        self.spec = spec or InputSpec()

    def __call__(self, image: ImageArray, mask: MaskArray, rng: np.random.Generator) -> tuple[ImageArray, MaskArray]:
        """Return a changed copy of an RGB image (H, W, 3) and its mask (H, W), both of the crop's size."""
        image, mask = self.crop(image, mask, rng)
        return self.apply(image, mask, self.draw_look(rng))

    def draw_look(self, rng: np.random.Generator) -> Look:
        """Draw how a crop shall look."""
        config = self.config
        look = Look(flip=bool(rng.random() < config.flip))
        if config.jitter:
            brightness, contrast, saturation = (1 + config.jitter * rng.uniform(-1, 1, 3)).tolist()
            hue = round(config.jitter * rng.uniform(-0.1, 0.1) * 256)
            look = look._replace(brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)
        if rng.random() < config.blur:
            look = look._replace(sigma=rng.uniform(0.3, 1.5))
        return look

    def apply(self, image: ImageArray, mask: MaskArray, look: Look) -> tuple[ImageArray, MaskArray]:
        """Return a crop (H, W, 3) and its mask (H, W) as `look` says; what needs no change is not copied."""
        if look.flip:
            image, mask = np.asarray(cv2.flip(image, 1), np.uint8), np.asarray(cv2.flip(mask, 1), np.uint8)
        if self.config.jitter:
            image = jitter_colors(image, look)
        if look.sigma:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigmaX=look.sigma), np.uint8)
        return image, mask

    def crop(
        self, image: ImageArray, mask: MaskArray, rng: np.random.Generator, size: tuple[int, int] | None = None
    ) -> tuple[ImageArray, MaskArray]:
        """Cut a window that a crop of `size` (the configured one) covers at a random scale, and resize just that."""
        crop_h, crop_w = size or self.config.crop
        scale = self.draw_scale(mask.shape, rng)
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
        part, ids = resize(image[y0:y1, x0:x1], mask[y0:y1, x0:x1], (out_h, out_w))
        if (out_h, out_w) == (crop_h, crop_w):
            return part, ids
        canvas = np.empty((crop_h, crop_w, 3), np.uint8)
        canvas[:] = PADDING_COLOR
        labels = np.full((crop_h, crop_w), self.ignore_index, np.uint8)
        room = (slice(out_y0, out_y0 + out_h), slice(out_x0, out_x0 + out_w))
        canvas[room], labels[room] = part, ids
        return canvas, labels

    def draw_scale(self, size: tuple[int, ...], rng: np.random.Generator) -> float:
        """Draw by how much an image of `size` (height, width) is magnified."""
        return float(rng.uniform(*self.config.scale) * self.spec.scale((size[0], size[1])))

    def _place(self, mask: MaskArray, window_h: int, window_w: int, rng: np.random.Generator) -> tuple[int, int]:
        """Return the window's top and left: within the image where it fits, around it where it does not."""
        room_h, room_w = mask.shape[0] - window_h, mask.shape[1] - window_w
        if rng.random() < self.config.class_balance:
            present = np.flatnonzero(id_counts(mask))
            present = present[present != self.ignore_index]
            if len(present):
                places = np.flatnonzero(mask == rng.choice(present))
                row, column = divmod(int(places[rng.integers(len(places))]), mask.shape[1])
                top = row - int(rng.integers(window_h))
                left = column - int(rng.integers(window_w))
                return _clamp(top, room_h), _clamp(left, room_w)
        return _uniform(room_h, rng), _uniform(room_w, rng)


def resize(image: ImageArray, mask: MaskArray, size: tuple[int, int]) -> tuple[ImageArray, MaskArray]:
    """Return an image (h, w, 3) and its mask (h, w), whose values are never mixed, at `size` (height, width)."""
    height, width = size
    method = cv2.INTER_AREA if height < mask.shape[0] else cv2.INTER_LINEAR
    part = np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)
    # INTER_NEAREST takes the upper left neighbour and shifts masks by half a pixel; _EXACT does not.
    nearest = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return part, np.asarray(nearest, np.uint8)


def jitter_colors(image: ImageArray, look: Look) -> ImageArray:
    """Change brightness and contrast about the image's mean grey, then saturation and hue."""
    grey = sum(cv2.sumElems(image)[:3]) / image.size  # a fraction of the time of image.mean(), and as exact
    # The centred levels are float32, the rest float64: samples of a seed stay what they were, bit for bit.
    centred = (np.arange(256, dtype=np.float32) - grey).astype(np.float64)
    curve = np.clip(centred * look.contrast * look.brightness + grey * look.brightness, 0, 255)
    hsv = cv2.cvtColor(cv2.LUT(image, np.rint(curve).astype(np.uint8)), cv2.COLOR_RGB2HSV_FULL)
    levels = np.arange(256)
    hues = ((levels + look.hue) % 256).astype(np.uint8)
    saturations = np.rint(np.clip(levels * look.saturation, 0, 255)).astype(np.uint8)
    table = np.stack([hues, saturations, levels.astype(np.uint8)], axis=-1)[None]
    return np.asarray(cv2.cvtColor(cv2.LUT(hsv, table), cv2.COLOR_HSV2RGB_FULL), dtype=np.uint8)


def _uniform(room: int, rng: np.random.Generator) -> int:
    return int(rng.integers(min(room, 0), max(room, 0) + 1))


def _clamp(place: int, room: int) -> int:
    return min(max(place, min(room, 0)), max(room, 0))
