"""clDice against an oracle of a few lines, what is thin, and the remark on wide tolerances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from skimage.morphology import thin

from conftest import error_line
from featherseg.core.errors import ConfigError
from featherseg.core.types import ClassSet, ImageArray, MaskArray
from featherseg.evaluation.centerline import SAMPLE, CenterlineDice, take_widths
from featherseg.evaluation.metrics import BoundaryF1, ConfusionMatrix
from featherseg.evaluation.result import EvalResult
from featherseg.evaluation.scores import protocol, score

CLASSES = ClassSet(("ground", "vessel", "ball"))


def vessels(shift: int = 0, width: int = 3, size: tuple[int, int] = (120, 160)) -> MaskArray:
    """A horizontal and a crossing vertical vessel, and a ball."""
    mask = np.zeros(size, np.uint8)
    down, right = np.mgrid[: size[0], : size[1]]
    mask[(down - 90) ** 2 + (right - 120) ** 2 <= 20**2] = 2
    mask[30 + shift : 30 + shift + width] = 1
    mask[:, 50 + shift : 50 + shift + width] = 1
    return mask


@dataclass
class Masks:
    """A dataset of given masks."""

    masks: list[MaskArray]
    classes: ClassSet = CLASSES
    name: str = "vessels"
    split: str = "val"
    looked_at: int = 0

    def __len__(self) -> int:
        return len(self.masks)

    def stem(self, index: int) -> str:
        return f"v{index}"

    def read(self, index: int) -> tuple[ImageArray, MaskArray]:
        self.looked_at += 1
        return np.zeros((*self.masks[index].shape, 3), np.uint8), self.masks[index]


def oracle(target: np.ndarray, prediction: np.ndarray, c: int) -> float:
    valid = target != 255
    truth, predicted = (target == c) & valid, (prediction == c) & valid
    precision = truth[thin(predicted)].mean()
    sensitivity = predicted[thin(truth)].mean()
    return float(2 * precision * sensitivity / (precision + sensitivity))


def test_cldice_oracle() -> None:
    target, prediction = vessels(), vessels(shift=1, width=4)
    prediction[30:36, 90:130] = 0  # a gap
    target[:, :20] = 255
    found = CenterlineDice(CLASSES, [1, 2])
    found.update(target, prediction)
    assert found.per_class()[1:] == pytest.approx([oracle(target, prediction, 1), oracle(target, prediction, 2)])
    assert 0.5 < found.per_class()[1] < 1
    assert np.isnan(found.per_class()[0])
    assert found.mean() == pytest.approx(found.per_class()[1:].mean())


def test_a_gap_costs_more_of_cldice_than_of_dice() -> None:
    """What it is for: a line as wide as the vessel's half is whole, though half its pixels are missing."""
    target = vessels(width=5)
    lean = np.where(vessels(shift=1, width=3) == 1, 1, np.where(target == 2, 2, 0))
    found, confusion = CenterlineDice(CLASSES, [1]), ConfusionMatrix(CLASSES)
    found.update(target, lean)
    confusion.update(target, lean)
    assert found.per_class()[1] == 1.0
    assert confusion.dice()[1] < 0.8


def test_parts_merge_and_nothing_is_nan() -> None:
    pairs = [(vessels(), vessels(shift=k)) for k in range(3)]
    whole = CenterlineDice(CLASSES, [1])
    assert np.isnan(whole.mean())
    parts = [CenterlineDice(CLASSES, [1]) for _ in pairs]
    for part, pair in zip(parts, pairs, strict=True):
        whole.update(*pair)
        part.update(*pair)
    merged = parts[0].merge(parts[1])
    merged += parts[2]
    for ours, theirs in zip(merged.counts(), whole.counts(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert "use the same for both" in error_line(ConfigError, whole.merge, CenterlineDice(CLASSES, [2]))


def test_missed_or_made_up_scores_zero() -> None:
    empty = np.zeros((120, 160), np.uint8)
    for pair in ((vessels(), empty), (empty, vessels())):
        found = CenterlineDice(CLASSES, [1])
        found.update(*pair)
        assert found.per_class()[1] == 0.0


def test_what_is_thin() -> None:
    widths = take_widths(Masks([vessels(width=3)]))
    assert widths.thin == (1,)
    # 120 + 160 pixels long, 3 wide, less where they cross and pass the ball; four sides at the crossing are missing.
    assert widths.pixels[1] == pytest.approx(3, abs=0.1)
    assert widths.pixels[2] > 10
    assert widths.chosen(["ball"]) == (2,)
    assert 'did you mean "vessel"' in error_line(ConfigError, widths.chosen, ["vesel"])
    assert take_widths(Masks([vessels(width=6)])).thin == ()  # over 5 pixels and 1.5 % of 200
    dots = np.zeros((120, 160), np.uint8)
    dots[10:13, 10:13] = 1
    assert take_widths(Masks([dots])).thin == ()  # narrow, but no line


def test_few_masks_are_looked_at() -> None:
    dataset = Masks([vessels()] * 100)
    assert take_widths(dataset).thin == (1,)
    assert dataset.looked_at == SAMPLE


def test_widths_of_ignored_and_empty_masks() -> None:
    widths = take_widths(Masks([np.full((50, 60), 255, np.uint8), np.zeros((50, 60), np.uint8)]))
    assert np.isnan(widths.pixels).all()  # no class has an outline
    assert widths.thin == ()


def test_the_tolerance_is_said_where_it_is_wide() -> None:
    dataset = Masks([vessels(width=2)])
    widths = take_widths(dataset)
    confusion, borders, lines = score(lambda image: vessels(width=2), dataset, thin=widths.thin)
    scores = EvalResult.from_metrics(confusion, borders, protocol(dataset), lines, widths)
    assert scores.boundary_reach == pytest.approx(0.0075 * 200)
    (remark,) = scores.remarks()
    assert remark.startswith("boundary F1 lets outlines be 1.5 px off, over half the width of vessel (about 2.0 px)")
    assert "ball" not in remark
    assert scores.cldice == 1.0
    assert list(scores.columns()) == ["IoU", "Dice", "precision", "recall", "clDice", "boundary F1"]
    data = scores.to_dict()
    assert data["cldice_per_class"] == [None, 1.0, None]
    assert data["boundary_tolerance_px"] == 1.5
    assert data["typical_width_px"][1] == pytest.approx(2.0, abs=0.1)
    borders_alone = BoundaryF1(CLASSES)
    assert not EvalResult.from_metrics(confusion, borders_alone, protocol(dataset)).remarks()
