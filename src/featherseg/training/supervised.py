"""What training minimises: modules that own the network and turn a batch into a loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..core.types import InputSpec
from ..data.loader import Sample
from ..models.base import SegmentationModel


def normalize(image: Tensor, spec: InputSpec) -> Tensor:
    """Turn uint8 RGB (B, 3, H, W) into the network's float32 input, on the image's own device."""
    mean, std = (per_channel(values, image.device) for values in (spec.mean, spec.std))
    return (image.float() / 255.0 - mean) / std


def per_channel(values: Sequence[float], device: torch.device) -> Tensor:
    """Return numbers as float32 (1, C, 1, 1), filled in on the device: a copy from the host would wait for it."""
    return torch.cat([torch.full((1, 1, 1, 1), value, device=device) for value in values], dim=1)


class Objective(nn.Module):
    """Base of what is minimised, ``(batch) -> {"loss": total, "loss/<part>": …}``; it owns the network, `model`."""

    def extra_parameters(self) -> list[nn.Parameter]:
        """Return what trains beside the network: nothing, here as in what follows."""
        return []

    def set_progress(self, progress: float) -> None:
        """Say how much of the training is done, 0–1."""

    def follow(self, averaged: SegmentationModel) -> None:
        """Say which network holds the average of the weights, kept up to date by the training loop."""

    def figures(self) -> dict[str, float]:
        """Return what the log of an epoch should say beside its loss."""
        return {}


class Supervised(Objective):
    """Losses of the network's logits against the masks.

    Args:
        model: the network.
        loss: of the ``"out"`` logits at the network's stride, ``(logits (B, C, h, w), target (B, H, W)) -> scalar``,
            as all of :mod:`featherseg.training.losses` are.
        aux_loss: of each auxiliary output.
        aux_weight: factor of the auxiliary losses; 0 leaves them out.
    """

    def __init__(self, model: SegmentationModel, loss: nn.Module, aux_loss: nn.Module, aux_weight: float = 0.4) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.aux_loss = aux_loss
        self.aux_weight = aux_weight

    def forward(self, batch: Sample) -> dict[str, Tensor]:
        """Return ``"loss"``, the total, and ``"loss/<output>"``, its unweighted parts, of a batch.

        ``batch["image"]`` is uint8, or float and normalised already; ``batch["mask"]`` is int64 (B, H, W).
        """
        image, target = batch["image"], batch["mask"]
        if image.dtype == torch.uint8:
            image = normalize(image, self.model.input_spec)
        return self.of_outputs(self.model.outputs(image), target)

    def of_outputs(self, outputs: dict[str, Tensor], target: Tensor) -> dict[str, Tensor]:
        """Return the losses of maps that the network gave already."""
        total = out = self.loss(outputs["out"], target)
        losses = {"loss/out": out}
        for name, logits in outputs.items():
            if not name.startswith("aux_"):
                continue
            if self.aux_weight:
                losses[f"loss/{name}"] = self.aux_loss(logits, target)
                total = total + self.aux_weight * losses[f"loss/{name}"]
            else:  # a zero gradient, since processes that train together wait for each parameter's
                total = total + 0.0 * logits.float().mean()
        return {"loss": total, **losses}
