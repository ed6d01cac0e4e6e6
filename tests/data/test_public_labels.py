from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import error_line
from featherseg.core.errors import ConfigError, DataError
from featherseg.data.annotations import recognise
from featherseg.data.datasets import create_dataset
from featherseg.data.readers.ade20k import ADE20K_NAMES
from featherseg.data.readers.vistas import VISTAS_NAMES
from labelled_exports import SIZE, VISTAS_LABELS, ade20k, save, scene, vistas, write


def check(kind: str, root: Path, ids: tuple[int, int, int], edit: Any, **options: Any) -> None:
    """The scenes, with these ids, after `edit` has marked what is ignored."""
    for split, numbers in (("train", range(6)), ("val", range(6, 8))):
        dataset = create_dataset(kind, root, split, **options)
        assert len(dataset) == len(numbers)
        for place, number in enumerate(numbers):
            expected = np.array(ids, np.uint8)[scene(number)[1]]
            edit(expected)
            assert np.array_equal(dataset.read(place)[1], expected)


def unlabelled_strip(mask: np.ndarray) -> None:
    mask[:, :3] = 255


def void_row(mask: np.ndarray) -> None:
    mask[0] = 255


# ADE20K


def test_ade20k_without_its_names(tmp_path: Path) -> None:
    root = ade20k(tmp_path / "ADEChallengeData2016")
    assert list(recognise(root)) == list(recognise(tmp_path)) == ["ade20k"]
    check("ade20k", root, (0, 1, 2), unlabelled_strip)
    check("ade20k", tmp_path, (0, 1, 2), unlabelled_strip)
    dataset = create_dataset("ade20k", root)
    assert dataset.classes.names == ADE20K_NAMES
    assert (len(ADE20K_NAMES), len(set(ADE20K_NAMES))) == (150, 150)
    assert "mask values are 1 to 150; 0 is ignored" in dataset.notes[0]  # type: ignore[attr-defined]


INFO = (
    "Idx\tRatio\tTrain\tVal\tStuff\tName\n"
    "1\t0.1\t1\t1\t1\tground;earth\n2\t0.1\t1\t1\t0\tbox, crate\n3\t0.1\t1\t1\t0\t{}\n"
)


def test_ade20k_with_a_list_of_names(tmp_path: Path) -> None:
    root = ade20k(tmp_path, info=INFO.format("disc"))
    assert create_dataset("ade20k", root).classes.names == ("ground", "box", "disc")
    check("ade20k", root, (0, 1, 2), unlabelled_strip)
    write(root / "objectInfo150.txt", INFO.format("box;case"))
    assert create_dataset("ade20k", root).classes.names == ("ground", "box, crate", "box;case")


def test_ade20k_refusals(tmp_path: Path) -> None:
    root = ade20k(tmp_path, info=INFO.format("disc"))
    mask = root / "annotations" / "training" / "ADE_training_00000000.png"
    save(mask, np.full(SIZE, 4, np.uint8))
    assert "holds id 4" in error_line(DataError, create_dataset("ade20k", root).read, 0)
    mask.unlink()
    dataset = create_dataset("ade20k", root)
    assert len(dataset) == 5
    assert "1 images have no mask and are left out" in dataset.notes  # type: ignore[attr-defined]
    write(root / "objectInfo150.txt", INFO.format("disc").replace("3\t", "4\t", 1).replace("\n3", "\n7"))
    assert "does not number its classes" in error_line(DataError, create_dataset, "ade20k", root)
    assert "is not ADE20K" in error_line(DataError, create_dataset, "ade20k", save_nothing(tmp_path / "none"))


def save_nothing(root: Path) -> Path:
    (root / "images").mkdir(parents=True)
    return root


# Mapillary Vistas


def test_vistas_with_its_file_of_classes(tmp_path: Path) -> None:
    root = vistas(tmp_path)
    assert recognise(root) == {}
    write(root / "config_v2.0.json", json.dumps({"labels": VISTAS_LABELS, "version": "2.0"}))
    assert list(recognise(root)) == ["vistas"]
    check("vistas", root, (0, 1, 2), void_row)
    dataset = create_dataset("vistas", root)
    assert dataset.classes.names == ("Ground", "Box", "Disc")
    assert dataset.classes.colors[1] == (200, 40, 40)
    said = " | ".join(dataset.notes)  # type: ignore[attr-defined]
    assert "Mapillary Vistas 2.0: 3 classes from config_v2.0.json; those not evaluated are ignored" in said
    assert "1 images have no mask and are left out" in said


def test_vistas_1_2_without_its_file_of_classes(tmp_path: Path) -> None:
    root = vistas(tmp_path, "1.2", (13, 17, 55), 65)
    assert list(recognise(root)) == ["vistas"]
    check("vistas", root, (13, 17, 55), void_row)
    assert len(VISTAS_NAMES) == 65
    assert [VISTAS_NAMES[i] for i in (13, 17, 55)] == ["Road", "Building", "Car"]


def test_versions_of_vistas(tmp_path: Path) -> None:
    vistas(tmp_path, "1.2", (13, 17, 55), 65)
    root = vistas(tmp_path)
    write(root / "config_v2.0.json", json.dumps({"labels": VISTAS_LABELS}))
    assert len(create_dataset("vistas", root).classes) == 3
    for version in ("1.2", 1.2):
        check("vistas", root, (13, 17, 55), void_row, version=version)
    assert "Vistas has 2.0, 1.2, 1.1" in error_line(ConfigError, create_dataset, "vistas", root, version="3")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([{"readable": "a"}], "no file of Vistas' classes"),
        ([VISTAS_LABELS[0] | {"color": [1, 2]}], "no file of Vistas' classes"),
        ([VISTAS_LABELS[0] | {"color": [1, 2, 300]}], "a colour is 1, 2, 300"),
        ([VISTAS_LABELS[0], VISTAS_LABELS[0]], "twice"),
        ([VISTAS_LABELS[0]] * 300, "masks of 8 bits hold 255 at most"),
        (7, "no file of Vistas' classes"),
    ],
)
def test_damaged_files_of_classes(tmp_path: Path, labels: Any, words: str) -> None:
    root = vistas(tmp_path)
    write(root / "config_v2.0.json", json.dumps({"labels": labels, "about": '"readable"'}))
    assert words in error_line(DataError, create_dataset, "vistas", root, version="2.0")
