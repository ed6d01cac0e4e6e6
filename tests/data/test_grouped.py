from __future__ import annotations

from pathlib import Path

import numpy as np

from conftest import error_line
from featherseg.core.errors import DataError
from featherseg.data.annotations import AnnotatedDataset, recognise
from featherseg.data.datasets import create_dataset
from featherseg.doctor.examine import examine
from labelled_exports import grouped, save, scene

TOWNS = ("aachen", "bonn", "ulm")


def towns(dataset: object) -> set[str]:
    assert isinstance(dataset, AnnotatedDataset)
    return {sample.image.parent.name for sample in dataset.samples}


def test_towns_stay_whole(tmp_path: Path) -> None:
    root = grouped(tmp_path)
    assert list(recognise(root)) == ["grouped"]
    train, val = (create_dataset("grouped", root, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (8, 4)
    assert towns(train) | towns(val) == set(TOWNS)
    assert not towns(train) & towns(val)
    assert any("1 of 3, with 4 of 12 images" in note for note in val.notes)  # type: ignore[attr-defined]
    draws = {frozenset(towns(create_dataset("grouped", root, "val", seed=seed))) for seed in range(12)}
    assert len(draws) > 1
    assert len(create_dataset("grouped", root, "val", val_share=0.9)) == 8


def test_every_pixel_and_the_class_file(tmp_path: Path) -> None:
    root = grouped(tmp_path)
    (root / "classes.toml").write_text('names = ["ground", "box", "disc"]\n')
    dataset = create_dataset("grouped", root, "all")
    assert dataset.classes.names == ("ground", "box", "disc")
    assert isinstance(dataset, AnnotatedDataset)
    for i, sample in enumerate(dataset.samples):
        image, ids = scene(10 * TOWNS.index(sample.image.parent.name) + int(sample.image.stem))
        assert np.array_equal(dataset.read(i)[0], image)
        assert np.array_equal(dataset.read(i)[1], ids)


def test_the_doctor_sees_groups(tmp_path: Path) -> None:
    examination = examine(grouped(tmp_path))
    assert examination.layout.kind == "grouped"
    assert len(examination.layout.pairs) == 12
    assert examination.count("error") == 0


def test_splits_and_single_folders_are_no_groups(tmp_path: Path) -> None:
    assert recognise(grouped(tmp_path / "a", ("train", "val"))) == {}
    assert recognise(grouped(tmp_path / "b", ("aachen",))) == {}
    assert recognise(tmp_path / "nowhere") == {}
    assert "one group" in error_line(DataError, create_dataset, "grouped", tmp_path / "b")
    root = grouped(tmp_path / "c")
    save(root / "images" / "ulm" / "7.png", scene(0)[0])
    line = error_line(DataError, create_dataset, "grouped", root)
    assert "have no mask, such as images/ulm/7.png" in line
