"""Scores of a network on a dataset, counted by a pool of processes: the same bits as one process counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..core.progress import OnProgress, logger, no_progress
from ..data.class_maps import ClassMap
from ..data.datasets import SegmentationDataset
from ..evaluation.centerline import CenterlineDice
from ..evaluation.metrics import BoundaryF1, ConfusionMatrix
from ..evaluation.result import EvalResult
from ..evaluation.scores import Counts, Prepared, prepare
from ..runtime.fitting import Fit
from .cluster import check_numbers, cluster, flow, is_shared
from .worker import Model

MOST = 32
"""Images that a worker scores at a time."""
TURNS = 8
"""Times that a worker at least has images, where there are enough, so that all end at about the same time."""

Sums = list[np.ndarray[Any, np.dtype[np.int64]]]


def evaluate_dataset(
    model: str | Path,
    dataset: SegmentationDataset,
    *,
    workers: int | None = None,
    threads: int = 1,
    size: tuple[int, int] | None = None,
    fit: Fit | None = None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    boundary: bool = True,
    thin: Sequence[str] | None = None,
    class_map: ClassMap | None = None,
    progress: OnProgress = no_progress,
) -> EvalResult:
    """Return what :func:`featherseg.evaluate` does, from a pool of processes that share the images.

    All that is added up are whole numbers, so the scores are the same to the last bit, however the images are shared,
    as long as each process's engine gives the same masks. A cluster's machines must have the dataset's files at the
    same paths.

    Args:
        model: exported file, or run folder or weights.
        dataset: see :func:`featherseg.evaluate`; it travels to the processes, its files do not.
        workers: processes, one segmenter each; as many as there are processors for where left out.
        threads: of each.
        size: (height, width) for the network; see :class:`featherseg.Segmenter`.
        fit: how images come to that.
        scales: see :func:`featherseg.evaluate`; so are the others.
        flip: see there.
        boundary: see there.
        thin: see there.
        class_map: see there.
        progress: called with the numbers of images done and of all.

    Raises:
        ConfigError: as there, or a number of processes or threads is out of range.
        DataError: an image or mask cannot be read; a score leaves none out.
        MissingExtraError: Ray is not installed.
        MachineError: Ray does not start, or ends.
    """
    check_numbers(workers, threads)
    path = Path(model).expanduser().absolute() if Path(model).expanduser().exists() else Path(model)
    network = Model(str(path), path.read_bytes() if is_shared() and path.suffix == ".onnx" else None)
    job = _Job(network, dataset, threads, size, fit, tuple(scales), flip, boundary, thin, class_map)
    ready = Model(str(path)).open(size=size, fit=fit, threads=threads)
    here = job.prepared(ready)
    if here.rule:
        logger.info(here.rule)
    counts = _no_counts(here)
    lean = here.lean
    with cluster(workers, threads) as count:
        shares = partial(_shares, len(dataset), count)
        done = 0
        for number, sums in flow(shares, partial(_Scorer, job, lean), workers=count, threads=threads):
            for own, its in zip(_arrays(here, counts), sums, strict=True):
                own += its
            done += number
            progress(done, len(dataset))
    return here.result(counts)


@dataclass(frozen=True)
class _Job:
    """What each process evaluates; see :func:`evaluate_dataset`."""

    model: Model
    dataset: SegmentationDataset
    threads: int
    size: tuple[int, int] | None
    fit: Fit | None
    scales: tuple[float, ...]
    flip: bool
    boundary: bool
    thin: Sequence[str] | None
    class_map: ClassMap | None

    def prepared(self, segmenter: Any) -> Prepared:
        return prepare(
            segmenter,
            self.dataset,
            scales=self.scales,
            flip=self.flip,
            boundary=self.boundary,
            thin=self.thin,
            class_map=self.class_map,
            reliability=True,
        )


class _Scorer:
    """Scores ranges of the dataset in one process.

    Args:
        job: what is evaluated.
        lean: ids of the classes whose clDice is measured.
    """

    def __init__(self, job: _Job, lean: tuple[int, ...]) -> None:
        cv2.setNumThreads(job.threads)
        self.ready = job.prepared(job.model.open(size=job.size, fit=job.fit, threads=job.threads))
        self.lean = lean

    def __call__(self, share: range) -> tuple[int, Sums]:
        if self.ready.sureness is not None:  # which goes on counting
            for reliability in self.ready.sureness.found:
                for array in reliability.totals():
                    array[:] = 0
        return len(share), _arrays(self.ready, self.ready.score(share, self.lean))


def _shares(total: int, workers: int) -> Iterator[range]:
    """Give the samples in ranges."""
    length = min(max(total // (workers * TURNS), 1), MOST)
    for first in range(0, total, length):
        yield range(first, min(first + length, total))


def _no_counts(ready: Prepared) -> Counts:
    classes = ready.dataset.classes
    return (
        ConfusionMatrix(classes, others=ready.others),
        BoundaryF1(classes) if ready.boundary else None,
        CenterlineDice(classes, ready.lean) if ready.lean else None,
    )


def _arrays(ready: Prepared, counts: Counts) -> Sums:
    """Return the arrays of all counts, which are added up in place."""
    arrays = [array for metric in counts if metric is not None for array in metric.counts()]
    reliabilities = ready.sureness.found if ready.sureness is not None else ()
    return [*arrays, *(array for reliability in reliabilities for array in reliability.totals())]
