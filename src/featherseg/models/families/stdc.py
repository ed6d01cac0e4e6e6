"""STDC-Seg (arXiv 2104.13188): a backbone of short-term dense concatenations, with BiSeNet's context and fusion.

Layers are those of MichaelFan01/STDC-Seg (`nets/stdcnet.py` and `models/model_stages.py`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import ConfigError
from ..base import SegmentationModel
from ..factory import register_model
from ..facts import ModelFacts
from ..layers import ConvBNAct, PooledBatchNorm2d, init_weights

BLOCKS = {1: (2, 2, 2), 2: (4, 5, 3)}
"""Blocks at strides 8, 16 and 32, by the number of the network."""
WIDTHS = (32, 64, 256, 512, 1024)
"""Channels at strides 2 to 32."""


class DenseConcat(nn.Module):
    """Short-term dense concatenation: four convolutions, each of half the channels before, all of which are kept."""

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1) -> None:
        super().__init__()
        half, quarter, eighth = channels // 2, channels // 4, channels // 8
        self.convs = nn.ModuleList(
            [
                ConvBNAct(in_channels, half, 1),
                ConvBNAct(half, quarter),
                ConvBNAct(quarter, eighth),
                ConvBNAct(eighth, eighth),
            ]
        )
        strided = stride > 1
        self.down = ConvBNAct(half, half, stride=stride, groups=half, act=False) if strided else nn.Identity()
        self.pool = nn.AvgPool2d(3, stride=stride, padding=1) if strided else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, channels, ⌈h/stride⌉, ⌈w/stride⌉)."""
        first, *rest = self.convs
        x = first(x)
        kept = [self.pool(x)]
        x = self.down(x)
        for conv in rest:
            x = conv(x)
            kept.append(x)
        return torch.cat(kept, dim=1)


class STDCBackbone(nn.Module):
    """Two strided convolutions and three stages of dense concatenations.

    Args:
        number: 1 or 2, of more blocks.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        c2, c4, *widths = WIDTHS
        self.stem = nn.Sequential(ConvBNAct(3, c2, stride=2), ConvBNAct(c2, c4, stride=2))
        stages = []
        inputs = c4
        for channels, blocks in zip(widths, BLOCKS[number], strict=True):
            rest = (DenseConcat(channels, channels) for _ in range(blocks - 1))
            stages.append(nn.Sequential(DenseConcat(inputs, channels, stride=2), *rest))
            inputs = channels
        self.stage8, self.stage16, self.stage32 = stages

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return maps of 64, 256, 512 and 1024 channels, at strides 4, 8, 16 and 32."""
        x4 = self.stem(image)
        x8 = self.stage8(x4)
        x16 = self.stage16(x8)
        return x4, x8, x16, self.stage32(x16)


class AttentionRefinement(nn.Module):
    """A 3×3 convolution whose channels are gated by their own averages."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = ConvBNAct(in_channels, channels)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels, 1, bias=False),
            PooledBatchNorm2d(channels),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, channels, h, w)."""
        x = self.conv(x)
        gated: Tensor = x * self.gate(x)
        return gated


class FeatureFusion(nn.Module):
    """Concatenate two maps, mix, and add what a channel attention picks out."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.mix = ConvBNAct(in_channels, channels, 1)
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // 4, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // 4, channels, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, *maps: Tensor) -> Tensor:
        """Fuse maps of one size, (B, ·, h, w) each, to (B, channels, h, w)."""
        x = self.mix(torch.cat(maps, dim=1))
        fused: Tensor = x + x * self.attention(x)
        return fused


def _head(in_channels: int, channels: int, num_classes: int) -> nn.Sequential:
    """Return a 3×3 convolution and a 1×1 to class scores."""
    return nn.Sequential(ConvBNAct(in_channels, channels), nn.Conv2d(channels, num_classes, 1, bias=False))


def _nearest(x: Tensor, reference: Tensor) -> Tensor:
    """Repeat the values of maps to the size of `reference`, as the published weights were trained."""
    return F.interpolate(x, size=reference.shape[-2:], mode="nearest")


@register_model(
    "stdc",
    ModelFacts(paper="STDC-Seg (arXiv 2104.13188)", params=8_425_248, gmacs=16.863, stride=8, num_classes=19),
)
class STDC(SegmentationModel):
    """STDC1-Seg and STDC2-Seg.

    The paper trains a further head on detail that it computes from the labels; here there is none.

    Args:
        num_classes: channels of the logits.
        backbone: 1 or 2.

    Raises:
        ConfigError: the backbone is another.
    """

    stride = 8

    def __init__(self, num_classes: int = 19, *, backbone: int = 1) -> None:
        super().__init__()
        if backbone not in BLOCKS:
            raise ConfigError(f"stdc's backbone is {backbone}; choose 1 or 2")
        self.num_classes = num_classes
        self.options = {"backbone": backbone}
        c8, c16, c32 = WIDTHS[2:]
        self.backbone = STDCBackbone(backbone)
        self.arm16 = AttentionRefinement(c16, 128)
        self.arm32 = AttentionRefinement(c32, 128)
        self.whole = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(c32, 128, 1, bias=False), PooledBatchNorm2d(128), nn.ReLU(inplace=True)
        )
        self.up32 = ConvBNAct(128, 128)
        self.up16 = ConvBNAct(128, 128)
        self.fuse = FeatureFusion(c8 + 128, 256)
        self.head = _head(256, 256, num_classes)
        self.aux_8 = _head(128, 64, num_classes)
        self.aux_16 = _head(128, 64, num_classes)
        init_weights(self)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        """See :meth:`SegmentationModel.outputs`; taps have 64, 256 and 512 channels."""
        x4, x8, x16, x32 = self.backbone(image)
        context16 = self.up32(_nearest(self.arm32(x32) + self.whole(x32), x16))
        context8 = self.up16(_nearest(self.arm16(x16) + context16, x8))
        maps = {"out": self.head(self.fuse(x8, context8)), "x4": x4, "x8": x8, "x16": x16}
        if self.training:
            maps |= {"aux_8": self.aux_8(context8), "aux_16": self.aux_16(context16)}
        return maps
