"""LEDNet (arXiv 1905.02423): a light asymmetric encoder with channel shuffle, and an attention-pyramid decoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...core.errors import ConfigError, did_you_mean
from ..base import SegmentationModel, resize_like
from ..factory import register_model
from ..facts import ModelFacts
from ..layers import PooledBatchNorm2d

DILATIONS = (1, 2, 5, 9, 2, 5, 9, 17)
"""Dilations of the eight blocks at 128 channels (table 1 of the paper)."""
NET_NAMES = ("lednet_128", "lednet_256", "lednet_512", "lednet_1024")
"""What :func:`return_model` takes; the numbers were input heights, and any size works with each."""


class Downsampler(nn.Module):
    """Halve the size: a strided 3×3 convolution and a 2×2 max-pool, side by side."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels - in_channels, 3, stride=2, padding=1)
        # Both branches must round an odd size up.
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, out_channels, ⌈h/2⌉, ⌈w/2⌉)."""
        y: Tensor = self.act(self.norm(torch.cat([self.conv(x), self.pool(x)], dim=1)))
        return y


class SSnbt(nn.Module):
    """Split-shuffle non-bottleneck: each half of the channels through factorised 3×3 convolutions, then mixed.

    One half starts with the columns, the other with the rows, so that the pair is symmetric.
    """

    def __init__(self, channels: int, *, dilation: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.columns_first = _factorised(channels // 2, dilation, columns_first=True)
        self.rows_first = _factorised(channels // 2, dilation, columns_first=False)
        self.dropout = nn.Dropout2d(dropout)
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Refine maps (B, channels, h, w)."""
        left, right = x.chunk(2, dim=1)
        y = torch.cat([self.columns_first(left), self.rows_first(right)], dim=1)
        y = self.act(x + self.dropout(y))
        # Channel shuffle in two groups: the next split takes half of its channels from each branch.
        shuffled: Tensor = y.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
        return shuffled


def _factorised(channels: int, dilation: int, *, columns_first: bool) -> nn.Sequential:
    """Return 3×1 and 1×3 convolutions with batch norm, plain and then dilated."""
    layers: list[nn.Module] = []
    for step in (1, dilation):
        for column in (columns_first, not columns_first):
            kernel, padding, spread = ((3, 1), (step, 0), (step, 1)) if column else ((1, 3), (0, step), (1, step))
            layers += [nn.Conv2d(channels, channels, kernel, padding=padding, dilation=spread), nn.ReLU(inplace=True)]
        layers.insert(-1, nn.BatchNorm2d(channels))
    return nn.Sequential(*layers[:-1])  # the activation after the residual takes the last one's place


class AttentionPyramid(nn.Module):
    """Attention Pyramid Network: class scores, weighed by one map of three scales, plus scores of the whole image.

    The two class convolutions are plain: with batch norm and ReLU after them, as in the paper's own program, no
    logit could fall below zero.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.down1 = _unit(in_channels, 7, stride=2)
        self.down2 = _unit(1, 5, stride=2)
        self.down3 = nn.Sequential(_unit(1, 3, stride=2), _unit(1, 3))
        self.lateral1 = _unit(1, 7)
        self.lateral2 = _unit(1, 5)
        self.classes = nn.Conv2d(in_channels, num_classes, 1)
        self.image_classes = nn.Conv2d(in_channels, num_classes, 1)
        # The residual stream and the attention multiply up to here. From torch's default initialisation and with
        # small class weights the first loss is about log(num_classes); He-normal weights start it above 20.
        for layer in (self.classes, self.image_classes):
            nn.init.normal_(layer.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, in_channels, h, w) to logits (B, num_classes, h, w)."""
        half = self.down1(x)
        quarter = self.down2(half)
        attention = self.lateral2(quarter) + resize_like(self.down3(quarter), quarter)
        attention = self.lateral1(half) + resize_like(attention, half)
        whole = self.image_classes(x.mean((2, 3), keepdim=True))
        logits: Tensor = self.classes(x) * resize_like(attention, x) + whole
        return logits


def _unit(in_channels: int, kernel_size: int, *, stride: int = 1) -> nn.Sequential:
    """Return a convolution to one channel with batch norm and ReLU.

    A 64×64 image ends in a 1×1 map here, for which plain batch norm would refuse a batch of one.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, 1, kernel_size, stride=stride, padding=kernel_size // 2),
        PooledBatchNorm2d(1),
        nn.ReLU(inplace=True),
    )


@register_model(
    "lednet",
    ModelFacts(paper="LEDNet (arXiv 1905.02423)", params=923_277, gmacs=11.211, stride=8),
)
class LEDNet(SegmentationModel):
    """LEDNet, with logits of both signs and any input size.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the image, 1 to 31; the first block passes them on beside its convolution.

    Raises:
        ConfigError: `in_channels` is out of range.

    Example:
        >>> featherseg.LEDNet(num_classes=22)(torch.zeros(1, 3, 64, 96)).shape
        torch.Size([1, 22, 64, 96])
    """

    stride = 8

    def __init__(self, num_classes: int = 21, *, in_channels: int = 3) -> None:
        super().__init__()
        if not 1 <= in_channels < 32:
            raise ConfigError(f"lednet's in_channels is {in_channels}; choose 1 to 31")
        self.num_classes = num_classes
        self.options = {"in_channels": in_channels}
        # Dropout rates as in the paper's own program: light where maps are large, strong at stride 8.
        self.stage2 = nn.Sequential(Downsampler(in_channels, 32), *(SSnbt(32, dropout=0.03) for _ in range(3)))
        self.stage4 = nn.Sequential(Downsampler(32, 64), *(SSnbt(64, dropout=0.03) for _ in range(2)))
        self.stage8 = nn.Sequential(Downsampler(64, 128), *(SSnbt(128, dilation=d, dropout=0.3) for d in DILATIONS))
        self.decoder = AttentionPyramid(128, num_classes)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        """See :meth:`SegmentationModel.outputs`; taps have 64 and 128 channels."""
        x4 = self.stage4(self.stage2(image))
        x8 = self.stage8(x4)
        return {"out": self.decoder(x8), "x4": x4, "x8": x8}


def return_model(input_nc: int = 3, output_nc: int = 22, netG: str = "lednet_128") -> LEDNet:
    """Build LEDNet by the names that its users know.

    Args:
        input_nc: channels of the image.
        output_nc: number of classes.
        netG: one of :data:`NET_NAMES`; all are the same network.

    Raises:
        ConfigError: the name is unknown, or a number is out of range.

    Example:
        >>> featherseg.return_model(input_nc=3, output_nc=22, netG="lednet_128").num_classes
        22
    """
    if netG not in NET_NAMES:
        raise ConfigError(f"unknown netG {netG!r}; {did_you_mean(netG, NET_NAMES)}")
    if output_nc < 1:
        raise ConfigError(f"output_nc is {output_nc}; a network needs at least 1")
    return LEDNet(output_nc, in_channels=input_nc)
