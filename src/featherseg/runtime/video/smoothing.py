"""Masks that flicker less: each frame's logits averaged with those of the frames before it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ConfigError
from ...core.types import ImageArray
from ..postprocess import upsample_argmax
from ..prediction import Prediction
from ..segmenter import Segmenter

SCENE_AGREEMENT = 0.5
"""Share of logits with the same winner below which a frame shows another scene; within one, nearly all agree."""


class Smoothed:
    """A segmenter for the frames of one video, in order, whose masks change with evidence rather than noise.

    A running average of the logits, exponential: ``average = share · average + (1 - share) · logits``. Logits, not
    masks, since a close call in one frame then weighs less than a clear one in the next; and at the network's stride,
    where there are a hundredth of the values. A frame that shows another scene begins a new average.

    Args:
        segmenter: the segmenter.
        share: what earlier frames have in the average, above 0 and below 1. At 0.5 a frame counts half as much as the
            one after it, and the masks lag by one frame; at `share` s by s / (1 - s).

    Raises:
        ConfigError: `share` is out of range.
    """

    def __init__(self, segmenter: Segmenter, share: float) -> None:
        if not 0 < share < 1:
            raise ConfigError(f"smoothing is {share}; give a share above 0 and below 1, such as 0.5")
        self.segmenter, self.share = segmenter, share
        self._average: NDArray[np.float32] | None = None

    @property
    def device(self) -> str:
        """Where and how it runs, for people."""
        return self.segmenter.device

    def planned(self, frame_size: tuple[int, int]) -> Smoothed:
        """Return one for frames of a (height, width); see :meth:`featherseg.runtime.segmenter.Segmenter.planned`."""
        return Smoothed(self.segmenter.planned(frame_size), self.share)

    def divided(self) -> Smoothed:
        """Return one for several threads at once; see :meth:`featherseg.runtime.segmenter.Segmenter.divided`."""
        return Smoothed(self.segmenter.divided(), self.share)

    @property
    def streams(self) -> int:
        """How many threads :meth:`begin` is best called from at once."""
        return self.segmenter.streams

    def __call__(self, frame: ImageArray) -> Prediction:
        """Segment the next frame, RGB uint8 (H, W, 3).

        Raises:
            ConfigError: the frame is of another type or shape, or the segmenter fits frames in a way that has no logits
                of the whole frame.
        """
        return self.finish(frame, self.begin(frame))

    def begin(self, frame: ImageArray) -> NDArray[np.float32]:
        """Return what :meth:`finish` needs of a frame; several threads may do so at once, in any order."""
        return self.segmenter.logits(frame)

    def finish(self, frame: ImageArray, logits: NDArray[np.float32]) -> Prediction:
        """Return the prediction of the next frame, from its logits."""
        before = self._average
        if before is not None and before.shape == logits.shape and _same_scene(before, logits):
            logits = np.float32(self.share) * before + np.float32(1 - self.share) * logits
        # An infinite logit would stay in the average for ever.
        self._average = logits if np.isfinite(logits).all() else None
        mask = upsample_argmax(logits, (frame.shape[0], frame.shape[1]))
        return Prediction(mask, self.segmenter.artifact.classes, frame)


def _same_scene(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Return whether two maps of logits (C, h, w) have the same winners nearly everywhere."""
    return float(np.mean(one.argmax(0) == other.argmax(0))) >= SCENE_AGREEMENT
