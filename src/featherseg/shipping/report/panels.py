"""Pictures inside pages: as addresses that hold all of them, small, and with what is wrong in colour."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...core.types import ClassSet, ImageArray, MaskArray
from ...evaluation.metrics import ConfusionMatrix

PANEL_SIDE = 640
"""Longer side of a panel in pixels; larger pictures are made smaller."""
IGNORED = (214, 218, 224)
"""Colour of ignored pixels, as in :mod:`featherseg.evaluation.visualize`: of the paper, not of a class."""
GREYS = 32
"""Shades of the picture behind the differences; few, so that the panel stays small."""


def image_miou(target: MaskArray, mask: MaskArray, classes: ClassSet) -> float:
    """Return the mIoU of one image alone; NaN where it has no labelled pixel."""
    confusion = ConfusionMatrix(classes)
    confusion.update(target, mask)
    return confusion.miou()


def marked(image: ImageArray, kinds: MaskArray, colors: Sequence[tuple[int, int, int]]) -> str:
    """Draw kinds, from 1 and 0 for none, in their colours over an image in pale grey; return its address."""
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    palette = np.zeros((256, 3), np.uint8)
    palette[:GREYS] = np.linspace(110, 250, GREYS)[:, None]
    palette[GREYS : GREYS + len(colors)] = colors
    shades = (grey // (256 // GREYS)).astype(np.uint8)
    return png(np.where(kinds > 0, GREYS - 1 + kinds, shades).astype(np.uint8), palette)


def png(values: MaskArray, palette: NDArray[np.uint8]) -> str:
    """Return values, uint8 (H, W), in a palette's colours, uint8 (256, 3), as an address."""
    picture = Image.fromarray(np.ascontiguousarray(values))
    picture.putpalette(palette.tobytes())
    return address(picture, "PNG", optimize=True)


def jpeg(image: ImageArray) -> str:
    """Return an RGB picture as an address."""
    return address(Image.fromarray(image), "JPEG", quality=85)


def address(picture: Image.Image, kind: str, **options: bool | int) -> str:
    """Return a picture as an address that holds all of it."""
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    return embedded(buffer.getvalue(), kind)


def embedded(content: bytes, kind: str) -> str:
    """Return a picture file's content as an address that holds all of it."""
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content).decode('ascii')}"
