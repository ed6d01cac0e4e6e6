"""Teachers of a distillation: frozen networks, of featherseg's own or of others."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision.models as torchvision_models
from torch import Tensor, nn

from ..core.errors import ConfigError, did_you_mean, first_line
from ..core.types import ClassSet, InputSpec
from ..models.base import SegmentationModel
from ..models.published import open_checkpoint

Maps = dict[str, Tensor]
"""``"out"``: logits at a network's own stride; ``"x4"``, ``"x8"``, ``"x16"``: feature taps."""

TORCHVISION = "torchvision:"
"""How the name of a teacher of torchvision's starts."""


class Teacher:
    """A frozen network with what its channels mean and how it wants its images.

    It is no module on purpose: the objective that holds it neither trains it, nor saves it, nor puts it in train mode.

    Args:
        network: a module, of which a copy is kept, frozen and in eval mode; or any other callable, which is called as
            it is. Either takes a normalised image, float (B, 3, H, W), and returns logits (B, C, h, w) of any size, or
            a dict with them as ``"out"`` and with feature taps such as ``"x8"`` beside them.
        classes: what its C channels mean.
        input_spec: normalisation it expects.
    """

    def __init__(
        self, network: nn.Module | Callable[[Tensor], Any], classes: ClassSet, input_spec: InputSpec | None = None
    ) -> None:
        self.classes = classes
        self.input_spec = input_spec or InputSpec()
        self.network = network
        if isinstance(network, nn.Module):
            self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @property
    def module(self) -> nn.Module | None:
        """What has a device to be moved to; None for a callable that looks after itself."""
        return self.network if isinstance(self.network, nn.Module) else None

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Maps:
        """Return the maps of an image that is normalised for the teacher, without a gradient."""
        call = self.network.outputs if isinstance(self.network, SegmentationModel) else self.network
        found: Any = call(image)
        maps = dict(found) if isinstance(found, Mapping) else {"out": found}
        logits = maps.get("out")
        if not isinstance(logits, Tensor) or logits.ndim != 4 or logits.shape[1] != len(self.classes):
            shown = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ConfigError(f"the teacher's logits are {shown}; {len(self.classes)} classes need (B, C, h, w)")
        return {name: x.detach() for name, x in maps.items() if isinstance(x, Tensor)}


def load_teacher(source: str | Path) -> Teacher:
    """Return the teacher that a recipe names.

    Args:
        source: a featherseg run folder or weights file; ``"fddwnet:cityscapes"`` and the like, published weights of a
            network by the data they were trained on; or ``"torchvision:fcn_resnet50"`` and the like (``fcn_*``,
            ``deeplabv3_*``), trained by torchvision on COCO for VOC's 21 classes. Weights are downloaded once.

    Raises:
        CheckpointError: the file is missing, torn or not featherseg's.
        ConfigError: torchvision has no such network, or its weights cannot be downloaded; no such weights are
            published.
        DownloadError: published weights are not here and cannot be fetched.
    """
    if str(source).startswith(TORCHVISION):
        return _torchvision_teacher(str(source).removeprefix(TORCHVISION))
    checkpoint = open_checkpoint(source)
    return Teacher(checkpoint.model, checkpoint.classes, checkpoint.model.input_spec)


class _TorchvisionNetwork(nn.Module):
    """Logits at the network's own stride: torchvision's ``forward`` upsamples them to the image's size."""

    def __init__(self, network: Any, tap: str) -> None:
        super().__init__()
        self.backbone, self.classifier, self.tap = network.backbone, network.classifier, tap

    def forward(self, image: Tensor) -> Maps:
        features = self.backbone(image)["out"]
        return {"out": self.classifier(features), self.tap: features}


def _torchvision_teacher(name: str) -> Teacher:
    listed = torchvision_models.list_models(module=torchvision_models.segmentation)
    known = [n for n in listed if n.startswith(("fcn_", "deeplabv3_"))]
    if name not in known:
        raise ConfigError(f"unknown torchvision teacher {name!r}; {did_you_mean(name, known)}")
    weights = torchvision_models.get_model_weights(name).DEFAULT
    names = [category.strip("_") for category in weights.meta["categories"]]  # "__background__"
    network = torchvision_models.get_model(
        name, weights=None, weights_backbone=None, num_classes=len(names), aux_loss=True
    )
    try:
        network.load_state_dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except Exception as error:  # offline, a proxy's page, a torn file in the cache: all fail in their own ways
        raise ConfigError(
            f"weights of {name} cannot be loaded ({first_line(error)}); go online, or put {weights.url} into "
            f"{Path(torch.hub.get_dir()) / 'checkpoints'}"
        ) from error
    spec = weights.transforms()
    # Dilation keeps ResNets at stride 8 and MobileNetV3 at stride 16.
    tapped = _TorchvisionNetwork(network, "x16" if "mobilenet" in name else "x8")
    return Teacher(tapped, ClassSet(tuple(names)), InputSpec(tuple(spec.mean), tuple(spec.std)))
