"""From a picture's bytes to what was asked for: a mask, an overlay, or figures and outlines."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..core.errors import DataError, FeathersegError, TooLargeError
from ..core.images import decode_image
from ..core.types import ImageArray
from ..runtime.prediction import Prediction
from .gate import Job
from .limits import Limits, Refusal
from .models import ServedModel

MASK, OVERLAY, JSON = "image/png", "image/jpeg", "application/json"
SCAN = b"\xff\xda"
"""How a scan of a JPEG begins; two bytes that its compressed pixels never have (ITU T.81, B.1.1.5)."""
QUALITY = 90
"""Of overlays, as JPEGs."""
SMALLEST_PART = 10_000
"""Pieces of a mask below this part of the picture are left out of the JSON, so that it has at most so many."""


@dataclass(frozen=True)
class Answer:
    """What goes back: bytes, and their media type."""

    content: bytes
    media_type: str


def segmented(data: bytes | bytearray, kind: str, model: ServedModel, limits: Limits, job: Job) -> Answer:
    """Decode a picture, segment it, and encode what was asked for.

    Args:
        data: the picture's file.
        kind: a key of `ENCODERS`.
        model: the network.
        limits: of pixels.
        job: whose stages are timed.

    Raises:
        Refusal: the picture is too large, or none.
        GoneError: nobody waits for it any more.
    """
    picture = decoded(data, limits)
    job.lap("decode")
    prediction = predicted(picture, model, job.alone, confidence=kind == JSON)
    job.lap("segment")
    answer = Answer(ENCODERS[kind](prediction), kind)
    job.lap("encode")
    return answer


def decoded(data: bytes | bytearray, limits: Limits) -> ImageArray:
    """Return a picture's pixels; of one that is too large none is decoded.

    Raises:
        Refusal: it is too large, or no whole picture.
    """
    if data.startswith(b"\xff\xd8") and (scans := data.count(SCAN)) > limits.scans:
        raise Refusal(422, f"the JPEG has {scans:,} scans, more than {limits.scans}; save it again")
    try:
        return decode_image(data, limits.pixels)
    except TooLargeError as error:
        raise Refusal(413, f"{error}; make it smaller, or start the server with --max-pixels") from error
    except DataError as error:
        raise Refusal(422, str(error)) from error


def predicted(picture: ImageArray, model: ServedModel, alone: bool, confidence: bool) -> Prediction:
    """Return what a network makes of a picture, and how sure that is if it is asked for.

    Raises:
        Refusal: it cannot segment pictures of this size.
    """
    segmenter = model.segmenter(alone)
    try:
        with model.using(segmenter):
            if confidence:
                return segmenter(picture)
            return Prediction(segmenter.segment(picture), model.classes, picture)
    except FeathersegError as error:
        raise Refusal(422, str(error)) from error


def mask_png(prediction: Prediction) -> bytes:
    """Return a mask as a palette PNG: ids for programs, colours for people.

    As :func:`featherseg.core.images.write_mask` writes it, in a third of the time: rows are stored as differences to
    the ones above, which in masks are mostly zeros, and zlib looks for runs alone.
    """
    height, width = prediction.mask.shape
    rows = np.empty((height, 1 + width), np.uint8)
    rows[:, 0] = 2  # filter "up"; PNG specification, section 9.2
    rows[0, 1:] = prediction.mask[0]
    np.subtract(prediction.mask[1:], prediction.mask[:-1], out=rows[1:, 1:])
    return palette_png(rows, width, prediction.classes.palette().tobytes())


def palette_png(rows: np.ndarray, width: int, palette: bytes) -> bytes:
    """Return a PNG of palette ids, whose filtered rows are uint8 (H, 1 + W)."""
    machine = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_RLE)
    body = machine.compress(rows.tobytes()) + machine.flush()
    head = len(rows).to_bytes(4, "big")
    chunks = (
        (b"IHDR", width.to_bytes(4, "big") + head + b"\x08\x03\x00\x00\x00"),  # 8 bits, palette
        (b"PLTE", palette),
        (b"IDAT", body),
        (b"IEND", b""),
    )
    parts = [
        len(data).to_bytes(4, "big") + name + data + zlib.crc32(data, zlib.crc32(name)).to_bytes(4, "big")
        for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def overlay_jpeg(prediction: Prediction) -> bytes:
    """Return the picture under its mask's colours, with a legend, as a JPEG."""
    stream = io.BytesIO()
    Image.fromarray(prediction.overlay()).save(stream, format="JPEG", quality=QUALITY)
    return stream.getvalue()


def figures(prediction: Prediction) -> bytes:
    """Return size, coverage, confidence, and the connected pieces with their outlines, as JSON."""
    smallest = max(prediction.mask.size // SMALLEST_PART, 1)
    return prediction.to_json(polygons=True, min_area=smallest, background=True).encode()


ENCODERS: dict[str, Callable[[Prediction], bytes]] = {MASK: mask_png, JSON: figures, OVERLAY: overlay_jpeg}
"""By media type, the one of requests that do not choose first."""


def wanted(accept: str) -> str:
    """Return the media type to answer with, by an ``Accept`` header.

    Raises:
        Refusal: it wants none that there is.
    """
    best, best_weight = "", 0.0
    for part in accept.split(",") if accept.strip() else ["*/*"]:
        pattern, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = _weight(parameters)
        found = next((kind for kind in ENCODERS if _fits(kind, pattern)), "")
        if found and weight > best_weight:
            best, best_weight = found, weight
    if not best:
        raise Refusal(406, f"Accept is {accept[:100]!r}; there are {MASK} (mask), {OVERLAY} (overlay) and {JSON}")
    return best


def _fits(kind: str, pattern: str) -> bool:
    return pattern in (kind, "*/*") or (pattern.endswith("/*") and kind.startswith(pattern[:-1]))


def _weight(parameters: list[str]) -> float:
    """Return the weight (RFC 9110, section 12.4.2) among the parameters of a media type."""
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return min(max(float(parameter[2:]), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
