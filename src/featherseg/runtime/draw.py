"""Class ids as colours: the mask alone, laid over its image, with a legend."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..core.errors import ConfigError
from ..core.types import ClassSet, ImageArray, MaskArray
from .postprocess import as_kernels_take, kernels

MIN_FONT = 9
"""Height in pixels of the smallest letters that can be read."""
MAX_NAME = 24
LEGEND_SHARE = 0.45
"""Largest share of the image's width that a legend may take."""
BACKGROUND = (18, 18, 18, 175)
INK = (255, 255, 255, 255)

ALPHA = 0.6
"""Share of the colours in an overlay, where no other is asked for."""

Entry = tuple[str, tuple[int, int, int]]
"""Name and colour of one class in a legend."""


def colorize(mask: MaskArray, classes: ClassSet) -> ImageArray:
    """Return a mask, uint8 (H, W), in its classes' colours, RGB uint8 (H, W, 3); ignored pixels are black.

    Raises:
        ConfigError: the mask is of another type or shape, or empty.
    """
    _check_mask(mask)
    # OpenCV looks up as many channels as the table has, five times as fast as indexing.
    return np.asarray(cv2.LUT(cv2.merge([mask, mask, mask]), classes.palette()[None]), np.uint8)


def overlay(
    image: ImageArray,
    mask: MaskArray,
    classes: ClassSet,
    alpha: float = ALPHA,
    legend: bool = False,
    background: bool = False,
    confidence: NDArray[np.float32] | None = None,
) -> ImageArray:
    """Return the mask's colours laid over its image, RGB uint8 (H, W, 3), a new array.

    Pixels whose id is no class, ignored ones above all, stay as in the image; so do those of the background, if there
    is such a class (:attr:`.ClassSet.background`).

    Args:
        image: RGB uint8 (H, W, 3).
        mask: class ids uint8 (H, W).
        classes: names and colours.
        alpha: share of the colours, 0 (the image alone) to 1.
        legend: whether to name the classes that occur in the top left corner; left out where it does not fit.
        background: whether to lay the colour of the background over its pixels too.
        confidence: probability of each pixel's class (H, W), with which its colour fades: from none at that of a
            guess, 1 / number of classes, to `alpha` at 1. It does not where this is left out.

    Raises:
        ConfigError: image, mask or alpha is none of these, or the two differ in size.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ConfigError(f"image is {image.dtype} {image.shape}; give RGB as uint8 (H, W, 3)")
    if image.shape[:2] != mask.shape:
        raise ConfigError(f"image is {image.shape[:2]} but its mask {mask.shape}; bring them to one size")
    check_alpha(alpha)
    _check_mask(mask)
    clear = None if background else classes.background
    drawn, seen = _blended(image, mask, blend_table(classes, float(alpha), clear))
    if confidence is not None:
        guess = 1 / (len(classes) + 1e-6)
        sure = np.clip((confidence - guess) / (1 - guess), 0, 1)[..., None]
        drawn = np.rint(image + sure * (drawn.astype(np.float32) - image)).astype(np.uint8)
    if legend:
        named = [i for i in np.flatnonzero(seen[: len(classes)]).tolist() if i != clear]
        _draw_legend(drawn, named, classes)
    return drawn


def check_alpha(alpha: float) -> float:
    """Return the share that colours have in an overlay, or refuse what is none.

    Raises:
        ConfigError: it is not from 0 to 1.
    """
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha is {alpha}; give a share of the colours from 0 to 1")
    return alpha


def _check_mask(mask: MaskArray) -> None:
    if mask.ndim != 2 or mask.dtype != np.uint8 or 0 in mask.shape:
        raise ConfigError(f"mask is {mask.dtype} {mask.shape}; give class ids as uint8 (H, W)")


@lru_cache(maxsize=16)
def blend_table(classes: ClassSet, alpha: float, clear: int | None = None) -> NDArray[np.uint8]:
    """Return what becomes of each value (0-255) of each channel under each id, uint8 (256, 3, 256); none under `clear`.

    One look-up a value is twice as fast as arithmetic on colours that were looked up before.
    """
    values = np.arange(256)
    table = np.empty((256, 3, 256), np.uint8)
    table[:] = values
    colors = np.asarray(classes.colors)
    table[: len(classes)] = np.rint(values * (1 - alpha) + colors[..., None] * alpha)
    if clear is not None:
        table[clear] = values
    return table


def _blended(image: ImageArray, mask: MaskArray, table: NDArray[np.uint8]) -> tuple[ImageArray, NDArray[np.bool_]]:
    """Return the image with each value as the table has it under the pixel's id, and which ids there are (256,)."""
    found = kernels()
    if found is None:
        drawn = table[mask[..., None], np.arange(3), image]
        return drawn, np.bincount(mask.ravel(), minlength=256) > 0
    seen = np.zeros(256, np.bool_)
    drawn = np.empty(image.shape, np.uint8)
    found.blend(as_kernels_take(image, np.uint8), as_kernels_take(mask, np.uint8), table, seen, drawn)
    return drawn, seen


def _draw_legend(image: ImageArray, ids: list[int], classes: ClassSet) -> None:
    """Draw into `image` the swatches and names of the classes with these `ids`, if there is room for them."""
    entries = tuple((classes.names[i], classes.colors[i]) for i in ids)
    panel = _legend(entries, image.shape[0], image.shape[1]) if entries else None
    if panel is None:
        return
    ink, rest = panel
    edge = _edge(image.shape[0], image.shape[1])
    corner = image[edge : edge + len(ink), edge : edge + ink.shape[1]]
    corner[:] = (corner * rest + ink) // 255


def _edge(height: int, width: int) -> int:
    """Return the distance in pixels between a legend and the image's border."""
    return max(2, min(height, width) // 60)


@lru_cache(maxsize=32)  # frames of a video mostly hold the same classes
def _legend(
    entries: tuple[Entry, ...], height: int, width: int
) -> tuple[NDArray[np.uint16], NDArray[np.uint16]] | None:
    """Return a legend for an image of this size as what it adds, and the share (0–255) of the image it leaves.

    Larger letters come before fewer columns. None if even the smallest letters do not fit.
    """
    edge = _edge(height, width)
    names = [" ".join(name.split()) for name, _ in entries]  # a line break cannot be measured
    names = [name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…" for name in names]
    ideal = max(MIN_FONT, round((height * width) ** 0.5 / 48))
    for size in range(ideal, MIN_FONT - 1, -1):
        font = ImageFont.load_default(size)
        line, pad = round(size * 1.5), size // 2
        column = round(max(font.getlength(name) for name in names)) + size + 2 * pad
        for columns in (1, 2, 3):
            rows = -(-len(names) // columns)
            panel = (columns * column + pad, rows * line + 2 * pad)
            if panel[0] <= LEGEND_SHARE * width and panel[1] <= height - 2 * edge:
                break
        else:
            continue
        canvas = Image.new("RGBA", panel, BACKGROUND)
        draw = ImageDraw.Draw(canvas)
        for i, (name, (_, color)) in enumerate(zip(names, entries, strict=True)):
            x, y = pad + i // rows * column, pad + i % rows * line + line // 2
            draw.rectangle((x, y - size // 2, x + size - 1, y - size // 2 + size - 1), (*color, 255), (*INK[:3], 120))
            draw.text((x + size + pad, y), name, INK, font, anchor="lm")
        pixels = np.asarray(canvas).astype(np.uint16)
        opacity = pixels[..., 3:]
        return pixels[..., :3] * opacity + 127, 255 - opacity
    return None
