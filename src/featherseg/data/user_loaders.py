"""Loaders that users wrote themselves, as featherseg's samples and datasets: checked, since their code is not known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized

import numpy as np
import torch
from torch import Tensor

from ..core.errors import DataError
from ..core.progress import logger
from ..core.types import IGNORE_INDEX, ClassSet, ImageArray, InputSpec, MaskArray
from .datasets import Indexed
from .loader import Sample

Batch = Sample | tuple[Tensor, Tensor] | list[Tensor]
"""What users' loaders give: featherseg's samples, or (image, mask) with float images normalised already."""


class LoaderBatches:
    """A user's loader, whose batches become featherseg's samples.

    Args:
        loader: gives batches, and knows how many.
        num_classes: class ids there may be in masks.

    Raises:
        DataError: it has no length, or no batches.
    """

    def __init__(self, loader: Iterable[Batch], num_classes: int) -> None:
        self.loader, self.num_classes = loader, num_classes
        if not isinstance(loader, Sized):
            raise DataError("the training loader has no length; give one over a dataset with a length")
        try:
            self._length = len(loader)
        except TypeError as error:  # torch's loaders over iterable datasets
            raise DataError("the training loader has no length; give one over a dataset with a length") from error
        if not self._length:
            raise DataError("the training loader gives no batches; check its dataset, batch size and drop_last")

    def __iter__(self) -> Iterator[Sample]:
        for batch in self.loader:
            yield as_sample(batch, self.num_classes)

    def __len__(self) -> int:
        return self._length


class LoaderDataset(Indexed):
    """A user's validation loader as a dataset: images turned back into the uint8 that cameras give.

    Args:
        loader: gives batches; it is read once, and its images are kept as uint8.
        classes: what the masks' ids mean.
        spec: normalisation to undo where images are float.
    """

    name, split = "loader", "val"

    def __init__(self, loader: Iterable[Batch], classes: ClassSet, spec: InputSpec) -> None:
        self.classes = classes
        self._samples: list[tuple[ImageArray, MaskArray]] = []
        lowest: list[Tensor] = []
        for batch in loader:
            sample = as_sample(batch, len(classes))
            for image, mask in zip(sample["image"], sample["mask"], strict=True):
                self._samples.append((to_uint8(image, spec), mask.cpu().numpy().astype(np.uint8)))
            if sample["image"].is_floating_point():
                lowest.append(sample["image"].min())
        if not self._samples:
            raise DataError("the validation loader gives no batches; check its dataset")
        if lowest and min(lowest) >= 0:
            # Training works with such images, but the trained network would be given normalised ones.
            logger.warning(
                f"note: the validation loader's float images are never below 0; normalise them by mean {spec.mean} and "
                f"std {spec.std}, as the exported network does, or give uint8"
            )

    def __len__(self) -> int:
        return len(self._samples)

    def stem(self, index: int) -> str:
        """Return a made-up name."""
        return f"sample_{index:06}"

    def read(self, index: int) -> tuple[ImageArray, MaskArray]:
        """Return sample `index`."""
        return self._samples[index]


def as_sample(batch: Batch, num_classes: int) -> Sample:
    """Return a user's batch as ``{"image", "mask"}``, its mask int64.

    Raises:
        DataError: it is something else, of other shapes or types, or its mask holds what is no class; each of these
            would otherwise train without a word, or end in an error far from here.
    """
    if isinstance(batch, dict) and {"image", "mask"} <= set(batch):
        image, mask = batch["image"], batch["mask"]
    elif isinstance(batch, tuple | list) and len(batch) == 2:
        image, mask = batch
    else:
        what = f"keys {sorted(batch)}" if isinstance(batch, dict) else f"a {type(batch).__name__}"
        raise DataError(f'a loader gives {what}; give (image, mask) or {{"image": …, "mask": …}}')
    if image.ndim != 4 or image.shape[1] != 3 or mask.shape != (len(image), *image.shape[2:]):
        shapes = f"images {tuple(image.shape)} and masks {tuple(mask.shape)}"
        raise DataError(f"a loader gives {shapes}; give (B, 3, H, W) and (B, H, W)")
    if mask.is_floating_point() or mask.dtype == torch.bool:
        raise DataError(f"a loader gives masks of {mask.dtype}; give whole class ids, int64 (ToTensor scales them)")
    mask = mask.long()
    wrong = mask[((mask < 0) | (mask >= num_classes)) & (mask != IGNORE_INDEX)]
    if len(wrong):
        raise DataError(
            f"a loader's mask holds {int(wrong[0])}; class ids are 0 to {num_classes - 1}, and {IGNORE_INDEX} is "
            "ignored, so remap it or make num_classes larger"
        )
    return {"image": image, "mask": mask}


def to_uint8(image: Tensor, spec: InputSpec) -> ImageArray:
    """Return an image (3, H, W), uint8 or normalised float, as RGB uint8 (H, W, 3)."""
    pixels = image.detach().cpu().permute(1, 2, 0)
    if pixels.dtype == torch.uint8:
        return np.ascontiguousarray(pixels.numpy())
    mean, std = (np.asarray(values, np.float32) for values in (spec.mean, spec.std))
    return np.asarray(np.clip(np.rint((pixels.float().numpy() * std + mean) * 255), 0, 255), np.uint8)
