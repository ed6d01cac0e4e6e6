"""Three pictures of the page: each with its truth and the masks of the pick and of the next best."""

from __future__ import annotations

import numpy as np

from ..core.errors import FeathersegError
from ..core.types import ImageArray
from ..data.datasets import SegmentationDataset
from ..runtime.fitting import resized
from ..runtime.segmenter import Segmenter
from ..shipping.report.panels import PANEL_SIDE, jpeg, png
from .choice import Choice
from .finals import Judged

SHOWN = 3


def picture_rows(
    choice: Choice, dataset: SegmentationDataset, threads: int | None = None
) -> list[tuple[str, dict[str, str]]]:
    """Return a few validation pictures, spread over all: of each its name, and addresses by what they show.

    Args:
        choice: whose files make the masks.
        dataset: labelled images.
        threads: of the engines.
    """
    files = [("the pick", choice.pick), ("the next best", choice.runner_up)]
    opened: dict[str, Segmenter] = {}
    for title, judged in files:
        if judged is None:
            continue
        try:
            opened[f"{title}: {judged.candidate}"] = _open(judged, threads)
        except FeathersegError:  # of another device, which nothing here runs
            continue
    if not opened:
        return []
    palette = dataset.classes.palette()
    rows = []
    for index in dict.fromkeys(np.linspace(0, len(dataset) - 1, SHOWN).round().astype(int).tolist()):
        image, target = dataset.read(index)
        shown = {"picture": jpeg(_small(image)), "truth": png(_small_ids(target), palette)}
        for title, segmenter in opened.items():
            shown[title] = png(_small_ids(segmenter.segment(image)), palette)
        rows.append((dataset.stem(index), shown))
    return rows


def _open(judged: Judged, threads: int | None) -> Segmenter:
    return Segmenter(judged.candidate.way.engine.open(judged.file, threads))


def _small(image: ImageArray) -> ImageArray:
    share = min(1.0, PANEL_SIDE / max(image.shape[:2]))
    size = max(round(image.shape[0] * share), 1), max(round(image.shape[1] * share), 1)
    return np.ascontiguousarray(resized(image, size))


def _small_ids(
    mask: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    step = max(-(-max(mask.shape) // PANEL_SIDE), 1)
    return np.ascontiguousarray(mask[::step, ::step])
