"""Where processor time goes: each part's own, without the parts that it calls."""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any


class Clock:
    """Seconds of parts, each without the parts that it calls.

    Args:
        timer: of processor time, or another.
    """

    def __init__(self, timer: Callable[[], float] = time.process_time) -> None:
        self.timer = timer
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._last = timer()

    def begin(self) -> None:
        """Begin anew."""
        self.seconds.clear()
        self._last = self.timer()

    def lap(self) -> None:
        """Give the time since the last lap to the innermost part."""
        now = self.timer()
        self.seconds[self._open[-1] if self._open else "all else"] += now - self._last
        self._last = now

    def watch(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, whose time is the part's."""

        @functools.wraps(function)
        def watched(*given: Any, **options: Any) -> Any:
            self.lap()
            self._open.append(part)
            try:
                return function(*given, **options)
            finally:
                self.lap()
                self._open.pop()

        return watched
