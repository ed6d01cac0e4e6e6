"""Classes merged, renamed, dropped and ignored, over datasets of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import error_line
from featherseg.core.errors import ConfigError, DataError
from featherseg.core.recipes import config_from_dict, config_to_toml, load_config
from featherseg.core.types import ClassSet
from featherseg.data.class_maps import ClassMap, Relabelled, open_mapped, parse_map
from featherseg.data.datasets import create_dataset
from featherseg.evaluation.opening import open_labelled
from featherseg.models.checkpoint import load_checkpoint
from featherseg.training.fit import fit
from featherseg.training.quickstart import quick_start
from trainings import tiny_config


def folder(root: Path, masks: dict[str, Any], classes: str = "") -> Path:
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True, exist_ok=True)
    for name, values in masks.items():
        values = np.asarray(values)
        Image.fromarray(np.full((*values.shape[:2], 3), 90, np.uint8)).save(root / "images" / f"{name}.png")
        Image.fromarray(values.astype(np.uint16 if values.max() > 255 else np.uint8)).save(
            root / "masks" / f"{name}.png"
        )
    if classes:
        (root / "classes.toml").write_text(classes)
    return root


def read(root: Path, classes: dict[str, Any], **options: Any) -> tuple[tuple[str, ...], list[Any]]:
    dataset = open_mapped("folder", root, "all", classes, **options)
    assert dataset.classes.ignore_index == 255
    return dataset.classes.names, dataset.read(0)[1].tolist()


FIVE = 'names = ["road", "parking", "void", "sky", "tree"]\ncolors = [[1,1,1],[2,2,2],[3,3,3],[4,4,4],[5,5,9]]\n'


def test_merged_renamed_ignored_and_what_is_not_named_stays(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a": [[0, 1, 2, 3, 4, 255]]}, FIVE)
    section = {"road": ["road", "parking"], "heaven": "sky", "ignore": ["void"]}
    assert read(root, section) == (("road", "heaven", "tree"), [[0, 0, 255, 1, 2, 255]])
    dataset = open_mapped("folder", root, "all", section)
    assert dataset.classes.colors == ((1, 1, 1), (4, 4, 4), (5, 5, 9))
    assert "road = road + parking" in dataset.notes[-1]  # type: ignore[attr-defined]


@pytest.mark.parametrize("void", ["#0000FF", "0,0,255", "0, 0, 255"])
@pytest.mark.parametrize("classes", ["", 'names = ["a", "b"]\ncolors = [[9, 0, 0], [0, 9, 0]]\n'])
def test_a_colour_of_the_masks_is_ignored_whether_it_is_a_class_or_not(tmp_path: Path, void: str, classes: str) -> None:
    root = folder(tmp_path, {"a": [[[9, 0, 0], [0, 9, 0], [0, 0, 255]]]}, classes)
    names, found = read(root, {"ignore": [void]})
    assert found == ([[0, 1, 255]] if classes else [[1, 0, 255]])  # inferred ones are in the order of their colours
    assert names == (("a", "b") if classes else ("#000900", "#090000"))
    assert read(root, {"thing": ["#090000", "#000900"], "ignore": void})[1] == [[0, 0, 255]]


def test_what_is_no_colour_is_no_class(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a": [[0, 1]]}, 'names = ["x", "y"]\n')
    for word in ("#00", "0,0", "0,0,256", "#gggggg"):
        assert "no class of the data" in error_line(ConfigError, open_mapped, "folder", root, "all", {"ignore": [word]})


def test_how_many_are_folded_to_how_many_is_said(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a": [[0, 1, 2, 3, 4, 255]]})
    dataset = open_mapped("folder", root, "all", {"way": ["class_0", "class_1"], "ignore": ["class_4"]})
    assert "classes as data.classes has them, 5 folded to 3: way" in dataset.notes[-1]  # type: ignore[attr-defined]


def test_all_that_is_not_named_goes_where_the_star_is(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a": [[0, 1, 2, 3, 4, 255]]}, FIVE)
    assert read(root, {"sky": "sky", "rest": "*"}) == (("sky", "rest"), [[1, 1, 1, 0, 1, 255]])
    assert read(root, {"way": ["road", "parking"], "tree": "tree", "ignore": "*"}) == (
        ("way", "tree"),
        [[0, 0, 255, 255, 1, 255]],
    )


def test_several_ignored_values_and_mask_values_by_number(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a": [[0, 1, 7, 999, 2]]}, 'names = ["road", "sky", "tree"]\n')
    assert read(root, {"road": ["road", 7], "ignore": ["tree", 999]}) == (("road", "sky"), [[0, 1, 0, 255, 255]])
    assert "which is no class" in error_line(DataError, read, root, {"road": ["road", 7]})


def test_more_source_ids_than_a_mask_of_classes_can_hold(tmp_path: Path) -> None:
    names = ", ".join(f'"k{i}"' for i in range(300))
    root = folder(tmp_path, {"a": [[0, 1, 150, 299, 298]]}, f"names = [{names}]\n")
    assert "300 names" in error_line(DataError, create_dataset, "folder", root, "all")
    section = {"low": [f"k{i}" for i in range(100)], "high": "*", "ignore": "k299"}
    assert read(root, section) == (("low", "high"), [[0, 0, 1, 255, 1]])
    assert "leaves 299 classes" in error_line(ConfigError, read, root, {"k": ["k0", "k1"]})


def test_mask_values_alone_need_no_class_file(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a": [[111, 112, 511, 999, 255]]})
    town = {"town": [111, 112], "water": 511, "ignore": 999}
    assert read(root, town) == (("town", "water"), [[0, 0, 1, 255, 255]])
    assert read(root, {"town": [111, 112], "other": "*"}) == (("town", "other"), [[0, 0, 1, 1, 255]])


def test_colour_masks_and_inferred_classes(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a": [[[1, 1, 1], [2, 2, 2], [5, 5, 9]]]}, FIVE)
    assert read(root, {"road": ["road", "parking"], "ignore": "void"})[1] == [[0, 0, 2]]
    inferred = folder(tmp_path / "inferred", {"a": [[0, 1, 2]]})
    assert read(inferred, {"thing": ["class_1", "class_2"]}) == (("thing", "class_0"), [[1, 0, 0]])


def test_drawn_splits_hold_every_class_that_is_made(tmp_path: Path) -> None:
    masks = {f"n{i:02d}": [[0, 1, 2 if i in (3, 4) else 0, 3 if i in (5, 6, 7) else 0]] for i in range(20)}
    root = folder(tmp_path, masks, 'names = ["a", "b", "c", "d"]\n')
    for split in ("train", "val"):
        dataset = open_mapped("folder", root, split, {"rare": ["c", "d"]})
        assert {0, 1, 2} == {int(v) for i in range(len(dataset)) for v in np.unique(dataset.read(i)[1])}


def test_labels_that_are_no_mask_files() -> None:
    options = {"count": 2, "val_count": 1, "size": (64, 96)}
    plain = create_dataset("synthetic", "", "val", **options)
    ground = ("road", "pavement")
    dataset = open_mapped("synthetic", "", "val", {"ground": list(ground), "ignore": "sky"}, **options)
    assert isinstance(dataset, Relabelled)
    assert (dataset.name, dataset.split, dataset.stem(0), len(dataset)) == ("synthetic", "val", plain.stem(0), 1)
    before, after = plain.read(0)[1], dataset.read(0)[1]
    assert ((after == 0) == np.isin(before, [plain.classes.index(name) for name in ground])).all()
    assert (after[before == plain.classes.index("sky")] == 255).all()
    assert "has no mask files" in error_line(ConfigError, open_mapped, "synthetic", "", "val", {"a": [3]}, **options)


def test_names_of_cityscapes_that_are_no_class(tmp_path: Path) -> None:
    values = np.array([[7, 9, 14, 26, 0]], np.uint8)
    for part, kind in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds")):
        place = tmp_path / part / "val" / "ulm"
        place.mkdir(parents=True)
        picture = values if part == "gtFine" else np.dstack([values] * 3)
        Image.fromarray(picture).save(place / f"ulm_0_{kind}.png")
    section = {"road": ["road", "parking"], "rail": ["guard rail"], "ignore": "*"}
    dataset = open_mapped("cityscapes", tmp_path, "val", section)
    assert dataset.classes.names == ("road", "rail")
    assert dataset.read(0)[1].tolist() == [[0, 0, 1, 255, 255]]


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"road": ["raod"]}, "data.classes.road names 'raod', no class of the data; did you mean \"road\"?"),
        ({"road": ["parking"]}, "put 'road' into its list"),
        ({"a": ["road"], "b": ["road"]}, "has 'road' in a and in b"),
        ({"a": []}, "data.classes.a is empty"),
        ({"a": [70000]}, "mask values are 0 to 65535"),
        ({"a": ["*"], "ignore": "*"}, "has '*' in a and in ignore"),
        ({"ignore": "*"}, "leaves 0 classes"),
    ],
)
def test_maps_that_cannot_be(tmp_path: Path, section: dict[str, Any], words: str) -> None:
    root = folder(tmp_path, {"a": [[0]]}, FIVE)
    assert words in error_line(ConfigError, open_mapped, "folder", root, "all", section)


def test_a_map_is_a_section_of_the_recipe(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text('[data.classes]\nroad = ["road", "parking"]\nignore = ["void", 0, 999]\n')
    config = load_config(file, ["data.classes.sky=heaven"])
    assert config.data.classes == {"road": ("road", "parking"), "ignore": ("void", 0, 999), "sky": "heaven"}
    file.write_text(config_to_toml(config))
    assert load_config(file) == config
    assert "data.classes" in error_line(ConfigError, config_from_dict, {"data": {"classes": {"a": 1.5}}})
    reserved = {"data": {"options": {"class_map": 1}}}
    assert "not given here but by [data.classes]" in error_line(ConfigError, config_from_dict, reserved)
    assert parse_map({"a": "b"}) == ClassMap({"a": ("b",)})


def test_trainings_and_their_evaluations_use_it(street_folder: Path, tmp_path: Path) -> None:
    data = {"name": "folder", "root": str(street_folder), "options": {}, "classes": {"ground": ["road", "car"]}}
    run = fit(tiny_config(tmp_path, data=data, augment={"crop": [48, 64]}, train={"epochs": 1}), quiet=True)
    assert load_checkpoint(run.path).classes.names == run.best.classes.names == ("ground", "sky")
    assert open_labelled(run.path, {}).classes.names == ("ground", "sky")


def test_a_folder_that_needs_a_map_trains_with_one(tmp_path: Path) -> None:
    codes = np.array([[111, 112, 999, 511] * 20] * 70)
    root = folder(tmp_path / "codes", {f"n{i}": codes for i in range(6)})
    settings = ["data.classes.town=[111, 112]", "data.classes.water=511", "data.classes.ignore=999"]
    config = quick_start(root, [*settings, "model.name=jetnet"]).config
    assert open_mapped(config.data.name, config.data.root, "val", config.data.classes).classes.names == (
        "town",
        "water",
    )


def test_colours_of_classes_of_values_alone_are_distinct() -> None:
    classes, _ = parse_map({"a": [1], "b": [2]}).alone()
    assert classes == ClassSet(("a", "b"))
