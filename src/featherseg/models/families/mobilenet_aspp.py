"""LightweightSegmentationModel: MobileNetV3-Small, atrous spatial pyramid pooling and a stride-4 decoder."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import MobileNet_V3_Small_Weights, mobilenet_v3_small

from ...core.errors import ConfigError
from ..base import SegmentationModel, resize_like
from ..factory import register_model
from ..facts import ModelFacts
from ..layers import ConvBNAct, PooledBatchNorm2d, init_weights
from ..weights import Weights, load_encoder_weights

TAPS = {1: "x4", 3: "x8", 8: "x16"}
"""The last block of MobileNetV3-Small at each stride, by its place in ``features``."""
NAMED_FEATURES = {"low": "x4", "mid": "x8", "high": "x16"}
RATES = (6, 12, 18)
"""Dilations of the pyramid at output stride 16 (DeepLabV3, arXiv 1706.05587)."""


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: one 1×1, three dilated 3×3 and one global branch, projected together."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        dilated = (ConvBNAct(in_channels, channels, dilation=rate) for rate in RATES)
        self.branches = nn.ModuleList([ConvBNAct(in_channels, channels, 1), *dilated])
        self.pooled = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(in_channels, channels, 1, bias=False),
            PooledBatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        self.project = ConvBNAct((len(RATES) + 2) * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, channels, h, w)."""
        context = self.pooled(x).expand(-1, -1, x.shape[-2], x.shape[-1])
        y: Tensor = self.project(torch.cat([*(branch(x) for branch in self.branches), context], dim=1))
        return y


@register_model(
    "mobilenet_aspp",
    ModelFacts(
        paper="DeepLabV3+ (arXiv 1802.02611) on MobileNetV3-Small (arXiv 1905.02244)",
        params=6_831_509,
        gmacs=52.699,
        stride=4,
    ),
)
class LightweightSegmentationModel(SegmentationModel):
    """DeepLabV3+ on MobileNetV3-Small, whose last stage is dilated so that it ends at stride 16.

    Args:
        num_classes: channels of the logits.
        pretrained: the same as ``encoder_weights="imagenet"``.
        return_features: make the call return ``(logits, features)``; :meth:`outputs` stays the same.
        encoder_weights: None, ``"imagenet"`` (torchvision's) or a local file of them, with the classifier.

    Raises:
        ConfigError: two sources of weights are named, or the weights cannot be had.
        CheckpointError: the weights are another network's.

    Example:
        >>> model = featherseg.LightweightSegmentationModel(num_classes=21, return_features=True).eval()
        >>> logits, features = model(torch.zeros(1, 3, 64, 96))
        >>> sorted(features)
        ['high', 'low', 'mid']
    """

    stride = 4

    def __init__(
        self,
        num_classes: int = 21,
        *,
        pretrained: bool = False,
        return_features: bool = False,
        encoder_weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        if pretrained and encoder_weights not in (None, "imagenet"):
            raise ConfigError(f'pretrained=True asks for ImageNet weights, encoder_weights for "{encoder_weights}"')
        if pretrained:
            encoder_weights = "imagenet"
        self.num_classes = num_classes
        self.return_features = return_features
        self.features = mobilenet_v3_small(dilated=True).features
        for layer in self.features.modules():
            if isinstance(layer, nn.BatchNorm2d):
                # torchvision's 0.01 is meant for days of ImageNet: after a few hundred steps from scratch the running
                # statistics would still be the initial ones, and evaluation would see another network than training.
                layer.momentum = 0.1
        self.aspp = ASPP(576, 256)
        self.low = ConvBNAct(16, 48, 1)
        self.decoder = nn.Sequential(ConvBNAct(256 + 48, 256), ConvBNAct(256, 256), nn.Dropout(0.5))
        self.classifier = nn.Conv2d(256, num_classes, 1)
        init_weights(self)
        if encoder_weights is not None:
            load_encoder_weights(self.features, encoder_weights, "mobilenet_v3_small", _imagenet, _encoder_part)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        """See :meth:`SegmentationModel.outputs`; taps have 16, 24 and 48 channels."""
        maps: dict[str, Tensor] = {}
        x = image
        for place, block in enumerate(self.features):
            x = block(x)
            if place in TAPS:
                maps[TAPS[place]] = x
        low = self.low(maps["x4"])
        x = self.decoder(torch.cat([resize_like(self.aspp(x), low), low], dim=1))
        return {"out": self.classifier(x), **maps}

    def forward(  # type: ignore[override]  # users of this network know the second form, which they ask for
        self, image: Tensor
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Return logits (B, num_classes, H, W) of a normalised image (B, 3, H, W).

        With ``return_features``, return them and the encoder's maps: ``"low"`` (B, 16, ⌈H/4⌉, ⌈W/4⌉),
        ``"mid"`` (B, 24, ⌈H/8⌉, ⌈W/8⌉) and ``"high"`` (B, 48, ⌈H/16⌉, ⌈W/16⌉).
        """
        maps = self.outputs(image)
        logits = resize_like(maps["out"], image)
        if not self.return_features:
            return logits
        return logits, {name: maps[tap] for name, tap in NAMED_FEATURES.items()}

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return MobileNetV3's parameters."""
        return list(self.features.parameters())


def _imagenet() -> Weights:
    weights: Weights = MobileNet_V3_Small_Weights.IMAGENET1K_V1.get_state_dict(
        progress=True, check_hash=True, weights_only=True
    )
    return weights


def _encoder_part(weights: Weights) -> Weights:
    """Return the tensors named as within ``features``; the classifier's are left out."""
    prefix = "features."
    return {name.removeprefix(prefix): x for name, x in weights.items() if name.startswith(prefix)}
