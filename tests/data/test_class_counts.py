"""Counts of classes, and what a user is told of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featherseg.core.types import ClassSet
from featherseg.data import class_counts
from featherseg.data.cache import CachedDataset
from featherseg.data.class_counts import LIMIT, ClassCounts, absent_class_warnings, take_class_counts
from featherseg.data.datasets import create_dataset

CLASSES = ClassSet(("sky", "road", "car", "bike"))


class Masks:
    """A dataset of given masks that records which were read."""

    name, split, classes = "masks", "train", CLASSES

    def __init__(self, masks: list[np.ndarray]) -> None:
        self.masks = masks
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.masks)

    def stem(self, index: int) -> str:
        return str(index)

    def read(self, index: int) -> Any:
        self.asked.append(index)
        return np.zeros((*self.masks[index].shape, 3), np.uint8), self.masks[index]


def test_pixels_are_those_of_numpy_without_the_ignored() -> None:
    rng = np.random.default_rng(0)
    masks = [rng.choice([0, 1, 3, 255], (int(rng.integers(1, 40)), 31)).astype(np.uint8) for _ in range(7)]
    masks.append(np.asfortranarray(np.full((5, 9), 1, np.uint8))[:, ::2])  # a view in another order
    found = take_class_counts(Masks(masks))
    every = np.concatenate([mask.ravel() for mask in masks])
    assert found.pixels.tolist() == [int((every == i).sum()) for i in range(4)]
    assert found.share == pytest.approx(np.bincount(every[every < 4], minlength=4) / (every < 4).sum())
    assert (found.seen, found.total, str(found)) == (8, 8, "8")


def test_masks_of_ignored_pixels_alone_have_no_shares() -> None:
    assert take_class_counts(Masks([np.full((4, 4), 255, np.uint8)])).share.tolist() == [0, 0, 0, 0]


def test_large_datasets_are_sampled_evenly_and_say_so() -> None:
    masks = [np.full((1, 1), i * 4 // 5000, np.uint8) for i in range(5000)]
    dataset = Masks(masks)
    found = take_class_counts(dataset)
    assert len(dataset.asked) == len(set(dataset.asked)) == LIMIT == found.seen
    assert {0, 4999} < set(dataset.asked)
    assert np.diff(sorted(dataset.asked)).max() <= 5000 / LIMIT + 1
    assert found.share == pytest.approx([0.25] * 4)
    assert str(found) == f"{LIMIT} of 5000"


def test_all_masks_of_a_cache_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_counts, "LIMIT", 2)
    masks = [np.full((2, 2), i, np.uint8) for i in (0, 1, 3, 2, 1)]
    assert take_class_counts(Masks(masks)).seen == 2
    cached = take_class_counts(CachedDataset(Masks(masks)))
    assert (cached.seen, cached.pixels.tolist()) == (5, [4, 8, 4, 4])


def test_files_are_counted_without_their_images(street_folder: Path) -> None:
    for image in (street_folder / "images").iterdir():
        image.write_bytes(b"no picture")
    assert take_class_counts(create_dataset("folder", street_folder, "all")).seen == 10


def counted(*pixels: int, seen: int = 9, total: int = 9) -> ClassCounts:
    return ClassCounts(np.array(pixels), seen, total)


def test_absent_classes_are_named() -> None:
    assert absent_class_warnings(counted(5, 1, 2, 3), counted(1, 1, 1, 1), CLASSES.names) == []
    lines = absent_class_warnings(counted(5, 0, 2, 0), counted(1, 0, 1, 4), CLASSES.names)
    assert len(lines) == 2
    assert "no pixel of road, bike in 9 training masks" in lines[0]
    assert lines[1].startswith("warning: bike occurs in the validation masks alone")
    assert "road" not in lines[1]  # it is in neither, and so is not scored
    road, alone = absent_class_warnings(counted(5, 0, 2, 1), counted(1, 0, 0, 0), CLASSES.names)
    assert "road" in road
    assert "hold sky alone" in alone
    [unseen] = absent_class_warnings(counted(5, 3, 2, 1), counted(1, 1, 0, 0), CLASSES.names)
    assert "no pixel of car, bike in 9 validation masks" in unseen
    sampled = absent_class_warnings(counted(5, 0, 2, 1, total=800), counted(1, 0, 1, 1), CLASSES.names)
    assert "9 of 800 training masks" in sampled[0]


def test_training_says_which_classes_it_cannot_learn(
    street_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featherseg.core.recipes import config_from_dict
    from featherseg.training.fit import fit

    (street_folder / "classes.toml").write_text('names = ["sky", "road", "car", "tram", "bike"]\n')
    tree: dict[str, Any] = {
        "out": str(tmp_path / "runs"),
        "model": {"name": "jetnet"},
        "data": {"name": "folder", "root": str(street_folder), "batch_size": 4, "workers": 0},
        "augment": {"crop": [48, 64]},
        "loss": {"class_weights": "auto"},
        "train": {"epochs": 1, "precision": "fp32", "device": "cpu"},
    }
    for part in ("images", "masks"):
        for i in range(10):
            place = street_folder / part / ("val" if i > 7 else "train")
            place.mkdir(exist_ok=True)
            (street_folder / part / f"s{i}.png").rename(place / f"s{i}.png")
    mask_file = street_folder / "masks" / "val" / "s8.png"
    mask = np.array(Image.open(mask_file))
    mask[0, 0] = 3
    Image.fromarray(mask).save(mask_file)
    monkeypatch.setattr(class_counts, "LIMIT", 5)
    for cache, masks in ((True, "8"), (False, "5 of 8")):
        tree |= {"name": str(cache)}
        tree["data"]["cache"] = cache
        caplog.clear()
        with caplog.at_level("INFO", "featherseg"):
            fit(config_from_dict(tree))
        said = caplog.text
        assert f"warning: no pixel of tram, bike in {masks} training masks; " in said
        assert "warning: tram occurs in the validation masks alone" in said
        assert ("class weights are from 5 of 8 training masks" in said) == (not cache)
