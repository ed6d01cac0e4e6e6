"""A rate that a video is to keep: which file, at which size, holds it on this machine, by trying them out.

What has most mIoU is tried first, and what holds the rate is taken, so that a fast machine gives nothing away. What the
sizes cost was measured when the file was proven; see :func:`featherseg.compress.proven.quantize_proven`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...core.errors import ArtifactError, ConfigError, DataError, FeathersegError, MissingExtraError
from ...core.types import ImageArray
from ..artifact import read_artifact
from ..choose import picture
from ..model_folder import model_files
from ..postprocess import kernels
from ..segmenter import Segmenter
from .pipeline import segment_video
from .sources import Frame, Sound, Source, StreamSource, open_source

SCALES = (1.0, 0.8, 0.65, 0.5)
"""Parts of its usual size that a network is tried at; each has about two thirds of the pixels of the one before."""
SPARE = 1.05
"""How many times the rate a trial has to reach: other frames take longer than those it saw."""
WARMUP = 10
"""Frames of a trial that are not counted: engine, encoder and the queues between them begin with these."""
SECONDS = 1.0
"""How long a trial goes on after them."""
FEWEST = 8
"""Frames that are counted at least."""
MADE_UP = 8
"""Different pictures that stand for those of a live source, which gives each frame once."""


@dataclass(frozen=True)
class Candidate:
    """A file at a size.

    Args:
        path: exported file, or what else :class:`.Segmenter` opens.
        scale: part of its usual size.
        miou: what it is expected to have (0-1); None where nobody measured that.
    """

    path: Path
    scale: float
    miou: float | None


class Trial(NamedTuple):
    """What a trial found.

    Args:
        fps: frames per second.
        frame_size: (height, width) of the frames.
    """

    fps: float
    frame_size: tuple[int, int]


@dataclass(frozen=True)
class Pace:
    """What was chosen for a rate.

    Args:
        candidate: the file and its size.
        segmenter: which is open.
        seen: (height, width) at which the network sees the frames.
        fps: frames per second that it made.
        wanted: that it was to make.
        best: mIoU of the most accurate candidate, as far as that is known.
    """

    candidate: Candidate
    segmenter: Segmenter
    seen: tuple[int, int]
    fps: float
    wanted: float
    best: float | None

    @property
    def held(self) -> bool:
        """Whether it makes the rate."""
        return self.fps >= self.wanted * SPARE

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        file, size = self.candidate.path.name, list(self.seen)
        return {"file": file, "size": size, "fps": self.fps, "wanted": self.wanted, "miou": self.candidate.miou}

    def __str__(self) -> str:
        chosen = f"{self.candidate.path.name} at {self.seen[0]}x{self.seen[1]}"
        if not self.held:
            short = 100 * (1 - self.fps / self.wanted)
            missed = f"{short:.0f} % fewer" if short >= 1 else "too close to it"
            return f"nothing holds {self.wanted:g} frames/s here: {chosen}, the fastest, makes {self.fps:.1f}, {missed}"
        cost = ""
        if self.candidate.miou is not None and self.best is not None:
            cost = f", mIoU {100 * self.candidate.miou:.1f} where the best has {100 * self.best:.1f}"
        elif self.candidate.scale != 1:
            cost = ", what that costs in mIoU is not known"
        return f"{self.wanted:g} frames/s: {chosen} makes {self.fps:.1f} here{cost}"


def candidates(model: Path) -> list[Candidate]:
    """Return the files of a model folder, or the one file, at all sizes: the most accurate first.

    The mIoU at a size is the file's own less what the size costs, which is measured once for a folder. Where it is not,
    larger sizes come first.
    """
    scores: dict[Path, float | None] = {}
    costs: dict[float, float] = {}
    for path in model_files(model):
        scores[path], table = _scores(path)
        if table:
            costs = {scale: table[1.0] - miou for scale, miou in table.items()}
    found = []
    for path, miou in scores.items():
        for scale in SCALES:
            expected = None if miou is None else miou if scale == 1 else _less(miou, costs.get(scale))
            found.append(Candidate(path, scale, expected))
    if all(each.miou is not None for each in found):
        return sorted(found, key=lambda each: (-(each.miou or 0), -each.scale))
    return sorted(found, key=lambda each: (-each.scale, -(scores[each.path] or 0)))


def choose_pace(
    model: Path,
    rate: float,
    trial: Callable[[Segmenter], Trial],
    *,
    threads: int | None = None,
) -> Pace:
    """Return the most accurate file and size of a model that make a rate, or else the fastest.

    Args:
        model: a model folder or an exported file.
        rate: frames per second to hold.
        trial: returns how many a segmenter makes; see :func:`rehearse`.
        threads: of the engines; all that the process may use where left out.

    Raises:
        ConfigError: `rate` is out of range.
        FeathersegError: no file can be opened.
    """
    if not 0 < rate <= 1000:
        raise ConfigError(f"--fps is {rate:g}; give the frames per second to hold, such as 30")
    every = candidates(model)
    best = max((each.miou for each in every if each.miou is not None), default=None)
    goal = rate * SPARE
    fastest: Pace | None = None
    ceilings: dict[Path, float] = {}  # frames per second by the pixels seen, of which no smaller size makes more
    failures: dict[Path, FeathersegError] = {}
    for each in every:
        hopeless = ceilings.get(each.path, goal) / each.scale**2 < goal
        if each.path in failures or (hopeless and each.scale != min(SCALES)):  # the smallest may be the fastest of all
            continue
        try:
            segmenter = Segmenter(each.path, scale=each.scale, threads=threads)
            tried = trial(segmenter)
        except (ArtifactError, ConfigError, MissingExtraError) as error:
            failures[each.path] = error
            continue
        pace = Pace(each, segmenter, segmenter.seen(tried.frame_size), tried.fps, rate, best)
        if pace.held:
            return pace
        ceilings[each.path] = pace.fps * each.scale**2
        if fastest is None or pace.fps > fastest.fps:
            fastest = pace
    if fastest is None:
        raise next(iter(failures.values()), ArtifactError(f"{model} holds no exported file; ship the network again"))
    return fastest


def rehearse(segmenter: Any, source: Source, output: Path | None, **how: Any) -> Trial:
    """Return how many frames per second a segmenter makes of such as a source has, drawing and writing included.

    Files and folders are opened once more and their own first frames segmented; of live sources made-up frames stand
    for those.

    Args:
        segmenter: what segments frames.
        source: which is left as it is.
        output: where the video will go; a file of this kind is written elsewhere, and removed. None to write none.
        how: what :func:`.segment_video` is told beside.
    """
    kernels(None)
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        target = None if output is None else Path(folder, f"trial{output.suffix}")
        frames = _Rehearsal(source, times)
        segment_video(segmenter, frames, target, on_frame=lambda *_: times.append(time.perf_counter()), **how)
    counted = times[WARMUP:]
    return Trial((len(counted) - 1) / (counted[-1] - counted[0]), frames.frame_size)


@dataclass
class _Rehearsal:
    """Frames as a source has them, for a while.

    Args:
        of: the source.
        done: when each frame was segmented, so far.
    """

    of: Source
    done: list[float]
    name: str = "trial"
    live: bool = False
    total: int | None = None
    skipped: int = 0
    notes: list[str] = field(default_factory=list)
    sound: Sound | None = None
    started: float = field(default_factory=time.perf_counter)
    frame_size: tuple[int, int] = (1, 1)

    def frames(self) -> Generator[Frame, None, None]:
        """Yield them until enough are done."""
        rate = Fraction(25)
        with closing(self._endless()) as images:
            for i, (image, laps) in enumerate(images):
                counted = self.done[WARMUP:]
                if len(counted) >= FEWEST and counted[-1] - counted[0] > SECONDS:
                    return
                self.frame_size = image.shape[0], image.shape[1]
                yield Frame(image, i, 1 / rate, rate, 1, laps=laps)

    def close(self) -> None:
        """Do nothing."""

    def _endless(self) -> Generator[tuple[ImageArray, dict[str, float]], None, None]:
        if isinstance(self.of, StreamSource) and (self.of.live or not Path(self.of.name).is_file()):
            pictures = [picture(self.of.frame_size, seed) for seed in range(MADE_UP)]
            for i in count():
                yield pictures[i % MADE_UP], {"decode": 0.0}
        while True:
            again = open_source(self.of.name)
            try:
                for frame in again.frames():
                    yield frame.image, frame.laps
            except DataError:  # a damaged end, which is for the video itself to tell
                if not self.done:
                    raise
            finally:
                again.close()


def _scores(path: Path) -> tuple[float | None, dict[float, float]]:
    """Return what a file says of its own mIoU, and of it by scale."""
    try:
        said = read_artifact(path).verification
    except ArtifactError:
        return None, {}
    miou = said.get("miou")
    table = said.get("scales", [])
    try:
        by_scale = {float(scale): float(value) for scale, value in table}
    except (TypeError, ValueError):
        by_scale = {}
    usable = 1.0 in by_scale and all(np.isfinite(value) for value in by_scale.values())
    return float(miou) if isinstance(miou, int | float) else None, by_scale if usable else {}


def _less(miou: float, cost: float | None) -> float | None:
    return None if cost is None else miou - cost
