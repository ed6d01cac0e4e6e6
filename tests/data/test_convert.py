"""Labels in other formats, there and back: every pixel, or what the format cannot say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import foreign_labels as made
from conftest import error_line
from featherseg.core.errors import ConfigError, DataError
from featherseg.core.types import MaskArray
from featherseg.data import convert as module
from featherseg.data.annotations import AnnotatedDataset, recognise
from featherseg.data.convert import ConvertResult, convert
from featherseg.data.datasets import FileDataset, SegmentationDataset, create_dataset
from featherseg.data.writers.coco import CocoWriter
from featherseg.data.writing import Picture, writers
from featherseg.doctor.infer import infer_data
from given_masks import NAMES, Given, noise
from labelled_exports import ade20k, cvat_masks, cvat_xml_masks, grouped, per_class_folders, roboflow, save

FORMATS = ("folder", "coco", "yolo", "cvat", "labelstudio", "labelme")
WAYS = [*((name, False) for name in FORMATS), ("coco", True), ("labelstudio", True), ("labelme", True)]
each_format = pytest.mark.parametrize("to", FORMATS)
each_way = pytest.mark.parametrize(("to", "polygons"), WAYS, ids=lambda value: {True: "polygons"}.get(value, value))


def read_back(result: ConvertResult, split: str = "all") -> dict[str, MaskArray]:
    """Masks by the pictures' names, in the order of ids of the source."""
    back = create_dataset(result.kind, result.root, split, **dict(result.options))
    table = np.full(256, 255, np.uint8)
    for i, name in enumerate(back.classes.names):
        if name in result.classes:
            table[i] = result.classes.index(name)
    return {back.stem(i): table[back.read(i)[1]] for i in range(len(back))}


def same(found: dict[str, MaskArray], expected: dict[str, MaskArray]) -> bool:
    assert set(found) == set(expected)
    for name, mask in expected.items():
        np.testing.assert_array_equal(found[name], mask, err_msg=name)
    return True


def opened(root: Path) -> dict[str, SegmentationDataset]:
    found = infer_data(root)
    return {split: create_dataset(found.kind, root, split, **found.options) for split in found.splits}


@each_way
def test_there_and_back(to: str, polygons: bool, tmp_path: Path) -> None:
    parts = {split: {f"{split}{i}": noise(10 * k + i) for i in range(3)} for k, split in enumerate(("train", "val"))}
    result = convert({split: Given(masks) for split, masks in parts.items()}, tmp_path / "out", to, polygons=polygons)
    assert result.changed == 0
    assert result.before == result.after
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
    assert result.files == sum(path.is_file() for path in result.root.rglob("*"))
    assert same(read_back(result), parts["train"] | parts["val"])
    if to != "labelstudio":  # which has no splits
        assert same(read_back(result, "val"), parts["val"])
    assert infer_data(result.root).kind == to
    assert to == "folder" or list(recognise(result.root)) == [to]


@each_way
def test_ignored_pixels(to: str, polygons: bool, tmp_path: Path) -> None:
    masks = {f"p{i}": noise(i, ignored=0.2) for i in range(3)}
    result = convert({"train": Given(masks)}, tmp_path / "out", to, polygons=polygons)
    ignored = sum(int((mask == 255).sum()) for mask in masks.values())
    if to == "yolo":
        masks = {name: np.where(mask == 255, np.uint8(0), mask) for name, mask in masks.items()}
        assert result.changed == ignored
        assert any("cannot say that pixels are ignored" in note for note in result.notes)
        assert "were ignored, are read back as background" in result.summary()
    else:
        assert result.changed == 0
        assert any("ignored" in note for note in result.notes)
    assert same(read_back(result), masks)


@each_way
@pytest.mark.parametrize("ignored", [0.0, 0.2])
def test_classes_without_background(to: str, polygons: bool, ignored: float, tmp_path: Path) -> None:
    masks = {f"p{i}": noise(i, ignored=ignored) for i in range(3)}
    result = convert({"train": Given(masks, ("sky", "road", "car"))}, tmp_path / "out", to, polygons=polygons)
    assert result.changed == 0
    assert same(read_back(result), masks)


@each_way
def test_background_in_another_place(to: str, polygons: bool, tmp_path: Path) -> None:
    masks = {f"p{i}": noise(i, 4) for i in range(3)}
    given = Given(masks, ("road", "Background", "car", "sky"))
    result = convert({"train": given}, tmp_path / "out", to, polygons=polygons)
    assert same(read_back(result), masks)
    if to != "labelstudio":  # alphabetical
        back = create_dataset(to, result.root, "train")
        assert [name.lower() for name in back.classes.names] == ["road", "background", "car", "sky"]


@each_way
def test_odd_names_of_classes_and_pictures(to: str, polygons: bool, tmp_path: Path) -> None:
    names = (
        "background",
        "Straße  (nass)",
        'a:b "c", #1',
        "<tree> & 'bush'",
        "人行道",
        "null",
        "class",
        "no",
        "1e3",
        "x" * 90,
    )
    pictures = ("train_1", "test val", "a.b.c", "Ölfass 50% +1", "#comment", "LABELS", "labels", "0a1b2c3d-x", "d=1&e")
    masks = {name: noise(i, len(names)) for i, name in enumerate(pictures)}
    result = convert({"val": Given(masks, names)}, tmp_path / "out", to, polygons=polygons)
    found = read_back(result, "all" if to == "labelstudio" else "val")
    expected = dict(zip(("train_1", "test val", "a.b.c", "Ölfass 50% +1", "comment", "LABELS", "labels_2", "0a1b2c3d-x",
                         "d=1&e"), masks.values(), strict=True))  # fmt: skip
    assert same(found, expected)


@each_way
def test_empty_pictures(to: str, polygons: bool, tmp_path: Path) -> None:
    empty = np.zeros((9, 7), np.uint8)
    train, val = {"a": noise(0), "b": empty}, {"c": empty, "d": empty}
    result = convert({"train": Given(train), "val": Given(val)}, tmp_path / "out", to, polygons=polygons)
    assert same(read_back(result), train | val)
    if to != "labelstudio":
        assert same(read_back(result, "val"), val)


@each_way
def test_pictures_of_one_pixel_and_very_wide_ones(to: str, polygons: bool, tmp_path: Path) -> None:
    wide = np.zeros((2, 40_000), np.uint8)  # more than fifteen bits
    wide[0, 5:39_990] = 1
    wide[1, 33_000:] = 2
    masks = {
        "one": np.ones((1, 1), np.uint8),
        "wide": wide,
        "tall": np.ascontiguousarray(wide.T),
        "full": wide // 3 + 1,
    }
    result = convert({"train": Given(masks)}, tmp_path / "out", to, polygons=polygons)
    assert same(read_back(result), masks)


@each_way
def test_many_classes(to: str, polygons: bool, tmp_path: Path) -> None:
    names = ("background", *(f"class {i}" for i in range(254)))
    masks = {"all": np.arange(255, dtype=np.uint8).reshape(15, 17)}
    result = convert({"train": Given(masks, names)}, tmp_path / "out", to, polygons=polygons)
    assert same(read_back(result), masks)


SOURCES: dict[str, Callable[[Path], object]] = {
    **{build.__name__: build for build in made.BUILDERS},
    **{build.__name__: build for build in (cvat_masks, cvat_xml_masks, roboflow, per_class_folders, grouped, ade20k)},
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("to", ["folder", "coco", "cvat", "labelstudio", "labelme", "yolo"])
def test_rebuilt_exports(source: str, to: str, tmp_path: Path) -> None:
    """Some hold overlaps, crowds, holes, and JPEGs; what they are read as is what is read back."""
    SOURCES[source](tmp_path / "in")
    before = {path: path.read_bytes() for path in (tmp_path / "in").rglob("*") if path.is_file()}
    splits = opened(tmp_path / "in")
    result = convert(splits, tmp_path / "out", to)
    assert {path: path.read_bytes() for path in (tmp_path / "in").rglob("*") if path.is_file()} == before
    ours = [dataset.read(i)[1] for dataset in splits.values() for i in range(len(dataset))]
    ignored = sum(int((mask == 255).sum()) for mask in ours)
    background = "background" in result.classes
    assert result.changed == (ignored if to == "yolo" and background else 0)
    theirs = list(read_back(result).values())
    if result.changed:
        ours = [np.where(mask == 255, np.uint8(result.classes.index("background")), mask) for mask in ours]
    assert sorted(mask.tobytes() for mask in theirs) == sorted(mask.tobytes() for mask in ours)


@each_format
def test_images_are_copied_as_they_are(to: str, tmp_path: Path) -> None:
    made.coco_official(tmp_path / "in")
    result = convert(opened(tmp_path / "in"), tmp_path / "out", to)
    source = sorted(path.read_bytes() for path in (tmp_path / "in").rglob("*.jpg"))
    assert sorted(path.read_bytes() for path in result.root.rglob("*.jpg")) == source


@each_format
def test_turned_images_come_out_upright(to: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a", "b"):
        save(tmp_path / "in" / "masks" / f"{name}.png", noise(1, size=(23, 31)))
        picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (31, 23, 3), dtype=np.uint8))
        (tmp_path / "in" / "images").mkdir(exist_ok=True)
        picture.save(tmp_path / "in" / "images" / f"{name}.jpg", exif=exif)
    (tmp_path / "in" / "classes.toml").write_text('names = ["background", "road", "car"]')
    result = convert({"all": create_dataset("folder", tmp_path / "in", "all")}, tmp_path / "out", to)
    assert same(read_back(result), {"a": noise(1), "b": noise(1)})
    back = create_dataset(to, result.root, "all", **dict(result.options))
    assert isinstance(back, FileDataset | AnnotatedDataset)
    files = [image for image, _ in back.pairs] if isinstance(back, FileDataset) else [s.image for s in back.samples]
    sizes = set()
    for path in files:
        with Image.open(path) as image:
            sizes.add(image.size)
    assert sizes == {(31, 23)}
    assert any("2 images were written as PNG" in note for note in result.notes)


def test_images_of_two_splits_are_written_once(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", np.zeros((4, 4, 3), np.uint8))
    save(tmp_path / "images" / "b.png", np.zeros((4, 4, 3), np.uint8))
    for name in "ab":
        save(tmp_path / "masks" / f"{name}.png", np.eye(4, dtype=np.uint8))
    train, every = (create_dataset("folder", tmp_path, split) for split in ("train", "all"))
    result = convert({"train": train, "trainval": every}, tmp_path / "out", "folder")
    assert dict(result.splits) == {"train": 1, "trainval": 1}
    assert any("1 images are in several splits" in note for note in result.notes)


def test_one_split_of_another_name_is_no_split(tmp_path: Path) -> None:
    masks = {f"p{i}": noise(i) for i in range(6)}
    for to in FORMATS:
        result = convert({"all": Given(masks)}, tmp_path / to, to)
        assert dict(result.splits) == {"": 6}
        assert same(read_back(result), masks)
        assert len(create_dataset(to, result.root, "val")) == 1  # drawn


def test_splits_that_a_format_does_not_know(tmp_path: Path) -> None:
    parts = {split: Given({f"{split}{i}": noise(i) for i in range(2)}) for split in ("day", "night")}
    message = error_line(DataError, convert, parts, tmp_path / "out", "coco")
    assert "split 'day' has no place in coco" in message
    assert "--split" in message
    assert dict(convert(parts, tmp_path / "out", "folder").splits) == {"day": 2, "night": 2}


# Nothing is left behind, and nothing lost


def test_what_is_read_back_as_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = CocoWriter.add

    def forgetful(self: CocoWriter, picture: Picture, mask: MaskArray) -> None:
        usual(self, picture, np.where(mask == 1, np.uint8(2), mask))

    monkeypatch.setattr(CocoWriter, "add", forgetful)
    message = error_line(DataError, convert, {"train": Given({"a": noise(0)})}, tmp_path / "out", "coco")
    assert "class 'road' would be gone" in message
    assert list(tmp_path.iterdir()) == []


def test_pixels_that_change_places_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = CocoWriter.add
    monkeypatch.setattr(CocoWriter, "add", lambda self, picture, mask: usual(self, picture, mask[::-1]))
    message = error_line(DataError, convert, {"train": Given({"a": noise(0)})}, tmp_path / "out", "coco")
    assert "the labels of a are read back as others" in message
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_conversion_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert({"train": Given({f"p{i}": noise(i) for i in range(3)})}, tmp_path / "out", "yolo", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_writing_and_reading(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    convert({"train": Given({f"p{i}": noise(i) for i in range(3)})}, tmp_path / "out", "cvat",
            progress=lambda done, total: steps.append((done, total)))  # fmt: skip
    assert steps == [(i, 6) for i in range(1, 7)]


def test_folders_that_are_not_new(tmp_path: Path) -> None:
    given = {"train": Given({"a": noise(0), "b": noise(1)})}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    assert "is not empty" in error_line(ConfigError, convert, given, tmp_path / "mine", "coco")
    assert "no folder" in error_line(ConfigError, convert, given, tmp_path / "file", "coco")
    assert "lies in the source" in error_line(
        ConfigError, module.require_new, tmp_path / "mine" / "x", tmp_path / "mine"
    )
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    convert(given, tmp_path / "empty", "coco")


def test_what_cannot_be_written(tmp_path: Path) -> None:
    def refused(names: tuple[str, ...], to: str, **options: bool) -> str:
        given = {"train": Given({"a": noise(0, len(names))}, names)}
        message = error_line((ConfigError, DataError), convert, given, tmp_path / "out", to, **options)
        assert list(tmp_path.iterdir()) == []
        return message

    assert "unknown format 'coko'" in refused(NAMES, "coko")
    assert "would have the same name" in refused(("background", "a b", "a  b"), "coco")
    assert "cannot be written" in refused(("background", "a\x1bb"), "yolo")
    assert "means ignored" in refused(("background", "__ignore__"), "labelme")
    assert "means ignored" in refused(("background", "__ignore__"), "labelstudio")
    for to in ("coco", "yolo", "labelstudio"):
        assert "says nothing" in refused(("background",), to)
    for to in ("folder", "cvat"):
        assert "leave --polygons out" in refused(NAMES, to, polygons=True)


def test_formats_are_those_that_are_offered() -> None:
    assert sorted(writers) == sorted(FORMATS)
