"""Times that another device took, as the program of a bundle wrote them there."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, first_line
from ..core.text_files import parse_json, read_text
from ..runtime.engines import Engine
from .candidates import WEIGHTS, Candidate, Net, Variant, Way
from .timings import Timing

FORMAT = "featherseg device timings"
MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class DeviceTimings:
    """What a device took.

    Args:
        path: the file.
        fingerprint: of its content.
        name: of the device, for people.
        size: (height, width) of the frames.
        num_classes: of the candidates.
        found: times by candidate.
        failures: why others do not run there, by name.
        notes: what makes the times doubtful, such as heat.
        facts: processor, threads and versions there.
    """

    path: Path
    fingerprint: str
    name: str
    size: tuple[int, int]
    num_classes: int
    found: dict[Candidate, Timing]
    failures: dict[str, str]
    notes: tuple[str, ...]
    facts: dict[str, Any]


def read_device(path: str | Path) -> DeviceTimings:
    """Read a file of times.

    Raises:
        ConfigError: it is none, is damaged, or holds no time.
    """
    path = Path(path)
    try:
        text = read_text(path, MAX_BYTES)
        data = parse_json(text)
    except OSError as error:
        raise ConfigError(
            f"--on {path} cannot be read ({error.strerror}); give the file that the bundle wrote"
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"--on {path} is no JSON ({first_line(error)}); give the file that the bundle wrote"
        ) from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ConfigError(
            f"--on {path} holds no device's times; write one there with the program of featherseg bench --bundle"
        )
    try:
        height, width = (int(side) for side in data["size"])
        found = {_candidate(row): _timing(row) for row in data["results"] if row.get("ms")}
        failures = {str(row["name"]): str(row["failure"]) for row in data["results"] if row.get("failure")}
        device = DeviceTimings(
            path=path,
            fingerprint=hashlib.sha256(text.encode()).hexdigest()[:16],
            name=str(data["machine"]["name"]),
            size=(height, width),
            num_classes=int(data["num_classes"]),
            found=found,
            failures=failures,
            notes=tuple(str(note) for note in data["notes"]),
            facts=dict(data["machine"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"--on {path} is damaged ({first_line(error)}); run the bundle's program again") from error
    if not device.found:
        raise ConfigError(f"--on {path} holds no times: nothing ran there; run the bundle's program again")
    return device


def _candidate(row: Mapping[str, Any]) -> Candidate:
    if row["weights"] not in WEIGHTS:
        raise ValueError(f"weights {row['weights']!r}")
    engine = Engine(str(row["backend"]), row["precision"] and str(row["precision"]))
    net = Net(Variant(str(row["network"]), dict(row["options"])), float(row["scale"]))
    return Candidate(net, Way(str(row["weights"]), engine))


def _timing(row: Mapping[str, Any]) -> Timing:
    ms = row["ms"]
    stages = {str(stage): float(value) for stage, value in ms["stages"].items()}
    figures = [float(ms["p50"]), float(ms["p95"]), float(row["drift"]), *stages.values()]
    if not all(math.isfinite(figure) for figure in figures) or min(figures[:2]) <= 0:
        raise ValueError(f"times {figures[:2]}")
    return Timing(figures[0], figures[1], stages, int(row["runs"]), figures[2], str(row["device"]))
