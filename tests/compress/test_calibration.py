from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from featherseg.compress.calibration import MIN_IMAGES, calibration_images, check_calibration, neighbour_correlation
from featherseg.compress.ranges import BINS, METHODS, Histogram, check_method, step
from featherseg.core.errors import ArtifactError, ConfigError, DataError
from featherseg.core.types import ClassSet, InputSpec
from featherseg.data.readers.synthetic import SyntheticStreet, render_street
from featherseg.runtime.artifact import Artifact
from featherseg.runtime.segmenter import Segmenter
from featherseg.runtime.sessions.base import Session

RNG = np.random.default_rng(0)
STREETS = [render_street(i, (64, 96))[0] for i in range(MIN_IMAGES)]


class Numbered:
    """A dataset whose images say which they are in their corner."""

    name, split, classes = "numbered", "train", ClassSet(("a",))

    def __init__(self, images: list[np.ndarray]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def stem(self, index: int) -> str:
        return str(index)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image = self.images[index].copy()
        image[0, 0] = index
        return image, np.zeros(image.shape[:2], np.uint8)


def test_images_are_spread_over_the_whole_dataset() -> None:
    dataset = Numbered([STREETS[0]] * 101)
    assert [int(image[0, 0, 0]) for image in calibration_images(dataset, 5)] == [0, 25, 50, 75, 100]
    assert len(calibration_images(Numbered(STREETS), 50)) == len(STREETS), "all there are"


@pytest.mark.parametrize("size", [None, (96, 80), (200, 300), (40, 100)])
def test_images_are_as_the_runtime_sees_them(size: tuple[int, int] | None) -> None:
    seen: list[np.ndarray] = []

    class Recorder(Session):
        artifact = Artifact(ClassSet(("a",)), InputSpec(), 8, "none", 1)
        name = device = "recorder"

        def run(self, images: np.ndarray) -> np.ndarray:
            seen.append(images[0])
            return np.zeros((1, 1, 8, 8), np.float32)

    image = render_street(3, (70, 90))[0]
    Segmenter(Recorder(), size=size).segment(image)
    dataset: Any = Numbered([image] * MIN_IMAGES)
    dataset.read = lambda index: (image, None)
    np.testing.assert_array_equal(calibration_images(dataset, MIN_IMAGES, size)[0], seen[0])


@pytest.mark.parametrize(
    "noise",
    [
        RNG.integers(0, 256, (6, 64, 96, 3), dtype=np.uint8),
        np.clip(RNG.normal(128, 30, (6, 64, 96, 3)), 0, 255).astype(np.uint8),
        (RNG.random((6, 64, 96, 1)) < 0.02).astype(np.uint8).repeat(3, axis=3) * 255,
        np.stack([RNG.permutation(image.reshape(-1, 3)).reshape(image.shape) for image in STREETS]),
    ],
    ids=["uniform", "normal", "salt", "shuffled picture"],
)
def test_random_noise_is_refused(noise: np.ndarray) -> None:
    with pytest.raises(DataError, match="random noise") as caught:
        check_calibration(list(noise))
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="random noise"):
        calibration_images(Numbered(list(noise)), size=(64, 96))


@pytest.mark.parametrize("grain", [0, 10, 30])
def test_pictures_are_taken_with_sensor_noise_too(grain: int) -> None:
    noisy = [np.clip(image + RNG.normal(0, grain, image.shape), 0, 255).astype(np.uint8) for image in STREETS]
    check_calibration(noisy)


def test_correlation_of_what_is_known() -> None:
    ramp = np.tile(np.arange(64, dtype=np.uint8)[:, None, None], (1, 64, 3))
    assert neighbour_correlation(ramp) == pytest.approx(1)
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    assert neighbour_correlation(board) == pytest.approx(-1)
    row = np.linspace(0, 255, 64).astype(np.uint8)[None, :, None].repeat(3, 2)
    assert neighbour_correlation(row) == pytest.approx(1, abs=1e-4), "a single row has no up-down"
    assert np.isnan(neighbour_correlation(np.full((8, 8, 3), 7, np.uint8)))


def test_one_bad_image_does_not_spoil_a_dataset_and_wrong_ones_are_refused() -> None:
    noise = RNG.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    check_calibration([*STREETS, noise])
    with pytest.raises(DataError, match="one colour"):
        check_calibration([np.zeros((64, 64, 3), np.uint8)] * 5)
    with pytest.raises(DataError, match="3 images to calibrate with"):
        check_calibration(STREETS[:3])
    with pytest.raises(ConfigError, match="frame is"):
        check_calibration([*STREETS, STREETS[0].astype(np.float32)])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="count is 1"):
        calibration_images(SyntheticStreet(count=8), 1)
    with pytest.raises(ConfigError, match="size is"):
        calibration_images(SyntheticStreet(count=8), size=(0, 64))
    with pytest.raises(DataError, match="2 images"):
        calibration_images(SyntheticStreet(count=2, size=(64, 64)))


def filled(*parts: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(part.astype(np.float32))
    return histogram


def test_a_histogram_that_grew_counts_as_one_that_did_not() -> None:
    small, large = RNG.normal(0, 0.01, 5000), RNG.normal(0, 7, 5000)
    grown, at_once = filled(small, large), filled(np.concatenate([large, small]))
    assert grown.reach == at_once.reach
    np.testing.assert_array_equal(grown.counts.sum(), 10000)
    edges = np.linspace(-grown.reach, grown.reach, BINS + 1)
    oracle = np.histogram(np.concatenate([small, large]).astype(np.float32), edges)[0]
    np.testing.assert_array_equal(at_once.counts, oracle)
    # Merged bins keep their side of zero and their place within one bin.
    assert np.abs(np.cumsum(grown.counts) - np.cumsum(oracle)).max() <= oracle.max()
    assert grown.minmax() == (float(np.float32(min(small.min(), large.min()))), float(np.float32(large.max())))


def test_percentile_leaves_out_what_it_says() -> None:
    values = RNG.standard_normal(60_000)
    low, high = filled(values).percentile(0.99)
    width = 2 * filled(values).reach / BINS
    assert low == pytest.approx(np.quantile(values, 0.005), abs=2 * width)
    assert high == pytest.approx(np.quantile(values, 0.995), abs=2 * width)
    low, high = filled(np.maximum(values, 0)).percentile(0.99)
    assert low == 0
    assert high == pytest.approx(np.quantile(values[values > 0], 0.99), abs=2 * width), "zeros do not count"


def rounding_error(values: np.ndarray, low: float, high: float) -> float:
    """Oracle: quantise every value."""
    scale, zero = step((low, high), symmetric=False)
    codes = np.clip(np.rint(values / scale) + zero, 0, 255)
    return float((((codes - zero) * scale - values) ** 2).sum())


@pytest.mark.parametrize("rectified", [False, True])
def test_mse_is_near_the_best_there_is_and_clips_outliers(rectified: bool) -> None:
    body = RNG.normal(0, 0.3, 50_000)
    body = np.maximum(body, 0) if rectified else body
    histogram = filled(*[body] * 20, np.array([6.0]))
    values = np.concatenate([*[body] * 20, [6.0]])
    best = min(rounding_error(values, histogram.low * part, histogram.high * part) for part in np.linspace(0.1, 1, 46))
    ours = rounding_error(values, *histogram.mse())
    assert ours < 0.8 * rounding_error(values, *histogram.minmax())
    assert ours < 1.1 * best


def test_mse_keeps_a_range_that_is_used_to_its_end() -> None:
    values = np.concatenate([RNG.uniform(0, 6, 20_000), np.full(5000, 6.0)])
    assert filled(values).mse()[1] > 5.9


def test_ranges_of_nothing_and_of_what_is_not_finite() -> None:
    empty = filled(np.zeros(10))
    assert [empty.range(method) for method in METHODS] == [(0.0, 0.0)] * 3
    for broken in (np.nan, np.inf):
        with pytest.raises(ArtifactError, match="not finite"):
            filled(np.array([1.0, broken]))
    with pytest.raises(ConfigError, match='did you mean "mse"'):
        check_method("msee")


@pytest.mark.parametrize("bounds", [(-1.3, 4.2), (0.0, 6.0), (-3.0, -1.0), (0.0, 0.0), (2.0, 3.0), (-1e-40, 1e-40)])
@pytest.mark.parametrize("symmetric", [False, True])
def test_zero_is_a_code_and_the_range_is_covered(bounds: tuple[float, float], symmetric: bool) -> None:
    scale, zero = step(bounds, symmetric)
    assert scale > 0
    assert np.float32(scale) == scale
    lowest, highest = (-127, 127) if symmetric else (0, 255)
    assert lowest <= zero <= highest
    assert symmetric <= (zero == 0)
    assert (lowest - zero) * scale <= bounds[0] + scale / 2 * 1.001
    assert (highest - zero) * scale >= bounds[1] - scale / 2 * 1.001
