"""Clean copies whose splits are drawn again: whole recordings, every class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zoo
from PIL import Image

from featherseg.data.datasets import create_dataset
from featherseg.data.splits import group_of
from featherseg.doctor.examine import examine
from featherseg.doctor.mend import make_clean_copy
from featherseg.doctor.rules import BY_ID

PATTERN = r"^(.*?)[0-9]+[^0-9]*$"


def drive(root: Path, name: str, count: int, seed: int, *, split: bool = False) -> None:
    """Frames of a camera that moves along a wall of noise."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (12, 12 + count, 3), dtype=np.uint8)
    wall = np.asarray(Image.fromarray(small).resize(((12 + count) * 8, 96), Image.Resampling.BICUBIC))
    for frame in range(count):
        home = "" if not split else "val" if count // 2 <= frame < count // 2 + 2 else "train"
        image = wall[:, frame * 4 : frame * 4 + 96]
        mask = np.where(image[..., 0] > 128, 1, 0).astype(np.uint8)
        for part, values in (("images", image), ("masks", mask)):
            (root / part / home).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(root / part / home / f"{name}_{frame:03}.png")


@pytest.mark.parametrize("split", [True, False])
def test_recordings_come_into_one_split_each(tmp_path: Path, split: bool) -> None:
    root = tmp_path / "data"
    for seed, (name, count) in enumerate((("ulm", 20), ("bonn", 12), ("kiel", 12))):
        drive(root, name, count, seed, split=split)
    (root / "classes.toml").write_text('names = ["a", "b"]\n')
    before = examine(root)
    # Without splits, what stands before the frames' numbers is found, and whole recordings are drawn at once.
    assert ("same-recording" in {finding.id for finding in before.findings}) == split
    assert before.layout.options == ({} if split else {"group": "^([^_]+)"})
    copy = make_clean_copy(before, tmp_path / "copy")
    assert "same-recording" not in {finding.id for finding in examine(copy.root).findings}
    towns = []
    for part in ("train", "val"):
        dataset = create_dataset("folder", copy.root, part)
        towns.append({dataset.stem(i).split("_")[0] for i in range(len(dataset))})
    assert not towns[0] & towns[1]
    assert towns[1] in ({"bonn"}, {"kiel"})


def test_a_recording_alone_is_cut_once(tmp_path: Path) -> None:
    root = tmp_path / "data"
    drive(root, "drive", 30, 0)
    (root / "classes.toml").write_text('names = ["a", "b"]\n')
    copy = make_clean_copy(examine(root), tmp_path / "copy")
    val = create_dataset("folder", copy.root, "val")
    assert [val.stem(i) for i in range(len(val))] == [f"drive_{i:03}" for i in range(24, 30)]


def test_the_proposed_group_is_the_recording(tmp_path: Path) -> None:
    assert PATTERN in BY_ID["same-recording"].remedy
    names = ["ulm_000001_000019", "0006R0_f00930", "drive_007_left", "12"]
    assert [group_of(name, PATTERN) for name in names] == ["ulm_000001_", "0006R0_f", "drive_", ""]
    for seed, name in enumerate(("ulm", "bonn", "kiel")):
        drive(tmp_path, name, 10, seed)
    (tmp_path / "classes.toml").write_text('names = ["a", "b"]\n')
    val = create_dataset("folder", tmp_path, "val", group=PATTERN)
    assert len({val.stem(i).split("_")[0] for i in range(len(val))}) == 1
    assert len(val) == 10


def test_given_splits_without_torn_recordings_stay(tmp_path: Path) -> None:
    root = zoo.clean_folder(tmp_path / "data")
    examination = examine(root)
    copy = make_clean_copy(examination, tmp_path / "copy")
    theirs = {(pair.split, pair.image.stem) for pair in examination.layout.pairs}
    again = {(pair.split, pair.image.stem) for pair in examine(copy.root).layout.pairs}
    assert again == theirs
