"""Ray: work that flows through a pool of processes, on this machine or on many. All that imports Ray is here."""

from __future__ import annotations

import logging
import os
import pickle
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ..core.errors import ConfigError, FeathersegError, MachineError, first_line, require
from ..core.machine import available_threads
from ..core.text_files import shortened

I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741

ADDRESS = "RAY_ADDRESS"
"""Variable that names the cluster, as for all of Ray; ``auto`` is the one that was started on this machine."""
STORE = 128 << 20
"""Bytes of shared memory that a Ray of our own takes: only lists of pictures and the network go through it."""
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "180",  # 30 by default, which a busy machine needs more than; so of the next
    "RAY_agent_register_timeout_ms": "180000",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # what its processes say goes to their own files
}
"""What a Ray of our own is started with, where a variable is not set."""
AT_IMPORT = {
    # Workers of a program that ``uv run`` started get copies of its folder and an environment made for each, which
    # takes minutes and gigabytes, and is of use on other machines only.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # What becomes of a worker's task is told to this program, which says so; Ray would tell standard output too.
    "RAY_DEDUP_LOGS_SKIP_REGEX": "the task will be retried",
}
"""What Ray reads when it is imported, where a variable is not set and no cluster is named."""


@contextmanager
def cluster(workers: int | None, threads: int) -> Iterator[int]:
    """Connect with the cluster that ``RAY_ADDRESS`` names, or start Ray here, and give the number of workers.

    A Ray that runs in this process already is used, and left running.

    Args:
        workers: processes; as many as there are processors for where None.
        threads: of each.

    Raises:
        ConfigError: the numbers are none, or no cluster answers.
        MachineError: Ray does not start.
        MissingExtraError: Ray is not installed.
    """
    check_numbers(workers, threads)
    with _variables():
        ray = _import()
        if started := not ray.is_initialized():
            _start(ray, workers or max(available_threads() // threads, 1), threads)
        try:
            processors = int(ray.cluster_resources().get("CPU", 1))
            yield workers or max(processors // threads, 1)
        finally:
            if started:
                ray.shutdown()


def check_numbers(workers: int | None, threads: int) -> None:
    """Refuse numbers of processes and threads that are none.

    Raises:
        ConfigError: one is less than 1.
    """
    for name, number in (("workers", workers), ("threads", threads)):
        if number is not None and number < 1:
            raise ConfigError(f"{name} is {number}; give at least 1")


def is_shared() -> bool:
    """Return whether work goes to a cluster, whose machines lack this one's files."""
    if os.environ.get(ADDRESS):
        return True
    return bool(_import().is_initialized())


def _import() -> Any:
    if not os.environ.get(ADDRESS):
        os.environ.update({name: value for name, value in AT_IMPORT.items() if name not in os.environ})
    ray = require("ray", "ray", "Working with Ray")
    require("ray.data", "ray", "Working with Ray")
    # Of its own deprecations, and that few pictures do not occupy all workers. Set once: threads of Ray's warn.
    warnings.filterwarnings("ignore", module=r"ray\.")
    return ray


@contextmanager
def _variables() -> Iterator[None]:
    """Set what is not set in the environment while the block runs; Ray's processes inherit it."""
    added = {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _start(ray: Any, workers: int, threads: int) -> None:
    address = os.environ.get(ADDRESS)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not address:
        quiet |= {"num_cpus": workers * threads, "object_store_memory": STORE, "include_dashboard": False}
    try:
        with _no_standard_error():
            ray.init(address=address or "local", **quiet)
    except Exception as error:  # its own are of many types
        why = shortened(first_line(error), 200)
        if address:
            raise ConfigError(f"{ADDRESS} is {address}, where no cluster answers ({why}); check it") from error
        raise MachineError(f"Ray does not start ({why}); close other programs, or work without --ray") from error


@contextmanager
def _no_standard_error() -> Iterator[None]:
    """Let nothing that C++ writes to standard error be seen while the block runs, such as that it will say nothing."""
    with os.fdopen(os.dup(2), "wb") as kept, Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept.fileno(), 2)


def flow(
    items: Callable[[], Iterable[I]],
    make: Callable[[], Callable[[I], O]],
    *,
    workers: int,
    threads: int,
) -> Iterator[O]:
    """Send items through a pool of processes, and give what becomes of them as it comes, in no particular order.

    The items are made in a process of their own, when they are needed: neither they nor the results are ever held as a
    whole. Items whose process ended are taken up by another.

    Args:
        items: makes them, the same ones if it is called again.
        make: makes what a worker works with, once in each.
        workers: processes.
        threads: processors that each is given.

    Raises:
        FeathersegError: what making or doing an item raised.
        MachineError: Ray ended.
    """
    ray = _import()
    context = ray.data.DataContext.get_current()
    settings = {
        "enable_progress_bars": False,
        "print_on_execution_start": False,
        "target_max_block_size": 1,  # bytes: each item is a block of Ray's, so that it is passed on by itself
    }
    before = {name: getattr(context, name) for name in settings if hasattr(context, name)}
    log = logging.getLogger("ray.data")
    level = log.level

    def made(_: Any) -> Iterator[dict[str, list[bytes]]]:
        try:
            for item in items():
                yield {"item": [pickle.dumps(item)]}
        except FeathersegError as error:  # goes the way of the items: Ray's own way would bury its line
            yield {"item": [pickle.dumps(error)]}

    class Pooled:
        def __init__(self) -> None:
            self.work: Callable[[I], O] | FeathersegError
            try:
                self.work = make()
            except FeathersegError as error:
                self.work = error

        def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
            return {"result": [pickle.dumps(self.of(pickle.loads(bytes(item)))) for item in batch["item"]]}

        def of(self, item: I | FeathersegError) -> O | FeathersegError:
            if isinstance(item, FeathersegError):
                return item
            if isinstance(self.work, FeathersegError):
                return self.work
            try:
                return self.work(item)
            except FeathersegError as error:
                return error

    try:
        log.setLevel(logging.ERROR)
        for name in before:
            setattr(context, name, settings[name])
        pool = ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2)
        listed = ray.data.from_items([{"item": 0}]).map_batches(made, batch_size=None, num_cpus=0)
        worked = listed.map_batches(Pooled, batch_size=None, compute=pool, num_cpus=threads)
        for batch in worked.iter_batches(batch_size=None, prefetch_batches=0):
            for each in batch["result"]:
                result = pickle.loads(bytes(each))
                if isinstance(result, FeathersegError):
                    raise result
                yield result
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        why = shortened(first_line(cause or error), 300)
        raise MachineError(
            f"Ray stopped ({why}); its logs are in the folder ray of the system's temporary one"
        ) from error
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        log.setLevel(level)
