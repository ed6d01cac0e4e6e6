"""Reading and writing pictures: RGB in, whole files or nothing out."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import DataError, MissingExtraError, TooLargeError, first_line
from .files import write_atomically
from .formats import FORMATS, formats_of, reason
from .formats import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from .mask_files import LOSSY as LOSSY
from .mask_files import MaskFile, mask_of
from .order import natural
from .progress import logger
from .text_files import shortened
from .types import ClassSet, ImageArray, MaskArray

DARK = 1 << 14
"""Greys of 16 bits that stay below this hold data of fewer bits, which would come out nearly black."""
MAX_PIXELS = 178_956_970
"""Largest picture that is decoded: more than a 150-megapixel camera's, and what Pillow takes for a bomb above."""

_ORIENTATION = 0x0112
"""EXIF's tag of how a picture is turned; 1 is upright."""

# MAX_PIXELS is our limit. Set once, since warnings.catch_warnings is not safe in the threads that decode.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def list_images(folder: Path) -> list[Path]:
    """Return the pictures directly in `folder` in natural order; hidden files are left out."""
    found = (
        p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") and p.is_file()
    )
    return natural(found)


@contextmanager
def open_image(path: Path, data: bytes | None = None) -> Iterator[Image.Image]:
    """Open a picture for reading; whatever goes wrong in opening or decoding is one :class:`DataError`.

    Args:
        path: the file.
        data: all of it, where it was read already, such as from an object store.
    """
    try:
        with Image.open(path if data is None else io.BytesIO(data), formats=formats_of(path)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"{path} has {image.width}x{image.height} pixels, more than {MAX_PIXELS:,}; make it smaller"
                )
            yield image
    except (DataError, MissingExtraError):
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{path} has more than {MAX_PIXELS:,} pixels; make it smaller") from error
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; check the path") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, …
        why = reason(path, data) if isinstance(error, UnidentifiedImageError) else ""
        if data is not None and isinstance(error, UnidentifiedImageError):  # whose words give an address in memory
            why = why or f"its bytes are none of {', '.join(FORMATS)}"
        if why:
            raise DataError(f"{path} cannot be read as an image: {why}") from error
        why = shortened(first_line(error), 200)
        raise DataError(f"{path} cannot be read as an image ({why}); replace or remove the file") from error


def read_image(path: str | Path, data: bytes | None = None) -> ImageArray:
    """Read a picture of any common kind as RGB, uint8 (H, W, 3), turned upright as its EXIF data says.

    Sixteen-bit greys are scaled to 8 bits by their type's range; transparency is dropped.

    Args:
        path: the file.
        data: all of it, where it was read already; `path` then only names it.

    Raises:
        DataError: the file is missing, unreadable, truncated, too large, or holds floats, whose range it does not say.
    """
    with open_image(Path(path), data) as image:
        return rgb_of(image, Path(path))


def decode_image(data: bytes | bytearray, most: int = MAX_PIXELS) -> ImageArray:
    """Decode a picture's bytes as :func:`read_image` does a file, of the formats that no suffix is needed for.

    Args:
        data: the whole file.
        most: pixels that it may have. Its size is known from its first bytes; of a larger one no pixel is decoded.

    Raises:
        TooLargeError: it has more pixels.
        DataError: it is unreadable, truncated, or holds floats, whose range it does not say.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > most:
                raise TooLargeError(f"the picture has {image.width}x{image.height} pixels, more than {most:,}")
            return rgb_of(image)
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise TooLargeError(f"the picture has more than {most:,} pixels") from error
    except UnidentifiedImageError as error:
        raise DataError(f"the bytes are no picture; send one as {', '.join(FORMATS)}") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, …
        why = shortened(first_line(error), 200)
        raise DataError(f"the picture cannot be read ({why}); send it whole") from error


def rgb_of(image: Image.Image, path: Path | None = None) -> ImageArray:
    """Return a picture of Pillow's as :func:`read_image` does; `path` is where it is from, for messages.

    Raises:
        DataError: it holds floats, whose range it does not say.
    """
    if image.mode == "F":
        named = f"image {path}" if path else "the image"
        raise DataError(f"{named} holds float greys of unknown range; save it with 8 or 16 bits")
    if image.getexif().get(_ORIENTATION, 1) != 1:  # of upright pictures, Pillow would make a copy
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        deep = np.asarray(image, np.int32)
        if 255 < (peak := int(deep.max())) < DARK:
            _warn_dark(path.parent if path else Path(), (1 << peak.bit_length()) - 1)
        grey = np.clip(deep >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def upright_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) of a picture as :func:`read_image` would, without decoding it."""
    with open_image(Path(path)) as image:
        turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)  # those that exchange the two
        return (image.width, image.height) if turned else (image.height, image.width)


Writer = Callable[[Path, Callable[[BinaryIO], object]], Path]
"""Writes a file: :func:`featherseg.core.files.write_atomically`, or what keeps a record of it too."""


@functools.cache
def _warn_dark(folder: Path, peak: int) -> None:
    """Say it once for each folder and depth, however many of its pictures are so."""
    logger.warning(
        f"16-bit pictures in {folder} reach {peak} at most, as data of {peak.bit_length()} bits do; the upper 8 of 16 "
        "bits are used, so that they come out nearly black: scale them to 8 bits first"
    )


def write_image(path: str | Path, image: ImageArray, writer: Writer = write_atomically) -> Path:
    """Write RGB uint8 (H, W, 3) in the format that the suffix names; JPEG at quality 92."""
    path = Path(path)
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in Image.SAVE:
        raise DataError(f"{path}: pictures cannot be written as {path.suffix!r}; use .png or .jpg")
    options = {"quality": 92} if kind == "JPEG" else {}
    content = _encoded(Image.fromarray(image), kind, **options)
    return writer(path, lambda file: file.write(content))


def write_mask(path: str | Path, mask: MaskArray, classes: ClassSet, writer: Writer = write_atomically) -> Path:
    """Write class ids, uint8 (H, W), as a palette PNG: ids for programs, colours for people."""
    picture = Image.fromarray(np.ascontiguousarray(mask))
    picture.putpalette(classes.palette().tobytes())
    content = _encoded(picture, "PNG")
    return writer(Path(path), lambda file: file.write(content))


def _encoded(picture: Image.Image, kind: str, **options: int) -> bytes:
    """Return a picture as the bytes of a file.

    Pillow's own writing to files takes a write that was cut short, as the last one before a disk is full, for a whole
    one: the end of the picture is lost without a word.
    """
    stream = io.BytesIO()
    picture.save(stream, format=kind, **options)
    return stream.getvalue()


def read_mask(path: str | Path) -> MaskFile:
    """Read a mask file's own values, and how they are stored.

    Raises:
        DataError: unreadable, floats, neither ids nor RGB, or saved as JPEG (in a TIFF, too), whose compression
            invents values along every border.
    """
    with open_image(Path(path)) as image:
        mask = mask_of(image)
    if mask.form == "JPEG":
        raise DataError(f"mask {path} is a JPEG, whose compression changes class ids; save masks as PNG")
    if mask.mode == "F":
        raise DataError(f"mask {path} holds floats; save class ids as whole numbers in a PNG")
    if mask.mode in ("LAB", "YCbCr", "HSV"):
        raise DataError(f"mask {path} has the colour model {mask.mode}; save class ids, or RGB, in a PNG")
    return mask


def read_ids(path: str | Path) -> NDArray[np.integer]:
    """Read a mask file's own values: (H, W) ids of an index, grey or palette file, or (H, W, 3) colours.

    Raises:
        DataError: as for :func:`read_mask`.
    """
    return read_mask(path).values
