"""A frame in, a mask at the frame's own size out: the whole deployed path round a session."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError
from ..core.types import ClassSet, ImageArray, Latency, MaskArray
from .artifact import Artifact
from .confidence import Temperature, scales_of, upsample_confidence
from .draw import overlay
from .fitting import Fit, Piece, at_least_smallest, check_fit, pieces, whole_cells
from .frames import Frame, as_frame, common_size
from .postprocess import kernels, upsample_argmax
from .prediction import Parts, Prediction
from .sessions.base import Session, open_session
from .sessions.weights import is_network, is_weights, open_weights

MAX_SCALE = 16.0
"""More than any network is worth being shown."""


class Segmenter:
    """Segments frames of any size with an exported file or an open session.

    Any number of threads may use one at once whose session is ``thread_safe``: ONNX Runtime's and OpenVINO's are.

    Args:
        source: the path of an exported file, of a run folder or of weights; an open session; or a network in memory, of
            another library too (see :func:`featherseg.wrap`). All but exported files need torch.
        size: (height, width) for the network; by default what it was made for: the one size that the file takes, else
            the frame's own, or with the long side that the file asks for. The mask always has the frame's own size.
        fit: how frames come to `size`. ``"stretch"``, the default: resized to it, their shape not kept.
            ``"letterbox"``: resized to fit into it with their shape kept, the rest padded. ``"tile"``: cut into
            overlapping tiles of it, for large frames; memory beyond the mask does not grow with them, but the network
            sees no more than a tile at once.
        scale: where there is no `size`: how much larger or smaller than usual the network sees frames. It then sees
            whole multiples of 8 pixels, which its logits cover just so.
        backend: which engine opens a path; see :func:`featherseg.runtime.sessions.base.open_session`.
        threads: threads of that engine; all that the process may use where not given.
        classes: of a network in memory, which does not say what its logits mean; ``class_0``, … where left out.
        confidence: whether predictions say how sure they are; see :attr:`Prediction.confidence`. They then keep the
            logits, too.
        temperature: what logits are divided by for that, one for all or one for each class that can win; by default
            what was fitted when the file was exported, or else 1.

    Raises:
        ConfigError: `size`, `fit`, `backend` or `threads` is out of range, or the latter two come with an open session;
            `fit` has no size to go by, or tiles of that size do not go with the network's stride.
        ArtifactError, CheckpointError: the file cannot be used.
        MissingExtraError: weights need torch, which the base install leaves out.

    Example:
        >>> segmenter = featherseg.Segmenter("street.onnx")
        >>> segmenter(np.zeros((64, 96, 3), np.uint8)).mask.shape
        (64, 96)
        >>> [prediction.mask.shape for prediction in segmenter(["photos/images/s0.png", "photos/images/s1.png"])]
        [(64, 96), (64, 96)]
    """

    def __init__(
        self,
        source: Session | str | Path | Any,
        *,
        size: tuple[int, int] | None = None,
        fit: Fit | None = None,
        scale: float = 1.0,
        backend: str = "auto",
        threads: int | None = None,
        classes: ClassSet | None = None,
        confidence: bool = False,
        temperature: Temperature | None = None,
    ) -> None:
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise ConfigError(f"size is {size}; give (height, width) of at least 1 pixel each")
        if not 0 < scale <= MAX_SCALE or (size is not None and scale != 1):
            raise ConfigError(
                f"scale is {scale} and size {size}; give one of them, scales over 0 and up to {MAX_SCALE:g}"
            )
        options = {} if threads is None else {"threads": threads}
        if classes is not None and not is_network(source):
            raise ConfigError("classes are of a network in memory; files and sessions have their own, so leave it out")
        if is_network(source):
            self.session = open_weights(source, classes=classes, backend=backend, threads=threads)
        elif isinstance(source, str | Path) and is_weights(source):
            self.session = open_weights(source, backend=backend, threads=threads)
        elif isinstance(source, str | Path):
            self.session = open_session(source, backend, **options)
        elif backend != "auto" or threads is not None:
            raise ConfigError(
                f"backend is {backend!r} and threads {threads}, but the session is open already; set them where it is"
            )
        elif not isinstance(source, Session):
            raise ConfigError(
                f"source is a {type(source).__name__}; give the path of a file or run folder, an open "
                "session, or a network"
            )
        else:
            self.session = source
        self._fixed = self.session.size is not None
        if self._fixed and scale != 1:
            raise ConfigError(f"scale is {scale}, but the file takes images of one size alone; leave it out")
        self.scale = scale
        self.size = size if size is not None else self.session.size
        self.fit = check_fit(fit, self.size, self.artifact.stride)
        self.confidence = confidence
        self.temperature: Temperature = self.artifact.temperature if temperature is None else temperature
        scales_of(self.temperature, len(self.artifact.classes))
        self._plan: tuple[tuple[int, int], Session] | None = None
        if self.size is not None:
            self._plan = self._planned_session(self.size)

    def planned(self, frame_size: tuple[int, int]) -> Segmenter:
        """Return a segmenter that is quicker for frames of one size, where the engine can plan ahead, as OpenVINO can.

        Masks are the same up to the engine's rounding. Frames of other sizes are taken as before.

        Args:
            frame_size: (height, width) of the frames.

        Raises:
            ArtifactError: the file cannot be used with frames of this size.
        """
        canvases = Counter(piece.canvas for piece in self._pieces(frame_size))
        other = copy.copy(self)
        other._plan = self._planned_session(canvases.most_common(1)[0][0])
        return other

    def divided(self, count: int | None = None) -> Segmenter:
        """Return a segmenter for several threads at once: each has a frame of its own, where the engine can do that.

        Masks are the same, and there are more of them a second; each comes later. :attr:`streams` says how many threads
        it is for. It is this one itself where there is nothing to divide.

        Args:
            count: frames at once, at most; four where left out.

        Raises:
            ArtifactError: the file has gone in the meantime.
        """
        session = self.session.divided(count)
        if session is self.session:
            return self
        other = copy.copy(self)
        other.session, other._plan = session, None
        if self._plan is not None:
            other._plan = other._planned_session(self._plan[0])
        return other

    def seen(self, frame_size: tuple[int, int]) -> tuple[int, int]:
        """Return the (height, width) at which the network sees frames of a (height, width), or tiles of them."""
        return self._pieces(frame_size)[0].canvas

    @property
    def streams(self) -> int:
        """How many threads it is best called from at once."""
        return self.session.streams

    def surely(self, temperature: Temperature | None = None) -> Segmenter:
        """Return the same segmenter with predictions that say how sure they are, at a temperature of its own."""
        other = copy.copy(self)
        other.confidence = True
        other.temperature = self.temperature if temperature is None else temperature
        return other

    @property
    def artifact(self) -> Artifact:
        """What the network says of itself."""
        return self.session.artifact

    @property
    def device(self) -> str:
        """Where and how it runs, for people."""
        return self.session.device

    @overload
    def __call__(self, frame: Frame) -> Prediction: ...

    @overload
    def __call__(self, frame: list[Frame] | tuple[Frame, ...]) -> list[Prediction]: ...

    def __call__(self, frame: Frame | list[Frame] | tuple[Frame, ...]) -> Prediction | list[Prediction]:
        """Segment a picture, or each of several, which may differ in size.

        Args:
            frame: RGB, uint8 (H, W, 3), or grey, uint8 (H, W) or (H, W, 1); a file; or a picture of Pillow's. Of
                several a list or tuple.

        Returns:
            the prediction, or a list of them.

        Raises:
            ConfigError: the frame is of another type or shape; the message says how to turn it.
            DataError: the file is missing or cannot be read.
        """
        if isinstance(frame, list | tuple):
            return [self(each) for each in frame]
        picture = as_frame(frame)
        return self.predict_batch([picture])[0]

    def segment(self, frame: ImageArray) -> MaskArray:
        """Return only the mask, uint8 (H, W), of an RGB frame, uint8 (H, W, 3)."""
        mask: MaskArray = self.segment_batch([frame])[0]
        return mask

    def segment_batch(self, frames: Sequence[ImageArray]) -> MaskArray:
        """Return the masks, uint8 (B, H, W), of RGB frames of one size, uint8 (H, W, 3) each.

        They go through the network together; so do their tiles of one place.

        Raises:
            ConfigError: there is no frame, one is of another type or shape, or they differ in size.
        """
        return self._segment(frames, lambda stage: None)

    def predict_batch(self, frames: Sequence[ImageArray]) -> list[Prediction]:
        """Return the predictions of RGB frames of one size, uint8 (H, W, 3) each.

        They go through the network together, as for :meth:`segment_batch`.

        Raises:
            ConfigError: as :meth:`segment_batch`.
        """
        classes = self.artifact.classes
        if not self.confidence:
            masks = self.segment_batch(frames)
            return [Prediction(mask, classes, frame) for mask, frame in zip(masks, frames, strict=True)]
        sure = _Sure(self.temperature, (len(frames), *common_size(frames)))
        masks = self._segment(frames, lambda stage: None, sure)
        return [
            Prediction(mask, classes, frame, confidence, Parts(tuple(parts), self.temperature))
            for mask, frame, confidence, parts in zip(masks, frames, sure.confidence, sure.parts, strict=True)
        ]

    def explained(self, frame: ImageArray) -> tuple[MaskArray, Parts]:
        """Return the mask, uint8 (H, W), of an RGB frame, uint8 (H, W, 3), and the logits that it came from."""
        kept = _Kept([[]])
        (mask,) = self._segment([frame], lambda stage: None, kept)
        return mask, Parts(tuple(kept.parts[0]), self.temperature)

    def logits(self, frame: ImageArray, scale: float = 1.0) -> NDArray[np.float32]:
        """Return the logits of an RGB frame, uint8 (H, W, 3), at the network's stride, float32 (C, h, w).

        Args:
            frame: what is segmented.
            scale: how much larger than usual the network shall see it; of no effect where there is a `size`.

        Raises:
            ConfigError: the frame is of another type or shape, or is fitted in a way that no whole logits cover.
        """
        if self.fit not in (None, "stretch"):
            raise ConfigError(f"fit is {self.fit!r}, whose logits do not cover just the frame; use stretch")
        (piece,) = self._pieces(common_size([frame]), scale)
        logits = self._run(piece.network_input([frame]))
        rows, columns = piece.extent((logits.shape[2], logits.shape[3]))
        return logits[0, :, : int(rows), : int(columns)]

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
        kernels(None)  # else the first of an installation would be timed without
        rows: list[dict[str, float]] = []
        for _ in range(warmup + runs):
            times = dict.fromkeys(("pre", "net", "post", *["draw"] * draw), 0.0)
            lap = _stopwatch(times)
            (mask,) = self._segment([frame], lap)
            if draw:
                overlay(frame, mask, self.artifact.classes, legend=True)
                lap("draw")
            rows.append(times)
        pieces = self._pieces((frame.shape[0], frame.shape[1]))
        sizes = f"frame {frame.shape[0]}x{frame.shape[1]}, network {pieces[0].canvas[0]}x{pieces[0].canvas[1]}"
        way = {"letterbox": ", letterbox", "tile": f", {len(pieces)} tiles"}.get(self.fit or "", "")
        stages = {stage: tuple(times[stage] for times in rows[warmup:]) for stage in rows[0]}
        return Latency(stages, warmup, f"{self.session.device}; {sizes}{way}")

    def _planned_session(self, canvas: tuple[int, int]) -> tuple[tuple[int, int], Session] | None:
        """Return the size and the session for network inputs of one size; None where there is nothing to plan."""
        canvas = at_least_smallest(canvas)
        if self._plan is not None and self._plan[0] == canvas:
            return self._plan
        planned = self.session if self._fixed else self.session.planned(canvas)
        return None if planned is self.session else (canvas, planned)

    def _run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits (B, C, h, w) of images, uint8 (B, H, W, 3), by the plan for their size where there is one."""
        if self._plan is not None and self._plan[0] == images.shape[1:3]:
            return self._plan[1].run(images)
        return self.session.run(images)

    def _pieces(self, frame_size: tuple[int, int], scale: float = 1.0) -> list[Piece]:
        """Return what of frames of a size goes through the network at once."""
        spec = self.artifact.input_spec
        natural = spec.size(frame_size, scale * self.scale)
        red, green, blue = (min(max(round(255 * part), 0), 255) for part in spec.mean)
        return pieces(
            frame_size,
            self.size,
            self.fit,
            natural=natural if self.scale == 1 else whole_cells(natural),
            stride=self.artifact.stride,
            color=(red, green, blue),
            fixed=self._fixed,
        )

    def _segment(
        self, frames: Sequence[ImageArray], lap: Callable[[str], None], kept: _Kept | None = None
    ) -> MaskArray:
        """Do what :meth:`segment_batch` says, and call `lap` with the name of each stage when it ends.

        Args:
            frames: see there.
            lap: called with ``pre``, ``net`` and ``post`` for each piece.
            kept: takes logits and confidence, if they are asked for.
        """
        parts = self._pieces(common_size(frames))
        masks: MaskArray = np.empty((len(frames), *frames[0].shape[:2]), np.uint8)
        for piece in parts:
            images = piece.network_input(frames)
            lap("pre")
            logits = self._run(images)
            lap("net")
            extent = piece.extent((logits.shape[2], logits.shape[3]))
            for i, each in enumerate(logits):
                if isinstance(kept, _Sure):
                    found, confidence = upsample_confidence(
                        each, piece.seen, temperature=kept.temperature, extent=extent
                    )
                    kept.confidence[i][piece.kept] = confidence[piece.inner()]
                else:
                    found = upsample_argmax(each, piece.seen, extent=extent)
                if kept is not None:
                    kept.parts[i].append((piece, each))
                masks[i][piece.kept] = found[piece.inner()]
            lap("post")
        return masks


class _Kept:
    """Room for what the masks of a batch came from: each frame's pieces and their logits."""

    def __init__(self, parts: list[list[tuple[Piece, NDArray[np.float32]]]]) -> None:
        self.parts = parts


class _Sure(_Kept):
    """Room for how sure the masks of a batch are, too.

    Args:
        temperature: see :mod:`.confidence`.
        shape: (frames, height, width).
    """

    def __init__(self, temperature: Temperature, shape: tuple[int, int, int]) -> None:
        super().__init__([[] for _ in range(shape[0])])
        self.temperature = temperature
        self.confidence = np.empty(shape, np.float32)


def _stopwatch(times: dict[str, float]) -> Callable[[str], None]:
    """Return what adds the ms since it was last called, at first since now, to the stage it is called with."""
    last = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal last
        now = time.perf_counter()
        times[stage] += (now - last) * 1000
        last = now

    return lap
