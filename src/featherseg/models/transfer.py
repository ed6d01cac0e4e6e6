"""Weights of a network of other classes: everything but the class heads, and of these the rows of classes it knows."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..core.types import ClassSet
from .base import SegmentationModel
from .checkpoint import Checkpoint, load_weights
from .factory import create_model


def start_from(model: SegmentationModel, start: Checkpoint, classes: ClassSet, source: Path) -> str:
    """Fill a network with trained weights as far as its classes go.

    Args:
        model: is filled; what has no counterpart keeps its values.
        start: a network of the same name and options, perhaps of other classes or another order of them.
        classes: of `model`.
        source: where `start` is from, for messages.

    Returns:
        a sentence that says what was kept; empty where all of it was, with the classes as they are.

    Raises:
        CheckpointError: `start` is another network.
    """
    theirs = start.model.state_dict()
    if start.classes.names == classes.names or theirs.keys() != model.state_dict().keys():
        load_weights(model, theirs, source)  # refuses what is another network
        return ""
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    heads = class_axes(model, len(classes))
    known = [name for name in classes.names if name in start.classes.names]
    ours_at = torch.tensor([classes.names.index(name) for name in known], dtype=torch.long)
    theirs_at = torch.tensor([start.classes.names.index(name) for name in known], dtype=torch.long)
    for name, tensor in theirs.items():
        if name not in heads:
            weights[name] = tensor
        elif known and tensor.shape[heads[name]] == len(start.classes):
            weights[name].index_copy_(heads[name], ours_at, tensor.index_select(heads[name], theirs_at))
    load_weights(model, weights, source)
    fresh = [name for name in classes.names if name not in known]
    dropped = [name for name in start.classes.names if name not in known]
    parts = [f"the class heads keep {_few(known)}" if known else "the class heads begin anew"]
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


def _few(names: list[str], most: int = 8) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
