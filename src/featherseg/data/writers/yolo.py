"""YOLO's text files of outlines, and its ``data.yaml``."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from ...core.tracing import outlines
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

DIGITS = 8
"""Decimals of a share of the picture: a thousandth of a pixel in the largest."""


@writers.register("yolo")
class YoloWriter(LabelWriter):
    """``images/SPLIT/``, ``labels/SPLIT/`` with a line for each connected piece of a class, and ``data.yaml``.

    A class called background that comes first gets no number, since it is what no outline covers. Nothing can be
    ignored: such pixels become background, or stay uncovered where there is no such class.
    """

    def __init__(self, target: ConvertTarget) -> None:
        super().__init__(target)
        self._background = target.background
        if self._background == 0:
            self.names = with_background(self.names, 0)
        need_a_class(target, "yolo")
        self.options = without_background(self._background)
        self._ignored = self._pixels = 0

    def kept(self, mask: MaskArray) -> MaskArray:
        """Return a mask in which what is ignored is background, where there is one."""
        if self._background is None:
            return mask
        return np.where(mask == self.target.classes.ignore_index, np.uint8(self._background), mask)

    def add(self, picture: Picture, mask: MaskArray) -> None:
        """See :class:`featherseg.data.writing.LabelWriter`."""
        self._ignored += int((mask == self.target.classes.ignore_index).sum())
        self._pixels += mask.size
        lines, scale = [], np.array(mask.shape[::-1], np.float64)
        for label in regions(mask, self.target.classes, self._background):
            number = label - (self._background == 0)
            for ring in outlines(mask == label):
                shares = " ".join(f"{share:.{DIGITS}f}".rstrip("0") for share in (ring / scale).ravel().tolist())
                lines.append(f"{number} {shares}\n")
        home = self.target.root / "labels" / picture.split
        home.mkdir(parents=True, exist_ok=True)
        (home / f"{picture.stem}.txt").write_text("".join(lines), encoding="ascii")

    def finish(self) -> Sequence[str]:
        """See :class:`featherseg.data.writing.LabelWriter`."""
        places = {split or "train": f"images/{split}".rstrip("/") for split in self.target.splits}
        lines = ["path: .", *(f"{split}: {place}" for split, place in places.items()), "names:"]
        numbered = self.names[self._background == 0 :]
        # JSON's texts are YAML's, whatever the name holds.
        lines += [f"  {i}: {json.dumps(name, ensure_ascii=False)}" for i, name in enumerate(numbered)]
        (self.target.root / "data.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        notes = ["outlines have their holes at the end of a bridge of no width; what no outline covers is background"]
        if self._background is None:
            notes[0] += ", though no class is called so: read the copy with background = false"
        if self._ignored:
            become = "are not covered" if self._background is None else f"become {self.names[self._background]}"
            notes.append(
                f"YOLO cannot say that pixels are ignored: {100 * self._ignored / self._pixels:.2g} % of all {become}"
            )
        if "val" not in places:
            notes.append("data.yaml names no val, which training with YOLO needs")
        return notes
