"""Counters and times in Prometheus' text format, version 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping

from ..core.machine import resident_bytes

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds in seconds, of requests and of their stages."""
HELP = {
    "featherseg_requests_total": "Requests by address, model and status; 499 are of clients that went away.",
    "featherseg_request_seconds": "Time from a request's head to the end of its answer, by address.",
    "featherseg_stage_seconds": "Time of a picture's stages: receive, queue, decode, segment, encode.",
    "featherseg_received_bytes_total": "Bytes of bodies that were announced.",
    "featherseg_running": "Pictures that are being segmented.",
    "featherseg_waiting": "Pictures that wait for their turn.",
    "featherseg_body_bytes": "Bytes of bodies that are held.",
    "featherseg_draining": "1 once the server is ending.",
    "featherseg_resident_bytes": "Memory of the process.",
}
Labels = tuple[tuple[str, str], ...]


class Histogram:
    """How many values lie below each bound, and their sum."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(BUCKETS, value)] += 1
        self.total += value

    def lines(self, name: str, labels: Labels) -> Iterator[str]:
        """Yield its samples."""
        below = 0
        for bound, count in zip((*map(repr, BUCKETS), "+Inf"), self.counts, strict=True):
            below += count
            yield f"{name}_bucket{_written((*labels, ('le', bound)))} {below}"
        yield f"{name}_sum{_written(labels)} {self.total!r}"
        yield f"{name}_count{_written(labels)} {below}"


class Metrics:
    """What a server has done. Names of addresses and models are the server's own: clients cannot make more of them."""

    def __init__(self) -> None:
        self._counters: dict[str, dict[Labels, float]] = defaultdict(lambda: defaultdict(float))
        self._histograms: dict[str, dict[Labels, Histogram]] = defaultdict(lambda: defaultdict(Histogram))

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        self._counters[name][tuple(labels.items())] += amount

    def time(self, name: str, seconds: float, **labels: str) -> None:
        """Add to a histogram."""
        self._histograms[name][tuple(labels.items())].add(seconds)

    def text(self, gauges: Mapping[str, float]) -> str:
        """Return everything, and `gauges` as they are now."""
        lines: list[str] = []
        for name, values in self._counters.items():
            lines += _head(name, "counter")
            lines += [f"{name}{_written(labels)} {value!r}" for labels, value in values.items()]
        for name, histograms in self._histograms.items():
            lines += _head(name, "histogram")
            for labels, histogram in histograms.items():
                lines += histogram.lines(name, labels)
        memory = resident_bytes()
        now = dict(gauges) | ({} if memory is None else {"featherseg_resident_bytes": float(memory)})
        for name, value in now.items():
            lines += [*_head(name, "gauge"), f"{name} {value!r}"]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str) -> list[str]:
    return [f"# HELP {name} {HELP[name]}", f"# TYPE {name} {kind}"]


def _written(labels: Labels) -> str:
    escaped = ((key, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")) for key, value in labels)
    inner = ",".join(f'{key}="{value}"' for key, value in escaped)
    return f"{{{inner}}}" if inner else ""
