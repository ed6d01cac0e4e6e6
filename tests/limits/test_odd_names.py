"""Names of any kind: files of them are segmented and read, and what is said of them is a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from stubs import linux, litter, picture, stub_segmenter

import featherseg
from conftest import TINY, Ended
from featherseg.core.errors import FeathersegError
from featherseg.core.files import write_atomically
from featherseg.core.images import read_ids
from featherseg.data.datasets import create_dataset
from featherseg.runtime.predict import find_images, predict

NAMES = (
    "with space",
    "two\nlines",
    "tab\t",
    "ümläut-車-🚗",
    "[bold]rich[/bold]",
    ":smile:",
    "a'b\"c`d$e",
    "-o",
    "x" * 245,
    "車" * 80,  # 240 bytes
    "a.b.c",
    "\x1b[31mred",
    "e\u0301",
)


@linux
@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_any_name_is_segmented(tmp_path: Path, name: str) -> None:
    photo = picture(tmp_path / "photos" / f"{name}.png")
    result = predict(stub_segmenter(), find_images([photo.parent]), tmp_path / "out")
    assert [path.name for path in result.masks] == [photo.name]
    assert read_ids(result.masks[0]).shape == (7, 9)
    assert not litter(tmp_path)


@linux
def test_any_name_is_a_sample(tmp_path: Path) -> None:
    names = set(NAMES) - {"[bold]rich[/bold]"}  # a folder of its own
    (tmp_path / "masks").mkdir()
    for name in names:
        picture(tmp_path / "images" / f"{name}.png")
        Image.new("L", (9, 7)).save(tmp_path / "masks" / f"{name}.png")
    dataset = create_dataset("folder", tmp_path, "all")
    assert {dataset.stem(i) for i in range(len(dataset))} == names
    assert dataset.read(3)[1].shape == (7, 9)


@linux
@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31mred", ":smile: [bold]"])
def test_what_is_said_of_one_is_a_line(run: Callable[..., Ended], tmp_path: Path, name: str) -> None:
    broken = tmp_path / f"{name}.png"
    broken.write_text("no picture")
    assert run("predict", broken, "-q", "-o", tmp_path / "out").refused("cannot be read as an image")
    assert run("predict", tmp_path / f"no {name}.png").refused("does not exist")


@pytest.mark.parametrize("length", [300, 10_000])
def test_names_longer_than_names_can_be(run: Callable[..., Ended], tmp_path: Path, length: int) -> None:
    name = "x" * length
    for words in (
        ("predict", f"{name}.png"),
        ("eval", f"{name}.onnx"),
        ("train", f"{name}.toml"),
        ("report", name),
    ):
        assert run(*words).refused()
    assert run("train", *TINY, "-q", f"name={name}", f"out={tmp_path}").refused("name")
    with pytest.raises(FeathersegError, match="too long"):
        featherseg.load_checkpoint(name)
    with pytest.raises(FeathersegError, match="too long"):
        featherseg.load_config(name)


def test_many_files_of_one_name_at_once_do_not_meet(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    path = tmp_path / ("y" * 250)

    def write(number: int) -> None:
        write_atomically(path, lambda file: file.write(bytes([number]) * 10_000))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    assert len(set(path.read_bytes())) == 1
    assert list(tmp_path.iterdir()) == [path]
