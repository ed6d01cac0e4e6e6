"""FDDWNet (arXiv 1911.00632): factorised, dilated, depthwise residual units, and a decoder that learns to upsample."""

from __future__ import annotations

from torch import Tensor, nn

from ..base import SegmentationModel
from ..factory import register_model
from ..facts import ModelFacts
from ..layers import ConvBNAct, InitialBlock, init_weights

DILATIONS = (1, 2, 5, 9, 1, 2, 5, 9, 2, 5, 9, 17, 2, 5, 9, 17)
"""Dilations of the sixteen units at stride 8, as in the authors' program (lj107024/FDDWNet)."""


class EERM(nn.Module):
    """Extremely efficient residual module: two depthwise 3×3 kernels, each factorised and mixed by a 1×1, and a skip.

    The first kernel is plain, the second one dilated.
    """

    def __init__(self, channels: int, *, dilation: int = 1) -> None:
        super().__init__()
        self.plain = _depthwise(channels, 1, act=True)
        self.dilated = _depthwise(channels, dilation, act=False)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Refine maps (B, channels, h, w)."""
        y: Tensor = self.act(x + self.dilated(self.plain(x)))
        return y


def _depthwise(channels: int, dilation: int, *, act: bool) -> nn.Sequential:
    """Return a depthwise 3×1 and 1×3 convolution and a 1×1 across channels, each with batch norm."""
    return nn.Sequential(
        ConvBNAct(channels, channels, (3, 1), dilation=dilation, groups=channels, act=False),
        ConvBNAct(channels, channels, (1, 3), dilation=dilation, groups=channels, act=False),
        ConvBNAct(channels, channels, 1, act=act),
    )


class FDDUpsampler(nn.Sequential):
    """Double the size: a transposed 3×3 convolution, batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


@register_model(
    "fddwnet",
    ModelFacts(paper="FDDWNet (arXiv 1911.00632)", params=773_682, gmacs=8.575, stride=1, num_classes=19),
)
class FDDWNet(SegmentationModel):
    """FDDWNet, whose logits have the image's size: its last layer is a transposed convolution.

    It is the form whose weights zh320/realtime-semantic-segmentation-pytorch publishes (models/fddwnet.py). In the
    authors' own there is a second skip, at stride 2, and both go through units of their own; here the one map at
    stride 4 is added as it is. The last layer ends in batch norm and ReLU here, so all logits are 0 or more.

    Args:
        num_classes: channels of the logits.
    """

    stride = 1

    def __init__(self, num_classes: int = 19) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stage2 = InitialBlock(3, 16, act=nn.ReLU())
        self.stage4 = nn.Sequential(InitialBlock(16, 64, act=nn.ReLU()), *(EERM(64) for _ in range(5)))
        self.stage8 = nn.Sequential(InitialBlock(64, 128, act=nn.ReLU()), *(EERM(128, dilation=d) for d in DILATIONS))
        self.up4 = nn.Sequential(FDDUpsampler(128, 64), EERM(64), EERM(64))
        self.up2 = nn.Sequential(FDDUpsampler(64, 16), EERM(16), EERM(16))
        self.head = FDDUpsampler(16, num_classes)
        init_weights(self)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        """See :meth:`SegmentationModel.outputs`; taps have 64 and 128 channels."""
        x2 = self.stage2(image)
        x4 = self.stage4(x2)
        x8 = self.stage8(x4)
        y = x4 + _cropped(self.up4(x8), x4)
        y = _cropped(self.up2(y), x2)
        return {"out": _cropped(self.head(y), image), "x4": x4, "x8": x8}


def _cropped(x: Tensor, reference: Tensor) -> Tensor:
    """Cut the row or column off that is too many where an odd size was rounded up on the way down."""
    return x[..., : reference.shape[-2], : reference.shape[-1]]
