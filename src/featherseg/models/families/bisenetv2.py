"""BiSeNetV2 (arXiv 2004.02147): a wide shallow branch for detail, a narrow deep one for meaning, and their exchange.

Layers are those of CoinCheung/BiSeNet (`lib/models/bisenetv2.py`), whose weights are the most used ones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import SegmentationModel
from ..factory import register_model
from ..facts import ModelFacts
from ..layers import ConvBNAct, PooledBatchNorm2d, init_weights

EXPANSION = 6
"""Times as many channels within a gather-and-expansion layer."""
HEAD, AUX = 1024, 128
"""Channels of the class head and of the auxiliary ones."""


class Stem(nn.Module):
    """To stride 4: a strided convolution, then another strided pair beside a max-pool."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = ConvBNAct(3, channels, stride=2)
        self.left = nn.Sequential(ConvBNAct(channels, channels // 2, 1), ConvBNAct(channels // 2, channels, stride=2))
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.fuse = ConvBNAct(2 * channels, channels)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 3, h, w) to (B, channels, ⌈h/4⌉, ⌈w/4⌉)."""
        x = self.conv(image)
        y: Tensor = self.fuse(torch.cat([self.left(x), self.pool(x)], dim=1))
        return y


class GatherExpand(nn.Module):
    """Gather-and-expansion layer: 3×3, depthwise 3×3 to six times the channels, 1×1 back, around a skip."""

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1) -> None:
        super().__init__()
        wide = EXPANSION * in_channels
        self.gather = ConvBNAct(in_channels, in_channels)
        if stride == 1:
            self.expand = nn.Sequential(ConvBNAct(in_channels, wide, groups=in_channels))
            self.shortcut: nn.Module = nn.Identity()
        else:
            self.expand = nn.Sequential(
                ConvBNAct(in_channels, wide, stride=stride, groups=in_channels, act=False),
                ConvBNAct(wide, wide, groups=wide),
            )
            self.shortcut = nn.Sequential(
                ConvBNAct(in_channels, in_channels, stride=stride, groups=in_channels, act=False),
                ConvBNAct(in_channels, channels, 1, act=False),
            )
        self.project = ConvBNAct(wide, channels, 1, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, channels, ⌈h/stride⌉, ⌈w/stride⌉)."""
        return F.relu(self.project(self.expand(self.gather(x))) + self.shortcut(x))


class ContextEmbedding(nn.Module):
    """Add what the whole image says to each place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.whole = nn.Sequential(
            PooledBatchNorm2d(channels),
            nn.Conv2d(channels, channels, 1, bias=False),
            PooledBatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        self.mix = ConvBNAct(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Refine maps (B, channels, h, w)."""
        y: Tensor = self.mix(x + self.whole(x.mean((2, 3), keepdim=True)))
        return y


class GuidedAggregation(nn.Module):
    """Bilateral guided aggregation: each branch, at its own size, gates the other; the two are added and mixed."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.detail = _separable(channels)
        self.detail_down = nn.Sequential(
            ConvBNAct(channels, channels, stride=2, act=False), nn.AvgPool2d(3, stride=2, padding=1)
        )
        self.meaning_up = ConvBNAct(channels, channels, act=False)
        self.meaning = _separable(channels)
        self.mix = ConvBNAct(channels, channels)

    def forward(self, detail: Tensor, meaning: Tensor) -> Tensor:
        """Fuse maps (B, channels, h, w) and (B, channels, ⌈h/4⌉, ⌈w/4⌉) to (B, channels, h, w)."""
        fine = self.detail(detail) * _nearest(self.meaning_up(meaning), detail).sigmoid()
        coarse = self.detail_down(detail) * self.meaning(meaning).sigmoid()
        y: Tensor = self.mix(fine + _nearest(coarse, detail))
        return y


def _separable(channels: int) -> nn.Sequential:
    """Return a depthwise 3×3 convolution with batch norm and a plain 1×1."""
    depthwise = ConvBNAct(channels, channels, groups=channels, act=False)
    return nn.Sequential(depthwise, nn.Conv2d(channels, channels, 1, bias=False))


def _nearest(x: Tensor, reference: Tensor) -> Tensor:
    """Repeat the values of maps to the size of `reference`, as the published weights were trained."""
    return F.interpolate(x, size=reference.shape[-2:], mode="nearest")


def _aux_head(in_channels: int, width: int, num_classes: int) -> nn.Sequential:
    """Return an auxiliary head, which doubles the size before the class scores."""
    return nn.Sequential(
        ConvBNAct(in_channels, AUX),
        nn.Dropout(0.1),
        nn.Upsample(scale_factor=2),
        ConvBNAct(AUX, width),
        nn.Conv2d(width, num_classes, 1),
    )


@register_model(
    "bisenetv2",
    ModelFacts(paper="BiSeNetV2 (arXiv 2004.02147)", params=5_231_487, gmacs=24.603, stride=8, num_classes=19),
)
class BiSeNetV2(SegmentationModel):
    """Bilateral network with guided aggregation.

    Args:
        num_classes: channels of the logits.
    """

    stride = 8

    def __init__(self, num_classes: int = 19) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.detail2 = nn.Sequential(ConvBNAct(3, 64, stride=2), ConvBNAct(64, 64))
        self.detail4 = nn.Sequential(ConvBNAct(64, 64, stride=2), ConvBNAct(64, 64), ConvBNAct(64, 64))
        self.detail8 = nn.Sequential(ConvBNAct(64, 128, stride=2), ConvBNAct(128, 128), ConvBNAct(128, 128))
        self.stem = Stem(16)
        self.stage8 = nn.Sequential(GatherExpand(16, 32, stride=2), GatherExpand(32, 32))
        self.stage16 = nn.Sequential(GatherExpand(32, 64, stride=2), GatherExpand(64, 64))
        self.stage32 = nn.Sequential(GatherExpand(64, 128, stride=2), *(GatherExpand(128, 128) for _ in range(3)))
        self.context = ContextEmbedding(128)
        self.fuse = GuidedAggregation(128)
        self.head = nn.Sequential(ConvBNAct(128, HEAD), nn.Dropout(0.1), nn.Conv2d(HEAD, num_classes, 1))
        # Of the authors' program: as many channels as the logits have pixels to be upsampled to, a side squared.
        self.aux_2 = _aux_head(16, 4**2, num_classes)
        self.aux_4 = _aux_head(32, 8**2, num_classes)
        self.aux_8 = _aux_head(64, 16**2, num_classes)
        self.aux_16 = _aux_head(128, 32**2, num_classes)
        init_weights(self)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        """See :meth:`SegmentationModel.outputs`; taps are of the detail branch (64, 128) and of the other (64)."""
        detail4 = self.detail4(self.detail2(image))
        detail8 = self.detail8(detail4)
        x4 = self.stem(image)
        x8 = self.stage8(x4)
        x16 = self.stage16(x8)
        x32 = self.stage32(x16)
        logits = self.head(self.fuse(detail8, self.context(x32)))
        maps = {"out": logits, "x4": detail4, "x8": detail8, "x16": x16}
        if self.training:
            heads = (self.aux_2, self.aux_4, self.aux_8, self.aux_16)
            for stride, head, x in zip((2, 4, 8, 16), heads, (x4, x8, x16, x32), strict=True):
                maps[f"aux_{stride}"] = head(x)
        return maps
