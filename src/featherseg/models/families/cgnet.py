"""CGNet (arXiv 1811.08201): each block joins a view of the surroundings to the local one, gated by the whole map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..base import SegmentationModel, resize_like
from ..factory import register_model
from ..facts import ModelFacts
from ..layers import ConvBNAct, init_weights


class CGBlock(nn.Module):
    """Context-guided block: local and dilated depthwise convolutions side by side, gated by their global average.

    The gate's two layers have nothing between them, where the paper has a ReLU: so are the published weights. They are
    1×1 convolutions here, so that pruning reaches them.
    """

    def __init__(self, in_channels: int, out_channels: int, *, dilation: int, stride: int = 1) -> None:
        super().__init__()
        half = out_channels // 2
        self.reduce = nn.Conv2d(in_channels, half, 1, bias=False)
        self.local = nn.Conv2d(half, half, 3, stride=stride, padding=1, groups=half, bias=False)
        self.surrounding = nn.Conv2d(
            half, half, 3, stride=stride, padding=dilation, dilation=dilation, groups=half, bias=False
        )
        self.joint = nn.Sequential(nn.BatchNorm2d(out_channels), nn.PReLU())
        self.gate = nn.Sequential(
            nn.Conv2d(out_channels, out_channels // 8, 1), nn.Conv2d(out_channels // 8, out_channels, 1), nn.Sigmoid()
        )
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, out_channels, ⌈h/stride⌉, ⌈w/stride⌉)."""
        reduced = self.reduce(x)
        y: Tensor = self.joint(torch.cat([self.local(reduced), self.surrounding(reduced)], dim=1))
        y = y * self.gate(y.mean((2, 3), keepdim=True))
        return x + y if self.residual else y


@register_model(
    "cgnet",
    ModelFacts(paper="CGNet (arXiv 1811.08201)", params=243_805, gmacs=4.383, stride=8, num_classes=19),
)
class CGNet(SegmentationModel):
    """CGNet with 3 and 15 blocks, as its published Cityscapes weights have it.

    The small images that join the maps are resized corner onto corner, where the paper averages; so are the weights.

    Args:
        num_classes: channels of the logits.
    """

    stride = 8

    def __init__(self, num_classes: int = 19) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.down2 = ConvBNAct(3, 32, stride=2, act=nn.PReLU())
        self.stage2 = nn.Sequential(*(ConvBNAct(32, 32, act=nn.PReLU()) for _ in range(2)))
        self.down4 = CGBlock(64, 64, dilation=2, stride=2)
        self.stage4 = nn.Sequential(CGBlock(64 + 3, 64, dilation=2), CGBlock(64, 64, dilation=2))
        self.down8 = CGBlock(128, 128, dilation=4, stride=2)
        self.stage8 = nn.Sequential(
            CGBlock(128 + 3, 128, dilation=4), *(CGBlock(128, 128, dilation=4) for _ in range(13))
        )
        self.classifier = nn.Conv2d(256, num_classes, 1, bias=False)
        init_weights(self)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        """See :meth:`SegmentationModel.outputs`; taps have 64 and 128 channels."""
        x2 = self.down2(image)
        first4 = self.down4(torch.cat([self.stage2(x2), x2], dim=1))
        x4 = self.stage4(torch.cat([first4, resize_like(image, first4, align_corners=True)], dim=1))
        first8 = self.down8(torch.cat([x4, first4], dim=1))
        x8 = self.stage8(torch.cat([first8, resize_like(image, first8, align_corners=True)], dim=1))
        return {"out": self.classifier(torch.cat([x8, first8], dim=1)), "x4": x4, "x8": x8}
