"""Pictures by the million: listed, segmented by a pool of processes, and entered into an index."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..core.errors import ConfigError, DataError
from ..core.progress import OnProgress, logger, no_progress
from ..runtime.draw import ALPHA, check_alpha
from ..runtime.fitting import Fit
from .cluster import check_numbers, cluster, flow, is_shared
from .index import Index, Tally
from .listing import Picture, Sources, blocks, sources_of, unseen
from .places import Options, require_writable
from .results import INDEX, MASKS, Record, Results, model_digest
from .seen import Seen
from .worker import Job, Model, Worker

BLOCK = 128
"""Pictures that are entered into the index together, and at most done again by each worker after a kill."""


@dataclass(frozen=True)
class BatchResult:
    """What :func:`segment_dataset` did.

    Args:
        done: pictures with a mask, those of earlier calls with them.
        failed: pictures without; the index says why.
        kept: pictures that earlier calls had done.
        coverage: mean share of the pixels of each class over the pictures with a mask.
        confidence: their mean confidence; None where it was not asked for.
        masks: address of the folder of masks.
        index: address of the folder of the index.
        first_error: path and error of one that failed; empty where none did.
    """

    done: int
    failed: int
    kept: int
    coverage: dict[str, float]
    confidence: float | None
    masks: str
    index: str
    first_error: str = ""


def segment_dataset(
    model: str | Path,
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    workers: int | None = None,
    threads: int = 1,
    size: tuple[int, int] | None = None,
    fit: Fit | None = None,
    confidence: bool = True,
    overlays: bool = False,
    alpha: float = ALPHA,
    background: bool = False,
    column: str = "",
    resume: bool = False,
    block: int = BLOCK,
    options: Options | None = None,
    out_options: Options | None = None,
    progress: OnProgress = no_progress,
) -> BatchResult:
    """Segment pictures with a pool of processes: write masks, and a Parquet index with a row for each picture.

    ``out/masks/<name>.png`` are palette PNGs as of :func:`featherseg.predict`; ``out/index`` has the columns ``path``,
    ``mask``, ``height``, ``width``, ``coverage``, ``confidence`` and ``error``. A picture that cannot be read or
    segmented is a row with an error. Memory does not grow with the number of pictures, but for eight bytes of each path
    and of each name in the process that lists them.

    Where the variable ``RAY_ADDRESS`` is set, or Ray is connected already, that cluster does the work; else this
    machine. A cluster's machines must reach `sources` and `out` by the addresses given; an .onnx file travels there by
    itself.

    Args:
        model: exported file, or run folder or weights.
        sources: pictures, folders, addresses such as ``s3://bucket/photos``, or Parquet tables of pictures or of their
            addresses (``photos/*.parquet``).
        out: folder or address to write to.
        workers: processes, one segmenter each; as many as there are processors for where left out.
        threads: of each.
        size: (height, width) for the network; see :class:`featherseg.Segmenter`.
        fit: how pictures come to that.
        confidence: compute how sure masks are, which takes a few percent of the time.
        overlays: write ``out/overlays/<name>.jpg`` too.
        alpha: share of the colours in these, 0–1.
        background: whether the background is coloured in them too.
        column: of the tables; found by its type and name where empty.
        resume: go on with what an earlier call left in `out`. What is in its index stays; pictures that failed are
            tried again.
        block: pictures that are entered into the index together.
        options: of the object stores that pictures are in, as fsspec takes them.
        out_options: of the one that results go to.
        progress: called with the numbers of pictures done and of those that were counted until then.

    Raises:
        ConfigError: an argument is out of range, or `out` holds files of a person, results with other settings, or,
            unless `resume` is set, results at all.
        DataError: a source is not there, no picture could be segmented, or results cannot be written.
        MissingExtraError: Ray, or the package of an object store, is not installed.
        MachineError: Ray does not start, or ends.
    """
    check_alpha(alpha)
    check_numbers(workers, threads)
    if block < 1:
        raise ConfigError(f"block is {block}; give at least 1")
    path = Path(model).expanduser().absolute()
    results = Results(str(out), out_options or {})
    require_writable(results.place)
    chosen = sources_of(sources, out=str(out), column=column, options=options or {})
    chosen.check()
    shared = is_shared()
    network = Model(str(path), path.read_bytes() if shared and path.suffix == ".onnx" else None)
    classes = Model(str(path)).open(size=size, fit=fit, threads=threads).artifact.classes.names
    record = Record(
        path.name,
        model_digest(path),
        classes,
        size,
        fit,
        confidence,
        overlays,
        alpha if overlays else ALPHA,
        background,
    )
    results.begin(record, resume)
    index = Index(results.index, classes)
    total = index.retry_failed()
    kept, notes = total.done, results.leftovers()
    if kept:
        logger.info(f"{kept} pictures are done already")
    files = frozenset(file for note in notes.values() for file in note)
    job = Job(network, record, results, uuid.uuid4().hex, column, threads, files, options or {})
    counted = _Counted(chosen)
    with cluster(workers, threads) as count:
        listed = partial(_listed, chosen, index, tuple(index.parts()), block, count)
        for done in flow(listed, partial(Worker, job), workers=count, threads=threads):
            total.add(done)
            progress(total.done + total.failed, max(counted.number, total.done + total.failed))
    for name in notes:
        (index.folder / name).remove()
    return _result(total, kept, results)


def _listed(sources: Sources, index: Index, parts: Sequence[str], size: int, workers: int) -> Iterator[list[Picture]]:
    """Give blocks of the pictures that are not in given parts of the index: the same ones each time."""
    paths, names = Seen(), Seen()
    for _, rows in index.read_all(parts, ["path", "mask"]):
        for row in rows:
            paths.add(row.path)
            if row.mask is not None:
                names.add(str(Path(row.mask).relative_to(MASKS).with_suffix("").as_posix()))
    return blocks(unseen(sources, paths, names), size, workers)


def _result(total: Tally, kept: int, results: Results) -> BatchResult:
    if not total.done:
        what = f"no picture could be segmented; {total.first_error}" if total.failed else "there are no pictures"
        raise DataError(f"{what}; name folders with .png or .jpg files" if not total.failed else what)
    return BatchResult(
        total.done,
        total.failed,
        kept,
        {name: share / total.done for name, share in total.shares.items()},
        total.confidence / total.sure if total.sure else None,
        (results.place / MASKS).address,
        (results.place / INDEX).address,
        total.first_error,
    )


class _Counted(threading.Thread):
    """Counts the pictures beside the work, so that it can be said how far that is; a count that fails just stops."""

    def __init__(self, sources: Sources) -> None:
        super().__init__(daemon=True)
        self.sources, self.number = sources, 0
        self.start()

    def run(self) -> None:
        """Count."""
        try:
            for _ in self.sources:
                self.number += 1
        except DataError:
            return
