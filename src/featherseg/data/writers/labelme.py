"""LabelMe's JSON, one for each image: masks, which are exact, or polygons."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...core.errors import DataError
from ...core.tracing import outlines
from ...core.types import MaskArray
from ..annotations import IGNORED
from ..writing import ConvertTarget, LabelWriter, Picture, regions, with_background, without_background, writers

VERSION = "5.4.1"
"""Of LabelMe, whose JSON this is."""


@writers.register("labelme")
class LabelmeWriter(LabelWriter):
    """A JSON beside each image, a folder for each split, and ``labels.txt``.

    A shape is all that a picture has of a class, as a mask, or with outlines each connected piece of it. Ignored pixels
    are a shape called ``__ignore__``.
    """

    def __init__(self, target: ConvertTarget) -> None:
        super().__init__(target)
        if IGNORED in self.names:
            raise DataError(f"a class is called {IGNORED}, which means ignored in LabelMe; rename it")
        self._background = target.background
        self.names = with_background(self.names, self._background)
        self.options = without_background(self._background)
        self._ignored = 0

    def image_folder(self, split: str) -> Path:
        """See :class:`featherseg.data.writing.LabelWriter`."""
        return self.target.root / split

    def add(self, picture: Picture, mask: MaskArray) -> None:
        """See :class:`featherseg.data.writing.LabelWriter`."""
        shapes = []
        for label in regions(mask, self.target.classes, self._background):
            shapes += self._shapes(self.names[label], mask == label)
        ignored = mask == self.target.classes.ignore_index
        if ignored.any():
            self._ignored += 1
            shapes += self._shapes(IGNORED, ignored)
        tree: dict[str, Any] = {
            "version": VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": picture.name,
            "imageData": None,
        }
        tree |= {"imageHeight": mask.shape[0], "imageWidth": mask.shape[1]}
        home = self.image_folder(picture.split)
        (home / f"{picture.stem}.json").write_bytes(msgspec.json.format(msgspec.json.encode(tree), indent=1))

    def _shapes(self, label: str, inside: NDArray[np.bool_]) -> list[dict[str, Any]]:
        if self.target.polygons:
            return [_shape(label, "polygon", ring.tolist(), None) for ring in outlines(inside)]
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        top, bottom, left, right = (int(end) for end in (rows[0], rows[-1], columns[0], columns[-1]))
        stream = io.BytesIO()
        Image.fromarray(inside[top : bottom + 1, left : right + 1]).save(stream, "PNG")
        text = base64.b64encode(stream.getvalue()).decode("ascii")
        return [_shape(label, "mask", [[left, top], [right, bottom]], text)]

    def finish(self) -> Sequence[str]:
        """See :class:`featherseg.data.writing.LabelWriter`."""
        names = ["_background_" if i == self._background else name for i, name in enumerate(self.names)]
        content = "".join(f"{name}\n" for name in [IGNORED, *names])
        (self.target.root / "labels.txt").write_text(content, encoding="utf-8")
        pieces = "each connected piece of a class" if self.target.polygons else "all that a picture has of a class"
        notes = [f"a shape is {pieces}; what no shape covers is the background"]
        if self._background is None:
            notes[0] += ", though no class is called so: read the copy with background = false"
        if self.target.polygons:
            notes.append("polygons have their holes at the end of a bridge of no width")
        if self._ignored:
            notes.append(f"the ignored pixels of {self._ignored} pictures are shapes called {IGNORED}")
        return notes


def _shape(label: str, kind: str, points: list[Any], mask: str | None) -> dict[str, Any]:
    about: dict[str, Any] = {"label": label, "points": points, "group_id": None, "description": ""}
    return about | {"shape_type": kind, "flags": {}, "mask": mask}
