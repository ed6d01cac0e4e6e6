"""Many images through one segmenter, and their masks and overlays as files.

Where the engine works on several images at once, a thread has each image from reading to writing: none then waits for
another's disk or compression, and no core idles while images are read.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from os.path import realpath
from pathlib import Path, PurePath

import numpy as np

from ..core.errors import DataError
from ..core.formats import skipped
from ..core.images import list_images, read_ids, read_image, write_image, write_mask
from ..core.order import natural_key
from ..core.outputs import Outputs
from ..core.progress import OnProgress, logger, no_progress
from .draw import ALPHA, check_alpha
from .prediction import Prediction, coverage
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
        coverage: mean share of the pixels of each class over all images.
    """

    masks: tuple[Path, ...]
    overlays: tuple[Path, ...]
    coverage: dict[str, float]


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


def _result_folders(out: Path) -> tuple[Path, Path]:
    return out / "masks", out / "overlays"


def predict(
    segmenter: Segmenter,
    images: Iterable[Path | Found],
    out: str | Path,
    *,
    overlays: bool = True,
    alpha: float = ALPHA,
    background: bool = False,
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
    jobs = [_Job(image, Path(out), overlays) for image in images]
    outputs = Outputs()
    kept = {job.image for job in jobs if resume_from is not None and _newer(job.results, [job.image, resume_from])}
    outputs.require(file for job in jobs for file in (job.results[:1] if job.image in kept else job.results))
    classes = segmenter.artifact.classes
    divided = segmenter.divided()
    workers = divided.streams
    if workers == 1 and not segmenter.session.thread_safe:
        workers = READERS
    lock = nullcontext() if segmenter.session.thread_safe else threading.Lock()

    def work(job: _Job) -> dict[str, float]:
        mask, *overlay = job.results
        if job.image in kept:
            return coverage(np.asarray(read_ids(mask), np.uint8), classes)
        image = read_image(job.image)
        with lock:
            prediction: Prediction = divided(image)
        try:
            for picture in overlay:
                write_image(picture, prediction.overlay(alpha=alpha, background=background), outputs.write)
            write_mask(mask, prediction.mask, prediction.classes, outputs.write)
        except OSError as error:
            raise DataError(f"cannot write to {out} ({error.strerror}); choose another folder with -o") from error
        return prediction.coverage()

    masks: list[Path] = []
    pictures: list[Path] = []
    shares: Counter[str] = Counter()
    with closing(in_order(work, jobs, workers, threading.Event())) as results:
        for done, (job, shown) in enumerate(results, start=1):
            mask, *overlay = job.results
            shares.update(shown)
            masks.append(mask)
            pictures += overlay
            progress(done, len(jobs))
    means = {name: share / len(masks) for name, share in shares.items()} if masks else {}
    return PredictResult(tuple(masks), tuple(pictures), means)


class _Job:
    """An image and the files that become of it."""

    __slots__ = ("image", "results")

    def __init__(self, image: Path | Found, out: Path, overlays: bool) -> None:
        found = image if isinstance(image, Found) else Found(image, PurePath(image.name))
        masks, pictures = _result_folders(out)
        self.image = found.path
        self.results = [masks / found.name.with_suffix(".png")]
        if overlays:
            self.results.append(pictures / found.name.with_suffix(".jpg"))


def _newer(results: Iterable[Path], sources: Iterable[Path]) -> bool:
    """Return whether all results are there, none older than any source."""
    if not all(result.is_file() for result in results):
        return False
    return min(r.stat().st_mtime for r in results) >= max(s.stat().st_mtime for s in sources)
