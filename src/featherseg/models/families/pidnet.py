"""PIDNet (arXiv 2206.02066): three branches, for detail, context and boundaries, that guide each other.

Layers are those of XuJiacong/PIDNet (`models/pidnet.py` and `models/model_utils.py`), of its sizes S and M.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import ConfigError, did_you_mean
from ..base import SegmentationModel, resize_like
from ..factory import register_model
from ..facts import ModelFacts
from ..layers import ConvBNAct, init_weights
from .ddrnet import WINDOWS, BasicBlock, DDRBottleneck, Head, PreActConv, pooled_scales, stage, stem

SIZES = {"s": 32, "m": 64}
"""Channels of the stem, by size."""
CONTEXT = 96
"""Channels of each branch of the context module."""
HEAD = 128
"""Channels of the class head."""


class PAPPM(nn.Module):
    """Parallel aggregation pyramid pooling: as DAPPM, but each grid of averages is mixed with the map alone."""

    def __init__(self, in_channels: int, width: int, channels: int) -> None:
        super().__init__()
        grids = len(WINDOWS) + 1
        self.scales = nn.ModuleList(PreActConv(in_channels, width, 1) for _ in range(grids + 1))
        self.mix = PreActConv(width * grids, width * grids, 3, groups=grids)
        self.fuse = PreActConv(width * (grids + 1), channels, 1)
        self.shortcut = PreActConv(in_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, channels, h, w)."""
        first, *grids = pooled_scales(x, self.scales)
        mixed = self.mix(torch.cat([grid + first for grid in grids], dim=1))
        y: Tensor = self.fuse(torch.cat([first, mixed], dim=1)) + self.shortcut(x)
        return y


class PixelAttention(nn.Module):
    """Pixel-attention-guided fusion: fine features take over context as far as the two agree at a pixel."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.fine = ConvBNAct(channels, width, 1, act=False)
        self.context = ConvBNAct(channels, width, 1, act=False)

    def forward(self, fine: Tensor, context: Tensor) -> Tensor:
        """Fuse maps (B, channels, h, w) and (B, channels, h', w') to (B, channels, h, w)."""
        agreement = self.fine(fine) * resize_like(self.context(context), fine)
        share: Tensor = agreement.sum(1, keepdim=True).sigmoid()
        return (1 - share) * fine + share * resize_like(context, fine)


class BoundaryFusion(nn.Module):
    """Light boundary-attention-guided fusion: detail where boundaries are, context elsewhere."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fine = ConvBNAct(channels, channels, 1, act=False)
        self.context = ConvBNAct(channels, channels, 1, act=False)

    def forward(self, fine: Tensor, context: Tensor, boundary: Tensor) -> Tensor:
        """Fuse three maps (B, channels, h, w) to one."""
        edge = boundary.sigmoid()
        y: Tensor = self.fine((1 - edge) * context + fine) + self.context(context + edge * fine)
        return y


@register_model(
    "pidnet",
    ModelFacts(paper="PIDNet (arXiv 2206.02066)", params=7_702_278, gmacs=11.799, stride=8, num_classes=19),
)
class PIDNet(SegmentationModel):
    """Three-branch network in the manner of a PID controller.

    The paper trains a further head on boundaries; here its branch learns from the class scores alone.

    Args:
        num_classes: channels of the logits.
        size: ``"s"`` or ``"m"``.

    Raises:
        ConfigError: the size is another.
    """

    stride = 8

    def __init__(self, num_classes: int = 19, *, size: str = "s") -> None:
        super().__init__()
        if size not in SIZES:
            raise ConfigError(f"pidnet's size is {size!r}; {did_you_mean(size, SIZES)}")
        self.num_classes = num_classes
        self.options = {"size": size}
        c = SIZES[size]
        self.stem = stem(c)
        self.stage4 = stage(c, c, 2)
        self.stage8 = stage(c, 2 * c, 2, stride=2)
        self.stage16 = stage(2 * c, 4 * c, 3, stride=2)
        self.stage32 = stage(4 * c, 8 * c, 3, stride=2)
        self.stage64 = nn.Sequential(DDRBottleneck(8 * c, 8 * c, stride=2), DDRBottleneck(16 * c, 8 * c))
        self.context = PAPPM(16 * c, CONTEXT, 4 * c)

        self.fine1 = stage(2 * c, 2 * c, 2)
        self.fine2 = stage(2 * c, 2 * c, 2)
        self.fine3 = DDRBottleneck(2 * c, 2 * c)
        self.up16 = ConvBNAct(4 * c, 2 * c, 1, act=False)
        self.up32 = ConvBNAct(8 * c, 2 * c, 1, act=False)
        self.attend16 = PixelAttention(2 * c, c)
        self.attend32 = PixelAttention(2 * c, c)

        self.edge1 = BasicBlock(2 * c, c)
        self.edge2 = DDRBottleneck(c, c)
        self.edge3 = DDRBottleneck(2 * c, 2 * c)
        self.edge16 = ConvBNAct(4 * c, c, act=False)
        self.edge32 = ConvBNAct(8 * c, 2 * c, act=False)

        self.fuse = BoundaryFusion(4 * c)
        self.head = Head(4 * c, HEAD, num_classes)
        self.aux_head = Head(2 * c, HEAD, num_classes)
        init_weights(self)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        """See :meth:`SegmentationModel.outputs`; taps have 32, 64 and 128 channels, or twice as many."""
        x4 = F.relu(self.stage4(self.stem(image)))
        x8 = F.relu(self.stage8(x4))
        x16 = F.relu(self.stage16(x8))
        # The auxiliary head sees rectified features, as in the authors' program, which rectifies them in place.
        joined = F.relu(self.attend16(self.fine1(x8), self.up16(x16)))
        edge = self.edge1(x8)
        edge = edge + resize_like(self.edge16(x16), edge)

        x32 = F.relu(self.stage32(x16))
        fine = self.attend32(self.fine2(joined), self.up32(x32))
        edge = self.edge2(F.relu(edge))
        edge = edge + resize_like(self.edge32(x32), edge)

        fine, edge = self.fine3(F.relu(fine)), self.edge3(F.relu(edge))
        context = resize_like(self.context(self.stage64(x32)), fine)
        maps = {"out": self.head(self.fuse(fine, context, edge)), "x4": x4, "x8": x8, "x16": x16}
        return maps | {"aux_8": self.aux_head(joined)} if self.training else maps
