"""Finalists judged as they are deployed: exported, quantised, scored through their engine, timed in turns."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..compress.calibration import calibration_images
from ..compress.qdq import quantize_onnx
from ..core.errors import FeathersegError, first_line
from ..core.images import read_image
from ..core.precision import PRECISIONS
from ..core.progress import OnProgress, hidden, no_progress
from ..data.datasets import SegmentationDataset
from ..evaluation.candidates import Opening, peak_memory
from ..evaluation.metrics import BoundaryF1, ConfusionMatrix
from ..exporting.onnx import export_onnx
from ..models.checkpoint import Checkpoint, load_checkpoint
from ..models.session import describe
from ..runtime.segmenter import Segmenter
from .candidates import Candidate, Way
from .timings import Timing, time_whole_path

CALIBRATION = 32
EDGE = 1.25
"""Times the budget: what an untrained network took longer than is not judged."""
MOST_COUNTS = 20_000_000
"""Numbers in the confusion matrices of single images that are kept."""
TIMED_RUNS = 42
"""Runs of each finalist's files, in turns: two of them lie above the 95th percentile."""


@dataclass(frozen=True)
class Judged:
    """A finalist in one way of running it.

    Args:
        candidate: it.
        run: run folder of its weights.
        file: its exported file.
        miou: of the validation images, as deployed.
        boundary_f1: likewise.
        timing: of the whole path, measured with the trained file; of another device, what was measured there.
        peak_bytes: memory of a process that does nothing else; None where it was not measured.
        bytes: of the file.
        failure: why there are no figures.
    """

    candidate: Candidate
    run: str
    file: str = ""
    miou: float = float("nan")
    boundary_f1: float = float("nan")
    timing: Timing | None = None
    peak_bytes: int | None = None
    bytes: int = 0
    failure: str = ""

    def fits(self, limit_ms: float) -> bool:
        """Return whether it was judged and is in time."""
        return not self.failure and self.timing is not None and self.timing.p95 <= limit_ms

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        data = asdict(replace(self, timing=None)) | {"timing": self.timing.to_dict() if self.timing else None}
        data["candidate"] = self.candidate.key
        return {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in data.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], known: Mapping[str, Candidate]) -> Judged:
        """Rebuild it from what :meth:`to_dict` gave, for the same candidates."""
        scores = {key: float("nan") if data[key] is None else float(data[key]) for key in ("miou", "boundary_f1")}
        return cls(
            known[data["candidate"]],
            data["run"],
            data["file"],
            **scores,
            timing=Timing.from_dict(data["timing"]) if data["timing"] else None,
            peak_bytes=data["peak_bytes"],
            bytes=data["bytes"],
            failure=data["failure"],
        )


def ways_to_judge(candidates: Sequence[Candidate], p95: Mapping[str, float], limit_ms: float) -> list[Candidate]:
    """Return which candidates of a network are worth judging: of each precision the quickest that may be in time.

    Args:
        candidates: of one network at one size.
        p95: of those that were timed, by key.
        limit_ms: what the whole path may take.
    """
    chosen: dict[str, Candidate] = {}
    for candidate in candidates:
        ms = p95.get(candidate.key)
        best = chosen.get(candidate.way.precision)
        if ms is not None and (best is None or ms < p95[best.key]):
            chosen[candidate.way.precision] = candidate
    # A median may be in time where a percentile was not; the finals tell.
    found = [candidate for candidate in chosen.values() if p95[candidate.key] <= EDGE * limit_ms]
    return sorted(found, key=lambda candidate: PRECISIONS.index(candidate.way.precision))


class Finals:
    """Judges finalists.

    Args:
        folder: to write files to.
        val_set: labelled images that every score is of.
        train_set: whose images calibrate int8.
        picture: file that is decoded and segmented for times.
        threads: of the engines.
        measured: times by candidate that another device took; None where this one is meant.
    """

    def __init__(
        self,
        folder: Path,
        val_set: SegmentationDataset,
        train_set: SegmentationDataset,
        picture: Path,
        threads: int | None = None,
        measured: Mapping[str, Timing] | None = None,
    ) -> None:
        self.folder, self.val_set, self.train_set = folder, val_set, train_set
        self.picture, self.threads, self.measured = picture, threads, measured
        frame = read_image(picture)
        self.frame = frame.shape[0], frame.shape[1]

    def judge(
        self, finalists: Mapping[Candidate, Path], seconds: float = math.inf, progress: OnProgress = no_progress
    ) -> tuple[list[Judged], dict[str, NDArray[np.int64]]]:
        """Return what each is worth, and the confusion matrices of the images by candidate, int64 (N, C, C).

        Args:
            finalists: run folders by candidate, in the order in which they are judged.
            seconds: that it may take: further ones are not judged then, and memory is not measured; the first one is
                judged in any case.
            progress: called with the numbers of candidates done and of all.
        """
        begin = time.monotonic()
        judged: list[Judged] = []
        matrices: dict[str, NDArray[np.int64]] = {}
        ready: dict[str, Segmenter] = {}
        for done, (candidate, run) in enumerate(finalists.items(), start=1):
            result = Judged(candidate, str(run))
            taken = time.monotonic() - begin
            if matrices and taken + taken / done > seconds:
                judged.append(replace(result, failure="not judged: there was no time left for it"))
                continue
            try:
                file = self._file(candidate, run)
                segmenter = self._open(candidate.way, file)
                counts, borders = self._score(segmenter)
                confusion = ConfusionMatrix(self.val_set.classes)
                confusion.matrix[:] = counts.sum(axis=0)
                matrices[candidate.key] = counts
                result = replace(
                    result,
                    file=str(file),
                    miou=confusion.miou(),
                    boundary_f1=borders.mean(),
                    bytes=file.stat().st_size,
                )
                if self.measured is None:
                    ready[candidate.key] = segmenter.planned(self.frame)
                else:
                    result = replace(result, timing=self.measured.get(candidate.key))
            except FeathersegError as error:
                result = replace(result, failure=first_line(error))
            judged.append(result)
            progress(done, len(finalists))
        if ready:
            latencies = time_whole_path(ready, self.picture, runs=TIMED_RUNS, warmup=2)
            timings = {key: Timing.of(latency) for key, latency in latencies.items()}
            judged = [replace(each, timing=timings.get(each.candidate.key)) for each in judged]
            judged = self._with_memory(judged, begin + seconds)
        return judged, matrices

    def _with_memory(self, judged: list[Judged], until: float) -> list[Judged]:
        """Measure the memory of each, the best first, as long as there is time."""
        found: dict[str, int | None] = {}
        longest = 0.0
        for each in sorted(judged, key=lambda each: -each.miou if each.miou == each.miou else 0.0):
            begin = time.monotonic()
            if not each.file or begin + longest > until:
                continue
            engine = each.candidate.way.engine
            opening = Opening(each.file, engine.backend, engine.precision, self.threads, None)
            found[each.candidate.key] = peak_memory(opening, self.frame)
            longest = max(longest, time.monotonic() - begin)
        return [replace(each, peak_bytes=found.get(each.candidate.key)) for each in judged]

    def _file(self, candidate: Candidate, run: Path) -> Path:
        """Return the trained network's file for a way of running it, written where it is not there yet."""
        place = self.folder / candidate.net.slug
        float_file = place / f"{candidate.net.slug}.onnx"
        if not float_file.is_file():
            best = self._checkpoint(run)
            export_onnx(best.model, float_file, describe(best.model, best.classes, best.training))
        if candidate.way.weights == "fp32":
            return float_file
        path = place / f"{candidate.net.slug}_{candidate.way.file_kind}.onnx"
        if not path.is_file():
            spec = self._checkpoint(run).model.input_spec
            images = calibration_images(self.train_set, CALIBRATION, spec=spec)
            with hidden():
                quantize_onnx(float_file, path, images, flavour=candidate.way.flavour)
        return path

    def _checkpoint(self, run: Path) -> Checkpoint:
        return load_checkpoint(run)

    def _open(self, way: Way, file: Path) -> Segmenter:
        return Segmenter(way.engine.open(file, self.threads))

    def _score(self, segmenter: Segmenter) -> tuple[NDArray[np.int64], BoundaryF1]:
        """Return confusion matrices of the validation images, of a few each where they are many, and boundary F1."""
        count, classes = len(self.val_set), len(self.val_set.classes)
        block = -(-count * classes**2 // MOST_COUNTS)  # images whose counts are added up, so that the memory is bounded
        borders = BoundaryF1(self.val_set.classes)
        matrices = np.zeros((-(-count // block), classes, classes), np.int64)
        for index in range(count):
            image, target = self.val_set.read(index)
            mask = segmenter.segment(image)
            one = ConfusionMatrix(self.val_set.classes)
            one.update(target, mask)
            matrices[index // block] += one.matrix
            borders.update(target, mask)
        return matrices, borders
