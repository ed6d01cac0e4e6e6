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
    """Return a decorator that files a builder ``(num_classes, **options) -> SegmentationModel`` and its facts.

    Example:
        >>> facts = featherseg.ModelFacts("mine", params=28, gmacs=0.00004, stride=16, num_classes=7)
        >>> @featherseg.register_model("my_net", facts)
        ... class MyNet(featherseg.SegmentationModel):
        ...     stride = 16
        ...     def __init__(self, num_classes=7):
        ...         super().__init__()
        ...         self.num_classes = num_classes
        ...         self.head = torch.nn.Conv2d(3, num_classes, 1, stride=16)
        ...     def compute(self, image):
        ...         return {"out": self.head(image)}
        >>> featherseg.create_model("my_net", 2)(torch.zeros(1, 3, 64, 96)).shape
        torch.Size([1, 2, 64, 96])
    """

    def add(builder: Builder) -> Builder:
        models.register(name)(builder)
        _facts[name] = facts
        if isinstance(builder, type):
            builder.name = name  # type: ignore[attr-defined]
        return builder

    return add


def create_model(
    name: str,
    num_classes: int,
    *,
    weights: str | None = None,
    pruned: Mapping[str, int] | None = None,
    **options: Any,
) -> SegmentationModel:
    """Build a registered network.

    Args:
        name: what it is registered as.
        num_classes: channels of the logits.
        weights: what published weights were trained on, such as ``"cityscapes"``; see
            :mod:`featherseg.models.published`. With another number of classes than theirs the class heads begin anew.
        pruned: output channels of the layers that have fewer than the builder gives them; see
            :func:`featherseg.models.widths.narrow`. A pruned network has it among its options.
        options: the builder's own.

    Raises:
        DownloadError: published weights are not here and cannot be fetched.
        ConfigError: the name or an option is unknown, `num_classes` is below 1, or `pruned` fits no such network.

    Example:
        >>> featherseg.create_model("fastsegnet", num_classes=19, width=0.5).stride
        8
    """
    if num_classes < 1:
        raise ConfigError(f"num_classes is {num_classes}; a network needs at least 1")
    if pruned and (weights := next((key for key in ("encoder_weights", "pretrained") if options.get(key)), None)):
        raise ConfigError(f"{weights} are of the whole encoder, not the pruned one; leave {weights} out")
    model: SegmentationModel = models.create(name, num_classes=num_classes, **options)
    if weights is not None:
        if pruned is not None:
            raise ConfigError(
                f"weights {weights!r} are of the whole network, not the pruned one; leave one of them out"
            )
        from .published import fill_published  # which builds networks itself

        fill_published(model, weights)
    if pruned is not None:
        narrow(model, pruned)
        model.options = {**model.options, "pruned": dict(pruned)}
    return model


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of the registered networks that match a shell-style `pattern`.

    Example:
        >>> featherseg.list_models("*unet*")
        ['resnet_unet']
    """
    return models.names(pattern)


def model_facts(name: str) -> ModelFacts:
    """Return the declared facts of network `name`."""
    models.get(name)
    return _facts[name]
