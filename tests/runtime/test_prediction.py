"""What a prediction says of its mask, draws over its image and saves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from artifact_fixtures import CLASSES
from featherseg.core.errors import ConfigError
from featherseg.runtime.prediction import Prediction


def prediction() -> Prediction:
    mask = np.array([[0, 0, 0, 255], [1, 2, 2, 0]], np.uint8)
    return Prediction(mask, CLASSES, np.full((2, 4, 3), 100, np.uint8))


def test_prediction_colors_and_coverage() -> None:
    colors = prediction().colors()
    assert colors.dtype == np.uint8
    assert colors[1].tolist() == [[0, 255, 0], [0, 0, 255], [0, 0, 255], [255, 0, 0]]
    assert colors[0, 3].tolist() == [0, 0, 0]
    assert prediction().coverage() == {"red": 0.5, "green": 0.125, "blue": 0.25}


def test_prediction_overlay_uses_the_given_frame() -> None:
    one = prediction()
    kept = one.image.copy()
    assert np.array_equal(one.overlay(alpha=0.0, legend=False), one.image)
    assert np.array_equal(one.image, kept)
    other = np.full((2, 4, 3), 7, np.uint8)
    assert np.array_equal(one.overlay(other, alpha=0.0, legend=False), other)
    assert one.overlay(alpha=1.0, legend=False)[0, 0].tolist() == [255, 0, 0]
    with pytest.raises(ConfigError):
        one.overlay(np.zeros((3, 3, 3), np.uint8))


def test_prediction_saves_ids_and_colours(tmp_path: Path) -> None:
    path = prediction().save(tmp_path / "new" / "mask.png")
    with Image.open(path) as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), prediction().mask)
        assert np.array_equal(np.asarray(image.convert("RGB")), prediction().colors())
    assert [p.name for p in path.parent.iterdir()] == ["mask.png"]
    with pytest.raises(ConfigError, match=r"\.png"):
        prediction().save(tmp_path / "mask.jpg")
