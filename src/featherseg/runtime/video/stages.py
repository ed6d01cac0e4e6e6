"""What a pipeline of threads is made of: bounded channels between them, and threads that keep their error."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

from ...core.types import Latency

POLL_SECONDS = 0.05
"""How often a waiting stage looks whether the others have stopped."""
KEPT_LAPS = 10_000
"""Frames whose times are kept, the last ones: a camera may run for months."""

T = TypeVar("T")
R = TypeVar("R")


class Channel(Generic[T]):
    """A bounded queue from one thread to one other; neither waits on once `stop` is set.

    Args:
        size: items that may wait.
        stop: set when the pipeline ends early.
        lossy: whether the oldest item makes way for a new one where there is no room, instead of the new one waiting.
    """

    def __init__(self, size: int, stop: threading.Event, *, lossy: bool = False) -> None:
        self.dropped = 0
        self.silent = False
        self._queue: queue.Queue[T | None] = queue.Queue(size)
        self._stop, self._lossy = stop, lossy

    def put(self, item: T) -> bool:
        """Add an item; return False if the pipeline stopped before there was room."""
        while self._lossy and not self._stop.is_set():
            try:
                self._queue.put_nowait(item)
                return True
            except queue.Full:
                self._drop_oldest()
        return self._wait_to_put(item)

    def close(self) -> None:
        """Tell the other side that nothing follows."""
        self._wait_to_put(None)

    def items(self, patience: float | None = None) -> Iterator[T]:
        """Yield items until the channel is closed, or it is empty and the pipeline stopped.

        Args:
            patience: seconds without an item after which `silent` is set and no more are awaited; None waits for ever.
        """
        waited_since = time.monotonic()
        while True:
            try:
                item = self._queue.get(timeout=POLL_SECONDS)
            except queue.Empty:
                self.silent = patience is not None and time.monotonic() - waited_since > patience
                if self._stop.is_set() or self.silent:
                    return
                continue
            if item is None:
                return
            yield item
            waited_since = time.monotonic()

    def _wait_to_put(self, item: T | None) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    def _drop_oldest(self) -> None:
        try:
            self._queue.get_nowait()
            self.dropped += 1
        except queue.Empty:  # it was taken in the meantime
            pass


class Stage(threading.Thread):
    """A thread that keeps its error for the caller, and a daemon: it holds up no exit.

    Args:
        name: what it does.
        work: does it.
        stop: set when `work` fails, where the others are to end then.
    """

    def __init__(self, name: str, work: Callable[[], None], stop: threading.Event | None = None) -> None:
        super().__init__(name=f"featherseg-{name}", daemon=True)
        self.error: BaseException | None = None
        self._work, self._stop_all = work, stop

    def run(self) -> None:
        """Do the work."""
        try:
            self._work()
        except BaseException as error:
            self.error = error
            if self._stop_all is not None:
                self._stop_all.set()


def in_order(
    work: Callable[[T], R], items: Iterable[T], count: int, stop: threading.Event
) -> Generator[tuple[T, R], None, None]:
    """Yield items with what `work` makes of each, in their order, while threads are at work on those that follow.

    Args:
        work: called in one of the threads; or in this one, if it is to be the only one.
        items: read in yet another thread, so that what is done need not wait for the next.
        count: threads.
        stop: set where the caller wants no more, or work fails; reading `items` then has to end.
    """
    if count == 1:
        for item in items:
            yield item, work(item)
        return
    begun: Channel[tuple[T, Future[R]]] = Channel(count - 1, stop)
    pool = ThreadPoolExecutor(count, "featherseg-segment")

    def begin() -> None:
        try:
            for item in items:
                if not begun.put((item, pool.submit(work, item))):
                    return
        finally:
            begun.close()

    reader = Stage("begin", begin)
    reader.start()
    try:
        for item, future in begun.items():
            while not future.done():
                wait((future,), POLL_SECONDS)  # for ever would let no Ctrl-C through on Windows
            yield item, future.result()
    except BaseException:
        stop.set()
        raise
    finally:
        reader.join()
        pool.shutdown(cancel_futures=True)
    if reader.error is not None:
        raise reader.error


class Lap:
    """Adds the milliseconds of a ``with`` block to `laps`; a block that raises is not counted."""

    def __init__(self, laps: dict[str, float], stage: str) -> None:
        self._laps, self._stage = laps, stage

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._laps[self._stage] = self._laps.get(self._stage, 0.0) + (time.perf_counter() - self._start) * 1000


class LapTable:
    """The times of the last :data:`KEPT_LAPS` frames that went the whole way."""

    def __init__(self) -> None:
        self._rows: deque[dict[str, float]] = deque(maxlen=KEPT_LAPS)

    def add(self, laps: dict[str, float]) -> None:
        """Add a frame's times in ms, by stage."""
        self._rows.append(laps)

    def latency(self, device: str) -> Latency:
        """Return the times, by stage."""
        stages = self._rows[0] if self._rows else {}
        return Latency({stage: tuple(row[stage] for row in self._rows) for stage in stages}, 0, device)
