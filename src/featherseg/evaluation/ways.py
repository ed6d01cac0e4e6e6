"""Several ways of segmenting the same images, compared again and again: each image goes through each way once.

A shipment proves several files against one network, searches layers by the scores of the same images, and shows the
worst of them: masks and counts that were made for one of these serve the next. No torch.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.types import ImageArray, MaskArray
from ..data.datasets import SegmentationDataset
from ..data.kept import KeptDataset
from ..runtime.containers import fingerprint
from ..runtime.prediction import Parts
from ..runtime.segmenter import Segmenter
from .calibration import Logits, Pixels
from .metrics import BoundaryF1, ConfusionMatrix

MAX_MASK_BYTES = 256 << 20
"""Memory that one way's masks may take, compressed, some 30 to 1 of streets; those that come after are made anew."""

Places = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows and columns of pixels, (n,) each."""
LogitsAt = Callable[[NDArray[np.int64], NDArray[np.int64]], Logits]
"""Rows and columns of pixels, (n,) each, to their logits (n, C)."""
Look = Callable[[ImageArray], tuple[MaskArray, LogitsAt]]
"""RGB uint8 (H, W, 3) to class ids uint8 (H, W), and what gives the logits they came from."""


class Way:
    """One way of segmenting a dataset's images, and what its masks are worth against the truth.

    Args:
        dataset: images and masks.
        look: makes a mask of an image.
        places: gives the pixels of an image that confidence is judged by.

    Attributes:
        confusion: counts over the images that were scored.
        boundary: likewise, of the images scored with it.
    """

    def __init__(self, dataset: SegmentationDataset, look: Look, places: Callable[[int], Places]) -> None:
        self.dataset, self._look, self._places = dataset, look, places
        self.confusion = ConfusionMatrix(dataset.classes)
        self.boundary = BoundaryF1(dataset.classes)
        self._masks: dict[int, tuple[tuple[int, int], bytes]] = {}
        self._logits: dict[int, Logits] = {}
        self._free = MAX_MASK_BYTES
        self._scored: set[int] = set()
        self._outlined: set[int] = set()

    def mask(self, index: int) -> MaskArray:
        """Return the mask of image `index`, read-only."""
        if index in self._masks:
            shape, packed = self._masks[index]
            return np.frombuffer(zlib.decompress(packed), np.uint8).reshape(shape)
        mask, logits_at = self._look(self.dataset.read(index)[0])
        self._logits[index] = logits_at(*self._places(index))
        packed = zlib.compress(np.ascontiguousarray(mask).data, 1)
        if len(packed) <= self._free:
            self._free -= len(packed)
            self._masks[index] = (mask.shape[0], mask.shape[1]), packed
        return mask

    def pixels(self) -> Pixels:
        """Return labelled pixels of all images with their logits, by which confidence is judged."""
        found = pixels_of(self.dataset)
        for index in range(len(self.dataset)):
            if index not in self._logits:
                self.mask(index)
            rows, columns = self._places(index)
            found.add(self._logits[index], self.dataset.read(index)[1][rows, columns])
        return found

    def score(self, index: int, *, boundary: bool = False) -> None:
        """Count image `index`, once however often it is asked for."""
        new = index not in self._scored
        outline = boundary and index not in self._outlined
        if not (new or outline):
            return
        target, mask = self.dataset.read(index)[1], self.mask(index)
        if new:
            self.confusion.update(target, mask)
            self._scored.add(index)
        if outline:
            self.boundary.update(target, mask)
            self._outlined.add(index)


class Ways:
    """The ways of segmenting one dataset that are known so far.

    Args:
        dataset: images and masks, which are decoded once as far as memory allows.
    """

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.dataset = dataset if isinstance(dataset, KeptDataset) else KeptDataset(dataset)
        self._known: dict[Hashable, Way] = {}
        self._places: dict[int, Places] = {}

    def places(self, index: int) -> Places:
        """Return the pixels of image `index` that confidence is judged by."""
        if index not in self._places:
            self._places[index] = pixels_of(self.dataset).places(self.dataset.read(index)[1], index)
        return self._places[index]

    def of(self, name: Hashable, look: Look) -> Way:
        """Return the way that is called `name`; a new one, that makes masks by `look`, where there is none yet."""
        if name not in self._known:
            self._known[name] = Way(self.dataset, look, self.places)
        return self._known[name]

    def of_file(self, path: str | Path, segmenter: Segmenter, table: MaskArray | None = None) -> Way:
        """Return the way of a file as `segmenter` runs it: the same one for all files of the same graph.

        It is planned for the first image's size, as on a video.

        Args:
            path: the file.
            segmenter: what runs it.
            table: id in the data by id of the network, where their order differs; see :class:`.matching.Matched`.
        """
        image, _ = self.dataset.read(0)
        planned = segmenter.planned((image.shape[0], image.shape[1]))
        artifact = segmenter.artifact
        says = artifact.input_spec, artifact.stride, segmenter.device, segmenter.size, segmenter.scale, segmenter.fit
        name = fingerprint(Path(path)), *says, None if table is None else table.tobytes()

        def look(image: ImageArray) -> tuple[MaskArray, LogitsAt]:
            mask, parts = planned.explained(image)
            return (mask, parts.at) if table is None else (table[mask], partial(_reordered, parts, table))

        return self.of(name, look)

    def forget(self, way: Way) -> None:
        """Let go of a way that nobody will ask for again, and of its masks."""
        self._known = {name: known for name, known in self._known.items() if known is not way}


def pixels_of(dataset: SegmentationDataset) -> Pixels:
    """Return room for the pixels of a dataset that confidence is judged by."""
    return Pixels(len(dataset), len(dataset.classes), dataset.classes.ignore_index)


def _reordered(parts: Parts, table: MaskArray, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Logits:
    """Return logits (n, C) in the order of the data's classes."""
    logits = parts.at(rows, columns)
    found = np.empty_like(logits)
    found[:, table[: logits.shape[1]]] = logits
    return found
