"""Small trainings, in this process or in one of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from featherseg.core.config import Config
from featherseg.core.recipes import config_from_dict, config_to_toml

needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="finds files by /proc")


def tiny_config(out: Path, name: str = "run", **sections: dict[str, Any]) -> Config:
    """JetNet on ten synthetic streets, three epochs: a second or two. `sections` changes it, as in a recipe."""
    tree: dict[str, Any] = {
        "name": name,
        "out": str(out),
        "model": {"name": "jetnet"},
        "data": {
            "name": "synthetic",
            "options": {"count": 10, "val_count": 3, "size": [64, 96]},
            "batch_size": 4,
            "workers": 0,
        },
        "augment": {"crop": [64, 96], "scale": [0.8, 1.25]},
        "train": {"epochs": 3, "precision": "fp32", "device": "cpu"},
    }
    for section, values in sections.items():
        tree[section] = {**tree.get(section, {}), **values}
    return config_from_dict(tree)


def write_recipe(config: Config, folder: Path) -> Path:
    file = folder / f"{config.name}.toml"
    file.write_text(config_to_toml(config))
    return file


def train_command(config: Config, folder: Path) -> list[str]:
    return [sys.executable, "-m", "featherseg", "train", str(write_recipe(config, folder)), "--quiet"]


def start(words: list[str]) -> subprocess.Popen[str]:
    """Start a training as the head of a process group of its own, as shells and schedulers do."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    # Where the tests themselves were begun in the background, SIGINT would be ignored from the start.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(
        words, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True, preexec_fn=heed
    )


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not file.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert file.exists() or process.poll() is not None, f"no {file.name} after four minutes"


def assert_same(one: Any, other: Any, where: str = "") -> None:
    """Two training states are equal to the last bit, whatever is in them."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for i, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}/{i}")
    else:
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, where
