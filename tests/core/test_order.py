"""Names in the order in which people number them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from conftest import Ended
from featherseg.core.images import list_images
from featherseg.core.order import natural, spread
from featherseg.data.datasets import create_dataset
from featherseg.doctor.listing import list_pairs
from featherseg.runtime.predict import find_images
from featherseg.runtime.video.sources import FolderSource

FRAMES = [f"frame_{i}" for i in range(1, 13)]


def frames(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in random.Random(0).sample(FRAMES, len(FRAMES)):
        Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64) % 2).save(folder / f"{name}.png")
    return folder


def test_numbers_count_as_numbers_and_text_as_text() -> None:
    assert natural(["b", "a10", "a9", "a", "10", "9", "a9b2", "a9b10", "B"]) == [
        *("9", "10", "B", "a", "a9", "a9b2", "a9b10", "a10", "b")
    ]
    assert natural(["x01", "x1", "x001", "x2"]) == ["x001", "x01", "x1", "x2"]  # equal numbers: by their text
    assert natural([Path("a/10"), Path("a2/1"), Path("a/9")]) == [Path("a/9"), Path("a/10"), Path("a2/1")]


def test_numbers_of_any_length_and_other_digits_are_no_trouble() -> None:
    long = "9" * 6000
    assert natural([f"1{long}", long, "²", "1"]) == ["1", long, f"1{long}", "²"]


def test_frames_are_listed_and_played_in_order(tmp_path: Path) -> None:
    folder = frames(tmp_path / "frames")
    assert [path.stem for path in list_images(folder)] == FRAMES
    assert [image.path.stem for image in find_images([folder])] == FRAMES
    assert [path.stem for path in FolderSource(folder, 0.0).images] == FRAMES


def test_datasets_and_the_doctor_list_in_order(tmp_path: Path) -> None:
    for part in ("images", "masks"):
        frames(tmp_path / part)
    dataset = create_dataset("folder", tmp_path, "all")
    assert [dataset.stem(i) for i in range(len(dataset))] == FRAMES
    stems = [pair.image.stem for pair in list_pairs(tmp_path, None, None).pairs]
    assert stems == natural(stems[:10]) + natural(stems[10:])


def test_predict_says_its_files_in_order(tmp_path: Path, run: Callable[..., Ended]) -> None:
    ended = run("predict", frames(tmp_path / "frames"), "-o", tmp_path / "out", "--no-overlays", "--json", "--quiet")
    assert [Path(path).stem for path in ended.json["masks"]] == FRAMES


def test_places_are_spread_and_those_far_apart_come_first() -> None:
    assert spread(0, 5) == []
    assert spread(1, 5) == [0]
    assert sorted(spread(5, 9)) == [0, 1, 2, 3, 4]
    places = spread(1000, 24)
    assert len(set(places)) == 24
    assert (min(places), max(places)) == (0, 999)
    for count in (6, 12):
        assert np.ptp(places[:count]) > 500
    assert places == spread(1000, 24)
