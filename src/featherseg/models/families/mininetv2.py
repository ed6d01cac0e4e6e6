"""MiniNetV2 (doi 10.1109/TRO.2020.2974099): depthwise-separable convolutions of two dilations at once, for robots."""

from __future__ import annotations

from torch import Tensor, nn

from ..base import SegmentationModel
from ..factory import register_model
from ..facts import ModelFacts
from ..layers import ConvBNAct, InitialBlock, init_weights

DILATIONS = (1, 2, 1, 4, 1, 8, 1, 16, 1, 1, 1, 2, 1, 4, 1, 8)
"""Dilations of the sixteen units at stride 8; a unit of dilation 1 has no second depthwise convolution."""


class MultiDilationConv(nn.Module):
    """A depthwise-separable convolution whose depthwise part is the sum of a plain and a dilated one."""

    def __init__(self, channels: int, *, dilation: int = 1) -> None:
        super().__init__()
        self.plain = ConvBNAct(channels, channels, groups=channels)
        self.dilated = ConvBNAct(channels, channels, dilation=dilation, groups=channels) if dilation > 1 else None
        # The bias does nothing before batch norm; the published weights have it.
        self.mix = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """Refine maps (B, channels, h, w)."""
        near = self.plain(x)
        mixed: Tensor = self.mix(near if self.dilated is None else near + self.dilated(x))
        return mixed


class MiniNetUpsampler(nn.Sequential):
    """Double the size by a 3×3 transposed convolution, with batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


@register_model(
    "mininetv2",
    ModelFacts(
        paper="MiniNet-v2 (doi 10.1109/TRO.2020.2974099)", params=507_243, gmacs=6.317, stride=2, num_classes=19
    ),
)
class MiniNetV2(SegmentationModel):
    """MiniNet-v2 as its published Cityscapes weights have it: the classifier, too, ends in batch norm and ReLU.

    Args:
        num_classes: channels of the logits.
    """

    stride = 2

    def __init__(self, num_classes: int = 19) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stem = nn.Sequential(*_halve_twice())
        self.stage4 = nn.Sequential(*(MultiDilationConv(64) for _ in range(10)))
        self.down8 = InitialBlock(64, 128, act=nn.ReLU(inplace=True))
        self.stage8 = nn.Sequential(*(MultiDilationConv(128, dilation=d) for d in DILATIONS))
        self.detail = nn.ModuleList(_halve_twice())
        self.up4 = MiniNetUpsampler(128, 64)
        self.refine = nn.Sequential(*(MultiDilationConv(64) for _ in range(4)))
        self.classifier = MiniNetUpsampler(64, num_classes)
        init_weights(self)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        """See :meth:`SegmentationModel.outputs`; taps have 64 and 128 channels."""
        x4 = self.stage4(self.stem(image))
        x8 = self.stage8(self.down8(x4))
        detail2 = self.detail[0](image)
        detail4 = self.detail[1](detail2)
        y = self.refine(_crop(self.up4(x8), detail4) + detail4)
        return {"out": _crop(self.classifier(y), detail2), "x4": x4, "x8": x8}


def _halve_twice() -> tuple[InitialBlock, InitialBlock]:
    return InitialBlock(3, 16, act=nn.ReLU(inplace=True)), InitialBlock(16, 64, act=nn.ReLU(inplace=True))


def _crop(x: Tensor, reference: Tensor) -> Tensor:
    """Cut what is too much: an odd size was rounded up on the way down."""
    return x[..., : reference.shape[-2], : reference.shape[-1]]
