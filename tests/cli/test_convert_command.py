from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import foreign_labels as made
from conftest import Ended
from featherseg.data.datasets import create_dataset

Run = Callable[..., Ended]


def test_from_coco_to_a_folder_and_on(tmp_path: Path, run: Run) -> None:
    export = made.coco_official(tmp_path / "coco")
    ended = run("convert", export.root, "-o", tmp_path / "plain", "--to", "folder", "--json", "--quiet")
    assert (ended.code, ended.err) == (0, "")
    assert ended.json["changed_pixels"] == 0
    assert ended.json["splits"] == {"train": 1, "val": 1}
    assert ended.json["source"]["kind"] == "coco"
    assert ended.json["shares"]["car"]["before"] == ended.json["shares"]["car"]["after"] > 0
    (mask,) = export.masks["val"].values()
    back = create_dataset("folder", tmp_path / "plain", "val")
    assert back.classes.names == export.names
    np.testing.assert_array_equal(back.read(0)[1], mask)
    ended = run("convert", tmp_path / "plain", "-o", tmp_path / "yolo", "--to", "yolo")
    assert ended.code == 0
    assert "YOLO cannot say that pixels are ignored" in ended.out
    assert "2 pictures" not in ended.out
    assert "1 train, 1 val pictures" in ended.out


def test_a_folder_whose_split_is_drawn(street_folder: Path, tmp_path: Path, run: Run) -> None:
    ended = run("convert", street_folder, "-o", tmp_path / "out", "--to", "coco", "--polygons", "--json")
    assert ended.json["splits"] == {"train": 8, "val": 2}
    assert ended.json["options"] == {"background": False}
    ended = run("convert", street_folder, "-o", tmp_path / "val", "--to", "labelme", "--split", "val", "--json")
    assert ended.json["splits"] == {"val": 2}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("{data}", "-o", "{out}", "--to", "coko"), "did you mean"),
        (("{data}", "-o", "{data}", "--to", "coco"), "lies in the source"),
        (("{data}", "-o", "{data}/new", "--to", "coco"), "lies in the source"),
        (("{data}", "-o", "{mine}", "--to", "coco"), "is not empty"),
        (("{mine}", "-o", "{out}", "--to", "coco"), "laid out as no kind"),
        (("{out}", "-o", "{out}2", "--to", "coco"), "is no folder"),
        (("{data}", "-o", "{out}", "--to", "cvat", "--polygons"), "takes masks alone"),
        (("{data}", "-o", "{out}", "--to", "coco", "--split", "tset"), "split 'tset' not found"),
        (("{data}", "-o", "{out}", "--to", "coco", "--kind", "coko"), "did you mean"),
        (("{data}", "-o", "{out}"), "--to"),
        (("{data}", "--to", "coco"), "--out"),
    ],
)
def test_what_is_refused(words: tuple[str, ...], said: str, street_folder: Path, tmp_path: Path, run: Run) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    before = sorted(path for path in tmp_path.rglob("*"))
    places = {"data": street_folder, "mine": mine, "out": tmp_path / "out"}
    assert run("convert", *(word.format(**places) for word in words), "--quiet").refused(said)
    assert sorted(path for path in tmp_path.rglob("*")) == before
