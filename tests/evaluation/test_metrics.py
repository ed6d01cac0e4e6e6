"""Confusion matrix and boundary F1 against brute-force oracles, torchmetrics and scores known by hand."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassF1Score, MulticlassJaccardIndex

from featherseg.core.errors import ConfigError, DataError
from featherseg.core.types import ClassSet
from featherseg.evaluation.metrics import BoundaryF1, ConfusionMatrix
from featherseg.evaluation.result import PROTOCOL_KEYS, EvalResult

FOUR = ClassSet(("road", "car", "tree", "sky"))
TWO = ClassSet(("ground", "thing"))
PROTOCOL = {
    "dataset": "CamVid",
    "split": "val",
    "images": 101,
    "resolution": "original resolution",
    "scales": (1.0,),
    "flip": False,
    "rule": "absent classes left out",
}


def random_pair(seed: int, classes: int = 4, shape: tuple[int, int] = (23, 31)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, shape).astype(np.uint8)
    prediction = np.where(rng.random(shape) < 0.6, target, rng.integers(0, classes, shape)).astype(np.uint8)
    target[rng.random(shape) < 0.1] = 255
    return target, prediction


def matrix_oracle(target: np.ndarray, prediction: np.ndarray, count: int) -> np.ndarray:
    return np.array([[((target == t) & (prediction == p)).sum() for p in range(count)] for t in range(count)])


# --- confusion matrix


def test_matrix_oracle():
    target, prediction = random_pair(0)
    confusion = ConfusionMatrix(FOUR)
    confusion.update(target, prediction)
    assert confusion.matrix.dtype == np.int64
    np.testing.assert_array_equal(confusion.matrix, matrix_oracle(target, prediction, 4))


@pytest.mark.parametrize("seed", range(3))
def test_iou_is_torchmetrics(seed):
    target, prediction = random_pair(seed)
    confusion = ConfusionMatrix(FOUR)
    confusion.update(target, prediction)
    theirs = MulticlassJaccardIndex(4, average=None, ignore_index=255)
    theirs.update(torch.from_numpy(prediction).long(), torch.from_numpy(target).long())
    np.testing.assert_allclose(confusion.iou(), theirs.compute().numpy(), rtol=1e-6)


def test_scores_by_hand():
    confusion = ConfusionMatrix(FOUR)
    confusion.update(np.array([[0, 0, 0, 1], [1, 2, 255, 0]]), np.array([[0, 0, 1, 1], [1, 0, 3, 0]]))
    # road: 3 right, 1 as car, 1 taken from tree; car: 2 right, 1 from road; tree: 0 of 1; sky only where ignored
    np.testing.assert_allclose(confusion.iou(), [3 / 5, 2 / 3, 0.0, np.nan])
    assert confusion.miou() == pytest.approx((3 / 5 + 2 / 3 + 0) / 3)
    assert confusion.pixel_accuracy() == pytest.approx(5 / 7)
    np.testing.assert_allclose(confusion.class_accuracy(), [3 / 4, 1.0, 0.0, np.nan])
    assert confusion.absent() == ("sky",)


def test_a_class_only_predicted_scores_zero_and_is_not_absent():
    confusion = ConfusionMatrix(TWO)
    confusion.update(np.zeros((2, 2), np.uint8), np.array([[0, 0], [0, 1]], np.uint8))
    np.testing.assert_allclose(confusion.iou(), [0.75, 0.0])
    assert np.isnan(confusion.class_accuracy()[1])
    assert confusion.absent() == ()


def test_nothing_seen_is_nan_without_warnings():
    confusion = ConfusionMatrix(FOUR)
    confusion.update(np.full((3, 3), 255, np.uint8), np.zeros((3, 3), np.uint8))
    assert math.isnan(confusion.miou())
    assert math.isnan(confusion.pixel_accuracy())
    assert np.isnan(confusion.class_accuracy()).all()
    assert confusion.absent() == FOUR.names


def test_perfect_prediction_even_with_ignored_pixels_as_they_are():
    target, _ = random_pair(4)
    confusion, boundary = ConfusionMatrix(FOUR), BoundaryF1(FOUR)
    confusion.update(target, target)
    boundary.update(target, target)
    assert confusion.miou() == 1.0
    assert confusion.pixel_accuracy() == 1.0
    assert boundary.mean() == 1.0


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint16])
def test_any_integer_type(dtype):
    target, prediction = random_pair(5)
    one, other = ConfusionMatrix(FOUR), ConfusionMatrix(FOUR)
    one.update(target, prediction)
    other.update(target.astype(dtype), prediction.astype(dtype))
    np.testing.assert_array_equal(one.matrix, other.matrix)


def test_255_classes_fit():
    classes = ClassSet(tuple(f"c{i}" for i in range(255)))
    target = np.arange(256, dtype=np.uint8).reshape(16, 16)
    confusion = ConfusionMatrix(classes)
    confusion.update(target, target)
    np.testing.assert_array_equal(confusion.matrix, np.eye(255))


@pytest.mark.parametrize(
    ("target", "prediction", "error", "message"),
    [
        ([[0, 7]], [[0, 0]], DataError, "value 7; class ids are 0 to 3"),
        ([[0, 1]], [[0, 4]], ConfigError, "prediction holds value 4"),
        ([[0, 1]], [[255, 0]], ConfigError, "prediction holds value 255"),
        ([[0, 1]], [[0], [1]], ConfigError, "resize the prediction"),
        ([[0, 1]], [[0, -1]], ConfigError, "values -1 to 0"),
        ([[0, 1]], [[0, 256]], ConfigError, "values 0 to 256"),
        ([[0, 1]], [[0.0, 1.0]], ConfigError, "float64"),
        ([0, 1], [0, 1], ConfigError, "height, width"),
    ],
)
def test_wrong_masks_are_refused_and_leave_the_counts_alone(target, prediction, error, message):
    confusion = ConfusionMatrix(FOUR)
    with pytest.raises(error, match=message):
        confusion.update(np.array(target), np.array(prediction))
    assert confusion.matrix.sum() == 0


def test_another_ignore_index():
    classes = ClassSet(("a", "b"), ignore_index=9)
    confusion = ConfusionMatrix(classes)
    confusion.update(np.array([[0, 9, 1]]), np.array([[0, 1, 0]]))
    np.testing.assert_array_equal(confusion.matrix, [[1, 0], [1, 0]])
    with pytest.raises(DataError, match="255"):
        confusion.update(np.array([[255]]), np.array([[0]]))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=5), st.integers(0, 5))
def test_merged_parts_are_the_whole(seeds, cut):
    parts = [(ConfusionMatrix(FOUR), BoundaryF1(FOUR)) for _ in range(3)]
    for i, seed in enumerate(seeds):
        pair = random_pair(seed, shape=(9, 11))
        for metric in (*parts[0], *parts[1 + (i >= cut)]):
            metric.update(*pair)
    confusion, boundary = parts[1]
    confusion += parts[2][0]
    boundary += parts[2][1]
    np.testing.assert_array_equal(confusion.matrix, parts[0][0].matrix)
    np.testing.assert_array_equal(boundary.per_class(), parts[0][1].per_class())
    assert confusion is parts[1][0]


def test_rows_counted_apart_are_one_image():
    target, prediction = random_pair(8)
    whole, chunks = ConfusionMatrix(FOUR), ConfusionMatrix(FOUR)
    whole.update(target, prediction)
    for start in range(0, len(target), 5):
        chunks.update(target[start : start + 5], prediction[start : start + 5])
    np.testing.assert_array_equal(whole.matrix, chunks.matrix)


def test_different_classes_do_not_merge():
    with pytest.raises(ConfigError, match="must be the same"):
        ConfusionMatrix(FOUR).merge(ConfusionMatrix(TWO))
    with pytest.raises(ConfigError, match="use the same"):
        BoundaryF1(FOUR).merge(BoundaryF1(FOUR, tolerance=0.01))


# --- boundary F1


def boundary_oracle(mask: np.ndarray, valid: np.ndarray, c: int) -> list[tuple[int, int]]:
    points = []
    for y, x in np.ndindex(mask.shape):
        if valid[y, x] and mask[y, x] == c:
            around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
            inside = [(v, u) for v, u in around if 0 <= v < mask.shape[0] and 0 <= u < mask.shape[1]]
            if any(valid[v, u] and mask[v, u] != c for v, u in inside):
                points.append((y, x))
    return points


def f1_oracle(pairs: list[tuple[np.ndarray, np.ndarray]], count: int, tolerance: float) -> list[float]:
    scores = []
    for c in range(count):
        right_p = all_p = right_t = all_t = 0
        for target, prediction in pairs:
            reach = max(1.0, tolerance * math.hypot(*target.shape))
            truth = boundary_oracle(target, target != 255, c)
            found = boundary_oracle(prediction, target != 255, c)
            all_p, all_t = all_p + len(found), all_t + len(truth)
            right_p += sum(any(math.dist(a, b) <= reach + 1e-9 for b in truth) for a in found)
            right_t += sum(any(math.dist(a, b) <= reach + 1e-9 for b in found) for a in truth)
        if all_p + all_t == 0:
            scores.append(math.nan)
            continue
        precision, recall = right_p / max(all_p, 1), right_t / max(all_t, 1)
        scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return scores


@pytest.mark.parametrize("tolerance", [0.0075, 0.05, 0.1])
def test_boundary_f1_oracle(tolerance):
    rng = np.random.default_rng(11)
    pairs = []
    for _ in range(2):
        target = np.kron(rng.choice([0, 1, 2, 255], (4, 5)), np.ones((7, 6), np.int64)).astype(np.uint8)
        prediction = np.roll(np.where(target == 255, 1, target), rng.integers(-3, 4, 2), (0, 1)).astype(np.uint8)
        pairs.append((target, prediction))
    boundary = BoundaryF1(FOUR, tolerance)
    for pair in pairs:
        boundary.update(*pair)
    expected = f1_oracle(pairs, 4, tolerance)
    assert math.isnan(expected[3])
    assert expected[1] > 0
    np.testing.assert_allclose(boundary.per_class(), expected)
    assert boundary.mean() == pytest.approx(np.nanmean(expected))


def square(left: int, size: tuple[int, int] = (60, 80)) -> np.ndarray:
    """A 20×20 thing whose left edge is column `left`; the diagonal is 100 pixels."""
    mask = np.zeros(size, np.uint8)
    mask[20:40, left : left + 20] = 1
    return mask


def test_a_shifted_square_scores_by_its_tolerance():
    def score(shift: int, tolerance: float) -> float:
        boundary = BoundaryF1(TWO, tolerance)
        boundary.update(square(20), square(20 + shift))
        return float(boundary.per_class()[1])

    assert score(3, 0.03) == 1.0  # shift equals the reach of 3 pixels
    assert score(1, 0.0001) == 1.0  # the reach is at least 1 pixel
    # Shifted by 3 with a reach of 1, true columns 20 to 39 and predicted ones 23 to 42, rows 20 to 39 in both: of the
    # 76 outline pixels, the level sides match in columns 23 to 39, and in 40 by its neighbour 39. Of the upright sides
    # only (21, 23) and (38, 23) are next to a true outline, that of the level sides. The truth fares alike.
    assert score(3, 0.01) == pytest.approx((2 * 18 + 2) / 76)


def test_boundary_lost_and_invented():
    flat = np.zeros((60, 80), np.uint8)
    for target, prediction in ((square(10), flat), (flat, square(10))):
        boundary = BoundaryF1(ClassSet(("ground", "thing", "never")))
        boundary.update(target, prediction)
        np.testing.assert_array_equal(boundary.per_class(), [0.0, 0.0, np.nan])
        assert boundary.mean() == 0.0


def test_image_edge_and_ignored_area_are_no_boundary():
    target = np.zeros((30, 40), np.uint8)
    target[:, 20:] = 255
    prediction = target.copy()
    prediction[5:10, 25:30] = 1  # invented where nobody looks
    prediction[:, 20:22] = 1
    boundary = BoundaryF1(TWO)
    boundary.update(target, np.where(prediction == 255, 0, prediction))
    assert boundary.predicted_pixels.sum() == boundary.target_pixels.sum() == 0
    assert math.isnan(boundary.mean())


def test_tolerance_must_be_a_share():
    with pytest.raises(ConfigError, match="tolerance is 2"):
        BoundaryF1(TWO, tolerance=2)


# --- result


def result(**changes) -> EvalResult:
    confusion, boundary = ConfusionMatrix(FOUR), BoundaryF1(FOUR)
    target = np.array([[0, 0, 1], [0, 255, 1], [0, 1, 1]])
    prediction = np.array([[0, 0, 1], [0, 0, 1], [0, 0, 2]])
    confusion.update(target, prediction)
    boundary.update(target, prediction)
    return EvalResult.from_metrics(confusion, boundary, {**PROTOCOL, **changes})


def test_summary_says_the_protocol():
    # road 4 of 5, car 2 of 4, tree 0 of 1
    assert result().summary() == (
        "val mIoU 43.3 (CamVid val, 101 images, original resolution, single scale, absent classes left out: sky)"
    )
    several = result(scales=(0.75, 1.0, 1.25), flip=True).summary()
    assert "scales 0.75, 1, 1.25, flipped, absent" in several


def test_printing_shows_every_class():
    lines = str(result()).splitlines()
    assert [line.split()[0] for line in lines[2:6]] == list(FOUR.names)
    assert lines[2].split()[1] == "80.0"
    assert lines[1].split() == ["IoU", "Dice", "precision", "recall", "boundary", "F1"]
    assert lines[3].split()[1:5] == ["50.0", "66.7", "100.0", "50.0"]  # car: 2 of 4, none elsewhere
    assert lines[5].split()[1:] == ["–"] * 5


def test_to_dict_is_strict_json():
    scores = result()
    data = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert data["iou"] == [0.8, 0.5, 0.0, None]
    assert data["miou"] == scores.miou
    assert data["absent"] == ["sky"]
    assert data["protocol"]["scales"] == [1.0]
    assert ClassSet.from_dict(data["classes"]) == FOUR
    np.testing.assert_array_equal(data["matrix"], scores.matrix)


def test_dice_precision_recall_by_hand():
    confusion = ConfusionMatrix(FOUR, others=True)
    confusion.update(np.array([[0, 0, 0, 1], [1, 2, 255, 0]]), np.array([[0, 0, 1, 1], [9, 0, 3, 0]]))
    # road: 3 hits, 1 lost to car, 1 taken from tree; car: 1 hit, 1 from road, 1 lost to what is no class
    np.testing.assert_allclose(confusion.dice(), [6 / 8, 2 / 4, 0.0, np.nan])
    np.testing.assert_allclose(confusion.precision(), [3 / 4, 1 / 2, np.nan, np.nan])
    np.testing.assert_allclose(confusion.class_accuracy(), [3 / 4, 1 / 2, 0.0, np.nan])
    scores = EvalResult.from_metrics(confusion, None, PROTOCOL)
    np.testing.assert_allclose(scores.dice, confusion.dice())
    assert scores.mean_dice == pytest.approx((6 / 8 + 2 / 4 + 0) / 3)
    assert scores.to_dict()["recall"] == [3 / 4, 1 / 2, 0.0, None]


@pytest.mark.parametrize("seed", range(3))
def test_dice_is_torchmetrics(seed):
    target, prediction = random_pair(seed)
    confusion = ConfusionMatrix(FOUR)
    confusion.update(target, prediction)
    theirs = MulticlassF1Score(4, average=None, ignore_index=255)
    theirs.update(torch.from_numpy(prediction).long(), torch.from_numpy(target).long())
    np.testing.assert_allclose(confusion.dice(), theirs.compute().numpy(), rtol=1e-6)


def test_the_reach_is_the_mean_of_the_images():
    parts = [BoundaryF1(TWO, 0.1) for _ in range(2)]
    assert math.isnan(parts[0].reach)
    parts[0].update(np.zeros((30, 40), np.uint8), np.zeros((30, 40), np.uint8))
    parts[1].update(np.zeros((60, 80), np.uint8), np.zeros((60, 80), np.uint8))
    assert parts[0].merge(parts[1]).reach == pytest.approx((5 + 10) / 2)


def test_without_boundary_scores():
    confusion = ConfusionMatrix(FOUR)
    data = EvalResult.from_metrics(confusion, None, PROTOCOL).to_dict()
    assert data["boundary_f1"] is None
    assert data["boundary_f1_per_class"] == [None] * 4
    assert data["miou"] is None


@pytest.mark.parametrize("key", PROTOCOL_KEYS)
def test_a_score_without_its_protocol_is_refused(key):
    protocol = {name: value for name, value in PROTOCOL.items() if name != key}
    with pytest.raises(ConfigError, match=f"lacks {key}"):
        EvalResult.from_metrics(ConfusionMatrix(FOUR), None, protocol)


def test_metrics_and_pictures_need_no_torch():
    code = (
        "import sys, featherseg.evaluation.metrics, featherseg.evaluation.visualize; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
