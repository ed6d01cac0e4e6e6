"""What the writers of other formats write, as those formats' own programs read it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

import foreign_labels as made
from featherseg.core.run_lengths import encode_counts
from featherseg.core.types import ClassSet
from featherseg.data.convert import convert
from featherseg.data.small_bitmaps import decode_base64, decode_bitmap
from featherseg.data.writing import ConvertTarget, Picture
from given_masks import NAMES, Given, noise


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_pycocotools_reads_the_same_pixels(tmp_path: Path) -> None:
    given = {f"p{i}": noise(i, ignored=0.1) for i in range(3)}
    result = convert({"train": Given(given)}, tmp_path / "out", "coco")
    coco = COCO(result.root / "annotations" / "instances_train.json")
    names = {category["id"]: category["name"] for category in coco.loadCats(coco.getCatIds())}
    assert names == {1: "road", 2: "car"}
    for number in coco.getImgIds():
        (image,) = coco.loadImgs(number)
        mask = np.zeros((image["height"], image["width"]), np.uint8)
        for each in coco.loadAnns(coco.getAnnIds(number)):
            bits = coco.annToMask(each) > 0
            mask[bits] = 255 if each["iscrowd"] else each["category_id"]
            assert coco_mask.area(coco.annToRLE(each)) == each["area"]
            assert coco_mask.toBbox(coco.annToRLE(each)).tolist() == each["bbox"]
        np.testing.assert_array_equal(mask, given[Path(image["file_name"]).stem])


def test_run_lengths_as_text() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        counts = rng.integers(0, 2 ** rng.integers(1, 30), rng.integers(1, 12))
        assert encode_counts(counts) == made.as_text(counts.tolist())


def test_the_label_map_of_cvat(tmp_path: Path) -> None:
    classes = ClassSet(("road", "background", "car"), ((0, 0, 0), (9, 9, 9), (224, 224, 192)))
    result = convert({"train": Given({"a": noise(0)}, classes)}, tmp_path / "out", "cvat")
    lines = (result.root / "labelmap.txt").read_text().splitlines()
    colors = {line.split(":")[0]: line.split(":")[1] for line in lines[1:]}
    assert colors["background"] == "0,0,0"
    assert len(set(colors.values())) == 3
    assert "224,224,192" not in colors.values()


def test_tasks_of_label_studio(tmp_path: Path) -> None:
    result = convert(
        {"val": Given({"a b": noise(0)}, ("background", "road", 'x "&" y'))}, tmp_path / "out", "labelstudio"
    )
    (task,) = json.loads((result.root / "tasks.json").read_text())
    assert task["data"] == {"image": "/data/local-files/?d=images/a%20b.png", "split": "val"}
    region = task["annotations"][0]["result"][0]
    assert (region["original_width"], region["original_height"]) == (31, 23)
    assert region["type"] == "brushlabels"
    assert '<Label value="road"' in (result.root / "label_config.xml").read_text()


def test_labelme_draws_its_masks_in_the_same_place(tmp_path: Path) -> None:
    """By LabelMe's own rule (labelme/utils/shape.py): the bitmap fills the box between the points, both included."""
    mask = noise(3)
    result = convert({"train": Given({"a": mask})}, tmp_path / "out", "labelme")
    drawn = np.zeros_like(mask)
    for shape in json.loads((result.root / "train" / "a.json").read_text())["shapes"]:
        (x1, y1), (x2, y2) = shape["points"]
        bits = decode_bitmap(decode_base64(shape["mask"]))
        assert bits.shape == (y2 - y1 + 1, x2 - x1 + 1)
        drawn[y1 : y2 + 1, x1 : x2 + 1][bits] = NAMES.index(shape["label"])
    np.testing.assert_array_equal(drawn, mask)


def test_what_a_writer_is_told() -> None:
    target = ConvertTarget(Path(), ClassSet(("road", "_background_")), ("",))
    assert target.background == 1
    assert Picture("train", "a.b.png", (1, 1)).stem == "a.b"
