"""Scores of a segmenter on a dataset: every pixel of every image, at the masks' own resolution. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError
from ..core.progress import OnProgress, logger, no_progress
from ..core.types import ImageArray, MaskArray
from ..data.class_maps import ClassMap
from ..data.datasets import SegmentationDataset
from ..runtime.prediction import Prediction
from ..runtime.segmenter import Segmenter
from .calibration import Reliability
from .centerline import CenterlineDice, Widths, take_widths
from .matching import match_classes
from .metrics import BoundaryF1, ConfusionMatrix
from .result import EvalResult

RULE = "classes absent from masks and predictions left out"

Segment = Callable[[ImageArray], MaskArray]
Watch = Callable[[int, ImageArray, MaskArray, MaskArray], None]
"""Called with a sample's index, image, target and prediction, as they are scored."""
Counts = tuple[ConfusionMatrix, BoundaryF1 | None, CenterlineDice | None]
"""What is counted; counts over parts of a dataset merge into those over all of it."""


def score(
    segment: Segment,
    dataset: SegmentationDataset,
    *,
    indices: Sequence[int] | None = None,
    boundary: bool = True,
    thin: Sequence[int] = (),
    others: bool = False,
    watch: Watch | None = None,
    progress: OnProgress = no_progress,
) -> Counts:
    """Segment a dataset's images and count; memory does not grow with their number.

    Args:
        segment: RGB uint8 (H, W, 3) to class ids uint8 (H, W).
        dataset: images and masks.
        indices: which samples; all where left out. Processes that share the work merge their counts.
        boundary: whether to measure boundary F1, which takes about as long as a small network.
        thin: ids of the classes whose clDice is measured, see :func:`.centerline.take_widths`.
        others: whether `segment` may give ids that are no class, which count as wrong.
        watch: is shown each sample.
        progress: called with the numbers of images done and of all.
    """
    confusion = ConfusionMatrix(dataset.classes, others=others)
    borders = BoundaryF1(dataset.classes) if boundary else None
    lines = CenterlineDice(dataset.classes, thin) if thin else None
    chosen = range(len(dataset)) if indices is None else indices
    for done, index in enumerate(chosen, start=1):
        image, target = dataset.read(index)
        prediction = segment(image)
        for metric in (confusion, borders, lines):
            if metric is not None:
                metric.update(target, prediction)
        if watch is not None:
            watch(index, image, target, prediction)
        progress(done, len(chosen))
    return confusion, borders, lines


def evaluate(
    segmenter: Segmenter | Any,
    dataset: SegmentationDataset,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    boundary: bool = True,
    thin: Sequence[str] | None = None,
    class_map: ClassMap | None = None,
    progress: OnProgress = no_progress,
) -> EvalResult:
    """Return dataset-level scores with their protocol.

    Args:
        segmenter: file or network with its deployed pre- and postprocessing; or what :class:`Segmenter` opens. A
            network in memory, of another library too (see :func:`featherseg.wrap`), has the dataset's classes.
        dataset: its classes are the segmenter's, or some of them, in any order; or `class_map` says which is which.
        scales: image scales whose class probabilities are averaged; ``(1.0,)`` is the honest single-scale score.
        flip: average over the mirrored image too.
        boundary: measure boundary F1, and clDice of thin classes.
        thin: names of the classes that are thin; where left out, their width and shape in the masks decide, see
            :class:`.centerline.Widths`.
        class_map: the segmenter's classes by each of the data's, see :func:`.matching.read_map`.
        progress: called with the numbers of images done and of all.

    Raises:
        ConfigError: the classes differ, a scale is not positive, or the segmenter's fixed size would undo the scales.

    Example:
        >>> val_set = featherseg.create_dataset("synthetic", split="val", val_count=2, size=(64, 96))
        >>> result = featherseg.evaluate(featherseg.Segmenter("street.onnx"), val_set)
        >>> 0 <= result.miou <= 1, result.protocol["resolution"]
        (True, 'original resolution')
    """
    ready = prepare(
        segmenter,
        dataset,
        scales=scales,
        flip=flip,
        boundary=boundary,
        thin=thin,
        class_map=class_map,
        reliability=True,
    )
    if ready.rule:
        logger.info(ready.rule)
    return ready.result(ready.score(progress=progress))


class Sureness:
    """Segments and remembers how sure it was, to be told what would have been right.

    Args:
        segmenter: network or file; if a temperature was fitted for it, confidence counts without and with it.
        ignored: true value of pixels that do not count.
    """

    def __init__(self, segmenter: Segmenter, ignored: int) -> None:
        self._sure, self._temperature = segmenter.surely(1.0), segmenter.temperature
        self._last: Prediction | None = None
        self._ignored = ignored
        self.found = tuple(Reliability() for _ in range(1 if self._temperature == 1.0 else 2))

    def segment(self, image: ImageArray) -> MaskArray:
        """Return the class ids of an image."""
        self._last = self._sure(image)
        return self._last.mask

    def watch(self, index: int, image: ImageArray, target: MaskArray, mask: MaskArray) -> None:
        """Count the pixels of the last image, of which `target` is true."""
        assert self._last is not None  # it was segmented
        assert self._last.confidence is not None  # which it was asked for
        assert self._last.parts is not None
        self.found[0].update(target, mask, self._last.confidence, self._ignored)
        for reliability in self.found[1:]:
            confidence = self._last.parts.confidence(mask.shape, self._temperature)
            reliability.update(target, mask, confidence, self._ignored)


@dataclass(frozen=True)
class Prepared:
    """An evaluation that is checked and ready, here or in any of several processes that share the images.

    Args:
        segment: RGB uint8 (H, W, 3) to class ids of the data, uint8 (H, W).
        dataset: images and masks, as they are scored.
        others: whether `segment` may give ids that are no class.
        boundary: measure boundary F1, and clDice of thin classes.
        thin: names of these; where None, their width and shape in the masks decide.
        rules: see :func:`protocol`.
        rule: what was done to match the classes; empty where it was nothing.
        sureness: what `segment` goes through to be asked how sure it was; None where it is not.
    """

    segment: Segment
    dataset: SegmentationDataset
    others: bool
    boundary: bool
    thin: Sequence[str] | None
    rules: Mapping[str, object]
    rule: str
    sureness: Sureness | None = None

    @cached_property
    def widths(self) -> Widths | None:
        """How wide the classes are; None where boundaries are not measured."""
        return take_widths(self.dataset) if self.boundary else None

    @cached_property
    def lean(self) -> tuple[int, ...]:
        """Ids of the classes whose clDice is measured."""
        if self.widths is None:
            return ()
        return self.widths.thin if self.thin is None else self.widths.chosen(self.thin)

    def score(
        self,
        indices: Sequence[int] | None = None,
        lean: Sequence[int] | None = None,
        progress: OnProgress = no_progress,
    ) -> Counts:
        """Return the counts over samples; see :func:`score`.

        Args:
            indices: of these; all where left out.
            lean: :attr:`lean`, where another process found it already.
            progress: called with the numbers of images done and of all.
        """
        return score(
            self.segment,
            self.dataset,
            indices=indices,
            boundary=self.boundary,
            thin=self.lean if lean is None else lean,
            others=self.others,
            watch=self.sureness.watch if self.sureness else None,
            progress=progress,
        )

    def result(self, counts: Counts) -> EvalResult:
        """Return the scores that counts over all samples mean."""
        confusion, borders, lines = counts
        found = EvalResult.from_metrics(confusion, borders, self.rules, lines, self.widths)
        return replace(found, reliability=self.sureness.found) if self.sureness else found


def prepare(
    segmenter: Segmenter | Any,
    dataset: SegmentationDataset,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    boundary: bool = True,
    thin: Sequence[str] | None = None,
    class_map: ClassMap | None = None,
    reliability: bool = False,
) -> Prepared:
    """Check what :func:`evaluate` is given, and return it ready to be scored; the arguments are those.

    With `reliability`, the scores say how far a single view's confidence can be trusted, too.

    Raises:
        ConfigError: see there.
    """
    if not hasattr(segmenter, "segment"):
        segmenter = Segmenter(segmenter, classes=dataset.classes)
    matched = match_classes(segmenter.artifact.classes, dataset, class_map)
    if not scales or min(scales) <= 0:
        raise ConfigError(f"scales are {list(scales)}; give one or more numbers over 0")
    if segmenter.size is not None and tuple(scales) != (1.0,):
        fixed = "x".join(map(str, segmenter.size))
        raise ConfigError(f"scales are {list(scales)}, but all images are resized to {fixed}; leave out size or scales")
    single = tuple(scales) == (1.0,) and not flip
    segment = segmenter.segment if single else averaged(segmenter, scales, flip)
    sureness = None
    if reliability and single and isinstance(segmenter, Segmenter):
        sureness = Sureness(segmenter, dataset.classes.ignore_index)
        segment = sureness.segment
    if (table := matched.predictions) is not None:
        plain, segment = segment, lambda image: table[plain(image)]
    rules = protocol(
        dataset, segmenter.size, scales, flip, segmenter.fit, long_side=segmenter.artifact.input_spec.long_side
    )
    rules["rule"] = f"{rules['rule']}; {matched.rule}" if matched.rule else rules["rule"]
    return Prepared(segment, matched.dataset, table is not None, boundary, thin, rules, matched.rule, sureness)


def protocol(
    dataset: SegmentationDataset,
    size: tuple[int, int] | None = None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    fit: str | None = None,
    long_side: int | None = None,
) -> dict[str, object]:
    """Return the rules of an evaluation, as :class:`EvalResult` wants them."""
    way = f" ({fit})" if fit in ("letterbox", "tile") else ""
    seen = f"{size[0]}x{size[1]}{way}" if size is not None else f"with a long side of {long_side}" if long_side else ""
    resized = f", network input {seen}" if seen else ""
    return {
        "dataset": dataset.name,
        "split": dataset.split,
        "images": len(dataset),
        "resolution": f"original resolution{resized}",
        "scales": list(scales),
        "flip": flip,
        "rule": RULE,
    }


def averaged(segmenter: Segmenter, scales: Sequence[float], flip: bool) -> Segment:
    """Return a segmenting function that averages class probabilities over scaled and mirrored images."""

    def segment(image: ImageArray) -> MaskArray:
        height, width = image.shape[:2]
        total: NDArray[np.float32] | None = None
        for scale in scales:
            for mirrored in (False, True) if flip else (False,):
                view = np.ascontiguousarray(image[:, ::-1]) if mirrored else image
                probs = _softmax(segmenter.logits(view, scale))
                if mirrored:
                    probs = probs[:, :, ::-1]
                full = np.stack([cv2.resize(p, (width, height), interpolation=cv2.INTER_LINEAR) for p in probs])
                total = full if total is None else total + full
        assert total is not None  # evaluate() refuses empty scales
        mask: MaskArray = total.argmax(axis=0).astype(np.uint8)
        return mask

    return segment


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    exponents = np.exp(logits - logits.max(axis=0, keepdims=True))
    result: NDArray[np.float32] = exponents / exponents.sum(axis=0, keepdims=True)
    return np.ascontiguousarray(result)
