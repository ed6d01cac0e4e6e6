"""The benchmark for GPUs, as far as it goes without one: what becomes of parts that fail, and its small run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

GPU = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are ended by Linux's alarm")

PARTS = """
import os, time
from jobs import Skipped

def good(work):
    return {"device": work.device, "small": work.small, "nan": float("nan")}

def failing(work):
    work.keep({"before": 1})
    raise ValueError("first line\\nsecond line")

def hanging(work):
    work.keep({"rows": [1, 2]})
    time.sleep(600)

def dying(work):
    os.abort()

def idle(work):
    raise Skipped("nothing to do")
"""
RUN = """
import sys
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
import jobs
jobs.PRELOADED.clear()  # torch is of no use to these
from whole import Part, run_parts

if __name__ == "__main__":
    names = ("good", "failing", "hanging", "dying", "idle", "last")
    parts = {name: Part(f"made_up_parts:{name if name != 'last' else 'good'}", 20) for name in names}
    parts["hanging"] = Part("made_up_parts:hanging", 1)
    out = Path(sys.argv[3])
    seen = []
    def done(name, outcome):
        seen.append(name)
        left = [key for key, part in __import__("json").loads(out.read_text())["parts"].items()
                if part["state"] == "not started"]
        assert left == list(names[len(seen):]), left
    run_parts(parts, out, device="cpu", small=True, seconds=float(sys.argv[4]), machine={}, done=done)
"""


def run(*words: str | Path) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_part_that_fails_is_recorded_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "made_up_parts.py").write_text(PARTS)
    (tmp_path / "main.py").write_text(RUN)
    run(tmp_path / "main.py", GPU, tmp_path, tmp_path / "out.json", "200")
    parts: dict[str, Any] = json.loads((tmp_path / "out.json").read_text())["parts"]
    states = {name: part["state"] for name, part in parts.items()}
    assert states == {
        "good": "done",
        "failing": "failed",
        "hanging": "stopped",
        "dying": "failed",
        "idle": "skipped",
        "last": "done",
    }
    assert parts["good"]["result"] == {"device": "cpu", "small": True, "nan": None}
    assert parts["failing"]["reason"] == "ValueError: first line"
    assert parts["failing"]["result"] == {"before": 1}
    assert 'raise ValueError("first line' in "\n".join(parts["failing"]["trace"])
    assert parts["hanging"]["result"] == {"rows": [1, 2]}
    assert "were up" in parts["hanging"]["reason"]
    assert parts["hanging"]["limit"] < 5
    assert "SIGABRT" in parts["dying"]["reason"]
    assert parts["idle"]["reason"] == "nothing to do"
    assert parts["last"]["limit"] > parts["good"]["limit"], "what the others left goes to the last"


def test_nothing_is_begun_when_the_time_is_up(tmp_path: Path) -> None:
    (tmp_path / "made_up_parts.py").write_text(PARTS)
    (tmp_path / "main.py").write_text(RUN.replace("assert left", "left"))
    run(tmp_path / "main.py", GPU, tmp_path, tmp_path / "out.json", "1")
    parts = json.loads((tmp_path / "out.json").read_text())["parts"]
    assert {part["state"] for part in parts.values()} == {"not started"}


@pytest.mark.slow
def test_small_run_of_the_loss(tmp_path: Path) -> None:
    out = tmp_path / "dry.json"
    text = run(GPU, "--dry-run", "--parts", "loss", "--out", out)
    report = json.loads(out.read_text())
    assert report["dry_run"]
    assert report["machine"]["gpu"] is None
    assert report["machine"]["versions"]["torch"]
    assert list(report["parts"]) == ["loss"]
    assert report["parts"]["loss"]["state"] == "done"
    rows = report["parts"]["loss"]["result"]["rows"]
    assert [(row["loss"], row["logits"]) for row in rows] == [
        (loss, logits) for loss in ("cross_entropy", "ohem") for logits in ("fp32", "bf16")
    ]
    assert all(row["value_difference"] < (1e-5 if row["logits"] == "fp32" else 0.05) for row in rows)
    assert "== loss: done" in text
    assert "cross_entropy" in text


@pytest.mark.slow
def test_small_run_of_the_whole(tmp_path: Path) -> None:
    out = tmp_path / "dry.json"
    text = run(GPU, "--dry-run", "--out", out)
    parts = json.loads(out.read_text())["parts"]
    states = {name: (part["state"], part.get("reason")) for name, part in parts.items()}
    assert states.pop("engines")[0] in ("done", "skipped")
    assert set(states.values()) == {("done", None)}, states
    assert all(row["first_loss"] > 0 for row in parts["training"]["result"]["rows"])
    assert [row["resumed"]["equal"] for row in parts["resume"]["result"]["rows"]] == [True]
    masks = parts["session"]["result"]["masks"]
    assert masks["torch cpu fp32"]["equal_pixels"] == 1
    assert masks["onnxruntime fp32"]["equal_pixels"] > 0.999
    assert parts["fps"]["result"]["best"] in {row["engine"] for row in parts["fps"]["result"]["rows"]}
    assert parts["fps"]["result"]["failed"]["tensorrt fp16"].endswith("no CUDA device to run it")
    assert "== engines" in text


@pytest.mark.slow
def test_it_says_so_where_there_is_no_gpu(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    done = subprocess.run([sys.executable, GPU, "--out", tmp_path / "a.json"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].endswith("try --dry-run")
    assert not (tmp_path / "a.json").exists()
