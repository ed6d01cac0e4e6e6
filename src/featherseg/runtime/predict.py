"""Many images through one segmenter, and their masks and overlays as files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import DataError
from ..core.formats import skipped
from ..core.images import list_images, read_ids, read_image, write_image, write_mask
from ..core.outputs import Outputs
from ..core.progress import OnProgress, logger, no_progress
from .segmenter import Prediction, Segmenter, coverage


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


def find_images(sources: Iterable[str | Path]) -> list[Path]:
    """Return the image files that `sources` (files and folders) mean, in order.

    Raises:
        DataError: a source does not exist, a folder holds none, or two files would share an output's name.
    """
    found: list[Path] = []
    for source in map(Path, sources):
        if source.is_dir():
            images = list_images(source)
            if others := skipped(source):
                logger.warning(f"{source}: skipped {others}, which are no formats that are read")
            if not images:
                raise DataError(f"no images in {source}; give a folder with .png or .jpg files")
            found += images
        elif source.is_file():
            found.append(source)
        else:
            raise DataError(f"{source} does not exist; give an image or a folder of images")
    stem, count = Counter(path.stem for path in found).most_common(1)[0] if found else ("", 0)
    if count > 1:
        raise DataError(f"{count} images are called {stem!r}, and their masks would overwrite each other; rename them")
    return found


def predict(
    segmenter: Segmenter,
    images: Iterable[Path],
    out: str | Path,
    *,
    overlays: bool = True,
    resume_from: Path | None = None,
    progress: OnProgress = no_progress,
) -> PredictResult:
    """Segment images and write ``out/masks/<name>.png`` and ``out/overlays/<name>.jpg``, each whole or not at all.

    Args:
        segmenter: what segments them.
        images: their files.
        out: folder to write to.
        overlays: whether to write overlays too.
        resume_from: the network's file or folder, to go on where a call before stopped: results that are newer than
            both it and their image stay as they are.
        progress: called with the numbers of images done and of all.

    Raises:
        ConfigError: a result would replace a file that featherseg did not write, or that was edited since; nothing was
            written.
        DataError: an image cannot be read, or a file cannot be written; what was done before stays.

    Example:
        >>> segmenter = featherseg.Segmenter("street.onnx")
        >>> result = featherseg.predict(segmenter, sorted(Path("photos/images").glob("*.png")), "out")
        >>> result.masks[0].name, len(result.overlays)
        ('s0.png', 10)
    """
    jobs = [_Job(path, Path(out), overlays) for path in images]
    outputs = Outputs()
    kept = {job.image for job in jobs if resume_from is not None and _newer(job.results, [job.image, resume_from])}
    outputs.require(file for job in jobs for file in (job.results[:1] if job.image in kept else job.results))
    masks: list[Path] = []
    pictures: list[Path] = []
    shares: Counter[str] = Counter()
    for done, job in enumerate(jobs, start=1):
        mask, *overlay = job.results
        if job.image in kept:
            shares.update(coverage(np.asarray(read_ids(mask), np.uint8), segmenter.artifact.classes))
        else:
            prediction: Prediction = segmenter(read_image(job.image))
            try:
                for picture in overlay:
                    write_image(picture, prediction.overlay(), outputs.write)
                write_mask(mask, prediction.mask, prediction.classes, outputs.write)
            except OSError as error:
                raise DataError(f"cannot write to {out} ({error.strerror}); choose another folder with -o") from error
            shares.update(prediction.coverage())
        masks.append(mask)
        pictures += overlay
        progress(done, len(jobs))
    means = {name: share / len(masks) for name, share in shares.items()} if masks else {}
    return PredictResult(tuple(masks), tuple(pictures), means)


class _Job:
    """An image and the files that become of it."""

    def __init__(self, image: Path, out: Path, overlays: bool) -> None:
        self.image = image
        self.results = [out / "masks" / f"{image.stem}.png"]
        if overlays:
            self.results.append(out / "overlays" / f"{image.stem}.jpg")


def _newer(results: Iterable[Path], sources: Iterable[Path]) -> bool:
    """Return whether all results are there, none older than any source."""
    if not all(result.is_file() for result in results):
        return False
    return min(r.stat().st_mtime for r in results) >= max(s.stat().st_mtime for s in sources)
