"""Building blocks that more than one network uses."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ConvBNAct(nn.Sequential):
    """Convolution (no bias), batch norm and, unless ``act`` is false, ReLU; padded to keep the size."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        act: bool = True,
    ) -> None:
        padding = dilation * (kernel_size - 1) // 2
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
        if act:
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class DWConv(nn.Sequential):
    """Depthwise-separable convolution: 3×3 per channel, then 1×1 across channels, each with batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, *, dilation: int = 1) -> None:
        super().__init__(
            ConvBNAct(in_channels, in_channels, dilation=dilation, groups=in_channels),
            ConvBNAct(in_channels, out_channels, 1),
        )


class PooledBatchNorm2d(nn.BatchNorm2d):
    """Batch norm after global pooling: with one value a channel (batch of one) it uses the running statistics.

    A single value has no variance, and ``nn.BatchNorm2d`` raises; the statistics so far are the best there are.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise maps (B, C, 1, 1)."""
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)


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
