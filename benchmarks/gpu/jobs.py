"""Jobs in processes of their own: whatever becomes of one, its result says so and the others go on.

A job that takes too long is ended by the kernel's alarm, which interrupts compilers and drivers too and needs no parent
that is alive; what it had kept until then stays. Processes come from a server that has imported torch already and has
never used the GPU.
"""

from __future__ import annotations

import importlib
import json
import math
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from featherseg.core.errors import first_line
from featherseg.core.files import write_atomically

Found = dict[str, Any]
PRELOADED = ["torch", "featherseg.training.fit", "featherseg.exporting.targets", "featherseg.compress.qdq"]
GRACE = 10.0
"""Seconds after its limit in which a job's process has to be gone; then it is killed from outside."""
LEAST = 2.0
"""Seconds that have to be left for a job to be started."""


class Skipped(Exception):
    """A job has nothing to do here; the text says why."""


@dataclass
class Work:
    """What a job is told, and where its findings go.

    Args:
        device: ``"cuda"`` or ``"cpu"``.
        small: everything as small as it can be, to try the program itself.
        seconds: what it may take.
        file: for its findings.
    """

    device: str
    small: bool
    seconds: float
    file: Path
    found: Found = field(default_factory=dict)
    begin: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds until it is ended."""
        return self.seconds - (time.monotonic() - self.begin)

    def keep(self, found: Mapping[str, Any], state: str = "running", **more: Any) -> None:
        """Add findings that shall stay even if the job is ended."""
        self.found.update(found)
        content = json.dumps(_plain({"state": state, **more, "result": self.found}), default=str)
        write_atomically(self.file, lambda stream: stream.write(content.encode()))


@dataclass(frozen=True)
class Job:
    """A function ``(work, *arguments) -> findings`` to be run by itself.

    Args:
        name: in the results.
        function: as ``"module:name"``.
        seconds: that it may take at most.
        arguments: further ones, of plain types.
    """

    name: str
    function: str
    seconds: float
    arguments: tuple[Any, ...] = ()


@dataclass
class _Running:
    job: Job
    process: Any
    file: Path
    seconds: float
    begin: float = field(default_factory=time.monotonic)


def run_jobs(
    jobs: Sequence[Job],
    folder: Path,
    *,
    device: str,
    small: bool,
    seconds: float,
    together: int = 1,
    done: Callable[[str, Found], None] = lambda name, outcome: None,
) -> dict[str, Found]:
    """Run jobs, so many at a time, and return an outcome of each by its name.

    Args:
        jobs: what to run, in this order.
        folder: for files of results.
        device, small: told to the jobs.
        seconds: that all may take; those that have not begun by then are not.
        together: how many at a time.
        done: called with the name and the outcome of each job when it ended.

    Returns:
        ``{"state", "reason", "seconds", "limit", "result"}`` by name. The state is ``"done"``, ``"failed"``,
        ``"stopped"`` (its time was up), ``"skipped"`` (nothing to do here) or ``"not started"``.
    """
    # Whoever asks for CUDA's devices by CUDA itself has no use of it after a fork; torch can ask NVML.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    end = time.monotonic() + seconds
    waiting, running, outcomes = list(jobs), [], {}
    while waiting or running:
        while waiting and len(running) < together:
            job, limit = waiting.pop(0), end - time.monotonic()
            if limit < LEAST:
                outcomes[job.name] = {"state": "not started", "reason": "the time was up before its turn", "result": {}}
                done(job.name, outcomes[job.name])
                continue
            running.append(_start(context, job, folder, device, small, min(limit, job.seconds)))
        wait([each.process.sentinel for each in running], timeout=0.5)
        for each in list(running):
            if each.process.is_alive() and time.monotonic() < each.begin + each.seconds + GRACE:
                continue
            running.remove(each)
            outcomes[each.job.name] = _end(each)
            done(each.job.name, outcomes[each.job.name])
    return outcomes


def _start(context: Any, job: Job, folder: Path, device: str, small: bool, seconds: float) -> _Running:
    file = folder / f"{job.name}.json"
    process = context.Process(target=_work, args=(job, device, small, seconds, file))
    process.start()
    return _Running(job, process, file, seconds)


def _end(each: _Running) -> Found:
    """Return the outcome of a process that ended, or whose time is long up."""
    if each.process.is_alive():
        each.process.kill()
    each.process.join()
    code = each.process.exitcode
    found: Found = json.loads(each.file.read_text()) if each.file.is_file() else {"state": "running", "result": {}}
    if found["state"] == "running":
        if code == -signal.SIGALRM:
            found |= {"state": "stopped", "reason": f"stopped when its {each.seconds:.0f} s were up"}
        else:
            cause = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
            found |= {"state": "failed", "reason": f"its process ended {cause}"}
    return found | {"seconds": round(time.monotonic() - each.begin, 1), "limit": round(each.seconds, 1)}


def _work(job: Job, device: str, small: bool, seconds: float, file: Path) -> None:
    """Run a job in this process."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    work = Work(device, small, seconds, file)
    try:
        module, _, name = job.function.partition(":")
        work.keep(getattr(importlib.import_module(module), name)(work, *job.arguments), "done")
    except Skipped as reason:
        work.keep({}, "skipped", reason=str(reason))
    except Exception as error:  # whatever it is, it is a result
        lines = traceback.format_exc().strip().splitlines()
        work.keep({}, "failed", reason=f"{type(error).__name__}: {first_line(error)}", trace=lines[-12:])


def _plain(value: Any) -> Any:
    """Return a value with floats of six digits, and None for what JSON has no number for."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
