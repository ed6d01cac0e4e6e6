"""PP-LiteSeg (arXiv 2204.02681): STDC's backbone, a simple pyramid pooling and a light decoder of attention fusions.

Layers are those of PaddlePaddle/PaddleSeg (`paddleseg/models/pp_liteseg.py` and its `UAFM_SpAtten`), with the widths of
its configurations for Cityscapes: T of STDC1, B of STDC2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...core.errors import ConfigError
from ..base import SegmentationModel, resize_like
from ..factory import register_model
from ..facts import ModelFacts
from ..layers import ConvBNAct, PooledBatchNorm2d, init_weights, pool_to
from .stdc import WIDTHS, STDCBackbone

DECODERS = {1: ((32, 64, 128), (32, 64, 64)), 2: ((64, 96, 128), (64, 64, 64))}
"""Channels of the decoder and of its class heads at strides 8, 16 and 32, by the backbone's number."""
CONTEXT = 128
GRIDS = (1, 2, 4)
"""Cells of the pyramid's grids, a side."""


class SimplePyramid(nn.Module):
    """Simple pyramid pooling: averages over grids of cells, added up."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.grids = nn.ModuleList(ConvBNAct(in_channels, channels, 1) for _ in GRIDS)
        for grid in self.grids:
            assert isinstance(grid, ConvBNAct)
            grid[1] = PooledBatchNorm2d(channels)
        self.mix = ConvBNAct(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, channels, h, w)."""
        grids = [resize_like(grid(pool_to(x, size)), x) for grid, size in zip(self.grids, GRIDS, strict=True)]
        y: Tensor = self.mix(torch.stack(grids).sum(0))
        return y


class AttentionFusion(nn.Module):
    """Unified attention fusion: two maps, weighed against each other at each place by their means and maxima."""

    def __init__(self, low_channels: int, channels: int, out_channels: int) -> None:
        super().__init__()
        self.low = ConvBNAct(low_channels, channels)
        self.attention = nn.Sequential(ConvBNAct(4, 2), ConvBNAct(2, 1, act=False), nn.Sigmoid())
        self.mix = ConvBNAct(channels, out_channels)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Fuse maps (B, low_channels, h, w) and (B, channels, h', w') to (B, out_channels, h, w)."""
        low = self.low(low)
        high = resize_like(high, low)
        seen = [statistic for x in (low, high) for statistic in (x.mean(1, keepdim=True), x.amax(1, keepdim=True))]
        share = self.attention(torch.cat(seen, dim=1))
        y: Tensor = self.mix(low * share + high * (1 - share))
        return y


@register_model(
    "pp_liteseg",
    ModelFacts(paper="PP-LiteSeg (arXiv 2204.02681)", params=8_141_088, gmacs=11.421, stride=8, num_classes=19),
)
class PPLiteSeg(SegmentationModel):
    """PP-LiteSeg-T and PP-LiteSeg-B.

    Args:
        num_classes: channels of the logits.
        backbone: 1 for STDC1 and T, 2 for STDC2 and B.

    Raises:
        ConfigError: the backbone is another.
    """

    stride = 8

    def __init__(self, num_classes: int = 19, *, backbone: int = 1) -> None:
        super().__init__()
        if backbone not in DECODERS:
            raise ConfigError(f"pp_liteseg's backbone is {backbone}; choose 1 or 2")
        self.num_classes = num_classes
        self.options = {"backbone": backbone}
        c8, c16, c32 = WIDTHS[2:]
        (d8, d16, d32), (h8, h16, h32) = DECODERS[backbone]
        self.backbone = STDCBackbone(backbone)
        self.pyramid = SimplePyramid(c32, CONTEXT)
        self.fuse32 = AttentionFusion(c32, CONTEXT, d32)
        self.fuse16 = AttentionFusion(c16, d32, d16)
        self.fuse8 = AttentionFusion(c8, d16, d8)
        self.head = _head(d8, h8, num_classes)
        self.aux_16 = _head(d16, h16, num_classes)
        self.aux_32 = _head(d32, h32, num_classes)
        init_weights(self)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        """See :meth:`SegmentationModel.outputs`; taps have 64, 256 and 512 channels."""
        x4, x8, x16, x32 = self.backbone(image)
        y32 = self.fuse32(x32, self.pyramid(x32))
        y16 = self.fuse16(x16, y32)
        maps = {"out": self.head(self.fuse8(x8, y16)), "x4": x4, "x8": x8, "x16": x16}
        if self.training:
            maps |= {"aux_16": self.aux_16(y16), "aux_32": self.aux_32(y32)}
        return maps


def _head(in_channels: int, channels: int, num_classes: int) -> nn.Sequential:
    """Return a 3×3 convolution and a 1×1 to class scores."""
    return nn.Sequential(ConvBNAct(in_channels, channels), nn.Conv2d(channels, num_classes, 1, bias=False))
