"""Which candidates are quick enough: far too slow ones by prediction, the rest by the clock, each with its reason."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..core.errors import FeathersegError
from ..core.files import cache_folder, write_atomically
from ..core.images import read_image
from ..core.machine import available_threads, cpu_name, versions
from ..core.progress import OnProgress, no_progress
from ..evaluation.profiling.layers import profile
from ..evaluation.profiling.peaks import Peaks
from ..runtime.segmenter import Segmenter
from .candidates import Candidate, Net, Variant, Way
from .files import CandidateFiles
from .layer_costs import NetCost, net_cost
from .prediction import REFERENCES, WORTH_IT, Prediction, Sample, fit_prediction
from .timings import Timing, time_many, time_whole_path

PROFILE_RUNS, PROFILE_WARMUP = 4, 2
SECONDS = 120.0
"""What timing may take, where the time for everything is no shorter,"""
SHARE = 0.15
"""or this share of it."""
EXPORT_SHARE = 0.2
"""Of the time for everything, after which no further candidate is exported."""
PACKAGES = ("featherseg", "onnxruntime", "openvino", "torch", "numpy", "numba")


@dataclass(frozen=True)
class Screened:
    """What is known of a candidate's time.

    Args:
        candidate: it.
        timing: as it was measured; None where it was not.
        predicted_ms: of its network, where it was left out by prediction.
        reason: why it was not measured.
    """

    candidate: Candidate
    timing: Timing | None = None
    predicted_ms: float | None = None
    reason: str = ""

    def fits(self, limit_ms: float) -> bool:
        """Return whether 95 of 100 pictures are done in time."""
        return self.timing is not None and self.timing.p95 <= limit_ms

    def near(self, limit_ms: float) -> bool:
        """Return whether half of the pictures at least are done in time: the finals may show that it fits."""
        return self.timing is not None and self.timing.p50 <= limit_ms

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {
            "candidate": self.candidate.key,
            "timing": self.timing.to_dict() if self.timing else None,
            "predicted_ms": self.predicted_ms,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Screening:
    """What is known of all candidates' times.

    Args:
        results: one for each candidate.
        notes: what makes them doubtful.
        seconds: that it took.
        export_seconds: of it, that exporting took.
    """

    results: tuple[Screened, ...]
    notes: tuple[str, ...]
    seconds: float = 0.0
    export_seconds: float = 0.0

    def fitting(self, limit_ms: float) -> list[Screened]:
        """Return the candidates that are in time."""
        return [result for result in self.results if result.fits(limit_ms)]

    def fastest(self) -> Screened | None:
        """Return the quickest candidate that was measured."""
        timed = [result for result in self.results if result.timing is not None]
        return min(timed, key=lambda result: result.timing.p95 if result.timing else 0.0, default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {
            "results": [result.to_dict() for result in self.results],
            "notes": list(self.notes),
            "seconds": self.seconds,
            "export_seconds": self.export_seconds,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], known: Sequence[Candidate]) -> Screening:
        """Rebuild it from what :meth:`to_dict` gave, for the same candidates.

        Raises:
            KeyError, TypeError, ValueError: it is no such thing, or of other candidates.
        """
        by_key = {candidate.key: candidate for candidate in known}
        results = tuple(
            Screened(
                by_key[row["candidate"]],
                Timing.from_dict(row["timing"]) if row["timing"] else None,
                row["predicted_ms"],
                str(row["reason"]),
            )
            for row in data["results"]
        )
        return cls(results, tuple(data["notes"]), float(data["seconds"]), float(data["export_seconds"]))


class Screener:
    """Finds out which candidates are quick enough on this machine.

    Args:
        files: of the candidates.
        picture: file that is decoded and segmented.
        limit_ms: what the whole path may take.
        threads: of the engines; all that the process may use where None.
        cache: folder that remembers what layers take; the user's where None.
    """

    def __init__(
        self,
        files: CandidateFiles,
        picture: Path,
        limit_ms: float,
        threads: int | None = None,
        cache: Path | None = None,
    ) -> None:
        self.files, self.picture, self.limit_ms, self.threads = files, picture, limit_ms, threads
        frame = read_image(picture)
        self.frame = frame.shape[0], frame.shape[1]
        self.cache = cache or cache_folder()
        self._costs: dict[tuple[str, tuple[int, int]], NetCost] = {}
        self._exporting = 0.0

    def screen(
        self,
        candidates: Sequence[Candidate],
        seconds: float = SECONDS,
        export_seconds: float = math.inf,
        progress: OnProgress = no_progress,
    ) -> Screening:
        """Time candidates, but for those that a prediction says are far too slow.

        Args:
            candidates: in the order in which they are timed where there is no time for all.
            seconds: that timing may take.
            export_seconds: after which no further candidate is exported; those of earlier calls are there still.
            progress: called with the numbers of candidates done and of all.
        """
        begin = time.monotonic()
        predictions, notes = self._predictions(candidates)
        left_out: dict[str, float] = {}
        files: dict[str, Path] = {}
        failures: dict[str, str] = {}
        for candidate in candidates:
            size = candidate.net.size(self.frame)
            prediction = predictions.get(candidate.way)
            if prediction is not None:
                cost = self._cost(candidate.net.variant, size)
                if prediction.far_too_slow(cost, self.limit_ms):
                    left_out[candidate.key] = prediction.ms(cost)
                    continue
            here = self.files.place(candidate.net.variant, candidate.way).is_file()
            if self._exporting > export_seconds and not here:
                failures[candidate.key] = "not exported: there was no time left for it"
                continue
            try:
                files[candidate.key] = self._exported(candidate)
            except FeathersegError as error:
                failures[candidate.key] = str(error)
        ready = {c.key: partial(self._open, c, files[c.key]) for c in candidates if c.key in files}
        timed = (
            time_many(
                ready,
                self.picture,
                limit_ms=self.limit_ms,
                seconds=seconds,
                threads=self.threads,
                progress=progress,
            )
            if ready
            else None
        )
        results = []
        for candidate in candidates:
            key = candidate.key
            result = Screened(candidate)
            if key in left_out:
                factor = predictions[candidate.way].margin
                reason = f"predicted {left_out[key]:.0f} ms; too slow even if that is {factor:.1f} times too much"
                result = replace(result, predicted_ms=left_out[key], reason=reason)
            elif timed is not None and key in timed.found:
                result = replace(result, timing=timed.found[key])
            elif key in failures or (timed is not None and key in timed.failures):
                result = replace(result, reason=failures.get(key) or (timed.failures[key] if timed else ""))
            else:
                result = replace(result, reason="not timed: there was no time left for it")
            results.append(result)
        notes += timed.notes if timed else ()
        return Screening(tuple(results), tuple(notes), time.monotonic() - begin, self._exporting)

    def _open(self, candidate: Candidate, file: Path) -> Segmenter:
        scale = candidate.net.scale
        size = None if scale == 1 else candidate.net.size(self.frame)
        return Segmenter(candidate.way.engine.open(file, self.threads), size=size)

    def _exported(self, candidate: Candidate) -> Path:
        begin = time.monotonic()
        try:
            return self.files.get(candidate.net.variant, candidate.way)
        finally:
            self._exporting += time.monotonic() - begin

    def _cost(self, variant: Variant, size: tuple[int, int]) -> NetCost:
        key = variant.slug, size
        if key not in self._costs:
            self._costs[key] = net_cost(self.files.model(variant), size)
        return self._costs[key]

    def _predictions(self, candidates: Sequence[Candidate]) -> tuple[dict[Way, Prediction], list[str]]:
        """Return what layers cost in each way, as far as that is worth finding out."""
        if len({str(candidate.net.variant) for candidate in candidates}) < WORTH_IT:
            return {}, []
        found, notes = {}, []
        for way in dict.fromkeys(candidate.way for candidate in candidates):
            prediction = self._remembered(way)
            if prediction is None:
                try:
                    prediction = self._fitted(way)
                except FeathersegError as error:
                    notes.append(f"nothing is predicted for {way}: {error}")
                    continue
            found[way] = prediction
        return found, notes

    def _fitted(self, way: Way) -> Prediction:
        """Time the layers of a few networks in a way, and fit what layers cost."""
        samples = []
        for network in REFERENCES:
            candidate = Candidate(Net(Variant(network)), way)
            path = self._exported(candidate)
            engine = way.engine
            timed = profile(
                path,
                self.frame,
                engine=engine.backend,
                precision=engine.precision or "fp32",
                threads=self.threads or available_threads(),
                runs=PROFILE_RUNS,
                warmup=PROFILE_WARMUP,
                peaks=lambda threads: Peaks(1.0, 1.0, threads),  # which nothing here asks for
            )
            cost = self._cost(candidate.net.variant, self.frame)
            layers = {layer.layer: layer.ms for layer in timed.layers if layer.layer in cost.layers}
            rest = sum(layer.ms for layer in timed.layers if layer.layer not in cost.layers)
            segmenter = self._open(candidate, path).planned(self.frame)
            whole = time_whole_path({"": segmenter}, self.picture, runs=PROFILE_RUNS)[""]
            samples.append(Sample(cost, layers, rest, whole.percentile(50, "net")))
        prediction = fit_prediction(samples)
        if (place := self._place(way)) is not None:
            text = json.dumps(prediction.to_dict(), indent=1)
            with suppress(OSError):  # what cannot be remembered is measured again
                write_atomically(place, lambda file: file.write(text.encode()))
        return prediction

    def _remembered(self, way: Way) -> Prediction | None:
        """Return what was fitted before on this machine; a file with whatever is wrong is as if it were not there."""
        place = self._place(way)
        try:
            return Prediction.from_dict(json.loads(place.read_text(encoding="utf-8"))) if place else None
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None

    def _place(self, way: Way) -> Path | None:
        if self.cache is None:
            return None
        machine = cpu_name(), available_threads(), self.threads, versions(PACKAGES), self.files.num_classes, str(way)
        digest = hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()
        return self.cache / "layers" / f"{digest[:32]}.json"


def timing_seconds(budget: float) -> float:
    """Return what timing may take of a time for everything."""
    return min(SECONDS, SHARE * budget)


def export_seconds(budget: float) -> float:
    """Return what exporting may take of a time for everything."""
    return EXPORT_SHARE * budget
