"""Soups: one network whose weights are the mean of several runs'.

Wortsman et al., Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing
inference time (ICML 2022, arXiv 2203.05482). Runs that began from the same weights lie in one basin of the loss, where
the mean is often better than each; the mean of runs from different random weights is worth nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..core.errors import CheckpointError
from ..core.text_files import shortened
from .checkpoint import Checkpoint

OF_ONE_RUN = ("run", "epoch", "epochs", "seed", "val_miou")
"""What a run says of itself alone: it is not true of a soup, even where all say the same."""


def soup(checkpoints: Sequence[Checkpoint], names: Sequence[str]) -> Checkpoint:
    """Return the mean of several networks, the statistics of batch norm among its tensors.

    Floating tensors are averaged in float64 and rounded once; integer buffers (counters of batches) are the first's.

    Args:
        checkpoints: one or more, of one network, options, classes and input.
        names: where each is from, for messages and the soup's own description.

    Raises:
        CheckpointError: there is none, or two differ in more than their weights.
    """
    require_alike(checkpoints, names)
    states = [checkpoint.model.state_dict() for checkpoint in checkpoints]
    model = copy.deepcopy(checkpoints[0].model)
    model.load_state_dict({name: _mean([state[name] for state in states]) for name in states[0]})
    first, *others = (checkpoint.training for checkpoint in checkpoints)
    training: dict[str, Any] = {
        key: value
        for key, value in first.items()
        if key not in OF_ONE_RUN and all(other.get(key) == value for other in others)
    }
    return Checkpoint(model.eval(), checkpoints[0].classes, training | {"soup": list(names)})


def greedy_soup(
    checkpoints: Sequence[Checkpoint],
    names: Sequence[str],
    scores: Sequence[float],
    score: Callable[[Checkpoint], float],
) -> tuple[int, ...]:
    """Return which networks make the greedy soup: the best, and each next one with which the soup scores no less.

    Recipe 1 of the paper. Its score is at least that of the best network, on the images that are scored.

    Args:
        checkpoints: of one network, options, classes and input.
        names: where each is from.
        scores: of each, more is better.
        score: scores a soup; called once for each network but the best.

    Returns:
        places in `checkpoints`, in the order in which they were put in.

    Raises:
        CheckpointError: as :func:`soup`.
    """
    require_alike(checkpoints, names)
    best_first = sorted(range(len(checkpoints)), key=lambda i: -scores[i])
    taken, reached = best_first[:1], scores[best_first[0]]
    for i in best_first[1:]:
        tried = [*taken, i]
        found = score(soup([checkpoints[k] for k in tried], [names[k] for k in tried]))
        if found >= reached:
            taken, reached = tried, found
    return tuple(taken)


def require_alike(checkpoints: Sequence[Checkpoint], names: Sequence[str]) -> None:
    """Refuse networks that have no mean.

    Raises:
        CheckpointError: there is none, or one differs from the first in network, options, classes or input.
    """
    if not checkpoints:
        raise CheckpointError("a soup needs a network; give run folders or weights files")
    for checkpoint, name in zip(checkpoints[1:], names[1:], strict=True):
        for what, theirs, ours in zip(
            ("network", "options", "classes", "normalisation and size"),
            _kind(checkpoint),
            _kind(checkpoints[0]),
            strict=True,
        ):
            if theirs != ours:
                raise CheckpointError(
                    f"{what} of {name}: {shortened(str(theirs), 150)}, but {names[0]} has {shortened(str(ours), 150)}; "
                    "a soup is of runs that differ in their weights alone"
                )


def _kind(checkpoint: Checkpoint) -> tuple[Any, ...]:
    model = checkpoint.model
    return model.name, model.options, ", ".join(checkpoint.classes.names), model.input_spec.to_dict()


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    first = tensors[0]
    if not first.is_floating_point():
        return first
    return torch.stack([tensor.to("cpu", torch.float64) for tensor in tensors]).mean(0).to(first.dtype)
