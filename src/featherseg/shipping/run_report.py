"""A run folder turned into a page: its files read, its validation pictures segmented again where they are there."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import CheckpointError, DataError, FeathersegError, first_line
from ..core.progress import OnProgress, logger, no_progress
from ..core.text_files import parse_json, read_text
from ..core.types import ClassSet
from ..evaluation.opening import open_labelled, open_segmenter
from ..training.progress_pictures import find_pictures
from ..training.results import read_run
from .report.panels import embedded
from .report.run_figures import HardImage, RunReport, hard_images
from .report.run_page import write_run_page

PAGE_NAME = "report.html"


def report_run(
    folder: str | Path, path: str | Path | None = None, *, pictures: int = 6, progress: OnProgress = no_progress
) -> Path:
    """Write the page of a training, finished or not, and return its path.

    Args:
        folder: the run folder.
        path: of the page; ``report.html`` in the run folder where left out.
        pictures: how many of the worst validation pictures are shown. All are segmented to find them; with 0 none is.
            Where network or data are not to be had, they are left out, and the page says why.
        progress: called with the numbers of validation images done and of all.

    Raises:
        CheckpointError: the folder is no run, no epoch of it is finished, or a file of it is damaged.
    """
    folder = Path(folder)
    run = read_run(folder)
    try:
        classes = ClassSet.from_dict(parse_json(read_text(folder / "classes.json")))
    except (OSError, KeyError, TypeError, ValueError, FeathersegError) as error:
        raise CheckpointError(f"run {folder} has a damaged classes.json: {first_line(error)}") from error
    matrix = run["result"].get("matrix") if isinstance(run["result"], dict) else None
    notes: list[str] = []
    hard: tuple[HardImage, ...] = ()
    if pictures:
        try:
            segmenter = open_segmenter(folder)
            dataset = open_labelled(folder, segmenter.artifact.training)
            if segmenter.artifact.classes != dataset.classes or dataset.classes != classes:
                raise DataError("the data have other classes than the run")
            hard, confusion = hard_images(dataset, segmenter.segment, pictures, progress=progress)
            if matrix is None:
                matrix = confusion.matrix.tolist()
        except FeathersegError as error:
            notes.append(f"The worst pictures are left out: {first_line(error)}.")
    if matrix is None:
        notes.append("The confusion matrix is left out: it is known when the training is over, or with the pictures.")
    strips = tuple((epoch, embedded(file.read_bytes(), "JPEG")) for epoch, file in find_pictures(folder).items())
    for note in notes:
        logger.info(note)
    page = RunReport(run, classes, matrix, strips, hard, tuple(notes))
    return write_run_page(page, folder / PAGE_NAME if path is None else path)
