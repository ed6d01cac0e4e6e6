"""CamVid in its layouts, and by recordings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherseg.data.datasets import create_dataset
from featherseg.data.readers.public import CAMVID_32, CAMVID_CLASSES, CAMVID_FOLDED
from public_files import ids, picture, refusal


def color_mask(path: Path) -> dict[tuple[int, int, int], str]:
    """Write a mask with each of the 32 colours once, and return the class of each."""
    meaning = {color: name for name, folded in CAMVID_32.items() for color in folded} | {(0, 0, 0): "void"}
    ids(path, np.array([list(meaning)], np.uint8))
    return meaning


@pytest.mark.parametrize("lines", ["a.png b.png", "/SegNet/CamVid/train/{0}.png /SegNet/CamVid/trainannot/{0}.png"])
def test_camvid_in_segnets_layout(tmp_path: Path, lines: str) -> None:
    for name in ("a", "b"):
        picture(tmp_path / "train" / f"{name}.png", (1, 12))
        ids(tmp_path / "trainannot" / f"{name}.png", [list(range(12))])
    text = [lines.format(name) for name in ("a", "b")] if "{0}" in lines else ["a.png", "b.png"]
    (tmp_path / "train.txt").write_text("\n".join(text))
    dataset = create_dataset("camvid", tmp_path)
    assert [dataset.stem(i) for i in range(len(dataset))] == ["a", "b"]
    assert dataset.read(0)[1][0].tolist() == [*range(11), 255]
    ids(tmp_path / "trainannot" / "a.png", [[12] * 12])
    assert "id 12" in refusal("camvid", tmp_path, read=True)


@pytest.mark.parametrize("layout", ["stills", "folders"])
def test_camvid_in_32_colours(tmp_path: Path, layout: str) -> None:
    if layout == "stills":
        picture(tmp_path / "701_StillsRaw_full" / "x.png", (1, 32))
        meaning = color_mask(tmp_path / "LabeledApproved_full" / "x_L.png")
        (tmp_path / "train.txt").write_text("x.png\n")
    else:
        picture(tmp_path / "train" / "x.png", (1, 32))
        meaning = color_mask(tmp_path / "train_labels" / "x_L.png")
    dataset = create_dataset("camvid", tmp_path)
    names = [*CAMVID_CLASSES.names]
    expected = [names.index(name) if name != "void" else 255 for name in meaning.values()]
    assert dataset.read(0)[1][0].tolist() == expected
    assert set(expected) == {*range(11), 255}
    assert dataset.notes == (CAMVID_FOLDED,)  # type: ignore[attr-defined]
    table = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    for name, folded in CAMVID_32.items():
        (row,) = re.findall(rf"^\| {name} \| (.*) \|$", table, re.MULTILINE)
        assert len(row.split(", ")) == len(folded)
    if layout == "folders":
        assert "CamVid split 'val' not found" in refusal("camvid", tmp_path, "val")


def test_camvid_refusals(tmp_path: Path) -> None:
    assert "CamVid not found" in refusal("camvid", tmp_path / "no")
    assert "CamVid split 'train' not found" in refusal("camvid", tmp_path)
    (tmp_path / "trainannot").mkdir()
    assert "train.txt does not exist; splits there: none" in refusal("camvid", tmp_path)


# Which frames, which names


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    frames = {"train": ["0001TP_1", "0001TP_10", "0006R0_f2", "0016E5_3"], "val": ["0016E5_4"], "test": ["Seq05VD_1"]}
    for split, names in frames.items():
        for name in names:
            picture(tmp_path / split / f"{name}.png", (1, 12))
            ids(tmp_path / f"{split}annot" / f"{name}.png", [list(range(12))])
        (tmp_path / f"{split}.txt").write_text("\n".join(f"{name}.png" for name in names))
    return tmp_path


@pytest.mark.parametrize("wanted", [["0016E5", "0001TP"], "0016E5,0001TP"])
def test_camvid_by_recordings(recordings: Path, wanted: Any) -> None:
    def names(split: str, **options: Any) -> list[str]:
        dataset = create_dataset("camvid", recordings, split, **options)
        assert dataset.split == split
        assert dataset.read(len(dataset) - 1)[1][0].tolist() == [*range(11), 255]
        return [dataset.stem(i) for i in range(len(dataset))]

    assert names("train", recordings=wanted) == ["0001TP_1", "0001TP_10", "0016E5_3", "0016E5_4"]
    assert names("val", recordings=wanted) == ["0006R0_f2"]
    every = ["0001TP_1", "0001TP_10", "0006R0_f2", "0016E5_3", "0016E5_4"]
    assert names("all") == names("all", recordings=wanted) == every
    assert names("train") == ["0001TP_1", "0001TP_10", "0006R0_f2", "0016E5_3"]
    assert names("test") == ["Seq05VD_1"]


def test_camvid_recordings_that_cannot_be(recordings: Path) -> None:
    unknown = refusal("camvid", recordings, recordings=["0001TQ"])
    assert "'0001TQ' is not in" in unknown
    assert "recordings there: 0001TP, 0006R0, 0016E5" in unknown
    assert "leave one of them out" in refusal("camvid", recordings, recordings="0001TP,0006R0,0016E5")
    assert "only train, val and all" in refusal("camvid", recordings, "test", recordings="0001TP")


def test_the_real_camvid_by_recordings(shared: Path) -> None:
    root = shared / "data" / "CamVid"
    if not root.is_dir():
        pytest.skip(f"needs {root}")
    folds = {word: create_dataset("camvid", root, "val", recordings=others) for word, others in {
        "0001TP": ["0006R0", "0016E5"], "0006R0": ["0001TP", "0016E5"], "0016E5": ["0001TP", "0006R0"]
    }.items()}  # fmt: skip
    assert all(fold.stem(i).startswith(word) for word, fold in folds.items() for i in range(len(fold)))
    assert sum(len(fold) for fold in folds.values()) == 367 + 101
