"""The doctor on labels that are no mask files: kinds are found, asked about, judged, and copied as masks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import foreign_labels as made
from conftest import Ended
from featherseg.core.errors import ConfigError, DataError
from featherseg.data.datasets import create_dataset
from featherseg.doctor.examine import examine
from featherseg.doctor.infer import infer_data
from featherseg.doctor.mend import make_clean_copy
from featherseg.doctor.page import write_page
from foreign_labels import SIZE, Export, picture, truth, write

Run = Callable[..., Ended]

by_builder = pytest.mark.parametrize("build", made.BUILDERS, ids=lambda build: build.__name__)


@by_builder
def test_every_kind_is_found_and_opened(build: Callable[[Path], Export], tmp_path: Path) -> None:
    export = build(tmp_path)
    data = infer_data(tmp_path)
    assert (data.kind, data.classes.names if data.classes else ()) == (export.kind, export.names)
    section = data.to_config()["data"]
    options = section.get("options", {})
    assert options == {}
    for split in (data.train_split, data.val_split):
        assert len(create_dataset(section["name"], section["root"], split))
    assert any("ignored" in note or "on top" in note for note in data.notes)


@by_builder
def test_a_clean_copy_holds_every_pixel(build: Callable[[Path], Export], tmp_path: Path) -> None:
    export = build(tmp_path / "data")
    examination = examine(export.root)
    assert not examination.count("error"), [finding.to_dict() for finding in examination.findings]
    copy = make_clean_copy(examination, tmp_path / "clean")
    wanted = sorted(mask.tobytes() for masks in export.masks.values() for mask in masks.values())
    found = []
    for file in (tmp_path / "clean" / "masks").rglob("*.png"):
        with Image.open(file) as mask:
            assert mask.mode == "P"
            found.append(np.asarray(mask).tobytes())
    assert sorted(found) == wanted
    again = examine(copy.root)
    assert again.meaning is not None
    assert again.meaning.classes.names == export.names


def test_what_is_decided_is_said(run: Run, tmp_path: Path) -> None:
    made.coco_official(tmp_path)
    ended = run("doctor", tmp_path, "-q")
    assert "coco, 1 train, 1 val" in ended.out
    assert "where objects overlap, the smaller lies on top; pixels of no object are background" in ended.out
    assert "2 crowds are ignored" in ended.out
    examination = examine(tmp_path)
    assert "2 crowds are ignored" in examination.to_dict()["notes"]
    write_page(examination, tmp_path / "page.html")
    assert "2 crowds are ignored" in (tmp_path / "page.html").read_text()


def test_findings_name_the_file_and_the_picture(tmp_path: Path) -> None:
    root = made.coco_cvat(tmp_path / "data").root
    file = root / "annotations" / "instances_default.json"
    tree = json.loads(file.read_text())
    tree["annotations"][0]["segmentation"] = {"counts": [1, 2], "size": list(SIZE)}
    write(file, tree)
    examination = examine(root)
    (finding,) = [finding for finding in examination.findings if finding.severity == "error"]
    assert finding.id == "mask-unreadable"
    assert finding.examples[0].startswith("annotations/instances_default.json (frame.png): ")
    copy = make_clean_copy(examination, tmp_path / "clean")
    assert copy.left_out == (("images/default/day0/frame.png", "mask-unreadable"),)


def test_labels_of_pictures_that_are_gone(tmp_path: Path) -> None:
    root = made.labelme_beside(tmp_path / "data").root
    (root / "img_1.png").unlink()
    examination = examine(root)
    assert {f.id: f.examples for f in examination.findings}["listed-missing"] == ("train: img_1.png",)
    assert sum(make_clean_copy(examination, tmp_path / "clean").splits.values()) == 3


def test_two_kinds_are_a_question(run: Run, tmp_path: Path) -> None:
    made.coco_cvat(tmp_path)
    for i in range(4):
        picture(tmp_path / "masks" / f"{i}.png")
        Image.fromarray(truth()).save(tmp_path / "masks" / f"{i}.png")
    for command in ("doctor", "train"):
        ended = run(command, tmp_path, "-q")
        assert ended.refused("coco (annotations/instances_default.json is a COCO file)", "folder (", "--kind")
    assert examine(tmp_path, "coco").layout.kind == "coco"
    made.yolo_labelstudio(tmp_path / "both")
    made.labelme_beside(tmp_path / "both")
    with pytest.raises(DataError, match=r"may be labelme \(.*or yolo \("):
        examine(tmp_path / "both")


def test_classes_are_the_labels_own(tmp_path: Path) -> None:
    made.yolo_labelstudio(tmp_path)
    with pytest.raises(ConfigError, match="--classes is for masks"):
        examine(tmp_path, classes="a,b,c")
    with pytest.raises(DataError, match="holds no labels of kind coco"):
        examine(tmp_path, "coco")
    with pytest.raises(ConfigError, match='did you mean "coco"'):
        examine(tmp_path, "cocoo")


def test_ids_that_a_reader_gave_are_not_mended(tmp_path: Path) -> None:
    """Panoptic pictures of one class and nothing else hold 0 and 255, which is no foreground."""
    made.coco_panoptic(tmp_path)
    for split in ("train", "val"):
        file = tmp_path / "annotations" / f"panoptic_{split}2017.json"
        tree = json.loads(file.read_text())
        for segment in tree["annotations"][0]["segments_info"]:
            segment["category_id"] = 3
        write(file, tree)
    examination = examine(tmp_path)
    assert not {"mask-0-255", "ids-shifted"} & {finding.id for finding in examination.findings}
    assert examination.pixels["train"][0] > 0
    assert examination.pixels["train"][1] == 0
