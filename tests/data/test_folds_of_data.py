"""Folds of a dataset: every image judged once, groups whole, the same ones every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import error_line
from featherseg.core.errors import ConfigError, DataError
from featherseg.data.class_maps import open_mapped
from featherseg.data.datasets import FileDataset, create_dataset
from featherseg.data.splits import draw_folds


def test_groups_are_whole_and_sizes_even() -> None:
    keys = [f"g{i % 7}" for i in range(50)]
    drawn = draw_folds(keys, 3, seed=1)
    assert all(len({f for k, f in zip(keys, drawn, strict=True) if k == key}) == 1 for key in set(keys))
    sizes = np.bincount(drawn, minlength=3)
    assert sizes.sum() == 50
    assert sizes.max() - sizes.min() <= 8  # a group's size


def test_single_images_make_folds_of_one_size() -> None:
    assert sorted(np.bincount(draw_folds([f"i{i}" for i in range(13)], 5))) == [2, 2, 3, 3, 3]


def test_order_does_not_matter_and_the_seed_does() -> None:
    keys = [f"i{i}" for i in range(20)]
    drawn = dict(zip(keys, draw_folds(keys, 4), strict=True))
    assert dict(zip(keys[::-1], draw_folds(keys[::-1], 4), strict=True)) == drawn
    assert dict(zip(keys, draw_folds(keys, 4, seed=1), strict=True)) != drawn


def test_too_few_groups_and_folds() -> None:
    line = error_line(DataError, draw_folds, ["a", "b", "a"], 3)
    assert line == "3 images in 2 groups (a, b) make no 3 folds; give fewer folds"
    assert "folds is 1" in error_line(ConfigError, draw_folds, ["a", "b"], 1)


def opened(root: Path, k: int, split: str = "val", folds: int = 3, **options: object) -> list[str]:
    dataset = create_dataset("fold", root, split, of="folder", fold=k, folds=folds, **options)
    return [dataset.stem(i) for i in range(len(dataset))]


def test_every_image_is_judged_once(street_folder: Path) -> None:
    judged = [opened(street_folder, k) for k in (1, 2, 3)]
    assert sorted(name for names in judged for name in names) == [f"s{i}" for i in range(10)]
    for k, names in enumerate(judged, 1):
        assert sorted(names + opened(street_folder, k, "train")) == [f"s{i}" for i in range(10)]
    assert len(opened(street_folder, 1, "all")) == 10
    grouped = [opened(street_folder, k, folds=2, group="s([0-4])?") for k in (1, 2)]
    assert sorted(map(len, grouped)) == [5, 5]  # s5 to s9 have one group, the empty one


def test_it_is_a_dataset_of_files_with_mapped_classes(street_folder: Path) -> None:
    options = {"of": "folder", "fold": 1, "folds": 2}
    dataset = open_mapped("fold", street_folder, "val", {"ground": ["road", "car"]}, **options)
    assert isinstance(dataset, FileDataset)
    assert dataset.classes.names == ("ground", "sky")
    assert set(np.unique(dataset.read(0)[1])) <= {0, 1, 255}


def test_kinds_without_files() -> None:
    options = {"of": "synthetic", "folds": 2, "options": {"count": 6, "val_count": 4, "size": [64, 96]}}
    both = [create_dataset("fold", split="val", fold=k, **options) for k in (1, 2)]
    assert [len(dataset) for dataset in both] == [5, 5]
    assert both[0].read(0)[0].shape == (64, 96, 3)


def test_mistakes(street_folder: Path) -> None:
    assert "fold is 4 of 3" in error_line(ConfigError, opened, street_folder, 4)
    assert "split 'test' not found" in error_line(DataError, opened, street_folder, 1, "test")
    assert "make no 11 folds" in error_line(DataError, opened, street_folder, 1, folds=11)


def test_recordings_of_camvid_stay_together(tmp_path: Path) -> None:
    names = [f"{recording}_{i}" for recording in ("0001TP", "0006R0", "0016E5") for i in range(3)]
    for split, part in (("train", names[:7]), ("val", names[7:])):
        for folder in (split, f"{split}annot"):
            (tmp_path / folder).mkdir()
            for name in part:
                Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / folder / f"{name}.png")
        lines = "".join(f"/SegNet/CamVid/{split}/{n}.png /SegNet/CamVid/{split}annot/{n}.png\n" for n in part)
        (tmp_path / f"{split}.txt").write_text(lines)
    judged = []
    for k in (1, 2, 3):
        dataset = create_dataset("fold", tmp_path, "val", of="camvid", fold=k, folds=3)
        judged.append({dataset.stem(i).partition("_")[0] for i in range(len(dataset))})
        assert len(dataset) == 3
    assert sorted(map(tuple, judged)) == [("0001TP",), ("0006R0",), ("0016E5",)]
    line = error_line(DataError, create_dataset, "fold", tmp_path, "val", of="camvid", fold=1, folds=4)
    assert "(0001TP, 0006R0, 0016E5)" in line


@pytest.mark.parametrize("change", [{"fold": 0}, {"folds": 1}])
def test_numbers_out_of_range(street_folder: Path, change: dict[str, int]) -> None:
    options = {"of": "folder", "fold": 1, "folds": 2, **change}
    assert error_line(ConfigError, create_dataset, "fold", street_folder, "val", **options)
