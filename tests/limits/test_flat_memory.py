"""However long a dataset or a folder is, memory does not grow with it."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from stubs import Stub, linux, litter, picture, stub_segmenter

from conftest import street
from featherseg.core.errors import DataError
from featherseg.core.types import ClassSet
from featherseg.data.datasets import FileDataset
from featherseg.evaluation.scores import score
from featherseg.runtime.predict import predict


class Repeated:
    """A dataset of any length that is one sample."""

    name, split, classes = "repeated", "val", Stub.artifact.classes

    def __init__(self, length: int) -> None:
        self.length = length
        self.sample = street(1, (16, 32))

    def __len__(self) -> int:
        return self.length

    def stem(self, index: int) -> str:
        return f"s{index}"

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return self.sample[0].copy(), self.sample[1].copy()


def resident() -> int:
    """Return the bytes of memory that this process has."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


LENGTHS = [5_000, pytest.param(30_000, marks=pytest.mark.slow)]


@linux
@pytest.mark.parametrize("length", LENGTHS)
def test_evaluating_holds_memory_flat(length: int) -> None:
    marks = {}

    def mark(done: int, total: int) -> None:
        if done in (length // 5, length):
            marks[done] = resident()

    confusion, _, _ = score(stub_segmenter().segment, Repeated(length), boundary=False, progress=mark)
    assert confusion.counts()[0].sum() == length * 16 * 32
    assert marks[length] - marks[length // 5] < 4 << 20


@linux
@pytest.mark.parametrize("length", LENGTHS)
def test_segmenting_many_holds_memory_flat(tmp_path: Path, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the names of what was written, which is the result."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # which is what would take the time here
    links = [tmp_path / "photos" / f"{i:06}.png" for i in range(length)]
    for i, link in enumerate(links):
        if i % 50_000 == 0:  # a file has 65,000 names at most
            photo = picture(link)
        else:
            link.hardlink_to(photo)
    marks = {}

    def mark(done: int, total: int) -> None:
        if done in (length // 5, length):
            marks[done] = resident()

    result = predict(stub_segmenter(), iter(links), tmp_path / "out", overlays=False, progress=mark)
    assert len(result.masks) == length
    assert not litter(tmp_path)
    assert marks[length] - marks[length // 5] < 1_500 * length + (4 << 20)


def test_a_file_dataset_holds_paths_alone(tmp_path: Path) -> None:
    """Opening a large split reads none of its pictures."""
    from featherseg.data.labels import LabelTable

    pairs = tuple((tmp_path / f"{i}.png", tmp_path / f"{i}_m.png") for i in range(5_000))
    dataset = FileDataset("folder", "all", ClassSet(("a",)), pairs, LabelTable({0: 0}))
    assert len(dataset) == 5_000
    with pytest.raises(DataError, match=r"4999\.png does not exist"):
        dataset.read(4_999)
