"""Who is computed for, and when: so many at once, so many waiting, and nobody who has left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from .limits import GoneError, Limits, busy

T = TypeVar("T")
SMOOTHING = 0.1
"""Share of the latest job in the mean time of one."""


class Job:
    """One picture's work, as its worker sees it."""

    def __init__(self) -> None:
        self.arrived = time.perf_counter()
        self.stages: dict[str, float] = {}
        self.alone = True
        self._gone = False
        self._last = self.arrived

    def leave(self) -> None:
        """Note that nobody waits for it any more."""
        self._gone = True

    def lap(self, stage: str) -> None:
        """Note the seconds since the last stage ended as those of `stage`.

        Raises:
            GoneError: nobody waits for the next one.
        """
        now = time.perf_counter()
        self.stages[stage] = self.stages.get(stage, 0.0) + now - self._last
        self._last = now
        if self._gone:
            raise GoneError


class Gate:
    """A bounded queue before a few threads, first come, first served.

    Decoding, networks, kernels and compression let other threads run meanwhile, so that threads are enough: processes
    would hold each network once more.

    Args:
        limits: how many work, wait, and for how long.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pool = ThreadPoolExecutor(limits.workers, "featherseg-serve")
        self._slots = asyncio.Semaphore(limits.workers)
        self._job_seconds = 0.1
        self.running = 0
        self.waiting = 0

    def check(self) -> None:
        """Refuse a picture for which there is no place, best before it is sent.

        Raises:
            Refusal: with 503 and the time after which there should be one.
        """
        if self.running >= self._limits.workers and self.waiting >= self._limits.waiting:
            seconds = (self.waiting + 1) * self._job_seconds / self._limits.workers
            raise busy(f"{self.running} pictures are being segmented and {self.waiting} wait, as many as may", seconds)

    async def run(self, work: Callable[[Job], T], job: Job, gone: Callable[[], Awaitable[Any]]) -> T:
        """Do `work` in a thread when it is its turn; stop caring once what `gone` returns is done.

        Args:
            work: gets the job, and calls its :meth:`Job.lap` between stages.
            job: of the request.
            gone: returns what is done when the client has left; called where there is a place alone.

        Raises:
            GoneError: the client has left.
            Refusal: there is no place, or its turn has not come in time.
        """
        self.check()
        mine = asyncio.ensure_future(self._in_turn(work, job))
        watch = asyncio.ensure_future(gone())
        try:
            await asyncio.wait({mine, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not mine.done():
                raise GoneError
            return mine.result()
        finally:
            for task in (mine, watch):
                task.cancel()
            if not mine.done():
                job.leave()

    async def _in_turn(self, work: Callable[[Job], T], job: Job) -> T:
        self.waiting += 1
        left = self._limits.seconds - (time.perf_counter() - job.arrived)
        try:
            async with asyncio.timeout(max(left, 0.001)):
                await self._slots.acquire()
        except TimeoutError:
            raise busy(f"its turn has not come within {self._limits.seconds:g} s", self._job_seconds) from None
        finally:
            self.waiting -= 1
        self.running += 1
        job.alone = self.running == 1 and not self.waiting
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        try:
            future = self._pool.submit(self._begin, work, job)
        except BaseException:
            self._done(started)
            raise
        # Not when the task ends: a thread works on when nobody waits for it, and its place is not free before.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done, started))
        return await asyncio.wrap_future(future)

    @staticmethod
    def _begin(work: Callable[[Job], T], job: Job) -> T:
        job.lap("queue")
        return work(job)

    def _done(self, started: float) -> None:
        self.running -= 1
        self._slots.release()
        self._job_seconds += SMOOTHING * (time.perf_counter() - started - self._job_seconds)

    def close(self) -> None:
        """End the threads once they have nothing to do."""
        self._pool.shutdown(wait=False)
