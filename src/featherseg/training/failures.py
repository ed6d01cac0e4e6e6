"""What can fail on a machine: processes killed, disks and memory full, stop signals. Each ends in one line."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType

import torch

from ..core.errors import FeathersegError, MachineError, first_line
from ..core.files import FULL
from ..core.formatting import command
from ..core.progress import logger

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

# The words of torch/csrc/DataLoader.cpp and of torch/utils/data/dataloader.py.
_WORKER = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is (killed by signal: \w[\w ]*\w)|exited unexpectedly)"
)
_SHARED = re.compile(r"shared memory|</torch_")
# Workers of others' loaders, and all where a signal's sender is not known, end before their parent is told to.
_STOPPED = re.compile(r"DataLoader worker .* is killed by signal: (Terminated|Interrupt)")
_PEER = re.compile(r"Connection (closed|reset) by peer|Broken pipe|Socket closed|remote process exited")


def leave_signals_to_parent(worker: int) -> None:
    """Begin a data worker: SIGINT is its parent's affair, and SIGTERM is obeyed from its parent alone.

    Signals go to a whole process group (Ctrl-C, schedulers), and workers that end before their parent is told make
    torch raise an error there. But at the parent's own end its SIGTERM is what ends workers.

    Args:
        worker: its number, as torch calls ``worker_init_fn``.
    """
    if not hasattr(signal, "sigwaitinfo"):  # only Linux tells who sent a signal; errors are turned into stops there
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    threading.Thread(target=_obey_parent, name="signals", daemon=True).start()
    # A thread that hands a batch over when the parent goes away would print its traceback beside our line. Errors in
    # samples do not come here: torch sends them to the parent.
    sys.excepthook = _silent_hang_up


def _silent_hang_up(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


def _obey_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # torch calls this in workers alone
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent.pid:
        pass
    os._exit(0)


@contextmanager
def _one_stop() -> Iterator[None]:
    """Let the first SIGINT or SIGTERM interrupt, and no other: schedulers and launchers send several."""
    in_main = threading.current_thread() is threading.main_thread()  # others cannot set handlers, nor are interrupted
    ours = [each for each in STOP_SIGNALS if in_main and signal.getsignal(each) is signal.default_int_handler]

    def stop(number: int, frame: FrameType | None) -> None:
        for each in ours:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    try:
        for each in ours:
            signal.signal(each, stop)
        yield
    finally:
        for each in ours:
            signal.signal(each, signal.default_int_handler)


@contextmanager
def report_failures(run: Path, where: Callable[[], str], *, talks: bool = True) -> Iterator[None]:
    """Tell a stopped training's user how to go on, and turn the machine's failures into one line.

    Args:
        run: the run folder.
        where: names what is being done, such as ``"epoch 3"``.
        talks: whether this process is the one that speaks.

    Raises:
        MachineError: in place of torch's and the system's errors that are known here.
    """
    with _one_stop():
        try:
            with _worker_errors():
                yield
        except KeyboardInterrupt:
            if talks:
                logger.warning(f"stopped in {where()}; {go_on(run)}")
            raise
        except FeathersegError:
            raise
        except (OSError, EOFError, RuntimeError, MemoryError) as error:
            if line := explain(error, run):
                raise MachineError(f"{where()}: {line}") from error
            raise


@contextmanager
def room_for(what: str, remedy: str) -> Iterator[None]:
    """Turn a full disk into one line: `what` failed, and the `remedy`.

    Raises:
        MachineError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise MachineError(f"{what} ({error.strerror}); {remedy}") from error


@contextmanager
def _worker_errors() -> Iterator[None]:
    """Take a data worker that a stop signal ended for the stop that it is: the signal was for all processes."""
    try:
        yield
    except (RuntimeError, OSError, EOFError) as error:
        if not _of_worker(error):
            raise
        # torch raises the error anew whenever some other child ends, such as the other workers at our own end.
        if hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if _STOPPED.search(str(error)):
            raise KeyboardInterrupt from error
        raise


def _of_worker(error: Exception) -> bool:
    """Return whether a data worker ended: in torch's words, or while it handed a batch over by a socket."""
    no_socket = isinstance(error, FileNotFoundError) and error.filename is None
    return no_socket or isinstance(error, ConnectionError | EOFError) or bool(_WORKER.search(str(error)))


def explain(error: Exception, run: Path) -> str | None:
    """Return what went wrong with the machine and what to do; None where it is something else."""
    text, recipe = str(error), run / "config.toml"
    if isinstance(error, OSError) and error.errno in FULL:
        return f"{run} cannot be written ({error.strerror}, {_free(run)}); make room, then {go_on(run)}"
    if "Too many open files" in text:
        return f"too many open files; raise their number (ulimit -n 65536) or set fewer data.workers, then {go_on(run)}"
    if _SHARED.search(text):
        return (
            "shared memory (/dev/shm), through which data workers hand over batches, is full; give the machine or "
            f"container more of it (docker run --shm-size=2g) or set data.workers = 0 in {recipe}, then {go_on(run)}"
        )
    if _of_worker(error):
        said = _WORKER.search(text)
        who, how = (f" (process {said[1]})", said[2]) if said else ("", None)
        return (
            f"a data worker{who} {f'was {how}' if how else 'ended unexpectedly'}, most often for want of memory; set "
            f"fewer data.workers or data.cache = false in {recipe}, then {go_on(run)}"
        )
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in text:
        return f"out of memory ({first_line(error)[:120]}); lower data.batch_size or augment.crop and start again"
    if torch.distributed.is_available() and torch.distributed.is_initialized() and _PEER.search(text):
        return f"another process of this training ended, and its own message says why; {go_on(run)}"
    return None


def go_on(run: Path) -> str:
    """Return the words that say how to go on with a run."""
    return f"go on with: {command('train', '--resume', run)}"


def _free(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free / 1e6:.0f} MB free"
    except OSError:
        return "free space unknown"
