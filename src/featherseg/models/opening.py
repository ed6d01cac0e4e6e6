"""Sessions of networks that are no exported files: of run folders, weights files and modules in memory."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ..core.errors import ConfigError
from ..core.types import ClassSet
from ..runtime.sessions.base import checked_threads
from .base import SegmentationModel
from .checkpoint import Checkpoint, as_checkpoint
from .foreign import as_network
from .published import open_checkpoint
from .session import TorchSession, describe

BACKENDS = ("auto", "fastest", "torch", "pytorch", "compiled")


def open_network(
    source: str | Path | Checkpoint | nn.Module,
    *,
    classes: ClassSet | None = None,
    backend: str = "auto",
    threads: int | None = None,
    device: str = "auto",
    precision: str | None = None,
) -> TorchSession:
    """Return the session of a network.

    Args:
        source: run folder, weights file, published weights such as ``fddwnet:cityscapes``, checkpoint, or module.
        classes: of a module's logits; ``class_0``, ``class_1``, … where left out.
        backend: "compiled" for torch.compile; all others that are not of exported files are the same.
        threads: of torch, in this process; as they are where left out.
        device: of torch; "auto" is where a network in memory lies, and a CUDA device for files where there is one.
        precision: fp32 where left out.

    Raises:
        ConfigError: backend, device, threads or precision are not to be had, or the module cannot be used.
        CheckpointError: the file cannot be used.
    """
    is_path = isinstance(source, str | Path)
    if backend not in BACKENDS:
        what = f"{source} holds weights" if is_path else "this is a network in memory"
        raise ConfigError(f"backend {backend!r} runs exported files; {what}, so export it or use torch")
    if isinstance(source, str | Path):
        checkpoint = open_checkpoint(source)
    elif isinstance(source, Checkpoint):
        checkpoint = source
    else:
        network = as_network(source)
        checkpoint = as_checkpoint(network, classes or made_up_classes(network))
    if threads is not None:
        torch.set_num_threads(checked_threads(threads))
    if device == "auto" and is_path:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "auto":
        device = str(next((tensor.device for tensor in checkpoint.model.state_dict().values()), "cpu"))
    artifact = describe(checkpoint.model, checkpoint.classes, checkpoint.training)
    compiled = backend == "compiled"
    return TorchSession(checkpoint.model, artifact, device=device, precision=precision or "fp32", compile=compiled)


def made_up_classes(model: SegmentationModel) -> ClassSet:
    """Return classes ``class_0``, ``class_1``, … for a network whose own are not known."""
    return ClassSet(tuple(f"class_{i}" for i in range(model.num_classes)))
