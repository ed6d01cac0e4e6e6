"""Pretrained encoder weights: from a local file, or fetched by the library that publishes them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from zipfile import is_zipfile

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..core.errors import CheckpointError, ConfigError, first_line
from ..core.progress import logger
from .archive import check_archive

Weights = Mapping[str, Tensor]

VARIABLE = "FEATHERSEG_WEIGHTS"
"""Names a folder of weights to look in before anything is fetched; subfolders count."""
SUFFIXES = (".safetensors", ".pth", ".pt")


def weights_folder() -> Path | None:
    """Return the folder that the variable names, if it names one.

    Raises:
        ConfigError: it is no folder.
    """
    given = os.environ.get(VARIABLE, "")
    if not given:
        return None
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"{VARIABLE} is {given}, which is no folder; correct it, or unset it")
    return folder


def load_encoder_weights(
    module: nn.Module,
    source: str | Path,
    encoder: str,
    fetch: Callable[[], Weights],
    select: Callable[[Weights], Weights] = lambda weights: weights,
) -> None:
    """Fill `module` strictly with pretrained weights, in place.

    Args:
        module: the encoder; every parameter and buffer of it must be in the weights, and nothing more.
        source: a ``.safetensors``, ``.pth`` or ``.pt`` file; or ``"imagenet"`` for the file of this encoder in
            :func:`weights_folder`, or where there is none for what `fetch` downloads.
        encoder: its name, as the library has it that publishes the weights.
        fetch: downloads the published ImageNet weights (or takes them from the library's own cache).
        select: picks and renames the encoder's tensors out of a file that holds a whole classifier.

    Raises:
        ConfigError: the weights cannot be downloaded, or `source` names no file.
        CheckpointError: the file is unreadable, or its tensors are not this encoder's.
    """
    if source == "imagenet" and (local := _local(encoder)) is not None:
        logger.info(f"ImageNet weights of {encoder} are from {local}")
        source = local
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


def _local(encoder: str) -> Path | None:
    """Return the encoder's file in the folder of weights: the name may go on after it, as ``mobilenet_v2-7ebf99e0``."""
    folder = weights_folder()
    if folder is None:
        return None
    found = (path for path in sorted(folder.rglob(f"{encoder}*")) if path.suffix in SUFFIXES and path.is_file())
    return next((path for path in found if not path.stem[len(encoder) :][:1].isalnum()), None)


def _download(fetch: Callable[[], Weights]) -> Weights:
    try:
        return fetch()
    except Exception as error:  # each library raises its own kinds when offline
        raise ConfigError(
            f"pretrained weights cannot be downloaded ({first_line(error)}); "
            f"put their file into a folder that the variable {VARIABLE} names, or name it: "
            'encoder_weights="path.safetensors"; or leave it out to train from scratch'
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
