"""EDANet (arXiv 1809.06323): dense modules of asymmetric convolutions, which carry all earlier maps along."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..base import SegmentationModel
from ..factory import register_model
from ..facts import ModelFacts
from ..layers import ConvBNAct, init_weights

GROWTH = 40
"""Channels that each dense module adds (k in the paper)."""
DILATIONS4 = (1, 1, 1, 2, 2)
DILATIONS8 = (2, 2, 4, 4, 8, 8, 16, 16)
"""Dilations of the modules at stride 4 and at stride 8, as in the program of the weights (models/edanet.py)."""


class EDADownsampler(nn.Module):
    """Halve the size: a strided 3×3 convolution and a 2×2 max-pool, side by side, then batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels - in_channels, 3, stride=2, padding=1, bias=False)
        # Both branches must round an odd size up.
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, out_channels, ⌈h/2⌉, ⌈w/2⌉)."""
        y: Tensor = self.act(self.norm(torch.cat([self.conv(x), self.pool(x)], dim=1)))
        return y


class EDAModule(nn.Module):
    """Efficient dense module: a 1×1 to 40 channels, two factorised 3×3 kernels, the second one dilated, and concat."""

    def __init__(self, in_channels: int, *, dilation: int) -> None:
        super().__init__()
        self.reduce = ConvBNAct(in_channels, GROWTH, 1)
        self.plain = _factorised(1)
        self.dilated = _factorised(dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, GROWTH + in_channels, h, w); the new maps come first."""
        return torch.cat([self.dilated(self.plain(self.reduce(x))), x], dim=1)


def _factorised(dilation: int) -> nn.Sequential:
    """Return 3×1 and 1×3 convolutions, with batch norm and ReLU after the second alone."""
    return nn.Sequential(
        nn.Conv2d(GROWTH, GROWTH, (3, 1), padding=(dilation, 0), dilation=dilation, bias=False),
        ConvBNAct(GROWTH, GROWTH, (1, 3), dilation=dilation),
    )


def _dense(in_channels: int, dilations: tuple[int, ...]) -> nn.Sequential:
    """Return dense modules, each of which takes what all before it gave."""
    return nn.Sequential(*(EDAModule(in_channels + i * GROWTH, dilation=d) for i, d in enumerate(dilations)))


@register_model(
    "edanet",
    ModelFacts(paper="EDANet (arXiv 1809.06323)", params=686_679, gmacs=8.833, stride=8, num_classes=19),
)
class EDANet(SegmentationModel):
    """EDANet: 450 channels at stride 8, and no decoder.

    It is the form whose weights zh320/realtime-semantic-segmentation-pytorch publishes, without biases and dropout.

    Args:
        num_classes: channels of the logits.
    """

    stride = 8

    def __init__(self, num_classes: int = 19) -> None:
        super().__init__()
        self.num_classes = num_classes
        channels4 = 60 + GROWTH * len(DILATIONS4)
        self.stage2 = EDADownsampler(3, 15)
        self.down4 = EDADownsampler(15, 60)
        self.stage4 = _dense(60, DILATIONS4)
        self.down8 = ConvBNAct(channels4, channels4 // 2, stride=2)
        self.stage8 = _dense(channels4 // 2, DILATIONS8)
        self.classifier = nn.Conv2d(channels4 // 2 + GROWTH * len(DILATIONS8), num_classes, 1, bias=False)
        init_weights(self)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        """See :meth:`SegmentationModel.outputs`; taps have 260 and 450 channels."""
        x4 = self.stage4(self.down4(self.stage2(image)))
        x8 = self.stage8(self.down8(x4))
        return {"out": self.classifier(x8), "x4": x4, "x8": x8}
