from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from featherseg.core.config import Config, OptimConfig
from featherseg.core.errors import CheckpointError, ConfigError
from featherseg.core.types import ClassSet
from featherseg.models.checkpoint import Checkpoint, load_checkpoint
from featherseg.training.run_folder import RunFolder
from featherseg.training.run_log import read_log

CLASSES = ClassSet(("a", "b", "c"))
CONFIG = Config(name="mine", seed=5, optim=OptimConfig(lr=0.02))


def test_a_run_describes_itself(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "runs" / "mine")
    run.create(CONFIG, CLASSES)
    assert run.config == CONFIG
    assert ClassSet.from_dict(json.loads((run.path / "classes.json").read_text())) == CLASSES
    env = json.loads((run.path / "env.json").read_text())
    assert (
        env["versions"]["torch"] == torch.__version__.partition("+")[0] or env["versions"]["torch"] in torch.__version__
    )
    assert env["threads"] == torch.get_num_threads()


def test_an_existing_run_is_not_written_over(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.create(CONFIG, CLASSES)
    with pytest.raises(ConfigError, match="holds a run already; go on with it by --resume"):
        run.create(Config(), CLASSES)
    assert run.config == CONFIG


def test_a_new_run_needs_a_folder_without_one(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "mine")
    run.require_new()
    (tmp_path / "mine").mkdir()
    run.require_new()  # a killed process may have left it before its run began
    run.create(CONFIG, CLASSES)
    with pytest.raises(ConfigError, match=rf"{run.path} holds a run already; go on with it by --resume {run.path}"):
        run.require_new()
    run.create(CONFIG, CLASSES, resume=True)


def test_a_run_locks_its_folder_once_and_lets_it_go_at_last(tmp_path: Path) -> None:
    run, other = RunFolder(tmp_path / "mine"), RunFolder(tmp_path / "mine")
    with run.lock():
        with run.lock():
            pass
        with pytest.raises(CheckpointError, match="is being trained by process"), other.lock():
            pytest.fail("held twice")
        run.create(CONFIG, CLASSES)
    with other.lock(), pytest.raises(CheckpointError), run.lock():
        pytest.fail("held twice")
    assert {file.name for file in run.path.iterdir()} == {"config.toml", "classes.json", "env.json"}


def test_rows_after_a_resume_replace_what_was_ahead(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for epoch in (1, 2, 3):
        run.log({"epoch": epoch, "loss": float(epoch)})
    run.log({"epoch": 2, "loss": 20.0})
    assert read_log(tmp_path) == [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 20.0}]
    run.log({"epoch": 3, "loss": 30.0, "iou": {"é": None}})
    assert read_log(tmp_path)[-1] == {"epoch": 3, "loss": 30.0, "iou": {"é": None}}


def test_weights_and_state(tiny: Callable[..., Any], tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.save("best", Checkpoint(tiny(), CLASSES)) == tmp_path / "best.safetensors"
    assert load_checkpoint(tmp_path).model.name == "tiny"
    assert run.load_state() is None
    run.save_state({"epoch": 3, "w": torch.ones(2)})
    state = run.load_state()
    assert state is not None
    assert state["epoch"] == 3


def test_what_is_missing_or_damaged_is_said(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for get, words in (
        (lambda: run.config, "holds no config.toml"),
        (lambda: read_log(tmp_path), "holds no log.jsonl"),
    ):
        with pytest.raises(CheckpointError, match=words) as info:
            get()
        assert str(tmp_path) in str(info.value)
    (tmp_path / "log.jsonl").write_text('{"epoch": 1}\n{"epo')
    with pytest.raises(CheckpointError, match=r"log\.jsonl is damaged"):
        read_log(tmp_path)
