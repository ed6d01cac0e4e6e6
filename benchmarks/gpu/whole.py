"""The whole run: parts in a fixed order, each with its share of the time, and a file that is always up to date."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jobs import Found, Job, run_jobs

from featherseg.core.files import write_atomically


@dataclass(frozen=True)
class Part:
    """A part of the run.

    Args:
        function: as ``"module:name"``; see :class:`jobs.Job`.
        share: of the time, against the other parts' shares; what a part leaves goes to those after it.
    """

    function: str
    share: float


def run_parts(
    parts: Mapping[str, Part],
    out: Path,
    *,
    device: str,
    small: bool,
    seconds: float,
    machine: Found,
    done: Callable[[str, Found], None] = lambda name, outcome: None,
) -> Found:
    """Run parts one after the other and return the report, which is written to `out` after each of them.

    Args:
        parts: by name, in their order.
        out: JSON file to write.
        device, small: told to the parts.
        seconds: that all of them may take.
        machine: what they run on, for the report.
        done: called with the name and the outcome of each part when it ended.
    """
    begin = time.monotonic()
    report: Found = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv[1:],
        "dry_run": small,
        "device": device,
        "machine": machine,
        "parts": {name: {"state": "not started", "reason": "the run ended before", "result": {}} for name in parts},
    }
    shares = {name: part.share for name, part in parts.items()}
    with tempfile.TemporaryDirectory() as folder:
        for name, part in parts.items():
            left = seconds - (time.monotonic() - begin)
            limit = left * shares[name] / sum(shares.values())
            del shares[name]
            job = Job(name, part.function, limit)
            report["parts"] |= run_jobs([job], Path(folder), device=device, small=small, seconds=limit)
            report["seconds"] = round(time.monotonic() - begin, 1)
            text = json.dumps(report, indent=1)
            write_atomically(out, lambda file, text=text: file.write(text.encode()))
            done(name, report["parts"][name])
    return report
