"""Confidence through the whole deployed path: every session, every way in which frames come to the network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifact_fixtures import POOLED, PooledSession
from featherseg.core.errors import ConfigError
from featherseg.runtime.confidence import upsample_confidence
from featherseg.runtime.segmenter import Segmenter

FRAME = np.random.default_rng(0).integers(0, 256, (150, 217, 3)).astype(np.uint8) // 16
FITS: list[dict[str, Any]] = [
    {},
    {"size": (96, 160)},
    {"size": (96, 160), "fit": "letterbox"},
    {"size": (96, 96), "fit": "tile"},
]


@pytest.mark.parametrize("options", FITS, ids=lambda o: str(o.get("fit", o.get("size", "natural"))))
def test_the_mask_stays_and_confidence_is_its_probability(options: dict[str, Any]) -> None:
    plain, sure = (Segmenter(PooledSession(), confidence=each, **options) for each in (False, True))
    found = sure(FRAME)
    np.testing.assert_array_equal(found.mask, plain(FRAME).mask)
    assert plain(FRAME).confidence is None
    assert found.confidence is not None
    assert found.confidence.shape == found.mask.shape
    shares = found.probabilities()
    assert shares.shape == (3, 150, 217)
    assert np.abs(shares.max(0) - found.confidence).max() < 1e-6
    assert np.abs(np.take_along_axis(shares, found.mask[None].astype(np.int64), 0)[0] - found.confidence).max() < 1e-6


def test_it_is_that_of_the_networks_logits() -> None:
    found = Segmenter(PooledSession(), confidence=True)(FRAME)
    logits = Segmenter(PooledSession()).logits(FRAME)
    mask, expected = upsample_confidence(logits, (150, 217))
    np.testing.assert_array_equal(found.mask, mask)
    np.testing.assert_array_equal(found.confidence, expected)


def test_a_batch_is_as_its_frames() -> None:
    sure = Segmenter(PooledSession(), size=(96, 96), fit="tile", confidence=True)
    frames = [FRAME, FRAME[::-1].copy()]
    for frame, found in zip(frames, sure.predict_batch(frames), strict=True):
        alone = sure(frame)
        np.testing.assert_array_equal(found.mask, alone.mask)
        np.testing.assert_array_equal(found.confidence, alone.confidence)
        np.testing.assert_array_equal(found.probabilities(), alone.probabilities())
    unsure = Segmenter(PooledSession()).predict_batch(frames)
    assert [each.confidence for each in unsure] == [None, None]


def test_the_files_temperature_counts_unless_another_is_given() -> None:
    session = PooledSession()
    plain = Segmenter(session, confidence=True)(FRAME)
    session.artifact = replace(POOLED, calibration={"temperature": [2.0, 4.0, 0.5]})
    fitted = Segmenter(session, confidence=True)(FRAME)
    np.testing.assert_array_equal(fitted.mask, plain.mask)
    _, expected = upsample_confidence(Segmenter(session).logits(FRAME), (150, 217), temperature=[2.0, 4.0, 0.5])
    np.testing.assert_array_equal(fitted.confidence, expected)
    again = Segmenter(session, confidence=True, temperature=1.0)(FRAME)
    np.testing.assert_array_equal(again.confidence, plain.confidence)
    assert plain.parts is not None
    np.testing.assert_array_equal(plain.parts.confidence((150, 217), [2.0, 4.0, 0.5]), expected)
    with pytest.raises(ConfigError, match="2 temperatures for 3 classes"):
        Segmenter(session, temperature=[1.0, 2.0])


@pytest.mark.parametrize("options", FITS, ids=lambda o: str(o.get("fit", o.get("size", "natural"))))
def test_logits_of_single_pixels(options: dict[str, Any]) -> None:
    found = Segmenter(PooledSession(), confidence=True, **options)(FRAME)
    rng = np.random.default_rng(1)
    rows, columns = rng.integers(0, 150, 400), rng.integers(0, 217, 400)
    assert found.parts is not None
    logits = found.parts.at(rows, columns)
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    np.testing.assert_allclose(shares.T, found.probabilities()[:, rows, columns], atol=1e-5)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("planned", [False, True])
def test_files(exported: Path, backend: str, planned: bool) -> None:
    pytest.importorskip(backend)
    sure = Segmenter(exported, backend=backend, threads=1, confidence=True)
    if planned:
        sure = sure.planned(FRAME.shape[:2])
    found = sure(FRAME)
    expected = Segmenter(exported, threads=1, confidence=True)(FRAME)
    assert found.confidence is not None
    assert (found.mask == expected.mask).mean() > 0.999
    assert np.abs(found.confidence - expected.confidence).max() < 1e-3
    assert np.abs(found.probabilities().max(0) - found.confidence).max() < 1e-5


def test_a_network_in_memory() -> None:
    torch = pytest.importorskip("torch")
    from featherseg.models.factory import create_model

    torch.manual_seed(0)
    model = create_model("jetnet", num_classes=5).eval()
    found = Segmenter(model, confidence=True)(FRAME)
    image = torch.from_numpy(model.input_spec.normalize(FRAME))[None]
    with torch.inference_mode():
        full = torch.nn.functional.interpolate(
            model.outputs(image)["out"], size=FRAME.shape[:2], mode="bilinear", align_corners=False
        )
    assert found.confidence is not None
    assert np.abs(full.softmax(1).amax(1)[0].numpy() - found.confidence).max() < 1e-4
    np.testing.assert_allclose(found.probabilities(), full.softmax(1)[0].numpy(), atol=1e-4)
