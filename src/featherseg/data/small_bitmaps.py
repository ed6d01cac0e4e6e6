"""Bitmaps that labels hold as text: base64 of a PNG, compressed again or not, none of them a bomb."""

from __future__ import annotations

import base64
import binascii
import io
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..core.errors import first_line
from ..core.images import MAX_PIXELS
from ..core.text_files import shortened

MAX_BYTES = 64 << 20
"""Largest PNG; one of 178 million pixels in two colours has at most a third of it."""


def decode_base64(text: str) -> bytes:
    """Return what base64 stands for.

    Raises:
        ValueError: it is none; one line.
    """
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("a bitmap is not written as base64") from error


def inflated(content: bytes) -> bytes:
    """Return what zlib data stand for, if that is no more than ``MAX_BYTES``.

    Raises:
        ValueError: they are damaged, or stand for more; one line.
    """
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(content, MAX_BYTES)
    except zlib.error as error:
        raise ValueError("a bitmap's compressed data are damaged") from error
    if stream.unconsumed_tail:
        raise ValueError(f"a bitmap has over {MAX_BYTES} bytes")
    if not stream.eof:
        raise ValueError("a bitmap's compressed data end too early")
    return found


def decode_bitmap(content: bytes) -> NDArray[np.bool_]:
    """Return which pixels of a PNG are inside, bool (h, w): those not transparent, or where nothing is, those not 0.

    Raises:
        ValueError: it is no PNG, or too large; one line.
    """
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"a bitmap has {image.width}x{image.height} pixels")
            if "A" in image.getbands() or "transparency" in image.info:
                return np.asarray(image.convert("RGBA").getchannel("A")) > 0
            values = np.asarray(image)
            return np.asarray((values if values.ndim == 3 else values[..., None]).any(axis=2), np.bool_)
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, …
        raise ValueError(f"a bitmap is no PNG of use ({shortened(first_line(error))})") from error
