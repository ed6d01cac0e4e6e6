"""From one training to the next: starts with other classes, more epochs, another folder to work in."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import TINY, Ended, error_line
from featherseg.core.errors import CheckpointError, ConfigError, DataError
from featherseg.core.formatting import command
from featherseg.core.types import ClassSet
from featherseg.data.loader import EpochBatches
from featherseg.evaluation.opening import open_labelled
from featherseg.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from featherseg.models.factory import create_model, list_models
from featherseg.models.transfer import class_axes, start_from
from featherseg.training.fit import fit, resume_run
from featherseg.training.run_folder import RunFolder, read_log
from trainings import tiny_config

OLD, NEW = ClassSet(("sky", "road", "car", "tram")), ClassSet(("car", "person", "sky"))


def filled(name: str, classes: ClassSet, value: float) -> Any:
    model = create_model(name, len(classes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    return model.eval()


@pytest.mark.parametrize("name", ["jetnet", "fastsegnet", "lednet", "mobilenet_aspp"])
def test_all_but_the_class_heads_is_kept_and_of_these_the_classes_of_the_same_name(name: str) -> None:
    old, new = filled(name, OLD, 0.0), filled(name, NEW, 9.0)
    axes = class_axes(old, len(OLD))
    assert axes
    with torch.no_grad():
        for key, axis in axes.items():
            tensor = old.state_dict()[key]
            tensor.copy_(torch.arange(4.0).reshape([4 if i == axis else 1 for i in range(tensor.ndim)]))
    said = start_from(new, Checkpoint(old, OLD), NEW, Path("runs/old"))
    for key, tensor in new.state_dict().items():
        if key in axes:  # car was 2, sky 0, and nobody knew persons
            by_class = tensor.movedim(axes[key], 0).flatten(1) if tensor.ndim > 1 else tensor[:, None]
            assert [set(row.tolist()) for row in by_class] == [{2.0}, {9.0}, {0.0}], key
        else:
            assert torch.equal(tensor, old.state_dict()[key]), key
    for words in ("runs/old", "keep car, sky", "new: person", "left out: road, tram"):
        assert words in said


def test_classes_in_another_order_keep_their_rows() -> None:
    old, new = create_model("jetnet", 4), create_model("jetnet", 4)
    turned = ClassSet(OLD.names[::-1])
    start_from(new, Checkpoint(old, OLD), turned, Path("x"))
    for key, axis in class_axes(old, 4).items():
        assert torch.equal(new.state_dict()[key], old.state_dict()[key].flip(axis))


def test_every_network_has_class_heads_that_are_found() -> None:
    for name in list_models():
        with torch.device("meta"):
            assert class_axes(create_model(name, 5), 5), name


def test_another_network_is_refused_whatever_its_classes() -> None:
    start = Checkpoint(create_model("jetnet", 4), OLD)
    assert "another network" in error_line(
        CheckpointError, start_from, create_model("fastsegnet", 3), start, NEW, Path("x")
    )


def test_a_run_starts_from_one_of_other_classes_and_says_what_it_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = save_checkpoint(tmp_path / "old.safetensors", Checkpoint(create_model("jetnet", 2), ClassSet(("road", "x"))))
    with caplog.at_level(logging.INFO, "featherseg"):
        fit(tiny_config(tmp_path, model={"init": str(file)}, train={"epochs": 1}))
    assert "class heads keep road; new: " in caplog.text


def test_more_epochs_stretch_the_schedule(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(tiny_config(tmp_path, "long", train={"epochs": 4}), quiet=True)
    fit(tiny_config(tmp_path, "short", train={"epochs": 2}), quiet=True)
    with caplog.at_level(logging.INFO, "featherseg"):
        assert resume_run(tmp_path / "short", epochs=4).epochs == 4
    assert "4 epochs in all instead of 2: the schedule is stretched" in caplog.text
    rows = [read_log(tmp_path / name) for name in ("long", "short")]
    assert [row["epoch"] for row in rows[1]] == [1, 2, 3, 4]
    assert [row["lr"] for row in rows[1][2:]] == pytest.approx([row["lr"] for row in rows[0][2:]])
    assert rows[1][1]["lr"] < rows[1][2]["lr"]
    assert RunFolder(tmp_path / "short").config.train.epochs == 4
    assert "has 4 already; give 4 or more" in error_line(ConfigError, resume_run, tmp_path / "short", epochs=3)


def test_the_command_goes_on_with_more_epochs_and_no_other_settings(tmp_path: Path, run: Callable[..., Ended]) -> None:
    assert run("train", *TINY, f"out={tmp_path}", "--quiet").code == 0
    more = run("train", "--resume", tmp_path / "run", "train.epochs=2", "--json", "--quiet")
    assert more.code == 0, more.err
    assert [row["epoch"] for row in read_log(tmp_path / "run")] == [1, 2]
    words = ("train.epochs=3", "optim.lr=0.1")
    assert run("train", "--resume", tmp_path / "run", *words).refused("train.epochs alone may change")


def test_a_run_finds_its_data_from_every_folder(
    street_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(street_folder.parent)
    data = {"name": "folder", "root": street_folder.name, "options": {}}
    config = tiny_config(tmp_path / "runs", data=data, augment={"crop": [48, 64]}, train={"epochs": 1})
    result = fit(config, quiet=True)
    monkeypatch.chdir("/")
    assert len(open_labelled(result.path, {})) == 2
    assert RunFolder(result.path).config.data.root == str(street_folder)
    assert load_checkpoint(result.path).classes.names == ("sky", "road", "car")
    assert "nowhere is no folder in /;" in error_line(DataError, open_labelled, result.path, {}, root="nowhere")


def test_a_batch_larger_than_the_data_holds_no_sample_twice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    batches = EpochBatches(3, 8, seed=0)
    [keys] = list(batches)
    assert len(keys) == len(set(keys)) == 8
    assert {key[1] for key in keys} == {0, 1, 2}
    assert all(len(key) == 2 for keys in EpochBatches(9, 3, seed=0) for key in keys)  # as always
    config = tiny_config(tmp_path, data={"batch_size": 16}, train={"epochs": 1})
    with caplog.at_level(logging.WARNING, "featherseg"):
        fit(config)
    assert "a step takes 16 samples of 10 images" in caplog.text


def test_commands_are_quoted_for_the_shell(tmp_path: Path, run: Callable[..., Ended]) -> None:
    assert command("doctor", "my photos", "--fix", "NEW") == "featherseg doctor 'my photos' --fix NEW"
    folder = tmp_path / "my photos"
    folder.mkdir()
    for name in ("a.jpg", "a.png"):
        (folder / name).write_bytes(b"")
    assert run("train", folder).refused(f"featherseg doctor '{folder}'")
