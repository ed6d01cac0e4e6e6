"""What a network costs: what its builder declares, and how it is counted."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .base import SegmentationModel


@dataclass(frozen=True)
class ModelFacts:
    """What a builder declares of its network; a test recomputes each figure.

    Args:
        paper: where the network comes from.
        params: parameters at `num_classes` classes, auxiliary heads of training included.
        gmacs: multiply-accumulates (1 MAC = 2 FLOPs) of convolutions and matrix products in one image of
            `size` (height, width), in 10⁹.
        stride: input pixels per logit.

    Example:
        >>> featherseg.ModelFacts("my paper", params=133_301, gmacs=6.175, stride=8).num_classes
        21
    """

    paper: str
    params: int
    gmacs: float
    stride: int
    num_classes: int = 21
    size: tuple[int, int] = (512, 1024)


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return the numbers of (all, trainable) parameters; buffers do not count.

    Example:
        >>> featherseg.count_parameters(featherseg.JetNet(num_classes=21))
        (133301, 133301)
    """
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)


def count_gmacs(model: SegmentationModel, size: tuple[int, int]) -> float:
    """Return the multiply-accumulates, in 10⁹, of convolutions and matrix products in one image of `size` (H, W).

    The network is left as it is; its copy is counted, without computing anything where its code allows that.
    """
    try:
        return _counted(model, size, "meta")
    except (RuntimeError, NotImplementedError):  # the code of others may make tensors of its own, which are elsewhere
        return _counted(model, size, "cpu")


def _counted(model: SegmentationModel, size: tuple[int, int], device: str) -> float:
    ghost = copy.deepcopy(model).to(device, torch.float32).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ghost.outputs(torch.zeros(1, 3, *size, device=device))
    return float(counter.get_total_flops() / 2e9)
