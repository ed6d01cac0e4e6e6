from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import error_line
from featherseg.core.errors import ConfigError, DataError
from featherseg.data.datasets import create_dataset
from featherseg.data.storage import WHITE_NOTE


def make(root: Path, masks: dict[str, Any], palette: list[int] | None = None, suffix: str = ".png") -> Path:
    for name, values in masks.items():
        values = np.asarray(values)
        image = root / "images" / f"{name}.jpg"
        mask = root / "masks" / f"{name}{suffix}"
        for path in (image, mask):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*values.shape[:2], 3), 90, np.uint8)).save(image)
        picture = Image.fromarray(values.astype(np.uint8))
        if palette:
            picture.putpalette(palette)
        picture.save(mask)
    return root


def open_all(root: Path, **options: Any) -> Any:
    return create_dataset("folder", root, "all", **options)


def attempt(root: Path, split: str, read: bool, options: dict[str, Any]) -> None:
    dataset = create_dataset("folder", root, split, **options)
    if read:
        dataset.read(0)


def refusal(root: Path, split: str = "all", read: bool = False, **options: Any) -> str:
    return error_line((DataError, ConfigError), attempt, root, split, read, options)


# Classes from a file


def test_a_class_file_in_toml_with_ids_and_ignored(tmp_path: Path) -> None:
    make(tmp_path, {"a": [[4, 9, 7]]})
    (tmp_path / "classes.toml").write_text(
        'names = ["x", "y"]\nids = [9, 4]\nignore_index = 7\ncolors = [[1, 2, 3], [4, 5, 6]]\n'
    )
    dataset = open_all(tmp_path)
    assert dataset.read(0)[1].tolist() == [[1, 0, 7]]
    assert dataset.classes.ignore_index == 7
    assert dataset.classes.colors == ((1, 2, 3), (4, 5, 6))
    assert dataset.notes == ()


def test_a_class_file_in_json_for_colour_masks(tmp_path: Path) -> None:
    make(tmp_path, {"a": [[[4, 5, 6], [1, 2, 3]]]})
    (tmp_path / "other.json").write_text(json.dumps({"names": ["x", "y"], "colors": [[1, 2, 3], [4, 5, 6]]}))
    assert open_all(tmp_path, classes="other.json").read(0)[1].tolist() == [[1, 0]]


def test_0_and_255_can_be_classes_by_ids(tmp_path: Path) -> None:
    make(tmp_path, {"a": [[0, 255]]})
    (tmp_path / "classes.toml").write_text('names = ["x", "y"]\nids = [0, 255]\n')
    assert open_all(tmp_path).read(0)[1].tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("names = [", "cannot be read"),
        ("ids = [1]", "malformed"),
        ('names = "road"', "give a list of texts"),
        ('names = ["a", "a"]', "'a' occurs twice"),
        ('names = ["a", "b"]\nids = [1]', "2 names but 1 ids"),
        ('names = ["a", "b"]\nids = [1, 1]', "gives id 1 to 2 classes"),
        ('names = ["a", "b"]\nids = [1, -3]', "mask value -3 is out of range"),
        ('names = ["a", "b"]\ncolors = [[1, 1, 1], [1, 1, 1]]', "gives colour (1, 1, 1) to 2 classes"),
        ('names = ["a", "b"]\ncolors = [[1, 1], [1, 1, 1]]', "malformed"),
        ('names = ["a", "b"]\nignore_index = 1', "ignore_index 1 is the id of class 'b'"),
        ('names = ["a"]\nignore_indx = 7', "unknown key 'ignore_indx'; did you mean \"ignore_index\"?"),
    ],
)
def test_class_files_that_cannot_be(tmp_path: Path, text: str, words: str) -> None:
    make(tmp_path, {"a": [[0]]})
    (tmp_path / "classes.toml").write_text(text)
    message = refusal(tmp_path)
    assert words in message
    assert "classes.toml" in message


def test_a_class_file_asked_for_must_be_there(tmp_path: Path) -> None:
    make(tmp_path, {"a": [[0]]})
    assert "no.toml does not exist; check its path" in refusal(tmp_path, classes="no.toml")


# Classes inferred


def test_index_masks_are_inferred_with_notes(tmp_path: Path) -> None:
    dataset = open_all(make(tmp_path, {"a": [[0, 3]], "b": [[1, 255]]}))
    assert dataset.classes.names == ("class_0", "class_1", "class_2", "class_3")
    assert dataset.read(1)[1].tolist() == [[1, 255]]
    assert "inferred 4 classes" in dataset.notes[0]
    assert dataset.notes[1] == "no mask holds id 2"


def test_palette_masks_bring_their_colours(tmp_path: Path) -> None:
    dataset = open_all(make(tmp_path, {"a": [[0, 1, 1]]}, palette=[9, 8, 7, 6, 5, 4]))
    assert dataset.classes.colors == ((9, 8, 7), (6, 5, 4))
    assert dataset.read(0)[1].tolist() == [[0, 1, 1]]


def test_colour_masks_are_inferred_in_sorted_order(tmp_path: Path) -> None:
    dataset = open_all(make(tmp_path, {"a": [[[255, 0, 0], [0, 0, 1]]], "b": [[[0, 16, 0], [0, 0, 1]]]}))
    assert dataset.classes.names == ("#000001", "#001000", "#ff0000")
    assert dataset.read(0)[1].tolist() == [[2, 0]]
    assert "classes.toml" in dataset.notes[1]


def test_0_and_255_are_background_and_foreground(tmp_path: Path) -> None:
    dataset = open_all(make(tmp_path, {"a": [[0, 255]], "b": [[0, 0]]}))
    assert dataset.classes.names == ("background", "foreground")
    assert dataset.read(0)[1].tolist() == [[0, 1]]
    assert dataset.notes == (WHITE_NOTE,)


def test_inference_that_cannot_be(tmp_path: Path) -> None:
    assert "over 64, too many to be classes" in refusal(make(tmp_path / "grey", {"a": [list(range(100))]}))
    assert "ids up to 200" in refusal(make(tmp_path / "sparse", {"a": [[0, 200]]}))
    assert "only 255" in refusal(make(tmp_path / "ignored", {"a": [[255, 255]]}))
    assert "some masks" in refusal(make(tmp_path / "mixed", {"a": [[0, 1]], "b": [[[1, 2, 3], [4, 5, 6]]]}))


def test_every_split_has_the_same_classes(tmp_path: Path) -> None:
    make(tmp_path, {f"s{i}": [[0, i]] for i in range(1, 11)})
    train, val = (create_dataset("folder", tmp_path, split) for split in ("train", "val"))
    assert train.classes == val.classes
    assert len(train.classes) == 11


# Files


def test_jpeg_masks_are_refused(tmp_path: Path) -> None:
    assert "is a JPEG, whose compression changes class ids" in refusal(make(tmp_path, {"a": [[0, 1]]}, suffix=".jpg"))


def test_what_is_wrong_with_the_files_is_said(tmp_path: Path, street_folder: Path) -> None:
    assert "dataset folder not found" in refusal(tmp_path / "no")
    (tmp_path / "empty").mkdir()
    assert "no pictures in" in refusal(tmp_path / "empty")
    (street_folder / "masks" / "s3.png").unlink()
    assert "s3.png has no mask" in refusal(street_folder)
    shutil.copy(street_folder / "masks" / "s1.png", street_folder / "masks" / "s3.png")
    shutil.copy(street_folder / "images" / "s3.png", street_folder / "images" / "s3.bmp")
    assert "holds 2 files named 's3'; keep one" in refusal(street_folder)
    (street_folder / "images" / "s3.bmp").unlink()
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(street_folder / "masks" / "s0.png")
    message = refusal(street_folder, read=True)
    assert "s0.png is 5x5 but image" in message
    assert "is 48x64 (height x width); make them one size" in message
    (street_folder / "images" / "s0.png").write_bytes(b"")
    assert "s0.png cannot be read as an image" in refusal(street_folder, read=True)
    for path in (street_folder / "masks").iterdir():
        path.unlink()
    assert "no masks in" in refusal(street_folder)


def test_other_folder_names(tmp_path: Path) -> None:
    make(tmp_path, {"a": [[0, 1]]})
    (tmp_path / "images").rename(tmp_path / "jpg")
    (tmp_path / "masks").rename(tmp_path / "png")
    assert len(open_all(tmp_path, images="jpg", masks="png")) == 1


# Splits


def stems(root: Path, split: str, **options: Any) -> list[str]:
    dataset = create_dataset("folder", root, split, **options)
    return [dataset.stem(i) for i in range(len(dataset))]


def test_the_made_split_is_whole_and_without_overlap(street_folder: Path) -> None:
    train, val = stems(street_folder, "train"), stems(street_folder, "val")
    assert (len(train), len(val)) == (8, 2)
    assert not set(train) & set(val)
    assert sorted(train + val) == stems(street_folder, "all") == [f"s{i}" for i in range(10)]
    assert len(stems(street_folder, "val", val_share=0.5)) == 5
    assert len(stems(street_folder, "val", val_share=0.001)) == 1
    assert len(stems(street_folder, "train", val_share=0.999)) == 1


def test_the_made_split_depends_on_names_and_seed_alone(
    street_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    val = stems(street_folder, "val", val_share=0.5)
    assert val == ["s0", "s3", "s4", "s5", "s6"]  # on every machine
    listing = Path.iterdir
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", lambda self: iter(sorted(listing(self), reverse=True)))
        assert stems(street_folder, "val", val_share=0.5) == val
    moved = shutil.copytree(street_folder, tmp_path / "elsewhere")
    assert stems(moved, "val", val_share=0.5) == val
    assert any(stems(street_folder, "val", val_share=0.5, seed=seed) != val for seed in (1, 2))


def test_samples_keep_their_side_when_others_come(street_folder: Path) -> None:
    """At half and half, one more image moves at most one of the old ones."""
    before = set(stems(street_folder, "val", val_share=0.5))
    for part in ("images", "masks"):
        shutil.copy(street_folder / part / "s1.png", street_folder / part / "new.png")
    after = set(stems(street_folder, "val", val_share=0.5)) - {"new"}
    assert len(before ^ after) <= 1


def test_a_single_sample_makes_no_split(tmp_path: Path) -> None:
    make(tmp_path, {"a": [[0, 1]]})
    for split in ("train", "val"):
        assert 'holds one image, which makes no split; add images, or use split "all"' in refusal(tmp_path, split)
    assert len(open_all(tmp_path)) == 1


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_shares_out_of_range(street_folder: Path, share: float) -> None:
    assert "val_share is" in refusal(street_folder, val_share=share)


def test_subfolders_are_the_splits(tmp_path: Path) -> None:
    for split, name in (("train", "a"), ("train", "b"), ("val", "a")):
        make(tmp_path / "flat", {name: [[0, 2 if split == "val" else 1]]})
        for part, suffix in (("images", ".jpg"), ("masks", ".png")):
            (tmp_path / part / split).mkdir(parents=True, exist_ok=True)
            (tmp_path / "flat" / part / f"{name}{suffix}").rename(tmp_path / part / split / f"{name}{suffix}")
    assert stems(tmp_path, "train") == ["a", "b"]
    assert stems(tmp_path, "val") == ["a"]
    assert len(open_all(tmp_path)) == 3
    assert len(create_dataset("folder", tmp_path, "train").classes) == 3
    assert "splits there: all, train, val" in refusal(tmp_path, "test")
    (tmp_path / "images" / "test").mkdir()  # pictures to predict, without masks
    assert stems(tmp_path, "train") == ["a", "b"]
    assert "masks not found" in refusal(tmp_path, "test")


def test_hidden_folders_are_no_splits(street_folder: Path) -> None:
    (street_folder / "images" / ".ipynb_checkpoints").mkdir()
    assert len(stems(street_folder, "train")) == 8
