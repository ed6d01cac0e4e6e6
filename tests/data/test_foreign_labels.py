"""COCO, YOLO, LabelMe and Supervisely: every pixel of rebuilt exports, and what is refused or said."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import foreign_labels as made
from featherseg.core.errors import ConfigError, DataError, MissingExtraError
from featherseg.data.annotations import AnnotatedDataset, recognise
from featherseg.data.cache import CachedDataset
from featherseg.data.class_counts import take_class_counts
from featherseg.data.datasets import create_dataset, datasets
from foreign_labels import CAR, ROAD, SIZE, Export, picture, truth, write

by_builder = pytest.mark.parametrize("build", made.BUILDERS, ids=lambda build: build.__name__)


def image_name(dataset: AnnotatedDataset, index: int, names: set[str]) -> str:
    path = dataset.samples[index].image.as_posix()
    return next(name for name in names if path.endswith(name))


@by_builder
def test_every_pixel(build: Callable[[Path], Export], tmp_path: Path) -> None:
    export = build(tmp_path)
    for split, masks in export.masks.items():
        dataset = create_dataset(export.kind, export.root, split)
        assert dataset.classes.names == export.names
        assert len(dataset) == len(masks)
        seen = set()
        for i in range(len(dataset)):
            image, mask = dataset.read(i)
            name = image_name(dataset, i, set(masks))
            seen.add(name)
            assert image.shape == (*SIZE, 3)
            assert mask.dtype == np.uint8
            np.testing.assert_array_equal(mask, masks[name], err_msg=f"{split} {name}")
        assert seen == set(masks)


@by_builder
def test_the_kind_is_seen(build: Callable[[Path], Export], tmp_path: Path) -> None:
    export = build(tmp_path)
    found = recognise(tmp_path)
    assert list(found) == [export.kind]
    labels = found[export.kind].labels()
    assert {"train", "val"} <= set(labels.splits)
    assert labels.classes.names == export.names
    total = sum(map(len, export.masks.values()))
    assert sum(map(len, labels.splits.values())) == total
    assert all(note and "\n" not in note for note in labels.notes)


@by_builder
def test_all_around_a_dataset(build: Callable[[Path], Export], tmp_path: Path) -> None:
    export = build(tmp_path)
    dataset = create_dataset(export.kind, tmp_path, "train")
    counts = take_class_counts(dataset)
    assert counts.pixels.sum() == sum((dataset.read(i)[1] != 255).sum() for i in range(len(dataset)))
    cached = CachedDataset(pickle.loads(pickle.dumps(dataset)))
    np.testing.assert_array_equal(cached.read(0)[1], dataset.read(0)[1])


def test_each_kind_says_how_it_resolves_what_is_unclear() -> None:
    for kind in ("coco", "yolo", "labelme", "labelme_voc", "supervisely"):
        about = datasets.get(kind).__doc__ or ""
        assert all(word in about for word in ("on top", "ignored", "background")), kind


def test_no_folder_of_masks_is_seen_as_these(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    Image.fromarray(truth()).save(picture(tmp_path / "masks" / "a.png"))
    write(tmp_path / "config.json", {"images": 1, "epochs": 2})
    write(tmp_path / "settings.yaml", "train: 3\n")
    assert recognise(tmp_path) == {}
    assert recognise(tmp_path / "nowhere") == {}


# COCO


def coco(root: Path, objects: list[dict[str, Any]], **more: Any) -> Path:
    if not (root / "a.png").exists():
        picture(root / "a.png")
    images = [{"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}]
    categories = [{"id": 1, "name": "road"}, {"id": 2, "name": "car"}]
    return write(root / "train.json", {"images": images, "categories": categories, "annotations": objects} | more)


def thing(segmentation: Any, category: int = 1, **more: Any) -> dict[str, Any]:
    return {"image_id": 1, "category_id": category, "segmentation": segmentation, "iscrowd": 0} | more


def mask_of(root: Path, kind: str = "coco", **options: Any) -> Any:
    return create_dataset(kind, root, "train", **options).read(0)[1]


def test_coco_what_lies_on_top(tmp_path: Path) -> None:
    coco(tmp_path, [thing([CAR], 2), thing([ROAD], 1)])
    np.testing.assert_array_equal(mask_of(tmp_path), truth(hole=False))
    np.testing.assert_array_equal(mask_of(tmp_path, overlap="later"), truth(hole=False, car=1))
    np.testing.assert_array_equal(
        mask_of(tmp_path, background=False), truth(hole=False, road=0, car=1, ground=255)
    )  # fmt: skip
    with pytest.raises(ConfigError, match="overlap is 'larger'; it takes smaller or later"):
        mask_of(tmp_path, overlap="larger")
    with pytest.raises(ConfigError, match="val_share is 1"):
        mask_of(tmp_path, val_share=1.0)


def test_coco_equals_go_by_the_files_order(tmp_path: Path) -> None:
    coco(tmp_path, [thing([CAR], 2), thing([CAR], 1)])
    np.testing.assert_array_equal(np.unique(mask_of(tmp_path)), [0, 1])


def test_coco_crowds(tmp_path: Path) -> None:
    crowd = {"counts": made.counts_of(truth(hole=False) > 0), "size": list(SIZE)}
    coco(tmp_path, [thing([CAR], 2), thing(crowd, 1, iscrowd=1)])
    np.testing.assert_array_equal(mask_of(tmp_path), truth(hole=False, road=255))
    np.testing.assert_array_equal(mask_of(tmp_path, crowd="label"), truth(hole=False))
    notes = create_dataset("coco", tmp_path).notes  # type: ignore[attr-defined]
    assert "1 crowds are ignored" in notes


def test_coco_two_files_of_one_split(tmp_path: Path) -> None:
    coco(tmp_path, [thing([CAR], 2)])
    (tmp_path / "train.json").rename(tmp_path / "train_cars.json")
    coco(tmp_path, [thing([ROAD], 1)])
    np.testing.assert_array_equal(mask_of(tmp_path), truth(hole=False))


def test_coco_ids_of_another_file_are_its_own(tmp_path: Path) -> None:
    coco(tmp_path, [thing([CAR], 2), thing([ROAD], 1)])
    categories = [{"id": 1, "name": "car"}, {"id": 2, "name": "road"}]
    picture(tmp_path / "b.png", 1)
    images = [{"id": 1, "file_name": "b.png", "height": SIZE[0], "width": SIZE[1]}]
    tree = {"images": images, "categories": categories, "annotations": [thing([CAR], 1), thing([ROAD], 2)]}
    write(tmp_path / "val.json", tree)
    for split in ("train", "val"):
        np.testing.assert_array_equal(create_dataset("coco", tmp_path, split).read(0)[1], truth(hole=False))


def test_coco_objects_before_panoptic_pictures(tmp_path: Path) -> None:
    made.coco_panoptic(tmp_path)
    made.coco_official(tmp_path)
    objects = create_dataset("coco", tmp_path, "val")
    assert objects.classes.names == ("background", "road", "car")
    assert any("panoptic" in note for note in objects.notes)  # type: ignore[attr-defined]
    assert create_dataset("coco", tmp_path, "val", panoptic=True).classes.names == ("road", "car")


@pytest.mark.parametrize(
    ("objects", "more", "reason"),
    [
        ([thing([], bbox=[1, 1, 5, 5])], {}, "boxes only"),
        ([thing([[1, 2, 3]])], {}, "3 numbers, which make no pairs"),
        ([thing([[1, 2, 1e9, 4, 5, 6]])], {}, "no number of pixels"),
        ([thing({"counts": [1, 2], "size": [20, 24]})], {}, "run lengths of 3 pixels in a picture of 480"),
        ([thing({"counts": [480], "size": [24, 20]})], {}, "24x20 pixels in a picture of 20x24"),
        ([thing({"counts": [-480], "size": [20, 24]})], {}, "negative"),
        ([thing({"counts": [10**30], "size": [20, 24]})], {}, "neither polygons nor run lengths|larger than"),
        ([thing({"counts": "\x7f", "size": [20, 24]})], {}, "not written as COCO"),
        ([thing({"counts": "oooooooooooo0", "size": [20, 24]})], {}, "not written as COCO"),
        ([thing("polygon")], {}, "neither polygons nor run lengths"),
        ([thing([CAR], 9)], {}, "category 9, which is not listed"),
        ([thing([CAR])], {"categories": []}, "not listed|names 0 classes"),
        ([thing([CAR])], {"categories": [{"id": i, "name": f"c{i}"} for i in range(300)]}, "names 301 classes"),
        ([thing([CAR])], {"categories": [{"id": 1, "name": "a\nb\x1b"}]}, "calls a class"),
        ([thing([CAR])], {"images": [{"id": 1, "file_name": "gone.png"}]}, "labelled but not there, such as gone.png"),
        ([thing([CAR])], {"images": [{"id": 1, "file_name": "a.png", "height": 9, "width": 24}]}, "picture of 9x24"),
        ([thing([CAR])], {"images": [{"id": 1, "file_name": "a.png", "height": 1e9, "width": 1e9}]}, "pixels is none"),
        ([], {}, "no COCO JSON with annotations"),
    ],
)  # fmt: skip
def test_coco_refused(tmp_path: Path, objects: list[Any], more: dict[str, Any], reason: str) -> None:
    coco(tmp_path, objects, **more)
    with pytest.raises(DataError, match=reason) as caught:
        mask_of(tmp_path)
    assert "\n" not in str(caught.value)


def test_coco_names_lead_nowhere_else(tmp_path: Path) -> None:
    picture(tmp_path / "secret.png")
    root = tmp_path / "data"
    coco(root, [thing([CAR])], images=[{"id": 1, "file_name": "../secret.png"}])
    with pytest.raises(DataError, match="not there"):
        mask_of(root)
    coco(root, [thing([CAR])], images=[{"id": 1, "file_name": "/etc/../../a.png"}])
    dataset = create_dataset("coco", root)
    assert dataset.samples[0].image == root / "a.png"  # type: ignore[attr-defined]


def test_coco_two_pictures_of_a_name(tmp_path: Path) -> None:
    coco(tmp_path, [thing([CAR])])
    picture(tmp_path / "old" / "a.png", 3)
    (tmp_path / "a.png").rename(picture(tmp_path / "new" / "a.png"))
    with pytest.raises(DataError, match=r"a.png may be new/a.png and old/a.png"):
        mask_of(tmp_path)


# YOLO


def yolo(root: Path, rows: str, yaml: str = "train: images\nnames: [road, car]\n") -> Path:
    picture(root / "images" / "a.png")
    write(root / "labels" / "a.txt", rows)
    return write(root / "data.yaml", yaml)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("0 0.5 0.5 0.1 0.1\n1 0.5 0.5 0.2 0.2\n", "boxes .* export outlines"),
        ("2 0 0 1 0 1 1\n", "2 is no class: there are 2"),
        ("0.5 0 0 1 0 1 1\n", "0.5 is no class"),
        ("0 0 0 1 0 1\n", "6 numbers"),
        ("0 2 4 22 4 22 18\n", "coordinate 22 is no share"),
        ("0 nan 0 1 0 1 1\n", "0 is no class|no share|no number"),
        ("road 0 0 1 0 1 1\n", "line 1 holds 'road"),
    ],
)
def test_yolo_refused(tmp_path: Path, rows: str, reason: str) -> None:
    yolo(tmp_path, rows)
    with pytest.raises(DataError, match=reason):
        mask_of(tmp_path, "yolo")


@pytest.mark.parametrize(
    ("yaml", "reason"),
    [
        ("train: images\nnames: {1: road, 2: car}\n", r"number them 0, 1, 2"),
        ("train: images\nnames: road\n", "give a list"),
        ("train: [1]\nnames: [road]\n", "give a folder"),
        ("train: images\nnames: [road]\nkpt_shape: [17, 3]\n", "poses"),
        ("train: gone\nnames: [road, car]\n", "not there, such as gone"),
        ("train: &a images\nnames: [road]\nval: *a\n", "aliases"),
        ("train: images\nnames: [" + "[" * 5000, "nested|cannot be read"),
        ("train: images\nnames: !!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
    ],
)
def test_yolo_yaml_refused(tmp_path: Path, yaml: str, reason: str) -> None:
    yolo(tmp_path, made.ROWS, yaml)
    with pytest.raises(DataError, match=reason) as caught:
        mask_of(tmp_path, "yolo")
    assert "\n" not in str(caught.value)


def test_yolo_needs_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    yolo(tmp_path, made.ROWS)
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    with pytest.raises(MissingExtraError, match=r"featherseg\[labels\]"):
        mask_of(tmp_path, "yolo")


def test_yolo_a_split_without_labels_is_left_out(tmp_path: Path) -> None:
    yolo(tmp_path, made.ROWS, "train: images\ntest: test/images\nnames: [road, car]\n")
    picture(tmp_path / "test" / "images" / "b.png", 1)
    labels = recognise(tmp_path)["yolo"].labels()
    assert list(labels.splits) == ["train"]
    assert any("test has a text file" in note for note in labels.notes)


# LabelMe


def test_labelme_reads_what_it_can_only(tmp_path: Path) -> None:
    for kind, outline, reason in (
        ("cuboid", CAR, "type 'cuboid'"),
        ("points", CAR, "encloses nothing"),
        ("circle", [1, 1], "type 'circle' with 1 points"),
        ("mask", CAR, "type 'mask'"),
    ):
        picture(tmp_path / "a.png")
        write(tmp_path / "a.json", made._labelme([made._drawn("car", outline, kind)], "a.png"))
        with pytest.raises(DataError, match=reason):
            mask_of(tmp_path, "labelme")


def test_labelme_a_label_that_is_not_listed(tmp_path: Path) -> None:
    made.labelme_splits(tmp_path)
    write(tmp_path / "labels.txt", "road\ncar\n")
    with pytest.raises(DataError, match="does not name the label '_background_'"):
        mask_of(tmp_path, "labelme")


def test_labelme_two_jsons_of_one_picture(tmp_path: Path) -> None:
    made.labelme_beside(tmp_path)
    write(tmp_path / "copy.json", json.loads((tmp_path / "img_0.json").read_text()))
    with pytest.raises(DataError, match=r"are both of .*img_0.png"):
        mask_of(tmp_path, "labelme")


def test_labelme_pictures_without_labels_are_said(tmp_path: Path) -> None:
    made.labelme_beside(tmp_path)
    picture(tmp_path / "new.png", 9)
    assert "1 pictures have no JSON and are left out" in recognise(tmp_path)["labelme"].labels().notes


def test_labelme_arrays_of_anything(tmp_path: Path) -> None:
    made.labelme_voc(tmp_path)
    for array, reason in (
        (np.full(SIZE, 7), "holds id 7, but class_names.txt names 3"),
        (np.zeros(SIZE, np.float32), "no class ids"),
        (np.array([{}], object), "cannot be read as an array"),
    ):
        for file in (tmp_path / "SegmentationClass").glob("*.npy"):
            np.save(file, array, allow_pickle=True)
        with pytest.raises(DataError, match=reason):
            mask_of(tmp_path, "labelme_voc")


# Supervisely


def test_supervisely_colours_and_layers(tmp_path: Path) -> None:
    export = made.supervisely(tmp_path)
    dataset = create_dataset("supervisely", tmp_path, "all")
    assert dataset.classes.colors == ((0, 0, 0), (0x80, 0x40, 0x80), (0, 0, 0x8E))
    file = tmp_path / "ds0" / "ann" / "0.png.json"
    tree = json.loads(file.read_text())
    write(file, tree | {"objects": tree["objects"][::-1]})
    first = [d for d in range(4) if dataset.samples[d].annotation.file == file][0]  # type: ignore[attr-defined]  # noqa: RUF015
    assert 2 not in dataset.read(first)[1]
    smaller = create_dataset("supervisely", tmp_path, "all", overlap="smaller").read(first)[1]
    np.testing.assert_array_equal(smaller, export.masks["all"]["0.png"])


def test_supervisely_bombs(tmp_path: Path) -> None:
    made.supervisely(tmp_path)
    bomb = base64.b64encode(zlib.compress(bytes(100 << 20))).decode()
    for data, reason in (
        (bomb, "over 67108864 bytes"),
        ("%%%", "base64"),
        (base64.b64encode(b"no zlib").decode(), "damaged"),
        (base64.b64encode(zlib.compress(b"x")).decode(), "no PNG"),
        (base64.b64encode(zlib.compress(b"x")[:-2]).decode(), "too early"),
    ):
        for file in tmp_path.glob("*/ann/*.json"):
            tree = json.loads(file.read_text())
            tree["objects"] = [made._thing("car", "bitmap", bitmap={"data": data, "origin": [0, 0]})]
            write(file, tree)
        with pytest.raises(DataError, match=reason):
            mask_of(tmp_path, "supervisely")


def test_supervisely_a_picture_that_is_gone(tmp_path: Path) -> None:
    made.supervisely_splits(tmp_path)
    (tmp_path / "val" / "img" / "0.png").unlink()
    with pytest.raises(DataError, match=r"val/img/0.png"):
        create_dataset("supervisely", tmp_path, "val")
    assert len(create_dataset("supervisely", tmp_path, "train")) == 2
