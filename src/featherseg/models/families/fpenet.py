"""FPENet (arXiv 1909.08599): pyramids of dilated depthwise convolutions in each block, and two attentions that swap."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..base import SegmentationModel, resize_like
from ..factory import register_model
from ..facts import ModelFacts
from ..layers import ConvBNAct, PooledBatchNorm2d, init_weights

DILATIONS = (1, 2, 4, 8)
"""Dilations of the four parts of a block."""
EXPANSION = 4
"""Channels within a block for each that leaves it; the first block has 1."""


class FPEBlock(nn.Module):
    """Feature Pyramid Encoding: expand in four parts, give each a dilation of its own, and project them together.

    Each part adds what the one of the next smaller dilation found, so that wide views have no gaps.
    """

    def __init__(self, in_channels: int, out_channels: int, *, expansion: int = EXPANSION, stride: int = 1) -> None:
        super().__init__()
        part = out_channels * expansion // len(DILATIONS)
        # One convolution of all parts would have to be split by number, which keeps its channels from being pruned.
        self.expand = nn.ModuleList(ConvBNAct(in_channels, part, 1) for _ in DILATIONS)
        self.pyramid = nn.ModuleList(
            ConvBNAct(part, part, stride=stride, dilation=dilation, groups=part) for dilation in DILATIONS
        )
        self.project = ConvBNAct(len(DILATIONS) * part, out_channels, 1)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, out_channels, ⌈h/stride⌉, ⌈w/stride⌉)."""
        levels: list[Tensor] = []
        for expand, level in zip(self.expand, self.pyramid, strict=True):
            found = level(expand(x))
            levels.append(found + levels[-1] if levels else found)
        y: Tensor = self.project(torch.cat(levels, dim=1))
        return x + y if self.residual else y


class MEU(nn.Module):
    """Mutual Embedding Upsample: detail is weighed by what the coarse map holds, and the coarse map by where detail is.

    Both attentions end in ReLU, not a sigmoid, as in the published weights: they can weigh above one.
    """

    def __init__(self, low_channels: int, high_channels: int, channels: int) -> None:
        super().__init__()
        self.low = ConvBNAct(low_channels, channels, 1)
        self.high = ConvBNAct(high_channels, channels, 1)
        self.where = ConvBNAct(1, 1, 1)
        self.what = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False), PooledBatchNorm2d(channels), nn.ReLU(inplace=True)
        )

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Fuse detail (B, low_channels, h, w) and a coarser map (B, high_channels, ·, ·) to (B, channels, h, w)."""
        low, high = self.low(low), self.high(high)
        what = self.what(high.mean((2, 3), keepdim=True))
        where = self.where(low.mean(1, keepdim=True))
        fused: Tensor = low * what + resize_like(high, low, align_corners=True) * where
        return fused


@register_model(
    "fpenet",
    ModelFacts(paper="FPENet (arXiv 1909.08599)", params=361_804, gmacs=4.230, stride=2, num_classes=19),
)
class FPENet(SegmentationModel):
    """FPENet as its published Cityscapes weights have it.

    The classifier ends in batch norm and ReLU, so that no logit falls below zero, and coarse maps are resized corner
    onto corner: both as in the program that made the weights.

    Args:
        num_classes: channels of the logits.
    """

    stride = 2

    def __init__(self, num_classes: int = 19) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stage2 = nn.Sequential(ConvBNAct(3, 16, stride=2), FPEBlock(16, 16, expansion=1))
        self.down4 = FPEBlock(16, 32, stride=2)
        self.stage4 = nn.Sequential(*(FPEBlock(32, 32) for _ in range(2)))
        self.down8 = FPEBlock(32, 64, stride=2)
        self.stage8 = nn.Sequential(*(FPEBlock(64, 64) for _ in range(8)))
        self.fuse4 = MEU(32, 64, 64)
        self.fuse2 = MEU(16, 64, 32)
        self.classifier = ConvBNAct(32, num_classes, 1)
        init_weights(self)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        """See :meth:`SegmentationModel.outputs`; taps have 32 and 64 channels."""
        x2 = self.stage2(image)
        x4 = self.stage4(self.down4(x2))
        x8 = self.stage8(self.down8(x4))
        fused = self.fuse2(x2, self.fuse4(x4, x8))
        return {"out": self.classifier(fused), "x4": x4, "x8": x8}
