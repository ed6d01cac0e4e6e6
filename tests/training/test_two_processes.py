"""Two processes against one: the same samples once, exact counts, the same quality; and two nodes by torchrun."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherseg.core.config import Config
from featherseg.data.datasets import create_dataset
from featherseg.evaluation.opening import open_segmenter
from featherseg.evaluation.scores import evaluate
from featherseg.models.checkpoint import load_checkpoint
from featherseg.training.fit import fit
from featherseg.training.run_log import read_log
from trainings import tiny_config, write_recipe

pytestmark = pytest.mark.slow

EPOCHS, STEPS = 24, 4
SECTIONS: dict[str, Any] = {
    # 13 samples make four steps of four, three being taken once more; three images cannot be halved.
    "data": {"options": {"count": 13, "val_count": 3, "size": [64, 96]}},
    "train": {"epochs": EPOCHS, "eval_every": 4, "ema": 0.9},
    "optim": {"lr": 1e-2},
}

SPY = """
import os, sys
from pathlib import Path
from featherseg.cli.main import main
from featherseg.data.loader import TrainSamples
read = TrainSamples.__getitem__
def spied(self, key):
    with open(Path(sys.argv[1]) / os.environ["RANK"], "a") as file:
        print(*key, file=file)
    return read(self, key)
TrainSamples.__getitem__ = spied
main(sys.argv[2:])
"""


def launch(
    config: Config, folder: Path, *flags: str, script: str = "", spied: Path | None = None
) -> subprocess.Popen[str]:
    """Start torchrun as users do; with a script in featherseg's place to look over its shoulder."""
    words = [sys.executable, "-m", "torch.distributed.run", *flags]
    words += [script, str(spied)] if script else ["-m", "featherseg"]
    words += ["train", str(write_recipe(config, folder)), "--quiet"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(words, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@dataclass(frozen=True)
class Both:
    """The run of two processes, what each of them read, and the same training by one process."""

    two: Path
    read: list[list[tuple[int, ...]]]
    one: Path
    one_read: list[tuple[int, ...]]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    from featherseg.data.loader import TrainSamples

    folder = tmp_path_factory.mktemp("both")
    script = folder / "spy.py"
    script.write_text(SPY)
    (folder / "read").mkdir()
    data = SECTIONS["data"] | {"batch_size": 2}
    process = launch(
        tiny_config(folder / "two", **{**SECTIONS, "data": data}),
        folder,
        *("--standalone", "--nproc-per-node", "2"),
        script=str(script),
        spied=folder / "read",
    )
    out, words = process.communicate(timeout=500)
    assert process.returncode == 0, words
    assert out.count("mIoU") == 1  # one of them speaks
    read = [
        [tuple(map(int, line.split())) for line in (folder / "read" / str(rank)).read_text().splitlines()]
        for rank in range(2)
    ]
    one_read: list[tuple[int, ...]] = []
    with pytest.MonkeyPatch.context() as patch:
        whole = TrainSamples.__getitem__
        patch.setattr(TrainSamples, "__getitem__", lambda self, key: (one_read.append(key), whole(self, key))[1])
        one = fit(tiny_config(folder / "one", **SECTIONS), quiet=True).path
    return Both(folder / "two" / "run", read, one, one_read)  # type: ignore[arg-type]


def test_each_sample_is_seen_in_each_epoch_in_the_batches_of_one_process(both: Both) -> None:
    for epoch in range(EPOCHS):
        ours = [[key for key in rank if key[0] == epoch] for rank in both.read]
        theirs = [key for key in both.one_read if key[0] == epoch]
        assert len(ours[0]) == len(ours[1]) == 2 * STEPS
        assert len({*ours[0], *ours[1]}) == 4 * STEPS  # nothing twice
        for step in range(STEPS):
            batch = [key for rank in ours for key in rank[2 * step : 2 * step + 2]]
            assert sorted(batch) == sorted(theirs[4 * step : 4 * step + 4])
        assert {key[1] for key in theirs} == set(range(13))


def test_counts_are_exact(both: Both) -> None:
    """The scores of the two processes are those of one that looks at all images."""
    result = json.loads((both.two / "result.json").read_text())
    checkpoint = load_checkpoint(both.two)
    val_set = create_dataset("synthetic", split="val", **SECTIONS["data"]["options"])
    assert len(val_set) == 3
    alone = evaluate(open_segmenter(str(both.two)), val_set)
    assert result["miou"] == alone.to_dict()["miou"]
    assert result["boundary_f1"] == alone.to_dict()["boundary_f1"]
    assert result["protocol"]["images"] == 3
    pixels = sum(int((val_set.read(i)[1] != 255).sum()) for i in range(3))
    assert int(np.asarray(alone.matrix).sum()) == pixels
    # While training, too, all images were scored by one network: batch norm's statistics are of one process.
    best = next(row for row in read_log(both.two) if row["epoch"] == checkpoint.training["epoch"])
    assert best["miou"] == pytest.approx(alone.miou, abs=1e-6)
    for name, iou in zip(alone.classes.names, alone.iou, strict=True):
        assert best["iou"][name] == (None if np.isnan(iou) else pytest.approx(float(iou), abs=1e-4))


def test_two_processes_end_as_good_as_one(both: Both) -> None:
    """Gradients are of the same samples; batch norm's statistics, of two instead of four, make the difference."""
    ours, theirs = (read_log(path) for path in (both.two, both.one))
    assert [row["loss"] for row in ours[:3]] == pytest.approx([row["loss"] for row in theirs[:3]], rel=0.1)
    assert ours[-1]["loss"] < 0.5 * ours[0]["loss"]
    assert ours[-1]["loss"] == pytest.approx(theirs[-1]["loss"], rel=0.25)
    best = [max(row["miou"] for row in log if "miou" in row) for log in (ours, theirs)]
    assert best[0] == pytest.approx(best[1], abs=0.08)


def test_two_nodes_train_by_the_commands_of_the_documentation(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    flags = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-id=7", "--rdzv-backend=c10d"]
    nodes = []
    for name in ("a", "b"):  # each with a disk of its own
        (tmp_path / name).mkdir()
        config = tiny_config(tmp_path / name / "runs", data={"batch_size": 2}, train={"epochs": 2})
        nodes.append(launch(config, tmp_path / name, *flags, f"--rdzv-endpoint=localhost:{port}"))
    words = [node.communicate(timeout=400) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], words
    [runs] = tmp_path.glob("*/runs")  # the first process alone writes
    log = read_log(runs / "run")
    assert [row["epoch"] for row in log] == [1, 2]
    assert sorted(out.count("mIoU") for out, _ in words) == [0, 1]
