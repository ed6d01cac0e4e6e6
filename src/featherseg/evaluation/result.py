"""What an evaluation found: every score of every class, with the protocol it was measured by. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.errors import ConfigError
from ..core.formatting import percent
from ..core.types import ClassSet
from .calibration import Reliability
from .centerline import CenterlineDice, Widths
from .metrics import BoundaryF1, ConfusionMatrix, CountArray, FloatArray, dice_of, mean_of

PROTOCOL_KEYS = ("dataset", "split", "images", "resolution", "scales", "flip", "rule")


@dataclass(frozen=True, eq=False)
class EvalResult:
    """What an evaluation found, and by which rules; ``print`` shows it, :meth:`summary` is one line of it.

    All scores are fractions (0–1) here and percentages where shown; NaN stands for a class that does not occur.

    Attributes:
        classes: the classes.
        matrix: int64 (C, C) pixel counts, rows = target.
        miou: mean IoU over the classes that occur.
        iou: IoU by class (C,).
        pixel_accuracy: share of pixels that are right.
        boundary_f1: mean boundary F1; NaN where it was not measured.
        boundary_f1_per_class: boundary F1 by class (C,).
        absent: names of the classes left out of the means.
        protocol: ``dataset``, ``split``, ``images`` (number), ``resolution`` (words), ``scales`` (numbers), ``flip``
            and ``rule`` (words, for classes that do not occur); all of them, for a score without them says nothing.
        precision: share of the pixels predicted as each class that are right (C,).
        recall: share of each class's pixels that are found (C,).
        cldice_per_class: clDice by class (C,); NaN of classes that are not thin.
        typical_width: of each class in pixels (C,), see :class:`.centerline.Widths`; NaN where it was not measured.
        boundary_reach: how far off, in pixels, a boundary pixel may be and still be right, averaged over the images.
        reliability: how often pixels are right by how sure the network is of them: as its logits say, and at the
            temperature that was fitted for it, if one was; empty where it was not measured.
    """

    classes: ClassSet
    matrix: CountArray
    miou: float
    iou: FloatArray
    pixel_accuracy: float
    boundary_f1: float
    boundary_f1_per_class: FloatArray
    absent: tuple[str, ...]
    protocol: dict[str, Any]
    precision: FloatArray
    recall: FloatArray
    cldice_per_class: FloatArray
    typical_width: FloatArray
    boundary_reach: float
    reliability: tuple[Reliability, ...] = ()

    def __post_init__(self) -> None:
        missing = [key for key in PROTOCOL_KEYS if key not in self.protocol]
        if missing:
            raise ConfigError(f"the protocol of an evaluation lacks {', '.join(missing)}; it needs all its keys")

    @classmethod
    def from_metrics(
        cls,
        confusion: ConfusionMatrix,
        boundary: BoundaryF1 | None,
        protocol: Mapping[str, Any],
        lines: CenterlineDice | None = None,
        widths: Widths | None = None,
    ) -> EvalResult:
        """Read the scores off finished metrics; those of metrics that are left out are NaN."""
        unknown = np.full(len(confusion.classes), np.nan)
        return cls(
            classes=confusion.classes,
            matrix=confusion.matrix.copy(),
            miou=confusion.miou(),
            iou=confusion.iou(),
            pixel_accuracy=confusion.pixel_accuracy(),
            boundary_f1=boundary.mean() if boundary else float("nan"),
            boundary_f1_per_class=boundary.per_class() if boundary else unknown,
            absent=confusion.absent(),
            protocol=dict(protocol),
            precision=confusion.precision(),
            recall=confusion.class_accuracy(),
            cldice_per_class=lines.per_class() if lines else unknown,
            typical_width=widths.pixels if widths else unknown,
            boundary_reach=boundary.reach if boundary else float("nan"),
        )

    @property
    def dice(self) -> FloatArray:
        """Dice by class (C,), in 0–1."""
        return dice_of(self.iou)

    @property
    def mean_dice(self) -> float:
        """Mean Dice over the classes that occur."""
        return mean_of(self.dice)

    @property
    def cldice(self) -> float:
        """Mean clDice over the thin classes; NaN where none is."""
        return mean_of(self.cldice_per_class)

    @property
    def alone(self) -> str:
        """Name of the one class that the means are over; empty where there are more: 100 % of one class is no feat."""
        occurring = [name for name in self.classes.names if name not in self.absent]
        return occurring[0] if len(occurring) == 1 else ""

    def summary(self) -> str:
        """Return one line: split, mIoU and the protocol it was measured by."""
        p = self.protocol
        scales = (
            "single scale" if tuple(p["scales"]) == (1.0,) else f"scales {', '.join(f'{s:g}' for s in p['scales'])}"
        )
        rule = p["rule"] + (f": {', '.join(self.absent)}" if self.absent else "")
        words = [f"{p['dataset']} {p['split']}", f"{p['images']} images", p["resolution"], scales]
        words += ["flipped"] * bool(p["flip"]) + [rule] + [f"the mean is of {self.alone} alone"] * bool(self.alone)
        return f"{p['split']} mIoU {percent(self.miou)} ({', '.join(words)})"

    def columns(self) -> dict[str, tuple[FloatArray, float]]:
        """Return the scores that a table shows by their titles: each by class (C,), and its mean."""
        shown = {
            "IoU": (self.iou, self.miou),
            "Dice": (self.dice, self.mean_dice),
            "precision": (self.precision, mean_of(self.precision)),
            "recall": (self.recall, mean_of(self.recall)),
            "clDice": (self.cldice_per_class, self.cldice),
            "boundary F1": (self.boundary_f1_per_class, self.boundary_f1),
        }
        return shown if np.isfinite(self.cldice_per_class).any() else {k: v for k, v in shown.items() if k != "clDice"}

    @property
    def mean_title(self) -> str:
        """What the means are called: of one class they are none."""
        return f"only {self.alone}" if self.alone else "mean"

    def remarks(self) -> list[str]:
        """Return what is to be known beside the table, a sentence each: the tolerance of boundaries."""
        if np.isnan(self.boundary_reach):
            return self._of_confidence()
        lines = [f"boundary F1 lets outlines be {self.boundary_reach:.1f} px off"]
        near = [
            f"{name} (about {width:.1f} px)"
            for name, width in zip(self.classes.names, self.typical_width, strict=True)
            if self.boundary_reach > width / 2
        ]
        if near:
            lines[0] += f", over half the width of {', '.join(near)}: read it with care there"
        return lines + self._of_confidence()

    def _of_confidence(self) -> list[str]:
        if not self.reliability:
            return []
        last = self.reliability[-1]
        errors = [f"{percent(each.ece, decimals=2)} %" for each in self.reliability]
        words = "before and {} after calibration" if len(errors) > 1 else "(no temperature was fitted)"
        right = (
            f"; of the {percent(last.sure)} % of pixels that are at least 90 % sure {percent(last.right_when_sure)} %"
        )
        return [f"expected calibration error {errors[0]} {words.format(errors[-1])}{right} are right"]

    def __str__(self) -> str:
        columns = self.columns()
        width = max(len(name) for name in (*self.classes.names, self.mean_title, "pixel accuracy"))
        lines = [self.summary(), f"{'':{width}}  {'  '.join(f'{title:>5}' for title in columns)}"]
        rows = [*zip(self.classes.names, range(len(self.classes)), strict=True), (self.mean_title, -1)]
        for name, c in rows:
            values = (mean if c < 0 else each[c] for each, mean in columns.values())
            cells = (f"{percent(v):>{max(len(t), 5)}}" for t, v in zip(columns, values, strict=True))
            lines.append(f"{name:{width}}  {'  '.join(cells)}")
        lines.append(f"{'pixel accuracy':{width}}  {percent(self.pixel_accuracy):>5}")
        return "\n".join([*lines, *self.remarks()])

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON types, None standing for NaN; per-class scores are in the classes' order."""
        return {
            "classes": self.classes.to_dict(),
            "matrix": self.matrix.tolist(),
            "miou": _json_number(self.miou),
            "iou": _json_numbers(self.iou),
            "pixel_accuracy": _json_number(self.pixel_accuracy),
            "boundary_f1": _json_number(self.boundary_f1),
            "boundary_f1_per_class": _json_numbers(self.boundary_f1_per_class),
            "dice": _json_numbers(self.dice),
            "mean_dice": _json_number(self.mean_dice),
            "precision": _json_numbers(self.precision),
            "recall": _json_numbers(self.recall),
            "cldice": _json_number(self.cldice),
            "cldice_per_class": _json_numbers(self.cldice_per_class),
            "typical_width_px": _json_numbers(self.typical_width),
            "boundary_tolerance_px": _json_number(self.boundary_reach),
            "absent": list(self.absent),
            "reliability": [each.to_dict() for each in self.reliability],
            "protocol": {**self.protocol, "scales": [float(scale) for scale in self.protocol["scales"]]},
        }


def _json_number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _json_numbers(values: FloatArray) -> list[float | None]:
    return [_json_number(value) for value in values]
