"""Seeing it learn: at each best epoch the same few validation pictures, as image, truth and prediction.

They are made of masks that the evaluation has computed anyway: nothing is read, segmented or drawn by lot for them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ..core.errors import first_line, require
from ..core.files import FULL, write_atomically
from ..core.progress import logger
from ..core.text_files import shortened
from ..core.types import ClassSet, ImageArray, MaskArray
from ..evaluation.visualize import result_grid

FOLDER = "progress"
"""Where they are in a run folder."""
KEPT = 12
"""Epochs whose pictures stay, about 200 kB each: the first, the last, and others spread over the time between."""
CANDIDATES = 24
"""Pictures, evenly spread over the split, of which the few that show most classes are chosen."""
LOOK = 4
"""Every fourth row and column of a mask tell which classes it shows: what is smaller is hard to see."""
WIDEST = 720
"""Pixels of the longer side that are held of a picture; twice what is drawn, so that thin things stay unbroken."""
QUALITY = 85

Example = tuple[ImageArray, MaskArray, MaskArray]
"""Image, truth and prediction, small."""

_NAME = re.compile(r"epoch_(\d+)\.jpg")


class ProgressPictures:
    """Chooses a few pictures in the first evaluation, and writes them whenever it is asked.

    A picture never ends a training: what goes wrong is a line of warning, and there are no more pictures. A full disk
    ends it, as with any other file.

    Args:
        run: the run folder.
        classes: of the validation split.
        share: its samples that this process segments, in order.
        count: how many are shown; with 0 nothing is done.
    """

    def __init__(self, run: Path, classes: ClassSet, share: Sequence[int], count: int) -> None:
        self._folder, self._classes, self._count = run / FOLDER, classes, count
        places = np.unique(np.linspace(0, len(share) - 1, CANDIDATES).round().astype(int)) if share and count else ()
        self._wanted = {share[int(place)] for place in places}
        self._shown: dict[int, set[int]] = {}
        self._chosen = self._broken = False
        self._examples: dict[int, Example] = {}

    def watch(self, index: int, image: ImageArray, target: MaskArray, prediction: MaskArray) -> None:
        """Take note of a sample: RGB uint8 (H, W, 3), and class ids uint8 (H, W) of its truth and prediction."""
        if self._broken or index not in self._wanted:
            return
        with self._harmless():
            self._examples[index] = _small(image), _small(target), _small(prediction)
            if not self._chosen:
                seen = np.bincount(target[::LOOK, ::LOOK].ravel(), minlength=256)[: len(self._classes)]
                self._shown[index] = set(np.flatnonzero(seen).tolist())
                if len(self._shown) == len(self._wanted):
                    self._choose()

    def write(self, epoch: int, board: Any = None) -> None:
        """Write what was seen last as the pictures of an epoch, and show it on a TensorBoard where one is given.

        Raises:
            OSError: the disk is full.
        """
        if self._broken or not self._examples:
            return
        with self._harmless():
            images, targets, predictions = zip(*(self._examples[i] for i in sorted(self._examples)), strict=True)
            rows = len(images)
            drawn = Image.fromarray(result_grid(images, targets, predictions, self._classes, rows=rows))
            stream = io.BytesIO()
            drawn.save(stream, "JPEG", quality=QUALITY)
            content = stream.getvalue()
            write_atomically(self._folder / f"epoch_{epoch:03}.jpg", lambda file: file.write(content))
            found = find_pictures(self._folder.parent)
            later = {
                number for number in found if number > epoch
            }  # of a process that was killed before its epoch ended
            for number in later | surplus(found.keys() - later):
                found[number].unlink()
            if board is not None:
                _show(board, epoch, content, drawn)

    def _choose(self) -> None:
        """Keep those that are shown, and look at no others from now on."""
        order = sorted(self._shown)
        self._wanted = {order[place] for place in most_classes([self._shown[i] for i in order], self._count)}
        self._examples = {index: example for index, example in self._examples.items() if index in self._wanted}
        self._chosen = True

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            self._broken = True
            self._examples = {}
            reason = f"{type(error).__name__}: {shortened(first_line(error), 200)}"
            logger.warning(f"warning: training goes on without pictures of its progress ({reason})")


def find_pictures(run: str | Path) -> dict[int, Path]:
    """Return the pictures in a run folder by their epoch, the first one first."""
    folder = Path(run) / FOLDER
    files = folder.iterdir() if folder.is_dir() else ()
    found = {int(match[1]): file for file in files if (match := _NAME.fullmatch(file.name))}
    return dict(sorted(found.items()))


def most_classes(shown: Sequence[set[int]], count: int) -> list[int]:
    """Return the places of `count` pictures that together show many classes.

    Greedily: each shows as many classes as it can that none before it does; of equals it is the one furthest from
    those before it, since neighbours of a recording look alike; of equals again the first.

    Args:
        shown: the classes that each picture shows, in order.
        count: how many are chosen; all where there are fewer.
    """
    chosen: list[int] = []
    seen: set[int] = set()
    for _ in range(min(count, len(shown))):
        left = [i for i in range(len(shown)) if i not in chosen]
        best = max(left, key=lambda i: (len(shown[i] - seen), min((abs(i - j) for j in chosen), default=0), -i))
        chosen.append(best)
        seen |= shown[best]
    return sorted(chosen)


def surplus(epochs: set[int], kept: int = KEPT) -> set[int]:
    """Return the epochs whose pictures go, so that `kept` are left.

    One by one, the epoch goes whose neighbours are closest to each other; the first and the last stay.
    """
    left = sorted(epochs)
    while len(left) > kept:
        closest = min(range(1, len(left) - 1), key=lambda i: left[i + 1] - left[i - 1])
        del left[closest]
    return epochs.difference(left)


def _small(picture: ImageArray) -> ImageArray:
    """Return a picture, or a mask, no larger than is held; never a view of what is read into again."""
    height, width = picture.shape[:2]
    scale = WIDEST / max(height, width)
    if scale >= 1:
        return picture.copy()
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    way = cv2.INTER_AREA if picture.ndim == 3 else cv2.INTER_NEAREST_EXACT
    return np.asarray(cv2.resize(picture, size, interpolation=way), np.uint8)


def _show(board: Any, epoch: int, content: bytes, drawn: Image.Image) -> None:
    """Give TensorBoard the file as it is: its own way makes a PNG of it, ten times as large."""
    messages = require("tensorboard.compat.proto.summary_pb2", "track", "Logging to TensorBoard")
    picture = messages.Summary.Image(height=drawn.height, width=drawn.width, colorspace=3, encoded_image_string=content)
    value = messages.Summary.Value(tag="validation", image=picture)
    board.file_writer.add_summary(messages.Summary(value=[value]), epoch)
