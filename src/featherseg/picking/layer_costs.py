"""What a network computes and moves at a size, layer by layer, without computing anything: for predictions of time."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..core.types import MIN_SIZE
from ..models.base import SegmentationModel
from ..models.widths import is_depthwise

KINDS = ("dense", "pointwise", "depthwise", "grouped", "transposed")
"""Of convolutions: each is another kernel of an engine."""
_aten = torch.ops.aten
FREE = frozenset(
    {
        _aten.native_batch_norm.default,
        _aten._native_batch_norm_legit_no_training.default,
        _aten.cudnn_batch_norm.default,
        _aten.relu.default,
        _aten.relu_.default,
        _aten.hardtanh.default,
        _aten.hardtanh_.default,
        _aten.convolution.default,
    }
)
"""What engines fold into the convolution before it; and convolutions, which are counted by themselves."""


@dataclass(frozen=True)
class LayerCost:
    """A convolution at a size.

    Args:
        kind: one of :data:`KINDS`.
        macs: multiply-accumulates.
        moved: elements of input, weights and output.
    """

    kind: str
    macs: int
    moved: int


@dataclass(frozen=True)
class NetCost:
    """A network at a size.

    Args:
        layers: convolutions by name of their module.
        other: elements that all else reads and writes.
    """

    layers: dict[str, LayerCost] = field(default_factory=dict)
    other: int = 0


class _Moved(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the elements that operators read and write which are computed for themselves."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let an operator run, and count."""
        result = func(*args, **(kwargs or {}))
        if func not in FREE and not func.is_view and isinstance(result, Tensor) and result.ndim == 4:
            read = [part for arg in args for part in (arg if isinstance(arg, list | tuple) else [arg])]
            self.elements += result.numel() + sum(part.numel() for part in read if isinstance(part, Tensor))
        return result


def net_cost(model: SegmentationModel, size: tuple[int, int]) -> NetCost:
    """Return what a network does with an image of a (height, width); it is left as it is."""
    height, width = (max(side, MIN_SIZE) for side in size)
    try:
        return _counted(model, (height, width), "meta")
    except (RuntimeError, NotImplementedError):  # the code of others may make tensors of its own, which are elsewhere
        return _counted(model, (height, width), "cpu")


def _counted(model: SegmentationModel, size: tuple[int, int], device: str) -> NetCost:
    ghost = copy.deepcopy(model).to(device, torch.float32).eval()
    layers: dict[str, LayerCost] = {}

    def note(name: str) -> Any:
        def after(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            layers[name] = _of_layer(layer, inputs[0], output)

        return after

    for name, layer in ghost.named_modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(note(name))
    image = torch.zeros(1, 3, *size, device=device)
    with torch.no_grad(), _Moved() as moved:
        ghost.outputs(image)
    return NetCost(layers, moved.elements)


def _of_layer(layer: Any, image: Tensor, output: Tensor) -> LayerCost:
    weights = int(layer.weight.numel())
    if isinstance(layer, nn.ConvTranspose2d):
        kind, macs = "transposed", image[0, 0].numel() * weights
    else:
        macs = output[0, 0].numel() * weights
        if is_depthwise(layer):
            kind = "depthwise"
        elif layer.groups > 1:
            kind = "grouped"
        else:
            kind = "pointwise" if math.prod(layer.kernel_size) == 1 else "dense"
    return LayerCost(kind, int(macs), image.numel() + weights + output.numel())
