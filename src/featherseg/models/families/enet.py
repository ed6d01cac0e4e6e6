"""ENet (arXiv 1606.02147): bottlenecks of few channels, and unpooling to where the maxima were."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import SegmentationModel
from ..factory import register_model
from ..facts import ModelFacts
from ..layers import ConvBNAct, InitialBlock, init_weights

CONTEXT = (1, 2, 0, 4, 1, 8, 0, 16)
"""Dilations of the eight bottlenecks of stages 2 and 3 (table 1 of the paper); 0 stands for 5×1 and 1×5."""


class MaxPool(nn.Module):
    """2×2 max-pooling that also tells where in each window the maximum was."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pool maps (B, C, h, w) to (B, C, ⌈h/2⌉, ⌈w/2⌉).

        Returns:
            The maxima; and, as booleans of the same shape, whether each lay in its window's lower row, and whether in
            the right column. Of equal values the first is the maximum, in reading order, as torch has it.
        """
        # Comparing the four places with each other, not with the maximum, picks one of them whatever an engine rounds.
        # An odd side gets a copy of its last values, which never come before them.
        padded = F.pad(x, (0, 1, 0, 1), mode="replicate")
        height, width = x.shape[-2:]
        top_left, top_right = padded[..., :height:2, :width:2], padded[..., :height:2, 1::2]
        low_left, low_right = padded[..., 1::2, :width:2], padded[..., 1::2, 1::2]
        lower = torch.maximum(low_left, low_right) > torch.maximum(top_left, top_right)
        # ONNX Runtime cannot choose between booleans.
        right = (lower & (low_right > low_left)) | (~lower & (top_right > top_left))
        return F.max_pool2d(x, 2, ceil_mode=True), lower, right


def unpool(x: Tensor, lower: Tensor, right: Tensor) -> Tensor:
    """Put values of maps (B, C, h, w) where :class:`MaxPool` says, zeros elsewhere; return (B, C, 2h, 2w).

    ``nn.MaxUnpool2d`` does the same, and has no counterpart in ONNX.
    """
    rows = torch.stack([torch.where(lower, 0.0, x), torch.where(lower, x, 0.0)], dim=3).flatten(2, 3)
    right = torch.stack([right, right], dim=3).flatten(2, 3)
    return torch.stack([torch.where(right, 0.0, rows), torch.where(right, rows, 0.0)], dim=4).flatten(3, 4)


class ENetBottleneck(nn.Module):
    """Identity plus a branch of a quarter of the channels: plain, dilated, or 5×1 and 1×5 where `dilation` is 0."""

    def __init__(self, channels: int, *, dilation: int = 1, dropout: float = 0.1) -> None:
        super().__init__()
        hidden = channels // 4
        middle = (
            [ConvBNAct(hidden, hidden, dilation=dilation)]
            if dilation
            else [ConvBNAct(hidden, hidden, (5, 1)), ConvBNAct(hidden, hidden, (1, 5))]
        )
        self.branch = nn.Sequential(ConvBNAct(channels, hidden, 1), *middle)
        self.expand = _expand(hidden, channels, dropout)
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Refine maps (B, channels, h, w)."""
        y: Tensor = self.act(x + self.expand(self.branch(x)))
        return y


class DownBottleneck(nn.Module):
    """Halve the size: a max-pool, beside a branch with a strided convolution."""

    def __init__(self, in_channels: int, out_channels: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        hidden = in_channels // 4
        self.pool = MaxPool()
        self.skip = ConvBNAct(in_channels, out_channels, 1)
        self.branch = nn.Sequential(ConvBNAct(in_channels, hidden, stride=2), ConvBNAct(hidden, hidden))
        self.expand = _expand(hidden, out_channels, dropout)
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map (B, in_channels, h, w) to (B, out_channels, ⌈h/2⌉, ⌈w/2⌉); return :class:`MaxPool`'s places too."""
        pooled, lower, right = self.pool(x)
        return self.act(self.skip(pooled) + self.expand(self.branch(x))), lower, right


class UpBottleneck(nn.Module):
    """Double the size: unpooling, beside a branch with a transposed convolution."""

    def __init__(self, in_channels: int, out_channels: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        hidden = in_channels // 4
        self.skip = ConvBNAct(in_channels, out_channels, 1)
        up = nn.ConvTranspose2d(hidden, hidden, 3, stride=2, padding=1, output_padding=1, bias=False)
        self.branch = nn.Sequential(ConvBNAct(in_channels, hidden, 1), up)
        self.expand = _expand(hidden, out_channels, dropout)
        self.act = nn.PReLU()

    def forward(self, x: Tensor, lower: Tensor, right: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, out_channels, 2h, 2w), by the places of a pool of `out_channels`."""
        y: Tensor = self.act(unpool(self.skip(x), lower, right) + self.expand(self.branch(x)))
        return y


def _expand(hidden: int, channels: int, dropout: float) -> nn.Sequential:
    """Return the end of a branch, without batch norm."""
    return nn.Sequential(nn.Conv2d(hidden, channels, 1, bias=False), nn.Dropout(dropout))


@register_model(
    "enet",
    ModelFacts(paper="ENet (arXiv 1606.02147)", params=365_100, gmacs=3.956, stride=2, num_classes=19),
)
class ENet(SegmentationModel):
    """ENet as its published Cityscapes weights have it.

    They differ from the paper: within a bottleneck stand ReLUs and, at its end, neither batch norm nor a slope a
    channel; a convolution takes the pooled map to more channels, where the paper adds zeros; class scores come from a
    1×1 convolution with batch norm and PReLU at stride 2, where the paper has a transposed convolution.

    Args:
        num_classes: channels of the logits.
    """

    stride = 2

    def __init__(self, num_classes: int = 19) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stem = InitialBlock(3, 16, act=nn.PReLU())
        self.down4 = DownBottleneck(16, 64, dropout=0.01)
        self.stage1 = nn.Sequential(*(ENetBottleneck(64, dropout=0.01) for _ in range(4)))
        self.down8 = DownBottleneck(64, 128)
        self.stage2 = nn.Sequential(*(ENetBottleneck(128, dilation=d) for d in CONTEXT))
        self.stage3 = nn.Sequential(*(ENetBottleneck(128, dilation=d) for d in CONTEXT))
        self.up4 = UpBottleneck(128, 64)
        self.stage4 = nn.Sequential(ENetBottleneck(64), ENetBottleneck(64))
        self.up2 = UpBottleneck(64, 16)
        self.stage5 = ENetBottleneck(16)
        self.classifier = ConvBNAct(16, num_classes, 1, act=nn.PReLU())
        init_weights(self)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        """See :meth:`SegmentationModel.outputs`; taps have 64 and 128 channels."""
        x2 = self.stem(image)
        x4, *places2 = self.down4(x2)
        x4 = self.stage1(x4)
        x8, *places4 = self.down8(x4)
        x8 = self.stage3(self.stage2(x8))
        # An odd size was rounded up on the way down: one row or column is too many.
        y4 = self.stage4(self.up4(x8, *places4)[..., : x4.shape[-2], : x4.shape[-1]])
        y2 = self.stage5(self.up2(y4, *places2)[..., : x2.shape[-2], : x2.shape[-1]])
        return {"out": self.classifier(y2), "x4": x4, "x8": x8}
