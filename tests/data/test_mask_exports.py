from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import error_line
from featherseg.core.errors import DataError
from featherseg.data.annotations import recognise
from featherseg.data.datasets import create_dataset
from featherseg.data.mask_annotations import stacked
from labelled_exports import (
    SIZE,
    per_class_folders,
    per_class_names,
    roboflow,
    save,
    scene,
    studio_region,
    studio_tags,
    studio_task,
    write,
)


def masks_by_number(kind: str, root: Path, **options: Any) -> dict[int, np.ndarray]:
    """Masks by the number in the images' names."""
    dataset = create_dataset(kind, root, "all", **options)
    numbers = ["".join(c for c in dataset.stem(i).split(".")[0] if c.isdigit()) for i in range(len(dataset))]
    return {int(number): dataset.read(i)[1] for i, number in enumerate(numbers)}


def check_scenes(kind: str, root: Path, count: int = 8, **options: Any) -> None:
    found = masks_by_number(kind, root, **options)
    assert set(found) == set(range(count))
    for i, mask in found.items():
        assert np.array_equal(mask, scene(i)[1])


def kinds(root: Path) -> list[str]:
    return list(recognise(root))


# Roboflow


def test_roboflow(tmp_path: Path) -> None:
    root = roboflow(tmp_path)
    assert kinds(root) == ["roboflow"]
    check_scenes("roboflow", root, 9)
    train = create_dataset("roboflow", root)
    assert train.classes.names == ("background", "box", "disc")
    assert [len(create_dataset("roboflow", root, split)) for split in ("train", "val", "test")] == [6, 2, 1]


def test_roboflow_without_valid_draws_from_train(tmp_path: Path) -> None:
    root = roboflow(tmp_path, (10, 0, 0))
    assert [len(create_dataset("roboflow", root, split)) for split in ("train", "val")] == [8, 2]


def test_roboflow_values_need_not_be_counted_through(tmp_path: Path) -> None:
    root = roboflow(tmp_path)
    for split in ("train", "valid", "test"):
        write(root / split / "_classes.csv", 'Pixel Value, Class\n2, disc\n0, background\n1, "box, red"\n')
    dataset = create_dataset("roboflow", root)
    assert dataset.classes.names == ("background", "box, red", "disc")
    write(root / "train" / "_classes.csv", "Pixel Value, Class\n0, background\n2, disc\n")
    for split in ("valid", "test"):
        write(root / split / "_classes.csv", "Pixel Value, Class\n0, background\n2, disc\n")
    dataset = create_dataset("roboflow", root)
    assert dataset.classes.names == ("background", "disc")
    assert "which is no class" in error_line(DataError, dataset.read, 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Pixel Value, Class\n0, background\n1, disc\n2, box\n", "another split"),
        ("Pixel Value, Class\n0\n", "line 2: '0' is no pixel value and class"),
        ("Pixel Value, Class\nx, box\n", "line 2"),
        ("Pixel Value, Class\n0, a\n0, b\n", "value 0 stands there twice"),
        ("Pixel Value, Class\n0, background\n1, box\n2, box\n", "another split"),
        ("Pixel Value, Class\n300, box\n", "300"),
        ("Pixel Value, Class\n" + "9" * 5000 + ", box\n", "line 2"),
    ],
)
def test_damaged_class_files_of_roboflow(tmp_path: Path, text: str, words: str) -> None:
    root = roboflow(tmp_path)
    write(root / "valid" / "_classes.csv", text)
    assert words in error_line(DataError, create_dataset, "roboflow", root)


def test_roboflow_files_without_their_other_half(tmp_path: Path) -> None:
    root = roboflow(tmp_path)
    next((root / "train").glob("*_mask.png")).unlink()
    dataset = create_dataset("roboflow", root)
    assert len(dataset) == 5
    assert any("1 files are an image without _mask.png" in note for note in dataset.notes)  # type: ignore[attr-defined]
    for mask in root.glob("*/*_mask.png"):
        mask.unlink()
    assert error_line(DataError, create_dataset, "roboflow", root)


# One mask per class


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    root = per_class_folders(tmp_path)
    assert kinds(root) == ["per_class"]
    check_scenes("per_class", root)
    assert create_dataset("per_class", root).classes.names == ("background", "box", "disc")


@pytest.mark.parametrize("middle", ["_", "-", "_class_"])
def test_an_ending_for_each_class(tmp_path: Path, middle: str) -> None:
    root = per_class_names(tmp_path, middle=middle)
    assert kinds(root) == ["per_class"]
    check_scenes("per_class", root)
    assert create_dataset("per_class", root).classes.names == ("background", "box", "disc")


def test_what_is_not_one_mask_per_class(tmp_path: Path) -> None:
    for i in range(4):
        save(tmp_path / "a" / "images" / f"s{i}.png", scene(i)[0])
        save(tmp_path / "a" / "masks" / f"s{i}_mask.png", scene(i)[1])
        save(tmp_path / "b" / "images" / f"s{i}.png", scene(i)[0])
        save(tmp_path / "b" / "masks" / "train" / f"s{i}.png", scene(i)[1])
        save(tmp_path / "c" / "images" / "oslo" / f"s{i}.png", scene(i)[0])
        save(tmp_path / "c" / "masks" / "oslo" / f"s{i}.png", scene(i)[1])
    assert [kinds(tmp_path / place) for place in "abc"] == [[], [], []]
    assert "CLASS/IMAGE.png" in error_line(DataError, create_dataset, "per_class", tmp_path / "a")


def test_the_smaller_class_lies_on_top() -> None:
    large, small = np.zeros((4, 5), np.bool_), np.zeros((4, 5), np.bool_)
    large[:3], small[1, 1:3] = True, True
    for labels in ((1, 2), (2, 1)):
        mask = stacked({labels[0]: large, labels[1]: small}, 0)
        assert [int((mask == label).sum()) for label in (*labels, 0)] == [13, 2, 5]
    assert set(np.unique(stacked({1: small, 2: small}, 7))) == {2, 7}


def test_masks_of_background_leave_the_rest_ignored(tmp_path: Path) -> None:
    root = per_class_folders(tmp_path)
    for i in range(8):
        ids = scene(i)[1]
        ground = ids == 0
        ground[0] = False
        save(root / "masks" / "Background" / f"{i}.png", (ground * 255).astype(np.uint8))
    found = masks_by_number("per_class", root)
    dataset = create_dataset("per_class", root)
    assert dataset.classes.names == ("Background", "box", "disc")
    expected = scene(3)[1].copy()
    expected[0][expected[0] == 0] = 255
    assert np.array_equal(found[3], expected)
    assert "what no class covers is ignored, as there are masks of Background" in dataset.notes  # type: ignore[attr-defined]


def test_binary_masks_in_every_mode_and_nothing_else(tmp_path: Path) -> None:
    root = per_class_folders(tmp_path)
    boxes = root / "masks" / "box"
    for i, mode in enumerate(("1", "L", "P", "RGB", "RGBA", "LA")):
        Image.fromarray(((scene(i)[1] == 1) * 255).astype(np.uint8)).convert(mode).save(boxes / f"{i}.png")
    check_scenes("per_class", root)
    smooth = ((scene(6)[1] == 1) * 255).astype(np.uint8)
    smooth[0, :2] = 7, 9
    for values, words in (
        (smooth, "holds 4 values (0, 7, 9, 255)"),
        (np.zeros((3, 3), np.uint8), "make them one size"),
    ):
        save(boxes / "6.png", values)
        assert words in error_line(DataError, masks_by_number, "per_class", root)
    save(boxes / "6.png", np.full((*SIZE, 3), (255, 0, 0), np.uint8))
    assert "is in colour" in error_line(DataError, masks_by_number, "per_class", root)


def test_images_without_any_class_are_left_out(tmp_path: Path) -> None:
    root = per_class_folders(tmp_path)
    for name in ("box", "disc"):
        (root / "masks" / name / "3.png").unlink()
    (root / "masks" / "box" / "4.png").unlink()
    found = masks_by_number("per_class", root)
    assert set(found) == {0, 1, 2, 4, 5, 6, 7}
    assert set(np.unique(found[4])) <= {0, 2}
    assert any("1 images have no mask of any class" in n for n in create_dataset("per_class", root).notes)  # type: ignore[attr-defined]


def test_splits_of_one_mask_per_class(tmp_path: Path) -> None:
    for split in ("train", "val"):
        part = per_class_folders(tmp_path / split, 4)
        for name in ("images", "masks"):
            (tmp_path / name).mkdir(exist_ok=True)
            (part / name).rename(tmp_path / name / split)
    assert [len(create_dataset("per_class", tmp_path, split)) for split in ("train", "val", "all")] == [4, 4, 8]


# Label Studio's PNG files


def test_png_files_of_label_studio(tmp_path: Path) -> None:
    root = studio_tags(tmp_path)
    assert kinds(root) == ["labelstudio"]
    check_scenes("labelstudio", root)
    again = root / "masks" / "task-2-annotation-300-by-1-tag-box-0.png"
    save(again, np.full(SIZE, 255, np.uint8))
    assert set(np.unique(masks_by_number("labelstudio", root)[2])) == {1}
    assert "1 tasks have several annotations: the last is read" in create_dataset("labelstudio", root).notes  # type: ignore[attr-defined]


def test_png_files_whose_images_the_json_names(tmp_path: Path) -> None:
    root = studio_tags(tmp_path)
    tasks = []
    for i in range(8):
        (root / "images" / f"{i}.jpg").rename(root / "images" / f"photo{i}.jpg")
        tasks.append(studio_task(i, [studio_region("rectangle", "box", x=0, y=0, width=1, height=1)]))
        tasks[-1]["file_upload"] = f"0a1b2c3{i}-photo{i}.jpg"
    assert "task 0" in error_line(DataError, create_dataset, "labelstudio", root)
    write(root / "export.json", json.dumps(tasks))
    check_scenes("labelstudio", root)
