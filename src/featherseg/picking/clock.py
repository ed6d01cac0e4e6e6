"""What a study took by now: the working time of all its processes, those included that were killed."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from ..core.files import write_atomically

TICK = 1.0
"""Seconds between two notes; a killed process loses no more."""


class WorkClock:
    """Notes this process's working time in a folder, as long as the block runs.

    Waiting for other processes is no work: a budget is for one process, and a second one makes it end sooner.

    Args:
        folder: that all processes of a study share.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex}.json"
        self._lock = threading.Lock()
        self._worked = 0.0
        self._since: float | None = None
        self._end = threading.Event()

    @contextmanager
    def running(self, since: float | None = None) -> Iterator[None]:
        """Work, and note it.

        Args:
            since: when that began, by ``time.monotonic``; now where left out.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._since = time.monotonic() if since is None else since
        thread = threading.Thread(target=self._note_on, name="work-clock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join()
            self._note()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Do no work."""
        with self._lock:
            self._worked, self._since = self._mine(), None
        try:
            yield
        finally:
            with self._lock:
                self._since = time.monotonic()

    def spent(self) -> float:
        """Return the seconds that all processes of the study have worked."""
        total = 0.0
        for file in self._folder.glob("*.json"):
            if file != self._file:
                with suppress(OSError, ValueError, TypeError):
                    total += float(json.loads(file.read_text(encoding="utf-8")))
        with self._lock:
            return total + self._mine()

    def _mine(self) -> float:
        return self._worked + (0.0 if self._since is None else time.monotonic() - self._since)

    def _note_on(self) -> None:
        while not self._end.wait(TICK):
            self._note()

    def _note(self) -> None:
        with self._lock:
            worked = self._mine()
        with suppress(OSError):  # the next note may fit
            write_atomically(self._file, lambda file: file.write(f"{worked:.2f}".encode()))
