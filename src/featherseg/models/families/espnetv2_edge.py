"""ESPNetv2 (arXiv 1811.11431) with its author's later decoder, which ends at stride 2.

Widths and layers are those of sacmehta/EdgeNets (`model/segmentation/espnetv2.py` and `nn_layers/`), which has
weights for PASCAL VOC. Maps are resized with aligned corners, as these weights were trained.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import ConfigError
from ..base import SegmentationModel, resize_like
from ..factory import register_model
from ..facts import ModelFacts
from ..layers import ConvBNAct, init_weights

WIDTHS = {
    0.5: (16, 32, 64, 128),
    1.0: (32, 64, 128, 256),
    1.25: (32, 80, 160, 320),
    1.5: (32, 96, 192, 384),
    2.0: (32, 128, 256, 512),
}
"""Channels at strides 2, 4, 8 and 16, by scale."""
BRANCHES = 4
BLOCKS = (3, 7)
"""Blocks after the first at strides 8 and 16."""
WIDE, NARROW = (1, 2, 3, 4), (1, 1, 2, 3)
"""Dilations of the branches; a 3×3 of dilation d sees 2d + 1 pixels, and more than 7 of stride 16 see too far."""
DECODER = 16
"""Channels that the decoder's widths of 4, 3 and 2 times are multiples of."""
SHARES = {2.0: 2, 1.5: 3, 1.0: 1, 0.5: 3, 0.1: 11}
"""Sizes that the pyramid looks at the map in, and the most rows of a cell where it is averaged between them."""
LEAST = 5
"""Fewest rows and columns of such a size."""


class EdgeEESP(nn.Module):
    """Extremely efficient spatial pyramid: reduce by groups, four dilated depthwise branches, expand by groups.

    Each branch is added to the next, which fills the gaps that dilation leaves.
    """

    def __init__(self, in_channels: int, channels: int, dilations: tuple[int, ...], *, stride: int = 1) -> None:
        super().__init__()
        width = channels // BRANCHES
        self.reduce = _conv(in_channels, width, 1, groups=BRANCHES)
        self.branches = nn.ModuleList(
            nn.Conv2d(width, width, 3, stride=stride, padding=d, dilation=d, groups=width, bias=False)
            for d in dilations
        )
        self.act = _act(channels)
        self.expand = _conv(channels, channels, 1, groups=BRANCHES, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, channels, ⌈h/stride⌉, ⌈w/stride⌉)."""
        x = self.reduce(x)
        sums: list[Tensor] = []
        for branch in self.branches:
            sums.append(branch(x) + sums[-1] if sums else branch(x))
        y: Tensor = self.expand(self.act(torch.cat(sums, dim=1)))
        return y


class EdgeResidualEESP(nn.Module):
    """An EdgeEESP block around an identity skip."""

    def __init__(self, channels: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.eesp = EdgeEESP(channels, channels, dilations)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Refine maps (B, channels, h, w)."""
        y: Tensor = self.act(x + self.eesp(x))
        return y


class EdgeDownsampler(nn.Module):
    """Halve the size: pooling beside a strided EdgeEESP, plus what the image itself says."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(3, stride=2, padding=1)
        self.eesp = EdgeEESP(in_channels, channels - in_channels, WIDE, stride=2)
        self.image = nn.Sequential(_conv(3, 3, 3), _conv(3, channels, 1, act=False))
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) and an image of half that size to (B, channels, ⌈h/2⌉, ⌈w/2⌉)."""
        y: Tensor = self.act(torch.cat([self.pool(x), self.eesp(x)], dim=1) + self.image(image))
        return y


class SizePyramid(nn.Module):
    """Efficient pyramid pooling: depthwise convolutions of a few channels in five sizes, mixed and expanded.

    Args:
        in_channels: channels of the map.
        width: channels that it is reduced to.
        out_channels: what is returned.
        act: end in batch norm and PReLU; the class scores do not.
    """

    def __init__(self, in_channels: int, width: int, out_channels: int, *, act: bool = True) -> None:
        super().__init__()
        self.reduce = _conv(in_channels, width, 1)
        self.sizes = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False) for _ in SHARES)
        self.act = _act(width * len(SHARES))
        self.mix = _conv(width * len(SHARES), width, 3, groups=width)
        self.expand = nn.Conv2d(width, out_channels, 1, bias=not act)
        self.end = _act(out_channels) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, out_channels, h, w)."""
        x = self.reduce(x)
        height, width = x.shape[-2:]
        maps = []
        for (share, longest), conv in zip(SHARES.items(), self.sizes, strict=True):
            if share == 1:
                maps.append(conv(x))
                continue
            size = _part(height, share), _part(width, share)
            if share > 1:
                y = conv(F.interpolate(x, size=size, mode="bilinear", align_corners=True))
                maps.append(pool_between(y, (height, width), longest))
            else:
                maps.append(resize_like(conv(pool_between(x, size, longest)), x, align_corners=True))
        y = self.act(torch.cat(maps, dim=1))
        # Shuffled, so that a group of the next convolution has one channel of each size.
        y = self.mix(y.unflatten(1, (len(SHARES), -1)).transpose(1, 2).flatten(1, 2))
        end: Tensor = self.end(self.expand(y))
        return end


def _part(length: int, share: float) -> int:
    """Return that share of a length, rounded up, in arithmetic that torch's exporter can follow."""
    size: int = torch.sym_max((length * round(10 * share) + 9) // 10, LEAST)  # type: ignore[assignment]
    return size


def pool_between(x: Tensor, size: tuple[int, int], longest: int) -> Tensor:
    """Average maps (B, C, h, w) over any number of cells, as ``adaptive_avg_pool2d`` does.

    It is exported for any size, which torch's own operator is not: each cell is a sum of so many shifted rows (and
    columns) as the longest one has, of which shorter ones leave some out.

    Args:
        x: the maps.
        size: (rows, columns) of cells.
        longest: most rows or columns of a cell.
    """
    for dim, cells in zip((2, 3), size, strict=True):
        length = x.shape[dim]
        cell = torch.arange(cells, device=x.device)
        start, end = cell * length // cells, ((cell + 1) * length + cells - 1) // cells
        along = (1, 1, -1, 1) if dim == 2 else (1, 1, 1, -1)
        parts = []
        for offset in range(longest):
            place = start + offset
            share = ((place < end) / (end - start)).to(x.dtype)
            parts.append(x.index_select(dim, place.clamp(max=length - 1)) * share.view(along))
        x = torch.stack(parts).sum(0)
    return x


class GatedSkip(nn.Module):
    """A grouped 3×3 convolution of encoder features, gated by their global average."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = _conv(in_channels, channels, 3, groups=math.gcd(in_channels, channels))
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(in_channels, channels, 1, bias=False), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, channels, h, w)."""
        y: Tensor = self.conv(x) * self.gate(x)
        return y


def _act(channels: int) -> nn.Sequential:
    """Return batch norm and PReLU."""
    return nn.Sequential(nn.BatchNorm2d(channels), nn.PReLU(channels))


def _conv(
    in_channels: int, channels: int, kernel_size: int, *, stride: int = 1, groups: int = 1, act: bool = True
) -> ConvBNAct:
    """Return a convolution with batch norm and PReLU."""
    return ConvBNAct(
        in_channels, channels, kernel_size, stride=stride, groups=groups, act=nn.PReLU(channels) if act else False
    )


@register_model(
    "espnetv2_edge",
    ModelFacts(paper="ESPNetv2 (arXiv 1811.11431)", params=788_773, gmacs=2.699, stride=2),
)
class ESPNetv2Edge(SegmentationModel):
    """ESPNetv2 whose decoder climbs from stride 16 to stride 2, with a pyramid of sizes at each step.

    Args:
        num_classes: channels of the logits.
        scale: channel multiplier of the encoder: 0.5, 1.0, 1.25, 1.5 or 2.0.

    Raises:
        ConfigError: the scale is another.
    """

    stride = 2

    def __init__(self, num_classes: int = 21, *, scale: float = 2.0) -> None:
        super().__init__()
        if scale not in WIDTHS:
            raise ConfigError(f"espnetv2_edge's scale is {scale}; choose one of {', '.join(map(str, WIDTHS))}")
        self.num_classes = num_classes
        self.options = {"scale": scale}
        c2, c4, c8, c16 = WIDTHS[scale]
        self.pool = nn.AvgPool2d(3, stride=2, padding=1)
        self.stem = _conv(3, c2, 3, stride=2)
        self.down4 = EdgeDownsampler(c2, c4)
        self.down8 = EdgeDownsampler(c4, c8)
        self.stage8 = nn.Sequential(*(EdgeResidualEESP(c8, WIDE) for _ in range(BLOCKS[0])))
        self.down16 = EdgeDownsampler(c8, c16)
        self.stage16 = nn.Sequential(*(EdgeResidualEESP(c16, NARROW) for _ in range(BLOCKS[1])))

        d16, d8, d4 = 4 * DECODER, 3 * DECODER, 2 * DECODER
        width = max(min(num_classes // 2, DECODER), 1)
        self.pyramid16 = SizePyramid(c16, width, d16)
        self.skip8, self.act8 = GatedSkip(c8, d16), _act(d16)
        self.pyramid8 = SizePyramid(d16, width, d8)
        self.skip4, self.act4 = GatedSkip(c4, d8), _act(d8)
        self.pyramid4 = SizePyramid(d8, width, d4)
        self.skip2, self.act2 = GatedSkip(c2, d4), _act(d4)
        self.pyramid2 = SizePyramid(d4, width, num_classes, act=False)
        init_weights(self)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        """See :meth:`SegmentationModel.outputs`; taps have 128, 256 and 512 channels at scale 2.0."""
        image4 = self.pool(self.pool(image))
        image8 = self.pool(image4)
        x2 = self.stem(image)
        x4 = self.down4(x2, image4)
        x8 = self.stage8(self.down8(x4, image8))
        x16 = self.stage16(self.down16(x8, self.pool(image8)))

        y = self.pyramid16(x16)
        y = self.pyramid8(self.act8(self.skip8(x8) + resize_like(y, x8, align_corners=True)))
        y = self.pyramid4(self.act4(self.skip4(x4) + resize_like(y, x4, align_corners=True)))
        y = self.pyramid2(self.act2(self.skip2(x2) + resize_like(y, x2, align_corners=True)))
        return {"out": y, "x4": x4, "x8": x8, "x16": x16}
