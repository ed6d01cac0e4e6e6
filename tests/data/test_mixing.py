from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from featherseg.core.config import AugmentConfig
from featherseg.core.types import ClassSet
from featherseg.data.mixing import MAX_COVER, MixedCrops, class_rarity, component
from featherseg.data.transforms import TrainTransform

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
NAMES = tuple("abcdef")


@dataclass
class Listed:
    """A dataset of arrays, which must not be written to."""

    pairs: list[Pair]
    name: str = "listed"
    split: str = "train"
    classes: ClassSet = ClassSet(NAMES)  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        for part in (part for pair in self.pairs for part in pair):
            part.flags.writeable = False

    def __len__(self) -> int:
        return len(self.pairs)

    def stem(self, index: int) -> str:
        return str(index)

    def read(self, index: int) -> Pair:
        return self.pairs[index]


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def painted(mask: NDArray[np.uint8], seed: int = 0) -> Pair:
    """Return a mask with an image whose red is the id, times 20, and whose green and blue are noise."""
    noise = rng(seed).integers(0, 256, (*mask.shape, 2), dtype=np.uint8)
    return np.dstack([np.where(mask == 255, 255, mask * 20).astype(np.uint8), noise]), mask


def flat(label: int, size: tuple[int, int] = (60, 80)) -> Pair:
    return painted(np.full(size, label, np.uint8), label)


def mixed(pairs: list[Pair], **options: Any) -> MixedCrops:
    chosen: dict[str, Any] = {"crop": (48, 64), "scale": (1.0, 1.0), "flip": 0.0}
    return MixedCrops(Listed(pairs), TrainTransform(AugmentConfig(**chosen | options)))


def test_what_is_off_draws_nothing() -> None:
    crops = mixed([flat(i) for i in range(4)], class_balance=0.5, scale=(0.5, 2.0))
    for seed in range(20):
        ours, theirs = rng(seed), rng(seed)
        image, mask = crops(2, ours)
        expected = crops.transform.crop(*crops.dataset.read(2), theirs)
        np.testing.assert_array_equal(image, expected[0])
        np.testing.assert_array_equal(mask, expected[1])
        assert ours.bit_generator.state == theirs.bit_generator.state


def test_a_mosaic_is_four_crops_around_a_centre() -> None:
    crops = mixed([flat(i) for i in range(6)], mosaic=1.0, scale=(1.0, 1.2))
    centres, others = [], Counter[int]()
    for seed in range(300):
        image, mask = crops(3, rng(seed))
        assert (image.shape, mask.shape) == ((48, 64, 3), (48, 64))
        np.testing.assert_array_equal(image[..., 0], mask * 20)
        corners = [int(mask[y, x]) for y in (0, -1) for x in (0, -1)]
        assert corners[0] == 3  # the sample itself
        others.update(corners[1:])
        rows, columns = (np.flatnonzero(np.diff(line)) for line in (mask[:, -1].astype(int), mask[-1].astype(int)))
        assert len(rows) <= 1
        assert len(columns) <= 1
        if len(rows) and len(columns):
            y, x = int(rows[0]) + 1, int(columns[0]) + 1
            centres.append((y, x))
            expected = np.empty_like(mask)
            expected[:y, :x], expected[:y, x:], expected[y:, :x], expected[y:, x:] = corners
            np.testing.assert_array_equal(mask, expected)
    assert len(centres) > 150
    ys, xs = zip(*centres, strict=True)
    assert (min(ys), max(ys)) == (12, 36)
    assert (min(xs), max(xs)) == (16, 48)
    assert set(others) == set(range(6))
    assert max(others.values()) < 1.5 * min(others.values())


def test_cutmix_puts_in_a_rectangle_of_another_sample() -> None:
    """At scale 1 and with crops as large as the images, both stay in place to the pixel."""
    size = (48, 64)
    pairs = [flat(i, size) for i in range(4)]
    crops = mixed(pairs, cutmix=1.0, crop=size)
    shares, others = [], Counter[int]()
    for seed in range(800):
        image, mask = crops(2, rng(seed))
        inside = mask != 2
        shares.append(float(inside.mean()))
        if not inside.any():
            continue
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        room = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        (other,) = np.unique(mask[room])
        others[int(other)] += 1
        expected = pairs[2][0].copy()
        expected[room] = pairs[other][0][room]
        np.testing.assert_array_equal(image, expected)
    assert set(others) == {0, 1, 3}
    assert max(others.values()) < 1.4 * min(others.values())
    draws = rng(0)
    areas = []
    for _ in range(20000):  # the paper's rectangle: a uniform share of the area, a uniform centre, clipped
        side, centre = np.sqrt(draws.random()), draws.random(2)
        ends = [np.clip(centre + sign * side / 2, 0, 1) for sign in (-1, 1)]
        areas.append(float(np.prod(ends[1] - ends[0])))
    np.testing.assert_allclose(np.quantile(shares, (0.1, 0.5, 0.9)), np.quantile(areas, (0.1, 0.5, 0.9)), atol=0.05)


def test_cutmix_is_a_function_of_its_generator_and_leaves_the_dataset_alone() -> None:
    crops = mixed([flat(i) for i in range(4)], cutmix=0.5, mosaic=0.5, copy_paste=0.5, scale=(0.5, 2.0))
    for seed in range(20):
        for ours, theirs in zip(crops(1, rng(seed)), crops(1, rng(seed)), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert all((crops.dataset.read(i)[1] == i).all() for i in range(4))
    alone = mixed([flat(3)], cutmix=1.0)  # a dataset of one has no other
    assert all((alone(0, rng(seed))[1] == 3).all() for seed in range(5))


def test_a_mosaic_keeps_image_and_mask_together_and_cuts_before_it_resizes() -> None:
    """At scale 1 each quarter is a piece of its source, pixel by pixel."""
    rows, columns = np.indices((200, 250), np.uint8)
    mask = ((rows // 40 + columns // 50) % 6).astype(np.uint8)
    crops = mixed([(np.dstack([rows, columns, mask]), mask)], mosaic=1.0)
    for seed in range(20):
        image, ids = crops(0, rng(seed))
        np.testing.assert_array_equal(image[..., 2], ids)
        steps = np.diff(image[..., :2].astype(int), axis=1)
        assert (np.any(steps != (0, 1), axis=-1)).sum(axis=1).max() <= 1  # one seam in each row


@pytest.mark.parametrize("crop", [(1, 1), (2, 3), (33, 65)])
def test_small_crops_have_their_size(crop: tuple[int, int]) -> None:
    pairs = [flat(1), painted(np.full((1, 1), 2, np.uint8)), flat(3, (5, 300))]
    crops = mixed(
        pairs, crop=crop, mosaic=0.5, cutmix=0.5, copy_paste=0.7, scale=(0.1, 4.0), flip=0.5, class_balance=0.5
    )
    for seed in range(100):
        image, mask = crops(seed % 3, rng(seed))
        assert (image.shape, mask.shape) == ((*crop, 3), crop)
        assert set(np.unique(mask)) <= {1, 2, 3, 255}


@pytest.mark.parametrize("kind", ["mosaic", "cutmix", "copy_paste"])
def test_a_share_is_a_probability(kind: str) -> None:
    pairs = [flat(0)] + [flat(i, (8, 9)) for i in range(1, 6)]
    crops = mixed(pairs, **{kind: 0.3})
    changed = np.mean([bool((crops(0, rng(seed))[1] != 0).any()) for seed in range(600)])
    # Of a mosaic's other parts, one in 216 has all three from sample 0; objects come from it one time in six.
    assert abs(changed - 0.3 * (5 / 6 if kind == "copy_paste" else 1)) < 0.06


def disc(label: int, size: int = 15, canvas: tuple[int, int] = (60, 80), at: tuple[int, int] = (30, 40)) -> Pair:
    mask = np.full(canvas, 255, np.uint8)
    cv2.circle(mask, at[::-1], size // 2, label, -1)
    return painted(mask, label)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_a_pasted_object_is_whole_and_its_own_colours(flip: float) -> None:
    mask = np.full((60, 80), 255, np.uint8)
    mask[20:40, 30:35] = 4
    mask[35:40, 30:50] = 4  # an L, which has no mirror symmetry
    source = painted(mask)
    cutout = (mask == 4)[20:40, 30:50]
    texture = source[0][20:40, 30:50]
    if flip:
        cutout, texture = cutout[:, ::-1], texture[:, ::-1]
    crops = mixed([flat(0), source], copy_paste=1.0, flip=flip)
    places = set()
    for seed in range(200):
        image, ids = crops(0, rng(seed))
        expected = crops.transform.crop(*crops.dataset.read(0), rng(seed))[0]
        if not (ids == 4).any():
            continue  # the second sample was the first itself
        rows, columns = np.nonzero(ids == 4)
        top, left = int(rows.min()), int(columns.min())
        box = (slice(top, top + 20), slice(left, left + 20))
        places.add((top, left))
        np.testing.assert_array_equal(ids[box] == 4, cutout)
        np.testing.assert_array_equal(image[box][cutout], texture[cutout])
        np.testing.assert_array_equal(image[ids == 0], expected[ids == 0])  # and nothing else is touched
        assert set(np.unique(ids)) == {0, 4}
    assert {top for top, _ in places} <= set(range(29))
    assert {left for _, left in places} <= set(range(45))
    assert len(places) > 60


def test_objects_come_in_the_configured_scales() -> None:
    crops = mixed([flat(0), disc(2)], copy_paste=1.0, scale=(0.5, 2.0), crop=(60, 80))
    areas = [int((crops(0, rng(seed))[1] == 2).sum()) for seed in range(300)]
    shown = np.array([area for area in areas if area])
    original = int((disc(2)[1] == 2).sum())
    assert 0.2 * original <= shown.min() < 0.5 * original
    assert 3 * original < shown.max() <= 4.4 * original


@pytest.mark.parametrize("size", [(300, 20), (20, 300), (300, 300)])
def test_large_objects_are_made_to_fit(size: tuple[int, int]) -> None:
    mask = np.full((400, 400), 255, np.uint8)
    mask[50 : 50 + size[0], 60 : 60 + size[1]] = 5
    crops = mixed([flat(0), painted(mask)], copy_paste=1.0)
    covers = [float((crops(0, rng(seed))[1] == 5).mean()) for seed in range(40)]
    assert max(covers) <= MAX_COVER + 0.02
    shape = np.asarray(size) * min(48 / size[0], 64 / size[1])
    assert max(covers) >= min(MAX_COVER, shape.prod() / (48 * 64)) - 0.04


def test_rare_classes_are_pasted_more_often() -> None:
    mask = np.zeros((200, 200), np.uint8)
    mask[:, :80] = 1  # 40 %
    mask[:, 80:90] = 2  # 5 %
    mask[:20, 90:110] = 3  # 1 %
    crops = mixed([flat(255, (48, 64)), painted(mask)], copy_paste=1.0, scale=(0.2, 0.2))
    drawn = Counter(int(np.unique(crops(0, rng(seed))[1])[0]) for seed in range(1200))
    weights = 1 / (np.array([0.54, 0.4, 0.05, 0.01]) + 1e-3)
    got = np.array([drawn[i] for i in range(4)]) / sum(drawn[i] for i in range(4))
    np.testing.assert_allclose(got, weights / weights.sum(), atol=0.04)


def test_rarity_counts_labelled_pixels_of_evenly_spaced_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.full((10, 20), 255, np.uint8)
    mask[:5] = 1
    mask[5, :] = 4
    np.testing.assert_allclose(
        class_rarity(Listed([painted(mask)])), 1 / (np.array([0, 5, 0, 0, 1, 0]) / 6 + 1e-3), rtol=1e-6
    )
    np.testing.assert_allclose(class_rarity(Listed([flat(255)])), 1e3)
    read: list[int] = []
    dataset = Listed([flat(i % 6, (4, 4)) for i in range(300)])
    monkeypatch.setattr(Listed, "read", lambda self, index: (read.append(index), self.pairs[index])[1])
    class_rarity(dataset)
    assert read == list(range(0, 300, 3))


@pytest.mark.parametrize("second", [flat(255), painted(np.pad(np.full((5, 6), 2, np.uint8), 20, constant_values=255))])
def test_a_sample_without_an_object_leaves_the_crop(second: Pair) -> None:
    """Ignored pixels are no object, nor is the rest of one: 30 pixels here."""
    crops = mixed([flat(0), second], copy_paste=1.0)
    for seed in range(30):
        assert (crops(0, rng(seed))[1] == 0).all()


def by_hand(mask: NDArray[np.uint8], place: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the component by visiting neighbours one by one."""
    inside = np.zeros(mask.shape, bool)
    waiting = [place]
    while waiting:
        y, x = waiting.pop()
        if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x] == mask[place] and not inside[y, x]:
            inside[y, x] = True
            waiting += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return inside


def test_components_against_a_search() -> None:
    for seed in range(30):
        mask = rng(seed).integers(0, 3, (9, 13), dtype=np.uint8)
        mask.flags.writeable = False
        place = (int(rng(seed).integers(9)), int(rng(seed + 99).integers(13)))
        expected = by_hand(mask, place)
        box, cutout = component(mask, place)
        whole = np.zeros(mask.shape, np.uint8)
        whole[box] = cutout
        np.testing.assert_array_equal(whole, expected.astype(np.uint8))
        assert cutout.any(axis=0).all()  # the box is tight
        assert cutout.any(axis=1).all()


def test_one_of_several_objects_is_pasted_the_larger_more_often() -> None:
    mask = np.full((60, 80), 255, np.uint8)
    mask[10:20, 10:30] = 3  # 200 pixels
    mask[40:50, 50:55] = 3  # 50
    crops = mixed([flat(0), painted(mask)], copy_paste=1.0)
    areas = Counter(int((crops(0, rng(seed))[1] == 3).sum()) for seed in range(400))
    assert set(areas) == {0, 50, 200}
    assert 2.5 < areas[200] / areas[50] < 6.5
