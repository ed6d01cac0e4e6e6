"""Drawn street scenes, and networks that have seen some: random ones hide faults, for their logits are nearly tied."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from featherseg.core.config import Config
from featherseg.core.recipes import config_from_dict
from featherseg.core.types import ClassSet
from featherseg.data.readers.synthetic import STREET_CLASSES, SyntheticStreet
from featherseg.models.base import SegmentationModel
from featherseg.models.factory import create_model
from featherseg.training.devices import create_fabric
from featherseg.training.loss_terms import build_loss
from featherseg.training.step import TrainingStep
from featherseg.training.supervised import Supervised

BATCH = 8
Batch = dict[str, Tensor]


def wider_classes(count: int) -> ClassSet:
    """Return the streets' classes with as many further ones, which never occur, as make `count`."""
    names = STREET_CLASSES.names
    return ClassSet((*names, *(f"class {i}" for i in range(len(names), count))))


def street_batches(scenes: int, size: tuple[int, int], batch: int = BATCH) -> list[Batch]:
    """Return batches of drawn scenes on the CPU, image uint8 (B, 3, H, W) and mask int64 (B, H, W)."""
    pairs = [SyntheticStreet(count=scenes, size=size).read(i) for i in range(scenes)]
    images = torch.from_numpy(np.stack([image for image, _ in pairs])).permute(0, 3, 1, 2).contiguous()
    masks = torch.from_numpy(np.stack([mask for _, mask in pairs])).long()
    return [{"image": images[i : i + batch], "mask": masks[i : i + batch]} for i in range(0, scenes, batch)]


def run_config(network: str, device: str, precision: str) -> Config:
    """Return the settings of a run as recipes have them, with one constant learning rate."""
    return config_from_dict(
        {
            "model": {"name": network},
            "train": {"device": device, "precision": precision},
            "optim": {"schedule": "constant", "warmup": 0.0, "lr": 2e-3},
        }
    )


def training_step(model: SegmentationModel, device: str, precision: str) -> TrainingStep:
    """Return featherseg's own step of a network, as a run has it."""
    config = run_config(model.name, device, precision)
    fabric = create_fabric(config.train)
    fabric.launch()
    losses = (build_loss(terms) for terms in (config.loss.out, config.loss.aux))
    step = TrainingStep(fabric, Supervised(model, *losses, config.loss.aux_weight), config)
    step.objective.train()
    return step


def briefly_trained(network: str, classes: ClassSet, device: str, small: bool) -> SegmentationModel:
    """Return a network on the CPU, in eval mode, after some dozen steps on drawn streets."""
    torch.manual_seed(0)
    model = create_model(network, len(classes))
    precision = "bf16" if device == "cuda" else "fp32"
    step = training_step(model, device, precision)
    scenes, size, steps = (BATCH, (64, 96), 4) if small else (4 * BATCH, (192, 384), 80)
    batches = street_batches(scenes, size)
    for batch in _repeated(batches, steps):
        step(dict(batch))
    return model.to("cpu").eval()


def _repeated(batches: list[Batch], steps: int) -> Iterator[Batch]:
    for i in range(steps):
        yield batches[i % len(batches)]
