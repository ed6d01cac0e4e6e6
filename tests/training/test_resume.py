"""Processes killed at any moment, a checkpoint's write among them, go on to the same bits."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from featherseg.models.checkpoint import load_state
from featherseg.training.run_log import read_log
from trainings import assert_same, tiny_config, wait_for, write_recipe

EPOCHS = 12
# Writes slowed down a hundredfold would be killed more often than not: the hook sleeps between bytes and rename.
SLOW_WRITES = """
import os, time, runpy, sys
sync = os.fsync
os.fsync = lambda handle: (sync(handle), time.sleep(0.05))
sys.argv = ["featherseg", *sys.argv[1:]]
runpy.run_module("featherseg", run_name="__main__")
"""


def recipe(folder: Path, name: str) -> Path:
    config = tiny_config(
        folder,
        name,
        model={"name": "fastsegnet", "options": {"width": 0.5}},
        data={"options": {"count": 16, "val_count": 2, "size": [64, 96]}, "workers": 1},
        train={"epochs": EPOCHS, "precision": "bf16"},
    )
    return write_recipe(config, folder)


def start(*words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SLOW_WRITES, "train", *words, "--quiet"]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)


@pytest.mark.slow
def test_killed_runs_end_in_the_same_bits(tmp_path: Path) -> None:
    assert start(str(recipe(tmp_path, "whole"))).wait(timeout=300) == 0
    rng, run = random.Random(0), tmp_path / "killed"
    kills = 0
    process = start(str(recipe(tmp_path, "killed")))
    while process.poll() is None and kills < 4:
        begun = len(read_log(run)) if (run / "log.jsonl").exists() else 0
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:  # let it finish an epoch or two, then strike
            if (run / "log.jsonl").exists() and len(read_log(run)) > begun + rng.randint(0, 1):
                break
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.4))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            process = start("--resume", str(run))
    assert process.wait(timeout=300) == 0
    assert kills >= 2
    ours, theirs = (load_state(tmp_path / name / "state.safetensors") for name in ("killed", "whole"))
    assert_same(ours, theirs)
    assert [row["epoch"] for row in read_log(run)] == list(range(1, EPOCHS + 1))
    assert not list(run.glob(".*"))
    for name in ("best", "last"):
        ours, theirs = (load_file(tmp_path / run / f"{name}.safetensors") for run in ("killed", "whole"))
        assert_same(ours, theirs)


@pytest.mark.slow
def test_a_scheduler_that_stops_a_run_is_told_how_to_go_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "featherseg", "train", str(recipe(tmp_path, "stopped")), "--quiet"]
    run = tmp_path / "stopped"
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for(run / "state.safetensors", process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"go on with: featherseg train --resume {run}" in said
    assert "Traceback" not in said
    assert 1 <= load_state(run / "state.safetensors")["epoch"] < EPOCHS
