"""Reading and writing pictures: RGB in, whole files or nothing out."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from .errors import DataError, first_line
from .types import ClassSet, ImageArray, MaskArray

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm"})
MAX_PIXELS = 200_000_000
"""Largest picture that is decoded: twice a 100-megapixel camera's, well under a decompression bomb's."""

# MAX_PIXELS is our limit. Set once, since warnings.catch_warnings is not safe in the threads that decode.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def list_images(folder: Path) -> list[Path]:
    """Return the pictures directly in `folder`, sorted by name; hidden files are left out."""
    found = (
        p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") and p.is_file()
    )
    return sorted(found)


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open a picture for reading; whatever goes wrong in opening or decoding is one :class:`DataError`."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"{path} has {image.width}x{image.height} pixels, more than {MAX_PIXELS:,}; make it smaller"
                )
            yield image
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; check the path") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, …
        reason = first_line(error)
        raise DataError(f"{path} cannot be read as an image ({reason}); replace or remove the file") from error


def read_image(path: str | Path) -> ImageArray:
    """Read a picture of any common kind as RGB, uint8 (H, W, 3), turned upright as its EXIF data says.

    Sixteen-bit greys are scaled to 8 bits by their type's range; transparency is dropped.

    Raises:
        DataError: the file is missing, unreadable, truncated, too large, or holds floats, whose range it does not say.
    """
    with open_image(Path(path)) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode == "F":
            raise DataError(f"image {path} holds float greys of unknown range; save it with 8 or 16 bits")
        if upright.mode.startswith("I"):
            grey = np.clip(np.asarray(upright).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=2)
        return np.array(upright.convert("RGB"))


TEMPORARY = ".writing-"
"""How names of files that are being written begin; only a killed process leaves one behind."""


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> Path:
    """Let `write` fill a temporary file beside `path`, sync it, and rename it: the file is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{TEMPORARY}{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)  # mkstemp makes files private; give them the usual rights
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def write_image(path: str | Path, image: ImageArray) -> Path:
    """Write RGB uint8 (H, W, 3) in the format that the suffix names; JPEG at quality 92."""
    path = Path(path)
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in Image.SAVE:
        raise DataError(f"{path}: pictures cannot be written as {path.suffix!r}; use .png or .jpg")
    options = {"quality": 92} if kind == "JPEG" else {}
    return write_atomically(path, lambda file: Image.fromarray(image).save(file, format=kind, **options))


def write_mask(path: str | Path, mask: MaskArray, classes: ClassSet) -> Path:
    """Write class ids, uint8 (H, W), as a palette PNG: ids for programs, colours for people."""
    picture = Image.fromarray(np.ascontiguousarray(mask))
    picture.putpalette(classes.palette().tobytes())
    return write_atomically(Path(path), lambda file: picture.save(file, format="PNG"))


def read_ids(path: str | Path) -> NDArray[np.integer]:
    """Read a mask file's own values: (H, W) ids of an index, grey or palette file, or (H, W, 3) colours.

    Raises:
        DataError: unreadable, floats, or saved as JPEG, whose compression invents values along every border.
    """
    with open_image(Path(path)) as image:
        if image.format == "JPEG":
            raise DataError(f"mask {path} is a JPEG, whose compression changes class ids; save masks as PNG")
        if image.mode in ("RGB", "RGBA", "CMYK"):
            return np.array(image.convert("RGB"))
        if image.mode == "F":
            raise DataError(f"mask {path} holds floats; save class ids as whole numbers in a PNG")
        if image.mode in ("LA", "PA"):
            return np.array(image.getchannel(0))
        if image.mode == "1":
            return np.array(image.convert("L")) // 255
        return np.array(image)
