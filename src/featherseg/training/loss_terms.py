"""Sums of losses, as recipes write them, and losses of others that want logits of the target's size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import ConfigError, did_you_mean
from ..core.types import IGNORE_INDEX
from .centerline_loss import CenterlineDiceLoss
from .losses import at_size_of, losses
from .tiled_cross_entropy import check_shapes


class WeightedSum(nn.Module):
    """The sum of losses, each times its factor.

    Args:
        terms: pairs of a factor and a loss, which takes the logits as they are given to the sum.
    """

    def __init__(self, terms: Sequence[tuple[float, nn.Module]]) -> None:
        super().__init__()
        if not terms:
            raise ConfigError("a loss needs at least one term; got none")
        for factor, _ in terms:
            if not math.isfinite(factor):
                raise ConfigError(f"a loss term has weight {factor}; give a finite number")
        self.factors = tuple(float(factor) for factor, _ in terms)
        self.terms = nn.ModuleList(term for _, term in terms)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return Σ factor · loss(logits, target)."""
        parts = [factor * term(logits, target) for factor, term in zip(self.factors, self.terms, strict=True)]
        return torch.stack(parts).sum()


class AtFullSize(nn.Module):
    """A loss of one's own ``(logits (B, C, H, W), target (B, H, W)) -> scalar``, made to take logits of any size.

    Args:
        loss: what is called, with float32 logits upsampled bilinearly to the target's size.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of the upsampled logits."""
        check_shapes(logits, target)
        value: Tensor = self.loss(at_size_of(target, logits), target)
        return value


def at_any_size(loss: nn.Module) -> nn.Module:
    """Return `loss` itself if it is known to take logits of any size, else wrapped in :class:`AtFullSize`.

    Known are the registered classes and sums of them. Subclasses are not: theirs may be what they do to the logits.
    """
    parts = loss.terms if isinstance(loss, WeightedSum) else [loss]
    known = [AtFullSize, *(losses.get(name) for name in losses)]
    return loss if all(type(part) in known for part in parts) else AtFullSize(loss)


def build_loss(
    terms: Sequence[Mapping[str, Any]],
    ignore_index: int = IGNORE_INDEX,
    class_weights: Sequence[float] | None = None,
    names: Sequence[str] = (),
) -> WeightedSum:
    """Build the loss that a recipe describes.

    Args:
        terms: one mapping a loss, such as ``{"name": "cross_entropy", "weight": 1.0, "label_smoothing": 0.1}``:
            ``name`` is the registered loss, ``weight`` its factor in the sum (1 by default), and the other keys are
            the loss's own options.
        ignore_index: target value that takes no part in any term.
        class_weights: one factor per class, for each term that takes class weights and does not give its own.
        names: of the classes, by which a term of ``cldice`` calls those that are thin.

    Raises:
        ConfigError: no term, a term without a name, an unknown loss or option, a value out of range, or class weights
            that no term takes.
    """
    built: list[tuple[float, nn.Module]] = []
    weighted = False
    for term in terms:
        if "name" not in term:
            raise ConfigError(f"loss term {dict(term)} has no name; known: {', '.join(losses)}")
        options = {key: value for key, value in term.items() if key not in ("name", "weight")}
        options.setdefault("ignore_index", ignore_index)
        if losses.get(term["name"]) is CenterlineDiceLoss and "classes" in options:
            options["classes"] = _ids(options["classes"], names)
        if class_weights is not None and "class_weights" in signature(losses.get(term["name"])).parameters:
            options.setdefault("class_weights", class_weights)
            weighted = True
        built.append((term.get("weight", 1.0), losses.create(term["name"], **options)))
    if built and class_weights is not None and not weighted:
        names = ", ".join(term["name"] for term in terms)
        raise ConfigError(f"class_weights are given, but no loss of {names} takes them; add cross_entropy or drop them")
    return WeightedSum(built)


def _ids(classes: Any, names: Sequence[str]) -> Any:
    """Return the ids of classes that a recipe calls by name; what is no list of names stays for the loss to judge."""
    if not isinstance(classes, list | tuple) or not all(isinstance(name, str) for name in classes):
        return classes
    for name in classes:
        if name not in names:
            raise ConfigError(f"loss cldice names {name!r}, no class of the data; {did_you_mean(name, names)}")
    return [names.index(name) for name in classes]
