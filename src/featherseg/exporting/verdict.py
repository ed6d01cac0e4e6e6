"""What a verification measures of an exported file, and how far it may be from the network."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ..core.errors import ConfigError
from ..core.formatting import percent
from ..core.types import ClassSet
from ..evaluation.calibration import Calibration
from ..runtime.artifact import Artifact


@dataclass(frozen=True)
class Tolerance:
    """How far an exported file may be from its network.

    The defaults suit an fp32 file; a quantised one needs wider limits, chosen on purpose.

    Args:
        max_logit_error: largest difference of a logit, relative to the largest logit of that image.
        min_agreement: share of all pixels, ignored ones too, that must have the same class.
        max_miou_drop: mIoU (0–1) that may be lost.
        max_confidence_error: mean difference of the probability of the class that wins, each at its own temperature.
    """

    max_logit_error: float = 1e-3
    min_agreement: float = 0.9995
    max_miou_drop: float = 0.001
    max_confidence_error: float = 0.001

    def __post_init__(self) -> None:
        shares = self.min_agreement, self.max_miou_drop, self.max_confidence_error
        if not self.max_logit_error >= 0 or not all(0 <= share <= 1 for share in shares):
            raise ConfigError(f"{self} is out of range; errors are from 0, all others between 0 and 1")


@dataclass(frozen=True)
class Parity:
    """Difference of the logits at one size.

    Args:
        size: (height, width) of the images.
        absolute: largest difference.
        relative: largest difference over the largest logit of its image.
        image: stem of the image with the largest relative difference.
    """

    size: tuple[int, int]
    absolute: float
    relative: float
    image: str


@dataclass(frozen=True)
class Quality:
    """What masks are worth against a dataset's truth; fractions 0–1, NaN where a class does not occur."""

    miou: float
    iou: tuple[float, ...]
    boundary_f1: float


@dataclass(frozen=True)
class VerifyResult:
    """Figures of a verification.

    Args:
        classes: what the ids stand for.
        dataset: its name and split.
        images: how many of them were compared.
        session: engine and device that ran the file.
        parity: logit differences by size.
        agreement: share of all pixels, ignored ones too, whose class is the same.
        worst_image: stem of the image with the least agreement, and that agreement.
        file: quality of the deployed path's masks.
        torch: quality of plain torch's masks.
        tolerance: the limits.
        calibration: temperature and reliability of the file; None where no pixel is labelled.
        confidence_error: mean difference of file and network in the probability of the class that wins, over labelled
            pixels taken at random, each at its own temperature; NaN where none is labelled.
        place: where in the network a failed ONNX file parts from it.
    """

    classes: ClassSet
    dataset: str
    images: int
    session: str
    parity: tuple[Parity, ...]
    agreement: float
    worst_image: tuple[str, float]
    file: Quality
    torch: Quality
    tolerance: Tolerance
    calibration: Calibration | None = None
    confidence_error: float = math.nan
    place: str = ""

    @property
    def failures(self) -> tuple[str, ...]:
        """One sentence for each limit that is passed: figure, limit, and where it is worst. NaN passes none."""
        found = []
        limit = self.tolerance
        parity = max(self.parity, key=lambda p: math.inf if math.isnan(p.relative) else p.relative)
        if not parity.relative <= limit.max_logit_error:
            found.append(
                f"logits differ by {parity.relative:.2e} of the largest (limit {limit.max_logit_error:.2e}), "
                f"worst at {parity.size[0]}x{parity.size[1]} in image {parity.image}"
            )
        if not self.agreement >= limit.min_agreement:
            name, share = self.worst_image
            found.append(
                f"masks agree in {self.agreement:.4%} of the pixels (limit {limit.min_agreement:.4%}), "
                f"worst in image {name} with {share:.4%}"
            )
        if math.isnan(self.torch.miou) or math.isnan(self.file.miou):
            found.append(f"mIoU is undefined, for {self.dataset} has no labelled pixel; verify on a labelled split")
        elif not self.torch.miou - self.file.miou <= limit.max_miou_drop:
            # A class that occurs in neither truth nor masks counts as whole: predicting it anyway is what costs.
            drops = np.nan_to_num(self.torch.iou, nan=1.0) - np.nan_to_num(self.file.iou, nan=1.0)
            k = int(np.argmax(drops))
            found.append(
                f"mIoU falls from {_percent(self.torch.miou)} to {_percent(self.file.miou)} "
                f"(limit {limit.max_miou_drop * 100:.2f} points), worst in class {self.classes.names[k]}: "
                f"{_percent(self.torch.iou[k])} to {_percent(self.file.iou[k])}"
            )
        if self.confidence_error > limit.max_confidence_error:
            found.append(
                f"confidence differs by {self.confidence_error:.4f} on average (limit {limit.max_confidence_error:.4f})"
            )
        return tuple(found)

    @property
    def passed(self) -> bool:
        """Whether no limit is passed."""
        return not self.failures

    @property
    def explanation(self) -> str:
        """All failures and their place in one line; empty where there is none."""
        return "; ".join([*self.failures, *[self.place] * bool(self.place)])

    def stamped(self, artifact: Artifact) -> Artifact:
        """Return what a file says of itself, with what was found here."""
        calibration = self.calibration.to_dict() if self.calibration else {}
        return replace(artifact, verification=self.to_dict(), calibration=calibration)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON types, None for NaN: what the exported file carries."""
        figures = {
            "passed": self.passed,
            "agreement": self.agreement,
            "miou": self.file.miou,
            "miou_torch": self.torch.miou,
            "iou": dict(zip(self.classes.names, self.file.iou, strict=True)),
            "iou_torch": dict(zip(self.classes.names, self.torch.iou, strict=True)),
            "boundary_f1": self.file.boundary_f1,
            "boundary_f1_torch": self.torch.boundary_f1,
            "confidence_error": self.confidence_error,
            "worst_image": list(self.worst_image),
            "parity": [asdict(parity) | {"size": list(parity.size)} for parity in self.parity],
            "sizes": [list(parity.size) for parity in self.parity],
            "dataset": self.dataset,
            "images": self.images,
            "session": self.session,
            "tolerance": asdict(self.tolerance),
        }
        cleaned: dict[str, Any] = _without_nan(figures)
        return cleaned

    def __str__(self) -> str:
        lines = [f"verified on {self.dataset}, {self.images} images, absent classes left out: {self.session}"]
        for p in self.parity:
            lines.append(f"  logits {p.size[0]}x{p.size[1]}: max error {p.absolute:.2e}, relative {p.relative:.2e}")
        lines += [
            f"  mask agreement {self.agreement:.4%}, least {self.worst_image[1]:.4%} in {self.worst_image[0]}",
            f"  mIoU {_percent(self.file.miou)} (torch {_percent(self.torch.miou)}), "
            f"boundary F1 {_percent(self.file.boundary_f1)} (torch {_percent(self.torch.boundary_f1)})",
        ]
        if self.calibration is not None:
            lines.append(f"  confidence: mean difference {self.confidence_error:.1e}; {self.calibration}")
        verdict = [f"  FAILED: {failure}" for failure in self.failures] or ["  passed"]
        verdict += [f"  {self.place}"] * bool(self.place)
        return "\n".join(lines + verdict)


def _percent(fraction: float) -> str:
    return percent(fraction, decimals=2, absent="absent")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
