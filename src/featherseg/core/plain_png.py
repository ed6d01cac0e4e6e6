"""PNG files so plain that a few lines in any language can read them."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from .types import ClassSet


def plain_png(pixels: NDArray[np.uint8], classes: ClassSet | None = None) -> bytes:
    """Return a PNG whose rows are not filtered and whose pixels are one chunk, so that ten lines can read it.

    Args:
        pixels: RGB (H, W, 3), or class ids (H, W).
        classes: colours of ids.
    """
    height, width = pixels.shape[:2]
    kind = 2 if pixels.ndim == 3 else 3  # RGB or palette; PNG specification, table 11.1
    rows = np.zeros((height, 1 + pixels[0].size), np.uint8)  # each begins with its filter: none
    rows[:, 1:] = pixels.reshape(height, -1)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))]
    if classes is not None:
        chunks.append((b"PLTE", classes.palette().tobytes()))
    chunks += [(b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
