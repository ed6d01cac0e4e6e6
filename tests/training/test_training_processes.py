"""Trainings in processes of their own that are stopped, robbed of a worker or started twice."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from featherseg.training.fit import resume_run
from trainings import needs_proc, start, tiny_config, train_command, wait_for


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_stops_in_one_line(tmp_path: Path, number: int) -> None:
    run = tmp_path / "run"
    process = start(train_command(tiny_config(tmp_path, data={"workers": 2}, train={"epochs": 500}), tmp_path))
    wait_for(run / "state.safetensors", process)
    for _ in range(2):  # launchers pass on what the group got already
        os.killpg(process.pid, number)
        time.sleep(0.02)
    _, words = process.communicate(timeout=120)
    assert process.returncode == 130
    lines = words.strip().splitlines()
    assert re.fullmatch(rf"stopped in epoch \d+; go on with: featherseg train --resume {run}", lines[0])
    assert lines[1:] == ["interrupted"]
    assert not list(run.glob(".*"))
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # no worker is left


SLOW_EPOCHS = """
import sys, time
from featherseg.cli.main import main
from featherseg.training.trainer import Trainer
whole = Trainer._epoch
Trainer._epoch = lambda self, progress: (time.sleep(1), whole(self, progress))[1]
main(sys.argv[1:])
"""


@needs_proc
@pytest.mark.slow
def test_a_killed_worker_ends_in_one_line_and_the_run_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = train_command(tiny_config(tmp_path, data={"workers": 2}, train={"epochs": 6}), tmp_path)
    words[1:3] = ["-c", SLOW_EPOCHS]  # so that six are not over before the kill
    process = start(words)
    wait_for(run / "state.safetensors", process)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    [line] = said.strip().splitlines()
    assert re.match(r"error: epoch \d+: a data worker ", line)
    assert line.endswith(f"go on with: featherseg train --resume {run}")
    assert not list(run.glob(".*"))
    file = run / "config.toml"
    file.write_text(file.read_text().replace("workers = 2", "workers = 0"))  # as the line says
    assert resume_run(run, quiet=True).epochs == 6


@needs_proc
@pytest.mark.slow
def test_a_second_training_into_the_folder_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(train_command(tiny_config(tmp_path, train={"epochs": 500}), tmp_path))
    wait_for(run / "state.safetensors", process)
    second = [sys.executable, "-m", "featherseg", "train", "--resume", str(run), "--quiet"]
    refused = subprocess.run(second, capture_output=True, text=True, timeout=120)
    assert refused.returncode == 2
    assert f"error: {run} is being trained by process {process.pid} on " in refused.stderr
    process.kill()
    process.communicate()
    file = run / "config.toml"
    file.write_text(re.sub(r"epochs = \d+", "epochs = 1", file.read_text()))
    assert subprocess.run(second, capture_output=True, timeout=120).returncode == 0
