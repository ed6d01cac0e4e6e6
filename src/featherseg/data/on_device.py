"""Flip, colour jitter and blur of whole batches on the device that trains, which a GPU does in no time.

Per-sample parameters are drawn by the loader's workers (:class:`.transforms.Look`), so that samples depend on seed,
epoch and index alone. The arithmetic is OpenCV's of 8 bits, step by step with its roundings, as
:meth:`.TrainTransform.apply` uses it; only the contrast curve, here in float32, rounds a level differently at times.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ..core.config import AugmentConfig
from .loader import Sample
from .transforms import Look

FLIP, BRIGHTNESS, CONTRAST, SATURATION, HUE, SIGMA = range(len(Look._fields))
"""Columns of a batch's looks, float32 (B, 6)."""


def looks_on_device(config: AugmentConfig, device: torch.device) -> bool:
    """Return whether looks are made by `device`: as configured, where "auto" is on all but CPUs."""
    return config.on_device == "yes" or (config.on_device == "auto" and device.type != "cpu")


class DeviceBatches:
    """A loader's raw batches on `device`, made to look as their samples' generators drew.

    Args:
        loader: of batches as ``TrainSamples(…, raw=True)`` gives them; from pinned memory they are copied without
            waiting.
        config: what the looks were drawn from.
        device: where the batches go.
        strong: whether the colours of the student's crops of unlabelled images are changed.
    """

    def __init__(
        self, loader: Iterable[Sample], config: AugmentConfig, device: torch.device, *, strong: bool = False
    ) -> None:
        self.loader = loader
        self.jitter, self.strong = config.jitter > 0, strong
        self.device = device

    def __iter__(self) -> Iterator[Sample]:
        for batch in self.loader:
            image, mask = self._moved(batch["image"]), batch["mask"].to(self.device, non_blocking=True).long()
            image, mask = apply_looks(image, mask, batch["look"], jitter=self.jitter)
            made = {"image": image, "mask": mask}
            yield made | self._unlabelled(batch) if "weak" in batch else made

    def _unlabelled(self, batch: Sample) -> Sample:
        """Return the crops of unlabelled images in both looks, which share their flip."""
        looks = batch["strong_look"]
        flips, rest = torch.zeros_like(looks), looks.clone()
        flips[:, FLIP], rest[:, FLIP] = looks[:, FLIP], 0
        padding = batch["padding"].to(self.device, non_blocking=True).long()
        weak, padding = apply_looks(self._moved(batch["weak"]), padding, flips, jitter=False)
        strong, _ = apply_looks(weak, padding, rest, jitter=self.strong)
        return {"weak": weak, "strong": strong, "padding": padding, "box": batch["box"].to(self.device)}

    def _moved(self, images: Tensor) -> Tensor:
        """Return images (B, H, W, 3) as (B, 3, H, W) on the device."""
        return images.to(self.device, non_blocking=True).permute(0, 3, 1, 2)


def apply_looks(image: Tensor, mask: Tensor, looks: Tensor, *, jitter: bool) -> tuple[Tensor, Tensor]:
    """Make a batch look as drawn; the twin of :meth:`.TrainTransform.apply`.

    Args:
        image: uint8 RGB (B, 3, H, W).
        mask: (B, H, W), on the same device.
        looks: a :class:`.Look` a row, float32 (B, 6), on the CPU: what is read from it must not wait for the device.
        jitter: whether colours are changed; without it they are left alone to the last bit.

    Returns:
        Image, contiguous, and mask, of the same types and shapes.
    """
    rows = looks.to(image.device, non_blocking=True)
    flip = rows[:, FLIP].bool().view(-1, 1, 1)
    mask = torch.where(flip, mask.flip(-1), mask)
    image = torch.where(flip.unsqueeze(1), image.flip(-1), image).contiguous()
    if jitter:
        image = jitter_colors(image, rows)
    for i, sigma in enumerate(looks[:, SIGMA].tolist()):
        if sigma:
            image[i] = blur(image[i], sigma)
    return image, mask


def jitter_colors(image: Tensor, rows: Tensor) -> Tensor:
    """Change brightness and contrast about each image's mean grey, then saturation and hue.

    Args:
        image: uint8 RGB (B, 3, H, W).
        rows: float32 (B, 6), on the same device.

    Returns:
        As `image`, a new one.
    """
    brightness, contrast, saturation, hue = rows[:, BRIGHTNESS:SIGMA].view(-1, 4, 1, 1, 1).unbind(1)
    grey = image.sum((1, 2, 3), keepdim=True) / image[0].numel()  # whole numbers up to the division
    levels = (image.float() - grey) * (contrast * brightness) + grey * brightness
    turned, saturated, value = _to_hsv(levels.clamp_(0, 255).round_())
    turned = torch.remainder(turned + hue[:, 0], 256)
    saturated = (saturated * saturation[:, 0]).clamp_(0, 255).round_()
    return _to_rgb(turned, saturated, value).to(torch.uint8)


def _to_hsv(rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return hue in 256ths of the circle, saturation and value, (B, H, W) each, of RGB (B, 3, H, W).

    All are whole numbers of 0–255 in float32. OpenCV multiplies by the inverse in 12-bit fixed point; those products
    stay below 2²⁴, so that float32 has them exactly.
    """
    red, green, blue = rgb.unbind(1)
    value = rgb.amax(1)
    chroma = value - rgb.amin(1)
    sixths = torch.where(
        value == red,
        green - blue,
        torch.where(value == green, blue - red + 2 * chroma, red - green + 4 * chroma),
    )
    hue = _rescaled(sixths, 256 / 6, chroma).remainder_(256)
    return hue, _rescaled(chroma, 255, value), value


def _rescaled(numerator: Tensor, factor: float, denominator: Tensor) -> Tensor:
    """Return ``factor * numerator / denominator``, 0 over 0 being 0, rounded as in 12-bit fixed point."""
    inverse = (factor * 4096 / denominator.clamp(min=1)).round_()
    return ((numerator * inverse + 2048) / 4096).floor_()


def _to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Return RGB (B, 3, H, W), whole numbers of 0–255 in float32, of three (B, H, W) as :func:`_to_hsv` gives them."""
    # OpenCV divides the circle into 256 on the way to HSV and into 255 on the way back.
    sector = hue.unsqueeze(1) * (6 / 255) + torch.arange(5, 0, -2, device=hue.device).view(1, 3, 1, 1)
    sector.remainder_(6)
    away = torch.minimum(sector, 4 - sector).clamp_(0, 1)
    return (value.unsqueeze(1) * (1 - saturation.unsqueeze(1) / 255 * away)).round_()


def blur(image: Tensor, sigma: float) -> Tensor:
    """Blur an image (3, H, W), uint8, by a Gaussian of `sigma` > 0 pixels; borders are mirrored."""
    taps = gaussian_taps(sigma)
    blurred = image.float()
    for axis in (2, 1):
        length = image.shape[axis]
        padded = blurred.index_select(axis, _mirrored(length, len(taps) // 2, image.device))
        blurred = torch.zeros_like(blurred)
        for i, tap in enumerate(taps):
            blurred.add_(padded.narrow(axis, i, length), alpha=tap)
    # Two factors of 256, rounded once; every sum was a whole number below 2²⁴.
    return ((blurred + 32768) / 65536).floor_().to(torch.uint8)


def gaussian_taps(sigma: float) -> list[int]:
    """Return OpenCV's kernel for 8-bit images: an odd number of taps out to 3 `sigma`, in 256ths, 256 in sum.

    What rounding takes from a tap is given to the next, and the middle one takes the rest.
    """
    radius = (round(6 * sigma + 1) | 1) // 2
    weights = [math.exp(-((i - radius) ** 2) / (2 * sigma * sigma)) for i in range(2 * radius + 1)]
    half: list[int] = []
    owed = 0.0
    for weight in weights[:radius]:
        exact = 256 * weight / sum(weights) + owed
        half.append(round(exact))
        owed = exact - half[-1]
    return [*half, 256 - 2 * sum(half), *half[::-1]]


def _mirrored(length: int, radius: int, device: torch.device) -> Tensor:
    """Return the index of each place from `radius` before the first to `radius` after the last, mirrored at both."""
    period = max(2 * (length - 1), 1)
    places = torch.arange(-radius, length + radius, device=device).remainder_(period)
    return torch.minimum(places, period - places)
