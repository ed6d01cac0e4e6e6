"""What a mask file holds, read in one way for training, scoring, calibrating and the doctor alike."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LOSSY = frozenset({"JPEG", "MPO", "AVIF", "HEIF"})
"""What Pillow calls JPEGs, MPO those of telephones that hold a preview or depth too, and what compresses like them."""
COLOUR_MODES = frozenset({"RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV"})
"""Pillow's names of files whose pixels are colours, not numbers."""
OPAQUE = 128
"""Alpha from here on is foreground, in masks that hold nothing else."""

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_HEAD = 4096
"""Bytes that hold a PNG's palette: 33 of the header, 780 of the palette, and what stands between them."""


@dataclass(eq=False)
class MaskFile:
    """A mask file's own values.

    Args:
        values: ids (H, W), floats where the file holds them, or RGB colours, uint8 (H, W, 3).
        mode: Pillow's name of the file's channels.
        form: Pillow's name of the file's format; "JPEG" for whatever is compressed so.
        palette: RGB by id, uint8 (n, 3), of a palette file.
        alpha: the values are 0 and 1, from the transparency: the colours say nothing.
    """

    values: NDArray[Any]
    mode: str
    form: str
    palette: NDArray[np.uint8] | None = None
    alpha: bool = False

    @property
    def colour(self) -> bool:
        """Whether the values are colours."""
        return self.values.ndim == 3

    @property
    def bilevel(self) -> bool:
        """Whether a pixel has one bit: 1 is what other programs write as 255."""
        return self.mode == "1"

    @cached_property
    def grey(self) -> bool:
        """Whether the colours are all greys."""
        red, green, blue = (self.values[..., i] for i in range(3))
        return bool((red == green).all() and (green == blue).all())


def mask_of(image: Image.Image) -> MaskFile:
    """Return the values of an opened mask file, of the first of several frames. Nothing is refused here."""
    lossy = image.format in LOSSY or "jpeg" in str(image.info.get("compression"))
    form = "JPEG" if lossy else image.format or ""
    mode = image.mode
    if mode in ("RGBA", "LA") and _shape_is_alpha(image):
        shape = (np.asarray(image.getchannel("A")) >= OPAQUE).astype(np.uint8)
        return MaskFile(shape, mode, form, alpha=True)
    if mode in COLOUR_MODES:
        return MaskFile(np.array(image if mode == "RGB" else image.convert("RGB")), mode, form)
    if mode == "1":
        return MaskFile(np.asarray(image, np.uint8), mode, form)
    values = np.array(image.getchannel(0) if mode in ("LA", "La", "PA") else image)
    palette = None
    if mode == "P":
        palette = np.array((image.getpalette("RGB") or [])[:768], np.uint8).reshape(-1, 3)
    return MaskFile(values, mode, form, palette)


def _shape_is_alpha(image: Image.Image) -> bool:
    """Return whether the transparency has a shape and the colours have none."""
    *colors, alpha = [image.getchannel(band).getextrema() for band in image.getbands()]
    return alpha[0] != alpha[1] and all(low == high for low, high in colors)


def palette_of(path: Path) -> tuple[str, bytes]:
    """Return a mask file's mode and palette (RGB bytes by id) without decoding it; nothing of damaged files.

    Of PNGs the first bytes are enough, which takes a thirtieth of what opening them with Pillow does: all masks of a
    dataset are asked.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_PNG_HEAD)
        if head.startswith(_PNG):
            return _palette_of_png(head)
        with Image.open(path, formats=("GIF", "TIFF", "BMP", "WEBP", "PPM")) as image:
            return image.mode, bytes(image.getpalette("RGB") or b"") if image.mode == "P" else b""
    except Exception:  # whoever reads it later says what is wrong; decoders raise errors of several families
        return "", b""


def _palette_of_png(head: bytes) -> tuple[str, bytes]:
    """Return mode and palette from a PNG's first bytes (PNG specification, sections 5 and 11.2)."""
    bits, kind = head[24], head[25]
    if kind != 3:
        return {0: "1" if bits == 1 else "L", 2: "RGB", 4: "LA", 6: "RGBA"}.get(kind, ""), b""
    place = len(_PNG)
    while place + 8 <= len(head):
        length, name = struct.unpack_from(">I4s", head, place)
        if name == b"PLTE":
            return "P", head[place + 8 : place + 8 + min(length, 768)]
        place += length + 12
    return "P", b""
