"""Label Studio's JSON of tasks: brush strokes in its own run lengths, which are exact, or polygons."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import msgspec
import numpy as np
from numpy.typing import NDArray

from ...core.errors import DataError
from ...core.tracing import outlines
from ...core.types import MaskArray
from ..annotations import IGNORED
from ..brush_rle import encode
from ..writing import ConvertTarget, LabelWriter, Picture, need_a_class, regions, with_background, writers

TAG, IMAGE = "tag", "image"
"""How the labelling interface calls the tool and the image; results refer to it."""


@writers.register("labelstudio")
class LabelStudioWriter(LabelWriter):
    """``tasks.json``, ``images/`` and ``label_config.xml``, the labelling interface that the tasks are of.

    A stroke is all that a picture has of a class; with outlines, a polygon is each connected piece of it. Ignored
    pixels are labelled ``__ignore__``. What a network labelled is a prediction, with its name and how sure it is, which
    people take for a start; the rest are annotations.
    """

    def __init__(self, target: ConvertTarget) -> None:
        super().__init__(target)
        need_a_class(target, "labelstudio")
        if IGNORED in self.names:
            raise DataError(f"a class is called {IGNORED}, which means ignored here; rename it")
        self._background = target.background
        self.names = with_background(self.names, self._background)
        self._tasks: list[bytes] = []
        self._used: set[int] = set()
        self._ignored = 0

    def image_folder(self, split: str) -> Path:
        """See :class:`featherseg.data.writing.LabelWriter`."""
        return self.target.root / "images"

    def add(self, picture: Picture, mask: MaskArray) -> None:
        """See :class:`featherseg.data.writing.LabelWriter`."""
        number = len(self._tasks) + 1
        labels = regions(mask, self.target.classes, self._background)
        self._used.update(labels)
        areas = [(self.names[label], mask == label) for label in labels]
        ignored = mask == self.target.classes.ignore_index
        if ignored.any():
            self._ignored += 1
            areas.append((IGNORED, ignored))
        size = {"original_width": mask.shape[1], "original_height": mask.shape[0], "image_rotation": 0}
        about = {"type": self._kind, "from_name": TAG, "to_name": IMAGE} | size
        values = [value for name, inside in areas for value in self._values(name, inside)]
        results = [{"id": f"r{number}_{i}"} | about | {"value": value} for i, value in enumerate(values)]
        data = {IMAGE: f"/data/local-files/?d=images/{quote(picture.name)}"}
        if picture.split:
            data["split"] = picture.split
        task: dict[str, Any] = {"id": number, "data": data}
        if picture.sure is None:
            task["annotations"] = [{"id": number, "result": results}]
        else:
            guess = {"model_version": picture.made_by, "score": round(picture.sure, 6), "result": results}
            task["predictions"] = [guess]
        self._tasks.append(msgspec.json.encode(task))  # a third of the memory

    @property
    def _kind(self) -> str:
        return "polygonlabels" if self.target.polygons else "brushlabels"

    def _values(self, name: str, inside: NDArray[np.bool_]) -> list[dict[str, Any]]:
        """Return the regions of a class; points are in percent of the picture."""
        if not self.target.polygons:
            return [{"format": "rle", "rle": list(encode(inside)), self._kind: [name]}]
        scale = 100 / np.array([inside.shape[1], inside.shape[0]])
        return [{"points": (ring * scale).tolist(), "closed": True, self._kind: [name]} for ring in outlines(inside)]

    def finish(self) -> Sequence[str]:
        """See :class:`featherseg.data.writing.LabelWriter`."""
        (self.target.root / "tasks.json").write_bytes(b"[" + b",\n".join(self._tasks) + b"]\n")
        colors = [*self.target.classes.colors, (128, 128, 128)]
        labels = [
            f'    <Label value={quoteattr(name)} background="#{r:02x}{g:02x}{b:02x}"/>'
            for i, (name, (r, g, b)) in enumerate(zip([*self.names, IGNORED], colors, strict=True))
            if i != self._background and (name != IGNORED or self._ignored)
        ]
        lines = ["<View>", f'  <Image name="{IMAGE}" value="${IMAGE}"/>']
        tool = "PolygonLabels" if self.target.polygons else "BrushLabels"
        lines += [f'  <{tool} name="{TAG}" toName="{IMAGE}">', *labels, f"  </{tool}>", "</View>"]
        (self.target.root / "label_config.xml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        notes = [
            "a polygon is each connected piece of a class; what no polygon covers is the background"
            if self.target.polygons
            else "a stroke is all that a picture has of a class; what no stroke covers is the background",
            "tasks name their images /data/local-files/?d=images/NAME: serve the folder as Label Studio's local files, "
            "its root being the document root",
            "label_config.xml is the labelling interface of the project",
        ]
        if any(self.target.splits):
            notes.append("Label Studio has no splits: a task's split stands in its data")
        gone = [name for i, name in enumerate(self.names) if i not in self._used and i != self._background]
        if gone:
            notes.append(f"in no picture, and so in label_config.xml alone: {', '.join(gone)}")
        if self._ignored:
            notes.append(f"the ignored pixels of {self._ignored} pictures are labelled {IGNORED}")
        if self.target.polygons:
            notes.append("polygons have their holes at the end of a bridge of no width")
        return notes
