"""Whether a network is right as often as it says, and the temperature that makes it so. No torch.

Networks are surer than they may be, or, where rare classes weighed more in training, less sure. Dividing their logits
by one number changes no mask and mends much of it (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017).
Some are too sure of poles and not sure enough of roads; then there is one temperature for each class that can win.

What is fitted is the winner's probability: to whether the winner is right (top-label calibration, Gupta and Ramdas,
ICLR 2022). Guo et al. make the true class most probable instead. On CamVid's recordings, a few pixels on which the
network is sure and wrong then raised the temperature of all others, and confidence came out worse than without.

How well it works is always told of images that the fit did not see: the dataset is cut into two halves, each one run
of its images, and each is judged with what was fitted on the other. Frames of a video that follow one another are in
the same half so. A temperature, and temperatures of classes, are used only if they do better there than going without.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DataError
from ..core.progress import OnProgress, no_progress
from ..core.types import IGNORE_INDEX, MaskArray
from ..data.datasets import SegmentationDataset
from ..runtime.confidence import Temperature
from ..runtime.segmenter import Segmenter

Logits = NDArray[np.float32]
BINS = 15
"""Of the reliability diagram, all equally wide; Guo et al. have as many."""
PIXELS = 2000
"""Labelled pixels of an image that are looked at: neighbours say the same."""
MOST_NUMBERS = 2_000_000
"""Logits that a fit looks at, of all images together."""
RANGE = (0.1, 20.0)
"""Temperatures that are tried: at either end a network's confidence has nothing to do with it being right."""
FEWEST = 1000
"""Pixels on which a class has to win for a temperature of its own."""
GAIN = 0.005
"""By how much of itself a temperature must lessen the loss on the other half to be worth it; so must those of
classes."""
GRID, REFINED = 24, 12
"""Temperatures that are tried first, and halvings of the span round the best of them."""
LEAST = 1e-6
"""Probability of being right, or wrong, that is told from none: as much as confidence is exact to."""
SURE = 0.9
"""The threshold of which reports say how many pixels above it are right."""
UNIT = 1 << 24
"""Parts of 1 that confidence is counted in: a sum of whole numbers does not depend on who adds up what first."""


class Reliability:
    """Counts how often pixels are right, by how sure the network is of them; memory does not grow.

    Args:
        bins: how many.
    """

    def __init__(self, bins: int = BINS) -> None:
        self.bins = bins
        self.counts, self.right = np.zeros(bins, np.int64), np.zeros(bins, np.int64)
        self._sums = np.zeros(bins, np.int64)  # of confidence, in units of UNIT
        self._above = np.zeros(2, np.int64)  # pixels that are at least SURE, and those of them that are right

    @property
    def sums(self) -> NDArray[np.float64]:
        """Sums of confidence by bin, float64 (bins,)."""
        return self._sums / UNIT

    @property
    def above(self) -> int:
        """Number of pixels that are at least ``SURE``."""
        return int(self._above[0])

    @property
    def right_above(self) -> int:
        """Number of those that are right."""
        return int(self._above[1])

    def totals(self) -> tuple[NDArray[np.int64], ...]:
        """Return the arrays that several processes' counts are added up by, in place: whole numbers, so exactly."""
        return self.counts, self.right, self._sums, self._above

    def update(
        self, target: MaskArray, mask: MaskArray, confidence: NDArray[np.float32], ignore_index: int = IGNORE_INDEX
    ) -> None:
        """Count the pixels of one image: truth and prediction uint8, confidence float32, all (H, W)."""
        seen = target != ignore_index
        self.add(confidence[seen], target[seen] == mask[seen])

    def add(self, confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> None:
        """Count pixels: confidence and whether each is right, both (n,)."""
        places = np.minimum((confidence * self.bins).astype(np.int64), self.bins - 1)
        self.counts += np.bincount(places, minlength=self.bins)
        self.right += np.bincount(places[right], minlength=self.bins)
        # Of one image's pixels float64 adds these exactly.
        parts = np.bincount(places, np.rint(confidence * np.float32(UNIT)), self.bins)
        self._sums += parts.astype(np.int64)
        above = confidence >= SURE
        self._above += (above.sum(), right[above].sum())

    @property
    def ece(self) -> float:
        """Expected calibration error, 0–1: how far confidence and share of right pixels are apart, on average."""
        total = self.counts.sum()
        return float(np.abs(self.sums - self.right).sum() / total) if total else float("nan")

    @property
    def sure(self) -> float:
        """Share of the pixels that are at least ``SURE``; NaN without pixels."""
        total = self.counts.sum()
        return float(self.above / total) if total else float("nan")

    @property
    def right_when_sure(self) -> float:
        """Share of those that are right; NaN where there are none."""
        return self.right_above / self.above if self.above else float("nan")

    def points(self) -> tuple[tuple[float, float, int], ...]:
        """Return mean confidence, share of right pixels, and number, of each bin that has any."""
        return tuple(
            (float(total / count), float(right / count), int(count))
            for count, right, total in zip(self.counts, self.right, self.sums, strict=True)
            if count
        )

    def to_dict(self) -> dict[str, Any]:
        """Return its figures as JSON types, None for NaN."""
        figures = {"ece": self.ece, "sure": self.sure, "right_when_sure": self.right_when_sure}
        said: dict[str, Any] = {name: None if np.isnan(value) else round(value, 6) for name, value in figures.items()}
        return said | {"bins": [[round(sure, 5), round(right, 5), count] for sure, right, count in self.points()]}


@dataclass(frozen=True, eq=False)
class Calibration:
    """A temperature, and what it makes of a network's confidence.

    Attributes:
        temperature: what logits are divided by: one for all pixels, or one for each class that can win.
        before: how reliable confidence is without.
        after: how reliable it is with one that was fitted on the other half of the images.
        dataset: its name and split.
        images: how many.
    """

    temperature: Temperature
    before: Reliability
    after: Reliability
    dataset: str
    images: int

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types: what the exported file carries."""
        value = self.temperature
        return {
            "temperature": round(value, 5) if isinstance(value, float) else [round(each, 5) for each in value],
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "dataset": self.dataset,
            "images": self.images,
        }

    def __str__(self) -> str:
        value = self.temperature
        words = f"{value:.2f}" if isinstance(value, float) else f"{min(value):.2f} to {max(value):.2f} by class"
        return (
            f"temperature {words}: expected calibration error {100 * self.before.ece:.2f} % before, "
            f"{100 * self.after.ece:.2f} % after"
        )


@dataclass(eq=False)
class Pixels:
    """Labelled pixels of some images, taken at random, with what a network says of them.

    Args:
        images: how many images there will be; fewer pixels of each are taken where they are many.
        classes: of the network.
        ignore_index: value of pixels that do not count.
    """

    images: int
    classes: int
    ignore_index: int
    _logits: list[Logits] = field(default_factory=list)
    _targets: list[NDArray[np.uint8]] = field(default_factory=list)

    def places(self, target: MaskArray, index: int | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return rows and columns of pixels of the next image, or of image `index`: the same ones each time."""
        most = min(PIXELS, max(1, MOST_NUMBERS // (self.images * self.classes)))
        labelled = np.flatnonzero(target != self.ignore_index)
        if len(labelled) > most:
            labelled = np.random.default_rng(len(self._targets) if index is None else index).choice(
                labelled, most, replace=False
            )
        rows, columns = np.divmod(labelled, target.shape[1])
        return rows, columns

    def add(self, logits: Logits, targets: NDArray[np.uint8]) -> None:
        """Take an image's pixels: logits (n, C) and true classes (n,)."""
        self._logits.append(logits)
        self._targets.append(targets)

    def halves(self) -> tuple[tuple[Logits, NDArray[np.int64]], tuple[Logits, NDArray[np.int64]]]:
        """Return :meth:`whole` of the first and of the second half of the images."""
        middle = (len(self._targets) + 1) // 2
        first, second = (slice(0, middle), slice(middle, None))
        return self._part(first), self._part(second)

    def whole(self) -> tuple[Logits, NDArray[np.int64]]:
        """Return logits (n, C) and true classes (n,), without pixels whose logits are not all finite."""
        return self._part(slice(None))

    def _part(self, which: slice) -> tuple[Logits, NDArray[np.int64]]:
        logits = np.concatenate([np.zeros((0, self.classes), np.float32), *self._logits[which]])
        targets = np.concatenate([np.zeros(0, np.uint8), *self._targets[which]]).astype(np.int64)
        finite = np.isfinite(logits).all(axis=1)
        return logits[finite], targets[finite]


def calibrate_confidence(
    segmenter: Segmenter, dataset: SegmentationDataset, *, progress: OnProgress = no_progress
) -> Calibration:
    """Fit the temperature of a network on labelled images, such as its validation split.

    Args:
        segmenter: the network; its own temperature is not looked at.
        dataset: images and masks of its classes.
        progress: called with the numbers of images done and of all.

    Raises:
        DataError: there is no labelled pixel.
    """
    sure = segmenter.surely(1.0)
    pixels = Pixels(len(dataset), len(dataset.classes), dataset.classes.ignore_index)
    for index in range(len(dataset)):
        image, target = dataset.read(index)
        rows, columns = pixels.places(target)
        parts = sure(image).parts
        assert parts is not None  # it was asked for
        pixels.add(parts.at(rows, columns), target[rows, columns])
        progress(index + 1, len(dataset))
    return fitted(pixels, f"{dataset.name} {dataset.split}")


def fitted(pixels: Pixels, dataset: str) -> Calibration:
    """Return the calibration of a network by what it says of labelled pixels.

    Args:
        pixels: of all images.
        dataset: its name and split.

    Raises:
        DataError: there is no pixel.
    """
    logits, targets = pixels.whole()
    if not len(targets):
        raise DataError(f"{dataset} has no labelled pixel to fit a temperature on; use a labelled split")
    halves = pixels.halves()
    if not all(len(half[1]) for half in halves):  # of one image
        halves = ((logits[::2], targets[::2]), (logits[1::2], targets[1::2]))
    ways: list[Callable[[Logits, NDArray[np.int64]], Temperature]] = [_no_temperature, scalar_temperature]
    ways.append(class_temperatures)
    best, least, after = ways[0], np.inf, Reliability()
    for way in ways:
        loss, found = 0.0, Reliability()
        for (seen, truth), (others, other_truth) in (halves, halves[::-1]):
            confidence, right = judged(others, other_truth, way(seen, truth) if len(truth) else 1.0)
            loss += _loss(confidence, right)
            found.add(confidence, right)
        if way is ways[0] or (loss < least * (1 - GAIN) and found.ece <= after.ece):
            best, least, after = way, loss, found
    before = Reliability()
    before.add(*judged(logits, targets, 1.0))
    return Calibration(best(logits, targets), before, after, dataset, pixels.images)


def _no_temperature(logits: Logits, targets: NDArray[np.int64]) -> float:
    return 1.0


def scalar_temperature(logits: Logits, targets: NDArray[np.int64]) -> float:
    """Return the temperature, within ``RANGE``, whose confidence says best which winners are right.

    Args:
        logits: of pixels (n, C).
        targets: true classes (n,).
    """
    gaps = logits - logits.max(axis=1, keepdims=True)
    right = logits.argmax(axis=1) == targets

    def loss(power: float) -> float:
        return _loss(1 / np.exp(gaps * np.float32(np.exp(-power))).sum(axis=1), right)

    tried = np.linspace(np.log(RANGE[0]), np.log(RANGE[1]), GRID)
    place = int(np.argmin([loss(power) for power in tried]))
    low, high = tried[max(place - 1, 0)], tried[min(place + 1, GRID - 1)]
    for _ in range(REFINED):  # where it rises to the right of the middle, what is right of that is out
        middle, step = (low + high) / 2, (high - low) / 64
        low, high = (low, middle + step) if loss(middle + step) > loss(middle - step) else (middle - step, high)
    return float(np.exp((low + high) / 2))


def _loss(confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_]) -> float:
    """Return how improbable it is, by their confidence, that just these pixels (n,) are right: a sum of logarithms."""
    shares = np.clip(confidence.astype(np.float64), LEAST, 1 - LEAST)
    return -float(np.log(np.where(right, shares, 1 - shares)).sum())


def class_temperatures(logits: Logits, targets: NDArray[np.int64]) -> Sequence[float]:
    """Return the temperature of the pixels on which each class wins; the one of all for classes that win on few."""
    common = scalar_temperature(logits, targets)
    winners = logits.argmax(axis=1)
    found = [common] * logits.shape[1]
    for k in range(logits.shape[1]):
        of_class = winners == k
        if int(of_class.sum()) >= FEWEST:
            found[k] = scalar_temperature(logits[of_class], targets[of_class])
    return found


def judged(
    logits: Logits, targets: NDArray[np.int64], temperature: Temperature
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the probability of the class that wins on each pixel (n,), and whether it is right."""
    winners = logits.argmax(axis=1)
    gaps = logits - logits.max(axis=1, keepdims=True)
    shares = np.exp(gaps / _by_pixel(temperature, winners))
    return (1 / shares.sum(axis=1)).astype(np.float32), winners == targets


def _by_pixel(temperature: Temperature, winners: NDArray[np.int64]) -> NDArray[np.float32]:
    values = np.atleast_1d(np.asarray(temperature, np.float32))
    return (values[winners] if len(values) > 1 else np.broadcast_to(values, winners.shape))[:, None]
