"""What a stride leaves of each class, against cells and interpolation written out."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from featherseg.core.errors import ConfigError
from featherseg.core.types import ClassSet
from featherseg.data.detail import KeptDetail, measure_detail

TWO = ClassSet(("ground", "line"))
THREE = ClassSet(("sky", "road", "car"))


def blobs(seed: int, size: tuple[int, int], classes: int = 3, ignored: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    field = cv2.resize(rng.random((9, 11)), size[::-1], interpolation=cv2.INTER_CUBIC)
    mask = np.digitize(field, np.linspace(0.3, 0.7, classes - 1)).astype(np.uint8)
    mask[cv2.resize(rng.random((5, 6)), size[::-1], interpolation=cv2.INTER_LINEAR) < ignored] = 255
    return mask


def oracle(mask: np.ndarray, classes: int, stride: int, scale: float = 1.0) -> np.ndarray:
    """Dice of one mask: OpenCV's area mean and bilinear interpolation of whole planes, in float64."""
    height, width = (max(round(side * scale), 1) for side in mask.shape)
    cells = math.ceil(width / stride), math.ceil(height / stride)
    planes = [cv2.resize((mask == i).astype(np.float64), cells, interpolation=cv2.INTER_AREA) for i in range(classes)]
    shares = np.stack(planes) / np.maximum(np.sum(planes, axis=0), 1e-12)
    full = np.stack([cv2.resize(plane, mask.shape[::-1], interpolation=cv2.INTER_LINEAR) for plane in shares])
    drawn = np.where(mask < classes, full.argmax(axis=0), 255)
    both, true, said = (
        np.array([part.sum() for part in parts], np.float64)
        for parts in zip(*[((mask == i) & (drawn == i), mask == i, drawn == i) for i in range(classes)], strict=True)
    )
    return 2 * both / np.where(true > 0, true + said, np.nan)


@pytest.mark.parametrize("size", [(256, 320), (67, 99), (131, 260), (18, 300), (5, 3)])
@pytest.mark.parametrize("ignored", [0.0, 0.5])
def test_it_is_what_whole_planes_give(size: tuple[int, int], ignored: float) -> None:
    mask = blobs(1, size, ignored=ignored)
    kept = measure_detail([mask], THREE, scales=(0.5, 0.75, 1, 1.5))
    for (stride, scale), dice in kept.kept.items():
        # Ties, which float32 and float64 decide otherwise, are all that may differ.
        np.testing.assert_allclose(dice, oracle(mask, 3, stride, scale), atol=0.02 if min(size) < 64 else 0.002)
    assert (kept.masks, kept.pixels.tolist()) == (1, [int((mask == i).sum()) for i in range(3)])


def test_classes_that_end_where_cells_do_keep_everything() -> None:
    mask = np.zeros((96, 304), np.uint8)
    mask[:, 152:] = 1
    kept = measure_detail([mask], TWO)
    for stride in (1, 2, 4, 8):
        assert kept.dice(stride).tolist() == [1, 1]
        assert kept.least(stride) == 1


def test_a_line_of_one_pixel_is_lost_at_stride_8() -> None:
    mask = np.zeros((160, 160), np.uint8)
    mask[:, 83] = 1
    kept = measure_detail([mask], TWO)
    assert kept.dice(1).tolist() == [1, 1]
    for stride in (2, 4, 8):
        assert kept.dice(stride)[1] == 0
    assert kept.dice(8)[0] == pytest.approx(2 * 159 / (2 * 159 + 1))
    enlarged = measure_detail([mask], TWO, strides=(2, 8), scales=(1.0, 2.0))
    assert enlarged.dice(2, 2.0).tolist() == [1, 1]  # a pixel of the mask for each cell
    assert enlarged.dice(8, 2.0)[1] == 0


def test_lines_keep_less_the_coarser_the_stride_and_the_smaller_the_images() -> None:
    mask = np.zeros((300, 300), np.uint8)
    for i in range(6):
        cv2.line(mask, (10, 20 + 40 * i), (290, 60 + 37 * i), 1, 3)
    kept = measure_detail([mask], TWO, scales=(0.5, 0.75, 1.0))
    rows = [[kept.dice(stride, scale)[1] for stride in (1, 2, 4, 8)] for scale in (1.0, 0.75, 0.5)]
    for row in rows:
        assert row == sorted(row, reverse=True)
    for column in zip(*rows, strict=True):
        assert list(column) == sorted(column, reverse=True)
    assert rows[0][0] == 1
    assert rows[0][1] > 0.9 > 0.5 > rows[0][3]
    assert kept.dice(4, 0.5)[1] == kept.dice(8)[1]


def test_ignored_pixels_are_left_out() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 32:] = 1
    mask[:, 30:34] = 255  # the border is anyone's, and of what is labelled every pixel can be drawn
    kept = measure_detail([mask], TWO)
    assert kept.dice(8).tolist() == [1, 1]
    assert kept.pixels.tolist() == [30 * 64, 30 * 64]
    # A cell with a single labelled pixel is that pixel's.
    mask = np.full((64, 64), 255, np.uint8)
    mask[:32], mask[52, 20] = 0, 1
    assert measure_detail([mask], TWO).dice(8).tolist() == [1, 1]


def test_counts_are_pooled_and_what_does_not_occur_is_nan() -> None:
    line = np.zeros((64, 64), np.uint8)
    line[:, 10] = 1
    block = np.zeros((64, 64), np.uint8)
    block[:, 32:] = 1
    kept = measure_detail(iter([line, block]), ClassSet(("ground", "line", "ghost")), strides=(8,))
    pixels = 64 * 32
    assert kept.dice(8)[1] == pytest.approx(2 * pixels / (pixels + pixels + 64))
    assert math.isnan(kept.dice(8)[2])
    assert kept.to_dict() == {
        "masks": 2,
        "kept": [{"stride": 8, "scale": 1.0, "dice": {"ground": 0.9948, "line": 0.9846, "ghost": None}}],
    }


def test_what_is_said_of_it() -> None:
    dice = {(2, 1.0): np.array([1.0, 0.92, 0.1]), (8, 1.0): np.array([0.98, 0.46, 0.0]), (8, 2.0): np.full(3, 0.7)}
    kept = KeptDetail(("ground", "vessel", "speck"), np.array([9000, 1000, 3]), 4, dice)
    assert kept.finest(8) == 1  # specks have too few pixels to decide anything
    assert kept.least(8) == 0.46
    assert kept.sentence(1, 8, finer=[(2, 1.0)]) == "at stride 8 `vessel` keeps 0.46 of its Dice; stride 2 keeps 0.92"
    assert "at stride 8 of images 2 times as large `ground` keeps 0.70" in kept.sentence(0, 8, 2.0)
    assert kept.coarsest((8, 2)) == 2
    assert kept.coarsest((8, 2), place=0) == 8
    assert kept.coarsest((8, 2), place=2) == 2  # none keeps enough: the finest
    with pytest.raises(ConfigError, match="stride 4 at scale 1 was not measured"):
        kept.dice(4)
    with pytest.raises(ConfigError, match="strides of 1 or more"):
        measure_detail([], TWO, strides=(0,))


def test_nothing_to_look_at() -> None:
    kept = measure_detail([], TWO)
    assert kept.finest(8) is None
    assert kept.least(8) == 1
    assert kept.masks == 0
    ignored = measure_detail([np.full((32, 32), 255, np.uint8)], TWO)
    assert np.isnan(ignored.dice(8)).all()


def test_work_is_bounded() -> None:
    masks = [blobs(i, (200, 200)) for i in range(4)]
    assert measure_detail(masks, THREE, most=1).masks == 1  # one at least, or nothing is known
