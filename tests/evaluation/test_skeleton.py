"""Thinning against scikit-image's, and by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage.morphology import thin

from featherseg.evaluation.skeleton import skeleton


def blobs(seed: int, shape: tuple[int, int] = (40, 50)) -> np.ndarray:
    noise = np.random.default_rng(seed).random(shape).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 0.5 + seed % 5) > 0.5


def parts(mask: np.ndarray, connectivity: int = 8) -> int:
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=connectivity)[0] - 1


@pytest.mark.parametrize("seed", range(25))
def test_it_is_scikit_images(seed: int) -> None:
    shape = blobs(seed)
    np.testing.assert_array_equal(skeleton(shape), thin(shape))


@pytest.mark.parametrize("seed", range(10))
def test_parts_and_holes_stay(seed: int) -> None:
    shape = blobs(seed)
    line = skeleton(shape)
    assert not (line & ~shape).any()
    assert line.sum() < shape.sum()
    assert parts(line) == parts(shape)
    # Holes are parts of the rest by four neighbours, the outside among them.
    assert parts(~np.pad(line, 1), 4) == parts(~np.pad(shape, 1), 4)


def test_a_bar_leaves_its_middle() -> None:
    shape = np.zeros((9, 20), bool)
    shape[3:6, 2:18] = True
    line = skeleton(shape)
    assert set(np.nonzero(line)[0]) == {4}
    assert 13 <= line.sum() <= 16


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 7)])
def test_the_smallest_shapes_do_not_vanish(size: tuple[int, int]) -> None:
    shape = np.zeros((9, 9), bool)
    shape[1 : 1 + size[0], 1 : 1 + size[1]] = True
    assert 1 <= skeleton(shape).sum() <= max(size)


def test_nothing_and_everything() -> None:
    assert not skeleton(np.zeros((5, 7), bool)).any()
    assert parts(skeleton(np.ones((5, 7), bool))) == 1
    assert skeleton(np.zeros((0, 7), bool)).shape == (0, 7)
