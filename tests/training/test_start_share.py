from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from featherseg.models.checkpoint import load_checkpoint
from featherseg.training.fit import fit, resume_run
from featherseg.training.run_folder import RunFolder
from trainings import tiny_config


def kept(folder: Path) -> dict[str, Tensor]:
    """Return the weights that the last epoch left, by name."""
    return load_checkpoint(folder / "last.safetensors").model.state_dict()


def test_what_is_kept_lies_between_start_and_end(tmp_path: Path) -> None:
    first = fit(tiny_config(tmp_path / "first", train={"epochs": 1}), quiet=True)
    ended: dict[float, dict[str, Tensor]] = {}
    for share in (0.0, 0.25):
        train: dict[str, Any] = {"epochs": 2, "start_share": share}
        fit(tiny_config(tmp_path / str(share), model={"init": str(first.path)}, train=train), quiet=True)
        ended[share] = kept(tmp_path / str(share) / "run")
    start = load_checkpoint(first.path).model.state_dict()
    moved = 0.0
    for name, tensor in ended[0.25].items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, torch.lerp(ended[0.0][name], start[name], 0.25))
            moved += float((tensor - start[name]).abs().sum())
    assert moved > 0


def test_a_resumed_run_keeps_the_same_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fit(tiny_config(tmp_path / "first", train={"epochs": 1}), quiet=True)
    settings: dict[str, Any] = {"model": {"init": str(first.path)}, "train": {"epochs": 2, "start_share": 0.5}}
    fit(tiny_config(tmp_path / "whole", **settings), quiet=True)
    save = RunFolder.save_state

    def save_and_stop(folder: RunFolder, state: dict[str, Any]) -> None:
        save(folder, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_state", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            fit(tiny_config(tmp_path / "stopped", **settings), quiet=True)
    (first.path / "best.safetensors").unlink()  # the state holds what it started from
    (first.path / "last.safetensors").unlink()
    assert resume_run(tmp_path / "stopped" / "run", quiet=True).epochs == 2
    ours, theirs = kept(tmp_path / "stopped" / "run"), kept(tmp_path / "whole" / "run")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
