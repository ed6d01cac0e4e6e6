"""The registry of networks, and the ways to build one by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ..core.errors import ConfigError
from ..core.registry import Registry
from .base import SegmentationModel
from .facts import ModelFacts
from .widths import narrow

Builder = TypeVar("Builder", bound=Callable[..., SegmentationModel])


models: Registry[Callable[..., SegmentationModel]] = Registry("network", home="featherseg.models.families")


_facts: dict[str, ModelFacts] = {}


def register_model(name: str, facts: ModelFacts) -> Callable[[Builder], Builder]:
    """Return a decorator that files a builder ``(num_classes, **options) -> SegmentationModel`` and its facts."""

    def add(builder: Builder) -> Builder:
        models.register(name)(builder)
        _facts[name] = facts
        if isinstance(builder, type):
            builder.name = name  # type: ignore[attr-defined]
        return builder

    return add


def create_model(
    name: str, num_classes: int, *, pruned: Mapping[str, int] | None = None, **options: Any
) -> SegmentationModel:
    """Build a registered network.

    Args:
        name: what it is registered as.
        num_classes: channels of the logits.
        pruned: output channels of the layers that have fewer than the builder gives them; see
            :func:`featherseg.models.widths.narrow`. A pruned network has it among its options.
        options: the builder's own.

    Raises:
        ConfigError: the name or an option is unknown, `num_classes` is below 1, or `pruned` fits no such network.
    """
    if num_classes < 1:
        raise ConfigError(f"num_classes is {num_classes}; a network needs at least 1")
    if pruned and (weights := next((key for key in ("encoder_weights", "pretrained") if options.get(key)), None)):
        raise ConfigError(f"{weights} are of the whole encoder, not the pruned one; leave {weights} out")
    model: SegmentationModel = models.create(name, num_classes=num_classes, **options)
    if pruned is not None:
        narrow(model, pruned)
        model.options = {**model.options, "pruned": dict(pruned)}
    return model


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of the registered networks that match a shell-style `pattern`."""
    return models.names(pattern)


def model_facts(name: str) -> ModelFacts:
    """Return the declared facts of network `name`."""
    models.get(name)
    return _facts[name]
