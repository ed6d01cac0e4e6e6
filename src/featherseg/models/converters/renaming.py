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
