"""Temperatures against a search over many, and reliability against plain counting."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from artifact_fixtures import PooledSession
from conftest import street
from featherseg.core.errors import DataError
from featherseg.core.types import ClassSet, ImageArray, MaskArray
from featherseg.evaluation.calibration import (
    FEWEST,
    Pixels,
    Reliability,
    calibrate_confidence,
    class_temperatures,
    fitted,
    judged,
    scalar_temperature,
)
from featherseg.runtime.segmenter import Segmenter


def honest(seed: int, count: int = 20_000, classes: int = 5) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits whose softmax is exactly how often each class is true."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, classes)).astype(np.float32) * 2
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    targets = (rng.random((count, 1)) > shares.cumsum(1)).sum(1).clip(max=classes - 1)
    return logits, targets


def pixels_of(logits: NDArray[np.float32], targets: NDArray[np.int64], images: int = 20) -> Pixels:
    pixels = Pixels(images, logits.shape[1], 255)
    for part, truth in zip(np.array_split(logits, images), np.array_split(targets, images), strict=True):
        pixels.add(part, truth.astype(np.uint8))
    return pixels


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_a_factor(factor: float) -> None:
    logits, targets = honest(0)
    assert scalar_temperature(logits * np.float32(factor), targets) == pytest.approx(factor, rel=0.06)


def test_no_other_temperature_says_better_which_pixels_are_right() -> None:
    logits, targets = honest(1, 3000)
    logits[:500] *= 6
    found = scalar_temperature(logits, targets)
    right = logits.argmax(1) == targets

    def loss(temperature: float) -> float:
        confidence = judged(logits, targets, temperature)[0].astype(np.float64).clip(1e-6, 1 - 1e-6)
        return float(-np.log(np.where(right, confidence, 1 - confidence)).sum())

    assert loss(found) <= min(loss(temperature) for temperature in np.geomspace(0.1, 20, 400)) * 1.0001


def test_what_does_not_help_elsewhere_is_not_used() -> None:
    logits, targets = honest(6)
    logits[:10_000] *= 3  # the halves disagree
    logits[10_000:] /= 3
    found = fitted(pixels_of(logits, targets), "x val")
    assert found.temperature == 1.0
    assert found.after.ece == pytest.approx(found.before.ece)


def test_the_temperature_stays_in_its_range() -> None:
    logits = np.eye(3, dtype=np.float32)[np.arange(30) % 3]
    assert scalar_temperature(logits, np.arange(30) % 3) == pytest.approx(0.1, rel=0.01)
    assert scalar_temperature(logits, (np.arange(30) + 1) % 3) == pytest.approx(20, rel=0.01)


def test_calibration_mends_what_a_factor_spoilt_and_keeps_the_masks() -> None:
    logits, targets = honest(2)
    found = fitted(pixels_of(logits * 3, targets), "x val")
    assert found.temperature == pytest.approx(3, rel=0.06)
    assert found.before.ece > 0.1
    assert found.after.ece < 0.02
    confidence, right = judged(logits * 3, targets, found.temperature)
    assert (right == (logits.argmax(1) == targets)).all()
    assert found.after.right_when_sure == pytest.approx(right[confidence >= 0.9].mean(), abs=0.01)
    said = found.to_dict()
    assert json.loads(json.dumps(said)) == said
    assert "before" in str(found)


def test_classes_have_temperatures_of_their_own_where_that_pays() -> None:
    logits, targets = honest(3)
    assert fitted(pixels_of(logits, targets), "x val").temperature == 1.0
    assert isinstance(fitted(pixels_of(logits * 2, targets), "x val").temperature, float)
    uneven = logits.copy()
    winners = logits.argmax(1)
    for k, factor in ((0, 4.0), (1, 0.5)):
        uneven[winners == k] *= np.float32(factor)
    found = fitted(pixels_of(uneven, targets), "x val").temperature
    assert not isinstance(found, float)
    assert found[0] == pytest.approx(4, rel=0.15)
    assert found[1] == pytest.approx(0.5, rel=0.15)
    assert found[3] == pytest.approx(1, rel=0.15)


def test_a_class_that_hardly_wins_has_the_common_temperature() -> None:
    logits, targets = honest(4, FEWEST * 3)
    logits[:, 4] -= 50
    assert class_temperatures(logits, targets)[4] == scalar_temperature(logits, targets)


def test_pixels_whose_logits_are_no_numbers_are_left_out() -> None:
    logits, targets = honest(5, 4000)
    spoilt = np.concatenate([logits, np.full((50, 5), np.nan, np.float32), np.full((50, 5), -np.inf, np.float32)])
    found = fitted(pixels_of(spoilt, np.concatenate([targets, np.zeros(100, np.int64)]), 1), "x val")
    assert found.temperature == pytest.approx(1, rel=0.1)


def test_reliability_counts_in_bins() -> None:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 3, (40, 50)).astype(np.uint8)
    mask = rng.integers(0, 3, (40, 50)).astype(np.uint8)
    target[:3] = 255
    confidence = rng.random((40, 50)).astype(np.float32)
    confidence[5, 5] = 1.0
    found = Reliability(10)
    found.update(target[:20], mask[:20], confidence[:20])
    found.update(target[20:], mask[20:], confidence[20:])
    seen = target != 255
    sure, right = confidence[seen], (target == mask)[seen]
    bins = np.minimum((sure * 10).astype(int), 9)
    gaps = [abs(sure[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in range(10)]
    assert found.ece == pytest.approx(sum(gaps), abs=1e-5)
    assert found.right_when_sure == pytest.approx(right[sure >= 0.9].mean())
    assert found.sure == pytest.approx((sure >= 0.9).mean())
    assert sum(count for _, _, count in found.points()) == seen.sum()
    assert np.isnan(Reliability().ece)
    assert Reliability().to_dict() == {"ece": None, "sure": None, "right_when_sure": None, "bins": []}


class Streets:
    """Pictures whose colours are the pooled network's classes, a part of the labels wrong."""

    name, split = "streets", "val"
    classes = ClassSet(("red", "green", "blue"))

    def __init__(self, labelled: bool = True) -> None:
        self.labelled = labelled

    def __len__(self) -> int:
        return 6

    def stem(self, index: int) -> str:
        return str(index)

    def read(self, index: int) -> tuple[ImageArray, MaskArray]:
        _, mask = street(index, (96, 128))
        image = np.zeros((96, 128, 3), np.uint8)
        known = np.minimum(mask, 2)
        np.put_along_axis(image, known[..., None].astype(np.int64), 30, axis=2)
        wrong = np.random.default_rng(index).random(mask.shape) < 0.2
        return image, np.where(wrong, (known + 1) % 3, known).astype(np.uint8) if self.labelled else mask * 0 + 255


def test_a_segmenter_is_calibrated_by_a_dataset() -> None:
    seen: list[int] = []
    found = calibrate_confidence(Segmenter(PooledSession()), Streets(), progress=lambda done, _: seen.append(done))
    assert seen == [1, 2, 3, 4, 5, 6]
    assert found.images == 6
    assert found.after.ece < 0.05 < found.before.ece
    assert found.dataset == "streets val"


def test_without_labels_there_is_nothing_to_fit() -> None:
    with pytest.raises(DataError, match="no labelled pixel"):
        calibrate_confidence(Segmenter(PooledSession()), Streets(labelled=False))


def test_counts_add_up_to_the_same_bits_however_they_are_shared() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.05, 1, (6, 40, 50)).astype(np.float32)
    target, mask = rng.integers(0, 3, (2, 6, 40, 50), dtype=np.uint8)
    whole, first, second = Reliability(), Reliability(), Reliability()
    for i in range(6):
        for found in (whole, second if i % 3 else first):
            found.update(target[i], mask[i], confidence[i])
    for own, its in zip(second.totals(), first.totals(), strict=True):
        own += its
    assert second.to_dict() == whole.to_dict()
    assert np.array_equal(second.sums, whole.sums)
    assert whole.sums.sum() == pytest.approx(float(confidence.sum(dtype=np.float64)), abs=1e-3)
