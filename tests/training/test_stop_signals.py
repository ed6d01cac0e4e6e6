"""Stop signals: workers leave them to their parent, and a training obeys the first of them in one line."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader, Dataset

from featherseg.training.failures import leave_signals_to_parent, report_failures


@pytest.fixture
def catchable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """SIGTERM as the command line sets it, and both signals as they were afterwards."""
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for each in before:
        signal.signal(each, signal.default_int_handler)
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


class Signalling(Dataset[int]):
    """Samples, one of which sends a signal to the process that reads it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        if index == 3:
            signal_me(self.number)
        return index


def signal_me(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.2)


def test_workers_ignore_stop_signals_of_others() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        loader = DataLoader(Signalling(number), num_workers=1, worker_init_fn=leave_signals_to_parent)
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


TERMINATED = RuntimeError("DataLoader worker (pid 5) is killed by signal: Terminated. ")


def test_a_worker_that_a_stop_signal_ended_means_stop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = signal.getsignal(signal.SIGCHLD)
    try:
        with pytest.raises(KeyboardInterrupt), report_failures(tmp_path, lambda: "epoch 7"):
            raise TERMINATED
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert caplog.messages == [f"stopped in epoch 7; go on with: featherseg train --resume {tmp_path}"]


def test_only_the_first_process_says_that_it_was_stopped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for talks in (True, False):
        with pytest.raises(KeyboardInterrupt), report_failures(tmp_path, lambda: "epoch 2", talks=talks):
            raise KeyboardInterrupt
    assert len(caplog.messages) == 1


def test_a_second_stop_signal_does_not_disturb_the_first(
    catchable: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    steps = []

    def work() -> None:
        try:
            signal_me(signal.SIGTERM)
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal_me(number)
            steps.append("cleaned up")

    with pytest.raises(KeyboardInterrupt), report_failures(tmp_path, lambda: "epoch 2"):
        work()
    assert steps == ["cleaned up"]
    assert len(caplog.messages) == 1
    assert signal.getsignal(signal.SIGTERM) is signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        signal_me(signal.SIGINT)


def test_handlers_of_the_user_stay(catchable: None, tmp_path: Path) -> None:
    got = []
    signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    with report_failures(tmp_path, lambda: "epoch 2"):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
    assert got == [signal.SIGTERM]


def test_training_in_a_thread_sets_no_handlers(tmp_path: Path) -> None:
    done = []

    def work() -> None:
        with report_failures(tmp_path, lambda: "epoch 1"):
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
