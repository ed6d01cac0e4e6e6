"""The user's own images, from which quantisation learns what ranges a network's values have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, DataError
from ..core.types import MIN_SIZE, ImageArray, InputSpec
from ..data.datasets import SegmentationDataset
from ..runtime.fitting import resized
from ..runtime.frames import check_frame

MIN_IMAGES = 4
"""Fewer do not show a network's ranges. FastSegNet's mIoU on CamVid with 4, 8, 16, 32 and 64 images (fp32: 75.23):
75.17, 75.27, 75.02, 75.26, 75.27."""
MIN_CORRELATION = 0.25
"""Of neighbouring pixels, at least. In photographs it is above 0.8, in drawn scenes above 0.6, in independent noise
0 within a few thousandths."""


def calibration_images(
    dataset: SegmentationDataset, count: int = 32, size: tuple[int, int] | None = None, spec: InputSpec | None = None
) -> list[ImageArray]:
    """Return images spread evenly over a dataset, as the deployed network will see them.

    Args:
        dataset: the user's training images, or validation images; masks are not used.
        count: how many; all where the dataset has fewer.
        size: (height, width) that the runtime will resize frames to; what `spec` asks for where left out.
        spec: at which size the network wants images; as they are where left out.

    Returns:
        RGB images, uint8 (H, W, 3).

    Raises:
        ConfigError: `count` or `size` is out of range.
        DataError: the dataset has too few images, or they are random noise or blank.
    """
    if count < MIN_IMAGES:
        raise ConfigError(f"count is {count}; calibrate with at least {MIN_IMAGES} images (32 is usual)")
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ConfigError(f"size is {size}; give (height, width) of at least 1 pixel each")
    places = np.linspace(0, len(dataset) - 1, min(count, len(dataset)))
    images = [dataset.read(round(place))[0] for place in places]
    check_calibration(images)
    spec = spec or InputSpec()
    return [_as_deployed(image, size or spec.size(image.shape[:2])) for image in images]


def check_calibration(images: Sequence[ImageArray]) -> None:
    """Refuse images that say nothing of real ones. They should not have been resized, which smooths noise.

    Args:
        images: RGB, uint8 (H, W, 3), of any sizes.

    Raises:
        ConfigError: one is no RGB uint8 image.
        DataError: they are too few, or most are random noise or blank.
    """
    if len(images) < MIN_IMAGES:
        raise DataError(f"{len(images)} images to calibrate with; give at least {MIN_IMAGES} of your own (32 is usual)")
    for image in images:
        check_frame(image)
    correlation = [neighbour_correlation(image) for image in images]
    if np.isnan(correlation).sum() * 2 > len(images):
        raise DataError("most calibration images are of one colour; give pictures like those it will see")
    typical = float(np.nanmedian(correlation))
    if typical < MIN_CORRELATION:
        raise DataError(
            f"calibration images are random noise (neighbouring pixels correlate by {typical:.2f}, in pictures by more "
            f"than {MIN_CORRELATION}), and int8 ranges of noise fit no picture; give your own training images"
        )


def neighbour_correlation(image: ImageArray) -> float:
    """Return how much neighbouring pixels correlate, -1 to 1: the larger of left-right and up-down, NaN if blank.

    Independent noise of any distribution has 0; so has a shuffled picture.
    """
    gray = image.astype(np.float64).mean(axis=2)
    found = [_correlation(gray[:, :-1], gray[:, 1:]), _correlation(gray[:-1], gray[1:])]
    known = [value for value in found if not np.isnan(value)]
    return max(known, default=float("nan"))


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if a.size < 2 or not a.std() or not b.std():
        return float("nan")
    return float(((a - a.mean()) * (b - b.mean())).mean() / (a.std() * b.std()))


def _as_deployed(image: ImageArray, size: tuple[int, int]) -> ImageArray:
    """Resize and pad as :class:`featherseg.runtime.segmenter.Segmenter` does."""
    image = resized(image, size)
    short = [max(MIN_SIZE - side, 0) for side in image.shape[:2]]
    return np.ascontiguousarray(np.pad(image, ((0, short[0]), (0, short[1]), (0, 0)), mode="edge"))
