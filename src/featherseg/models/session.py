"""A torch network behind the session interface of the runtime, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..core.errors import ConfigError, first_line
from ..core.machine import cpu_name
from ..core.precision import check_precision
from ..core.types import ClassSet
from ..runtime.artifact import Artifact
from ..runtime.sessions.base import Session
from .base import SegmentationModel
from .facts import count_parameters

PRECISIONS = ("fp32", "bf16")
"""What a network in memory is computed in."""


def describe(model: SegmentationModel, classes: ClassSet, training: dict[str, Any] | None = None) -> Artifact:
    """Return what an exported file of `model` says of itself.

    Args:
        model: the network.
        classes: what its logits stand for.
        training: what it was trained on and with, as JSON types.

    Raises:
        ConfigError: `classes` are not as many as the network's.
    """
    name = model.name or type(model).__name__
    params = count_parameters(model)[0]
    artifact = Artifact(classes, model.input_spec, model.stride, name, params, training=training or {})
    check_artifact(model, artifact)
    return artifact


def check_artifact(model: SegmentationModel, artifact: Artifact) -> None:
    """Refuse an artifact that says something else of `model` than it is.

    Raises:
        ConfigError: classes, stride, parameters or normalisation differ.
    """
    pairs = {
        "classes": (len(artifact.classes), model.num_classes),
        "stride": (artifact.stride, model.stride),
        "params": (artifact.params, count_parameters(model)[0]),
        "input_spec": (artifact.input_spec, model.input_spec),
    }
    for name, (said, real) in pairs.items():
        if said != real:
            raise ConfigError(f"artifact says {name} {said}, but the network has {real}; build it with describe()")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put `model` into eval mode for a while; every module that was training trains again after."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


class TorchSession(Session):
    """Runs a network as it is in memory: to evaluate while training, on a GPU, or without exporting.

    The network is used in place: it moves to `device`, and each run leaves its training mode as it was.

    Args:
        model: the network.
        artifact: what it says of itself; see :func:`describe`.
        device: a torch device, such as ``"cpu"`` or ``"cuda:0"``.
        channels_last: memory layout of images and weights; much faster on CPUs.
        precision: ``"fp32"``, or ``"bf16"`` by autocast, which leaves the weights in fp32.
        compile: whether to compile the network at the first run of each size.

    Raises:
        ConfigError: the artifact is not this network's, the precision is unknown, or the device is not there.
    """

    name = "torch"

    def __init__(
        self,
        model: SegmentationModel,
        artifact: Artifact,
        device: str = "cpu",
        channels_last: bool = True,
        precision: str = "fp32",
        compile: bool = False,
    ) -> None:
        check_precision(precision, PRECISIONS)
        check_artifact(model, artifact)
        self.artifact = artifact
        self.precision = precision
        self._device = _checked_device(device)
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self._bf16 = precision == "bf16"
        self._model = model
        model.to(self._device).to(memory_format=self._layout)
        self._mean = torch.tensor(artifact.input_spec.mean, device=self._device).view(1, 3, 1, 1)
        self._std = torch.tensor(artifact.input_spec.std, device=self._device).view(1, 3, 1, 1)
        self._logits: Callable[[Tensor], Tensor] = torch.compile(self._forward) if compile else self._forward
        words = [_processor(self._device), precision, *["channels_last"] * channels_last, *["compiled"] * compile]
        self.device = f"{', '.join(words)}, torch {torch.__version__}"

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits (B, C, h, w) of images, uint8 (B, H, W, 3)."""
        # torch cannot wrap read-only arrays or negative strides; frames can have both.
        pixels = torch.from_numpy(np.require(images, requirements=["C", "W"])).to(self._device)
        autocast = torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16)
        with torch.inference_mode(), evaluating(self._model), autocast:
            logits: NDArray[np.float32] = self._logits(pixels).float().cpu().numpy()
        return logits

    def _forward(self, pixels: Tensor) -> Tensor:
        image = pixels.permute(0, 3, 1, 2).float().div_(255).sub_(self._mean).div_(self._std)
        return self._model.outputs(image.contiguous(memory_format=self._layout))["out"]


def _checked_device(device: str) -> torch.device:
    try:
        checked = torch.device(device)
        torch.empty(0, device=checked)
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error)
        raise ConfigError(f"device is {device!r} ({reason}); give one that is there, such as 'cpu'") from error
    return checked


def _processor(device: torch.device) -> str:
    if device.type == "cpu":
        return f"{cpu_name()}, threads: {torch.get_num_threads()}"
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
