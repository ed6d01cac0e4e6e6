"""What benchmarks/growth.py measures: one contender at one size is a function that prepares, and returns the work."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherseg.core.images import write_image
from featherseg.core.types import ClassSet
from featherseg.data.datasets import Indexed

Mask = NDArray[np.uint8]
VARIANTS = 8
"""Pictures that are made of each size; more are these, shifted."""
CELL = 12
"""Pixels of the squares that masks are of, on average: as ragged as streets' at 360x480."""


@dataclass(frozen=True)
class Case:
    """How much there is to do.

    Args:
        images: their number.
        megapixels: of each.
        classes: of the masks.
    """

    images: int
    megapixels: float
    classes: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), 3 to 4."""
        height = max(round((self.megapixels * 1e6 * 3 / 4) ** 0.5), 32)
        return height, max(round(self.megapixels * 1e6 / height), 32)

    @property
    def class_set(self) -> ClassSet:
        """The classes, with names."""
        return ClassSet(tuple(f"class {i}" for i in range(self.classes)))


Work = Callable[[], object]


class Pairs(Indexed):
    """Masks of squares, and predictions that are wrong in a tenth of the pixels along their right and lower sides."""

    name, split = "squares", "val"

    def __init__(self, case: Case) -> None:
        self.case, self.classes = case, case.class_set
        rng = np.random.default_rng(0)
        height, width = case.size
        self._made = []
        for _ in range(min(VARIANTS, case.images)):
            cells = rng.integers(0, case.classes, (height // CELL + 2, width // CELL + 2)).astype(np.uint8)
            rows = np.sort(rng.integers(0, len(cells), height))
            columns = np.sort(rng.integers(0, cells.shape[1], width))
            mask = np.ascontiguousarray(cells[rows][:, columns])
            self._made.append((mask, np.roll(mask, 1, axis=(0, 1))))

    def __len__(self) -> int:
        return self.case.images

    def stem(self, index: int) -> str:
        """Return a name."""
        return f"p{index:05}"

    def pair(self, index: int) -> tuple[Mask, Mask]:
        """Return target and prediction."""
        return self._made[index % len(self._made)]

    def read(self, index: int) -> tuple[NDArray[np.uint8], Mask]:
        """Return the prediction as a picture's red, so that it can be had from there, and the target."""
        target, prediction = self.pair(index)
        return np.repeat(prediction[:, :, None], 3, axis=2), target

    def __iter__(self) -> Iterator[tuple[Mask, Mask]]:
        return (self.pair(i) for i in range(len(self)))


def evaluation(case: Case) -> Work:
    """Confusion matrix alone, as peers have it."""
    from featherseg.evaluation.metrics import ConfusionMatrix

    pairs, confusion = Pairs(case), ConfusionMatrix(case.class_set)

    def work() -> object:
        for target, prediction in pairs:
            confusion.update(target, prediction)
        return confusion.iou()

    return work


def evaluation_torchmetrics(case: Case) -> Work:
    """Its metric, given tensors."""
    import torch
    from torchmetrics.classification import MulticlassConfusionMatrix

    pairs, confusion = Pairs(case), MulticlassConfusionMatrix(case.classes, ignore_index=255, validate_args=False)

    def work() -> object:
        for target, prediction in pairs:
            # Its count overflows uint8, so that ids have to be wider, as dataset code hands them on anyway.
            confusion.update(torch.from_numpy(prediction).long()[None], torch.from_numpy(target).long()[None])
        return confusion.compute()

    return work


def evaluation_sklearn(case: Case) -> Work:
    """Its function, summed over the images."""
    from sklearn.metrics import confusion_matrix

    pairs, labels = Pairs(case), list(range(case.classes))

    def work() -> object:
        return sum(confusion_matrix(t.ravel(), p.ravel(), labels=labels) for t, p in pairs)

    return work


def evaluation_supervision(case: Case) -> Work:
    """IoU by its masks, one for each class that occurs."""
    from supervision.detection.utils.iou_and_nms import mask_iou_batch

    pairs = Pairs(case)

    def work() -> object:
        found: Any = 0
        for target, prediction in pairs:
            ids = np.unique(target)
            found = mask_iou_batch(target == ids[:, None, None], prediction == ids[:, None, None])
        return found

    return work


def boundaries(case: Case) -> Work:
    """Boundary F1, which no peer has."""
    from featherseg.evaluation.metrics import BoundaryF1

    pairs, metric = Pairs(case), BoundaryF1(case.class_set)

    def work() -> object:
        for target, prediction in pairs:
            metric.update(target, prediction)
        return metric.mean()

    return work


def doctor(case: Case) -> Work:
    """The doctor on a folder of PNG files, no two alike."""
    from featherseg.core.images import write_mask
    from featherseg.doctor.examine import examine

    place = tempfile.TemporaryDirectory()
    root = Path(place.name)
    pairs, rng = Pairs(case), np.random.default_rng(1)
    colors = rng.integers(40, 216, (256, 3))
    for i, (mask, _) in enumerate(pairs):
        shifted = np.roll(mask, (7 * i % mask.shape[0], 5 * i % mask.shape[1]), axis=(0, 1))
        noise = rng.integers(-20, 21, (*mask.shape[:1], 1, 3))
        write_image(root / "images" / f"{pairs.stem(i)}.png", (colors[shifted] + noise).astype(np.uint8))
        write_mask(root / "masks" / f"{pairs.stem(i)}.png", shifted, case.class_set)

    def work() -> object:
        with place:
            return examine(root)

    return work


def prediction(case: Case) -> Work:
    """A folder of pictures to masks: the built-in network at 128x256, whatever the pictures' size."""
    from featherseg.runtime.predict import find_images, predict
    from featherseg.runtime.segmenter import Segmenter

    place = tempfile.TemporaryDirectory()
    root = Path(place.name)
    (root / "in").mkdir()
    pairs = Pairs(case)
    for i in range(len(pairs)):
        path = root / "in" / f"{pairs.stem(i)}.png"
        if i < VARIANTS:
            write_image(path, pairs.read(i)[0])
        else:
            path.hardlink_to(root / "in" / f"{pairs.stem(i % VARIANTS)}.png")
    segmenter = Segmenter(street_file(), size=(128, 256), threads=1)
    segmenter.latency(pairs.read(0)[0][:32, :32], runs=1)  # compiles kernels, where that was never done

    def work() -> object:
        with place:
            return predict(segmenter, find_images([root / "in"]), root / "out", overlays=False)

    return work


def _logits(case: Case) -> np.ndarray:
    mask = Pairs(case).pair(0)[0][::8, ::8]
    logits = np.random.default_rng(2).normal(0, 1, (case.classes, *mask.shape)).astype(np.float32)
    np.put_along_axis(logits, mask[None].astype(np.int64), 6.0, axis=0)
    return logits


def masks_of_logits(case: Case) -> Work:
    """Logits of stride 8 to masks of full size."""
    from featherseg.runtime.postprocess import kernels, upsample_argmax

    logits = _logits(case)
    kernels(None)

    def work() -> object:
        return [upsample_argmax(logits, case.size) for _ in range(case.images)]

    return work


def masks_of_logits_torch(case: Case) -> Work:
    """The same in torch, as tutorials do it."""
    import torch
    from torch.nn import functional as F

    logits = _logits(case)

    def work() -> object:
        tensor = torch.from_numpy(logits)[None]
        return [
            F.interpolate(tensor, case.size, mode="bilinear", align_corners=False).argmax(1) for _ in range(case.images)
        ]

    return work


def street_file() -> Path:
    """Return the network that comes with featherseg."""
    import featherseg

    return Path(featherseg.__file__).parent / "pretrained" / "street.onnx"


TASKS: dict[str, dict[str, Callable[[Case], Work]]] = {
    "evaluation": {
        "featherseg": evaluation,
        "torchmetrics": evaluation_torchmetrics,
        "scikit-learn": evaluation_sklearn,
        "supervision": evaluation_supervision,
    },
    "boundary F1": {"featherseg": boundaries},
    "doctor": {"featherseg": doctor},
    "prediction": {"featherseg": prediction},
    "masks of logits": {"featherseg": masks_of_logits, "torch": masks_of_logits_torch},
}
"""Contenders by task."""
