"""DABNet (arXiv 1907.11357): depthwise asymmetric bottlenecks, with the shrunken image joined to each stage."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import SegmentationModel
from ..factory import register_model
from ..facts import ModelFacts
from ..layers import ConvBNAct, InitialBlock, init_weights

DILATIONS4 = (2, 2, 2)
DILATIONS8 = (4, 4, 8, 8, 16, 16)
"""Dilations of the modules at stride 4 and at stride 8, as in the authors' program (Reagan1311/DABNet)."""


class DABModule(nn.Module):
    """Depthwise asymmetric bottleneck: half the channels see the near and, dilated, the far, side by side."""

    def __init__(self, channels: int, *, dilation: int) -> None:
        super().__init__()
        half = channels // 2
        self.reduce = ConvBNAct(channels, half, act=nn.PReLU())
        self.near = _depthwise(half, 1)
        self.far = _depthwise(half, dilation)
        self.expand = ConvBNAct(half, channels, 1, act=nn.PReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Refine maps (B, channels, h, w)."""
        y = self.reduce(x)
        refined: Tensor = x + self.expand(self.near(y) + self.far(y))
        return refined


def _depthwise(channels: int, dilation: int) -> nn.Sequential:
    """Return a depthwise 3×1 and 1×3 convolution, each with batch norm and PReLU."""
    kernels = (3, 1), (1, 3)
    return nn.Sequential(
        *(ConvBNAct(channels, channels, k, dilation=dilation, groups=channels, act=nn.PReLU()) for k in kernels)
    )


@register_model(
    "dabnet",
    ModelFacts(paper="DABNet (arXiv 1907.11357)", params=750_269, gmacs=10.220, stride=8, num_classes=19),
)
class DABNet(SegmentationModel):
    """DABNet: each stage ends in its own input, its modules' output and the image at that size.

    It is the form whose weights zh320/realtime-semantic-segmentation-pytorch publishes (models/dabnet.py). The
    authors' own normalises before each module's convolutions, and joined maps too; here batch norm follows each one.

    Args:
        num_classes: channels of the logits.
    """

    stride = 8

    def __init__(self, num_classes: int = 19) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stage2 = nn.Sequential(
            ConvBNAct(3, 32, stride=2, act=nn.PReLU()),
            ConvBNAct(32, 32, act=nn.PReLU()),
            ConvBNAct(32, 32, act=nn.PReLU()),
        )
        self.down4 = InitialBlock(32 + 3, 64, act=nn.PReLU())
        self.stage4 = nn.Sequential(*(DABModule(64, dilation=d) for d in DILATIONS4))
        self.down8 = ConvBNAct(2 * 64 + 3, 128, stride=2, act=nn.PReLU())
        self.stage8 = nn.Sequential(*(DABModule(128, dilation=d) for d in DILATIONS8))
        self.classifier = nn.Conv2d(2 * 128 + 3, num_classes, 1, bias=False)
        init_weights(self)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        """See :meth:`SegmentationModel.outputs`; taps have 128 and 256 channels."""
        image2 = _halved(image)
        image4 = _halved(image2)
        y = self.down4(torch.cat([self.stage2(image), image2], dim=1))
        x4 = torch.cat([self.stage4(y), y], dim=1)
        y = self.down8(torch.cat([x4, image4], dim=1))
        x8 = torch.cat([self.stage8(y), y], dim=1)
        logits = self.classifier(torch.cat([x8, _halved(image4)], dim=1))
        return {"out": logits, "x4": x4, "x8": x8}


def _halved(image: Tensor) -> Tensor:
    """Return averages of 3×3 pixels, two apart; an odd size is rounded up."""
    return F.avg_pool2d(image, 3, stride=2, padding=1)
