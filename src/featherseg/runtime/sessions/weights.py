"""Networks that are no exported files: run folders, weights, and modules in memory. Their session needs torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ...core.errors import CheckpointError, require
from ...core.types import ClassSet
from .base import Session

HOME = "featherseg.models.opening"
"""Where such sessions are made: a layer above, which the base install lacks, so that it is named and not imported."""


def is_network(source: object) -> bool:
    """Return whether `source` is a torch module or a checkpoint; False in a process that has not imported torch."""
    torch = sys.modules.get("torch")
    parts = source, getattr(source, "model", None)
    return torch is not None and any(isinstance(each, torch.nn.Module) for each in parts)


def is_weights(path: str | Path) -> bool:
    """Return whether a path is of a run folder or weights file, or names published weights; exported files are not."""
    path = Path(path)
    return path.is_dir() or path.suffix.lower() in ("", ".safetensors", ".pth", ".pt") or ":" in path.name


def open_weights(source: Any, *, classes: ClassSet | None = None, **options: Any) -> Session:
    """Open a run folder, a weights file, published weights by name, a checkpoint or a module.

    Args:
        source: a path or what :func:`is_network` says yes to.
        classes: what the logits of a module mean, which does not say so itself.
        options: ``backend``, ``threads``, ``device``, ``precision``; see ``open_network`` in :data:`HOME`.

    Raises:
        MissingExtraError: it needs torch, which the base install leaves out.
        ConfigError: an option is not to be had for it.
        CheckpointError: there is no such file, or it cannot be used.
    """
    is_path = isinstance(source, str | Path)
    if is_path and not Path(source).exists() and ":" not in Path(source).name:
        raise CheckpointError(f"{source} does not exist; give a run folder, weights file or .onnx file")
    what = f"Opening the weights of {source}" if is_path else "Running a network"
    require("torch", "train", what)
    session: Session = require(HOME, "train", what).open_network(source, classes=classes, **options)
    return session
