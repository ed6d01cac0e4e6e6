"""Disks that are full, read-only or forbidden: one line, and nothing half-written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from stubs import linux, litter, picture

from conftest import TINY, Ended, mounted_disk, street
from featherseg.core.images import read_image, write_image
from featherseg.training.results import write_results


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts small file systems with the given options, and takes them away again."""
    with ExitStack() as disks:
        numbers = count()
        yield lambda options: disks.enter_context(mounted_disk(tmp_path / f"disk{next(numbers)}", options))


def finished_run(folder: Path) -> Path:
    """A finished run's folder without weights."""
    folder.mkdir()
    (folder / "config.toml").write_text('name = "a"\n')
    (folder / "env.json").write_text('{"versions": {}, "gpu": null, "cpu": "x", "threads": 1}')
    row = {"epoch": 1, "loss": 1.0, "lr": 0.1, "seconds": 2.0, "images_per_second": 9.0, "miou": 0.5}
    (folder / "log.jsonl").write_text(json.dumps(row) + "\n")
    result: dict[str, Any] = {
        "protocol": {"dataset": "camvid", "split": "val", "images": 3, "resolution": "original"},
        "classes": {"names": ["a"]},
    }
    result |= {"miou": 0.5, "boundary_f1": 0.4, "iou": [0.5], "boundary_f1_per_class": [0.4]}
    result |= {"params": 1000, "gmacs": 1.5, "best_epoch": 1, "epochs": 1}
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def test_one_that_may_only_be_read(run: Callable[..., Ended], mounted: Callable[[str], Path], tmp_path: Path) -> None:
    disk = mounted("size=1m,ro")
    photo = picture(tmp_path / "a.png")
    assert run("predict", photo, "-q", "-o", disk / "out").refused("Read-only file system")
    assert run("train", *TINY, "-q", f"out={disk}").refused("Read-only file system")
    with pytest.raises(OSError, match="Read-only"):
        write_image(disk / "a.png", street(0)[0])


def test_one_that_is_full(run: Callable[..., Ended], mounted: Callable[[str], Path], tmp_path: Path) -> None:
    disk = mounted("size=64k")
    rng = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (160, 200, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    assert run("predict", tmp_path, "-q", "-o", disk).refused("No space left")
    done = sorted(path for path in disk.rglob("[!.]*") if path.is_file())
    assert done
    for path in done:  # whole or not there
        assert read_image(path).shape == (160, 200, 3)
    assert not litter(disk)


def test_a_report_on_a_full_one(mounted: Callable[[str], Path], tmp_path: Path) -> None:
    disk = mounted("size=16k,nr_inodes=8")
    (disk / "results.md").write_text("old")
    (disk / "rest").write_bytes(bytes(12 << 10))  # with the page of results.md nothing is left
    with pytest.raises(OSError, match="No space"):
        write_results([finished_run(tmp_path / "run")] * 400, disk / "results.md")
    assert (disk / "results.md").read_text() == "old"
    assert not litter(disk)


@linux
@pytest.mark.parametrize("words", ["--version", "data --json", "data"])
def test_output_that_nobody_can_keep(words: str) -> None:
    command = f"{sys.executable} -m featherseg {words} > /dev/full"
    ended = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    assert ended.stderr == "error: system: No space left on device; check path, rights and free space\n"


READ_EVERYTHING = """
import os, sys
sys.path[:0] = sys.argv[2].split(os.pathsep)
from featherseg.core.recipes import load_config
from featherseg.data.datasets import create_dataset
from featherseg.data.class_files import read_classes
from featherseg.core.errors import FeathersegError
from featherseg.core.images import read_image
from featherseg.training.results import read_run
from featherseg.runtime.artifact import read_artifact
from pathlib import Path
root = Path(sys.argv[1])
os.setgid(65534); os.setuid(65534)
os.umask(0)
for read, path in ((load_config, "c.toml"), (read_classes, "c.toml"), (read_image, "a.png"), (read_artifact, "a.onnx"),
                   (read_artifact, "shut/a.onnx"), (load_config, "shut/c.toml"), (read_run, "run")):
    try:
        read(root / path)
    except FeathersegError as error:
        assert len(str(error).splitlines()) == 1
        print("refused")
"""


@linux
def test_folders_without_rights(tmp_path: Path) -> None:
    """By a process of nobody's, since permissions do not bind root."""
    if os.geteuid() != 0:
        pytest.skip("needs to become another user")
    (tmp_path / "shut").mkdir()
    (tmp_path / "run").mkdir()
    for name in ("c.toml", "a.png", "a.onnx", "shut/a.onnx", "shut/c.toml", "run/config.toml"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0)
    (tmp_path / "shut").chmod(0)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and "pytest" in str(folder):
            folder.chmod(0o755)
    command = [sys.executable, "-c", READ_EVERYTHING, str(tmp_path), os.pathsep.join(sys.path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("refused") == 7
