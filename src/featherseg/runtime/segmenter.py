"""A frame in, a mask at the frame's own size out: the whole deployed path round a session."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..images import write_mask
from ..types import MIN_SIZE, ClassSet, ImageArray, Latency, MaskArray
from .artifact import Artifact
from .draw import colorize, overlay
from .postprocess import upsample_argmax
from .sessions import Session, open_session


@dataclass(frozen=True, eq=False)
class Prediction:
    """The classes of a frame's pixels.

    Args:
        mask: class ids, uint8 (H, W), at the frame's own size.
        classes: what the ids stand for.
        image: the frame itself, not a copy: a buffer that is filled again changes it here too.
    """

    mask: MaskArray
    classes: ClassSet
    image: ImageArray

    def overlay(self, frame: ImageArray | None = None, alpha: float = 0.6, legend: bool = True) -> ImageArray:
        """Return the mask's colours over `frame` (by default the segmented one), RGB uint8 (H, W, 3).

        Args:
            frame: RGB uint8 image of the mask's size.
            alpha: share of the colours, 0–1.
            legend: whether to name the classes in a corner.
        """
        return overlay(self.image if frame is None else frame, self.mask, self.classes, alpha=alpha, legend=legend)

    def colors(self) -> ImageArray:
        """Return the mask in its classes' colours, RGB uint8 (H, W, 3)."""
        return colorize(self.mask, self.classes)

    def coverage(self) -> dict[str, float]:
        """Return each class's share of the pixels, 0–1, by name."""
        counts = np.bincount(self.mask.ravel(), minlength=len(self.classes))
        return {name: float(counts[i] / self.mask.size) for i, name in enumerate(self.classes.names)}

    def save(self, path: str | Path) -> Path:
        """Write the mask as a palette PNG: class ids as values, class colours for the eye; whole or not at all.

        Raises:
            ConfigError: `path` does not end in ``.png``, the one format here that keeps ids as they are.
        """
        path = Path(path)
        if path.suffix.lower() != ".png":
            raise ConfigError(f"{path}: other formats can change class ids; save the mask as a .png")
        return write_mask(path, self.mask, self.classes)


class Segmenter:
    """Segments frames of any size with an exported file or an open session.

    Args:
        source: an open session, or the path of an exported file.
        size: (height, width) that frames are resized to for the network, their shape not kept; by default they
            go in as they are, or in the one size that the file takes. The mask always has the frame's own size.
        backend: which engine opens a path; see :func:`featherseg.runtime.sessions.open_session`.
        threads: threads of that engine; all that the process may use where not given.

    Raises:
        ConfigError: `size`, `backend` or `threads` is out of range, or the latter two come with an open session.
        ArtifactError: the file cannot be used.
    """

    def __init__(
        self,
        source: Session | str | Path,
        *,
        size: tuple[int, int] | None = None,
        backend: str = "auto",
        threads: int | None = None,
    ) -> None:
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise ConfigError(f"size is {size}; give (height, width) of at least 1 pixel each")
        if isinstance(source, str | Path):
            options = {} if threads is None else {"threads": threads}
            self.session = open_session(source, backend, **options)
        elif backend != "auto" or threads is not None:
            raise ConfigError(
                f"backend is {backend!r} and threads {threads}, but the session is open already; set them where it is"
            )
        elif not isinstance(source, Session):
            raise ConfigError(f"source is a {type(source).__name__}; give an open session or the path of a file")
        else:
            self.session = source
        self.size = size if size is not None else getattr(self.session, "size", None)

    @property
    def artifact(self) -> Artifact:
        """What the network says of itself."""
        return self.session.artifact

    def __call__(self, frame: ImageArray) -> Prediction:
        """Segment an RGB frame, uint8 (H, W, 3).

        Raises:
            ConfigError: the frame is of another type or shape; the message says how to turn it.
        """
        return Prediction(self.segment(frame), self.artifact.classes, frame)

    def segment(self, frame: ImageArray) -> MaskArray:
        """Return only the mask, uint8 (H, W), of an RGB frame, uint8 (H, W, 3)."""
        return upsample_argmax(self.logits(frame), (frame.shape[0], frame.shape[1]))

    def logits(self, frame: ImageArray) -> NDArray[np.float32]:
        """Return the logits of an RGB frame, uint8 (H, W, 3), at the network's stride, float32 (C, h, w)."""
        images, size = self._prepare(frame)
        return self._infer(images, size)

    def latency(self, frame: ImageArray, runs: int = 30, warmup: int = 5, draw: bool = False) -> Latency:
        """Time the stages on one frame: ``pre``, ``net``, ``post`` and, if asked for, ``draw`` (the overlay).

        Args:
            frame: RGB uint8 (H, W, 3).
            runs: measured runs.
            warmup: runs before them that are not counted.
            draw: whether to time the overlay, with its legend, as well.
        """
        if runs < 1 or warmup < 0:
            raise ConfigError(f"runs is {runs} and warmup {warmup}; measure at least 1 run after 0 or more")
        stages: dict[str, list[float]] = {stage: [] for stage in ("pre", "net", "post", *["draw"] * draw)}
        for i in range(warmup + runs):
            marks = [time.perf_counter()]
            images, size = self._prepare(frame)
            marks.append(time.perf_counter())
            logits = self._infer(images, size)
            marks.append(time.perf_counter())
            mask = upsample_argmax(logits, (frame.shape[0], frame.shape[1]))
            marks.append(time.perf_counter())
            if draw:
                overlay(frame, mask, self.artifact.classes, legend=True)
                marks.append(time.perf_counter())
            if i >= warmup:
                for times, start, end in zip(stages.values(), marks[:-1], marks[1:], strict=True):
                    times.append((end - start) * 1000)
        sizes = f"frame {frame.shape[0]}x{frame.shape[1]}, network {images.shape[1]}x{images.shape[2]}"
        device = f"{self.session.device}; {sizes}"
        return Latency({stage: tuple(times) for stage, times in stages.items()}, warmup, device)

    def _prepare(self, frame: ImageArray) -> tuple[NDArray[np.uint8], tuple[int, int]]:
        """Return the network's input (1, H, W, 3) and the (height, width) of it that the frame fills."""
        check_frame(frame)
        if self.size is not None:
            frame = resized(frame, self.size)
        height, width = frame.shape[:2]
        short_h, short_w = max(MIN_SIZE - height, 0), max(MIN_SIZE - width, 0)
        if short_h or short_w:
            frame = np.pad(frame, ((0, short_h), (0, short_w), (0, 0)), mode="edge")
        return np.ascontiguousarray(frame)[None], (height, width)

    def _infer(self, images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
        """Run the network and cut off the padding's logits, rounding up as ``SegmentationModel.outputs`` does."""
        logits = self.session.run(images)
        rows, columns = (-(-size[i] * logits.shape[2 + i] // images.shape[1 + i]) for i in (0, 1))
        return logits[0, :, :rows, :columns]


def resized(frame: ImageArray, size: tuple[int, int]) -> ImageArray:
    """Return an RGB frame (H, W, 3) as the network gets it at another (height, width), its shape not kept."""
    height, width = frame.shape[:2]
    if size == (height, width):
        return frame
    method = cv2.INTER_AREA if size[0] <= height and size[1] <= width else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(frame), size[::-1], interpolation=method), np.uint8)


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
