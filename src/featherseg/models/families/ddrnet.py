"""DDRNet (arXiv 2101.06085): two branches of residual blocks, at stride 8 and down to 64, that exchange features.

Layers are those of ydhongHIT/DDRNet (`segmentation/DDRNet_23_slim.py` and `segmentation/DDRNet_23.py`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import ConfigError, did_you_mean
from ..base import SegmentationModel, resize_like
from ..factory import register_model
from ..facts import ModelFacts
from ..layers import ConvBNAct, PooledBatchNorm2d, init_weights

SIZES = {"23_slim": (32, 64), "23": (64, 128)}
"""Channels of the stem and of the class head, by size."""
CONTEXT = 128
"""Channels of each branch of the context module."""
WINDOWS = ((5, 2), (9, 4), (17, 8))
"""Kernels and strides of its average pools; the last of its scales is the whole map."""


class BasicBlock(nn.Module):
    """Two 3×3 convolutions around a skip, without the activation that other residual blocks end in."""

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = ConvBNAct(in_channels, channels, stride=stride)
        self.conv2 = ConvBNAct(channels, channels, act=False)
        self.shortcut = _shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, channels, ⌈h/stride⌉, ⌈w/stride⌉)."""
        y: Tensor = self.conv2(self.conv1(x)) + self.shortcut(x)
        return y


class DDRBottleneck(nn.Module):
    """Convolutions 1×1, 3×3 and 1×1 to twice the channels, around a skip, without an activation at the end.

    A 64×64 image is a single pixel at stride 64, for which plain batch norm would refuse a batch of one.
    """

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = _pooled(ConvBNAct(in_channels, channels, 1))
        self.conv2 = _pooled(ConvBNAct(channels, channels, stride=stride))
        self.conv3 = _pooled(ConvBNAct(channels, 2 * channels, 1, act=False))
        self.shortcut = _pooled(_shortcut(in_channels, 2 * channels, stride))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, 2·channels, ⌈h/stride⌉, ⌈w/stride⌉)."""
        y: Tensor = self.conv3(self.conv2(self.conv1(x))) + self.shortcut(x)
        return y


def _shortcut(in_channels: int, channels: int, stride: int) -> nn.Module:
    """Return a 1×1 convolution where size or channels change, else nothing."""
    if stride == 1 and in_channels == channels:
        return nn.Identity()
    return ConvBNAct(in_channels, channels, 1, stride=stride, act=False)


def _pooled(layers: nn.Module) -> nn.Module:
    """Return a :class:`ConvBNAct`, or nothing, that works on single pixels too."""
    if isinstance(layers, ConvBNAct):
        norm = layers[1]
        assert isinstance(norm, nn.BatchNorm2d)
        layers[1] = PooledBatchNorm2d(norm.num_features)
    return layers


def stage(in_channels: int, channels: int, blocks: int, *, stride: int = 1) -> nn.Sequential:
    """Return basic blocks with ReLU between them."""
    layers: list[nn.Module] = [BasicBlock(in_channels, channels, stride=stride)]
    for _ in range(blocks - 1):
        layers += [nn.ReLU(inplace=True), BasicBlock(channels, channels)]
    return nn.Sequential(*layers)


def stem(channels: int) -> nn.Sequential:
    """Return two strided 3×3 convolutions, to stride 4."""
    layers: list[nn.Module] = []
    for in_channels in (3, channels):
        # Biases are of no use before batch norm, but the published weights have them.
        conv = nn.Conv2d(in_channels, channels, 3, stride=2, padding=1)
        layers += [conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class PreActConv(nn.Sequential):
    """Batch norm, ReLU and a convolution (no bias)."""

    def __init__(self, in_channels: int, channels: int, kernel_size: int, *, groups: int = 1) -> None:
        super().__init__(
            PooledBatchNorm2d(in_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(in_channels, channels, kernel_size, padding=kernel_size // 2, groups=groups, bias=False),
        )


class DAPPM(nn.Module):
    """Deep aggregation pyramid pooling: the map, three grids of averages and its mean, each mixed into the next."""

    def __init__(self, in_channels: int, width: int, channels: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(PreActConv(in_channels, width, 1) for _ in range(len(WINDOWS) + 2))
        self.mix = nn.ModuleList(PreActConv(width, width, 3) for _ in range(len(WINDOWS) + 1))
        self.fuse = PreActConv(width * len(self.scales), channels, 1)
        self.shortcut = PreActConv(in_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, channels, h, w)."""
        first, *grids = pooled_scales(x, self.scales)
        maps = [first]
        for mix, grid in zip(self.mix, grids, strict=True):
            maps.append(mix(grid + maps[-1]))
        y: Tensor = self.fuse(torch.cat(maps, dim=1)) + self.shortcut(x)
        return y


def pooled_scales(x: Tensor, scales: nn.ModuleList) -> list[Tensor]:
    """Return what `scales` make of a map, its averages over :data:`WINDOWS` and its mean, all at the map's size."""
    pools = [F.avg_pool2d(x, kernel, stride, padding=kernel // 2) for kernel, stride in WINDOWS]
    pools.append(x.mean((2, 3), keepdim=True))
    first, *rest = scales
    return [first(x), *(resize_like(scale(pool), x) for scale, pool in zip(rest, pools, strict=True))]


class Head(nn.Sequential):
    """Batch norm, ReLU and a 3×3 convolution, then the same with a 1×1 to class scores."""

    def __init__(self, in_channels: int, channels: int, num_classes: int) -> None:
        super().__init__(
            nn.BatchNorm2d(in_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, num_classes, 1),
        )


@register_model(
    "ddrnet",
    ModelFacts(paper="DDRNet (arXiv 2101.06085)", params=5_734_342, gmacs=9.070, stride=8, num_classes=19),
)
class DDRNet(SegmentationModel):
    """Deep dual-resolution network.

    Args:
        num_classes: channels of the logits.
        size: ``"23_slim"`` or ``"23"``.

    Raises:
        ConfigError: the size is another.
    """

    stride = 8

    def __init__(self, num_classes: int = 19, *, size: str = "23_slim") -> None:
        super().__init__()
        if size not in SIZES:
            raise ConfigError(f"ddrnet's size is {size!r}; {did_you_mean(size, SIZES)}")
        self.num_classes = num_classes
        self.options = {"size": size}
        c, head = SIZES[size]
        self.stem = stem(c)
        self.stage4 = stage(c, c, 2)
        self.stage8 = stage(c, 2 * c, 2, stride=2)
        self.stage16 = stage(2 * c, 4 * c, 2, stride=2)
        self.stage32 = stage(4 * c, 8 * c, 2, stride=2)
        self.stage64 = DDRBottleneck(8 * c, 8 * c, stride=2)
        self.context = DAPPM(16 * c, CONTEXT, 4 * c)
        # The branch that stays at stride 8, and what passes between it and the other.
        self.fine1 = stage(2 * c, 2 * c, 2)
        self.fine2 = stage(2 * c, 2 * c, 2)
        self.fine3 = DDRBottleneck(2 * c, 2 * c)
        self.down16 = ConvBNAct(2 * c, 4 * c, stride=2, act=False)
        self.down32 = nn.Sequential(ConvBNAct(2 * c, 4 * c, stride=2), ConvBNAct(4 * c, 8 * c, stride=2, act=False))
        self.up16 = ConvBNAct(4 * c, 2 * c, 1, act=False)
        self.up32 = ConvBNAct(8 * c, 2 * c, 1, act=False)
        self.head = Head(4 * c, head, num_classes)
        self.aux_head = Head(2 * c, head, num_classes)
        init_weights(self)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        """See :meth:`SegmentationModel.outputs`; taps have 32, 64 and 128 channels, or twice as many."""
        x4 = F.relu(self.stage4(self.stem(image)))
        x8 = F.relu(self.stage8(x4))
        y = self.stage16(x8)
        fine = self.fine1(x8)
        x16 = F.relu(y + self.down16(F.relu(fine)))
        joined = fine + resize_like(self.up16(F.relu(y)), fine)

        y = self.stage32(x16)
        fine = self.fine2(F.relu(joined))
        x32 = F.relu(y + self.down32(F.relu(fine)))
        fine = fine + resize_like(self.up32(F.relu(y)), fine)

        fine = self.fine3(F.relu(fine))
        logits = self.head(resize_like(self.context(self.stage64(x32)), fine) + fine)
        maps = {"out": logits, "x4": x4, "x8": x8, "x16": x16}
        return maps | {"aux_8": self.aux_head(joined)} if self.training else maps
