from __future__ import annotations

import cv2
import numpy as np
import pytest

from featherseg.core.types import ImageArray
from featherseg.runtime import area
from featherseg.runtime.area import cover, shrink
from featherseg.runtime.postprocess import kernels

SIZES = [
    ((1080, 1920), (512, 1024)),
    ((720, 1280), (512, 1024)),
    ((97, 131), (96, 130)),
    ((97, 131), (97, 40)),
    ((97, 131), (13, 131)),
    ((97, 131), (1, 1)),
    ((1, 131), (1, 77)),
    ((64, 9), (63, 2)),
    ((600, 40), (7, 39)),
    ((128, 128), (96, 96)),  # sums that lie in the middle of two bytes
]


@pytest.fixture(autouse=True)
def compiled() -> None:
    assert kernels(None) is not None


def frame_of(size: tuple[int, int], seed: int = 0) -> ImageArray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.mark.parametrize(("size", "smaller"), SIZES)
def test_equal_to_opencv_but_for_rounding(size: tuple[int, int], smaller: tuple[int, int]) -> None:
    frame = frame_of(size)
    expected = cv2.resize(frame, smaller[::-1], interpolation=cv2.INTER_AREA)
    ours = shrink(frame, smaller)
    assert ours.shape == expected.shape
    difference = np.abs(ours.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).sum() <= max(1e-3 * difference.size, 2)


@pytest.mark.parametrize(("source", "target"), [(1080, 512), (97, 96), (97, 1), (7, 7), (3840, 1024), (131, 77)])
def test_weights_are_the_share_that_is_covered(source: int, target: int) -> None:
    first, weights = cover(source, target)
    scale = source / target
    for i in range(target):
        for k in range(weights.shape[1]):
            position = first[i] + k
            part = max(0.0, min(position + 1, (i + 1) * scale) - max(position, i * scale))
            assert weights[i, k] == pytest.approx(part / scale, abs=2e-3 / scale)
    assert weights.sum(axis=1) == pytest.approx(1, abs=3e-3)
    assert first.min() >= 0
    assert first.max() < source


def test_flat_colours_stay_what_they_are() -> None:
    for value in (0, 1, 127, 254, 255):
        frame = np.full((203, 307, 3), value, np.uint8)
        assert (shrink(frame, (101, 150)) == value).all()


def test_without_kernels_opencv_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = frame_of((97, 131))
    monkeypatch.setattr(area, "ready_kernels", lambda: None)
    assert (shrink(frame, (50, 60)) == cv2.resize(frame, (60, 50), interpolation=cv2.INTER_AREA)).all()


def test_a_frame_that_may_only_be_read_or_is_a_view() -> None:
    frame = frame_of((97, 262))
    half = frame[:, ::2]
    expected = shrink(np.ascontiguousarray(half), (50, 60))
    assert (shrink(half, (50, 60)) == expected).all()
    frame.flags.writeable = False
    assert (shrink(frame[:, 1:132], (50, 60)).shape) == (50, 60, 3)
