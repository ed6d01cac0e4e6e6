"""Pictures of the progress: the same few each time, bounded, and never in the way of the training."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from featherseg.core.errors import ConfigError, MachineError
from featherseg.core.types import ClassSet
from featherseg.training import progress_pictures
from featherseg.training.fit import fit, resume_run
from featherseg.training.progress_pictures import ProgressPictures, find_pictures, most_classes, surplus
from featherseg.training.run_log import read_log
from trainings import tiny_config

CLASSES = ClassSet(("sky", "road", "car", "cat"), ((0, 0, 255), (255, 255, 0), (255, 0, 0), (0, 255, 0)))


def sample(index: int, size: tuple[int, int] = (48, 64)) -> tuple[np.ndarray, np.ndarray]:
    """Sky over road; every fifth shows a car, and the last of forty a cat."""
    mask = np.zeros(size, np.uint8)
    mask[size[0] // 2 :] = 1
    if index % 5 == 4:
        mask[10:30, 10:30] = 2
    if index == 39:
        mask[30:46, 40:60] = 3
    return np.full((*size, 3), 5 * index, np.uint8), mask


def watched(pictures: ProgressPictures, indices: range) -> None:
    for index in indices:
        image, mask = sample(index)
        pictures.watch(index, image, mask, np.zeros_like(mask))


def test_those_that_show_most_classes_and_lie_apart() -> None:
    assert most_classes([{0, 1}, {0, 1}, {0, 1, 2}, {0, 1}, {3}], 2) == [2, 4]
    assert most_classes([{0}] * 9, 3) == [0, 4, 8]
    assert most_classes([{0}, {1}], 5) == [0, 1]
    assert most_classes([], 4) == []


def test_the_same_pictures_each_time(tmp_path: Path) -> None:
    pictures = ProgressPictures(tmp_path, CLASSES, range(40), 3)
    watched(pictures, range(40))
    chosen = set(pictures._examples)
    assert 39 in chosen  # the only cat
    assert len(chosen) == 3
    pictures.write(1)
    watched(pictures, range(40))
    assert set(pictures._examples) == chosen
    pictures.write(2)
    again = ProgressPictures(tmp_path / "again", CLASSES, range(40), 3)  # as after a resume
    watched(again, range(40))
    again.write(2)
    files = list(find_pictures(tmp_path).values())
    assert [file.name for file in files] == ["epoch_001.jpg", "epoch_002.jpg"]
    assert files[0].read_bytes() == files[1].read_bytes() == find_pictures(tmp_path / "again")[2].read_bytes()
    with Image.open(files[0]) as picture:
        colors = np.array(picture)
    for color in CLASSES.colors:  # in the truth, or in the legend
        assert (np.abs(colors.astype(int) - color).sum(-1) < 40).any(), color


def test_large_pictures_are_held_small_and_buffers_are_not_shared(tmp_path: Path) -> None:
    pictures = ProgressPictures(tmp_path, CLASSES, range(1), 4)
    image, mask = np.zeros((3000, 2000, 3), np.uint8), np.zeros((3000, 2000), np.uint8)
    pictures.watch(0, image, mask, mask)
    assert [each.shape[:2] for each in pictures._examples[0]] == [(720, 480)] * 3
    image, mask = sample(0)
    pictures.watch(0, image, mask, mask)
    image[:] = 77
    assert not (pictures._examples[0][0] == 77).any()


def test_files_are_bounded_and_spread_over_the_time() -> None:
    kept: set[int] = set()
    for epoch in range(1, 401):
        kept.add(epoch)
        kept -= surplus(kept)
        assert len(kept) <= 12
    assert {1, 400} <= kept
    gaps = np.diff(sorted(kept))
    assert gaps.max() <= 4 * gaps.min() + 40
    assert surplus({3, 9}) == set()


def test_pictures_after_an_epoch_are_of_a_process_that_was_killed(tmp_path: Path) -> None:
    pictures = ProgressPictures(tmp_path, CLASSES, range(3), 2)
    watched(pictures, range(3))
    for epoch in (1, 9, 4):
        pictures.write(epoch)
    assert list(find_pictures(tmp_path)) == [1, 4]


def without_clocks(run: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if "second" not in key} for row in read_log(run)]


def test_a_training_is_the_same_with_and_without(tmp_path: Path) -> None:
    runs = {}
    for count in (0, 2):
        fit(tiny_config(tmp_path, f"with{count}", train={"pictures": count}), quiet=True)
        runs[count] = tmp_path / f"with{count}"
    assert without_clocks(runs[0]) == without_clocks(runs[2])
    for name in ("best", "last"):
        ours, theirs = (load_file(run / f"{name}.safetensors") for run in runs.values())
        assert all((ours[key] == theirs[key]).all() for key in theirs)
    assert not (runs[0] / "progress").exists()
    best = 0.0
    better = [row["epoch"] for row in read_log(runs[2]) if row["miou"] >= best and (best := row["miou"]) >= 0]
    assert list(find_pictures(runs[2])) == better
    with Image.open(find_pictures(runs[2])[better[0]]) as picture:
        assert picture.width > 1000


def test_a_resumed_run_shows_the_same(tmp_path: Path) -> None:
    fit(tiny_config(tmp_path, "whole"), quiet=True)
    fit(tiny_config(tmp_path, "parts", train={"epochs": 3, "patience": 1, "eval_every": 1}), quiet=True)
    whole, parts = find_pictures(tmp_path / "whole"), find_pictures(tmp_path / "parts")
    shared = whole.keys() & parts.keys()
    assert shared
    resume_run(tmp_path / "whole", epochs=4, quiet=True)
    for epoch in shared:
        assert whole[epoch].read_bytes() == parts[epoch].read_bytes()


def test_a_picture_that_fails_is_a_line_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise ConfigError("no font of this size")

    monkeypatch.setattr(progress_pictures, "result_grid", fail)
    with caplog.at_level(logging.WARNING, "featherseg"):
        fit(tiny_config(tmp_path), quiet=True)
    assert (tmp_path / "run" / "result.json").exists()
    said = [record.getMessage() for record in caplog.records if "pictures" in record.getMessage()]
    assert said == ["warning: training goes on without pictures of its progress (ConfigError: no font of this size)"]
    assert not (tmp_path / "run" / "progress").exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_full_disk_is_an_error_as_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def write(path: Path, *_: Any, **__: Any) -> Path:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(progress_pictures, "write_atomically", write)
    if code == errno.EACCES:
        fit(tiny_config(tmp_path), quiet=True)
        assert (tmp_path / "run" / "result.json").exists()
        return
    with pytest.raises(MachineError, match=r"epoch 1: .*cannot be written .No space left"):
        fit(tiny_config(tmp_path), quiet=True)


def test_tensorboard_gets_the_same_picture(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    fit(tiny_config(tmp_path, train={"epochs": 1, "tensorboard": True}), quiet=True)
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    (shown,) = events.Images("validation")
    assert shown.step == 1
    assert shown.encoded_image_string == find_pictures(tmp_path / "run")[1].read_bytes()
    assert {"loss", "miou"} <= set(events.Tags()["scalars"])
