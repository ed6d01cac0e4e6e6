"""Many images through one segmenter, and their masks and overlays as files.

Where the engine works on several images at once, a thread has each image from reading to writing: none then waits for
another's disk or compression, and no core idles while images are read.
"""

from __future__ import annotations

import json
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, replace
from os.path import realpath
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from ..core.errors import DataError
from ..core.formats import skipped
from ..core.images import list_images, read_ids, read_image, write_image, write_mask
from ..core.order import natural_key
from ..core.outputs import Outputs
from ..core.progress import OnProgress, logger, no_progress
from .draw import ALPHA, check_alpha
from .prediction import Prediction, coverage, thresholds
from .segmenter import Segmenter
from .video.stages import in_order

READERS = 2
"""Threads that read and write images beside an engine that works on one at a time."""


@dataclass(frozen=True)
class PredictResult:
    """Files that :func:`predict` wrote.

    Args:
        masks: palette PNGs of class ids.
        overlays: pictures with legend; empty if none were asked for.
        confidence: grey PNGs of how sure the masks are; empty if none were asked for.
        coverage: mean share of the pixels of each class over all images.
    """

    masks: tuple[Path, ...]
    overlays: tuple[Path, ...]
    coverage: dict[str, float]
    confidence: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """An image file, and what its results are called.

    Args:
        path: the file.
        name: path within the folder that was given, or its own name where the file itself was; its results have this
            name, with suffixes of their own.
    """

    path: Path
    name: PurePath


def find_images(sources: Iterable[str | Path], out: str | Path | None = None) -> list[Found]:
    """Return the image files that `sources` (files, and folders with all that is below them) mean, in order.

    Hidden files and folders are left out. Each folder is looked into once, by whatever links it is reached. A file that
    several sources hold counts once, under its first name.

    Args:
        sources: files and folders.
        out: folder that results go to, in which no images are looked for; it may lie below a source.

    Raises:
        DataError: a source does not exist, a folder holds none, or two files would share an output's name.
    """
    results = set() if out is None else result_folders(out)
    found: dict[tuple[str, str], Found] = {}
    for source in map(Path, sources):
        if source.is_dir():
            folders = list(folders_below(source, results))
            images = [
                ((real, path.name), Found(path, path.relative_to(source)))
                for folder, real in folders
                for path in list_images(folder)
            ]
            if others := skipped(*(folder for folder, _ in folders)):
                logger.warning(f"{source}: skipped {others}, which are no formats that are read")
            if not images:
                raise DataError(f"no images in {source} or below it; give a folder with .png or .jpg files")
            for key, image in sorted(images, key=lambda each: natural_key(each[1].name)):
                found.setdefault(key, image)
        elif source.is_file():
            found.setdefault((realpath(source.parent), source.name), Found(source, PurePath(source.name)))
        else:
            raise DataError(f"{source} does not exist; give an image or a folder of images")
    named = Counter(image.name.with_suffix("") for image in found.values())
    name, count = named.most_common(1)[0] if named else (PurePath(), 0)
    if count > 1:
        raise DataError(
            f"{count} images are called {str(name)!r}, and their masks would overwrite each other; rename them"
        )
    return list(found.values())


def folders_below(root: Path, left_out: set[str]) -> Iterator[tuple[Path, str]]:
    """Yield a folder and those below it, each with its real path, and none twice: links may go round in circles.

    Hidden ones are left out, and those whose real path is in `left_out`; real folders come before links to them.
    """
    seen: set[str] = set()
    folders, links = deque([root]), deque[Path]()
    while folders or links:
        folder = (folders or links).popleft()
        real = realpath(folder)
        if real in seen or (real in left_out and folder != root):
            continue
        seen.add(real)
        yield folder, real
        for each in sorted(folder.iterdir()):
            if not each.name.startswith(".") and each.is_dir():
                (links if each.is_symlink() else folders).append(each)


def result_folders(out: str | Path) -> set[str]:
    """Return the real paths of the folders that results go to."""
    return {realpath(folder) for folder in (Path(out), *_result_folders(Path(out)))}


def _result_folders(out: Path) -> tuple[Path, Path, Path]:
    return out / "masks", out / "overlays", out / "confidence"


def predict(
    segmenter: Segmenter,
    images: Iterable[Path | Found],
    out: str | Path,
    *,
    overlays: bool = True,
    alpha: float = ALPHA,
    background: bool = False,
    confidence: bool = False,
    threshold: float | Mapping[str, float] | None = None,
    lines: str | Path | None = None,
    polygons: bool = False,
    resume_from: Path | None = None,
    progress: OnProgress = no_progress,
) -> PredictResult:
    """Segment images and write ``out/masks/<name>.png`` and ``out/overlays/<name>.jpg``, each whole or not at all.

    Args:
        segmenter: what segments them.
        images: their files; those that :func:`find_images` found keep their subfolders: ``out/masks/sub/<name>.png``.
        out: folder to write to.
        overlays: whether to write overlays too.
        alpha: share of the colours in these, 0–1.
        background: whether the background is coloured in them too; see :meth:`.Prediction.overlay`.
        confidence: whether to write ``out/confidence/<name>.png`` too, grey values of 255 times the probability, and
            to let the overlays fade where it is low.
        threshold: see :meth:`.Prediction.masked`; unsure pixels are ignored (255) in all results then.
        lines: JSONL file to write: a line of JSON for each image as soon as it is done, see
            :meth:`.Prediction.to_json`, with ``image`` and ``mask``.
        polygons: whether the lines have outlines.
        resume_from: the network's file or folder, to go on where a call before stopped: results that are newer than
            both it and their image stay as they are.
        progress: called with the numbers of images done and of all.

    Raises:
        ConfigError: a result would replace a file that featherseg did not write, or that was edited since, or `alpha`
            is out of range; nothing was written.
        DataError: an image cannot be read, or a file cannot be written; what was done before stays.

    Example:
        >>> segmenter = featherseg.Segmenter("street.onnx")
        >>> result = featherseg.predict(segmenter, sorted(Path("photos/images").glob("*.png")), "out")
        >>> result.masks[0].name, len(result.overlays)
        ('s0.png', 10)
    """
    check_alpha(alpha)
    if threshold is not None:
        thresholds(threshold, segmenter.artifact.classes)
    if confidence or threshold is not None:
        segmenter = segmenter.surely()
    jobs = [_Job(image, Path(out), overlays, confidence) for image in images]
    outputs = Outputs()
    file = None if lines is None else Lines(Path(lines), outputs)
    kept = {job.image for job in jobs if resume_from is not None and _newer(job.results, [job.image, resume_from])}
    if file is not None:
        kept = {job.image for job in jobs if job.image in kept and job.name in file.known}
    outputs.require(path for job in jobs for path in (job.results[:1] if job.image in kept else job.results))
    classes = segmenter.artifact.classes
    divided = segmenter.divided()
    workers = divided.streams
    if workers == 1 and not segmenter.session.thread_safe:
        workers = READERS
    lock = nullcontext() if segmenter.session.thread_safe else threading.Lock()

    def work(job: _Job) -> tuple[dict[str, float], dict[str, Any]]:
        if job.image in kept:
            shares = coverage(np.asarray(read_ids(job.mask), np.uint8), classes)
            return shares, file.known[job.name] if file is not None else {}
        image = read_image(job.image)
        with lock:
            prediction: Prediction = divided(image)
        if threshold is not None:
            prediction = replace(prediction, mask=prediction.masked(threshold))
        try:
            if job.overlay is not None:
                drawn = prediction.overlay(alpha=alpha, background=background, fade=confidence)
                write_image(job.overlay, drawn, outputs.write)
            if job.confidence is not None and prediction.confidence is not None:
                grey = np.rint(prediction.confidence * 255).astype(np.uint8)
                write_image(job.confidence, grey, outputs.write)
            write_mask(job.mask, prediction.mask, prediction.classes, outputs.write)
        except OSError as error:
            raise DataError(f"cannot write to {out} ({error.strerror}); choose another folder with -o") from error
        said = {"image": job.name, "mask": str(job.mask)}
        return prediction.coverage(), said | prediction.to_dict(polygons=polygons) if file is not None else {}

    finished: list[_Job] = []
    shares: Counter[str] = Counter()
    with nullcontext() if file is None else file, closing(in_order(work, jobs, workers, threading.Event())) as results:
        for job, (shown, said) in results:
            finished.append(job)
            shares.update(shown)
            if file is not None:
                file.add(said)
            progress(len(finished), len(jobs))
    means = {name: share / len(finished) for name, share in shares.items()} if finished else {}
    return PredictResult(
        tuple(job.mask for job in finished),
        tuple(job.overlay for job in finished if job.overlay is not None),
        means,
        tuple(job.confidence for job in finished if job.confidence is not None),
    )


class Lines:
    """A JSONL file of results: a line for each image, written as soon as it is done.

    Args:
        path: where it is to be.
        outputs: what keeps record of files that featherseg wrote.

    Raises:
        ConfigError: a person's file is there.
    """

    def __init__(self, path: Path, outputs: Outputs) -> None:
        outputs.require([path])
        self.path, self._outputs = path, outputs
        self.known: dict[str, dict[str, Any]] = {}
        """What is there already, by image; the last line may have been cut short."""
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            with suppress(ValueError, KeyError, TypeError):
                said = json.loads(line)
                self.known[said["image"]] = said

    def __enter__(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("w", encoding="utf-8")
        except OSError as error:
            raise DataError(f"cannot write {self.path} ({error.strerror}); name another file") from error

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._outputs.remember([self.path])  # whatever ended it: what is there, is ours

    def add(self, said: dict[str, Any]) -> None:
        """Write a line."""
        try:
            self._file.write(json.dumps(said, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise DataError(f"cannot write {self.path} ({error.strerror}); name another file") from error


class _Job:
    """An image and the files that become of it."""

    __slots__ = ("confidence", "image", "mask", "name", "overlay")

    def __init__(self, image: Path | Found, out: Path, overlays: bool, confidence: bool) -> None:
        found = image if isinstance(image, Found) else Found(image, PurePath(image.name))
        masks, pictures, greys = _result_folders(out)
        self.image, self.name = found.path, found.name.as_posix()
        self.mask = masks / found.name.with_suffix(".png")
        self.overlay = pictures / found.name.with_suffix(".jpg") if overlays else None
        self.confidence = greys / found.name.with_suffix(".png") if confidence else None

    @property
    def results(self) -> list[Path]:
        """All of its files, the mask first."""
        return [path for path in (self.mask, self.overlay, self.confidence) if path is not None]


def _newer(results: Iterable[Path], sources: Iterable[Path]) -> bool:
    """Return whether all results are there, none older than any source."""
    if not all(result.is_file() for result in results):
        return False
    return min(r.stat().st_mtime for r in results) >= max(s.stat().st_mtime for s in sources)
