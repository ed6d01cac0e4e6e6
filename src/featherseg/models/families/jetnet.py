"""JetNet: the smallest network here, nine plain 3×3 convolutions at strides 2 to 8."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..base import SegmentationModel
from ..factory import register_model
from ..facts import ModelFacts
from ..layers import ConvBNAct, init_weights


class JetBlock(nn.Module):
    """Two 3×3 convolutions with batch norm around an identity skip; size and channels stay."""

    def __init__(self, channels: int, *, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = ConvBNAct(channels, channels, dilation=dilation)
        self.conv2 = ConvBNAct(channels, channels, dilation=dilation, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """Refine maps (B, channels, h, w)."""
        return F.relu(x + self.conv2(self.conv1(x)))


@register_model(
    "jetnet",
    ModelFacts(
        paper="residual blocks (arXiv 1512.03385) and dilation, for embedded boards as JetSeg (arXiv 2305.11419)",
        params=133_301,
        gmacs=6.175,
        stride=8,
    ),
)
class JetNet(SegmentationModel):
    """A plain network of 0.13 M parameters whose logits come from one 128-channel map.

    Dilation grows where the stride does (2 at stride 4, 4 at stride 8), which buys context without parameters.

    Args:
        num_classes: channels of the logits.

    Example:
        >>> featherseg.JetNet(num_classes=21)(torch.zeros(1, 3, 64, 96)).shape
        torch.Size([1, 21, 64, 96])
    """

    stride = 8

    def __init__(self, num_classes: int = 21) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stem = nn.Sequential(ConvBNAct(3, 32, stride=2), JetBlock(32), JetBlock(32))
        self.down4 = ConvBNAct(32, 64, stride=2, dilation=2)
        self.down8 = ConvBNAct(64, 128, stride=2, dilation=4)
        self.classifier = nn.Conv2d(128, num_classes, 1)
        init_weights(self)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        """See :meth:`SegmentationModel.outputs`; taps have 64 and 128 channels."""
        x4 = self.down4(self.stem(image))
        x8 = self.down8(x4)
        return {"out": self.classifier(x8), "x4": x4, "x8": x8}
