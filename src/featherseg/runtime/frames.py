"""What counts as a picture: arrays, files and Pillow's pictures become RGB frames, and what is none is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..core.errors import ConfigError
from ..core.images import read_image, rgb_of
from ..core.types import ImageArray

Frame = ImageArray | str | Path | Image.Image
"""What :class:`Segmenter` takes for a picture: an array, a file, or a picture of Pillow's."""


def as_frame(frame: Frame) -> ImageArray:
    """Return a picture as an RGB frame, uint8 (H, W, 3): a file's, one of Pillow's, or a grey array.

    Raises:
        ConfigError: it is none of these.
        DataError: the file is missing or cannot be read.
    """
    if isinstance(frame, str | Path):
        return read_image(frame)
    if isinstance(frame, Image.Image):
        return rgb_of(frame)
    if isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.size:
        if frame.ndim == 2:
            return np.repeat(frame[..., None], 3, axis=2)
        if frame.ndim == 3 and frame.shape[2] == 1:
            return np.repeat(frame, 3, axis=2)
    check_frame(frame)
    return frame


def check_frame(frame: Any) -> None:
    """Refuse what is not an RGB frame, uint8 (H, W, 3), with the expression that makes it one.

    Raises:
        ConfigError: always one line.
    """
    if not isinstance(frame, np.ndarray):
        raise ConfigError(f"frame is a {type(frame).__name__}; give a NumPy array: np.asarray(frame)")
    shape = frame.shape
    what = f"frame is {frame.dtype} {shape}, not RGB uint8 (H, W, 3)"
    if 0 in shape:
        raise ConfigError(f"{what}; it has no pixels: check how it was read or cut")
    if frame.ndim == 2:
        raise ConfigError(f"{what}; turn grey into RGB: np.stack([frame] * 3, axis=-1)")
    if frame.ndim == 4:
        raise ConfigError(f"{what}; give one frame at a time: frame[0]")
    if frame.ndim != 3:
        raise ConfigError(f"{what}; give one image")
    if shape[2] == 1:
        raise ConfigError(f"{what}; turn grey into RGB: np.repeat(frame, 3, axis=2)")
    if shape[2] == 4:
        raise ConfigError(f"{what}; drop the alpha channel: frame[..., :3]")
    if shape[2] != 3 and shape[0] == 3:
        raise ConfigError(f"{what}; put the channels last: frame.transpose(1, 2, 0)")
    if shape[2] != 3:
        raise ConfigError(f"{what}; give three channels: red, green, blue")
    if frame.dtype.kind == "f":
        raise ConfigError(f"{what}; from [0, 1]: (frame * 255).round().astype(np.uint8)")
    if frame.dtype != np.uint8:
        raise ConfigError(f"{what}; scale it to 0-255 and convert: frame.astype(np.uint8)")


def common_size(frames: Sequence[ImageArray]) -> tuple[int, int]:
    """Check frames, and return the (height, width) that they share.

    Raises:
        ConfigError: there is none, one is of another type or shape, or they differ in size.
    """
    if not len(frames):
        raise ConfigError("there are no frames; give at least one")
    for i, frame in enumerate(frames):
        check_frame(frame)
        if frame.shape != frames[0].shape:
            raise ConfigError(
                f"frame {i} is {frame.shape}, but the first {frames[0].shape}; give frames of one size together"
            )
    return frames[0].shape[0], frames[0].shape[1]
