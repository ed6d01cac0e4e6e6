"""Weights that say what they are, and training states that can be gone on from. Nothing is unpickled.

A weights file is safetensors whose header names network, options and classes, so that it rebuilds its
network with no code from the user. ``.pth`` files hold the same for those who expect them, and are read
with torch's restricted loader.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from .errors import CheckpointError, FeathersegError, first_line
from .images import write_atomically
from .models import SegmentationModel, create_model
from .types import ClassSet, InputSpec

HEADER = "featherseg"


@dataclass(frozen=True)
class Checkpoint:
    """A trained network with what is known of it.

    Args:
        model: in eval mode.
        classes: what its channels mean.
        training: data, epochs and figures, of JSON types.
    """

    model: SegmentationModel
    classes: ClassSet
    training: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> Path:
    """Write a network's weights and description, atomically: ``.safetensors``, or ``.pth``/``.pt``.

    Raises:
        CheckpointError: another suffix, or a network that is not registered and so could not be rebuilt.
    """
    path, model = Path(path), checkpoint.model
    if not model.name:
        raise CheckpointError(f"{type(model).__name__} is not registered and could not be rebuilt; use register_model")
    text = json.dumps(
        {
            "network": model.name,
            "num_classes": model.num_classes,
            "options": model.options,
            "classes": checkpoint.classes.to_dict(),
            "input_spec": {"mean": model.input_spec.mean, "std": model.input_spec.std},
            "training": checkpoint.training,
        }
    )
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if path.suffix == ".safetensors":
        return write_atomically(path, lambda file: file.write(safetensors_bytes(weights, {HEADER: text})))
    if path.suffix in (".pth", ".pt"):
        return write_atomically(path, lambda file: torch.save({HEADER: text, "weights": weights}, file))
    raise CheckpointError(f"{path}: weights cannot be written as {path.suffix!r}; use .safetensors or .pth")


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Rebuild a network from a weights file or a run folder (its best weights).

    Raises:
        CheckpointError: missing, torn, not featherseg's, or weights that do not fit the network they name.
    """
    path = weights_file(Path(path))
    text, weights = _read(path)
    try:
        header = json.loads(text)
        classes = ClassSet.from_dict(header["classes"])
        if 1 <= header["num_classes"] != len(classes):  # before a network of a million classes is built
            raise CheckpointError(f"{len(classes)} classes for {header['num_classes']} logits; restore the file")
        model = create_model(header["network"], header["num_classes"], **header["options"])
        spec = header["input_spec"]
        model.input_spec = InputSpec(tuple(spec["mean"]), tuple(spec["std"]))
        training = dict(header["training"])
    except FeathersegError as error:
        raise CheckpointError(f"{path} describes a network that cannot be built: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise CheckpointError(f"{path} has a damaged description ({reason}); restore the file") from error
    load_weights(model, weights, path)
    return Checkpoint(model.eval(), classes, training)


def start_options(source: str | Path, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the builder's options for a network `name` that starts from the weights in `source`.

    They are those of the network there, so that one that was pruned keeps its shape, with `options` over them. Weights
    of another network say nothing.

    Args:
        source: run folder or weights file.
        name: what the network is registered as.
        options: as the user gave them.

    Raises:
        CheckpointError: it is missing, torn or not featherseg's.
    """
    path = weights_file(Path(source))
    text, _ = _read(path)
    try:
        header = json.loads(text)
        known = dict(header["options"]) if header["network"] == name else {}
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise CheckpointError(f"{path} has a damaged description ({reason}); restore the file") from error
    return known | dict(options)


def load_weights(model: SegmentationModel, weights: Mapping[str, Tensor], source: Path) -> None:
    """Fill a network strictly; the error names the first tensor that does not fit, and both shapes."""
    for name, tensor in model.state_dict().items():
        if name not in weights:
            raise CheckpointError(f"{source} lacks {name!r}; it belongs to another network than {model.name}")
        if weights[name].shape != tensor.shape:
            theirs, ours = tuple(weights[name].shape), tuple(tensor.shape)
            raise CheckpointError(
                f"{source}: {name!r} is {theirs}, but {model.name} with {model.num_classes} classes has {ours}; "
                "give the num_classes and options it was trained with"
            )
    if extra := sorted(set(weights) - set(model.state_dict())):
        raise CheckpointError(f"{source} holds {extra[0]!r}, which {model.name} has not; it is another network's")
    model.load_state_dict(dict(weights))


def weights_file(path: Path) -> Path:
    """Return the file that `path` means: itself, or a run folder's ``best.safetensors`` or ``last.safetensors``."""
    if path.is_dir():
        files = (path / "best.safetensors", path / "last.safetensors")
        found = next((file for file in files if file.is_file()), None)
        if found is None:
            raise CheckpointError(f"run folder {path} holds no best.safetensors or last.safetensors; train first")
        return found
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give a run folder or a weights file")
    return path


def _read(path: Path) -> tuple[str, dict[str, Tensor]]:
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                text = (file.metadata() or {}).get(HEADER, "")
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
            known = loaded if isinstance(loaded, dict) else {}
            text, weights = known.get(HEADER, ""), known.get("weights", {})
    except Exception as error:  # torn files fail in many ways, in two libraries
        raise CheckpointError(
            f"{path} cannot be read ({first_line(error)}); restore the file or train again"
        ) from error
    if not isinstance(text, str) or not text:
        raise CheckpointError(
            f"{path} was not written by featherseg and does not say which network it is; give a run's weights"
        )
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise CheckpointError(f"{path} holds no named tensors; restore the file or train again")
    return text, weights


def save_state(path: Path, state: Any) -> Path:
    """Write a tree of dicts, lists, tensors and JSON scalars (an optimiser's state, say), atomically."""
    tensors: dict[str, Tensor] = {}

    def flatten(node: Any) -> Any:
        if isinstance(node, Tensor):
            place = str(len(tensors))  # paths of keys would not be unique: {"a": {"b": …}} and {"a.b": …}
            tensors[place] = node.detach().cpu().contiguous().clone()
            return {"tensor": place}
        if isinstance(node, Mapping):
            # JSON would turn an optimiser's integer keys into strings; pairs keep them.
            return {"dict": [[key, flatten(value)] for key, value in node.items()]}
        if isinstance(node, list | tuple):
            return {"list": [flatten(value) for value in node]}
        return {"value": node}

    text = json.dumps(flatten(state))
    return write_atomically(path, lambda file: file.write(safetensors_bytes(tensors, {HEADER: text})))


def load_state(path: Path) -> Any:
    """Read what :func:`save_state` wrote; tuples come back as lists."""
    text, tensors = _read(path)

    def build(node: dict[str, Any]) -> Any:
        if "tensor" in node:
            return tensors[node["tensor"]]
        if "dict" in node:
            return {key: build(value) for key, value in node["dict"]}
        if "list" in node:
            return [build(value) for value in node["list"]]
        return node["value"]

    try:
        return build(json.loads(text))
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise CheckpointError(f"{path} is no whole training state ({reason}); start again from the weights") from error
