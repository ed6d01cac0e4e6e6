"""What every network is, and the registry of the ways to build one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..errors import ConfigError
from ..registry import Registry
from ..types import MIN_SIZE, InputSpec
from .widths import narrow


def resize_like(x: Tensor, reference: Tensor) -> Tensor:
    """Resize maps (B, C, h, w) bilinearly to the height and width of `reference` (B, C', H, W)."""
    return F.interpolate(x, size=reference.shape[-2:], mode="bilinear", align_corners=False)


class SegmentationModel(nn.Module):
    """Base of all networks.

    A network implements :meth:`compute` for an image of at least ``MIN_SIZE`` a side;
    this class makes any other size work.

    Attributes:
        name: what it is registered as.
        stride: input pixels per logit, a side.
        num_classes: channels of the logits.
        options: the builder's other arguments that give this architecture, of JSON types; no weights among them.
        input_spec: normalisation the network expects.
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


@dataclass(frozen=True)
class ModelFacts:
    """What a builder declares of its network; a test recomputes each figure.

    Args:
        paper: where the network comes from.
        params: parameters at `num_classes` classes, auxiliary heads of training included.
        gmacs: multiply-accumulates (1 MAC = 2 FLOPs) of convolutions and matrix products in one image of
            `size` (height, width), in 10⁹.
        stride: input pixels per logit.
    """

    paper: str
    params: int
    gmacs: float
    stride: int
    num_classes: int = 21
    size: tuple[int, int] = (512, 1024)


Builder = TypeVar("Builder", bound=Callable[..., SegmentationModel])
models: Registry[Callable[..., SegmentationModel]] = Registry("network")
_facts: dict[str, ModelFacts] = {}


def register_model(name: str, facts: ModelFacts) -> Callable[[Builder], Builder]:
    """Return a decorator that files a builder ``(num_classes, **options) -> SegmentationModel`` and its facts."""

    def add(builder: Builder) -> Builder:
        models.register(name)(builder)
        _facts[name] = facts
        if isinstance(builder, type):
            builder.name = name  # type: ignore[attr-defined]
        return builder

    return add


def create_model(
    name: str, num_classes: int, *, pruned: Mapping[str, int] | None = None, **options: Any
) -> SegmentationModel:
    """Build a registered network.

    Args:
        name: what it is registered as.
        num_classes: channels of the logits.
        pruned: output channels of the layers that have fewer than the builder gives them; see
            :func:`featherseg.models.widths.narrow`. A pruned network has it among its options.
        options: the builder's own.

    Raises:
        ConfigError: the name or an option is unknown, `num_classes` is below 1, or `pruned` fits no such network.
    """
    if num_classes < 1:
        raise ConfigError(f"num_classes is {num_classes}; a network needs at least 1")
    if pruned and (weights := next((key for key in ("encoder_weights", "pretrained") if options.get(key)), None)):
        raise ConfigError(f"{weights} are of the whole encoder, not the pruned one; leave {weights} out")
    model: SegmentationModel = models.create(name, num_classes=num_classes, **options)
    if pruned is not None:
        narrow(model, pruned)
        model.options = {**model.options, "pruned": dict(pruned)}
    return model


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of the registered networks that match a shell-style `pattern`."""
    return models.names(pattern)


def model_facts(name: str) -> ModelFacts:
    """Return the declared facts of network `name`."""
    models.get(name)
    return _facts[name]


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return the numbers of (all, trainable) parameters; buffers do not count."""
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)


def count_gmacs(model: SegmentationModel, size: tuple[int, int]) -> float:
    """Return the multiply-accumulates, in 10⁹, of convolutions and matrix products in one image of `size` (H, W).

    The network is left as it is; its copy is counted without computing anything.
    """
    ghost = copy.deepcopy(model).to("meta", torch.float32).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ghost.outputs(torch.zeros(1, 3, *size, device="meta"))
    return float(counter.get_total_flops() / 2e9)
