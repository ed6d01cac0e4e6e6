"""Looking at one pair: a few hundred bytes that say all about it which findings need, however large its files are."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..core.errors import DataError, first_line
from ..core.types import IGNORE_INDEX, ImageArray
from ..data.readers.folder import MAX_INFERRED
from .meaning import unpack
from .near_duplicates import difference_hash, thumbnail
from .pairing import Pair
from .raw import RawMask, Trouble, bit_depth, opened, orientation, read_raw

MAX_VALUES = 512
"""Distinct values of a mask that are kept, the most frequent ones."""
FLAT = 12
"""Largest difference among neighbours in an area of one class that was saved as JPEG."""
BLACK = 12
"""Largest value in a black border: compression lifts it a little."""
MIN_BORDER = 0.02
"""Smallest black border that counts, as a share of the side."""
SIDEWAYS = (5, 6, 7, 8)
"""EXIF's orientations that exchange height and width."""

Size = tuple[int, int]
"""Height, width."""


@dataclass(eq=False)
class ImageFacts:
    """What is known of an image file; sizes are as EXIF turns it.

    Args:
        trouble: why it cannot be used, if so.
        size: height and width, upright.
        form: Pillow's name of its format.
        mode: Pillow's name of its channels.
        bits: of a channel.
        frames: how many pictures it holds.
        turned: EXIF's orientation, 1 to 8.
        see_through: whether a pixel is transparent.
        blank: whether it is one colour.
        digest: of its pixels.
        look: difference hash.
        thumb: uint8 (8, 8, 3).
        mean: of each channel on [0, 1].
        std: of each channel on [0, 1].
        border: rows or columns of a black border at top, right, bottom, left.
        peak: largest value of a grey picture of more than 8 bits.
    """

    trouble: Trouble | None = None
    size: Size = (0, 0)
    form: str = ""
    mode: str = ""
    bits: int = 8
    frames: int = 1
    turned: int = 1
    see_through: bool = False
    blank: bool = False
    digest: bytes = b""
    look: int = 0
    thumb: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((8, 8, 3), np.uint8))
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (0.0, 0.0, 0.0)
    border: tuple[int, int, int, int] = (0, 0, 0, 0)
    peak: int = 0


@dataclass(eq=False)
class MaskFacts:
    """What is known of a mask file.

    Args:
        trouble: why it cannot be used, if so.
        size: height and width as stored.
        form: Pillow's name of its format.
        bits: of a channel.
        colour: its values are packed colours.
        grey: those are all greys.
        alpha: its values are its transparency.
        floats: it holds floats.
        bilevel: a pixel has one bit.
        distinct: how many values it has.
        values: the most frequent ones, int32.
        counts: their pixels.
        flat: those of their pixels whose neighbours have nearly the same value.
        palette: packed colours of `values` in a palette file, -1 for none.
        digest: of its values.
        picture: digest as of an image, of masks with so many colours that they may be one.
        at_border: values beneath the image's black border.
    """

    trouble: Trouble | None = None
    size: Size = (0, 0)
    form: str = ""
    bits: int = 8
    colour: bool = False
    grey: bool = False
    alpha: bool = False
    floats: bool = False
    bilevel: bool = False
    distinct: int = 0
    values: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    flat: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    palette: NDArray[np.int32] | None = None
    digest: bytes = b""
    picture: bytes = b""
    at_border: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.size[0] * self.size[1]


@dataclass(eq=False)
class Facts:
    """What is known of a pair."""

    pair: Pair
    image: ImageFacts
    mask: MaskFacts


def probe(pair: Pair) -> Facts:
    """Look at a pair. Never raises for what a file holds."""
    try:
        image = probe_image(pair.image)
    except Trouble as trouble:
        image = ImageFacts(trouble=trouble)
    try:
        mask = _mask_facts(raw_of(pair), image)
    except Trouble as trouble:
        mask = MaskFacts(trouble=trouble)
    return Facts(pair, image, mask)


def raw_of(pair: Pair) -> RawMask:
    """Return a pair's labels as a mask of values: those of its file, or the class ids that its annotation says.

    Raises:
        Trouble: they cannot be read.
    """
    if pair.annotation is None:
        return read_raw(pair.mask)
    try:
        ids = pair.annotation.read()
    except (DataError, OSError) as error:
        raise Trouble("mask-unreadable", first_line(error)) from error
    return RawMask(ids.astype(np.int32), False, False, None, False, False, 8, "")


def probe_image(path: Path) -> ImageFacts:
    """Look at an image.

    Raises:
        Trouble: it cannot be used.
    """
    with opened(path, "image") as image:
        facts = ImageFacts(
            form="JPEG" if image.format == "MPO" else image.format or "",
            mode=image.mode,
            bits=bit_depth(path, image),
            # Cameras put a preview behind the picture of what is still a JPEG.
            frames=1 if image.format == "MPO" else int(getattr(image, "n_frames", 1)),
            turned=orientation(image),
        )
        if image.mode == "F":
            raise Trouble("image-float", "float greys")
        if facts.frames > 1:
            image.seek(0)
        if image.mode in ("RGBA", "LA", "PA"):
            facts.see_through = int(np.asarray(image.getchannel("A")).min()) < 255
        elif "transparency" in image.info:
            facts.see_through = int(np.asarray(image.convert("RGBA").getchannel("A")).min()) < 255
        if image.mode.startswith("I"):
            facts.peak = int(np.asarray(image).max())
        _look_at(upright_rgb(image), facts)
        return facts


def upright_rgb(image: Image.Image) -> ImageArray:
    """Return an opened picture as :func:`featherseg.core.images.read_image` would: RGB, uint8 (H, W, 3), upright."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        grey = np.clip(np.asarray(upright).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.array(upright.convert("RGB"))


def _look_at(rgb: ImageArray, facts: ImageFacts) -> None:
    facts.size = (rgb.shape[0], rgb.shape[1])
    facts.digest = pixel_digest(rgb)
    facts.look, facts.thumb = difference_hash(rgb), thumbnail(rgb)
    mean, std = cv2.meanStdDev(rgb)
    facts.mean = tuple(float(value) / 255 for value in np.asarray(mean).ravel())
    facts.std = tuple(float(value) / 255 for value in np.asarray(std).ravel())
    facts.blank = bool((np.ptp(rgb.reshape(-1, 3), axis=0) <= 2).all()) if max(facts.std) < 0.01 else False
    if not facts.blank:
        facts.border = black_border(rgb)


def pixel_digest(rgb: ImageArray) -> bytes:
    """Return 16 bytes that tell pictures apart, whatever format they are stored in."""
    return blake2b(rgb.tobytes(), digest_size=16, key=repr(rgb.shape).encode()).digest()


def black_border(rgb: ImageArray) -> tuple[int, int, int, int]:
    """Return how many rows or columns are black at top, right, bottom and left; 0 where too few to be a border."""

    def depth(lines: NDArray[np.uint8]) -> int:
        limit = len(lines) // 2
        count = next((i for i in range(limit) if int(lines[i].max()) > BLACK), limit)
        return count if count >= max(3, MIN_BORDER * len(lines)) else 0

    columns = rgb.transpose(1, 0, 2)
    return depth(rgb), depth(columns[::-1]), depth(rgb[::-1]), depth(columns)


def _mask_facts(raw: RawMask, image: ImageFacts) -> MaskFacts:
    values, counts = count_values(raw.values)
    order = np.argsort(-counts, kind="stable")[:MAX_VALUES]
    facts = MaskFacts(
        size=(raw.values.shape[0], raw.values.shape[1]),
        form=raw.format,
        bits=raw.bits,
        colour=raw.colour,
        grey=raw.grey,
        alpha=raw.alpha,
        floats=raw.floats,
        bilevel=raw.bilevel,
        distinct=len(values),
        values=values[order],
        counts=counts[order],
        flat=_flat_counts(raw, values, counts)[order],
        digest=blake2b(raw.values.tobytes(), digest_size=16).digest(),
    )
    if raw.colour and len(values) > MAX_INFERRED:
        facts.picture = pixel_digest(unpack(raw.values.ravel()).astype(np.uint8).reshape(*raw.values.shape, 3))
    if raw.palette is not None:
        facts.palette = raw.palette[facts.values]
    if any(image.border) and facts.size == image.size:
        (top, right, bottom, left), (height, width) = image.border, facts.size
        beneath = np.ones(facts.size, bool)
        beneath[top : height - bottom, left : width - right] = False
        facts.at_border = count_values(raw.values[beneath])[0][:MAX_VALUES]
    return facts


def _flat_counts(raw: RawMask, values: NDArray[np.int32], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many pixels of each value lie in flat areas; of masks whose values can be ids, all of them."""
    if raw.format != "JPEG" and not raw.colour and ((values < MAX_INFERRED) | (values == IGNORE_INDEX)).all():
        return counts
    planes = unpack(raw.values.ravel()).reshape(*raw.values.shape, 3) if raw.colour else raw.values
    planes = np.clip(planes, 0, 65535).astype(np.uint16)
    around = np.ones((3, 3), np.uint8)
    spread = np.asarray(cv2.dilate(planes, around)).astype(np.int32) - np.asarray(cv2.erode(planes, around))
    flat = (spread.max(axis=2) if raw.colour else spread) <= FLAT
    return np.bincount(np.searchsorted(values, raw.values[flat]), minlength=len(values)).astype(np.int64)


def count_values(values: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the distinct values of an array in order, and their counts."""
    flat = values.ravel()
    if flat.size and flat.min() >= 0 and flat.max() < 1 << 16:
        counts = np.bincount(flat)
        found = np.flatnonzero(counts)
        return found.astype(np.int32), counts[found].astype(np.int64)
    found, tally = np.unique(flat, return_counts=True)
    return found.astype(np.int32), tally.astype(np.int64)
