"""Pretrained encoder weights: from a local file, or fetched by the library that publishes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from zipfile import is_zipfile

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..core.errors import CheckpointError, ConfigError, first_line
from .archive import check_archive

Weights = Mapping[str, Tensor]


def load_encoder_weights(
    module: nn.Module,
    source: str | Path,
    fetch: Callable[[], Weights],
    select: Callable[[Weights], Weights] = lambda weights: weights,
) -> None:
    """Fill `module` strictly with pretrained weights, in place.

    Args:
        module: the encoder; every parameter and buffer of it must be in the weights, and nothing more.
        source: ``"imagenet"`` for what `fetch` downloads, else a ``.safetensors``, ``.pth`` or ``.pt`` file.
        fetch: downloads the published ImageNet weights (or takes them from the library's own cache).
        select: picks and renames the encoder's tensors out of a file that holds a whole classifier.

    Raises:
        ConfigError: the weights cannot be downloaded, or `source` names no file.
        CheckpointError: the file is unreadable, or its tensors are not this encoder's.
    """
    weights = select(_download(fetch) if source == "imagenet" else _read(Path(source)))
    expected = module.state_dict()
    for name, tensor in expected.items():
        if name not in weights:
            raise CheckpointError(f"encoder weights {source} lack {name!r}; they belong to another network")
        if weights[name].shape != tensor.shape:
            theirs, ours = tuple(weights[name].shape), tuple(tensor.shape)
            raise CheckpointError(f"encoder weights {source}: {name!r} is {theirs}, the network's is {ours}")
    if extra := sorted(set(weights) - set(expected)):
        raise CheckpointError(f"encoder weights {source} hold {extra[0]!r}, which the network has not")
    module.load_state_dict(dict(weights), strict=True)


def _download(fetch: Callable[[], Weights]) -> Weights:
    try:
        return fetch()
    except Exception as error:  # each library raises its own kinds when offline
        raise ConfigError(
            f"pretrained weights cannot be downloaded ({first_line(error)}); "
            'name a local file with encoder_weights="path.safetensors", or leave it out to train from scratch'
        ) from error


def _read(path: Path) -> Weights:
    if not path.is_file():
        raise ConfigError(f'encoder_weights is "{path}", which is no file; give a .safetensors file or "imagenet"')
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if is_zipfile(path):  # what torchvision has published since long before is none
            check_archive(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a torn file fails in many ways
        raise CheckpointError(f"encoder weights {path} cannot be read ({first_line(error)}); fetch it again") from error
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise CheckpointError(f"encoder weights {path} hold no named tensors; save a state_dict")
    return loaded
