"""COCO's JSON of objects: run lengths, which are exact, or outlines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ...core.run_lengths import run_lengths
from ...core.tracing import Ring, outlines, signed_area
from ...core.types import MaskArray
from ..writing import (
    ConvertTarget,
    LabelWriter,
    Picture,
    need_a_class,
    regions,
    with_background,
    without_background,
    writers,
)

GROUP = "class"
"""The supercategory of all: some programs want one."""


@writers.register("coco")
class CocoWriter(LabelWriter):
    """``annotations/instances_SPLIT.json`` beside ``images/SPLIT/``.

    With run lengths an object is all that a picture has of a class; with outlines, each connected piece of it. A class
    called background that comes first is no category, since it is what no object covers. Ignored pixels are a crowd,
    which COCO's own evaluation ignores.
    """

    def __init__(self, target: ConvertTarget) -> None:
        super().__init__(target)
        need_a_class(target, "coco")
        self._background = target.background
        if self._background == 0:
            self.names = with_background(self.names, 0)
        self._first = 0 if self._background == 0 else 1
        self.options = without_background(self._background)
        self._images: dict[str, list[dict[str, Any]]] = {split: [] for split in target.splits}
        self._objects: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._ids = 0
        self._crowds = 0

    def add(self, picture: Picture, mask: MaskArray) -> None:
        """See :class:`featherseg.data.writing.LabelWriter`."""
        self._ids += 1
        height, width = mask.shape
        about = {"id": self._ids, "file_name": picture.name, "height": height, "width": width}
        self._images[picture.split].append(about)
        objects = self._objects[picture.split]
        for label in regions(mask, self.target.classes, self._background):
            category, inside = label + self._first, mask == label
            if self.target.polygons:
                for ring in outlines(inside):
                    self._append(objects, category, [ring.ravel().tolist()], _ring_box(ring), abs(signed_area(ring)))
            else:
                self._append(objects, category, run_lengths(inside), _box(inside), int(inside.sum()))
        ignored = mask == self.target.classes.ignore_index
        if ignored.any():
            self._crowds += 1
            self._append(objects, self._ignored_as, run_lengths(ignored), _box(ignored), int(ignored.sum()), crowd=1)

    @property
    def _ignored_as(self) -> int:
        """A crowd needs a category; whichever, since nothing of it counts."""
        return next(i for i in range(len(self.names)) if i != self._background) + self._first

    def _append(
        self,
        objects: list[dict[str, Any]],
        category: int,
        segmentation: Any,
        box: list[float],
        area: float,
        crowd: int = 0,
    ) -> None:
        about = {"id": sum(map(len, self._objects.values())) + 1, "image_id": self._ids, "category_id": category}
        objects.append(about | {"segmentation": segmentation, "bbox": box, "area": area, "iscrowd": crowd})

    def finish(self) -> Sequence[str]:
        """See :class:`featherseg.data.writing.LabelWriter`."""
        home = self.target.root / "annotations"
        home.mkdir()
        categories = [
            {"id": i + self._first, "name": name, "supercategory": GROUP}
            for i, name in enumerate(self.names)
            if i + self._first
        ]
        for split, images in self._images.items():
            file = home / (f"instances_{split}.json" if split else "instances.json")
            tree = {"info": {}, "licenses": [], "images": images, "annotations": self._objects[split]}
            file.write_bytes(msgspec.json.encode(tree | {"categories": categories}))
        pieces = "each connected piece of a class" if self.target.polygons else "all that a picture has of a class"
        notes = [f"an object is {pieces}; what no object covers is the background"]
        if self.target.polygons:
            notes.append("outlines have their holes at the end of a bridge of no width")
        if self._background is None:
            notes[0] = f"an object is {pieces}; no class is called background: read the copy with background = false"
        if self._crowds:
            notes.append(f"the ignored pixels of {self._crowds} pictures are a crowd (iscrowd = 1)")
        return notes


def _box(inside: NDArray[np.bool_]) -> list[float]:
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    return [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]


def _ring_box(ring: Ring) -> list[float]:
    low, high = ring.min(axis=0), ring.max(axis=0)
    return [*low.tolist(), *(high - low).tolist()]
