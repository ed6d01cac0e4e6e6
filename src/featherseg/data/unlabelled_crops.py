"""Crops of images without labels, each in two looks: as it was cut, for a teacher, and changed, for its student."""

from __future__ import annotations

import cv2
import msgspec
import numpy as np
import torch
from torch import Tensor

from ..core.config import AugmentConfig, SelfTrainConfig
from ..core.types import ImageArray, InputSpec
from .datasets import SegmentationDataset
from .mixing import draw_box
from .transforms import Look, TrainTransform


class UnlabelledCrops:
    """Draws an image without labels, and its crop in both looks.

    Scale, crop and flip are as those of labelled images. What is switched off draws nothing.

    Args:
        dataset: of images without labels.
        augment: of the labelled ones.
        config: how strongly the student's crops are changed.
        ignore_index: value of padding.
        spec: at which size the network wants images.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        augment: AugmentConfig,
        config: SelfTrainConfig,
        ignore_index: int,
        spec: InputSpec | None = None,
    ) -> None:
        self.dataset = dataset
        self.cutmix = config.cutmix
        strong = msgspec.structs.replace(augment, class_balance=0.0, jitter=config.jitter, blur=config.blur)
        self.transform = TrainTransform(strong, ignore_index, spec)

    def __call__(self, rng: np.random.Generator, *, raw: bool = False) -> dict[str, Tensor]:
        """Return ``weak`` and ``strong``, uint8 (3, H, W), ``padding``, int64 (H, W), and ``box``, int64 (4,).

        :class:`featherseg.training.self_training.SelfTrained` takes batches of them. With `raw`, ``weak`` is uint8
        (H, W, 3) before its flip, ``padding`` uint8, and ``strong_look``, float32 (6,), stands for ``strong``.
        """
        index = int(rng.integers(len(self.dataset)))
        image, padding = self.transform.crop(*self.dataset.read(index), rng)
        look = self.transform.draw_look(rng)
        height, width = self.transform.config.crop
        box = (0, 0, 0, 0)
        if self.cutmix and rng.random() < self.cutmix:
            box = draw_box((height, width), rng)
        boxed = {"box": torch.tensor(box)}
        if raw:
            return {
                "weak": torch.from_numpy(image),
                "padding": torch.from_numpy(padding),
                "strong_look": as_row(look),
                **boxed,
            }
        strong, _ = self.transform.apply(image, padding, look)
        if look.flip:
            image, padding = image[:, ::-1], np.ascontiguousarray(padding[:, ::-1])
        return {
            "weak": channels_first(np.ascontiguousarray(image)),
            "strong": channels_first(strong),
            "padding": torch.from_numpy(padding).long(),
            **boxed,
        }


def as_row(look: Look) -> Tensor:
    """Return a look as float32 (6,), as :mod:`.on_device` takes it."""
    return torch.tensor(look, dtype=torch.float32)


def channels_first(image: ImageArray) -> Tensor:
    """Return an image (H, W, 3) as (3, H, W); OpenCV splits channels several times as fast as a permuted copy does."""
    return torch.from_numpy(np.stack(cv2.split(image)))
