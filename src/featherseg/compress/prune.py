"""Structured pruning: the same network with fewer channels, which is smaller and faster without any special engine.

Channels are removed for good, from all layers that they run through (:mod:`.channels`), the least important first
(:mod:`.ranking`). What comes out is an ordinary network with a record of its widths among its options, so that it is
saved, loaded, trained, distilled and exported as any other. It has to be trained on, since at first it sees little.
"""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..core.errors import ConfigError, did_you_mean
from ..core.types import MIN_SIZE, ClassSet
from ..data.readers.synthetic import render_street
from ..exporting.onnx import export_onnx
from ..models.base import SegmentationModel
from ..models.facts import count_gmacs, count_parameters
from ..models.foreign import is_foreign
from ..models.session import describe
from ..models.widths import narrow, widths
from ..runtime.segmenter import Segmenter
from .channels import ChannelGroup, Channels, Units, find_channels
from .ranking import IMPORTANCES, RANKINGS, Costs, rank
from .ranking import importance as score

DEFAULT_RATIO = 0.3
TIMED_STEPS = 32
"""Parts of the way from the whole network to the smallest one that a time is aimed at in; each trial is an export."""

Measure = Callable[[SegmentationModel], float]
"""Milliseconds that a network takes."""


@dataclass(frozen=True)
class PruneResult:
    """A pruned network, and what was done to it.

    Args:
        model: the network, to be trained on.
        plan: output channels (before, after) of each layer that has fewer; depthwise convolutions, batch norms and
            the next layers' inputs follow.
        kept: why a layer's channels, or some of them, cannot be pruned, by layer.
        ratio: share of the channels that could be removed which was.
        params_before: parameters, auxiliary heads of training included, and so on for the others.
        gmacs_before: multiply-accumulates in one image of `size`, in 10⁹.
        size: (height, width) of that image.
        latency_ms_before: median of the network alone, where a time was aimed at.
    """

    model: SegmentationModel
    plan: dict[str, tuple[int, int]]
    kept: dict[str, str]
    ratio: float
    params_before: int
    params_after: int
    gmacs_before: float
    gmacs_after: float
    size: tuple[int, int]
    latency_ms_before: float | None = None
    latency_ms_after: float | None = None

    def __str__(self) -> str:
        lines = [f"{layer}: {before} → {after}" for layer, (before, after) in self.plan.items()]
        reasons: dict[str, list[str]] = {}
        for layer, reason in self.kept.items():
            reasons.setdefault(reason, []).append(layer)
        lines += [f"not pruned, {reason}: {', '.join(layers)}" for reason, layers in reasons.items()]
        return "\n".join([*lines, self.summary()])

    def summary(self) -> str:
        """Return what pruning saves, in a line."""
        figures = [
            f"{100 * self.ratio:.0f} % of the channels removed",
            f"parameters {self.params_before:,} → {self.params_after:,} "
            f"({_percent(self.params_before, self.params_after)})",
            f"GMACs at {self.size[0]}x{self.size[1]} {self.gmacs_before:.3f} → {self.gmacs_after:.3f} "
            f"({_percent(self.gmacs_before, self.gmacs_after)})",
        ]
        if self.latency_ms_before is not None and self.latency_ms_after is not None:
            figures.append(
                f"{self.latency_ms_before:.1f} → {self.latency_ms_after:.1f} ms "
                f"({_percent(self.latency_ms_before, self.latency_ms_after)})"
            )
        return "; ".join(figures)

    def to_dict(self) -> dict[str, Any]:
        """Return all but the network, of JSON types."""
        figures = {name: value for name, value in vars(self).items() if name not in ("model", "plan", "size")}
        plan = {layer: list(change) for layer, change in self.plan.items()}
        return {**figures, "size": list(self.size), "plan": plan}


def prune(
    model: nn.Module,
    ratio: float | None = None,
    *,
    target_gmacs: float | None = None,
    target_params: int | None = None,
    target_latency_ms: float | None = None,
    importance: str = "l2",
    ranking: str = "global",
    round_to: int = 8,
    example_size: tuple[int, int] = (360, 480),
    protect: Sequence[str] = (),
    measure: Measure | None = None,
) -> PruneResult:
    """Return `model` with fewer channels; it is left as it is itself.

    The image and the class logits, those of auxiliary heads too, keep their channels. How much goes is said by one of
    `ratio` and the targets, or 0.3 where none is given; a target removes no more than meets it.

    Args:
        model: the network, trained.
        ratio: share of all removable channels to remove, 0–1 without the ends; rounding may make it another.
        target_gmacs: most multiply-accumulates in an image of `example_size`, in 10⁹.
        target_params: most parameters, auxiliary heads included.
        target_latency_ms: longest time in an image of `example_size`.
        importance: what makes a channel important; see :func:`featherseg.compress.ranking.importance`.
        ranking: ``"uniform"`` takes about the same share of every layer, ``"global"`` more where less is lost for
            what is saved; see :func:`featherseg.compress.ranking.rank`.
        round_to: channels that stay are a multiple of it; engines are fastest at multiples of 8. Layers with no
            more channels than it stay as they are.
        example_size: (height, width) that is counted and timed at.
        protect: names or shell-style patterns of layers whose output channels stay; a name stands for all within it.
        measure: returns the milliseconds of a network on the device that matters; by default the median of ONNX
            Runtime on one thread of this CPU.

    Raises:
        ConfigError: an argument is out of range or unknown, several goals are given, a target cannot be met, nothing
            can be pruned, or the network is a module that no name builds, so that its pruned form could not be either.

    Example:
        >>> best = featherseg.load_checkpoint("runs/street")
        >>> smaller = featherseg.prune(best.model, 0.3, example_size=(64, 96)).model
        >>> featherseg.count_parameters(smaller) < featherseg.count_parameters(best.model)
        True
    """
    if not isinstance(model, SegmentationModel) or is_foreign(model.name):
        raise ConfigError(
            f"{type(getattr(model, 'module', model)).__name__} is a module that no name builds, and so nothing builds "
            "its pruned form; register its builder with register_model, or prune a network of list_models()"
        )
    goals = {
        "ratio": ratio,
        "target_gmacs": target_gmacs,
        "target_params": target_params,
        "target_latency_ms": target_latency_ms,
    }
    goal, aim = _goal(goals)
    _check(goal, importance, ranking, round_to, example_size, protect, measure)
    groups, kept = _prunable(model, find_channels(model), protect, round_to)
    costs = Costs(model, example_size)
    macs = [costs.macs_of_channel(group) for group in groups]
    order = rank(score(model, groups, importance), macs, ranking, round_to)
    times: dict[str, float] = {}
    if goal == "ratio":
        shares = np.cumsum([0, *order.counts]) / sum(map(len, groups))
        taken = list(range(int(np.abs(shares - aim).argmin())))
    elif goal == "target_latency_ms":
        clock = measure or (lambda net: onnx_latency(net, example_size))
        tried = {0: clock(model)}

        def time(steps: int) -> float:
            tried[steps] = clock(remove_channels(model, groups, order.removed(steps)))
            return tried[steps]

        steps = _search(goal, aim, tried[0], time, len(order), max(len(order) // TIMED_STEPS, 1))
        taken = list(range(steps))
        times = {"latency_ms_before": tried[0], "latency_ms_after": tried[steps]}
    else:
        which = int(goal == "target_gmacs")

        def cost(rows: Sequence[Units]) -> float:
            return costs.without(groups, rows)[which]

        before = (costs.params, costs.gmacs)[which]
        steps = _search(goal, aim, before, lambda n: cost(order.removed(n)), len(order), 1)
        taken = order.spare(steps, lambda rows: cost(rows) <= aim)
    if not taken:
        raise ConfigError(f"ratio is {aim}, which removes nothing in steps of {round_to} channels; give more of it")
    rows = order.removed(taken)
    pruned = remove_channels(model, groups, rows)
    old, new = widths(model), widths(pruned)
    return PruneResult(
        model=pruned,
        plan={layer: (old[layer], new[layer]) for layer in old if new[layer] != old[layer]},
        kept=kept,
        ratio=sum(map(len, rows)) / sum(map(len, groups)),
        params_before=costs.params,
        params_after=count_parameters(pruned)[0],
        gmacs_before=costs.gmacs,
        gmacs_after=count_gmacs(pruned, example_size),
        size=example_size,
        **times,
    )


def remove_channels(
    model: SegmentationModel, groups: Sequence[ChannelGroup], removed: Sequence[Units]
) -> SegmentationModel:
    """Return a copy of `model` without the rows `removed` of each of its groups of channels."""
    gone: dict[tuple[str, int], list[Units]] = {}
    for group, rows in zip(groups, removed, strict=True):
        for axis, places in zip(group.axes, group.indices[rows].T, strict=True):
            gone.setdefault(axis, []).append(places)
    weights = {}
    first_names: dict[int, str] = {}  # a tensor that layers share has several names, and its axes have the first
    for name, tensor in model.state_dict(keep_vars=True).items():
        known = first_names.setdefault(id(tensor), name)
        rest = tensor.detach()
        for dim in range(tensor.ndim):
            if (known, dim) in gone:
                stay = np.setdiff1d(np.arange(tensor.shape[dim]), np.concatenate(gone[known, dim]))
                rest = rest.index_select(dim, torch.from_numpy(stay).to(tensor.device))
        weights[name] = rest
    record = {
        layer: weights[f"{layer}.weight"].shape[int(isinstance(model.get_submodule(layer), nn.ConvTranspose2d))]
        for layer in widths(model)
    }
    record = {layer: width for layer, width in record.items() if width != widths(model)[layer]}
    pruned = copy.deepcopy(model)
    narrow(pruned, record)
    pruned.load_state_dict(weights)
    pruned.options = {**model.options, "pruned": {**model.options.get("pruned", {}), **record}}
    return pruned


def onnx_latency(model: SegmentationModel, size: tuple[int, int], *, threads: int = 1, runs: int = 20) -> float:
    """Return the median milliseconds of the network alone in ONNX Runtime on the CPU, in an image of `size` (H, W)."""
    classes = ClassSet(tuple(f"class {i}" for i in range(model.num_classes)))
    with tempfile.TemporaryDirectory() as folder:
        path = export_onnx(model, Path(folder) / "timed.onnx", describe(model, classes))
        segmenter = Segmenter(path, threads=threads)
        return segmenter.latency(render_street(0, size)[0], runs=runs).percentile(50, "net")


def _goal(goals: dict[str, float | None]) -> tuple[str, float]:
    """Return the one goal that is given, and its value; the first one's default where none is."""
    given = {name: value for name, value in goals.items() if value is not None} or {"ratio": DEFAULT_RATIO}
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} are given; choose one of them")
    ((goal, aim),) = given.items()
    if type(aim) not in (int, float) or not 0 < aim < (1 if goal == "ratio" else math.inf):
        wanted = "a share between 0 and 1" if goal == "ratio" else "a number over 0"
        raise ConfigError(f"{goal} is {aim!r}; give {wanted}")
    return goal, aim


def _check(
    goal: str,
    importance: str,
    ranking: str,
    round_to: int,
    example_size: tuple[int, int],
    protect: Sequence[str],
    measure: Measure | None,
) -> None:
    for name, value, known in (("importance", importance, IMPORTANCES), ("ranking", ranking, RANKINGS)):
        if value not in known:
            raise ConfigError(f"{name} is {value!r}; {did_you_mean(str(value), known)}")
    if type(round_to) is not int or round_to < 1:
        raise ConfigError(f"round_to is {round_to!r}; give a whole number from 1, such as 8")
    if len(example_size) != 2 or min(example_size) < MIN_SIZE:
        raise ConfigError(f"example_size is {example_size}; give (height, width) of at least {MIN_SIZE} each")
    if isinstance(protect, str):
        raise ConfigError(f"protect is {protect!r}; give a list of names, such as [{protect!r}]")
    if measure is not None and goal != "target_latency_ms":
        raise ConfigError(f"measure is given, but {goal} needs none; give it with target_latency_ms")


def _prunable(
    model: SegmentationModel, found: Channels, protect: Sequence[str], round_to: int
) -> tuple[list[ChannelGroup], dict[str, str]]:
    """Return the groups that may be pruned, and why other layers may not."""
    layers = widths(model)
    guarded: dict[str, str] = {}
    for pattern in protect:
        named = [layer for layer in layers if layer.startswith(f"{pattern}.") or fnmatch(layer, pattern)]
        if not named:
            raise ConfigError(f"protect names {pattern!r}, which is no layer; {did_you_mean(pattern, layers)}")
        guarded |= dict.fromkeys(named, pattern)
    kept = dict(found.kept)
    groups: list[ChannelGroup] = []
    for group in found.groups:
        guard = next((guarded[layer] for layer in group.layers if layer in guarded), None)
        if guard is None and len(group) > round_to:
            groups.append(group)
            continue
        reason = f"they are no more than {round_to}" if guard is None else f"they are protected by {guard!r}"
        kept |= {layer: reason for layer in group.layers if layer in layers}
    if not groups:
        raise ConfigError(f"{type(model).__name__} has no channels to prune in steps of {round_to}; lower round_to")
    return groups, kept


def _search(goal: str, aim: float, before: float, after: Callable[[int], float], most: int, grain: int) -> int:
    """Return the fewest steps `after` which the network has no more than `aim`, to `grain` steps, by halving."""
    if aim >= before:
        raise ConfigError(f"{goal} is {aim:g}, but the network has {before:.4g} as it is; give less")
    least = after(most)
    if least > aim:
        raise ConfigError(f"{goal} is {aim:g}, but {least:.4g} is the least that pruning reaches; give more")
    low, high = 0, most
    while high - low > grain:
        middle = (low + high) // 2
        low, high = (low, middle) if after(middle) <= aim else (middle, high)
    return high


def _percent(before: float, after: float) -> str:
    return f"{100 * (after / before - 1):+.0f} %"
