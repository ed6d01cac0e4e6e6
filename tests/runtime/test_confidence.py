"""Confidence against torch's softmax of upsampled logits, for all that can be odd about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from featherseg.core.errors import ConfigError
from featherseg.runtime import confidence as confidence_module
from featherseg.runtime.confidence import upsample_confidence, upsample_probabilities
from featherseg.runtime.postprocess import CONFIDENCE_KERNELS, _axis, kernels, upsample_argmax

Maps = NDArray[np.float32]
KINDS = ("noise", "regions", "ties", "constant", "checkerboard", "cliffs", "ulps", "subnormal")


@pytest.fixture(autouse=True, scope="module")
def _compiled() -> None:
    """Else the first tests of a fresh clone would be of NumPy's figures."""
    assert kernels(None) is not None
    assert kernels(None, CONFIDENCE_KERNELS) is not None


def random_logits(rng: np.random.Generator, kind: str, shape: tuple[int, int, int]) -> Maps:
    classes, height, width = shape
    logits: NDArray[Any]
    if kind == "noise":
        logits = rng.normal(size=shape) * 10.0 ** rng.integers(-3, 7)
    elif kind == "regions":
        coarse = torch.from_numpy(rng.normal(size=(1, classes, 3, 3)) * 9)
        logits = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")[0].numpy()
    elif kind == "ties":
        logits = rng.integers(-1, 2, shape)
    elif kind == "constant":
        logits = np.broadcast_to(rng.integers(0, 2, (classes, 1, 1)) * 30, shape)
    elif kind == "checkerboard":
        board = np.indices((height, width)).sum(0) % 2
        logits = np.stack([np.where(board == k % 2, 1.0 + k // 2 % 2, -1.0) * 12 for k in range(classes)])
    elif kind == "cliffs":  # the best of each corner is hopeless at the next
        logits = np.where(rng.integers(0, classes, (1, height, width)) == np.arange(classes)[:, None, None], 0, -1e4)
        logits = logits * 10.0 ** rng.integers(-3, 3) + 1e5 * rng.normal()
    elif kind == "ulps":
        start = np.float32(rng.normal() * 100)
        logits = start + np.spacing(start) * rng.integers(-3, 4, shape)
    else:
        logits = rng.normal(size=(1, height, width)) * 1e-42 * rng.integers(0, 3, shape)
    return np.ascontiguousarray(np.broadcast_to(logits, shape), np.float32)


def cases(count: int, seed: int = 0) -> Iterator[tuple[Maps, tuple[int, int]]]:
    rng = np.random.default_rng(seed)
    for i in range(count):
        height, width = (int(rng.choice([1, 2, 3, 7, 16, 24, 40])) for _ in range(2))
        classes = int(rng.choice([2, 3, 5, 19, 40, 255], p=[0.2, 0.2, 0.2, 0.3, 0.08, 0.02]))
        scales = rng.choice([0.3, 0.5, 1.0, 1.37, 2.0, 4.0, 7.9, 8.0, 33.0], 2)
        logits = random_logits(rng, KINDS[i % len(KINDS)], (classes, height, width))
        yield logits, (max(1, round(height * scales[0])), max(1, round(width * scales[1])))


def exact(logits: Maps, size: tuple[int, int], temperature: Any = 1.0) -> NDArray[np.float64]:
    """The oracle: every class at every pixel in double precision (C, H, W), at the positions that torch has."""
    (top, down), (left, right) = (_axis(s, t) for s, t in zip(logits.shape[1:], size, strict=True))
    below, after = np.minimum(top + 1, logits.shape[1] - 1), np.minimum(left + 1, logits.shape[2] - 1)
    maps = logits.astype(np.float64)
    wide = maps[:, :, left] * (1.0 - right) + maps[:, :, after] * right.astype(np.float64)
    values = wide[:, top] * (1.0 - down[:, None]) + wide[:, below] * down[:, None].astype(np.float64)
    shares = np.exp((values - values.max(0)) / temperature)
    return np.asarray(shares / shares.sum(0))


def allowance(logits: Maps) -> float:
    """What rounding of interpolated logits makes of a probability, at most: a few units in their last place."""
    return 1e-6 + 4 * 2.0**-23 * float(np.ptp(logits.astype(np.float64), axis=0).max(initial=0))


def test_is_the_softmax_of_upsampled_logits() -> None:
    for logits, size in cases(2400):
        mask, confidence = upsample_confidence(logits, size)
        np.testing.assert_array_equal(mask, upsample_argmax(logits, size))
        assert confidence.dtype == np.float32
        assert confidence.shape == size
        expected = exact(logits, size).max(0)
        assert np.abs(confidence - expected).max() <= allowance(logits)
        assert confidence.min() > 0
        assert confidence.max() <= 1


def test_agrees_with_torch() -> None:
    """In torch's own float32, whose rounding depends on the logits' size and not on their differences."""
    for logits, size in cases(600, seed=1):
        maps = torch.from_numpy(logits)[None]
        full = torch.nn.functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)
        expected = full.softmax(1).amax(1)[0].numpy()
        _, confidence = upsample_confidence(logits, size)
        assert np.abs(confidence - expected).max() <= 2e-6 + 8 * 2.0**-23 * float(np.abs(logits).max())


def test_confident_regions_are_exact_to_the_last_digits() -> None:
    """Where classes are left out, what they would have added is below a unit in the last place."""
    rng = np.random.default_rng(5)
    coarse = rng.normal(size=(1, 19, 4, 8)) * 40
    logits = (
        torch.nn.functional.interpolate(torch.from_numpy(coarse), size=(32, 64), mode="bilinear")[0].float().numpy()
    )
    _, confidence = upsample_confidence(logits, (256, 512))
    assert (confidence == 1).mean() > 0.2
    assert np.abs(confidence - exact(logits, (256, 512)).max(0)).max() < 1e-5


@pytest.mark.parametrize("classes", [2, 19])
def test_one_temperature_for_each_class_that_wins(classes: int) -> None:
    for i, (logits, size) in enumerate(cases(300, seed=2)):
        rng = np.random.default_rng(i)
        logits = np.ascontiguousarray(np.resize(logits, (classes, *logits.shape[1:])))
        temperature = rng.uniform(0.3, 4, classes)
        mask, confidence = upsample_confidence(logits, size, temperature=temperature.tolist())
        np.testing.assert_array_equal(mask, upsample_argmax(logits, size))
        shares = exact(logits, size, temperature[mask])
        # Where classes tie, either may be the one whose temperature counts.
        near = np.partition(shares, -2, axis=0)[-2] > shares.max(0) * 0.999
        assert np.abs(confidence - shares.max(0))[~near].max(initial=0) <= 4 * allowance(logits)


def test_numpy_gives_the_same_as_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    for logits, size in cases(400, seed=3):
        temperature: float | Sequence[float] = 1.7 if len(logits) % 2 else np.linspace(0.5, 2, len(logits)).tolist()
        mask, fast = upsample_confidence(logits, size, temperature=temperature)
        with monkeypatch.context() as patch:
            patch.setattr(confidence_module, "kernels", lambda **_: None)
            same, slow = upsample_confidence(logits, size, temperature=temperature)
        np.testing.assert_array_equal(mask, same)
        assert np.abs(fast - slow).max() <= 4 * allowance(logits)


def test_probabilities_are_of_all_classes() -> None:
    for logits, size in cases(300, seed=4):
        shares = upsample_probabilities(logits, size)
        assert shares.dtype == np.float32
        assert np.abs(shares - exact(logits, size)).max() <= allowance(logits)
        mask, confidence = upsample_confidence(logits, size)
        assert np.abs(shares.max(0) - confidence).max() <= 4 * allowance(logits)
        assert np.abs(shares.sum(0) - 1).max() < 1e-5
        assert np.take_along_axis(shares, mask[None].astype(np.int64), 0).min() > 0


def test_probabilities_with_temperatures_by_class() -> None:
    logits = np.random.default_rng(0).normal(size=(4, 9, 7)).astype(np.float32) * 5
    temperature = [0.5, 1.0, 2.0, 4.0]
    mask, confidence = upsample_confidence(logits, (50, 41), temperature=temperature)
    shares = upsample_probabilities(logits, (50, 41), temperature=temperature)
    np.testing.assert_array_equal(shares.argmax(0), mask)
    np.testing.assert_allclose(shares.max(0), confidence, atol=1e-6)


def test_extent_and_threads() -> None:
    rng = np.random.default_rng(6)
    for logits, _ in cases(60, seed=6):
        extent = (logits.shape[1] * (1 - rng.random()), logits.shape[2] * (1 - rng.random()))
        size = int(rng.integers(1, 90)), int(rng.integers(1, 90))
        mask, confidence = upsample_confidence(logits, size, extent=extent)
        np.testing.assert_array_equal(mask, upsample_argmax(logits, size, extent=extent))
        _, other = upsample_confidence(logits, size, extent=extent, threads=3)
        np.testing.assert_array_equal(confidence, other)
        shares = upsample_probabilities(logits, size, extent=extent)
        assert np.abs(shares.max(0) - confidence).max() <= 4 * allowance(logits)


def test_half_precision_and_channels_last() -> None:
    logits = np.random.default_rng(0).normal(size=(5, 8, 9)).astype(np.float16)
    _, expected = upsample_confidence(logits.astype(np.float32), (30, 40))
    _, half = upsample_confidence(logits, (30, 40))
    _, last = upsample_confidence(logits.transpose(1, 2, 0), (30, 40), layout="hwc")
    np.testing.assert_array_equal(half, expected)
    np.testing.assert_array_equal(last, expected)


def test_what_is_not_finite_is_harmless() -> None:
    rng = np.random.default_rng(7)
    for bad in (np.inf, -np.inf, np.nan):
        logits = rng.normal(size=(5, 12, 12)).astype(np.float32) * 10
        logits[rng.integers(0, 5, 9), rng.integers(0, 12, 9), rng.integers(0, 12, 9)] = bad
        _, confidence = upsample_confidence(logits, (96, 96))
        assert ((confidence >= 0) & (confidence <= 1)).all()
    _, confidence = upsample_confidence(np.full((3, 4, 4), np.nan, np.float32), (32, 32))
    assert not confidence.any()


@pytest.mark.parametrize(
    ("temperature", "words"),
    [(0.0, "above 0"), (-1.0, "above 0"), (float("nan"), "above 0"), ([1.0, 2.0], "2 temperatures for 3 classes")],
)
def test_temperatures_that_are_none(temperature: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        upsample_confidence(np.zeros((3, 4, 4), np.float32), (8, 8), temperature=temperature)
