"""RegSeg (arXiv 2111.09957): RegNet-like blocks whose dilations give stride 16 a large field of view.

Layers are those of RolandGao/RegSeg (`blocks.py` and `model.py`): its exp48_decoder26, and the larger exp53_decoder29.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...core.errors import ConfigError, did_you_mean
from ..base import SegmentationModel, resize_like
from ..factory import register_model
from ..facts import ModelFacts
from ..layers import ConvBNAct, init_weights


@dataclass(frozen=True)
class Size:
    """Widths and blocks.

    Args:
        group: channels of a group in the 3×3 convolutions.
        widths: channels at strides 4, 8 and 16, and of the last block.
        blocks: those at strides 4 and 8.
        decoder: channels of the maps at strides 16 and 8, of that at stride 4, and after each fusion.
    """

    group: int
    widths: tuple[int, int, int, int]
    blocks: tuple[int, int]
    decoder: tuple[int, int, int]


SIZES = {
    "base": Size(16, (48, 128, 256, 320), (1, 3), (128, 8, 64)),
    "large": Size(24, (48, 120, 336, 384), (2, 6), (256, 16, 128)),
}
DILATIONS = ((1,), (1, 2), *[(1, 4)] * 4, *[(1, 14)] * 7)
"""Dilations of the blocks at stride 16 after the first; each is for an equal share of the channels."""


class DilatedConv(nn.Module):
    """Grouped 3×3 convolutions of equal shares of the channels, of a dilation each."""

    def __init__(self, channels: int, dilations: tuple[int, ...], *, group: int, stride: int = 1) -> None:
        super().__init__()
        width = channels // len(dilations)
        self.convs = nn.ModuleList(
            nn.Conv2d(width, width, 3, stride=stride, padding=d, dilation=d, groups=width // group, bias=False)
            for d in dilations
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, h, w) to (B, channels, ⌈h/stride⌉, ⌈w/stride⌉)."""
        parts = x.chunk(len(self.convs), dim=1)
        return torch.cat([conv(part) for conv, part in zip(self.convs, parts, strict=True)], dim=1)


class DBlock(nn.Module):
    """RegNet's Y block with dilated groups: 1×1, grouped 3×3, squeeze and excitation, 1×1, around a skip."""

    def __init__(
        self, in_channels: int, channels: int, dilations: tuple[int, ...] = (1,), *, group: int, stride: int = 1
    ) -> None:
        super().__init__()
        self.conv1 = ConvBNAct(in_channels, channels, 1)
        self.conv2 = nn.Sequential(
            DilatedConv(channels, dilations, group=group, stride=stride),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, in_channels // 4, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(in_channels // 4, channels, 1),
            nn.Sigmoid(),
        )
        self.conv3 = ConvBNAct(channels, channels, 1, act=False)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != channels:
            # An odd side is rounded up, and its last row averaged alone.
            pool = nn.AvgPool2d(2, ceil_mode=True) if stride > 1 else nn.Identity()
            self.shortcut = nn.Sequential(pool, ConvBNAct(in_channels, channels, 1, act=False))
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, channels, ⌈h/stride⌉, ⌈w/stride⌉)."""
        y = self.conv2(self.conv1(x))
        end: Tensor = self.act(self.conv3(y * self.gate(y)) + self.shortcut(x))
        return end


@register_model(
    "regseg",
    ModelFacts(paper="RegSeg (arXiv 2111.09957)", params=3_334_951, gmacs=9.589, stride=4, num_classes=19),
)
class RegSeg(SegmentationModel):
    """A backbone that ends at stride 16 and a decoder that ends at stride 4.

    Args:
        num_classes: channels of the logits.
        size: ``"base"`` or ``"large"``.

    Raises:
        ConfigError: the size is another.
    """

    stride = 4

    def __init__(self, num_classes: int = 19, *, size: str = "base") -> None:
        super().__init__()
        if size not in SIZES:
            raise ConfigError(f"regseg's size is {size!r}; {did_you_mean(size, SIZES)}")
        self.num_classes = num_classes
        self.options = {"size": size}
        chosen = SIZES[size]
        group, (c4, c8, c16, last) = chosen.group, chosen.widths
        n4, n8 = chosen.blocks
        wide, narrow, fused = chosen.decoder
        self.stem = ConvBNAct(3, 32, stride=2)
        self.stage4 = _stage(32, c4, [(1,)] * n4, group)
        self.stage8 = _stage(c4, c8, [(1,)] * n8, group)
        self.stage16 = _stage(c8, c16, [(1,), *DILATIONS[:-1]], group)
        self.stage16.append(DBlock(c16, last, DILATIONS[-1], group=group))
        self.head16 = ConvBNAct(last, wide, 1)
        self.head8 = ConvBNAct(c8, wide, 1)
        self.head4 = ConvBNAct(c4, narrow, 1)
        self.fuse8 = ConvBNAct(wide, fused)
        self.fuse4 = ConvBNAct(fused + narrow, fused)
        self.classifier = nn.Conv2d(fused, num_classes, 1)
        init_weights(self)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        """See :meth:`SegmentationModel.outputs`; taps have 48, 128 and 320 channels, or 48, 120 and 384."""
        x4 = self.stage4(self.stem(image))
        x8 = self.stage8(x4)
        x16 = self.stage16(x8)
        y8 = self.head8(x8)
        y8 = self.fuse8(y8 + resize_like(self.head16(x16), y8))
        y4 = self.head4(x4)
        y4 = self.fuse4(torch.cat([resize_like(y8, y4), y4], dim=1))
        return {"out": self.classifier(y4), "x4": x4, "x8": x8, "x16": x16}


def _stage(in_channels: int, channels: int, dilations: list[tuple[int, ...]], group: int) -> nn.Sequential:
    """Return blocks, of which the first halves the size."""
    first, *rest = dilations
    blocks = [DBlock(in_channels, channels, first, group=group, stride=2)]
    return nn.Sequential(*blocks, *(DBlock(channels, channels, each, group=group) for each in rest))
