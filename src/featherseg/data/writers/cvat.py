"""CVAT's "Segmentation mask 1.1": pictures in the colours of a label map."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...core.images import write_image
from ...core.types import MaskArray, distinct_colors
from ..label_maps import LABEL_MAP
from ..readers.public import VOC_BORDER
from ..writing import ConvertTarget, LabelWriter, Picture, masks_only, writers

BLACK = (0, 0, 0)


@writers.register("cvat")
class CvatWriter(LabelWriter):
    """``JPEGImages/``, ``SegmentationClass/``, ``ImageSets/Segmentation/SPLIT.txt`` and ``labelmap.txt``.

    Ignored pixels have the colour of VOC's border, and the label ``ignored``, since Datumaro, with which CVAT reads
    masks, refuses colours without one. CVAT takes black for the background, so it is the background's colour and no
    other class's.
    """

    def __init__(self, target: ConvertTarget) -> None:
        super().__init__(target)
        masks_only(target, "cvat")
        self._colors = _own_colors(target)
        self._palette = np.zeros((256, 3), np.uint8)
        self._palette[: len(self._colors)] = self._colors
        self._palette[target.classes.ignore_index] = VOC_BORDER
        self._names: dict[str, list[str]] = defaultdict(list)
        self._ignored = 0

    def image_folder(self, split: str) -> Path:
        """See :class:`featherseg.data.writing.LabelWriter`."""
        return self.target.root / "JPEGImages"

    def add(self, picture: Picture, mask: MaskArray) -> None:
        """See :class:`featherseg.data.writing.LabelWriter`."""
        self._names[picture.split].append(picture.stem)
        self._ignored += bool((mask == self.target.classes.ignore_index).any())
        write_image(self.target.root / "SegmentationClass" / f"{picture.stem}.png", self._palette[mask])

    def finish(self) -> Sequence[str]:
        """See :class:`featherseg.data.writing.LabelWriter`."""
        lists = self.target.root / "ImageSets" / "Segmentation"
        lists.mkdir(parents=True)
        for split, names in self._names.items():
            content = "".join(f"{name}\n" for name in names)
            (lists / f"{split or 'default'}.txt").write_text(content, encoding="utf-8")
        lines = [f"{name}:{r},{g},{b}::" for name, (r, g, b) in zip(self.names, self._colors, strict=True)]
        if self._ignored:
            lines.append(f"{self._ignored_as}:{','.join(map(str, VOC_BORDER))}::")
        content = "\n".join(["# label:color_rgb:parts:actions", *lines]) + "\n"
        (self.target.root / LABEL_MAP).write_text(content, encoding="utf-8")
        notes = ["in CVAT, the labels of a task have to be called as in labelmap.txt"]
        if self.target.background is None:
            notes.append("no class is called background, which CVAT adds")
        if self._ignored:
            color = ", ".join(map(str, VOC_BORDER))
            notes.append(
                f"the ignored pixels of {self._ignored} pictures have VOC's border colour ({color}) and the label "
                f"{self._ignored_as}"
            )
        return notes

    @property
    def _ignored_as(self) -> str:
        """A name that is no class's; our own reader goes by the colour."""
        return next(name for name in ("ignored", "__ignore__", "__ignored__") if name not in self.names)


def _own_colors(target: ConvertTarget) -> tuple[tuple[int, int, int], ...]:
    """Return a colour of its own for each class: the source's where it is free."""
    taken = {BLACK, VOC_BORDER}
    # Of 513 colours, some are the same after rounding; 255 are needed at most.
    spare = (color for color in distinct_colors(2 * 256 + 1) if color not in taken)
    found: list[tuple[int, int, int]] = []
    for i, color in enumerate(target.classes.colors):
        if i == target.background:
            color = BLACK
        else:
            while color in taken:
                color = next(spare)
        taken.add(color)
        found.append(color)
    return tuple(found)
