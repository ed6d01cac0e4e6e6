"""What the machine does to a training is said in one line."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from featherseg.core.errors import ConfigError, MachineError
from featherseg.training.failures import explain, report_failures
from featherseg.training.fit import fit
from featherseg.training.trainer import Trainer
from trainings import tiny_config

KILLED_WORKER = """
import os, signal, sys, time
from pathlib import Path
import torch
from torch.utils.data import DataLoader
from featherseg.core.errors import MachineError
from featherseg.training.failures import leave_signals_to_parent, report_failures

class Samples(torch.utils.data.Dataset):
    def __init__(self, end):
        self.end = end
    def __len__(self):
        return 8
    def __getitem__(self, index):
        if index == 3:
            self.end()
            time.sleep(1)
        return torch.zeros(1000)

for end in (lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: os._exit(3)):
    loader = DataLoader(Samples(end), num_workers=1, worker_init_fn=leave_signals_to_parent)
    try:
        with report_failures(Path("my run"), lambda: "epoch 7"):
            list(loader)
    except MachineError as error:
        print(error, file=sys.stderr)
"""


@pytest.mark.slow
def test_a_killed_worker_is_report_failures() -> None:
    """In a process of its own, as torch's handler of ended children may raise anywhere."""
    script = [sys.executable, "-W", "ignore", "-c", KILLED_WORKER]
    lines = subprocess.run(script, capture_output=True, text=True, check=True).stderr.strip().splitlines()
    assert len(lines) == 2
    for line in lines:
        assert re.match(r"epoch 7: a data worker .*(was killed by signal: Killed|ended unexpectedly), most often", line)
        assert "set fewer data.workers or data.cache = false in my run/config.toml, then " in line
        assert line.endswith("go on with: featherseg train --resume 'my run'")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "cannot be written (No space left on device, "),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "make room, then go on with"),
        (RuntimeError("unable to write to file </torch_1_2_3>: No space left on device (28)"), "--shm-size"),
        (RuntimeError("unable to allocate shared memory(shm) for file"), "set data.workers = 0 in "),
        (
            RuntimeError(
                "DataLoader worker (pid 5) is killed by signal: Bus error. It is possible that dataloader's workers "
                "are out of shared memory. Please try to raise your shared memory limit."
            ),
            "shared memory (/dev/shm)",
        ),
        (RuntimeError("unable to open shared memory object </torch_1>: Too many open files (24)"), "ulimit -n"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nSee docs"), "lower data.batch_size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "lower data.batch_size"),
        (
            RuntimeError("DataLoader worker (pid 71) is killed by signal: Killed. "),
            "a data worker (process 71) was killed by signal: Killed, most often for want of memory; set fewer",
        ),
        (
            RuntimeError("DataLoader worker (pid(s) 71, 72) exited unexpectedly"),
            "a data worker (process 71, 72) ended unexpectedly, ",
        ),
        (ConnectionResetError(104, "Connection reset by peer"), "a data worker ended unexpectedly, most"),
        (FileNotFoundError(2, "No such file or directory"), "a data worker ended unexpectedly, most"),
        (EOFError(), "a data worker ended unexpectedly, most"),
        (MemoryError(), "out of memory (MemoryError)"),
    ],
)
def test_known_failures_are_said(tmp_path: Path, error: Exception, words: str) -> None:
    line = explain(error, tmp_path / "gone")
    assert line is not None
    assert words in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOENT, "No such file or directory", "x.png"),
        RuntimeError("shapes differ"),
        RuntimeError("Connection closed by peer"),  # no process group: not of a training's processes
        ConfigError("data.root is /torch_data"),
    ],
)
def test_other_errors_pass_as_they_are(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, report_failures(tmp_path, lambda: "epoch 1"):
        raise error
    assert caught.value is error


def test_memory_that_is_gone_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(self: Trainer, progress: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(Trainer, "_epoch", hungry)
    with pytest.raises(MachineError, match=r"epoch 1: out of memory .*lower data\.batch_size or augment\.crop"):
        fit(tiny_config(tmp_path, train={"epochs": 2}), quiet=True)
