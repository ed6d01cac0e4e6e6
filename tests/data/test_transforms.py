from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from featherseg.core.config import AugmentConfig
from featherseg.core.types import InputSpec
from featherseg.data.transforms import PADDING_COLOR, Look, TrainTransform, id_counts, jitter_colors

CODES = np.zeros((256, 3), np.uint8)
CODES[:6] = (0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)
CODES[255] = PADDING_COLOR


def coded(height: int, width: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a mask of a few large shapes of six classes and the image whose colours spell it."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    for label in (1, 2, 3, 4, 5):
        y, x = int(rng.integers(0, height)), int(rng.integers(0, width))
        cv2.circle(mask, (x, y), max(min(height, width) // 4, 1), label, -1)
    return CODES[mask], mask


def decoded(image: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Return the nearest code of each pixel, of the six classes and the padding."""
    codes = CODES[[0, 1, 2, 3, 4, 5, 255]].astype(int)
    place = np.abs(image[..., None, :].astype(int) - codes).sum(-1).argmin(-1)
    return np.asarray(np.take([0, 1, 2, 3, 4, 5, 255], place), np.intp)


def config(**options: Any) -> AugmentConfig:
    chosen: dict[str, Any] = {"jitter": 0.0, "blur": 0.0, "flip": 0.5, "crop": (96, 128)}
    return AugmentConfig(**chosen | options)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("size", "scale", "balance"),
    [
        ((200, 300), (0.5, 2.0), 0.0),
        ((200, 300), (2.0, 4.0), 1.0),
        ((200, 300), (0.3, 0.6), 0.0),  # the window is larger than the image
        ((60, 300), (0.5, 1.5), 0.5),
        ((97, 101), (1.0, 1.0), 0.0),
    ],
)
def test_image_and_mask_stay_aligned(size: tuple[int, int], scale: tuple[float, float], balance: float) -> None:
    transform = TrainTransform(config(scale=scale, class_balance=balance))
    agreeing = []
    for seed in range(20):
        image, mask = transform(*coded(*size, seed=seed), rng(seed))
        agreeing.append((decoded(image) == mask).mean())
    assert np.mean(agreeing) >= 0.97
    assert min(agreeing) >= 0.93


def test_at_scale_1_pixels_are_cut_and_nothing_else() -> None:
    """Red and green say where each pixel of the source was, and so does the mask, modulo its 250 values."""
    rows, columns = np.indices((50, 60), np.uint8)
    image = np.dstack([rows, columns, np.full_like(rows, 77)])
    mask = (np.arange(3000).reshape(50, 60) % 250).astype(np.uint8)
    transform = TrainTransform(config(scale=(1.0, 1.0), flip=0.5, crop=(20, 30)))
    flipped, tops, lefts = 0, set(), set()
    for seed in range(300):
        out, ids = transform(image, mask, rng(seed))
        turn = -1 if out[0, 0, 1] > out[0, -1, 1] else 1
        top, left = int(out[0, 0, 0]), int(out[0, ::turn, 1][0])
        window = (slice(top, top + 20), slice(left, left + 30))
        np.testing.assert_array_equal(out[:, ::turn], image[window])
        np.testing.assert_array_equal(ids[:, ::turn], mask[window])
        flipped += turn < 0
        tops.add(top)
        lefts.add(left)
    assert 110 < flipped < 190
    assert tops == lefts == set(range(31))  # every place up to the border


def test_a_shrunk_mask_holds_the_middle_pixels() -> None:
    """At a third, each pixel covers 3x3, and the mask takes the one in the middle, where the image's average lies."""
    mask = np.random.default_rng(0).integers(0, 6, (30, 60), dtype=np.uint8)
    transform = TrainTransform(config(scale=(1 / 3, 1 / 3), flip=0.0, crop=(10, 20)))
    np.testing.assert_array_equal(transform(CODES[mask], mask, rng(0))[1], mask[1::3, 1::3])


@pytest.mark.parametrize(("flip", "same"), [(0.0, True), (1.0, False)])
def test_flip_is_a_probability(flip: float, same: bool) -> None:
    image, mask = coded(40, 50)
    transform = TrainTransform(config(scale=(1.0, 1.0), flip=flip, crop=(40, 50)))
    out, ids = transform(image, mask, rng(0))
    np.testing.assert_array_equal(ids, mask if same else mask[:, ::-1])
    np.testing.assert_array_equal(out, image if same else image[:, ::-1])


@pytest.mark.parametrize("crop", [(96, 128), (65, 97), (1, 1), (33, 200)])
@pytest.mark.parametrize("size", [(96, 128), (1, 1), (1, 500), (500, 1), (7, 9), (333, 401)])
def test_the_crop_has_its_size_and_no_new_ids(size: tuple[int, int], crop: tuple[int, int]) -> None:
    transform = TrainTransform(config(crop=crop, scale=(0.1, 4.0), jitter=0.3, blur=0.5, class_balance=0.5))
    image, mask = coded(*size)
    for seed in range(40):
        out, ids = transform(image, mask, rng(seed))
        assert (out.shape, ids.shape) == ((*crop, 3), crop)
        assert out.dtype == ids.dtype == np.uint8
        assert out.flags.c_contiguous
        assert ids.flags.c_contiguous
        assert set(np.unique(ids)) <= {*np.unique(mask), 255}


def test_an_image_thinner_than_a_pixel_of_the_crop_is_still_there() -> None:
    transform = TrainTransform(config(crop=(8, 8), scale=(0.05, 0.3)))
    image, mask = np.full((1, 1, 3), 7, np.uint8), np.full((1, 1), 3, np.uint8)
    places = set()
    for seed in range(300):
        _, ids = transform(image, mask, rng(seed))
        assert (ids == 3).sum() == 1
        places.add(int(ids.argmin()))
    assert {0, 7, 56, 63} <= places


def test_beside_the_image_is_ignored_and_of_the_mean_colour() -> None:
    transform = TrainTransform(config(crop=(60, 80), scale=(1.0, 1.0)), ignore_index=200)
    image, mask = np.full((20, 30, 3), 7, np.uint8), np.full((20, 30), 3, np.uint8)
    out, ids = transform(image, mask, rng(0))
    assert (ids == 3).sum() == 600
    assert (ids == 200).sum() == 60 * 80 - 600
    assert (out[ids == 3] == 7).all()
    assert (out[ids == 200] == PADDING_COLOR).all()


def test_class_balance_shows_rare_classes_more_often() -> None:
    image, mask = coded(300, 400, seed=1)
    mask[mask == 5] = 0
    mask[10:16, 390:396] = 5  # in a corner, which uniform crops rarely hold
    mask[0, 0] = 255

    def share(balance: float) -> float:
        transform = TrainTransform(config(crop=(64, 64), scale=(1.0, 1.0), class_balance=balance))
        return float(np.mean([5 in transform(image, mask, rng(seed))[1] for seed in range(200)]))

    present = len(np.unique(mask)) - 1
    assert share(1.0) > 0.8 / present
    assert share(0.0) < 0.3 / present
    assert share(0.0) < share(0.5) < share(1.0)


def test_class_balance_on_a_wholly_ignored_mask() -> None:
    transform = TrainTransform(config(class_balance=1.0))
    image, _ = coded(200, 300)
    assert (transform(image, np.full((200, 300), 255, np.uint8), rng(0))[1] == 255).all()


def test_all_randomness_comes_from_the_generator() -> None:
    transform = TrainTransform(AugmentConfig(crop=(64, 80), blur=0.5, class_balance=0.5))
    image, mask = coded(200, 300)
    results: list[bytes] = []
    for seed in (3, 3, 4):
        np.random.seed(len(results))  # noqa: NPY002 - must not matter
        cv2.setRNGSeed(len(results))
        out, ids = transform(image, mask, rng(seed))
        results.append(out.tobytes() + ids.tobytes())
    assert results[0] == results[1] != results[2]


def test_sources_stay_as_they_are() -> None:
    image, mask = coded(64, 80)
    image.flags.writeable = mask.flags.writeable = False
    transform = TrainTransform(AugmentConfig(crop=(64, 80), scale=(1.0, 1.0), blur=1.0))
    for seed in range(4):
        out, ids = transform(image, mask, rng(seed))
        out[:], ids[:] = 0, 0  # copies, which may be written
    np.testing.assert_array_equal(image, CODES[mask])


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5])
def test_a_crop_that_is_left_alone_may_be_written_too(scale: float) -> None:
    image, mask = coded(64, 80)
    image.flags.writeable = mask.flags.writeable = False
    out, ids = TrainTransform(config(crop=(64, 80), scale=(scale, scale), flip=0.0))(image, mask, rng(0))
    out[:], ids[:] = 0, 0
    np.testing.assert_array_equal(image, CODES[mask])


def test_neutral_jitter_changes_nothing_but_rounding() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    out = jitter_colors(image, Look(flip=False))
    change = np.abs(out.astype(int) - image)
    assert change.max() <= 8  # hue is kept in 256 steps round the circle
    assert change.mean() < 1
    assert abs(float(out.mean()) - float(image.mean())) < 0.3
    grey = np.repeat(image[..., :1], 3, 2)
    np.testing.assert_array_equal(jitter_colors(grey, Look(flip=False)), grey)


def test_jitter_moves_brightness_within_its_strength() -> None:
    grey = np.full((8, 8, 3), 100, np.uint8)
    transform = TrainTransform(config(jitter=0.3))
    levels = [int(jitter_colors(grey, transform.draw_look(rng(seed)))[0, 0, 0]) for seed in range(200)]
    assert min(levels) >= 70
    assert max(levels) <= 130
    assert min(levels) < 75
    assert max(levels) > 125
    assert abs(np.mean(levels) - 100) < 4


def test_hue_turns_the_circle_and_saturation_fades() -> None:
    red = np.full((4, 4, 3), (200, 0, 0), np.uint8)
    green = jitter_colors(red, Look(flip=False, hue=85))[0, 0].astype(int)  # a third of 256
    assert np.abs(green - (0, 200, 0)).max() <= 6
    back = jitter_colors(red, Look(flip=False, hue=-171))[0, 0].astype(int)
    np.testing.assert_array_equal(back, green)
    np.testing.assert_array_equal(jitter_colors(red, Look(flip=False, saturation=0.0)), np.full_like(red, 200))


def test_looks_keep_their_ranges() -> None:
    transform = TrainTransform(AugmentConfig(flip=0.25, jitter=0.4, blur=0.75))
    looks = np.array([transform.draw_look(rng(seed)) for seed in range(2000)])
    flips, factors, hues, sigmas = looks[:, 0], looks[:, 1:4], looks[:, 4], looks[:, 5]
    assert abs(flips.mean() - 0.25) < 0.04
    assert 0.6 <= factors.min() < 0.61
    assert 1.39 < factors.max() <= 1.4
    assert (hues.min(), hues.max()) == (-10, 10)  # 0.4 of a tenth of 256
    assert abs((sigmas > 0).mean() - 0.75) < 0.04
    assert 0.3 <= sigmas[sigmas > 0].min() < 0.31
    assert 1.49 < sigmas.max() <= 1.5
    assert set(map(tuple, looks[:, 1:].round(12))) != {(1.0, 1.0, 1.0, 0.0, 0.0)}
    still = TrainTransform(AugmentConfig(flip=0.0, jitter=0.0, blur=0.0))
    assert still.draw_look(rng(0)) == Look(flip=False)


def as_of_old(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], options: AugmentConfig, draw: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return what the first version of the transform gave, with windows that lie within the image, written plainly."""
    scale = draw.uniform(*options.scale)
    sides = [max(round(side / scale), 1) for side in options.crop]
    room = [side - window for side, window in zip(mask.shape, sides, strict=True)]
    assert min(room) >= 0
    if draw.random() < options.class_balance:
        present = np.unique(mask)
        rows, columns = np.nonzero(mask == draw.choice(present[present != 255]))
        pick = draw.integers(len(rows))
        top, left = int(rows[pick] - draw.integers(sides[0])), int(columns[pick] - draw.integers(sides[1]))
        top, left = min(max(top, 0), room[0]), min(max(left, 0), room[1])
    else:
        top, left = int(draw.integers(room[0] + 1)), int(draw.integers(room[1] + 1))
    image, mask = (part[top : top + sides[0], left : left + sides[1]] for part in (image, mask))
    method = cv2.INTER_AREA if options.crop[0] < sides[0] else cv2.INTER_LINEAR
    image = cv2.resize(image, options.crop[::-1], interpolation=method)
    mask = cv2.resize(mask, options.crop[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    if draw.random() < options.flip:
        image, mask = image[:, ::-1], mask[:, ::-1]
    if options.jitter:
        brightness, contrast, saturation = 1 + options.jitter * draw.uniform(-1, 1, 3)
        hue = options.jitter * draw.uniform(-0.1, 0.1)
        values, grey = np.arange(256, dtype=np.float32), float(image.mean())
        curve = np.clip((values - grey) * contrast * brightness + grey * brightness, 0, 255)
        hsv = cv2.cvtColor(np.rint(curve).astype(np.uint8)[image], cv2.COLOR_RGB2HSV_FULL)
        hsv[..., 0] += np.uint8(round(hue * 256) % 256)
        hsv[..., 1] = np.rint(np.clip(values * saturation, 0, 255)).astype(np.uint8)[hsv[..., 1]]
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
    if draw.random() < options.blur:
        image = cv2.GaussianBlur(image, (0, 0), sigmaX=draw.uniform(0.3, 1.5))
    return image, mask


@pytest.mark.parametrize(
    "options",
    [{}, {"jitter": 0.3, "blur": 0.5}, {"class_balance": 0.5}, {"jitter": 1.0, "blur": 0.1, "class_balance": 1.0}],
)
def test_samples_of_a_seed_stay_what_they_were(options: dict[str, Any]) -> None:
    chosen = config(**{"scale": (0.6, 2.0)} | options)
    transform = TrainTransform(chosen)
    for seed in range(25):
        image = rng(seed).integers(0, 256, (200, 300, 3), dtype=np.uint8)
        mask = coded(200, 300, seed)[1]
        mask[:9, :9] = 255
        ours, theirs = rng(seed), rng(seed)
        for part, expected in zip(transform(image, mask, ours), as_of_old(image, mask, chosen, theirs), strict=True):
            np.testing.assert_array_equal(part, expected)
        assert ours.random() == theirs.random()  # no draw more, none less


def test_contrast_curves_of_a_seed_stay_what_they_were() -> None:
    """All levels under many curves: a product in float32 instead of float64 changes one of them now and then."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    mask = np.zeros((16, 16), np.uint8)
    chosen = config(scale=(1.0, 1.0), crop=(16, 16), jitter=1.0)
    transform = TrainTransform(chosen)
    for seed in range(1500):
        image, _ = transform(ramp, mask, rng(seed))
        np.testing.assert_array_equal(image, as_of_old(ramp, mask, chosen, rng(seed))[0])


def test_ids_are_counted() -> None:
    mask = np.random.default_rng(0).integers(0, 256, (70, 90), dtype=np.uint8)
    mask[mask == 7] = 8
    mask.flags.writeable = False
    np.testing.assert_array_equal(id_counts(mask), np.bincount(mask.ravel(), minlength=256))
    np.testing.assert_array_equal(id_counts(mask[5:50, 3:40]), np.bincount(mask[5:50, 3:40].ravel(), minlength=256))


def test_scales_count_from_the_size_that_the_network_wants() -> None:
    image, mask = coded(60, 80)
    enlarging = TrainTransform(config(crop=(96, 128), scale=(1.0, 1.0), flip=0.0), spec=InputSpec(long_side=160))
    crop, ids = enlarging.crop(image, mask, rng(0))
    assert enlarging.draw_scale((60, 80), rng(0)) == 2.0
    whole = cv2.resize(mask, (160, 120), interpolation=cv2.INTER_NEAREST_EXACT)
    windows = np.lib.stride_tricks.sliding_window_view(whole, (96, 128))
    assert (windows == ids).all(axis=(2, 3)).any()  # a window of the enlarged mask
    assert crop.shape == (96, 128, 3)
