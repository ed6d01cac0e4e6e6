"""Pieces, outlines and what is written of them, against pycocotools and plain counting."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from featherseg.core.errors import ConfigError
from featherseg.core.types import ClassSet
from featherseg.runtime.prediction import Prediction

CLASSES = ClassSet(("road", "car", "sky"))
WITH_BACKGROUND = ClassSet(("background", "car", "sky"))


def prediction(mask: NDArray[Any], classes: ClassSet = CLASSES, sure: bool = True) -> Prediction:
    mask = mask.astype(np.uint8)
    confidence = np.linspace(0.4, 1, mask.size, dtype=np.float32).reshape(mask.shape) if sure else None
    return Prediction(mask, classes, np.zeros((*mask.shape, 3), np.uint8), confidence)


def random_mask(seed: int, size: tuple[int, int] = (37, 53)) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    field = cv2.resize(rng.normal(size=(9, 12)).astype(np.float32), size[::-1], interpolation=cv2.INTER_CUBIC)
    mask = np.digitize(field, [-0.5, 0.4]).astype(np.uint8)
    mask[rng.random(size) < 0.02] = 255
    return mask


def painted(rings: list[NDArray[np.float64]], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Which pixels' centres rings enclose by the even-odd rule, one crossing after the other."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    inside = np.zeros(size, np.bool_)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if y0 != y1:
                at = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
                inside ^= (np.minimum(y0, y1) <= y) & (y < np.maximum(y0, y1)) & (x < at)
    return inside


@pytest.mark.parametrize("seed", range(4))
def test_exact_outlines_enclose_just_the_pixels(seed: int) -> None:
    one = prediction(random_mask(seed))
    for label in range(3):
        rings = [ring for each in one.polygons(0) if each.label == label for ring in (each.outer, *each.holes)]
        np.testing.assert_array_equal(painted(rings, (37, 53)), one.mask == label)


def test_a_ring_with_a_hole() -> None:
    mask = np.zeros((9, 9))
    mask[1:8, 1:8] = 1
    mask[3:6, 3:6] = 2
    found = {each.name: each for each in prediction(mask).polygons(0)}
    assert len(found["car"].holes) == 1
    assert not found["sky"].holes
    assert found["car"].outer.min() == 1
    assert found["car"].outer.max() == 8
    # Corners are cut by half a pixel's half.
    assert found["sky"].area == 9 - 4 / 8
    assert abs(found["car"].area - 40) <= 1


def test_simplified_outlines_stay_near() -> None:
    yy, xx = np.mgrid[:200, :200]
    disc = ((yy - 100) ** 2 + (xx - 100) ** 2 < 80**2).astype(np.uint8)
    exact, simple = (prediction(disc).polygons(tolerance, min_area=2)[1] for tolerance in (0, 2))
    assert len(simple.outer) < len(exact.outer) / 10
    radius = np.hypot(*(exact.outer - 100).T)
    assert np.abs(radius - 80).max() < 1.2
    assert abs(simple.area / exact.area - 1) < 0.03
    assert len(prediction(np.ones((1, 1))).polygons(50)[0].outer) >= 3


def test_pieces_touch_at_corners_and_have_area_box_and_confidence() -> None:
    mask = np.full((6, 8), 2)
    mask[0, 0] = mask[1, 1] = 1
    mask[4:6, 5:8] = 1
    mask[3, 3] = 0
    one = prediction(mask)
    road, *cars, sky = one.instances()
    assert [each.name for each in (road, *cars, sky)] == ["road", "car", "car", "sky"]
    assert [(each.area, each.box) for each in cars] == [(2, (0, 0, 2, 2)), (6, (5, 4, 8, 6))]
    assert one.confidence is not None
    assert cars[1].confidence == pytest.approx(float(one.confidence[4:6, 5:8].mean()), abs=1e-6)
    assert cars[0].inside.tolist() == [[True, False], [False, True]]
    assert [each.area for each in one.instances(min_area=6)] == [6, 39]
    np.testing.assert_array_equal(sky.whole((6, 8)), mask == 2)
    assert prediction(mask, sure=False).instances()[0].confidence is None


def test_the_background_is_no_piece() -> None:
    mask = np.zeros((4, 4))
    mask[1, 1] = 1
    one = prediction(mask, WITH_BACKGROUND)
    assert [each.name for each in one.instances()] == ["car"]
    assert [each.name for each in one.polygons(background=True)] == ["background", "car"]
    assert one.coco()[0]["category_id"] == 1
    assert prediction(mask).coco()[1]["category_id"] == 2


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("seed", range(3))
def test_coco_reads_the_run_lengths(seed: int) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    one = prediction(random_mask(seed))
    whole = np.full(one.mask.shape, 255, np.uint8)
    for each in one.coco(image_id=7):
        inside = coco.decode(each["segmentation"]).astype(bool)
        assert coco.area(each["segmentation"]) == each["area"]
        assert coco.toBbox(each["segmentation"]).tolist() == each["bbox"]
        assert each["image_id"] == 7
        assert 0.4 <= each["score"] <= 1
        assert (whole[inside] == 255).all()
        whole[inside] = each["category_id"] - 1
    np.testing.assert_array_equal(whole, one.mask)
    json.dumps(one.coco())


def area_on_map(ring: list[list[float]]) -> float:
    points = np.asarray(ring)
    return float((points[:-1, 0] * points[1:, 1] - points[1:, 0] * points[:-1, 1]).sum()) / 2


@pytest.mark.parametrize("transform", [None, (0.5, 0, 400000, 0, -0.5, 5000000), (0, 2, 0, 2, 0, 0)])
def test_geojson_turns_as_its_standard_says(transform: Any) -> None:
    mask = np.zeros((9, 9))
    mask[1:8, 1:8] = 1
    mask[3:6, 3:6] = 2
    found = prediction(mask).geojson(0, transform)
    json.dumps(found)
    assert found["type"] == "FeatureCollection"
    car = next(each for each in found["features"] if each["properties"]["class"] == "car")
    outer, hole = car["geometry"]["coordinates"]
    assert outer[0] == outer[-1]
    assert area_on_map(outer) > 0 > area_on_map(hole)
    if transform is not None and transform[0]:
        assert np.asarray(outer).min(0).tolist() == [400000.5, 4999996.0]


def test_json_is_one_line() -> None:
    one = prediction(random_mask(0))
    text = one.to_json(polygons=True, min_area=5)
    assert "\n" not in text
    said = json.loads(text)
    assert said["size"] == [37, 53]
    assert said["coverage"]["road"] == pytest.approx((one.mask == 0).mean(), abs=1e-6)
    assert said["confidence"] == pytest.approx(0.7, abs=1e-3)
    assert [each["area"] for each in said["instances"]] == [each.area for each in one.instances(5)]
    assert all(len(each["polygon"][0]) >= 3 for each in said["instances"])
    assert "polygon" not in json.loads(one.to_json())["instances"][0]
    assert "confidence" not in json.loads(prediction(one.mask, sure=False).to_json())


def test_masked_by_one_threshold_or_by_class() -> None:
    one = prediction(np.tile(np.arange(3), (4, 4)))
    assert one.confidence is not None
    np.testing.assert_array_equal(one.masked(0.7), np.where(one.confidence >= 0.7, one.mask, 255))
    found = one.masked({"car": 0.9})
    unsure = (one.mask == 1) & (one.confidence < 0.9)
    np.testing.assert_array_equal(found, np.where(unsure, 255, one.mask))
    np.testing.assert_array_equal(one.masked(0.0), one.mask)
    assert replace(one, classes=ClassSet(("a", "b", "c"), ignore_index=9)).masked(1.0).max() == 9


def test_what_is_refused_in_one_line() -> None:
    one, plain = prediction(np.zeros((3, 3))), prediction(np.zeros((3, 3)), sure=False)
    for call, words in (
        (lambda: one.masked({"cra": 0.5}), 'did you mean "car"'),
        (lambda: one.masked(1.5), "threshold 1.5 is no probability"),
        (lambda: one.masked({"car": -0.1}), "threshold -0.1 for car"),
        (lambda: one.masked(float("nan")), "nan"),
        (lambda: plain.masked(0.5), "confidence=True"),
        (plain.probabilities, "confidence=True"),
        (lambda: plain.overlay(fade=True), "confidence=True"),
        (lambda: one.polygons(-1), "tolerance is -1"),
        (lambda: one.instances(0), "min_area is 0"),
        (lambda: one.geojson(1, (1, 2, 3)), "six numbers"),
        (lambda: one.geojson(1, (0, 0, 0, 0, 0, 0)), "onto a line"),
    ):
        with pytest.raises(ConfigError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_an_overlay_fades_where_the_mask_is_unsure() -> None:
    one = prediction(np.zeros((2, 2)))
    confidence = np.array([[1, 1 / 3], [0.7, 0.5]], np.float32)
    drawn = replace(one, confidence=confidence).overlay(alpha=1.0, legend=False, fade=True).astype(int)
    full = one.overlay(alpha=1.0, legend=False).astype(int)
    np.testing.assert_array_equal(drawn[0, 0], full[0, 0])
    assert np.abs(drawn[0, 1]).max() <= 1
    assert drawn[1, 1].max() < drawn[1, 0].max() < full[1, 0].max()
