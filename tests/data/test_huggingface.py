from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import error_line
from featherseg.core.errors import ConfigError, DataError, MissingExtraError
from featherseg.data.annotations import recognise
from featherseg.data.datasets import create_dataset
from labelled_exports import scene, write

pyarrow = pytest.importorskip("pyarrow", reason="needs the extra arrow")
parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra arrow")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "featherseg" / "unpacked"


def png(values: np.ndarray) -> dict[str, Any]:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": "x.png"}


def table(numbers: range, **more: Any) -> Any:
    images, masks = ([png(scene(i)[part]) for i in numbers] for part in (0, 1))
    return pyarrow.table({"image": images, "label": masks, "text": ["x"] * len(numbers)} | more)


def saved(root: Path, **parts: range) -> Path:
    """What ``DatasetDict.save_to_disk`` writes: streams of Arrow in a folder for each split."""
    write(root / "dataset_dict.json", json.dumps({"splits": list(parts)}))
    for split, numbers in parts.items():
        write(root / split / "dataset_info.json", "{}")
        rows = table(numbers)
        with pyarrow.ipc.new_stream(root / split / "data-00000-of-00001.arrow", rows.schema) as stream:
            stream.write_table(rows)
    return root


def check(root: Path, split: str, numbers: range) -> None:
    dataset = create_dataset("huggingface", root, split)
    assert len(dataset) == len(numbers)
    for place, number in enumerate(numbers):
        image, mask = dataset.read(place)
        assert np.array_equal(image, scene(number)[0])
        assert np.array_equal(mask, scene(number)[1])


def test_saved_datasets(tmp_path: Path, cache: Path) -> None:
    root = saved(tmp_path / "data", train=range(5), validation=range(5, 7))
    assert list(recognise(root)) == ["huggingface"]
    check(root, "train", range(5))
    check(root, "val", range(5, 7))
    unpacked = {path: path.stat().st_mtime_ns for path in cache.rglob("*.png")}
    assert len(unpacked) == 14
    check(root, "val", range(5, 7))
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.png")} == unpacked


def test_parquet_files_with_names(tmp_path: Path) -> None:
    for part, numbers in (("train-00000-of-00002", range(3)), ("train-00001-of-00002", range(3, 20))):
        file = tmp_path / "data" / f"{part}.parquet"
        file.parent.mkdir(exist_ok=True)
        parquet.write_table(table(numbers), file)
    parquet.write_table(table(range(20, 22)), tmp_path / "data" / "validation-00000-of-00001.parquet")
    write(tmp_path / "id2label.json", json.dumps({"0": "ground", "1": "box", "2": "disc", "255": "void"}))
    assert list(recognise(tmp_path)) == ["huggingface"]
    check(tmp_path, "train", range(20))
    check(tmp_path, "val", range(20, 22))
    dataset = create_dataset("huggingface", tmp_path)
    assert dataset.classes.names == ("ground", "box", "disc")
    assert dataset.notes == ("classes from id2label.json; 255 is ignored",)  # type: ignore[attr-defined]


def test_which_columns(tmp_path: Path) -> None:
    rows = table(range(4))
    rows = rows.rename_columns(["photo_of_it", "what", "text"])
    parquet.write_table(rows, tmp_path / "a.parquet")
    message = error_line(DataError, create_dataset, "huggingface", tmp_path)
    assert "its columns of pictures are photo_of_it, what: name one with data.options.image" in message
    assert len(create_dataset("huggingface", tmp_path, "all", image="photo_of_it", label="what")) == 4
    message = error_line(ConfigError, create_dataset, "huggingface", tmp_path, "all", image="text", label="what")
    assert "has no column text of pictures" in message


def test_rows_without_pictures_are_said(tmp_path: Path) -> None:
    masks = [png(scene(i)[1]) for i in range(3)] + [None]
    parquet.write_table(table(range(4), label=masks), tmp_path / "a.parquet")
    dataset = create_dataset("huggingface", tmp_path, "all")
    assert len(dataset) == 3
    assert "1 rows have no picture in both columns and are left out" in dataset.notes  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.parquet", b"PAR1 and no more", "cannot be read"),
        ("a.arrow", b"\xff\xff\xff\xff no stream", "cannot be read"),
        ("a.arrow", b"", "cannot be read"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert words in error_line(DataError, create_dataset, "huggingface", tmp_path)


def test_damaged_names(tmp_path: Path) -> None:
    parquet.write_table(table(range(2)), tmp_path / "a.parquet")
    cases = {"[1]": "no table", '{"x": "a"}': "no table", '{"0": "a", "1": "a"}': "twice", '{"999": "a"}': "999"}
    for text, words in cases.items():
        write(tmp_path / "id2label.json", text)
        assert words in error_line(DataError, create_dataset, "huggingface", tmp_path)


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet.write_table(table(range(2)), tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert 'pip install "featherseg[arrow]"' in error_line(MissingExtraError, create_dataset, "huggingface", tmp_path)
