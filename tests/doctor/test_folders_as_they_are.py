"""Folders as people have them: found without a word, or asked about, by the doctor and the loader alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Ended, error_line
from featherseg.core.errors import DataError, UndecidedError
from featherseg.data.datasets import create_dataset
from featherseg.data.folder_pairs import find_pairs
from featherseg.data.readers.public import CITYSCAPES_CLASSES
from featherseg.data.storage import WHITE_NOTE
from featherseg.doctor.examine import examine
from featherseg.doctor.infer import infer_data
from folder_layouts import LAYOUTS, labels


def made(name: str, root: Path) -> Path:
    root.mkdir(exist_ok=True)
    LAYOUTS[name](root)
    return root


# layout: a pair of it, pairs of train and of val
READ = {
    "drive_alone": ("images/21_training.tif", "1st_manual/21_manual1.gif", 4),
    "cityscapes_flat": ("ulm_000000_000019_leftImg8bit.png", "ulm_000000_000019_gtFine_labelIds.png", 4),
    "cityscapes_towns": (
        "leftImg8bit/jena/jena_000001_leftImg8bit.png",
        "gtFine/jena/jena_000001_gtFine_labelIds.png",
        9,
    ),
    "numbered": ("pictures_2024/img_010.png", "truth/label_010.png", 12),
    "numbered_in_one_folder": ("img_010.png", "label_010.png", 12),
    "numbered_otherwise": ("a/img10.png", "b/label010.png", 12),
    "membranes": ("train/image/10.png", "train/label/10.png", 12),
    "patients": ("P3/img/1.png", "P3/seg/1.png", 15),
    "a_folder_for_each_image": ("case2/image.png", "case2/mask.png", 5),
    "splits_with_words": ("val/x11_01.jpg", "val_masks/x11_01_mask.gif", 8),
    "splits_first": ("valid/images/x11.png", "valid/labels/x11.png", 8),
    "splits_and_towns": ("images/val/ulm/x11.png", "masks/val/ulm/x11.png", 8),
    "suffix_in_usual_folders": ("images/scene1.jpg", "masks/scene1_seg.png", 4),
    "side_by_side": ("def_scene.png", "def_scene_mask.png", 3),
    "jpeg_and_png": ("data/f3.jpg", "data/f3.png", 5),
    "masks_and_overlays": ("images/f3.jpg", "masks/f3.png", 5),
}
CHOSEN = {
    "drive": ("1st_manual", "training/images/22_training.tif", "training/1st_manual/22_manual1.png", 8),
    "chase": ("*_2ndHO.png", "Image_02R.jpg", "Image_02R_2ndHO.png", 10),
    "kitti": ("*_road_*", "training/image_2/umm_000001.png", "training/gt_image_2/umm_road_000001.png", 12),
    "cityscapes_flat_of_two_kinds": (
        "*_labelTrainIds.png",
        "ulm_000001_000019_leftImg8bit.png",
        "ulm_000001_000019_gtFine_labelTrainIds.png",
        4,
    ),
    "voc_without_lists": (
        "SegmentationClassAug",
        "JPEGImages/2007_000001.jpg",
        "SegmentationClassAug/2007_000001.png",
        5,
    ),
    "masks_and_labels": ("labels", "images/f1.jpg", "labels/f1.png", 5),
}


def agreed(root: Path, options: dict[str, Any]) -> set[tuple[str, str]]:
    """The pairs that the doctor examines, which have to be those of the loader with what is inferred."""
    found = infer_data(root, None, options)
    sets = [create_dataset(found.kind, root, split, **found.options) for split in (found.train_split, found.val_split)]
    for dataset in sets:
        dataset.read(0)
    theirs = {pair for dataset in sets for pair in dataset.pairs}  # type: ignore[attr-defined]
    ours = {(pair.image, pair.mask) for pair in examine(root, options=options).layout.pairs}
    assert ours == theirs
    assert len(theirs) == sum(map(len, sets))
    return {(a.relative_to(root).as_posix(), b.relative_to(root).as_posix()) for a, b in theirs}


@pytest.mark.parametrize("name", READ)
def test_what_is_one_to_one_is_read(name: str, tmp_path: Path) -> None:
    image, mask, count = READ[name]
    pairs = agreed(made(name, tmp_path / "data"), {})
    assert (image, mask) in pairs
    assert len(pairs) == count


@pytest.mark.parametrize("name", CHOSEN)
def test_several_sets_of_masks_are_asked_about_and_chosen(name: str, tmp_path: Path) -> None:
    masks, image, mask, count = CHOSEN[name]
    root = made(name, tmp_path / "data")
    for ask in (infer_data, examine):
        with pytest.raises(UndecidedError) as caught:
            ask(root)
        assert "\n" not in str(caught.value)
        assert "data.options.masks=" in str(caught.value)
        sets = [line for line in caught.value.details if not line.startswith(" ")]
        assert any(line.startswith((f"data.options.masks={masks}:", f"data.options.masks='{masks}':")) for line in sets)
        assert len(caught.value.details) > 2 * len(sets) >= 4
    pairs = agreed(root, {"masks": masks})
    assert (image, mask) in pairs
    assert len(pairs) == count


def test_a_field_of_view_is_known_by_its_shares(tmp_path: Path) -> None:
    with pytest.raises(UndecidedError) as caught:
        infer_data(made("drive", tmp_path / "data"))
    said = [line for line in caught.value.details if not line.startswith(" ")]
    assert said == [
        "data.options.masks=1st_manual: masks of 8 of 8 images; 0 on 50%, 255 on 50% of the pixels",
        "data.options.masks=mask: masks of 8 of 8 images; 255 on 92%, 0 on 8% of the pixels",
        "data.options.masks=test/2nd_manual: masks of 4 of 8 images; 0 on 50%, 255 on 50% of the pixels",
    ]


def test_the_question_on_the_command_line(run: Callable[..., Ended], tmp_path: Path) -> None:
    root = made("chase", tmp_path / "data")
    ended = run("doctor", root, "-q")
    assert ended.code == 2
    lines = ended.err.splitlines()
    assert lines[0].startswith("error: ")
    assert len([line for line in lines if line.startswith("data.options.masks=")]) == 2
    assert len(lines) == 1 + 2 * (1 + 5)
    assert run("doctor", root, "-q", "--masks", "*_1stHO.png").code == 0


def test_two_annotators_in_the_usual_folder(tmp_path: Path) -> None:
    root = made("suffix_in_usual_folders", tmp_path / "data")
    for i in range(4):
        labels(root / "masks" / f"scene{i}_gt.png", i)
    with pytest.raises(UndecidedError):
        create_dataset("folder", root, "train")
    dataset = create_dataset("folder", root, "train", masks="*_gt.png")
    assert {mask.name[6:] for _, mask in dataset.pairs} == {"_gt.png"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("other_days", "say which files are which"),
        ("a_mask_is_missing", "1 of 6 images"),
        ("photographs_alone", "say which files are which"),
        ("two_cameras", "2 sets of images and masks"),
        ("stack", "is a stack of 3 pictures; save each of its pages"),
    ],
)
def test_what_is_refused(name: str, words: str, tmp_path: Path) -> None:
    root = made(name, tmp_path / "data")
    assert words in error_line(DataError, infer_data, root)
    if name == "stack":
        options = {"images": "train-volume.tif", "masks": "train-labels.tif"}
        assert words in error_line(DataError, infer_data, root, None, options)


def test_options_that_mean_nothing(tmp_path: Path) -> None:
    root = made("chase", tmp_path / "data")
    for word in ("../other", "/", "no_such", "*.bmp"):
        message = error_line(DataError, find_pairs, root, "", word)
        assert "data.options.masks is" in message
    assert "belong together" in error_line(DataError, find_pairs, root, "*_1stHO.png", "Image_01L.jpg")


def test_a_missing_mask_is_a_finding_and_mended(tmp_path: Path) -> None:
    examination = examine(made("a_mask_is_missing", tmp_path / "data"))
    found = {finding.id: finding.examples for finding in examination.findings}
    assert found["image-without-mask"] == ("a/0_x.png",)
    assert "layout-other" in found
    assert len(examination.layout.pairs) == 5


def test_groups_are_found_and_kept_whole(tmp_path: Path) -> None:
    root = made("chase", tmp_path / "data")
    found = infer_data(root, None, {"masks": "*_1stHO.png"})
    assert found.options["group"] == "^(.*[0-9])[LR]$"
    stems: dict[str, set[str]] = {}
    for split in ("train", "val"):
        dataset = create_dataset("folder", root, split, **found.options)
        stems[split] = {dataset.stem(i)[:-1] for i in range(len(dataset))}
        assert "10 images of 5 groups (`Image_01`, `Image_02`, …)" in dataset.notes[-1]  # type: ignore[attr-defined]
    assert not stems["train"] & stems["val"]
    assert "group" not in infer_data(made("numbered", tmp_path / "other")).options
    assert infer_data(root, None, {"masks": "*_1stHO.png", "group": ""}).options["group"] == ""


def test_patients_folders_are_groups(tmp_path: Path) -> None:
    found = infer_data(made("patients", tmp_path / "data"))
    assert found.options["group"] == "^([^/]+)"


def test_cityscapes_names_bring_its_classes(tmp_path: Path) -> None:
    root = made("cityscapes_towns", tmp_path / "data")
    found = infer_data(root)
    assert (found.kind, found.classes) == ("folder", CITYSCAPES_CLASSES)
    assert create_dataset("folder", root, "train", **found.options).classes == CITYSCAPES_CLASSES


@pytest.mark.parametrize("named", [False, True])
def test_white_is_said_once_and_alike(named: bool, tmp_path: Path) -> None:
    root = made("membranes", tmp_path / "data")
    if named:
        (root / "classes.toml").write_text('names = ["cell", "membrane"]\n')
    (finding,) = [f for f in examine(root).findings if f.id == "mask-0-255"]
    assert (finding.severity, finding.rule.title) == ("note", WHITE_NOTE)
    found = infer_data(root)
    dataset = create_dataset("folder", root, "train", **found.options)
    assert dataset.notes.count(WHITE_NOTE) == 1  # type: ignore[attr-defined]
    assert not any("255" in note for note in found.notes)
    assert sorted(set(dataset.read(0)[1].ravel().tolist())) == [0, 1]
