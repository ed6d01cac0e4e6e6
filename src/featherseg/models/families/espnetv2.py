"""ESPNetv2 (arXiv 1811.11431) for street scenes: depthwise dilated branches, pyramid pooling at stride 8.

The decoder is that of zh320/realtime-semantic-segmentation-pytorch (`models/espnetv2.py` at commit
1a32d68ec9a02b244d158d0512f93c6e45fe86b9), which has weights for Cityscapes; :mod:`.espnetv2_edge` is the author's
own of a later year. Maps are resized with aligned corners, as these weights were trained.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..base import SegmentationModel, resize_like
from ..factory import register_model
from ..facts import ModelFacts
from ..layers import ConvBNAct, PyramidPooling, init_weights

BRANCHES = 4
"""Parallel branches of a block, of dilations 1, 2, 4 and 8."""
BLOCKS = (3, 7)
"""Blocks after the first at strides 8 and 16 (table 1 of the paper)."""


class EESP(nn.Module):
    """Extremely efficient spatial pyramid: reduce by groups, four dilated depthwise branches, expand by groups.

    Each branch is added to the next, which fills the gaps that dilation leaves.
    """

    def __init__(self, channels: int, *, stride: int = 1) -> None:
        super().__init__()
        width = channels // BRANCHES
        self.reduce = nn.Conv2d(channels, width, 1, groups=BRANCHES, bias=False)
        self.branches = nn.ModuleList(_branch(width, stride, 2**i) for i in range(BRANCHES))
        self.expand = nn.Conv2d(channels, channels, 1, groups=BRANCHES, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, h, w) to (B, channels, ⌈h/stride⌉, ⌈w/stride⌉)."""
        x = self.reduce(x)
        sums: list[Tensor] = []
        for branch in self.branches:
            sums.append(branch(x) + sums[-1] if sums else branch(x))
        y: Tensor = self.expand(torch.cat(sums, dim=1))
        return y


def _branch(channels: int, stride: int, dilation: int) -> nn.Sequential:
    """Return a dilated 3×3 convolution per channel and a 1×1 across channels, each with batch norm and PReLU."""
    depthwise = ConvBNAct(channels, channels, stride=stride, dilation=dilation, groups=channels, act=nn.PReLU())
    # Biases are of no use before batch norm, but the published weights have them.
    return nn.Sequential(*depthwise, nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.PReLU())


class ResidualEESP(EESP):
    """An EESP block around an identity skip."""

    def forward(self, x: Tensor) -> Tensor:
        """Refine maps (B, channels, h, w)."""
        return x + super().forward(x)


class ESPDownsampler(nn.Module):
    """Halve the size and double the channels: a strided EESP beside pooling, plus what the image itself says."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.eesp = EESP(channels, stride=2)
        self.pool = nn.AvgPool2d(3, stride=2, padding=1)
        self.image = nn.Sequential(ConvBNAct(3, 3), nn.Conv2d(3, 2 * channels, 1, bias=False))

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """Map (B, channels, h, w) and an image of half that size to (B, 2·channels, ⌈h/2⌉, ⌈w/2⌉)."""
        y: Tensor = torch.cat([self.eesp(x), self.pool(x)], dim=1) + self.image(image)
        return y


@register_model(
    "espnetv2",
    ModelFacts(paper="ESPNetv2 (arXiv 1811.11431)", params=862_032, gmacs=4.815, stride=8, num_classes=19),
)
class ESPNetv2(SegmentationModel):
    """ESPNetv2 with pyramid pooling over strides 8 and 16 together.

    Args:
        num_classes: channels of the logits.
    """

    stride = 8

    def __init__(self, num_classes: int = 19) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.pool = nn.AvgPool2d(3, stride=2, padding=1)
        self.stem = ConvBNAct(3, 32, stride=2, act=nn.PReLU())
        self.down4 = ESPDownsampler(32)
        self.down8 = ESPDownsampler(64)
        self.stage8 = nn.Sequential(*(ResidualEESP(128) for _ in range(BLOCKS[0])))
        self.down16 = ESPDownsampler(128)
        self.stage16 = nn.Sequential(*(ResidualEESP(256) for _ in range(BLOCKS[1])))
        self.context = ConvBNAct(256, 128, 1)
        project = nn.Sequential(nn.Conv2d(512, 256, 1), nn.BatchNorm2d(256), nn.PReLU())
        self.pyramid = PyramidPooling(256, project, align_corners=True)
        self.head = ConvBNAct(256, 128, act=nn.PReLU())
        self.classifier = nn.Conv2d(128, num_classes, 1, bias=False)
        init_weights(self)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        """See :meth:`SegmentationModel.outputs`; taps have 64, 128 and 256 channels."""
        image4 = self.pool(self.pool(image))
        image8 = self.pool(image4)
        x4 = self.down4(self.stem(image), image4)
        x8 = self.stage8(self.down8(x4, image8))
        x16 = self.stage16(self.down16(x8, self.pool(image8)))
        context = self.context(resize_like(x16, x8, align_corners=True))
        logits = self.classifier(self.head(self.pyramid(torch.cat([context, x8], dim=1))))
        return {"out": logits, "x4": x4, "x8": x8, "x16": x16}
