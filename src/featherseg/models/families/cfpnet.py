"""CFPNet (arXiv 2103.12212): channel-wise feature pyramids, four dilations with three kernel sizes in each module."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import SegmentationModel
from ..factory import register_model
from ..facts import ModelFacts
from ..layers import ConvBNAct, InitialBlock, init_weights

RATES4 = (2, 2)
RATES8 = (4, 4, 8, 8, 16, 16)
"""Largest dilations of the modules at stride 4 and at stride 8, as in the authors' program (AngeLouCN/CFPNet)."""


class FeaturePyramid(nn.Module):
    """One channel of the pyramid: three factorised 3×3 kernels in a row, whose outputs all count.

    They see as a 3×3, a 5×5 and a 7×7 kernel would, with a quarter, a quarter and half of the channels.
    """

    def __init__(self, channels: int, *, dilation: int) -> None:
        super().__init__()
        quarter = channels // 4
        self.kernel3 = _factorised(channels, quarter, dilation)
        self.kernel5 = _factorised(quarter, quarter, dilation)
        self.kernel7 = _factorised(quarter, channels // 2, dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, h, w) to as many."""
        x3 = self.kernel3(x)
        x5 = self.kernel5(x3)
        return torch.cat([x3, x5, self.kernel7(x5)], dim=1)


def _factorised(in_channels: int, out_channels: int, dilation: int) -> nn.Sequential:
    """Return 3×1 and 1×3 convolutions, each with batch norm and PReLU."""
    return nn.Sequential(
        ConvBNAct(in_channels, out_channels, (3, 1), dilation=dilation, act=nn.PReLU()),
        ConvBNAct(out_channels, out_channels, (1, 3), dilation=dilation, act=nn.PReLU()),
    )


class CFPModule(nn.Module):
    """Channel-wise feature pyramid: four pyramids from narrow to wide, each with the narrower ones' sum, and a skip."""

    def __init__(self, channels: int, *, rate: int) -> None:
        super().__init__()
        quarter = channels // 4
        self.reduce = ConvBNAct(channels, quarter, 1, act=nn.PReLU())
        # Of rate 2 the second dilation would be a half: 1 is the least there is.
        dilations = (1, max(rate // 4, 1), rate // 2, rate)
        self.pyramids = nn.ModuleList(FeaturePyramid(quarter, dilation=d) for d in dilations)
        self.mix = ConvBNAct(channels, channels, 1, act=nn.PReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Refine maps (B, channels, h, w)."""
        y = self.reduce(x)
        sums: list[Tensor] = []
        for pyramid in self.pyramids:
            seen = pyramid(y)
            sums.append(sums[-1] + seen if sums else seen)
        refined: Tensor = x + self.mix(torch.cat(sums, dim=1))
        return refined


@register_model(
    "cfpnet",
    ModelFacts(paper="CFPNet (arXiv 2103.12212)", params=272_167, gmacs=5.147, stride=8, num_classes=19),
)
class CFPNet(SegmentationModel):
    """CFPNet: the image, resized to each stage's maps, is joined to them.

    It is the form whose weights zh320/realtime-semantic-segmentation-pytorch publishes (models/cfpnet.py), of half the
    parameters of the authors' own: modules begin with a 1×1 convolution, not a 3×3, and stages do not pass their input
    on. The class scores end in batch norm and PReLU here.

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
        self.stage4 = nn.Sequential(*(CFPModule(64, rate=r) for r in RATES4))
        self.down8 = InitialBlock(64 + 3, 128, act=nn.PReLU())
        self.stage8 = nn.Sequential(*(CFPModule(128, rate=r) for r in RATES8))
        self.classifier = ConvBNAct(128 + 3, num_classes, 1, act=nn.PReLU())
        init_weights(self)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        """See :meth:`SegmentationModel.outputs`; taps have 64 and 128 channels."""
        x4 = self.stage4(self.down4(_with_image(self.stage2(image), image)))
        x8 = self.stage8(self.down8(_with_image(x4, image)))
        return {"out": self.classifier(_with_image(x8, image)), "x4": x4, "x8": x8}


def _with_image(x: Tensor, image: Tensor) -> Tensor:
    """Return maps with the image, at their size, as three more channels.

    Corner pixels are aligned, unlike anywhere else here: the published weights were trained on images shrunk so.
    """
    small = F.interpolate(image, size=x.shape[-2:], mode="bilinear", align_corners=True)
    return torch.cat([x, small], dim=1)
