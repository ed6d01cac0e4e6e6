"""Which channels a network can best do without, and what their removal saves."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..models.base import SegmentationModel
from ..models.facts import count_gmacs, count_parameters
from ..models.widths import Convolution
from .channels import ChannelGroup, Units

Scores = NDArray[np.float64]
"""Importance of each channel of a group; their mean is 1."""

IMPORTANCES = ("l1", "l2", "bn")
RANKINGS = ("uniform", "global")


def importance(model: SegmentationModel, groups: Sequence[ChannelGroup], kind: str) -> list[Scores]:
    """Return the importance of each group's channels.

    Every tensor that a channel runs through has a say: the filters that make it, and the slices of the next layers'
    filters that use it. Each one's norms are divided by their mean over the group first, since neither the scale of a
    weight before a batch norm nor the width of a layer says what it is worth; then they are averaged.

    Args:
        model: the network.
        groups: of it.
        kind: ``"l1"`` or ``"l2"`` norm of filters; ``"bn"`` takes the size of the batch norm's factor in place of
            the filters that make a channel, where there is one, and the l2 norm otherwise.
    """
    weights = {name: tensor.detach().double().cpu() for name, tensor in model.state_dict().items()}
    return [_group_importance(model, weights, group, kind) for group in groups]


def _group_importance(model: SegmentationModel, weights: dict[str, Tensor], group: ChannelGroup, kind: str) -> Scores:
    makers: list[Scores] = []
    users: list[Scores] = []
    factors: list[Scores] = []
    for (name, dim), places in zip(group.axes, group.indices.T, strict=True):
        layer, _, part = name.rpartition(".")
        module = model.get_submodule(layer)
        if part != "weight":
            continue
        slices = weights[name].movedim(dim, 0).flatten(1) if weights[name].ndim > 1 else weights[name][:, None]
        norms = slices.norm(p=1 if kind == "l1" else 2, dim=1).numpy()[places]
        if isinstance(module, Convolution):
            makes = dim == (1 if isinstance(module, nn.ConvTranspose2d) else 0)
            (makers if makes else users).append(norms)
        elif isinstance(module, nn.BatchNorm2d):
            factors.append(norms)
    if kind == "bn" and factors:
        makers = factors
    return _mean_one(np.mean([_mean_one(norms) for norms in makers + users], axis=0))


def _mean_one(values: Scores) -> Scores:
    """Scale to a mean of 1; values that are all 0 are all alike."""
    mean = float(values.mean())
    return values / mean if mean > 0 else np.ones_like(values)


@dataclass(frozen=True)
class Order:
    """In which order channels go: steps of a few channels of one group each, the most dispensable first.

    Args:
        rows: channels of each group, the least important first.
        groups: the group that each step takes from.
        counts: how many channels a step takes.
    """

    rows: tuple[Units, ...]
    groups: Units
    counts: Units

    def __len__(self) -> int:
        return len(self.groups)

    def removed(self, steps: int | Sequence[int]) -> list[Units]:
        """Return the rows of each group that are gone after so many steps, or after these."""
        taken = range(steps) if isinstance(steps, int) else steps
        totals = np.bincount(self.groups[list(taken)], self.counts[list(taken)], len(self.rows)).astype(int)
        return [rows[:total] for rows, total in zip(self.rows, totals, strict=True)]

    def spare(self, steps: int, enough: Callable[[list[Units]], bool]) -> list[int]:
        """Return the steps that are needed of the first so many.

        The last step may save much more than was still to save. So steps are taken back, the costliest first, where
        the rest is still `enough`; of a group always its latest.
        """
        taken = list(range(steps))
        for step in reversed(range(steps)):
            rest = [other for other in taken if other != step]
            latest = not any(self.groups[other] == self.groups[step] for other in rest if other > step)
            if latest and enough(self.removed(rest)):
                taken = rest
        return taken


def rank(scores: Sequence[Scores], macs: Sequence[float], ranking: str, round_to: int) -> Order:
    """Return the order in which channels of all groups should go.

    Each step leaves its group a multiple of `round_to`, and the last one leaves `round_to`. The "uniform" order takes
    from all groups in step, so that each has lost about the same share at any time. The "global" order takes first
    what costs least: a step's cost is the loss in the logarithm of the group's sum of squared importance (what is left
    of a signal after many layers is a product, and its logarithm their sum), over the square root of the
    multiply-accumulates that it saves (the full saving would take everything from the few heaviest layers: measured).

    Args:
        scores: importance of each group's channels, of more than `round_to` each.
        macs: multiply-accumulates that each group's channels take, a channel.
        ranking: one of :data:`RANKINGS`.
        round_to: multiple that stays.
    """
    rows, keys, groups, counts = [], [], [], []
    for i, (values, weight) in enumerate(zip(scores, macs, strict=True)):
        order = np.argsort(values, kind="stable")
        size = len(order)
        ends = np.arange((size - 1) % round_to + 1, size - round_to + 1, round_to)
        taken = np.diff(ends, prepend=0)
        if ranking == "uniform":
            key = (ends - taken / 2) / size
        else:
            energy = np.cumsum(values[order][::-1] ** 2)[::-1]  # from each channel on
            loss = np.log(energy[ends - taken] / energy[ends])
            key = np.maximum.accumulate(loss / np.sqrt(np.maximum(taken * weight, 1)))
        rows.append(order)
        keys.append(key)
        groups.append(np.full(len(ends), i))
        counts.append(taken)
    sequence = np.argsort(np.concatenate(keys), kind="stable")
    return Order(tuple(rows), np.concatenate(groups)[sequence], np.concatenate(counts)[sequence])


class Costs:
    """Parameters and multiply-accumulates of a network without some of its channels, told without building it.

    Args:
        model: the whole network.
        size: (height, width) of the image that multiply-accumulates are counted for.
    """

    def __init__(self, model: SegmentationModel, size: tuple[int, int]) -> None:
        self.params, self.gmacs = count_parameters(model)[0], count_gmacs(model, size)
        self._shapes = {name: tuple(x.shape) for name, x in model.named_parameters()}
        self._positions: dict[str, int] = {}  # how often a convolution's weight is used in an image
        ghost = copy.deepcopy(model).to("meta", torch.float32).eval()
        names = {id(tensor): name for name, tensor in ghost.named_parameters()}

        def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            place = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
            name = names[id(layer.weight)]
            self._positions[name] = self._positions.get(name, 0) + place.shape[2] * place.shape[3]

        for layer in ghost.modules():
            if isinstance(layer, Convolution):
                layer.register_forward_hook(note)
        with torch.no_grad():
            ghost.outputs(torch.zeros(1, 3, *size, device="meta"))

    def macs_of_channel(self, group: ChannelGroup) -> float:
        """Return the multiply-accumulates that one channel of `group` takes, of all layers that it runs through."""
        shares = (
            np.prod(self._shapes[name]) / self._shapes[name][dim] * self._positions[name]
            for name, dim in group.axes
            if name in self._positions
        )
        return float(sum(shares))

    def without(self, groups: Sequence[ChannelGroup], removed: Sequence[Units]) -> tuple[int, float]:
        """Return (parameters, GMACs) once the rows `removed` of each group are gone."""
        lengths = {name: list(shape) for name, shape in self._shapes.items()}
        for group, rows in zip(groups, removed, strict=True):
            for name, dim in group.axes:
                if name in lengths:  # running statistics are no parameters
                    lengths[name][dim] -= len(rows)
        params, macs = self.params, 0
        for name, shape in self._shapes.items():
            saved = int(np.prod(shape)) - int(np.prod(lengths[name]))
            params -= saved
            macs += saved * self._positions.get(name, 0)
        return params, self.gmacs - macs / 1e9
