from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from featherseg.core.config import AugmentConfig
from featherseg.data.cache import CachedDataset
from featherseg.data.datasets import create_dataset
from featherseg.data.loader import EpochBatches, TrainSamples, train_loader
from featherseg.data.transforms import Look, TrainTransform


def samples(root: Path, seed: int = 0, **options: Any) -> TrainSamples:
    dataset = create_dataset("folder", root, "all")
    return TrainSamples(dataset, TrainTransform(AugmentConfig(crop=(32, 40), **options)), seed)


def run(
    root: Path,
    workers: int,
    epochs: tuple[int, ...] = (0,),
    start: int = 0,
    cached: bool = False,
    **options: Any,
) -> list[Any]:
    source = samples(root, **options)
    if cached:
        source = TrainSamples(CachedDataset(source.dataset), source.transform, source.seed)
    batches = EpochBatches(len(source), 3, seed=0)
    loader = train_loader(source, batches, workers, pin_memory=False)
    out = []
    for epoch in epochs:
        batches.begin(epoch, start)
        out += list(loader)
    return out


def assert_equal(ours: list[Any], theirs: list[Any]) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a["image"], b["image"])
        assert torch.equal(a["mask"], b["mask"])


def test_batches_have_the_shape_of_the_contract(street_folder: Path) -> None:
    batches = run(street_folder, 0)
    assert len(batches) == 4  # of three: the last is filled
    for batch in batches:
        assert (batch["image"].shape, batch["image"].dtype) == ((3, 3, 32, 40), torch.uint8)
        assert (batch["mask"].shape, batch["mask"].dtype) == ((3, 32, 40), torch.int64)


@pytest.mark.parametrize(
    ("workers", "cached", "options"),
    [(1, False, {}), (2, True, {}), (2, True, {"mosaic": 0.5, "copy_paste": 0.5, "class_balance": 0.5})],
)
def test_samples_do_not_depend_on_the_workers(
    street_folder: Path, workers: int, cached: bool, options: dict[str, float]
) -> None:
    torch.manual_seed(workers)
    ours = run(street_folder, workers, epochs=(0, 1), cached=cached, **options)  # workers live on to the second epoch
    torch.manual_seed(99)
    theirs = run(street_folder, 0, epochs=(0, 1), **options)
    assert_equal(ours, theirs)


def test_workers_leave_the_global_generator_alone(street_folder: Path) -> None:
    torch.manual_seed(5)
    run(street_folder, 1)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))


def test_mixing_that_is_off_changes_no_sample(street_folder: Path) -> None:
    """A share so small that no sample is mixed still draws numbers; 0 must not."""
    off, rare = samples(street_folder, mosaic=0.0, copy_paste=0.0), samples(street_folder, copy_paste=1e-9)
    for index in range(10):
        rng = np.random.default_rng((0, 1, index))
        image, mask = off.transform(*off.dataset.read(index), rng)
        np.testing.assert_array_equal(off[1, index]["image"].permute(1, 2, 0).numpy(), image)
        np.testing.assert_array_equal(off[1, index]["mask"].numpy(), mask)
    assert any(not torch.equal(off[1, i]["image"], rare[1, i]["image"]) for i in range(10))


def test_raw_samples_are_cut_but_not_changed_in_look(street_folder: Path) -> None:
    whole = samples(street_folder, seed=3, blur=0.5)
    raw = TrainSamples(whole.dataset, whole.transform, 3, raw=True)
    for index in range(5):
        sample, expected = raw[2, index], whole[2, index]
        assert (sample["image"].shape, sample["image"].dtype) == ((32, 40, 3), torch.uint8)
        assert (sample["mask"].shape, sample["mask"].dtype) == ((32, 40), torch.uint8)
        look = Look(*sample["look"].tolist())
        look = look._replace(hue=round(look.hue))
        image, mask = whole.transform.apply(sample["image"].numpy(), sample["mask"].numpy(), look)
        np.testing.assert_array_equal(expected["image"].permute(1, 2, 0).numpy(), image)
        np.testing.assert_array_equal(expected["mask"].numpy(), mask)


def test_epochs_and_seeds_differ(street_folder: Path) -> None:
    first, second = run(street_folder, 0, (0,)), run(street_folder, 0, (1,))
    assert not any(torch.equal(a["image"], b["image"]) for a, b in zip(first, second, strict=True))
    zero, one = (samples(street_folder, seed)[0, 0] for seed in (0, 1))
    assert not torch.equal(zero["image"], one["image"])
    again = samples(street_folder)[0, 0]
    assert torch.equal(zero["image"], again["image"])
    assert not torch.equal(zero["image"], samples(street_folder)[1, 0]["image"])


def test_a_start_skips_what_was_done(street_folder: Path) -> None:
    assert_equal(run(street_folder, 0, (4,), start=2), run(street_folder, 0, (4,))[2:])
    assert run(street_folder, 0, start=4) == []


def keys(length: int, size: int, epoch: int = 0, **options: Any) -> list[list[tuple[int, ...]]]:
    batches = EpochBatches(length, size, seed=5, **options)
    batches.begin(epoch)
    out: list[list[tuple[int, ...]]] = list(batches)
    assert len(out) == len(batches)
    assert {key[0] for batch in out for key in batch} == {epoch}
    assert {len(batch) for batch in out} == {size}
    return out


def indices(length: int, size: int, epoch: int = 0, **options: Any) -> list[list[int]]:
    return [[key[1] for key in batch] for batch in keys(length, size, epoch, **options)]


def test_an_epoch_holds_each_sample_once() -> None:
    order = [i for batch in indices(12, 4) for i in batch]
    assert sorted(order) == list(range(12))
    assert order != sorted(order)
    assert indices(12, 4) == indices(12, 4)
    assert indices(12, 4) != indices(12, 4, epoch=1)


@pytest.mark.parametrize(("length", "size", "processes"), [(24, 3, 4), (26, 3, 4), (7, 2, 3), (22, 8, 1)])
def test_processes_share_all_samples_and_fill_the_last_batch(length: int, size: int, processes: int) -> None:
    parts = [keys(length, size, rank=rank, processes=processes) for rank in range(processes)]
    assert len({len(part) for part in parts}) == 1
    read = [key for part in parts for batch in part for key in batch]
    assert len(read) == len(set(read)) == math.ceil(length / (size * processes)) * size * processes
    assert sorted(key[1] for key in read if len(key) == 2) == list(range(length))  # each once
    # Step by step, the processes together see what one process with the whole batch would.
    whole = keys(length, size * processes)
    assert [[key for part in parts for key in part[step]] for step in range(len(whole))] == whole
    # The last batch is filled by what came first, so that it holds no sample twice.
    assert all(len({key[1] for key in batch}) == size * processes for batch in whole)


@pytest.mark.parametrize(("length", "size", "crops"), [(5, 8, 8), (22, 8, 3), (12, 4, 2)])
def test_an_epoch_takes_several_crops_of_each_sample(length: int, size: int, crops: int) -> None:
    read = [key for batch in keys(length, size, crops=crops) for key in batch]
    assert len(read) == len(set(read)) == math.ceil(length * crops / size) * size
    taken = Counter(key[1] for key in read[: length * crops])
    assert set(taken.values()) == {crops}
    orders = [[key[1] for key in read[n * length : (n + 1) * length]] for n in range(crops)]
    assert len(set(map(tuple, orders))) == crops  # each time in another order
    assert indices(length, size) == indices(length, size, crops=1)


def test_crops_of_a_sample_differ_and_do_not_depend_on_the_workers(street_folder: Path) -> None:
    def read(workers: int) -> list[Any]:
        source = samples(street_folder)
        batches = EpochBatches(len(source), 4, seed=0, crops=2)
        loader = train_loader(source, batches, workers, pin_memory=False)
        return [batch for epoch in (0, 1) for batch in (batches.begin(epoch), list(loader))[1]]

    ours = read(0)
    assert len(ours) == 2 * 5
    assert_equal(ours, read(1))
    source = samples(street_folder)
    assert not torch.equal(source[0, 3]["image"], source[0, 3, 1]["image"])


@pytest.mark.parametrize("processes", [1, 2])
def test_a_dataset_smaller_than_a_batch_fills_one(processes: int) -> None:
    parts = [list(EpochBatches(3, 8, seed=5, rank=rank, processes=processes)) for rank in range(processes)]
    assert all([len(batch) for batch in part] == [8] for part in parts)
    assert len({key for part in parts for key in part[0]}) == 8 * processes  # each time with another crop
    taken = Counter(key[1] for part in parts for key in part[0])
    assert set(taken) == {0, 1, 2}
    assert max(taken.values()) - min(taken.values()) <= 1


def test_a_sample_is_the_transformed_source(street_folder: Path) -> None:
    source = samples(street_folder, seed=3)
    image, mask = source.transform(*source.dataset.read(4), np.random.default_rng((3, 2, 4)))
    sample = source[2, 4]
    np.testing.assert_array_equal(sample["image"].permute(1, 2, 0).numpy(), image)
    np.testing.assert_array_equal(sample["mask"].numpy(), mask)
