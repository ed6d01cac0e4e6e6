"""Which channels of a network hang together, found by watching it run.

A channel is an index of a convolution's output; removing it means removing that index from every tensor that it runs
through: the bias, the batch norm, the inputs of the next layers, and the channels that a sum or a gate ties it to. One
run without arithmetic tells all of them: each axis of each weight gets a number an index, each operator of torch joins
the numbers that meet, and whatever is joined in the end goes together. What an operator does to channels that is not
known here, or that the network's code has numbers for (a split at half of them), pins them with the reason.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from ..core.errors import ConfigError, first_line
from ..core.types import MIN_SIZE
from ..models.base import SegmentationModel
from ..models.widths import Convolution, is_depthwise

Units = NDArray[np.int64]
"""Numbers of channels; 0 stands for all that is not the network's own to remove, such as the image's colours."""

MOVES = {
    "cat",
    "chunk",
    "expand",
    "index_select",
    "permute",
    "reshape",
    "select",
    "slice",
    "split",
    "split_with_sizes",
    "squeeze",
}
MOVES |= {"stack", "transpose", "unbind", "unsqueeze", "view", "_reshape_alias", "_unsafe_view"}
"""Operators that put values elsewhere and change none; what they do to channels is seen by doing it to numbers."""
ELEMENTWISE = {"alias", "detach", "hardswish", "_prelu_kernel", "_to_copy"}
"""Operators that work on each value alone, beside those that torch itself calls pointwise."""
SPATIAL = {"adaptive_avg_pool2d", "avg_pool2d", "constant_pad_nd", "max_pool2d_with_indices", "reflection_pad2d"}
SPATIAL |= {"replication_pad2d", "upsample_bicubic2d", "upsample_bilinear2d", "upsample_nearest2d"}
SPATIAL |= {"_adaptive_avg_pool2d"}
"""Operators that work within each channel."""
REDUCTIONS = {"amax", "mean", "sum"}
"""Operators that do so if they leave the channels' axis alone."""
GROUPED = "a convolution works on groups of them"
SPLIT = "the network's code splits or reorders them by number"


@dataclass(frozen=True)
class ChannelGroup:
    """Channels of the same layers, each of which can be removed by itself.

    Args:
        layers: convolutions that put them out; several where a sum or a gate ties them.
        axes: (tensor's name, dimension) that the channels run through; twice where a channel has two places there.
        indices: place of each channel on each axis, (channels, axes).
    """

    layers: tuple[str, ...]
    axes: tuple[tuple[str, int], ...]
    indices: Units

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class Channels:
    """All channels of a network.

    Args:
        groups: those that can be removed.
        kept: why a layer's channels, or some of them, cannot be.
    """

    groups: tuple[ChannelGroup, ...]
    kept: dict[str, str]


def find_channels(model: SegmentationModel) -> Channels:
    """Watch a copy of `model`, auxiliary heads included, and return which channels hang together.

    Raises:
        ConfigError: it does not run on an RGB image.
    """
    ghost = copy.deepcopy(model).to("meta", torch.float32).train()
    for layer in ghost.modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd):
            layer.eval()  # its random mask would be one more thing that meets the channels
    watch = _Watch(ghost)
    try:
        with torch.no_grad(), watch:
            maps = ghost.outputs(watch.image)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"{type(model).__name__} does not run on an RGB image ({first_line(error)})") from error
    for key, logits in maps.items():
        if key == "out" or key.startswith("aux"):
            watch.pin([logits], f"they are the classes of {key!r}")
    return watch.result()


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # of torch's __init_subclass__
    """Sees each operator that a network runs, and notes which channels it joins."""

    def __init__(self, ghost: SegmentationModel) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.image = torch.zeros(2, 3, MIN_SIZE, MIN_SIZE, device="meta")
        self._axes: list[tuple[str, int]] = [("", 0)]
        self._starts = [0, 1]  # first unit of each axis, and of the next one
        self._joined: list[Units] = []
        self._pinned: list[tuple[Units, str]] = []
        # Tensors are kept beside what is known of them: an id is a tensor's own only as long as it lives.
        self._known: dict[int, tuple[Tensor, Units]] = {}
        self._weights: dict[int, tuple[str, Units, Units]] = {}  # a convolution's name, outputs and inputs
        self._used: set[int] = set()
        self._note(self.image, np.zeros(3, np.int64))
        for name, layer in ghost.named_modules():
            if isinstance(layer, Convolution) and id(layer.weight) not in self._weights:
                turned = isinstance(layer, nn.ConvTranspose2d)
                outputs = self._axis(f"{name}.weight", int(turned), layer.weight)
                inputs = self._axis(f"{name}.weight", int(not turned), layer.weight) if layer.groups == 1 else outputs
                self._weights[id(layer.weight)] = name, outputs, inputs
                if layer.groups > 1 and not is_depthwise(layer):
                    self._pinned.append((outputs, GROUPED))
            if isinstance(layer, Convolution | nn.BatchNorm2d | nn.PReLU):
                for part, tensor in layer.state_dict(prefix=f"{name}.", keep_vars=True).items():
                    if tensor.ndim == 1 and tensor.numel() > 1 and id(tensor) not in self._known:
                        self._note(tensor, self._axis(part, 0, tensor))

    def pin(self, tensors: Iterable[Tensor], reason: str) -> None:
        """Keep all channels of `tensors`."""
        self._pinned.extend((self._of(x), reason) for x in tensors)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and note what it does to channels."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        made = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        if not any(id(x) in self._known or id(x) in self._weights for x in given) or not made:
            return result
        name = func.overloadpacket.__name__.removesuffix("_")
        if name == "convolution" and id(args[1]) in self._weights:
            self._convolve(made[0], *args[:3])
        elif name.endswith("batch_norm"):
            self._join(made[0], given)
        elif name in MOVES:
            self._move(made, given, lambda swap: func(*tree_map(swap, args), **tree_map(swap, kwargs)), name == "cat")
        elif name in SPATIAL or (name in REDUCTIONS and _is_spatial(args)):
            self._join(made[0], given[:1])
        elif name in ELEMENTWISE or torch.Tag.pointwise in func.tags:
            self._meet(made[0], given)
        elif not name.startswith(("new_", "empty", "zeros", "ones", "full")):  # these take no more than the shape
            self._lose(given, made, f"they go through torch's {name}")
        return result

    def _convolve(self, made: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        self._used.add(id(weight))
        _, outputs, inputs = self._weights[id(weight)]
        if len(inputs) == x.shape[1]:
            self._joined.append(np.stack([self._of(x), inputs]))
        else:
            self.pin([x], GROUPED)
        self._note(made, outputs)
        if bias is not None:
            self._join(made, [made, bias])

    def _join(self, made: Tensor, given: Sequence[Tensor]) -> None:
        """Note that the channels of all `given` tensors go together, and are those of `made`."""
        units = self._of(given[0])
        if made.shape[1:2] != units.shape or any(x.numel() != 1 and len(self._of(x)) != len(units) for x in given[1:]):
            self._lose(given, [made], "their number changes on the way")
            return
        self._joined.extend(np.stack([units, self._of(x)]) for x in given[1:] if x.numel() != 1)
        self._note(made, units)

    def _move(self, made: list[Tensor], given: list[Tensor], again: Any, concatenates: bool) -> None:
        """Move units as an operator moves the values of their channels; see that a channel stays one."""
        before = {id(x): self._of(x) for x in given}
        moved = tree_leaves(again(lambda x: _spread(before[id(x)], x) if isinstance(x, Tensor) else x))
        for x, numbers in zip(made, moved, strict=True):
            after = _channels(numbers)
            if after is None:
                self._lose(given, [x], SPLIT)
                continue
            self._note(x, after)
            if not concatenates and not np.array_equal(after, before[id(given[0])]):
                self.pin(given, SPLIT)

    def _meet(self, made: Tensor, given: list[Tensor]) -> None:
        """Join the channels of what a sum, a product or an activation takes."""
        many = []
        for x in given:
            axis = 1 - (made.ndim - x.ndim)  # where torch's broadcasting finds the channels
            width = x.shape[axis] if axis >= 0 else 1
            if axis == 1 and width == made.shape[1]:
                many.append(x)
            elif width > 1 or made.ndim < 2:
                self._lose(given, [made], "they meet a tensor of another shape")
                return
        self._join(made, many)

    def _of(self, x: Tensor) -> Units:
        """Return the units of a tensor's channels, zeros where it is not the network's."""
        if id(x) in self._known:
            return self._known[id(x)][1]
        if id(x) in self._weights:
            return np.concatenate(self._weights[id(x)][1:])
        return np.zeros(x.shape[min(x.ndim - 1, 1)] if x.ndim else 1, np.int64)

    def _lose(self, given: Sequence[Tensor], made: Sequence[Tensor], reason: str) -> None:
        """Keep all channels of `given`, and whatever joins what was `made` of them."""
        self.pin(given, reason)
        unit = self._axis("", 0, torch.empty(1, device="meta"))
        self._pinned.append((unit, reason))
        for x in made:
            self._note(x, np.repeat(unit, len(self._of(x))))

    def _note(self, x: Tensor, units: Units) -> None:
        self._known[id(x)] = x, units

    def _axis(self, name: str, dim: int, tensor: Tensor) -> Units:
        """Number the indices of a tensor's axis."""
        start = self._starts[-1]
        self._axes.append((name, dim))
        self._starts.append(start + tensor.shape[dim])
        return np.arange(start, self._starts[-1])

    def result(self) -> Channels:
        """Sort out what was seen."""
        roots = _components(self._starts[-1], self._joined)
        for weight, (_, outputs, inputs) in self._weights.items():
            if weight not in self._used:
                self._pinned.extend((units, "it takes no part in the network's work") for units in (outputs, inputs))
        reasons: dict[int, str] = {}
        outside = (np.zeros(1, np.int64), "they join the image's channels or constants")
        for units, reason in [*self._pinned, outside]:
            for root in np.unique(roots[units]):
                reasons.setdefault(int(root), reason)
        kept: dict[str, str] = {}
        layer_of: dict[int, str] = {}  # by axis
        for name, outputs, _ in self._weights.values():
            layer_of[int(np.searchsorted(self._starts, outputs[0], side="right")) - 1] = name
            found = [reasons[int(root)] for root in roots[outputs] if int(root) in reasons]
            if found:
                some = "" if len(found) == len(outputs) else f"{len(found)} of {len(outputs)}: "
                kept[name] = some + found[0]

        order = np.argsort(roots, kind="stable")
        classes = np.split(order, np.flatnonzero(np.diff(roots[order])) + 1)
        axis_of = np.searchsorted(self._starts, np.arange(self._starts[-1]), side="right") - 1
        found_groups: dict[tuple[int, ...], list[Units]] = {}
        for units in classes:  # ascending, so that each class of a group has its axes in the same order
            axes = tuple(axis_of[units].tolist())
            if int(roots[units[0]]) not in reasons and any(axis in layer_of for axis in axes):
                found_groups.setdefault(axes, []).append(units)
        groups = [
            ChannelGroup(
                tuple(layer_of[axis] for axis in dict.fromkeys(axes) if axis in layer_of),
                tuple(self._axes[axis] for axis in axes),
                np.stack(rows) - np.asarray(self._starts)[list(axes)],
            )
            for axes, rows in found_groups.items()
        ]
        return Channels(tuple(groups), kept)


def _is_spatial(args: Any) -> bool:
    """Return whether a reduction's arguments (tensor, dimensions, …) leave the batch and channel axes."""
    x, dims = args[0], args[1] if len(args) > 1 else None
    return isinstance(dims, list | tuple) and bool(dims) and all(dim % x.ndim > 1 for dim in dims)


def _spread(units: Units, x: Tensor) -> Tensor:
    """Return the units of a tensor's channels in the shape of the tensor."""
    numbers = torch.from_numpy(units)
    return numbers.view(-1, *[1] * (x.ndim - 2)).expand(x.shape).contiguous() if x.ndim > 1 else numbers


def _channels(numbers: Tensor) -> Units | None:
    """Return the units of the channels of a spread tensor, or None where a channel has several."""
    if numbers.ndim < 2:
        return numbers.numpy()
    first = numbers[(slice(1), slice(None), *[slice(1)] * (numbers.ndim - 2))]
    return first.flatten().numpy() if bool((numbers == first).all()) else None


def _components(count: int, joined: list[Units]) -> Units:
    """Return the smallest unit that each of `count` units is joined to, over any number of steps."""
    roots = np.arange(count)
    pairs = np.concatenate([np.zeros((2, 0), np.int64), *joined], axis=1)
    while True:
        low = roots[pairs].min(axis=0)
        before = roots.copy()
        for side in pairs:
            np.minimum.at(roots, side, low)
            np.minimum.at(roots, before[side], low)
        roots = roots[roots]
        if np.array_equal(roots, before):
            return roots
