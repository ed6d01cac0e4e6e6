"""What the machine does to a training ends in one line, with the last good checkpoint kept."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from conftest import mounted_disk
from featherseg import mishaps
from featherseg.checkpoint import load_checkpoint, load_state
from featherseg.config import Config, config_from_dict, config_to_toml
from featherseg.errors import ConfigError
from featherseg.images import TEMPORARY
from featherseg.mishaps import MachineError, explain, leave_signals_to_parent, said_in_one_line
from featherseg.run import read_log
from featherseg.train import fit, resume_run
from featherseg.trainer import Trainer


def tiny(out: Path, epochs: int = 2, workers: int = 0, **data: Any) -> Config:
    return config_from_dict(
        {
            "name": "run",
            "out": str(out),
            "model": {"name": "jetnet"},
            "data": {
                "name": "synthetic",
                "options": {"count": 8, "val_count": 2, "size": [64, 96]},
                "batch_size": 4,
                "workers": workers,
                **data,
            },
            "augment": {"crop": [64, 96]},
            "train": {"epochs": epochs, "precision": "fp32", "device": "cpu"},
        }
    )


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(mishaps, "say", lines.append)
    return lines


@pytest.fixture
def catchable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """SIGTERM as the command line sets it, and both signals as they were afterwards."""
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for each in before:
        signal.signal(each, signal.default_int_handler)
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


class Kill(Dataset[int]):
    """Samples, one of which kills or stops the process that reads it."""

    def __init__(self, number: int, whom: Callable[[int], None]) -> None:
        self.number, self.whom = number, whom

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        if index == 3:
            self.whom(self.number)
        return index


def kill_me(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.2)


def test_workers_ignore_stop_signals_of_others() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        loader = DataLoader(Kill(number, kill_me), num_workers=1, worker_init_fn=leave_signals_to_parent)
        assert [int(batch) for batch in loader] == list(range(8))


def _wait_in_worker(ready: Any) -> None:
    leave_signals_to_parent(0)
    ready.set()
    time.sleep(60)


def test_workers_obey_their_parents_signal() -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    worker = context.Process(target=_wait_in_worker, args=(ready,), daemon=True)
    worker.start()
    assert ready.wait(20)
    subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)  # another process's
    os.kill(worker.pid or 0, signal.SIGINT)
    worker.join(0.5)
    assert worker.is_alive()
    worker.terminate()
    worker.join(20)
    assert worker.exitcode == 0


KILLED_WORKER = """
import os, signal, sys, time
from pathlib import Path
import torch
from torch.utils.data import DataLoader
from featherseg.mishaps import MachineError, leave_signals_to_parent, said_in_one_line

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
        with said_in_one_line(Path("my run"), lambda: "epoch 7"):
            list(loader)
    except MachineError as error:
        print(error, file=sys.stderr)
"""


def test_a_killed_worker_is_said_in_one_line() -> None:
    """In a process of its own, as torch's handler of ended children may raise anywhere."""
    script = [sys.executable, "-W", "ignore", "-c", KILLED_WORKER]
    lines = subprocess.run(script, capture_output=True, text=True, check=True).stderr.strip().splitlines()
    assert len(lines) == 2
    for line in lines:
        assert re.match(r"epoch 7: a data worker .*(was killed by signal: Killed|ended unexpectedly), most often", line)
        assert "set fewer data.workers or data.cache = false in my run/config.toml, then " in line
        assert line.endswith("go on with: featherseg train --resume 'my run'")


TERMINATED = RuntimeError("DataLoader worker (pid 5) is killed by signal: Terminated. ")


def test_a_worker_that_a_stop_signal_ended_means_stop(tmp_path: Path, said: list[str]) -> None:
    before = signal.getsignal(signal.SIGCHLD)
    try:
        with pytest.raises(KeyboardInterrupt), said_in_one_line(tmp_path, lambda: "epoch 7"):
            raise TERMINATED
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert said == [f"stopped in epoch 7; go on with: featherseg train --resume {tmp_path}"]


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
    with pytest.raises(type(error)) as caught, said_in_one_line(tmp_path, lambda: "epoch 1"):
        raise error
    assert caught.value is error


def test_only_the_first_process_says_that_it_was_stopped(tmp_path: Path, said: list[str]) -> None:
    for talks in (True, False):
        with pytest.raises(KeyboardInterrupt), said_in_one_line(tmp_path, lambda: "epoch 2", talks=talks):
            raise KeyboardInterrupt
    assert len(said) == 1


def test_a_second_stop_signal_does_not_disturb_the_first(catchable: None, tmp_path: Path, said: list[str]) -> None:
    steps = []

    def work() -> None:
        try:
            kill_me(signal.SIGTERM)
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                kill_me(number)
            steps.append("cleaned up")

    with pytest.raises(KeyboardInterrupt), said_in_one_line(tmp_path, lambda: "epoch 2"):
        work()
    assert steps == ["cleaned up"]
    assert len(said) == 1
    assert signal.getsignal(signal.SIGTERM) is signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        kill_me(signal.SIGINT)


def test_handlers_of_the_user_stay(catchable: None, tmp_path: Path) -> None:
    got = []
    signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    with said_in_one_line(tmp_path, lambda: "epoch 2"):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
    assert got == [signal.SIGTERM]


def test_training_in_a_thread_sets_no_handlers(tmp_path: Path) -> None:
    done = []

    def work() -> None:
        with said_in_one_line(tmp_path, lambda: "epoch 1"):
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


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


proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="finds files by /proc")


@proc
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
        fit(tiny(tmp_path), quiet=True)
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


@proc
def test_a_disk_full_at_the_start_is_said_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", FullDisk("classes.json", 1))
    with pytest.raises(MachineError, match=r"run cannot be written .* make room, then start again"):
        fit(tiny(tmp_path), quiet=True)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_does_not_fit_is_said_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "tmp"
    cache.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(cache))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # eight streets take 200 kB
    try:
        with pytest.raises(MachineError) as caught:
            fit(tiny(tmp_path / "runs"), quiet=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    line = str(caught.value)
    assert f"synthetic train do not fit into {cache} (File too large)" in line
    assert "data.cache=false" in line
    assert not (tmp_path / "runs").exists()
    del caught
    gc.collect()
    assert list(cache.iterdir()) == []


def test_memory_that_is_gone_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(self: Trainer, progress: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(Trainer, "_epoch", hungry)
    with pytest.raises(MachineError, match=r"epoch 1: out of memory .*lower data\.batch_size or augment\.crop"):
        fit(tiny(tmp_path), quiet=True)


def command(config: Config, folder: Path) -> list[str]:
    recipe = folder / "recipe.toml"
    recipe.write_text(config_to_toml(config))
    return [sys.executable, "-m", "featherseg", "train", str(recipe), "--quiet"]


def start(words: list[str]) -> subprocess.Popen[str]:
    """Start a training as the head of a process group of its own, as shells and schedulers do."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not file.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@proc
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_stops_in_one_line(tmp_path: Path, number: int) -> None:
    run = tmp_path / "run"
    process = start(command(tiny(tmp_path, epochs=500, workers=2), tmp_path))
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


@proc
@pytest.mark.slow
def test_a_killed_worker_ends_in_one_line_and_the_run_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = command(tiny(tmp_path, epochs=6, workers=2), tmp_path)
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


SLOW_EPOCHS = """
import sys, time
from featherseg.cli import main
from featherseg.trainer import Trainer
whole = Trainer._epoch
Trainer._epoch = lambda self, progress: (time.sleep(1), whole(self, progress))[1]
main(sys.argv[1:])
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4.5 MB: room for JetNet's files, not for its next state (2.1 MB) beside them."""
    with mounted_disk(tmp_path / "disk", "size=4500k") as disk:
        yield disk


@pytest.mark.slow
def test_a_disk_that_is_really_full(small_disk: Path, tmp_path: Path) -> None:
    run = small_disk / "run"
    process = start(command(tiny(small_disk, epochs=3), tmp_path))
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
    whole = fit(tiny(tmp_path / "whole", epochs=3), quiet=True)
    ours, theirs = (load_checkpoint(path / "last.safetensors").model.state_dict() for path in (run, whole.path))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@proc
@pytest.mark.slow
def test_a_second_training_into_the_folder_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(command(tiny(tmp_path, epochs=500), tmp_path))
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
