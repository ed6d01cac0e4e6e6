"""One try after another of which layers stay fp32, and when a try is known to be lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.progress import logger
from ..core.types import ImageArray
from ..evaluation.matching import match_classes
from ..evaluation.metrics import ConfusionMatrix, CountArray, mean_of, ratio
from ..evaluation.result import EvalResult
from ..evaluation.scores import protocol
from ..evaluation.ways import Way, Ways
from ..runtime.segmenter import Segmenter
from .openvino_int8 import quantize_openvino
from .plan import Plan
from .qdq import calibrate, quantize_onnx
from .ranges import Histogram
from .sensitivity import layer_sensitivity

if TYPE_CHECKING:
    from .quantize import QuantizeConfig

ROUNDING = 1e-9
"""Of a mIoU, far above what adding up in another order changes."""


@dataclass(frozen=True)
class Original:
    """The fp32 file.

    Args:
        scores: of it.
        segmenter: what runs it.
        order: images, those first whose pixels it has wrong the most: what is left after them can gain the least.
        targets: int64 (images, C), pixels of each class by image.
    """

    scores: EvalResult
    segmenter: Segmenter
    order: tuple[int, ...]
    targets: CountArray

    @property
    def miou(self) -> float:
        """Its mIoU, 0–1."""
        return self.scores.miou


@dataclass(frozen=True)
class Round:
    """A try.

    Args:
        kept: the layers that stayed fp32.
        miou: of the file, 0–1; where the try was given up, the most that it could have reached.
        scores: of the file; None where too much was lost.
        whole: whether all images were looked at.
        segmenter: what runs the file.
        way: its masks; None where too much was lost.
    """

    kept: tuple[str, ...]
    miou: float
    scores: EvalResult | None
    whole: bool
    segmenter: Segmenter
    way: Way | None


@dataclass(frozen=True)
class Search:
    """What every try needs.

    Args:
        source: the fp32 file.
        whole: plan of all its layers.
        calibration: RGB images at the deployed size.
        config: limits, engine and method.
        ways: masks of the validation images.
        histograms: of the tensors of `source`, as far as they are known.
    """

    source: Path
    whole: Plan
    calibration: Sequence[ImageArray]
    config: QuantizeConfig
    ways: Ways
    histograms: dict[str, Histogram]

    def calibrate(self) -> None:
        """Find the histograms that are missing."""
        if set(self.whole.roots.values()) - self.histograms.keys():
            self.histograms.update(calibrate(self.whole, self.calibration, threads=self.config.threads))

    def original(self) -> Original:
        """Score the fp32 file."""
        segmenter = self.config.segmenter(self.source)
        way = self._way(self.source, segmenter)
        count = len(way.dataset.classes)
        single, targets = [], np.zeros((len(way.dataset), count), np.int64)
        for index in range(len(way.dataset)):
            way.score(index)
            alone = ConfusionMatrix(way.dataset.classes)
            alone.update(way.dataset.read(index)[1], way.mask(index))
            single.append(_errors(alone))
            targets[index] = alone.matrix.sum(1)
        union = _errors(way.confusion) + np.diagonal(way.confusion.matrix)
        loss = ratio(np.array(single, np.float64), np.broadcast_to(union, targets.shape))
        order = np.argsort(-np.nansum(loss, axis=1), kind="stable")
        return Original(self._result(way, segmenter), segmenter, tuple(map(int, order)), targets)

    def round(self, candidate: Path, kept: Sequence[str], original: Original) -> Round:
        """Write the int8 file with the layers `kept` in fp32, and score it until it is known to lose too much."""
        logger.info(f"{candidate.name}: scoring int8 with {len(kept)} layers in fp32")
        config = self.config
        if candidate.suffix.lower() == ".xml":
            known = self.histograms if config.way == "qdq" else self.calibration
            quantize_openvino(self.source, candidate, known, keep=kept, way=config.way, method=config.method)
        else:
            quantize_onnx(
                self.source, candidate, self.histograms, flavour=config.flavour, keep=kept, method=config.method
            )
        segmenter = config.segmenter(candidate)
        way = self._way(candidate, segmenter)
        left = original.targets.sum(0)
        for done, index in enumerate(original.order, start=1):
            way.score(index)
            left = left - original.targets[index]
            best = best_miou(way.confusion, left)
            if original.miou - best > config.max_drop + ROUNDING and done < len(original.order):
                self.ways.forget(way)
                return Round(tuple(kept), best, None, False, segmenter, None)
        scores = self._result(way, segmenter)
        if original.miou - scores.miou > config.max_drop:
            self.ways.forget(way)
            return Round(tuple(kept), scores.miou, None, True, segmenter, None)
        return Round(tuple(kept), scores.miou, scores, True, segmenter, way)

    def ranking(self) -> list[str]:
        """Return the layers' names, the one whose rounding changes most first."""
        logger.info(f"{self.source.name}: measuring each layer's damage")
        found = layer_sensitivity(
            self.source,
            self.calibration,
            flavour=self.config.flavour,
            method=self.config.method,
            histograms=self.histograms,
            threads=self.config.threads,
        )
        return [damage.name for damage in found]

    def _way(self, path: Path, segmenter: Segmenter) -> Way:
        """Return the way of a file, its classes those of the data."""
        matched = match_classes(segmenter.artifact.classes, self.ways.dataset)
        return self.ways.of_file(path, segmenter, matched.predictions)

    def _result(self, way: Way, segmenter: Segmenter) -> EvalResult:
        rules = protocol(
            self.ways.dataset, segmenter.size, fit=segmenter.fit, long_side=segmenter.artifact.input_spec.long_side
        )
        rule = match_classes(segmenter.artifact.classes, self.ways.dataset).rule
        rules["rule"] = f"{rules['rule']}; {rule}" if rule else rules["rule"]
        return EvalResult.from_metrics(way.confusion, None, rules)


def _errors(confusion: ConfusionMatrix) -> CountArray:
    """Return the pixels of each class (C,) that are in its target or its prediction alone."""
    matrix = confusion.matrix
    errors: CountArray = matrix.sum(0) + matrix.sum(1) + confusion.missed - 2 * np.diagonal(matrix)
    return errors


def best_miou(confusion: ConfusionMatrix, left: CountArray) -> float:
    """Return the mIoU, 0–1, if all pixels that are left turn out right: no way of predicting them gives more.

    A pixel predicted right adds one to its class's intersection and one to its union. One predicted wrong adds to the
    unions of two classes alone, and where one of these did not occur before, it joins the mean with nothing.

    Args:
        confusion: of what was counted so far.
        left: pixels of each class (C,) that are not counted yet.
    """
    hits = np.diagonal(confusion.matrix)
    return mean_of(ratio(hits + left, hits + _errors(confusion) + left))
