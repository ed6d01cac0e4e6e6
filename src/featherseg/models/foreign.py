"""Networks of others, as they are in memory: any module that turns images into logits becomes one of featherseg's."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import ConfigError, first_line
from ..core.text_files import shortened
from ..core.types import IMAGENET_MEAN, IMAGENET_STD, MIN_SIZE, InputSpec
from .base import SegmentationModel

PREFIX = "module:"
"""How the names of networks begin that exist as an object alone, which no file and no recipe can build again."""
WHOLE = (192, 320)
"""(height, width) that every network takes: multiples of 64, and so large that its deepest maps are some pixels."""
MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
"""What sides of images may have to be multiples of, the least first."""
ENCODERS = ("encoder", "backbone", "base_model")
"""What segmentation_models_pytorch, torchvision and transformers call the part that pretrained weights fill."""


class ForeignModel(SegmentationModel):
    """A module of another library behind the interface of featherseg's networks; see :func:`wrap`.

    Args:
        module: takes images, float (B, 3, H, W), and returns logits; used in place.
        num_classes: channels that the logits should have.
        input_spec: normalisation and size that it wants.

    Attributes:
        module: what is wrapped.
        multiple: what the sides of its images have to be multiples of; others are padded, and the logits cut.

    Raises:
        ConfigError: it takes no images, gives no logits, or of another number of classes.
    """

    def __init__(self, module: nn.Module, num_classes: int | None = None, input_spec: InputSpec | None = None) -> None:
        super().__init__()
        found = _probe(module)
        if num_classes is not None and num_classes != found.num_classes:
            raise ConfigError(
                f"num_classes is {num_classes}, but {type(module).__name__} gives {found.num_classes} channels; build "
                f"it with {num_classes} classes"
            )
        if found.num_classes < 2:
            raise ConfigError(
                f"{type(module).__name__} gives 1 channel, but each class has its own here, the background too; build "
                "it with 2 classes"
            )
        self.name = PREFIX + type(module).__name__
        self.module = module
        self.stride, self.multiple, self.num_classes = found.stride, found.multiple, found.num_classes
        self.input_spec = input_spec or InputSpec()

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        """Return the maps of an image of at least ``MIN_SIZE`` a side."""
        height, width = image.shape[-2:]
        step = self.multiple
        if step > 1:  # even where it fits already: an exported graph is of all sizes
            # No division of what is negative, which ONNX rounds the other way than Python.
            image = F.pad(image, (0, (step - width % step) % step, 0, (step - height % step) % step), mode="replicate")
        padded_h, padded_w = image.shape[-2:]
        found = _maps(self.module(image), type(self.module).__name__)
        rows, columns = _covering((height, width), self.stride)
        maps = {"out": found["out"][..., :rows, :columns]}
        if self.training:
            maps |= {
                name: x[..., : -(-height * x.shape[-2] // padded_h), : -(-width * x.shape[-1] // padded_w)]
                for name, x in found.items()
                if name != "out"
            }
        return maps

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the module's ``encoder``, ``backbone`` or ``base_model``, if it has one."""
        parts = (getattr(self.module, name, None) for name in ENCODERS)
        encoder = next((part for part in parts if isinstance(part, nn.Module) and part is not self.module), None)
        return [] if encoder is None else list(encoder.parameters())


def wrap(
    module: nn.Module,
    num_classes: int | None = None,
    *,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
    long_side: int | None = None,
) -> SegmentationModel:
    """Return a network of another library as one of featherseg's: to train, evaluate, export, quantise and ship.

    Functions that take a network wrap a module themselves; this is for those whose images are normalised otherwise, and
    to find early what does not fit. The stride of the logits, and what the sides of images have to be multiples of, are
    found by trial; images of other sizes are padded within the network, so that it and its exported file take any.

    Args:
        module: takes images, float (B, 3, H, W), of more than one size, and returns logits (B, num_classes, h, w), at
            the images' size or a stride of it: a tensor, ``{"out": …}`` as torchvision's, or what has ``logits`` as
            transformers'. Further logits of as many channels are auxiliary ones. It is used in place.
        num_classes: channels that it should have; its own where left out.
        mean: of its images on [0, 1], by channel.
        std: likewise.
        long_side: pixels of the longer side that it wants; see :class:`featherseg.core.types.InputSpec`.

    Raises:
        ConfigError: it is no module, takes no images, or gives no logits of so many classes.

    Example:
        >>> module = torch.nn.Conv2d(3, 5, 3, stride=4, padding=1)
        >>> model = featherseg.wrap(module, num_classes=5)
        >>> model.stride, model(torch.zeros(1, 3, 65, 97)).shape
        (4, torch.Size([1, 5, 65, 97]))
    """
    if isinstance(module, SegmentationModel):
        return as_network(module)
    if not isinstance(module, nn.Module):
        raise ConfigError(f"model is a {type(module).__name__}; give a torch module that returns logits")
    return ForeignModel(module, num_classes, InputSpec((*mean,), (*std,), long_side))


def as_network(model: nn.Module) -> SegmentationModel:
    """Return any network as one of featherseg's: itself, named where nobody did, or wrapped by :func:`wrap`."""
    if not isinstance(model, SegmentationModel):
        return wrap(model)
    if not model.name:
        model.name = PREFIX + type(model).__name__
    return model


def is_foreign(network: str) -> bool:
    """Return whether a name stands for an object of a program's, which it cannot build."""
    return network.startswith(PREFIX)


@dataclass(frozen=True)
class _Found:
    """What trials showed of a module."""

    stride: int
    multiple: int
    num_classes: int


def _probe(module: nn.Module) -> _Found:
    """Return how a module's logits come from its images."""
    reasons = []
    for device in ("meta", None):  # without computing anything, and where a module's code forbids that, by doing it
        trial = copy.deepcopy(module).eval()
        trial = trial.to(device) if device else trial
        try:
            batch, classes, *whole = _logits_shape(trial, WHOLE)
        except ConfigError:
            raise
        except Exception as error:  # whatever the code of others raises
            reasons.append(first_line(error))
            continue
        stride = WHOLE[0] // max(whole[0], 1)
        if batch != 1 or tuple(whole) != _covering(WHOLE, stride):
            raise ConfigError(
                f"{type(module).__name__} gives logits {(batch, classes, *whole)} of an image (1, 3, {WHOLE[0]}, "
                f"{WHOLE[1]}); give (1, num_classes, h, w) with one whole stride for both sides"
            )
        return _Found(stride, next(_multiples(trial, (1, classes), stride)), classes)
    raise ConfigError(
        f"{type(module).__name__} cannot be called on an image (1, 3, {WHOLE[0]}, {WHOLE[1]}) "
        f"({shortened(reasons[-1], 200)}); give a module that takes images of any size"
    )


def _multiples(trial: nn.Module, first: tuple[int, int], stride: int) -> Iterator[int]:
    """Yield what sides have to be multiples of, the least that works first."""
    for multiple in MULTIPLES[:-1]:
        odd = -(-MIN_SIZE // multiple) // 2 * 2 + 1  # of a multiple's double no side is one
        size = multiple * odd, multiple * (odd + 2)
        try:
            shape = _logits_shape(trial, size)
        except Exception:
            continue
        if shape == (*first, *_covering(size, stride)):
            yield multiple
    yield MULTIPLES[-1]


def _covering(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Return the (height, width) of logits that cover images of a size."""
    return (size[0] + stride - 1) // stride, (size[1] + stride - 1) // stride


def _logits_shape(trial: nn.Module, size: tuple[int, int]) -> tuple[int, ...]:
    """Return the shape of a module's logits of one image."""
    home = next((tensor.device for tensor in (*trial.parameters(), *trial.buffers())), torch.device("cpu"))
    with torch.no_grad():
        return tuple(_maps(trial(torch.zeros(1, 3, *size, device=home)), type(trial).__name__)["out"].shape)


def _maps(found: Any, name: str) -> dict[str, Tensor]:
    """Return ``"out"``, a module's logits, and ``"aux_…"``, further maps of as many channels.

    Raises:
        ConfigError: there are no logits (B, C, h, w) in what it gives.
    """
    if isinstance(found, Mapping):
        parts = dict(found)
        logits = next((parts[key] for key in ("out", "logits") if key in parts), None)
    elif isinstance(found, list | tuple):
        parts = {str(place): part for place, part in enumerate(found)}
        logits = next(iter(found), None)
    else:
        parts, logits = {}, getattr(found, "logits", found)
    if not isinstance(logits, Tensor) or logits.ndim != 4:
        shown = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(found).__name__}"
        raise ConfigError(
            f'{name} gives {shown}; featherseg takes logits (B, C, h, w), {{"out": logits}} or what has .logits'
        )
    others = {
        f"aux_{str(key).removeprefix('aux_')}": part
        for key, part in parts.items()
        if part is not logits and isinstance(part, Tensor) and part.ndim == 4 and part.shape[1] == logits.shape[1]
    }
    return {"out": logits} | others
