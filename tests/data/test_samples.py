"""Datasets by index: what torch's DataLoader asks of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from conftest import error_line
from featherseg.core.errors import ConfigError
from featherseg.data.cache import CachedDataset
from featherseg.data.class_maps import open_mapped
from featherseg.data.datasets import create_dataset


def test_a_sample_is_what_read_gives(street_folder: Path) -> None:
    dataset = create_dataset("folder", street_folder, "train")
    image, mask = dataset.read(1)
    sample = dataset[1]
    assert (sample["image"].dtype, sample["mask"].dtype) == (np.uint8, np.int64)
    assert np.array_equal(sample["image"], image.transpose(2, 0, 1))
    assert np.array_equal(sample["mask"], mask)
    assert np.array_equal(dataset[np.int64(-1)]["mask"], dataset.read(len(dataset) - 1)[1])


def test_iteration_ends(street_folder: Path) -> None:
    dataset = create_dataset("folder", street_folder, "train")
    assert len(list(dataset)) == len(dataset)
    for index in (len(dataset), -len(dataset) - 1):
        with pytest.raises(IndexError, match=str(index)):
            dataset[index]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_batches_them(street_folder: Path, workers: int) -> None:
    dataset = create_dataset("folder", street_folder, "all")
    batch = next(iter(DataLoader(dataset, batch_size=3, num_workers=workers)))
    assert batch["image"].shape == (3, 3, 48, 64)
    assert batch["image"].dtype == torch.uint8
    assert batch["mask"].shape == (3, 48, 64)
    assert batch["mask"].dtype == torch.int64


def test_every_kind_has_them(street_folder: Path) -> None:
    synthetic = create_dataset("synthetic", count=2, size=(64, 96))
    mapped = open_mapped("folder", street_folder, "all", {"sky": "sky", "ground": ["road", "car"]})
    for dataset in (synthetic, mapped, CachedDataset(synthetic)):
        image, mask = dataset.read(0)
        assert np.array_equal(dataset[0]["mask"], mask)
        assert np.array_equal(dataset[0]["image"][1], image[..., 1])


def test_pictures_of_several_sizes_are_batched_at_one(street_folder: Path) -> None:
    for part in ("images", "masks"):
        file = street_folder / part / "s3.png"
        with Image.open(file) as picture:
            picture.resize((80, 60), Image.Resampling.NEAREST).save(file)
    dataset = create_dataset("folder", street_folder, "all")
    with pytest.raises(RuntimeError, match="equal size"):
        list(DataLoader(dataset, batch_size=10))
    resized = dataset.resized((24, 32))
    batch = next(iter(DataLoader(resized, batch_size=10)))
    assert batch["image"].shape == (10, 3, 24, 32)
    assert set(batch["mask"].unique().tolist()) <= {0, 1, 2, 255}  # no class is made up on the way
    assert np.array_equal(dataset.resized((48, 64))[0]["image"], dataset[0]["image"])
    assert len(resized[2:5]) == 3


def test_a_size_without_pixels_is_refused(street_folder: Path) -> None:
    assert "size is (0, 5)" in error_line(ConfigError, create_dataset("folder", street_folder, "all").resized, (0, 5))
