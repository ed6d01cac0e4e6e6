"""What every network is, and the registry of the ways to build one."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..core.types import MIN_SIZE, InputSpec


def resize_like(x: Tensor, reference: Tensor, *, align_corners: bool = False) -> Tensor:
    """Resize maps (B, C, h, w) bilinearly to the height and width of `reference` (B, C', H, W).

    `align_corners` is for networks whose published weights were trained so.
    """
    return F.interpolate(x, size=reference.shape[-2:], mode="bilinear", align_corners=align_corners)


class SegmentationModel(nn.Module):
    """Base of all networks.

    A network implements :meth:`compute` for an image of at least ``MIN_SIZE`` a side;
    this class makes any other size work.

    Attributes:
        name: what it is registered as.
        stride: input pixels per logit and side.
        num_classes: channels of the logits.
        options: the builder's other arguments that give this architecture, of JSON types; no weights among them.
        input_spec: normalisation the network expects.

    Example:
        >>> model = featherseg.JetNet(num_classes=5)
        >>> isinstance(model, featherseg.SegmentationModel)
        True
        >>> model.outputs(torch.zeros(1, 3, 64, 96))["out"].shape
        torch.Size([1, 5, 8, 12])
    """

    name: str = ""
    stride: int
    num_classes: int
    input_spec: InputSpec = InputSpec()

    def __init__(self) -> None:
        super().__init__()
        self.options: dict[str, Any] = {}

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        """Return the maps of an image of at least ``MIN_SIZE`` a side; see :meth:`outputs`."""
        raise NotImplementedError

    def outputs(self, image: Tensor) -> dict[str, Tensor]:
        """Return all maps of a normalised image, float (B, 3, H, W), at the strides they have in the network.

        ``"out"`` holds logits (B, num_classes, ⌈H/stride⌉, ⌈W/stride⌉); ``"aux_16"`` and the like are further
        logits, only in training; ``"x4"``, ``"x8"``, ``"x16"`` are feature maps for distillation.
        """
        height, width = image.shape[-2:]
        if height >= MIN_SIZE and width >= MIN_SIZE:
            return self.compute(image)
        short_h, short_w = max(MIN_SIZE - height, 0), max(MIN_SIZE - width, 0)
        maps = self.compute(F.pad(image, (0, short_w, 0, short_h), mode="replicate"))
        padded_h, padded_w = height + short_h, width + short_w
        return {
            name: x[..., : -(-height * x.shape[-2] // padded_h), : -(-width * x.shape[-1] // padded_w)]
            for name, x in maps.items()
        }

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, num_classes, H, W) of a normalised image (B, 3, H, W)."""
        return resize_like(self.outputs(image)["out"], image)

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that pretrained weights fill, which train at a lower rate; none by default."""
        return []
