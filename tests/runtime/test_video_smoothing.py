"""Smoothed masks: the running average as written down, and when it begins anew."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from featherseg.core.errors import ConfigError
from featherseg.core.types import ClassSet
from featherseg.evaluation.opening import STREET
from featherseg.runtime.segmenter import Segmenter
from featherseg.runtime.video.smoothing import Smoothed

CLASSES = ClassSet(("a", "b", "c"))
FRAME = np.zeros((16, 24, 3), np.uint8)


def segmenter(maps: list[np.ndarray]) -> Any:
    """Return what gives these logits one after the other."""
    left = iter(maps)
    return SimpleNamespace(
        logits=lambda frame: next(left), artifact=SimpleNamespace(classes=CLASSES), device="the device"
    )


def noisy(seed: int, noise: float) -> np.ndarray:
    """Logits at full size, so that masks are their arg max: class 0 above 1, with noise."""
    logits = np.zeros((3, 16, 24), np.float32)
    logits[0, :8] = logits[1, 8:] = 1
    return logits + np.random.default_rng(seed).normal(0, noise, logits.shape).astype(np.float32)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_masks_are_those_of_the_running_average(share: float) -> None:
    maps = [noisy(i, 0.5) for i in range(6)]
    smoothed = Smoothed(segmenter([m.copy() for m in maps]), share)
    average = maps[0].astype(np.float64)
    for i, logits in enumerate(maps):
        average = share * average + (1 - share) * logits if i else average
        prediction = smoothed(FRAME)
        np.testing.assert_array_equal(prediction.mask, average.argmax(0))
        assert prediction.classes is CLASSES
        assert prediction.image is FRAME
    assert smoothed.device == "the device"


def test_noise_flickers_less() -> None:
    maps = [noisy(i, 0.5) for i in range(20)]
    plain = [logits.argmax(0) for logits in maps]
    smoothed = Smoothed(segmenter(maps), 0.5)
    calm = [smoothed(FRAME).mask for _ in maps]

    def changes(masks: list[np.ndarray]) -> float:
        return float(np.mean([np.mean(a != b) for a, b in itertools.pairwise(masks)]))

    assert changes(calm) < 0.6 * changes(plain)


def test_another_scene_begins_anew() -> None:
    one, other = noisy(0, 0.0) * 10, noisy(0, 0.0)[:, ::-1]
    smoothed = Smoothed(segmenter([one, one, other]), 0.9)
    masks = [smoothed(FRAME).mask for _ in range(3)]
    np.testing.assert_array_equal(masks[1], one.argmax(0))
    np.testing.assert_array_equal(masks[2], other.argmax(0))


def test_another_size_begins_anew() -> None:
    smoothed = Smoothed(segmenter([noisy(0, 0.1), noisy(1, 0.1)[:, :8, :12]]), 0.9)
    smoothed(FRAME)
    small = FRAME[:8, :12]
    np.testing.assert_array_equal(smoothed(small).mask, noisy(1, 0.1)[:, :8, :12].argmax(0))


def test_an_infinite_logit_does_not_stay() -> None:
    broken = noisy(0, 0.0)
    broken[2, 3, 4] = np.inf
    smoothed = Smoothed(segmenter([noisy(0, 0.0), broken, noisy(1, 0.1)]), 0.9)
    assert smoothed(FRAME).mask[3, 4] == 0
    smoothed(FRAME)
    np.testing.assert_array_equal(smoothed(FRAME).mask, noisy(1, 0.1).argmax(0))


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_refuses_other_shares(share: float) -> None:
    with pytest.raises(ConfigError, match="smoothing is"):
        Smoothed(segmenter([]), share)


def test_frames_that_stay_the_same_keep_a_real_networks_mask() -> None:
    plain = Segmenter(STREET, threads=1)
    frame = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    smoothed = Smoothed(plain, 0.5)
    for _ in range(2):
        np.testing.assert_array_equal(smoothed(frame).mask, plain.segment(frame))
