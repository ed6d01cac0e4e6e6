"""Tensors' names, from another code's to ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from ...core.errors import CheckpointError


def renamed(
    weights: Mapping[str, Tensor], rules: Iterable[tuple[str, str]], dropped: str | None = None
) -> dict[str, Tensor]:
    """Return `weights` under our names.

    Args:
        weights: tensors by the names of the code that published them.
        rules: pairs of a regular expression and what takes its place; each is applied, in order, wherever it is found.
        dropped: regular expression that is found in the published names of tensors which the network does not use.

    Raises:
        CheckpointError: two tensors would share a name.
    """
    ours: dict[str, Tensor] = {}
    for theirs, tensor in weights.items():
        if dropped is not None and re.search(dropped, theirs):
            continue
        name = theirs
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        if name in ours:
            raise CheckpointError(f"two tensors of the published weights would be called {name!r}; correct the rules")
        ours[name] = tensor
    return ours


def without_bias(weights: Mapping[str, Tensor], conv: str, norm: str) -> dict[str, Tensor]:
    """Return `weights` without the bias of convolution `conv`, which the mean of batch norm `norm` after it takes on.

    The sums are the same, but for rounding; what batch norm subtracts needs no bias to learn.
    """
    rest = dict(weights)
    rest[f"{norm}.running_mean"] = rest[f"{norm}.running_mean"] - rest.pop(f"{conv}.bias")
    return rest


def without_norm(weights: Mapping[str, Tensor], conv: str, norm: str, eps: float = 1e-5) -> dict[str, Tensor]:
    """Return `weights` without batch norm `norm`, whose factors and offsets convolution `conv` before it takes on."""
    rest = {name: x for name, x in weights.items() if not name.startswith(f"{norm}.")}
    factor = weights[f"{norm}.weight"] / (weights[f"{norm}.running_var"] + eps).sqrt()
    bias = weights.get(f"{conv}.bias", weights[f"{norm}.running_mean"].new_zeros(()))
    rest[f"{conv}.weight"] = weights[f"{conv}.weight"] * factor.view(-1, 1, 1, 1)
    rest[f"{conv}.bias"] = (bias - weights[f"{norm}.running_mean"]) * factor + weights[f"{norm}.bias"]
    return rest
