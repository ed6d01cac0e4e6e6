"""Two trainings never hold one folder; a lock ends with its holder, however that ends."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from featherseg.core import lock
from featherseg.core.errors import CheckpointError
from featherseg.core.lock import LOCK, folder_lock

fcntl = pytest.importorskip("fcntl", reason="locks of POSIX systems")

HOLD = """
import sys, time
from pathlib import Path
from featherseg.core.lock import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_by_name_until_the_first_is_gone(tmp_path: Path) -> None:
    with holder(tmp_path / "run") as process:
        with pytest.raises(CheckpointError) as caught, folder_lock(tmp_path / "run"):
            pytest.fail("two processes hold the folder")
        line = str(caught.value)
        assert f"{tmp_path / 'run'} is being trained by process {process.pid} on {os.uname().nodename}" in line
        assert "choose another name" in line
        assert "\n" not in line
        process.kill()  # no handler runs, and the file stays
        process.wait()
    assert (tmp_path / "run" / LOCK).is_file()
    with folder_lock(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK).read_text().startswith(f"process {os.getpid()} on ")


def test_a_second_training_of_one_process_is_refused_too(tmp_path: Path) -> None:
    with folder_lock(tmp_path), pytest.raises(CheckpointError, match=f"process {os.getpid()}"), folder_lock(tmp_path):
        pytest.fail("held twice")
    with folder_lock(tmp_path):
        pass


def test_a_fork_that_outlives_its_parent_holds_nothing(tmp_path: Path) -> None:
    script = f"""
import os, signal, time
from pathlib import Path
from featherseg.core.lock import folder_lock
with folder_lock(Path({str(tmp_path)!r})):
    parent, child = os.getpid(), os.fork()
    if not child:
        print(os.getpid(), flush=True)
        os.kill(parent, signal.SIGKILL)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        assert process.wait() == -signal.SIGKILL
        os.kill(child, 0)  # it lives
        with folder_lock(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


def test_a_fork_that_ends_leaves_its_parents_lock(tmp_path: Path) -> None:
    with ExitStack() as stack:
        stack.enter_context(folder_lock(tmp_path))
        child = os.fork()
        if not child:
            stack.close()  # as the end of a worker that unwinds does
            os._exit(0)
        os.waitpid(child, 0)
        with pytest.raises(CheckpointError, match="being trained"), folder_lock(tmp_path):
            pass
        assert (tmp_path / LOCK).exists()


def test_folders_that_stay_empty_go_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    with folder_lock(tmp_path / "old" / "a" / "b"):
        assert (tmp_path / "old" / "a" / "b" / LOCK).is_file()
    assert list((tmp_path / "old").iterdir()) == []
    with folder_lock(tmp_path / "old"):
        pass
    assert (tmp_path / "old").is_dir()  # it was there before
    with folder_lock(tmp_path / "new"):
        (tmp_path / "new" / "config.toml").touch()
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["config.toml"]
    with pytest.raises(ZeroDivisionError), folder_lock(tmp_path / "failed"):
        raise ZeroDivisionError
    assert not (tmp_path / "failed").exists()


def test_a_file_removed_between_opening_and_locking_is_not_taken_for_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = fcntl.flock, []

    def late(handle: int, how: int) -> None:
        calls.append(handle)
        if len(calls) == 1:
            (tmp_path / LOCK).unlink()  # its holder ended just now
        real(handle, how)

    monkeypatch.setattr(lock.fcntl, "flock", late)
    with folder_lock(tmp_path):
        assert len(calls) == 2
        assert (tmp_path / LOCK).exists()
        with pytest.raises(CheckpointError), folder_lock(tmp_path):
            pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_file_systems_without_locks_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    def refuse(handle: int, how: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    open_before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    if code == errno.EIO:
        with pytest.raises(OSError, match="Input/output error"), folder_lock(tmp_path):
            pass
        assert caplog.messages == []
    else:
        with folder_lock(tmp_path):
            assert "has no locks" in caplog.messages[0]
        assert len(caplog.messages) == 1
    assert len(os.listdir("/proc/self/fd")) == open_before  # noqa: PTH208


def test_only_one_of_many_at_once_gets_it(tmp_path: Path) -> None:
    script = """
import sys, time
from pathlib import Path
from featherseg.core.errors import CheckpointError
from featherseg.core.lock import folder_lock
time.sleep(max(float(sys.argv[2]) - time.time(), 0))
try:
    with folder_lock(Path(sys.argv[1])):
        print("held")
        time.sleep(1)
except CheckpointError:
    print("refused")
"""
    start = time.time() + 2
    command: list[Any] = [sys.executable, "-c", script, tmp_path / "run", str(start)]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    words = sorted(racer.communicate()[0].strip() for racer in racers)
    assert words == ["held", "refused", "refused", "refused"]
    assert not (tmp_path / "run").exists()
