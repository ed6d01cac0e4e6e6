"""A disk that fills up ends a training in one line, with the last good checkpoint kept."""

from __future__ import annotations

import errno
import gc
import os
import re
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from conftest import mounted_disk
from featherseg.core.errors import MachineError
from featherseg.core.files import TEMPORARY
from featherseg.models.checkpoint import load_checkpoint, load_state
from featherseg.training.fit import fit, resume_run
from featherseg.training.run_log import read_log
from trainings import needs_proc, start, tiny_config, train_command


class FullDisk:
    """``os.fsync`` of a disk that has no room for the `nth` file whose name begins so."""

    def __init__(self, name: str, nth: int, code: int = errno.ENOSPC) -> None:
        self.name, self.nth, self.code, self.seen = f"{TEMPORARY}{name}.", nth, code, 0
        self.sync = os.fsync

    def __call__(self, handle: int) -> None:
        if Path(f"/proc/self/fd/{handle}").readlink().name.startswith(self.name):
            self.seen += 1
            if self.seen >= self.nth:
                raise OSError(self.code, os.strerror(self.code))
        self.sync(handle)


@needs_proc
@pytest.mark.parametrize(
    ("name", "epochs"),
    [("state.safetensors", 1), ("last.safetensors", 1), ("log.jsonl", 1), ("result.json", 2)],
)
def test_a_disk_full_while_saving_keeps_the_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, epochs: int
) -> None:
    """The second write of each fails, `epochs` being finished by then."""
    monkeypatch.setattr(os, "fsync", FullDisk(name, 1 if name == "result.json" else 2))
    run = tmp_path / "run"
    with pytest.raises(MachineError) as caught:
        fit(tiny_config(tmp_path, train={"epochs": 2}), quiet=True)
    where = "the final scores" if epochs == 2 else "epoch 2"
    assert str(caught.value).startswith(f"{where}: {run} cannot be written (No space left on device, ")
    assert "MB free" in str(caught.value)
    assert f"go on with: featherseg train --resume {run}" in str(caught.value)
    assert not list(run.glob(".*"))
    assert load_state(run / "state.safetensors")["epoch"] == epochs
    load_checkpoint(run / "best.safetensors")
    load_checkpoint(run / "last.safetensors")
    monkeypatch.undo()
    assert resume_run(run, quiet=True).epochs == 2  # there is room again
    assert [row["epoch"] for row in read_log(run)] == [1, 2]
    assert (run / "result.json").is_file()


@needs_proc
def test_a_disk_full_at_the_start_is_said_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", FullDisk("classes.json", 1))
    with pytest.raises(MachineError, match=r"run cannot be written .* make room, then start again"):
        fit(tiny_config(tmp_path, train={"epochs": 2}), quiet=True)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_does_not_fit_is_said_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "tmp"
    cache.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(cache))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # ten streets take 250 kB
    try:
        with pytest.raises(MachineError) as caught:
            fit(tiny_config(tmp_path / "runs", train={"epochs": 2}), quiet=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    line = str(caught.value)
    assert f"synthetic train do not fit into {cache} (File too large)" in line
    assert "data.cache=false" in line
    assert not (tmp_path / "runs").exists()
    del caught
    gc.collect()
    assert list(cache.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4.5 MB: room for JetNet's files, not for its next state (2.1 MB) beside them."""
    with mounted_disk(tmp_path / "disk", "size=4500k") as disk:
        yield disk


@pytest.mark.slow
def test_a_disk_that_is_really_full(small_disk: Path, tmp_path: Path) -> None:
    run = small_disk / "run"
    process = start(train_command(tiny_config(small_disk, train={"epochs": 3}), tmp_path))
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    [line] = said.strip().splitlines()
    assert re.match(
        rf"error: epoch 2: {run} cannot be written \(No space left on device, \d+ MB free\); make room", line
    )
    assert not list(run.glob(".*"))
    assert load_state(run / "state.safetensors")["epoch"] == 1
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    assert resume_run(run, quiet=True).epochs == 3
    whole = fit(tiny_config(tmp_path / "whole", train={"epochs": 3}), quiet=True)
    ours, theirs = (load_checkpoint(path / "last.safetensors").model.state_dict() for path in (run, whole.path))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
