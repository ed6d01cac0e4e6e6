"""Class files and split files of any content: a dataset, or one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from fuzzing import Edit, answer, edits, fuzzed, json_values, mutated, tampered, tree_changes
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from featherseg.core.errors import DataError, FeathersegError
from featherseg.data.class_files import read_classes
from featherseg.data.datasets import FileDataset, create_dataset

GOOD = {"names": ["sky", "road", "car"], "colors": [[1, 2, 3], [4, 5, 6], [7, 8, 9]], "ids": [0, 7, 300]}
MASK = np.array([[0, 7, 300], [255, 0, 7]], np.uint16)


def check(found: Any) -> None:
    if isinstance(found, FeathersegError):
        assert isinstance(found, DataError)
        return
    classes, table = found
    assert 1 <= len(classes) <= 255
    mask = answer(table.apply, MASK, Path("mask.png"))
    if not isinstance(mask, FeathersegError):
        assert set(np.unique(mask)) <= {*range(len(classes)), classes.ignore_index}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("classes")


@fuzzed(300)
@given(changes=tree_changes(), toml=st.booleans())
def test_class_files_of_any_content(place: Path, changes: list[tuple[float, Any]], toml: bool) -> None:
    tree = tampered(GOOD, changes)
    file = place / ("classes.toml" if toml else "classes.json")
    try:
        text = tomli_w.dumps(tree) if toml else json.dumps(tree)
    except (TypeError, ValueError, AttributeError):
        text = json.dumps(None)
    file.write_bytes(text.encode(errors="surrogatepass"))
    check(answer(read_classes, file))


@fuzzed(200)
@given(changes=edits(), toml=st.booleans())
def test_damaged_class_files(place: Path, changes: list[Edit], toml: bool) -> None:
    file = place / ("classes.toml" if toml else "classes.json")
    file.write_bytes(mutated((tomli_w.dumps(GOOD) if toml else json.dumps(GOOD)).encode(), changes))
    check(answer(read_classes, file))


@fuzzed(100)
@given(value=json_values(30))
def test_any_json(place: Path, value: Any) -> None:
    file = place / "classes.json"
    try:
        file.write_text(json.dumps(value), encoding="utf-8")
    except ValueError:
        return
    check(answer(read_classes, file))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.json", "[" * 100_000),
        ("classes.json", '{"names": ' + "[" * 100_000),
        ("classes.json", '{"names": ["a"], "colors": [[Infinity, 0, 0]]}'),
        ("classes.json", '{"names": ["a"], "ignore_index": NaN}'),
        ("classes.json", '{"names": ["a"], "ids": [1e400]}'),
        ("classes.json", '{"names": ["a"], "ids": [' + "9" * 5000 + "]}"),
        ("classes.json", '{"names": ' + json.dumps([str(i) for i in range(30_000)] + ["29999"]) + "}"),
        ("classes.json", '{"names": ["a"], "ids": [1.5]}'),
        ("classes.json", '{"names": ["a"], "ids": [true]}'),
        ("classes.json", '{"names": ["a"], "colors": [["1", "2", "3"]]}'),
        ("classes.toml", "names = " + "[" * 100_000),
        ("classes.toml", 'names = ["a"]\nids = [inf]'),
        ("classes.toml", 'names = ["a"]\ncolors = [[nan, 0, 0]]'),
        ("classes.toml", "ignore_index = " + "9" * 5000),
        ("classes.toml", ".".join("a" * 50_000) + " = 1"),
    ],
    ids=range(15),
)
def test_what_breaks_readers(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert isinstance(answer(read_classes, tmp_path / name), DataError)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    for name, text in (("classes.toml", 'names = ["a", "b"]'), ("classes.json", '{"names": ["a", "b"]}')):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert read_classes(tmp_path / name)[0].names == ("a", "b")


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A VOC and a CamVid folder of one image each, whose split files the tests write; and a secret beside them."""
    root = tmp_path_factory.mktemp("splits")
    voc, camvid, original = root / "voc", root / "camvid", root / "original"
    picture, mask = Image.new("RGB", (4, 4)), Image.new("L", (4, 4))
    for home, images, masks, name, annotated in (
        (voc, "JPEGImages", "SegmentationClass", "a.jpg", "a.png"),
        (camvid, "train", "trainannot", "a.png", "a.png"),
        (original, "701_StillsRaw_full", "LabeledApproved_full", "a.png", "a_L.png"),
    ):
        (home / images).mkdir(parents=True)
        (home / masks).mkdir()
        picture.save(home / images / name)
        mask.save(home / masks / annotated)
    (voc / "ImageSets" / "Segmentation").mkdir(parents=True)
    picture.save(root / "secret.jpg")
    picture.save(root / "secret.png")
    return {
        "voc": voc / "ImageSets" / "Segmentation" / "train.txt",
        "camvid": camvid / "train.txt",
        "original": original / "train.txt",
    }


def opened(splits: dict[str, Path], kind: str, content: bytes) -> Any:
    file = splits[kind]
    file.write_bytes(content)
    root = file.parents[2] if kind == "voc" else file.parent
    return answer(create_dataset, "voc" if kind == "voc" else "camvid", root, "train")


def inside(found: FileDataset, file: Path) -> bool:
    root = file.parents[2] if found.name == "voc" else file.parent
    return all(path.resolve().is_relative_to(root.resolve()) for pair in found.pairs for path in pair)


@fuzzed(200)
@given(
    kind=st.sampled_from(["voc", "camvid", "original"]),
    lines=st.lists(
        st.text(max_size=20)
        | st.sampled_from(
            ["a", "a.png", "train/a.png trainannot/a.png", "../../secret", "/etc/passwd", "..", "x" * 300]
        ),
        max_size=4,
    ),
    changes=edits(2),
)
def test_split_files_of_any_content(splits: dict[str, Path], kind: str, lines: list[str], changes: list[Edit]) -> None:
    text = "\n".join(lines).encode(errors="surrogatepass")
    for content in (text, mutated(text, changes) if text else b"\xff"):
        found = opened(splits, kind, content)
        assert isinstance(found, DataError) or inside(found, splits[kind])


@pytest.mark.parametrize("line", ["../../../secret", "/etc/passwd", "../JPEGImages/a", "..", "a/../a", "b\\..\\a"])
def test_a_split_leads_nowhere_else(splits: dict[str, Path], line: str) -> None:
    found = opened(splits, "voc", f"a\n{line}\n".encode())
    assert isinstance(found, DataError)
    assert "line 2" in str(found)
    for kind in ("camvid", "original"):
        found = opened(splits, kind, line.encode())
        assert isinstance(found, DataError) or inside(found, splits[kind])


def test_split_files_as_windows_writes_them(splits: dict[str, Path]) -> None:
    for kind in ("voc", "camvid", "original"):
        found = opened(splits, kind, b"\xef\xbb\xbfa\r\n" if kind == "voc" else b"\xef\xbb\xbfa.png\r\n")
        assert len(found) == 1
    assert isinstance(opened(splits, "voc", "ä".encode("latin-1")), DataError)
