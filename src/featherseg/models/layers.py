"""Building blocks that more than one network uses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import resize_like


class ConvBNAct(nn.Sequential):
    """Convolution (no bias), batch norm and, unless ``act`` is false, ReLU; padded to keep the size.

    A `kernel_size` of (3, 1) or (1, 3) is one half of a factorised 3×3 kernel; ``act`` may be another activation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        act: bool | nn.Module = True,
    ) -> None:
        height, width = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        padding = dilation * (height - 1) // 2, dilation * (width - 1) // 2
        layers: list[nn.Module] = [
            nn.Conv2d(
                in_channels,
                out_channels,
                kernel_size,
                stride=stride,
                padding=padding,
                dilation=dilation,
                groups=groups,
                bias=False,
            ),
            nn.BatchNorm2d(out_channels),
        ]
        if isinstance(act, nn.Module):
            layers.append(act)
        elif act:
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class DWConv(nn.Sequential):
    """Depthwise-separable convolution: 3×3 per channel, then 1×1 across channels, each with batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(
            ConvBNAct(in_channels, in_channels, stride=stride, dilation=dilation, groups=in_channels),
            ConvBNAct(in_channels, out_channels, 1),
        )


class InitialBlock(nn.Module):
    """ENet's way to halve the size (arXiv 1606.02147): a strided 3×3 convolution and a max-pool, side by side.

    The pool is 3×3, not the paper's 2×2, as in the published weights; so both round an odd size up.
    """

    def __init__(self, in_channels: int, out_channels: int, *, act: nn.Module) -> None:
        super().__init__()
        self.conv = ConvBNAct(in_channels, out_channels - in_channels, stride=2, act=False)
        self.act = act
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, out_channels, ⌈h/2⌉, ⌈w/2⌉)."""
        return torch.cat([self.act(self.conv(x)), self.pool(x)], dim=1)


class PooledBatchNorm2d(nn.BatchNorm2d):
    """Batch norm after global pooling: with one value per channel (batch of one) it uses the running statistics.

    A single value has no variance, and ``nn.BatchNorm2d`` raises; the statistics so far are the best there are.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise maps (B, C, 1, 1)."""
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)


class PyramidPooling(nn.Module):
    """Pyramid pooling (PSPNet, arXiv 1612.01105): averages over grids of cells, beside the map, projected together.

    Args:
        in_channels: channels of the map; each grid is reduced to a quarter of them.
        project: what follows; it takes twice as many channels.
        sizes: cells of the four grids, a side.
        align_corners: how grids are resized to the map.
    """

    def __init__(
        self, in_channels: int, project: nn.Module, *, sizes: Sequence[int] = (1, 2, 4, 6), align_corners: bool = False
    ) -> None:
        super().__init__()
        self.sizes = sizes
        self.align_corners = align_corners
        self.reduce = nn.ModuleList(nn.Conv2d(in_channels, in_channels // 4, 1, bias=False) for _ in sizes)
        self.project = project

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to what `project` gives of (B, 2·in_channels, h, w)."""
        grids = [reduce(pool_to(x, size)) for reduce, size in zip(self.reduce, self.sizes, strict=True)]
        grids = [resize_like(grid, x, align_corners=self.align_corners) for grid in grids]
        y: Tensor = self.project(torch.cat([x, *grids], dim=1))
        return y


def pool_to(x: Tensor, size: int) -> Tensor:
    """Average maps (B, C, h, w) over `size` × `size` cells, which overlap where a side is no multiple of it.

    It is ``adaptive_avg_pool2d``, which ONNX cannot hold for more than one input size: there, torch's exporter
    writes the cells of its example. Means of slices follow any size.
    """
    for dim in (2, 3):
        length = x.shape[dim]
        ends = [(i * length // size, ((i + 1) * length + size - 1) // size) for i in range(size)]
        x = torch.cat([x.narrow(dim, start, end - start).mean(dim, keepdim=True) for start, end in ends], dim)
    return x


def init_weights(module: nn.Module) -> None:
    """Initialise in place: He-normal convolutions (fan-out, ReLU), unit batch norms, zero biases."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d) and layer.affine:
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
