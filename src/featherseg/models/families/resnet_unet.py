"""ResNetUNet: a U-Net decoder (arXiv 1505.04597) on any pyramid encoder of timm, ResNet-34 by default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from ...core.errors import ConfigError, did_you_mean
from ...core.types import InputSpec
from ..base import SegmentationModel
from ..factory import register_model
from ..facts import ModelFacts
from ..layers import ConvBNAct, init_weights
from ..weights import Weights, load_encoder_weights

BRIDGE = 512
"""Channels below the decoder, whatever the encoder has there."""
LEVELS = {16: 256, 8: 128, 4: 64, 2: 32}
"""Decoder channels by stride, in the order of computing."""
DEEPEST = 32


class UpBlock(nn.Module):
    """Double the size, join the encoder's map of that size, and mix both with two 3×3 convolutions."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.mix = nn.Sequential(
            ConvBNAct(out_channels + skip_channels, out_channels), ConvBNAct(out_channels, out_channels)
        )

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """Map (B, in_channels, h, w) to (B, out_channels, ·, ·), of twice its size or of `skip`'s."""
        x = self.up(x)
        if skip is not None:
            # An odd size was rounded up on the way down: one row or column is too many.
            x = torch.cat([x[..., : skip.shape[-2], : skip.shape[-1]], skip], dim=1)
        mixed: Tensor = self.mix(x)
        return mixed


@register_model(
    "resnet_unet",
    ModelFacts(
        paper="U-Net (arXiv 1505.04597) on ResNet-34 (arXiv 1512.03385)", params=26_703_701, gmacs=56.350, stride=2
    ),
)
class ResNetUNet(SegmentationModel):
    """A U-Net whose encoder is chosen by name; the most accurate and slowest network here.

    Args:
        num_classes: channels of the logits.
        encoder: a timm model that gives feature maps at strides 4 to 32 (2 is used where it exists), such as
            ``"resnet34"``, ``"resnet50"``, ``"efficientnet_b0"`` or ``"mobilenetv3_large_100"``.
        encoder_weights: None, ``"imagenet"`` (timm's for that name) or a local file of them, with or without
            the classifier.

    Raises:
        ConfigError: the encoder is unknown or no such pyramid, or its weights cannot be had.
        CheckpointError: the weights are another network's.

    Example:
        >>> featherseg.ResNetUNet(num_classes=2, encoder="resnet18").stride
        2
    """

    stride = 2

    def __init__(
        self,
        num_classes: int = 21,
        *,
        encoder: str = "resnet34",
        encoder_weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.options = {"encoder": encoder}
        self.encoder = _create_encoder(encoder)
        self.encoder_strides: tuple[int, ...] = tuple(self.encoder.feature_info.reduction())
        channels = dict(zip(self.encoder_strides, self.encoder.feature_info.channels(), strict=True))
        even_only = _halve_evenly(self.encoder)
        self.pad_to = 1 if not even_only and _gives(self.encoder, size=2 * DEEPEST + 1) else DEEPEST
        if not {4, 8, 16, DEEPEST} <= set(channels) or not _gives(self.encoder, size=2 * DEEPEST):
            raise ConfigError(
                f"encoder {encoder!r} has no feature maps at strides 4, 8, 16 and 32 of any image; "
                'choose a pyramid such as "resnet34"'
            )
        config = self.encoder.pretrained_cfg
        self.input_spec = InputSpec(tuple(config["mean"]), tuple(config["std"]))

        self.bridge = ConvBNAct(channels[DEEPEST], BRIDGE)
        widths = [BRIDGE, *LEVELS.values()]
        self.decoder = nn.ModuleList(
            UpBlock(below, channels.get(stride, 0), width)
            for below, (stride, width) in zip(widths, LEVELS.items(), strict=False)
        )
        self.head = nn.Conv2d(widths[-1], num_classes, 1)
        for part in (self.bridge, self.decoder, self.head):
            init_weights(part)
        if encoder_weights is not None:
            load_encoder_weights(self.encoder, encoder_weights, encoder, lambda: _imagenet(encoder), self._encoder_part)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        """See :meth:`SegmentationModel.outputs`; taps are the encoder's, with its channels."""
        height, width = image.shape[-2:]
        if self.pad_to > 1:
            missing_h, missing_w = (_ceil(side, self.pad_to) * self.pad_to - side for side in (height, width))
            image = F.pad(image, (0, missing_w, 0, missing_h), mode="replicate")
        maps: dict[int, Tensor] = dict(zip(self.encoder_strides, self.encoder(image), strict=True))
        x = self.bridge(maps[DEEPEST])
        for stride, block in zip(LEVELS, self.decoder, strict=True):
            x = block(x, maps.get(stride))
        found = {"out": (self.stride, self.head(x))} | {f"x{stride}": (stride, maps[stride]) for stride in (4, 8, 16)}
        if self.pad_to == 1 and self.stride in self.encoder_strides:
            return {name: y for name, (_, y) in found.items()}
        return {name: y[..., : _ceil(height, stride), : _ceil(width, stride)] for name, (stride, y) in found.items()}

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return the timm encoder's parameters."""
        return list(self.encoder.parameters())

    def _encoder_part(self, weights: Weights) -> Weights:
        """Return the tensors of the encoder out of a timm classifier's, under the names that timm's pyramid has."""
        expected = self.encoder.state_dict()
        # timm flattens some networks: "stages.0.…" of the classifier is "stages_0.…" of the pyramid.
        named = {name if name in expected else name.replace(".", "_", 1): x for name, x in weights.items()}
        return {name: x for name, x in named.items() if name in expected}


class HalvingConv(nn.Conv2d):
    """TensorFlow's "same" convolution of stride 2, for maps of even size: k - 2 pixels of padding, the odd one last."""

    @classmethod
    def like(cls, conv: nn.Conv2d) -> HalvingConv:
        """Return one with the parameters of another convolution."""
        size = conv.kernel_size
        new = cls(conv.in_channels, conv.out_channels, size, 2, groups=conv.groups, bias=conv.bias is not None)  # type: ignore[arg-type]
        new.weight, new.bias = conv.weight, conv.bias
        return new

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, C, h, w), h and w even, to half the size."""
        sides = [(k - 2) // 2 + odd * (k % 2) for k in reversed(self.kernel_size) for odd in (0, 1)]
        return super().forward(F.pad(input, sides))


def _halve_evenly(encoder: nn.Module) -> bool:
    """Give the stride-2 convolutions of networks from TensorFlow the padding of even sizes; return whether it has any.

    Theirs depends on whether a side is odd: five of them in a row make expressions of the image's size that
    torch's exporter thinks about for hours. The network then pads images to where all sides are even.
    """
    found = {
        name: module
        for name, module in encoder.named_modules()
        if isinstance(module, Conv2dSame) and module.stride == (2, 2) and module.dilation == (1, 1)
    }
    for name, conv in found.items():
        encoder.set_submodule(name, HalvingConv.like(conv))
    return bool(found)


def _ceil(size: int, step: int) -> int:
    """Return ⌈size / step⌉ without negative numbers, which an exported graph would divide otherwise than Python."""
    return (size + step - 1) // step


def _create_encoder(name: str) -> Any:  # timm has no types
    if not timm.is_model(name):
        raise ConfigError(f"unknown encoder {name!r}; {did_you_mean(name, timm.list_models())}")
    try:
        return timm.create_model(name, features_only=True, pretrained=False)
    except (RuntimeError, AttributeError, AssertionError) as error:  # timm's ways of saying: no feature maps
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f'encoder {name!r} cannot be used ({reason}); choose a pyramid such as "resnet34"') from error


@torch.no_grad()
def _gives(encoder: Any, *, size: int) -> bool:
    """Return whether maps of a `size`×`size` image have the declared channels and sizes, rounded up.

    Some encoders round down, or work at multiples of 32 only; asking is surer than a list of names.
    """
    training = encoder.training
    encoder.eval()
    try:
        maps = encoder(torch.zeros(1, 3, size, size))
    except (RuntimeError, AssertionError):
        return False
    finally:
        encoder.train(training)
    info = zip(encoder.feature_info.channels(), encoder.feature_info.reduction(), strict=True)
    return [tuple(x.shape[1:]) for x in maps] == [(c, _ceil(size, r), _ceil(size, r)) for c, r in info]


def _imagenet(encoder: str) -> Weights:
    weights: Weights = timm.create_model(encoder, features_only=True, pretrained=True).state_dict()
    return weights
