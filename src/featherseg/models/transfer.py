"""Weights of a network of other classes: everything but the class heads, and of these the rows of classes it knows."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..core.types import ClassSet
from .base import SegmentationModel
from .checkpoint import Checkpoint, load_weights
from .class_matching import ClassTable, matching_classes
from .factory import create_model


def start_from(
    model: SegmentationModel, start: Checkpoint, classes: ClassSet, source: Path, table: ClassTable | None = None
) -> str:
    """Fill a network with trained weights as far as its classes go.

    A class that several of the other network's stand for begins as their mean.

    Args:
        model: is filled; what has no counterpart keeps its values.
        start: a network of the same name and options, perhaps of other classes or another order of them.
        classes: of `model`.
        source: where `start` is from, for messages.
        table: the other network's class or classes by each of ours, where names do not tell.

    Returns:
        a sentence that says what was kept; empty where all of it was, with the classes as they are.

    Raises:
        CheckpointError: `start` is another network.
        ConfigError: the table names a class that there is not.
    """
    theirs = start.model.state_dict()
    matches = matching_classes(classes, start.classes, table, "model.init_classes")
    if start.classes.names == classes.names or theirs.keys() != model.state_dict().keys():
        load_weights(model, theirs, source)  # refuses what is another network
        return ""
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    heads = class_axes(model, len(classes))
    for name, tensor in theirs.items():
        if name not in heads:
            weights[name] = tensor
        elif tensor.shape[heads[name]] == len(start.classes):
            for ours, others in matches.items():
                mean = tensor.index_select(heads[name], torch.tensor(others)).float().mean(heads[name])
                weights[name].select(heads[name], ours).copy_(mean)
    load_weights(model, weights, source)
    kept = [
        _as_said(name, [start.classes.names[i] for i in matches[k]])
        for k, name in enumerate(classes.names)
        if k in matches
    ]
    fresh = [name for k, name in enumerate(classes.names) if k not in matches]
    used = {i for others in matches.values() for i in others}
    dropped = [name for i, name in enumerate(start.classes.names) if i not in used]
    parts = [f"the class heads keep {_few(kept)}" if kept else "the class heads begin anew"]
    parts += [f"new: {_few(fresh)}"] * bool(fresh) + [f"left out: {_few(dropped)}"] * bool(dropped)
    return f"{source} knows other classes; all but its class heads is kept; {'; '.join(parts)}"


def class_axes(model: SegmentationModel, classes: int) -> dict[str, int]:
    """Return the tensors of a network whose size along an axis is the number of classes, with that axis."""
    with torch.device("meta"):
        wider = create_model(model.name, classes + 1, **model.options).state_dict()
    axes = {}
    for name, tensor in model.state_dict().items():
        axis = next((i for i, pair in enumerate(_sizes(tensor, wider.get(name))) if pair[0] != pair[1]), None)
        if axis is not None and tensor.shape[axis] == classes:
            axes[name] = axis
    return axes


def _sizes(one: Tensor, other: Tensor | None) -> list[tuple[int, int]]:
    return [] if other is None else list(zip(one.shape, other.shape, strict=True))


def _as_said(name: str, others: list[str]) -> str:
    return name if others == [name] else f"{name} ({' + '.join(others)})"


def _few(names: list[str], most: int = 12) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
