"""Label Studio's run lengths of brush strokes: RGBA bytes, packed into bits of four widths.

The format is thi.ng's rle-pack: 32 bits for the number of values, 5 for the bits of a value less one, 4 times 4 for the
bits of a count less one; then blocks. A block is one bit (1: a value repeated; 0: values as they are), two bits that
choose the width of the count, the count less one, and the value or values. Source: the format of the package
@thi.ng/rle-pack, and label-studio-converter's ``brush.py`` (Apache 2.0), which reads and writes it in Python.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..core.images import MAX_PIXELS

CHANNELS = 4
WIDTHS = (3, 4, 8, 16)
"""Bits of a count, as Label Studio writes them."""
HALF = 128
"""Alpha from which a pixel is painted: strokes are drawn on a canvas, whose borders may be smoothed."""


class _Bits:
    """Whole numbers of given widths, read from the front of some bytes, the highest bit first."""

    def __init__(self, data: bytes) -> None:
        self._data, self.place, self._end = data, 0, 8 * len(data)

    def read(self, width: int) -> int:
        """Return the next number of up to 32 bits."""
        start, self.place = self.place, self.place + width
        if self.place > self._end:
            raise ValueError("it ends in the middle of a run")
        first, last = start >> 3, (self.place + 7) >> 3
        window = int.from_bytes(self._data[first:last], "big")
        return (window >> (8 * last - self.place)) & ((1 << width) - 1)

    def bytes_of(self, count: int, width: int) -> NDArray[np.uint8]:
        """Return the next `count` numbers of up to 8 bits each, uint8 (count,)."""
        start, self.place = self.place, self.place + count * width
        if self.place > self._end:
            raise ValueError("it ends in the middle of a run")
        first, last = start >> 3, (self.place + 7) >> 3
        bits = np.unpackbits(np.frombuffer(self._data[first:last], np.uint8))
        rows = bits[start - 8 * first :][: count * width].reshape(count, width)
        numbers: NDArray[np.uint8] = np.packbits(rows, axis=1)[:, 0] >> np.uint8(8 - width)
        return numbers


def decode(data: bytes, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the painted pixels, bool (H, W).

    Args:
        data: the ``rle`` of a region.
        size: (height, width) of the picture.

    Raises:
        ValueError: the bytes are cut short, or of a picture of another size.
    """
    height, width = size
    bits = _Bits(data)
    count, word = bits.read(32), bits.read(5) + 1
    if count != CHANNELS * height * width or height * width > MAX_PIXELS:
        raise ValueError(f"it holds {count} values, but {height}x{width} pixels have {CHANNELS * height * width}")
    if word > 8:
        raise ValueError(f"its values have {word} bits; those of pixels have 8")
    widths = [bits.read(4) + 1 for _ in range(4)]
    values = np.zeros(count, np.uint8)
    place = 0
    while place < count:
        repeated, length = bits.read(1), bits.read(widths[bits.read(2)]) + 1
        if place + length > count:
            raise ValueError(f"its runs cover more than its {count} values")
        values[place : place + length] = bits.read(word) if repeated else bits.bytes_of(length, word)
        place += length
    painted: NDArray[np.bool_] = values.reshape(height, width, CHANNELS)[..., -1] >= HALF
    return painted


def encode(mask: NDArray[np.bool_]) -> bytes:
    """Return the run lengths of a mask, bool (H, W), as Label Studio reads them: black, painted ones opaque."""
    alpha = np.where(mask, 255, 0).astype(np.uint8)
    values = np.zeros((*mask.shape, CHANNELS), np.uint8)
    values[...] = alpha[..., None]
    flat = values.reshape(-1)
    parts = [f"{len(flat):032b}", f"{8 - 1:05b}", *(f"{width - 1:04b}" for width in WIDTHS)]
    cuts = np.flatnonzero(np.diff(flat)) + 1
    starts, ends = np.concatenate([[0], cuts]), np.concatenate([cuts, [len(flat)]])
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True) if len(flat) else ():
        for first in range(start, end, 1 << WIDTHS[-1]):
            length = min(end - first, 1 << WIDTHS[-1])
            kind = next(i for i, width in enumerate(WIDTHS) if length <= 1 << width)
            parts.append(f"1{kind:02b}{length - 1:0{WIDTHS[kind]}b}{int(flat[start]):08b}")
    text = "".join(parts)
    text += "0" * (-len(text) % 8)
    return np.packbits(np.frombuffer(text.encode(), np.uint8) - ord("0")).tobytes()
