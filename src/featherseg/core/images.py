"""Reading and writing pictures: RGB in, whole files or nothing out."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from .errors import DataError, first_line
from .files import write_atomically
from .mask_files import MaskFile, mask_of
from .text_files import shortened
from .types import ClassSet, ImageArray, MaskArray

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm"})
FORMATS = ("PNG", "JPEG", "BMP", "PPM", "GIF", "TIFF", "WEBP")
"""What is decoded, whatever a file is called. Pillow reads forty more; for one of them, EPS, it runs Ghostscript."""
MAX_PIXELS = 178_956_970
"""Largest picture that is decoded: more than a 150-megapixel camera's, and what Pillow takes for a bomb above."""

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
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"{path} has {image.width}x{image.height} pixels, more than {MAX_PIXELS:,}; make it smaller"
                )
            yield image
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{path} has more than {MAX_PIXELS:,} pixels; make it smaller") from error
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; check the path") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, …
        reason = shortened(first_line(error), 200)
        raise DataError(f"{path} cannot be read as an image ({reason}); replace or remove the file") from error


def read_image(path: str | Path) -> ImageArray:
    """Read a picture of any common kind as RGB, uint8 (H, W, 3), turned upright as its EXIF data says.

    Sixteen-bit greys are scaled to 8 bits by their type's range; transparency is dropped.

    Raises:
        DataError: the file is missing, unreadable, truncated, too large, or holds floats, whose range it does not say.
    """
    with open_image(Path(path)) as image:
        if image.mode == "F":
            raise DataError(f"image {path} holds float greys of unknown range; save it with 8 or 16 bits")
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode.startswith("I"):
            grey = np.clip(np.asarray(image, np.int32) >> 8, 0, 255).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=2)
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))


Writer = Callable[[Path, Callable[[BinaryIO], object]], Path]
"""Writes a file: :func:`featherseg.core.files.write_atomically`, or what keeps a record of it too."""


def upright_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) of a picture as :func:`read_image` would, without decoding it."""
    with open_image(Path(path)) as image:
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # EXIF's orientations that exchange the two
        return (image.width, image.height) if turned else (image.height, image.width)


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
