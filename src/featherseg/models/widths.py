"""Networks of a registered architecture with fewer channels in some layers, as pruning leaves them.

A record of output channels by layer, such as ``{"stem.0.0": 24}``, is all there is to know: depthwise convolutions,
batch norms and the inputs of convolutions follow from what reaches them, which one run without arithmetic tells.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..core.errors import ConfigError, did_you_mean, first_line
from ..core.types import MIN_SIZE

if TYPE_CHECKING:
    from .base import SegmentationModel

Convolution = nn.Conv2d | nn.ConvTranspose2d


def is_depthwise(layer: nn.Module) -> bool:
    """Return whether `layer` is a convolution that gives each of its (two or more) channels one of its own."""
    return isinstance(layer, Convolution) and 1 < layer.groups == layer.in_channels == layer.out_channels


def widths(model: nn.Module) -> dict[str, int]:
    """Return the output channels of each plain convolution by its name.

    Depthwise ones are left out, since they follow what they receive, and other grouped ones, which stay as they are.
    """
    return {
        name: layer.out_channels
        for name, layer in model.named_modules()
        if isinstance(layer, Convolution) and layer.groups == 1
    }


def narrow(model: SegmentationModel, record: Mapping[str, int]) -> None:
    """Give layers of `model` fewer output channels, in place: the first ones stay.

    Args:
        model: the network; its class logits keep their channels.
        record: output channels by layer name, of those that change.

    Raises:
        ConfigError: a layer is unknown, its number is no whole number from 1 to what it has, or the layers would no
            longer fit together. The network is as it was then.
    """
    _check(model, record)
    ghost = copy.deepcopy(model).to("meta", torch.float32).train()
    cut = _Cut()
    names = {layer: name for name, layer in ghost.named_modules()}

    def fit(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        received = inputs[0].shape[1]
        if isinstance(layer, Convolution):
            cut.convolution(layer, received, record.get(names[layer], layer.out_channels))
        elif isinstance(layer, nn.BatchNorm2d):
            cut.norm(layer, received)
        elif isinstance(layer, nn.PReLU) and layer.num_parameters > 1:
            cut.activation(layer, received)

    for layer in names:
        if isinstance(layer, Convolution | nn.BatchNorm2d | nn.PReLU):
            layer.register_forward_pre_hook(fit)
    try:
        with torch.no_grad():
            maps = ghost.outputs(torch.zeros(2, 3, MIN_SIZE, MIN_SIZE, device="meta"))
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"pruned layers do not fit together ({first_line(error)}); take the record as pruning wrote it"
        ) from error
    left = widths(ghost)
    if unused := next((name for name, width in record.items() if left[name] != width), None):
        raise ConfigError(f"pruned layer {unused!r} takes no part in the network's work; leave it out of the record")
    for key, logits in maps.items():
        if (key == "out" or key.startswith("aux")) and logits.shape[1] != model.num_classes:
            raise ConfigError(
                f"pruned layers leave {logits.shape[1]} channels to the {key!r} logits of {model.num_classes} classes; "
                "take the record as pruning wrote it"
            )
    cut = _Cut()
    for layer, pattern in zip(list(model.modules()), list(ghost.modules()), strict=True):
        if isinstance(layer, Convolution) and isinstance(pattern, Convolution):
            cut.convolution(layer, pattern.in_channels, pattern.out_channels)
        elif isinstance(layer, nn.BatchNorm2d) and isinstance(pattern, nn.BatchNorm2d):
            cut.norm(layer, pattern.num_features)
        elif isinstance(layer, nn.PReLU) and isinstance(pattern, nn.PReLU):
            cut.activation(layer, pattern.num_parameters)


def _check(model: nn.Module, record: Any) -> None:
    """Refuse a record that no network of this architecture can have; records come from files."""
    if not isinstance(record, Mapping):
        raise ConfigError(f"pruned is {record!r}; give output channels by layer name")
    full = widths(model)
    for name, width in record.items():
        if name not in full:
            raise ConfigError(f"pruned layer {name!r} is no plain convolution; {did_you_mean(str(name), full)}")
        if type(width) is not int or not 1 <= width <= full[name]:
            raise ConfigError(f"pruned layer {name!r} has {width!r} channels; give a whole number of 1 to {full[name]}")


class _Cut:
    """Shortens layers' tensors, and tensors that several layers share only once, so that they stay shared."""

    def __init__(self) -> None:
        self._done: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}  # the first is kept for its id to stay its own

    def convolution(self, layer: nn.Conv2d | nn.ConvTranspose2d, inputs: int, outputs: int) -> None:
        """Leave `inputs` and `outputs`; a depthwise layer has as many of these as of those."""
        if is_depthwise(layer):
            outputs = layer.groups = inputs
            lengths = (inputs, 1)
        elif layer.groups > 1:
            return  # torch refuses it where other channels arrive than before
        else:
            lengths = (inputs, outputs) if isinstance(layer, nn.ConvTranspose2d) else (outputs, inputs)
        layer.weight = self._parameter(layer.weight, *lengths)
        if layer.bias is not None:
            layer.bias = self._parameter(layer.bias, outputs)
        layer.in_channels, layer.out_channels = inputs, outputs

    def norm(self, layer: nn.BatchNorm2d, features: int) -> None:
        """Leave so many channels."""
        if layer.affine:
            layer.weight = self._parameter(layer.weight, features)
            layer.bias = self._parameter(layer.bias, features)
        for name in ("running_mean", "running_var"):
            statistics = getattr(layer, name)
            if statistics is not None and len(statistics) != features:
                setattr(layer, name, statistics[:features].clone())
        layer.num_features = features

    def activation(self, layer: nn.PReLU, features: int) -> None:
        """Leave so many slopes."""
        layer.weight = self._parameter(layer.weight, features)
        layer.num_parameters = features

    def _parameter(self, old: Tensor, *lengths: int) -> nn.Parameter:
        assert isinstance(old, nn.Parameter)
        if old.shape[: len(lengths)] == lengths:
            return old
        if id(old) not in self._done:
            part = old.detach()[tuple(slice(length) for length in lengths)]
            self._done[id(old)] = old, nn.Parameter(part.clone(), requires_grad=old.requires_grad)
        return self._done[id(old)][1]
