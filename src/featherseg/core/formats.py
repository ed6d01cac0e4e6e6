"""Which pictures are decoded, by what is in them; and why one is not, where its decoder's own words say nothing."""

from __future__ import annotations

import io
import struct
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from PIL import Image, features

from .errors import require

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".gif", ".avif", ".heic", ".heif"}
)
"""Of files that are listed as pictures."""
FOREIGN_SUFFIXES = frozenset(
    {".jp2", ".tga", ".exr", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".psd", ".npy", ".npz", ".svg", ".jxl", ".hdr"}
)
"""Of pictures and arrays that people have as images or masks, and that are not read."""
FORMATS = ("PNG", "JPEG", "BMP", "PPM", "GIF", "TIFF", "WEBP", *(["AVIF"] if features.check("avif") else []))
"""What is decoded, whatever a file is called. Pillow reads forty more; for one of them, EPS, it runs Ghostscript."""
HEIF_SUFFIXES = frozenset({".heic", ".heif"})
"""What telephones call pictures that Pillow reads with another package's help."""

_SAMPLES, _BITS = 277, 258
"""TIFF's tags of the channels and of the bits of each (TIFF 6.0, section 8)."""
_SHORT = 3
"""TIFF's type of 16-bit numbers."""


def formats_of(path: Path) -> tuple[str, ...]:
    """Return the formats that a file may be decoded as.

    Raises:
        MissingExtraError: it is a HEIC picture, and what reads those is not installed.
    """
    if path.suffix.lower() not in HEIF_SUFFIXES:
        return FORMATS
    if "HEIF" not in Image.OPEN:
        require("pi_heif", "heic", f"Reading {path.name}, a HEIC picture,").register_heif_opener()
    return (*FORMATS, "HEIF")


def reason(path: Path, data: bytes | None = None) -> str:
    """Return why a file cannot be identified, from its first bytes; empty where they say nothing either.

    Args:
        path: the file.
        data: all of it, where it was read already.
    """
    try:
        with path.open("rb") if data is None else io.BytesIO(data) as file:
            head = file.read(12)
            if head[:4] in (b"II*\0", b"MM\0*"):
                return _tiff_reason(file, head)
    except (OSError, struct.error):
        return ""
    if head[4:8] == b"ftyp":
        if head[8:12] in (b"avif", b"avis"):
            return "" if "AVIF" in FORMATS else "it is an AVIF picture, which Pillow reads from version 11.3 on"
        if head[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1") and path.suffix.lower() not in HEIF_SUFFIXES:
            return "it is a HEIC picture; let its name end in .heic"
    return ""


def _tiff_reason(file: BinaryIO, head: bytes) -> str:
    order = "<" if head[:2] == b"II" else ">"
    file.seek(struct.unpack(f"{order}I", head[4:8])[0])
    count = struct.unpack(f"{order}H", file.read(2))[0]
    samples, bits = 1, 0
    for _ in range(count):
        tag, kind, number, value = struct.unpack(f"{order}HHI4s", file.read(12))
        if tag == _SAMPLES and kind == _SHORT:
            samples = struct.unpack(f"{order}H", value[:2])[0]
        if tag == _BITS and kind == _SHORT and number <= 2:
            bits = struct.unpack(f"{order}H", value[:2])[0]
    if samples == 1 or (samples == 3 and not bits):
        return ""
    depth = f" of {bits} bits" if bits else ""
    return f"it is a TIFF of {samples} channels{depth}; save three of them as 8-bit RGB, or a mask as one channel"


def skipped(*folders: Path) -> str:
    """Return how many pictures in folders are of formats that are not read, as text; empty where none is."""
    found = Counter[str]()
    for folder in folders:
        with suppress(OSError):
            found.update(p.suffix.lower() for p in folder.iterdir() if p.suffix.lower() in FOREIGN_SUFFIXES)
    return ", ".join(f"{count} {suffix}" for suffix, count in sorted(found.items()))
