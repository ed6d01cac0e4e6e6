"""Fast-SCNN (arXiv 1902.04502): a few layers at full size, whose map both branches share.

Layers are those of zh320/realtime-semantic-segmentation-pytorch (`models/fastscnn.py`), which has weights for
Cityscapes. Maps are resized with aligned corners, as these weights were trained. There, the class scores end in batch
norm and ReLU, so that none can fall below zero; here they are plain, and the converter takes the batch norm in.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..base import SegmentationModel, resize_like
from ..factory import register_model
from ..facts import ModelFacts
from ..layers import ConvBNAct, DWConv, PyramidPooling, init_weights

BLOCKS = ((64, 3, 2), (96, 2, 2), (128, 3, 1))
"""Channels, number and first stride of the inverted residuals (the paper has one more of 96 channels)."""
EXPANSION = 6


class InvertedResidual(nn.Module):
    """MobileNetV2's block (arXiv 1801.04381): expand, depthwise, project, around a skip where it fits."""

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1) -> None:
        super().__init__()
        wide = EXPANSION * in_channels
        self.has_skip = stride == 1 and in_channels == channels
        self.conv = nn.Sequential(
            ConvBNAct(in_channels, wide, 1),
            ConvBNAct(wide, wide, stride=stride, groups=wide),
            ConvBNAct(wide, channels, 1, act=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, channels, ⌈h/stride⌉, ⌈w/stride⌉)."""
        y: Tensor = self.conv(x)
        return x + y if self.has_skip else y


@register_model(
    "fast_scnn",
    ModelFacts(paper="Fast-SCNN (arXiv 1902.04502)", params=1_019_011, gmacs=1.618, stride=8, num_classes=19),
)
class FastSCNN(SegmentationModel):
    """Learning to downsample, a global feature extractor with pyramid pooling, and their fusion at stride 8.

    Args:
        num_classes: channels of the logits.
    """

    stride = 8

    def __init__(self, num_classes: int = 19) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.down4 = nn.Sequential(ConvBNAct(3, 32, stride=2), DWConv(32, 48, stride=2))
        self.down8 = DWConv(48, 64, stride=2)
        blocks: list[nn.Module] = []
        inputs = 64
        for channels, count, stride in BLOCKS:
            for i in range(count):
                blocks.append(InvertedResidual(inputs, channels, stride=1 if i else stride))
                inputs = channels
        first = BLOCKS[0][1]
        self.stage16 = nn.Sequential(*blocks[:first])
        self.stage32 = nn.Sequential(*blocks[first:])
        self.pyramid = PyramidPooling(inputs, ConvBNAct(2 * inputs, 128, 1), align_corners=True)
        self.fine = nn.Conv2d(64, 128, 1, bias=False)
        self.coarse = nn.Sequential(ConvBNAct(128, 128, groups=128), nn.Conv2d(128, 128, 1, bias=False))
        self.fused = nn.Sequential(nn.BatchNorm2d(128), nn.ReLU(inplace=True))
        self.head = nn.Sequential(DWConv(128, 128), DWConv(128, 128))
        self.classifier = nn.Conv2d(128, num_classes, 1)
        init_weights(self)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        """See :meth:`SegmentationModel.outputs`; taps have 48, 64 and 64 channels."""
        x4 = self.down4(image)
        x8 = self.down8(x4)
        x16 = self.stage16(x8)
        context = self.pyramid(self.stage32(x16))
        fused = self.fused(self.fine(x8) + self.coarse(resize_like(context, x8, align_corners=True)))
        return {"out": self.classifier(self.head(fused)), "x4": x4, "x8": x8, "x16": x16}
