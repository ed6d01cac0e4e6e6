"""Reading files that may be anything: what is in them, or what is wrong with them, never an exception of a decoder."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..core.errors import first_line
from ..core.formats import formats_of, reason
from ..core.images import MAX_PIXELS
from ..core.mask_files import mask_of
from ..core.types import IGNORE_INDEX

ORIENTATION = 0x0112
"""EXIF's tag of how a picture is turned; 1 is upright."""
BITS_PER_SAMPLE = 258
"""TIFF's tag."""
NO_COLOR, IGNORED_COLOR = -1, 1 << 24
"""Stand in a palette for ids beyond its end, and for 255, which is ignored whatever its colour is."""


class Trouble(Exception):
    """A file that cannot be used: the rule it breaks, and what exactly is wrong.

    Args:
        rule: the rule's id.
        detail: to stand behind the file's name.
    """

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(rule, detail)
        self.rule = rule
        self.detail = detail


@contextmanager
def opened(path: Path, what: str) -> Iterator[Image.Image]:
    """Open and decode a picture.

    Args:
        path: the file.
        what: ``"image"`` or ``"mask"``, which begins the rules' ids.

    Raises:
        Trouble: it is empty, too large, truncated, not to be read or no picture.
    """
    try:
        if path.stat().st_size == 0:
            raise Trouble("empty-file", "0 bytes")
        with Image.open(path, formats=formats_of(path)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Trouble("too-large", f"{image.width}x{image.height} pixels")
            image.load()
            yield image
    except Trouble:
        raise
    except PermissionError as error:
        raise Trouble("no-permission", "permission denied") from error
    except Image.DecompressionBombError as error:
        raise Trouble("too-large", first_line(error)) from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, …
        why = (isinstance(error, UnidentifiedImageError) and reason(path)) or first_line(error)
        kind = "truncated" if "truncated" in why.lower() else "unreadable"
        raise Trouble(f"{what}-{kind}", why.replace(str(path), path.name)) from error


def bit_depth(path: Path, image: Image.Image) -> int:
    """Return the bits of a channel as stored; Pillow reads 16-bit colours as 8 bits without a word."""
    if image.mode.startswith("I"):
        return 16
    if image.format == "PNG":
        with path.open("rb") as file:
            head = file.read(25)
        return int(struct.unpack(">B", head[24:25])[0])
    if image.format == "TIFF":
        bits = image.tag_v2.get(BITS_PER_SAMPLE, 8)  # type: ignore[attr-defined]
        return int(max(bits) if isinstance(bits, tuple) else bits)
    return 8


def orientation(image: Image.Image) -> int:
    """Return how EXIF says a picture is turned, 1 to 8; 1 where it says nothing of use."""
    try:
        turned = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged EXIF data raises SyntaxError, struct.error, ValueError, …
        return 1
    return turned if isinstance(turned, int) and 1 <= turned <= 8 else 1


@dataclass(eq=False)
class RawMask:
    """A mask file's own values.

    Args:
        values: ids, or packed RGB colours where `colour` is true, int32 (H, W).
        colour: which of the two.
        grey: the colours are all greys.
        palette: packed colour by id, int32 (256,), of a palette file.
        alpha: the values are 0 and 1, from the transparency: the colours say nothing.
        floats: the file holds floats, all of them whole.
        bits: of a channel.
        format: Pillow's name of the file's format; "JPEG" for whatever is compressed so.
        bilevel: a pixel has one bit.
    """

    values: NDArray[np.int32]
    colour: bool
    grey: bool
    palette: NDArray[np.int32] | None
    alpha: bool
    floats: bool
    bits: int
    format: str
    bilevel: bool = False


def read_raw(path: Path) -> RawMask:
    """Read a mask file, whatever its kind, as the loaders read it.

    Raises:
        Trouble: unreadable, or floats that are no ids.
    """
    with opened(path, "mask") as image:
        bits, mask = bit_depth(path, image), mask_of(image)
    values: NDArray[np.int32]
    if mask.colour:
        rgb = mask.values.astype(np.int32)
        values = (rgb[..., 0] << 16) | (rgb[..., 1] << 8) | rgb[..., 2]
    elif mask.mode == "F":
        array: NDArray[np.float32] = mask.values.astype(np.float32)
        if not (np.isfinite(array).all() and (array == np.round(array)).all() and 0 <= array.min() <= array.max()):
            raise Trouble("mask-float", "values that are not whole")
        values = np.minimum(array, 65535).astype(np.int32)
    else:
        values = mask.values.astype(np.int32)
    return RawMask(
        values,
        colour=mask.colour,
        grey=mask.colour and mask.grey,
        palette=None if mask.palette is None else _palette(mask.palette),
        alpha=mask.alpha,
        floats=mask.mode == "F",
        bilevel=mask.bilevel,
        bits=bits,
        format=mask.form,
    )


def _palette(colors: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return packed colours by id."""
    flat = colors.astype(np.int32)
    table = np.full(256, NO_COLOR, np.int32)
    table[: len(flat)] = (flat[:, 0] << 16) | (flat[:, 1] << 8) | flat[:, 2]
    table[IGNORE_INDEX] = IGNORED_COLOR
    return table
