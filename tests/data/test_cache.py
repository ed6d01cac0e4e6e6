from __future__ import annotations

import gc
import multiprocessing
import pickle
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featherseg.core.errors import DataError
from featherseg.data import cache as cache_module
from featherseg.data.cache import CachedDataset, fits_cache
from featherseg.data.datasets import create_dataset


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def source(street_folder: Path) -> Any:
    """Images of different sizes, so that a wrong offset shows."""
    for name, size in (("s2", (30, 50)), ("s5", (1, 3))):
        rng = np.random.default_rng(0)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(street_folder / "images" / f"{name}.png")
        Image.fromarray(rng.integers(0, 3, size, dtype=np.uint8)).save(street_folder / "masks" / f"{name}.png")
    return create_dataset("folder", street_folder, "all")


def assert_same(ours: Any, theirs: Any) -> None:
    assert len(ours) == len(theirs)
    assert (ours.name, ours.split, ours.classes) == (theirs.name, theirs.split, theirs.classes)
    for i in range(len(ours)):
        assert ours.stem(i) == theirs.stem(i)
        for a, b in zip(ours.read(i), theirs.read(i), strict=True):
            assert a.dtype == np.uint8
            np.testing.assert_array_equal(a, b)


def test_a_cache_is_its_source(source: Any) -> None:
    done: list[tuple[int, int]] = []
    cached = CachedDataset(source, lambda *counts: done.append(counts))
    assert_same(cached, source)
    assert done == [(i, 10) for i in range(1, 11)]
    assert cached.nbytes == sum(sum(a.nbytes for a in source.read(i)) for i in range(10))


def test_samples_cannot_be_written(source: Any) -> None:
    image, mask = CachedDataset(source).read(0)
    for array in (image, mask):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_the_file_goes_with_the_object(source: Any, own_temporary_folder: Path) -> None:
    cached = CachedDataset(source)
    names = list(own_temporary_folder.iterdir())
    assert len(names) == (0 if sys.platform == "linux" else 1)  # nameless there, so that none outlives a killed process
    assert cached.nbytes > 0
    copy = pickle.loads(pickle.dumps(cached))
    assert_same(copy, source)
    del copy
    gc.collect()
    assert_same(cached, source)  # a worker's copy does not take the file with it
    place = cached._path
    del cached
    gc.collect()
    assert not list(own_temporary_folder.iterdir())
    assert not place.exists()


def test_what_was_read_does_not_travel_with_a_pickle(source: Any) -> None:
    cached = CachedDataset(source)
    fresh = len(pickle.dumps(cached))
    cached.read(1)
    assert len(pickle.dumps(cached)) == fresh < 4000 < cached.nbytes


def test_the_file_is_mapped_once(source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mapped: list[Path] = []
    memmap = np.memmap

    def counted(path: Path, *args: Any, **options: Any) -> Any:
        mapped.append(path)
        return memmap(path, *args, **options)

    monkeypatch.setattr(np, "memmap", counted)
    cached, other = CachedDataset(source), CachedDataset(source)
    for i in (0, 3, 0, 9):
        cached.read(i)
        other.read(i)
    assert len(mapped) == len(set(mapped)) == 2


def test_a_sample_outlives_its_cache(source: Any, own_temporary_folder: Path) -> None:
    cached = CachedDataset(source)
    sample = cached.read(4)
    del cached
    gc.collect()
    assert not list(own_temporary_folder.iterdir())
    for part, expected in zip(sample, source.read(4), strict=True):
        np.testing.assert_array_equal(part, expected)


def _forget(holder: list[CachedDataset]) -> None:
    holder[0].read(0)
    holder.clear()
    gc.collect()


def _read(cached: CachedDataset, queue: Any) -> None:
    queue.put([int(part.sum()) for part in cached.read(3)])


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_worker_that_forgets_it_leaves_the_file(source: Any) -> None:
    holder = [CachedDataset(source)]
    worker = multiprocessing.get_context("fork").Process(target=_forget, args=(holder,))
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    assert_same(holder[0], source)


def test_a_spawned_worker_reads_it(source: Any) -> None:
    context = multiprocessing.get_context("spawn")
    cached, queue = CachedDataset(source), context.Queue()
    worker = context.Process(target=_read, args=(cached, queue))
    worker.start()
    assert queue.get(timeout=60) == [int(part.sum()) for part in source.read(3)]
    worker.join()
    assert worker.exitcode == 0
    assert_same(cached, source)


def test_a_source_that_fails_leaves_no_file(source: Any, street_folder: Path, own_temporary_folder: Path) -> None:
    (street_folder / "images" / "s7.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"s7\.png"):
        CachedDataset(source)
    gc.collect()
    assert not list(own_temporary_folder.iterdir())


def test_what_is_too_large_does_not_fit(source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fits_cache(source)
    monkeypatch.setattr(cache_module, "MAX_CACHE_BYTES", 48 * 64 * 4 * 10 - 1)
    assert not fits_cache(source)
