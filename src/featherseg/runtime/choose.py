"""The fastest engine for a file on this machine: measured once, and remembered.

Never at another precision than asked for. An engine whose logits are not those of the file's own engine is left out:
a wrong mask is not fast.
"""

from __future__ import annotations

import hashlib
import json
import platform
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..core.errors import ArtifactError, ConfigError, FeathersegError
from ..core.files import cache_folder, sha256, write_atomically
from ..core.machine import available_threads, cpu_name, versions
from ..core.types import ImageArray
from .engines import Engine, engines_of
from .segmenter import Segmenter
from .sessions.base import artifact_suffixes
from .timing import time_in_turns

TIMED_SIZE = (512, 1024)
"""(height, width) that engines are timed at where neither the caller nor the file says one."""
RUNS, WARMUP = 6, 2
MAX_DEVIATION = 0.3
"""Largest distance of an engine's logits from those of the file's own engine, as a share of their spread. FastSegNet:
fp32 1e-6, an int8 file in its other engine 0.05, bf16 0.06; of unrelated logits it is 1.4."""
PACKAGES = ("featherseg", "onnxruntime", "onnxruntime-gpu", "openvino", "torch")


@dataclass(frozen=True)
class EngineChoice:
    """An engine, and why it was chosen.

    Args:
        engine: the fastest that was measured, or the only one.
        ms: median of each engine's network time, the fastest first; empty where there was no choice.
        left_out: why engines that read such files were not timed, by name.
        size: (height, width) that was timed.
        remembered: whether it was measured earlier.
    """

    engine: Engine
    ms: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    size: tuple[int, int] = TIMED_SIZE
    remembered: bool = False

    def __str__(self) -> str:
        if not self.ms:
            return f"{self.engine}, the only engine here that takes the file"
        times = ", ".join(f"{name} {ms:.1f} ms" for name, ms in self.ms.items())
        when = "remembered" if self.remembered else "measured now"
        return f"fastest of {times} at {self.size[0]}x{self.size[1]}, {when}"


def fastest_engine(
    path: str | Path,
    *,
    size: tuple[int, int] | None = None,
    threads: int | None = None,
    precision: str | None = None,
    cache: Path | None = None,
) -> EngineChoice:
    """Return the engine that runs an exported file fastest here, all at one precision, by a short timing in turns.

    Args:
        path: an exported file.
        size: (height, width) for the network; the file's own, or 512x1024, where left out.
        threads: of the engine; all that the process may use where left out.
        precision: what floats are computed in: as the file has them where left out, ``"bf16"``, ``"fp16"``, or
            ``"any"`` for whichever is fastest.
        cache: folder that remembers choices; the user's cache folder where left out. One that is damaged or cannot be
            written is passed over.

    Raises:
        ArtifactError: there is no such file, or no engine here takes it.
        ConfigError: `threads` or `precision` is not to be had.
    """
    path = Path(path)
    engines = engines_of(path, precision)
    if not engines:
        raise ArtifactError(f"{path}: is no exported file; those end in {', '.join(artifact_suffixes())}")
    if len(engines) == 1:
        return EngineChoice(engines[0])
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; give the file that `featherseg export` wrote")
    key = {
        "file": sha256(path),
        "engines": [str(engine) for engine in engines],
        "size": list(size) if size else None,
        "threads": available_threads() if threads is None else threads,
        "processor": f"{cpu_name()}, {platform.machine()}, {available_threads()} threads",
        "versions": versions(PACKAGES),
    }
    folder = cache or cache_folder()
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    place = folder / "engines" / f"{digest[:32]}.json" if folder else None
    known = _recall(place, key, engines)
    if known is not None:
        return known
    choice = _measure(path, engines, size, threads)
    if place is not None:
        data = {
            "key": key,
            "engine": str(choice.engine),
            "ms": choice.ms,
            "left_out": choice.left_out,
            "size": choice.size,
        }
        with suppress(OSError):  # what cannot be remembered is measured again
            write_atomically(place, lambda file: file.write(json.dumps(data, indent=1).encode()))
    return choice


def _recall(place: Path | None, key: dict[str, Any], engines: Sequence[Engine]) -> EngineChoice | None:
    """Return what was measured before, or None; whatever is wrong with the file, it is as if it were not there."""
    try:
        data = json.loads(place.read_text(encoding="utf-8")) if place else {}
        if data.get("key") != key:
            return None
        engine = next(engine for engine in engines if str(engine) == data["engine"])
        ms = {str(name): float(value) for name, value in data["ms"].items()}
        left_out = {str(name): str(reason) for name, reason in data["left_out"].items()}
        height, width = map(int, data["size"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, StopIteration):
        return None
    return EngineChoice(engine, ms, left_out, (height, width), remembered=True)


def _measure(path: Path, engines: Sequence[Engine], size: tuple[int, int] | None, threads: int | None) -> EngineChoice:
    """Open the file with each engine, time those that agree with the first, and return the fastest."""
    open_ones: dict[Engine, Segmenter] = {}
    left_out: dict[str, str] = {}
    first_error: FeathersegError | None = None
    for engine in engines:
        try:
            open_ones[engine] = Segmenter(engine.open(path, threads), size=size)
        except FeathersegError as error:
            if isinstance(error, ConfigError):
                raise  # a mistake in the call, the same for every engine
            first_error = first_error or error
            left_out[str(engine)] = str(error)
    if not open_ones:
        assert first_error is not None
        raise first_error
    fixed = next(iter(open_ones.values())).size
    frame = picture(fixed or TIMED_SIZE)
    reference = None
    for engine, segmenter in list(open_ones.items()):
        logits = segmenter.logits(frame)
        if reference is None:
            reference = logits
            continue
        deviation = float(np.std(logits - reference) / max(float(np.std(reference)), 1e-12))
        if not deviation <= MAX_DEVIATION:
            left_out[str(engine)] = f"its logits are {deviation:.0%} of their spread from those of {engines[0]}"
            del open_ones[engine]
    size = (frame.shape[0], frame.shape[1])
    if len(open_ones) == 1:
        return EngineChoice(next(iter(open_ones)), {}, left_out, size)
    times = time_in_turns({str(e): s for e, s in open_ones.items()}, frame, runs=RUNS, warmup=WARMUP)
    medians = {name: statistics.median(latency.stages["net"]) for name, latency in times.items()}
    ms = {name: round(medians[name], 3) for name in sorted(medians, key=lambda name: medians[name])}
    fastest = next(iter(ms))
    return EngineChoice(next(e for e in open_ones if str(e) == fastest), ms, left_out, size)


def picture(size: tuple[int, int], seed: int = 0) -> ImageArray:
    """Return a made-up RGB frame, uint8 (H, W, 3), of soft shapes and a little grain, as photographs have them."""
    rng = np.random.default_rng(seed)
    height, width = size
    coarse = rng.integers(0, 256, (max(height // 48, 2), max(width // 48, 2), 3), dtype=np.uint8)
    soft = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    grained = soft + rng.integers(-6, 7, soft.shape, dtype=np.int16)
    return np.asarray(np.clip(grained, 0, 255), np.uint8)
