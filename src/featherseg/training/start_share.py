"""Weights between where a training started and where it ended.

What began from weights that have seen much more than the training shows it forgets some of that on the way: it becomes
better at images such as it is trained on, and worse at others. The mean of both ends often beats either on images of
neither kind (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022, arXiv 2109.01903). FDDWNet from
Cityscapes on two of CamVid's recordings, judged on the third: 59.9 before, 59.7 after, 64.1 half-way (0001TP, at dusk;
benchmarks/start_share.py).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from ..models.base import SegmentationModel


class StartBlend:
    """A network that holds a share of the weights a training started from, and else its averaged ones.

    Args:
        start: as it is before the first step; copied.
        share: of the start, 0–1.

    Attributes:
        network: what is evaluated and kept; filled by :meth:`update`.
    """

    def __init__(self, start: SegmentationModel, share: float) -> None:
        self.share = share
        self.network = copy.deepcopy(start)
        self.start = {name: tensor.detach().clone() for name, tensor in start.state_dict().items()}

    @torch.no_grad()
    def update(self, averaged: Mapping[str, Tensor]) -> None:
        """Fill the network from the training's averaged weights, the statistics of batch norm likewise."""
        for name, tensor in self.network.state_dict().items():
            if tensor.is_floating_point():
                torch.lerp(averaged[name], self.start[name].to(tensor.device), self.share, out=tensor)
            else:  # counters of batches
                tensor.copy_(averaged[name])
