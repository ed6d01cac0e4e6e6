"""How good masks are: confusion matrix and boundary F1 over a whole dataset. NumPy and OpenCV, no torch.

Both metrics take one image at a time at the mask's original resolution, add counts, and need the same memory for one
image as for a million; parts that were counted apart (by several processes) merge into the same figures.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, DataError
from ..core.types import ClassSet

AnyMask = NDArray[np.integer[Any]]
"""Class ids of any integer type, (H, W)."""
FloatArray = NDArray[np.float64]
CountArray = NDArray[np.int64]


def _as_uint8(mask: AnyMask, what: str) -> NDArray[np.uint8]:
    """Return class ids as uint8, which all valid ids fit."""
    if mask.dtype == np.uint8:
        return mask.view(np.uint8)
    if mask.dtype.kind not in "iu":
        raise ConfigError(f"the {what} is of type {mask.dtype}; give class ids as integers (argmax of the logits)")
    if mask.size and (mask.min() < 0 or mask.max() > 255):
        raise ConfigError(f"the {what} holds values {mask.min()} to {mask.max()}; class ids are 0 to 255")
    return mask.astype(np.uint8)


def as_pair(target: AnyMask, prediction: AnyMask) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return two masks of one size (H, W) as uint8.

    Raises:
        ConfigError: their shapes differ or are no mask's, or they hold what is no class id.
    """
    if target.ndim != 2 or target.shape != prediction.shape:
        raise ConfigError(
            f"target is {target.shape} and prediction is {prediction.shape}; both must be (height, width) and equal,"
            " so resize the prediction to the target"
        )
    return _as_uint8(target, "target"), _as_uint8(prediction, "prediction")


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> FloatArray:
    """Return part / whole, NaN where whole is 0."""
    out: FloatArray = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=out, where=np.asarray(whole) != 0)
    return out


def dice_of(iou: FloatArray) -> FloatArray:
    """Return Dice, which is F1 of the pixels, of IoUs, both in 0–1."""
    return 2 * iou / (1 + iou)


def mean_of(values: FloatArray) -> float:
    """Return the mean of the values that are not NaN; NaN where all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


class ConfusionMatrix:
    """Counts of pixels by target and predicted class over all images seen.

    Pixels whose target is ignored do not count, whatever is predicted there; everywhere else a prediction must be a
    class id.

    Args:
        classes: the classes.
        others: predictions that are no class count as wrong instead of being refused: a network that knows other
            classes may find what the data have no name for.

    Attributes:
        classes: the classes.
        matrix: int64 (C, C); ``matrix[t, p]`` counts the pixels of class t that were predicted as p.
        missed: int64 (C,); pixels of each class whose prediction is no class.
    """

    def __init__(self, classes: ClassSet, *, others: bool = False) -> None:
        self.classes = classes
        self.others = others
        self.missed: CountArray = np.zeros(len(classes), np.int64)
        count = len(classes)
        self.matrix: CountArray = np.zeros((count, count), np.int64)
        # Where a row of the bins below starts, by target value: one row per class, one for ignored pixels and one for
        # values that should not be there. The last column takes predictions that are no class. Counting all of them
        # is quicker than picking out the valid ones, and finds wrong values on the way.
        self._row_starts = np.full(256, count + 1, np.intp)
        self._row_starts[:count] = np.arange(count)
        self._row_starts[classes.ignore_index] = count
        self._row_starts *= count + 1

    def update(self, target: AnyMask, prediction: AnyMask) -> None:
        """Add one image: target and prediction are class ids (H, W).

        Raises:
            DataError: the target holds an id that is neither a class nor ignored. Nothing is added then.
            ConfigError: shapes differ, or a prediction that counts is no class. Nothing is added then.
        """
        target, prediction = as_pair(target, prediction)
        count = len(self.classes)
        bins = self._row_starts[target]
        bins += np.minimum(prediction, count)
        counts = np.bincount(bins.ravel(), minlength=(count + 2) * (count + 1)).reshape(count + 2, count + 1)
        if counts[count + 1].any():
            known = self._row_starts < (count + 1) ** 2
            wrong = int(target[~known[target]][0])
            raise DataError(
                f"the target holds value {wrong}; class ids are 0 to {count - 1} and {self.classes.ignore_index} is"
                " ignored, so remap the mask or add the class"
            )
        if counts[:count, count].any() and not self.others:
            wrong = int(prediction[(prediction >= count) & (target < count)][0])
            raise ConfigError(f"the prediction holds value {wrong}; class ids are 0 to {count - 1}")
        self.matrix += counts[:count, :count]
        self.missed += counts[:count, count]

    def merge(self, other: ConfusionMatrix) -> Self:
        """Add another matrix over the same classes to this one, and return this one."""
        if other.classes != self.classes:
            raise ConfigError(
                f"a confusion matrix of {len(self.classes)} classes cannot take counts over {len(other.classes)} other"
                " ones; names, colours and ignore_index must be the same"
            )
        self.matrix += other.matrix
        self.missed += other.missed
        return self

    __iadd__ = merge

    def counts(self) -> tuple[CountArray, ...]:
        """Return the arrays that several processes' metrics are added up by, in place."""
        return self.matrix, self.missed

    def iou(self) -> FloatArray:
        """Return intersection over union by class (C,), in 0–1; NaN for a class absent from target and prediction."""
        hits = np.diagonal(self.matrix)
        return ratio(hits, self.matrix.sum(0) + self.matrix.sum(1) - hits + self.missed)

    def miou(self) -> float:
        """Return the mean IoU over the classes that occur, in 0–1; NaN where none does."""
        return mean_of(self.iou())

    def pixel_accuracy(self) -> float:
        """Return the share of pixels that are right, in 0–1; NaN before the first pixel."""
        return float(ratio(np.trace(self.matrix), self.matrix.sum() + self.missed.sum()))

    def dice(self) -> FloatArray:
        """Return Dice by class (C,), the F1 score of its pixels: 2 hits / (target + predicted); NaN as :meth:`iou`."""
        iou = self.iou()
        return 2 * iou / (1 + iou)

    def precision(self) -> FloatArray:
        """Return the share of the pixels predicted as a class that are right (C,), in 0–1; NaN where none are."""
        return ratio(np.diagonal(self.matrix), self.matrix.sum(0))

    def class_accuracy(self) -> FloatArray:
        """Return the share of each class's target pixels that are right (recall) (C,); NaN where it has none."""
        return ratio(np.diagonal(self.matrix), self.matrix.sum(1) + self.missed)

    def absent(self) -> tuple[str, ...]:
        """Return the names of the classes that neither targets nor predictions hold, which the mean leaves out."""
        return tuple(name for name, iou in zip(self.classes.names, self.iou(), strict=True) if np.isnan(iou))


class BoundaryF1:
    """How well predicted outlines follow the true ones: F1 score of boundary pixels, by class.

    After Csurka et al., What is a good evaluation measure for semantic segmentation? (BMVC 2013), as follows:

    - A boundary pixel of class c has class c, and at least one of its four neighbours another class. The image's edge
      is no boundary.
    - Ignored pixels of the target are taken out of both masks: they have no class, and make no boundary with their
      neighbours. So neither the edge of an ignored area counts, nor what is predicted inside.
    - A boundary pixel is right if a boundary pixel of the same class in the other mask lies within `tolerance` times
      the image's diagonal, but at least 1 pixel (Euclidean distance between pixel centres, exact).
    - Precision is the share of right ones among the predicted boundary pixels, recall that among the target's; F1 is
      their harmonic mean, 0 where one of the two masks has none.
    - Pixels are summed over the dataset before dividing. The paper averages the scores of single images instead, so
      the figures are not the same; summing does not let an image with five pixels of a class weigh as much as one
      with five thousand.

    Args:
        classes: the classes.
        tolerance: allowed distance as a share of the image diagonal; 0.0075 is the paper's.
    """

    def __init__(self, classes: ClassSet, tolerance: float = 0.0075) -> None:
        if not 0.0 < tolerance < 1.0:
            raise ConfigError(f"tolerance is {tolerance}; give a share of the image diagonal between 0 and 1")
        self.classes = classes
        self.tolerance = tolerance
        self.target_pixels: CountArray = np.zeros(len(classes), np.int64)
        self.target_right: CountArray = np.zeros(len(classes), np.int64)
        self.predicted_pixels: CountArray = np.zeros(len(classes), np.int64)
        self.predicted_right: CountArray = np.zeros(len(classes), np.int64)
        self._reaches: CountArray = np.zeros(2, np.int64)  # images, and the sum of their reaches in 1/1000 pixel

    @property
    def reach(self) -> float:
        """The distance in pixels within which a boundary pixel is right, averaged over the images; NaN before any."""
        return float(ratio(self._reaches[1] / 1000, self._reaches[0]))

    def update(self, target: AnyMask, prediction: AnyMask) -> None:
        """Add one image: target and prediction are class ids (H, W). Ids that are no class make no boundary pixels."""
        target, prediction = as_pair(target, prediction)
        valid = target != self.classes.ignore_index
        reach = max(1.0, self.tolerance * float(np.hypot(*target.shape)))
        self._reaches += (1, round(1000 * reach))
        true_points = _boundary_points(target, valid, len(self.classes))
        predicted_points = _boundary_points(prediction, valid, len(self.classes))
        for c in range(len(self.classes)):
            truth, predicted = true_points[c], predicted_points[c]
            self.target_pixels[c] += len(truth)
            self.predicted_pixels[c] += len(predicted)
            if len(truth) and len(predicted):
                self.target_right[c] += _count_near(truth, predicted, reach)
                self.predicted_right[c] += _count_near(predicted, truth, reach)

    def merge(self, other: BoundaryF1) -> Self:
        """Add the counts of another one with the same classes and tolerance, and return this one."""
        if (other.classes, other.tolerance) != (self.classes, self.tolerance):
            raise ConfigError(
                f"boundary F1 of {len(self.classes)} classes at tolerance {self.tolerance} cannot take counts of"
                f" {len(other.classes)} classes at {other.tolerance}; use the same for both"
            )
        self.target_pixels += other.target_pixels
        self.target_right += other.target_right
        self.predicted_pixels += other.predicted_pixels
        self.predicted_right += other.predicted_right
        self._reaches += other._reaches
        return self

    __iadd__ = merge

    def counts(self) -> tuple[CountArray, ...]:
        """Return the arrays that several processes' metrics are added up by, in place."""
        return self.target_pixels, self.target_right, self.predicted_pixels, self.predicted_right, self._reaches

    def per_class(self) -> FloatArray:
        """Return F1 by class (C,), in 0–1; NaN for a class without a boundary in targets and predictions."""
        precision = np.nan_to_num(ratio(self.predicted_right, self.predicted_pixels))
        recall = np.nan_to_num(ratio(self.target_right, self.target_pixels))
        f1 = np.nan_to_num(ratio(2 * precision * recall, precision + recall))
        return np.where(self.target_pixels + self.predicted_pixels > 0, f1, np.nan)

    def mean(self) -> float:
        """Return the mean of :meth:`per_class` over the classes that have one, in 0–1; NaN where none has."""
        return mean_of(self.per_class())


def _boundary_points(mask: NDArray[np.uint8], valid: NDArray[np.bool_], count: int) -> list[NDArray[np.int32]]:
    """Return (y, x) of the boundary pixels of each of `count` classes, int32 (N, 2) a class."""
    edge = np.zeros(mask.shape, bool)
    down = (mask[1:] != mask[:-1]) & valid[1:] & valid[:-1]
    right = (mask[:, 1:] != mask[:, :-1]) & valid[:, 1:] & valid[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    flat = np.flatnonzero(edge)
    ids = mask.ravel()[flat]
    order = np.argsort(ids, kind="stable")
    points = np.stack(np.divmod(flat[order], mask.shape[1]), axis=1).astype(np.int32)
    ends = np.searchsorted(ids[order], np.arange(count + 1))
    return [points[start:end] for start, end in pairwise(ends)]


def _count_near(points: NDArray[np.int32], others: NDArray[np.int32], reach: float) -> int:
    """Return how many of `points` (y, x) lie within `reach` pixels of one of `others`; neither is empty."""
    # Distances inside the box of all points need nothing outside it, and most classes fill a small part of an image.
    low = np.minimum(points.min(0), others.min(0))
    high = np.maximum(points.max(0), others.max(0))
    away = np.ones(tuple(high - low + 1), np.uint8)
    away[tuple((others - low).T)] = 0
    distance = cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # Distances are float32 roots: the margin keeps a distance of exactly `reach` inside.
    return int(np.count_nonzero(distance[tuple((points - low).T)] <= reach + 1e-4))
