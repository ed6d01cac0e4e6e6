"""Which images would teach most, and what is known of each."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from featherseg.labelling import order
from featherseg.labelling.journal import Journal
from featherseg.labelling.look import Look, look_at
from featherseg.labelling.order import features_of, teaching_order


def probabilities(seed: int, size: tuple[int, int] = (37, 53), classes: int = 5) -> np.ndarray:
    values = np.random.default_rng(seed).normal(0, 3, (classes, *size))
    shares = np.exp(values - values.max(axis=0))
    return (shares / shares.sum(axis=0)).astype(np.float32)


def picture(seed: int, size: tuple[int, int] = (37, 53)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(37, 53), (600, 500), (3, 2), (1, 1)])  # bands, and fewer pixels than cells
def test_a_look_is_the_mean_over_the_pixels(size: tuple[int, int]) -> None:
    shares = probabilities(0, size)
    look = look_at(picture(0, size), shares, 0.25)
    wide = shares.astype(np.float64)
    ordered = np.sort(wide, axis=0)
    assert look.entropy == pytest.approx(-(wide * np.log(wide)).sum(axis=0).mean() / math.log(5), abs=1e-5)
    assert look.margin == pytest.approx(1 - (ordered[-1] - ordered[-2]).mean(), abs=1e-5)
    assert look.sure == 0.25
    assert look.layout.shape == (5 * 24,)
    assert np.square(look.layout).reshape(5, 24).sum(axis=0) == pytest.approx(np.ones(24), abs=1e-4)
    back = Look.from_dict(look.to_dict())
    assert (back.entropy, back.margin) == (look.entropy, look.margin)
    np.testing.assert_allclose(back.layout, look.layout, atol=1e-3)


def test_certain_uncertain_and_speechless_pixels() -> None:
    certain = np.zeros((3, 8, 8), np.float32)
    certain[1] = 1
    assert look_at(picture(0, (8, 8)), certain, 1.0).entropy == pytest.approx(0, abs=1e-6)
    assert look_at(picture(0, (8, 8)), certain, 1.0).margin == 0
    for nothing_known in (np.full((3, 8, 8), 1 / 3, np.float32), np.zeros((3, 8, 8), np.float32)):
        look = look_at(picture(0, (8, 8)), nothing_known, 0.0)
        assert (look.entropy, look.margin) == pytest.approx((1, 1), abs=1e-5)
    one = look_at(picture(0, (8, 8)), np.ones((1, 8, 8), np.float32), 1.0)  # a network of one class
    assert (one.entropy, one.margin) == pytest.approx((0, 0), abs=1e-6)


def test_layouts_are_alike_where_the_same_is_seen_in_the_same_place() -> None:
    left, right = np.zeros((2, 40, 60), np.float32), np.zeros((2, 40, 60), np.float32)
    left[0, :, :30], left[1, :, 30:] = 1, 1
    right[1, :, :30], right[0, :, 30:] = 1, 1
    grey = np.full((40, 60, 3), 128, np.uint8)
    looks = [look_at(grey, shares, 1.0) for shares in (left, left.copy(), right)]
    features = features_of(looks)
    assert np.linalg.norm(features[0] - features[1]) < 1e-3
    assert np.linalg.norm(features[0] - features[2]) > 1


def test_twenty_frames_of_one_street_are_not_the_twenty() -> None:
    rng = np.random.default_rng(0)
    streets = rng.normal(0, 1, (6, 12))
    frames = np.repeat(streets, 20, axis=0) + rng.normal(0, 0.02, (120, 12))
    unsure = np.repeat([0.9, 0.5, 0.5, 0.4, 0.4, 0.4], 20) + rng.uniform(0, 0.05, 120)
    found = teaching_order(unsure.tolist(), frames.astype(np.float32))
    assert sorted(found) == list(range(120))
    assert found[0] == int(unsure.argmax())
    assert {place // 20 for place in found[:6]} == set(range(6))
    assert {place // 20 for place in np.argsort(-unsure)[:20]} == {0}  # as uncertainty alone would have it


def test_what_is_like_a_labelled_image_comes_late() -> None:
    features = np.array([[0, 0], [0.1, 0], [5, 0], [0, 5]], np.float32)
    assert teaching_order([0.5, 0.9, 0.5, 0.5], features, labelled=[0]) == [2, 3, 1]
    assert teaching_order([0.5, 0.9, 0.5, 0.5], features, labelled=[0, 1, 2, 3]) == []


def test_images_beyond_those_chosen_one_by_one_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "GREEDY", 2)
    features = np.arange(12, dtype=np.float32).reshape(6, 2)
    found = teaching_order([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], features)
    assert sorted(found) == list(range(6))
    assert found[:2] == [5, 2]  # 0.3 times 3 steps is more than 0.1 times 5
    assert teaching_order([0.5] * 4, np.zeros((4, 2), np.float32)) == [0, 1, 2, 3]  # all alike


def test_a_journal_goes_on_where_it_was_torn(tmp_path: Path) -> None:
    image, file = tmp_path / "a.png", tmp_path / "journal"
    image.write_bytes(b"12345")
    look = look_at(picture(0), probabilities(0), 0.5)
    journal = Journal(file, {"threshold": 0.9})
    for name in ("a", "b", "c"):
        journal.add(name, image, f"mask of {name}", look)
    file.write_bytes(file.read_bytes()[:-40])  # killed while it wrote
    journal = Journal(file, {"threshold": 0.9})
    assert journal.find("a", image, "mask of a") is not None
    assert journal.find("a", image, "another mask") is None
    assert journal.find("c", image, "mask of c") is None
    journal.add("c", image, "mask of c", look)
    again = Journal(file, {"threshold": 0.9})
    assert all(again.find(name, image, f"mask of {name}") for name in ("a", "b", "c"))
    image.write_bytes(b"another image")
    assert again.find("a", image, "mask of a") is None
    assert Journal(file, {"threshold": 0.8}).find("b", image, "mask of b") is None  # begun anew
