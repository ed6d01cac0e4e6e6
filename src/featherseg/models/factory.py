"""The registry of networks, and the ways to build one by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

from ..core.errors import ConfigError
from ..core.registry import Registry
from .base import SegmentationModel
from .facts import ModelFacts
from .foreign import ForeignModel, as_network, is_foreign
from .widths import narrow

Builder = TypeVar("Builder", bound=Callable[..., nn.Module])


FETCHING = ("encoder_weights", "pretrained")
"""Options of builders that read files or networks; a description needs none, since the weights are there."""

# Longer words come first where one begins like another.
MEANINGS = {
    "unet": ("resnet_unet", "a U-Net whose encoder is any of timm's (option encoder)"),
    "resnet": ("resnet_unet", "a U-Net with a ResNet encoder (option encoder)"),
    "efficientnet": ("resnet_unet", "a U-Net, which takes EfficientNets of timm's as encoder (option encoder)"),
    "mobilenetv2": ("fastsegnet", "which has MobileNetV2 as encoder"),
    "mobilenet": ("mobilenet_aspp", "MobileNetV3-Small with the ASPP of DeepLabv3+"),
    "lraspp": ("mobilenet_aspp", "MobileNetV3-Small with a pyramid of dilated convolutions"),
    "deeplab": ("mobilenet_aspp", "the ASPP and decoder of DeepLabv3+ on MobileNetV3-Small"),
    "bisenet": ("bisenetv2", "the second BiSeNet"),
    "segformer": ("ddrnet", "of its accuracy in real time, but convolutional; any other module: featherseg.wrap"),
    "segnext": ("ddrnet", "of its accuracy in real time, but convolutional; any other module: featherseg.wrap"),
    "mask2former": ("ddrnet", "the strongest of the real-time networks here; any other module: featherseg.wrap"),
    "pspnet": ("pp_liteseg", "whose pyramid pools like PSPNet's"),
    "fcn": ("fastsegnet", "a light fully convolutional network"),
    "icnet": ("ddrnet", "which has branches at two resolutions"),
    "hrnet": ("ddrnet", "which keeps a branch at high resolution"),
    "ddrnet": ("ddrnet", "DDRNet-23-slim"),
    "pidnet": ("pidnet", "PIDNet-S"),
    "fastscnn": ("fast_scnn", "the same"),
    "espnet": ("espnetv2", "its second version"),
    "erfnet": ("lednet", "of the same factorised convolutions, and lighter"),
    "lightweightsegmentationmodel": ("mobilenet_aspp", "that network's name here"),
}
"""The nearest network here by names that others know, as :func:`featherseg.core.registry.plain` spells them."""

models: Registry[Callable[..., nn.Module]] = Registry("network", home="featherseg.models.families", meanings=MEANINGS)


_facts: dict[str, ModelFacts] = {}


def register_model(name: str, facts: ModelFacts | None = None) -> Callable[[Builder], Builder]:
    """Return a decorator that files a builder ``(num_classes, **options)`` of a network, and its facts.

    The network may be any module that :func:`featherseg.wrap` takes; recipes and weights files then build it by name.

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
        if facts is not None:
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
    name = models.spelled(name) or name
    if num_classes < 1:
        raise ConfigError(f"num_classes is {num_classes}; a network needs at least 1")
    if pruned and (weights := next((key for key in FETCHING if options.get(key)), None)):
        raise ConfigError(f"{weights} are of the whole encoder, not the pruned one; leave {weights} out")
    if is_foreign(name):
        raise ConfigError(
            f"network {name!r} is an object of a program, which no name builds; pass it as model= to fit, resume_run, "
            "load_checkpoint or ship, or register its builder with register_model"
        )
    model = as_network(models.create(name, num_classes=num_classes, **options))
    if isinstance(model, ForeignModel):
        if model.num_classes != num_classes:
            raise ConfigError(f"{name} gives {model.num_classes} channels for {num_classes} classes; see its builder")
        model.name, model.options = name, {key: value for key, value in options.items() if key not in FETCHING}
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


def has_facts(name: str) -> bool:
    """Return whether network `name` was registered with facts; those of featherseg's own were."""
    return (models.spelled(name) or name) in _facts


def model_facts(name: str) -> ModelFacts:
    """Return the declared facts of network `name`.

    Raises:
        ConfigError: there is no such network, or its builder was registered without facts.
    """
    models.get(name)
    name = models.spelled(name) or name
    if name not in _facts:
        raise ConfigError(f"network {name!r} was registered without facts; give register_model some")
    return _facts[name]
