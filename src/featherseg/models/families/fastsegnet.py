"""FastSegNet: a MobileNetV2 encoder, attention-refined context and one fusion at stride 8; finer strides on request."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

from ...core.errors import ConfigError
from ..base import SegmentationModel, resize_like
from ..factory import register_model
from ..facts import ModelFacts
from ..layers import ConvBNAct, DWConv, init_weights
from ..weights import Weights, load_encoder_weights

ENCODER_BLOCKS = 18
"""Blocks of torchvision's MobileNetV2 that are used: all but the last 1×1 convolution to 1280 channels."""
WIDTHS = (0.5, 0.75, 1.0)
LAST_CHANNELS = {8: 96, 4: 32, 2: 16}
"""Channels of the decoder's last maps by stride, at width 1.0: half the stride is four times the pixels."""


class ARM(nn.Module):
    """Attention Refinement Module (BiSeNet, arXiv 1808.00897): a convolution, gated by its own global average."""

    def __init__(self, conv: nn.Module, channels: int) -> None:
        super().__init__()
        self.conv = conv
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Refine maps (B, C, h, w) to (B, channels, h, w)."""
        x = self.conv(x)
        gated: Tensor = x * self.gate(x)
        return gated


class FFM(nn.Module):
    """Feature Fusion Module (BiSeNet): concatenate, mix, and add what a channel attention picks out."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.mix = ConvBNAct(in_channels, channels, 1)
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // 4, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // 4, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, *maps: Tensor) -> Tensor:
        """Fuse maps of one size, (B, ·, h, w) each, to (B, channels, h, w)."""
        x = self.mix(torch.cat(maps, dim=1))
        fused: Tensor = x + x * self.attention(x)
        return fused


class Finer(nn.Module):
    """A step to half the stride: the map from below, upsampled, and the encoder's own are added.

    A sum of two convolutions mixes what one over a concatenation would, without the wide map; and the one before the
    upsampling costs a quarter of what it would after it.
    """

    def __init__(self, in_channels: int, skip_channels: int, channels: int) -> None:
        super().__init__()
        self.below = ConvBNAct(in_channels, channels, act=False)
        self.skip = ConvBNAct(skip_channels, channels, 1, act=False)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Join maps (B, in_channels, h, w) and (B, skip_channels, H, W) to (B, channels, H, W)."""
        finer: Tensor = self.act(resize_like(self.below(x), skip) + self.skip(skip))
        return finer


@register_model(
    "fastsegnet",
    ModelFacts(
        paper="BiSeNet (arXiv 1808.00897) on MobileNetV2 (arXiv 1801.04381)",
        params=2_303_270,
        gmacs=4.650,
        stride=8,
        num_classes=19,
    ),
)
class FastSegNet(SegmentationModel):
    """A light two-branch segmentation network in the spirit of BiSeNet, on one MobileNetV2.

    Context comes from strides 32 and 16, refined by attention; detail from strides 8 and 4. The stride-4
    map joins through a stride-2 convolution: it carries the poles and signs that stride 8 has lost, for
    half a percent more parameters.

    At stride 4 or 2 the decoder goes on through the encoder's maps of these strides, on few channels, for vessels,
    cracks and wires that are thinner than a cell of 8×8 pixels. With 19 classes at 512×1024:

    ======  ============  ======
    stride  M parameters  GMACs
    ======  ============  ======
    8       2.303         4.650
    4       2.238         4.378
    2       2.236         4.582
    ======  ============  ======

    Args:
        num_classes: channels of the logits.
        width: channel multiplier of the whole network: 0.5, 0.75 or 1.0.
        stride: input pixels per logit: 8, or 4 or 2 for things a few pixels wide.
        encoder_weights: None, ``"imagenet"`` (torchvision's, width 1.0 only) or a local file of them.
        dropout: share of channels dropped before the classifier in training.

    Example:
        >>> featherseg.FastSegNet(num_classes=19)(torch.zeros(2, 3, 64, 96)).shape
        torch.Size([2, 19, 64, 96])
    """

    def __init__(
        self,
        num_classes: int = 19,
        *,
        width: float = 1.0,
        stride: int = 8,
        encoder_weights: str | Path | None = None,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if width not in WIDTHS:
            raise ConfigError(f"fastsegnet's width is {width}; choose one of {', '.join(map(str, WIDTHS))}")
        if stride not in LAST_CHANNELS:
            raise ConfigError(f"fastsegnet's stride is {stride}; choose one of {', '.join(map(str, LAST_CHANNELS))}")
        if encoder_weights == "imagenet" and width != 1.0:
            raise ConfigError(f"ImageNet weights exist for width 1.0, not {width}; leave encoder_weights out")
        self.num_classes = num_classes
        self.stride = stride
        # The usual stride stays unsaid, so that versions before this option read such checkpoints.
        self.options = {"width": width} | ({"stride": stride} if stride != 8 else {})
        self.features = mobilenet_v2(width_mult=width).features[:ENCODER_BLOCKS]
        c2, c4, c8, c16, c32 = (self.features[i].out_channels for i in (1, 3, 6, 13, 17))
        channels, detail = round(128 * width), round(32 * width)

        self.arm16 = ARM(ConvBNAct(c16, channels), channels)
        self.arm32 = ARM(DWConv(c32, channels), channels)
        self.context = ConvBNAct(channels, channels)
        self.detail = ConvBNAct(c4, detail, stride=2)
        self.fuse = FFM(channels + c8 + detail, channels)
        last = channels
        self.finer = nn.ModuleList()
        for step, skip in ((4, c4), (2, c2)):
            if stride <= step:
                self.finer.append(Finer(last, skip, round(LAST_CHANNELS[step] * width)))
                last = round(LAST_CHANNELS[step] * width)
        classified = round(LAST_CHANNELS[stride] * width)
        self.head = nn.Sequential(
            ConvBNAct(last, classified),
            nn.Dropout2d(dropout),
            nn.Conv2d(classified, num_classes, 1),
        )
        self.aux_head = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(channels, num_classes, 1))
        init_weights(self)
        if encoder_weights is not None:
            load_encoder_weights(self.features, encoder_weights, "mobilenet_v2", _imagenet, _encoder_part)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        """See :meth:`SegmentationModel.outputs`; taps have 24, 32 and 96 channels at width 1.0."""
        x2 = self.features[:2](image)
        x4 = self.features[2:4](x2)
        x8 = self.features[4:7](x4)
        x16 = self.features[7:14](x8)
        x32 = self.features[14:](x16)

        refined16 = self.arm16(x16)
        context = self.context(refined16 + resize_like(self.arm32(x32), x16))
        fused = self.fuse(resize_like(context, x8), x8, self.detail(x4))
        for finer, skip in zip(self.finer, (x4, x2), strict=False):
            fused = finer(fused, skip)
        maps = {"out": self.head(fused), "x4": x4, "x8": x8, "x16": x16}
        if self.training:
            maps["aux_16"] = self.aux_head(refined16)
        return maps

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return MobileNetV2's parameters."""
        return list(self.features.parameters())


def _imagenet() -> Weights:
    weights: Weights = MobileNet_V2_Weights.IMAGENET1K_V2.get_state_dict(
        progress=True, check_hash=True, weights_only=True
    )
    return weights


def _encoder_part(weights: Weights) -> Weights:
    """Return the tensors of the first blocks, named as within ``features``; the classifier's are left out."""
    part = {}
    for name, tensor in weights.items():
        kind, _, rest = name.partition(".")
        if kind == "features" and int(rest.partition(".")[0]) < ENCODER_BLOCKS:
            part[rest] = tensor
    return part
