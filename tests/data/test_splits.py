"""Splits that are drawn: every class on both sides, groups whole, the same everywhere."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import error_line
from featherseg.core.errors import ConfigError, DataError
from featherseg.data.annotations import Sample
from featherseg.data.datasets import create_dataset
from featherseg.data.listing import settle_splits
from featherseg.data.splits import draw_split, group_of, made_split
from featherseg.doctor.listing import list_pairs

NAMES = [f"part_{i:03d}" for i in range(24)]


def plain(names: list[str], share: float = 0.2, seed: int = 0) -> set[str]:
    return {names[place] for place in draw_split(names, share, seed)[1]}


def drawn(has: dict[str, set[int]], share: float = 0.2, seed: int = 0, group: str = "") -> tuple[set[str], set[str]]:
    names = list(has)
    classes = len(set().union(*has.values()))
    train, val = draw_split(names, share, seed, group=group, classes=classes, contents=lambda at: has[names[at]])
    assert sorted(train + val) == list(range(len(names)))
    return {names[at] for at in train}, {names[at] for at in val}


def classes_of(has: dict[str, set[int]], side: set[str]) -> set[int]:
    return set().union(*(has[name] for name in side))


def test_the_draw_by_names_alone_is_what_it_always_was() -> None:
    """Recorded before splits looked at classes: scores of old runs stay comparable."""
    assert sorted(plain([f"s{i}" for i in range(10)], 0.5)) == ["s0", "s3", "s4", "s5", "s6"]
    pairs = [(Path(f"{name}.png"), Path(name)) for name in NAMES]
    assert {image.stem for image, _ in made_split(pairs, 0.2, 0)["val"]} == plain(NAMES)
    assert len(plain(NAMES)) == 5


def test_a_draw_that_holds_every_class_stays_and_looks_at_few_masks() -> None:
    looked = []

    def contents(place: int) -> set[int]:
        looked.append(place)
        return {0, 1}

    train, val = draw_split(NAMES, classes=2, contents=contents)
    assert {NAMES[place] for place in val} == plain(NAMES)
    assert len(looked) == 2
    assert len(train) == 19


def test_a_rare_class_is_on_both_sides_and_no_more_samples_move_than_need_to() -> None:
    val = plain(NAMES)
    rare = [name for name in NAMES if name not in val][:3]
    has = {name: {0, 1} if name in rare else {0} for name in NAMES}
    train, chosen = drawn(has)
    assert len(chosen) == len(val) == 5
    assert len(chosen & set(rare)) == 1
    assert len(chosen - val) == 1
    assert classes_of(has, train) == classes_of(has, chosen) == {0, 1}


def test_a_class_of_one_sample_is_trained_on() -> None:
    only = sorted(plain(NAMES))[0]
    has = {name: {0, 1} if name == only else {0} for name in NAMES}
    train, val = drawn(has)
    assert only in train
    assert len(val) == 5


@pytest.mark.parametrize("seed", range(30))
def test_every_class_of_two_samples_or_more_is_on_both_sides(seed: int) -> None:
    """Each sample has one class, so that a draw is possible whenever there are samples enough to validate on."""
    dice = random.Random(seed)
    names = [f"n{dice.random()}" for _ in range(40)]
    has = {name: {place % 8 if place < 16 else 0} for place, name in enumerate(names)}
    train, val = drawn(has, seed=seed)
    assert classes_of(has, train) == classes_of(has, val) == set(range(8))
    assert len(val) == 8


@pytest.mark.parametrize("seed", range(30))
def test_training_never_loses_a_class_and_the_order_of_files_does_not_matter(seed: int) -> None:
    dice = random.Random(seed)
    has = {f"n{place}": set(dice.sample(range(12), dice.randint(1, 3))) for place in range(15)}
    train, val = drawn(has, seed=seed)
    assert val
    assert classes_of(has, train) == classes_of(has, set(has))
    shuffled = dict(dice.sample(list(has.items()), len(has)))
    assert drawn(shuffled, seed=seed) == (train, val)


def test_groups_stay_whole() -> None:
    names = [f"{town}_{i:02d}" for town, count in (("ulm", 20), ("bonn", 5), ("kiel", 6)) for i in range(count)]
    train, val = draw_split(names, group="^([a-z]+)_")
    towns = [{names[place].split("_")[0] for place in side} for side in (train, val)]
    assert not towns[0] & towns[1]
    assert towns[1] in ({"bonn"}, {"kiel"})  # the one of 20 is too large for a fifth of 31
    assert towns == [{names[p].split("_")[0] for p in side} for side in draw_split(names, group="^[a-z]+")]


def test_groups_and_classes_together() -> None:
    has = {f"{group}_{i}": {0, 1} if group in "ab" and i == 0 else {0} for group in "abcdefgh" for i in range(4)}
    train, val = drawn(has, group="^(.)_")
    assert classes_of(has, train) == classes_of(has, val) == {0, 1}
    assert not {name[0] for name in train} & {name[0] for name in val}


def test_what_cannot_be_drawn_is_said() -> None:
    assert "no regular expression" in error_line(ConfigError, group_of, "a", "(")
    assert "finds nothing in the name 'part_000'" in error_line(DataError, draw_split, NAMES, group="^x")
    assert "one group ('part') makes no split" in error_line(DataError, draw_split, NAMES, group="^[a-z]+")
    assert "1 sample makes no split" in error_line(DataError, draw_split, ["a"])
    assert "val_share is 1" in error_line(ConfigError, draw_split, NAMES, 1.0)


def defects(root: Path, rare: int = 3) -> Path:
    """Binary masks of 0 and 255; the pictures with a defect are all where names alone would train."""
    val = plain(NAMES)
    having = [name for name in NAMES if name not in val][:rare]
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for name in NAMES:
        ids = np.zeros((64, 64), np.uint8)
        ids[8:12, 8:40] = 255 * (name in having)
        Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(root / "images" / f"{name}.png")
        Image.fromarray(ids).save(root / "masks" / f"{name}.png")
    return root


@pytest.mark.parametrize("named", [False, True])
def test_folders_draw_defects_into_both_sides(tmp_path: Path, named: bool) -> None:
    root = defects(tmp_path / "parts")
    if named:
        (root / "classes.toml").write_text('names = ["good", "defect"]\nids = [0, 255]\n')
    for split, count in (("train", 19), ("val", 5)):
        dataset = create_dataset("folder", root, split)
        assert len(dataset) == count
        assert any((dataset.read(i)[1] == 1).any() for i in range(count))
    val = create_dataset("folder", root, "val")
    said = {pair.image.stem for pair in list_pairs(root, None, None).pairs if pair.split == "val"}
    assert said == {val.stem(i) for i in range(len(val))}  # the doctor examines the split that is trained on


def test_folders_draw_by_groups_and_refuse_them_where_splits_are_given(street_folder: Path) -> None:
    val = create_dataset("folder", street_folder, "val", group="s([0-4])?", val_share=0.5)
    unnumbered = {f"s{i}" for i in range(5, 10)}
    assert unnumbered & {val.stem(i) for i in range(len(val))} in (unnumbered, set())  # one group, without a number
    for part in ("images", "masks"):
        (street_folder / part / "train").mkdir()
        (street_folder / part / "s0.png").rename(street_folder / part / "train" / "s0.png")
    message = error_line(ConfigError, create_dataset, "folder", street_folder, "train", group="s")
    assert "data.options.group is for splits that are drawn" in message


def test_a_broken_mask_is_left_to_the_reader(street_folder: Path) -> None:
    (street_folder / "masks" / "s4.png").write_bytes(b"no picture")
    (street_folder / "classes.toml").write_text('names = ["sky", "road", "car", "tram"]\n')  # so that all are looked at
    assert len(create_dataset("folder", street_folder, "train")) == 8


class Drawn:
    """Labels of one image."""

    def __init__(self, file: Path, labels: set[int]) -> None:
        self.file, self.labels = file, labels

    def read(self) -> np.ndarray:
        return np.array([sorted(self.labels)], np.uint8)


def test_labels_that_are_no_mask_files_are_drawn_by_their_classes_too(tmp_path: Path) -> None:
    file = tmp_path / "labels.json"
    file.write_text("{}")
    rare = [name for name in NAMES if name not in plain(NAMES)][:2]
    samples = [Sample(Path(name), Drawn(file, {0, 1} if name in rare else {0})) for name in NAMES]
    splits, notes = settle_splits({None: samples}, 0.2, 0, classes=2)
    assert {len(part) for part in splits.values()} == {19, 5}
    assert all(any(1 in sample.annotation.labels for sample in part) for part in splits.values())
    assert "5 of 24 images were drawn" in notes[0]
    by_name, _ = settle_splits({None: samples}, 0.2, 0)
    assert {str(sample.image) for sample in by_name["val"]} == plain(NAMES)
