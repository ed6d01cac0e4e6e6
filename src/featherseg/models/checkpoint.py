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
from torch import Tensor, nn

from ..core.errors import CheckpointError, FeathersegError, UnfitWeightsError, first_line
from ..core.files import write_atomically
from ..core.text_files import parse_json, shortened
from ..core.types import ClassSet, InputSpec
from .archive import check_archive
from .base import SegmentationModel
from .factory import FETCHING, create_model
from .foreign import as_network, is_foreign

HEADER = "featherseg"

MAX_WEIGHTS_BYTES = 8 << 30
"""Of a network that is rebuilt; files can be larger than the disk they are on, as sparse ones are."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained network with what is known of it.

    Args:
        model: in eval mode.
        classes: what its channels mean.
        training: data, epochs and figures, of JSON types.

    Example:
        >>> best = featherseg.load_checkpoint("runs/street")
        >>> best.model.name, best.training["dataset"]
        ('jetnet', 'synthetic')
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
            "input_spec": model.input_spec.to_dict(),
            "training": checkpoint.training,
        }
    )
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if path.suffix == ".safetensors":
        return write_atomically(path, lambda file: file.write(safetensors_bytes(weights, {HEADER: text})))
    if path.suffix in (".pth", ".pt"):
        return write_atomically(path, lambda file: torch.save({HEADER: text, "weights": weights}, file))
    raise CheckpointError(f"{path}: weights cannot be written as {path.suffix!r}; use .safetensors or .pth")


def as_checkpoint(model: Checkpoint | nn.Module, classes: ClassSet) -> Checkpoint:
    """Return a network in memory with what its channels mean; a checkpoint says that itself.

    Raises:
        ConfigError: no such module can be used; see :func:`featherseg.models.foreign.wrap`.
    """
    return model if isinstance(model, Checkpoint) else Checkpoint(as_network(model), classes)


def load_checkpoint(path: str | Path, *, model: nn.Module | None = None) -> Checkpoint:
    """Rebuild a network from a weights file or a run folder (its best weights).

    Args:
        path: of the file or folder.
        model: the network itself, which is filled; weights of a module that :func:`featherseg.wrap` made a network of
            need it, unless its builder is registered, since no file holds code.

    Raises:
        CheckpointError: missing, torn, not featherseg's, or weights that do not fit the network they name.

    Example:
        >>> featherseg.load_checkpoint("runs/street").model.num_classes
        9
    """
    path = weights_file(Path(path))
    text, weights = _read(path)
    try:
        header = parse_json(text)
        classes = ClassSet.from_dict(header["classes"])
        if 1 <= header["num_classes"] != len(classes):  # before a network of a million classes is built
            raise CheckpointError(f"{len(classes)} classes for {header['num_classes']} logits; restore the file")
        options = dict(header["options"])
        if unsafe := next((key for key in FETCHING if key in options), None):
            raise CheckpointError(f"option {unsafe!r} would fetch other weights; restore the file")
        spec = InputSpec.from_dict(header["input_spec"])
        training = dict(header["training"])
        if model is not None:
            network = as_network(model)
            network.input_spec = spec
            load_weights(network, weights, path)
            return Checkpoint(network.eval(), classes, training)
        if is_foreign(header["network"]):
            raise UnfitWeightsError(
                f"{path} holds weights of {header['network'].partition(':')[2]}, a module that no file builds; pass it "
                "in Python: load_checkpoint(..., model=...), or register its builder with register_model"
            )
        with torch.device("meta"):  # shapes alone: what a file says must not fill the memory
            check_weights(create_model(header["network"], header["num_classes"], **options), weights, path)
        network = create_model(header["network"], header["num_classes"], **options)
    except UnfitWeightsError:
        raise
    except FeathersegError as error:
        raise CheckpointError(f"{path} describes a network that cannot be built: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError) as error:
        reason = f"{type(error).__name__}: {shortened(first_line(error), 200)}"
        raise CheckpointError(f"{path} has a damaged description ({reason}); restore the file") from error
    network.input_spec = spec
    load_weights(network, weights, path)
    return Checkpoint(network.eval(), classes, training)


def load_weights(model: SegmentationModel, weights: Mapping[str, Tensor], source: Path) -> None:
    """Fill a network strictly; the error names the first tensor that does not fit, and both shapes."""
    check_weights(model, weights, source)
    model.load_state_dict(dict(weights))


def check_weights(model: SegmentationModel, weights: Mapping[str, Tensor], source: Path) -> None:
    """Refuse weights that do not fit `model`, which may be without memory of its own (on torch's "meta" device).

    Raises:
        CheckpointError: always one line.
    """
    expected = model.state_dict()
    for name, tensor in expected.items():
        if name not in weights:
            raise UnfitWeightsError(f"{source} lacks {name!r}; it belongs to another network than {model.name}")
        if weights[name].shape != tensor.shape:
            theirs, ours = tuple(weights[name].shape), tuple(tensor.shape)
            raise UnfitWeightsError(
                f"{source}: {name!r} is {theirs}, but {model.name} with {model.num_classes} classes has {ours}; "
                "give the num_classes and options it was trained with"
            )
        if weights[name].is_floating_point() != tensor.is_floating_point() or weights[name].is_complex():
            raise UnfitWeightsError(
                f"{source}: {name!r} holds {weights[name].dtype}, {model.name} has {tensor.dtype}; restore the file"
            )
    if extra := sorted(set(weights) - set(expected)):
        shown = shortened(repr(extra[0]))
        raise UnfitWeightsError(f"{source} holds {shown}, which {model.name} has not; it is another network's")
    if (size := sum(tensor.nbytes for tensor in expected.values())) > MAX_WEIGHTS_BYTES:
        raise UnfitWeightsError(f"{source} has weights of {size >> 30} GB; {MAX_WEIGHTS_BYTES >> 30} are the most")


def weights_file(path: Path) -> Path:
    """Return the file that `path` means: itself, or a run folder's ``best.safetensors`` or ``last.safetensors``."""
    try:
        if path.is_dir():
            files = (path / "best.safetensors", path / "last.safetensors")
            found = next((file for file in files if file.is_file()), None)
            if found is None:
                raise CheckpointError(f"run folder {path} holds no best.safetensors or last.safetensors; train first")
            return found
        if not path.is_file():
            raise CheckpointError(f"{path} does not exist; give a run folder or a weights file")
    except OSError as error:  # a name too long, a folder without rights
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); check its name and permissions") from error
    return path


def _read(path: Path) -> tuple[str, dict[str, Tensor]]:
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                text = (file.metadata() or {}).get(HEADER, "")
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        else:
            check_archive(path)
            loaded = torch.load(path, map_location="cpu", weights_only=True)
            known = loaded if isinstance(loaded, dict) else {}
            text, weights = known.get(HEADER, ""), known.get("weights", {})
    except Exception as error:  # torn files fail in many ways, in two libraries
        reason = shortened(first_line(error), 200)
        raise CheckpointError(f"{path} cannot be read ({reason}); restore the file or train again") from error
    if not isinstance(text, str) or not text:
        raise CheckpointError(
            f"{path} was not written by featherseg and does not say which network it is; give a run's weights"
        )
    if not isinstance(weights, dict) or not all(map(_is_whole, weights.items())):
        raise CheckpointError(f"{path} holds no named tensors; restore the file or train again")
    return text, weights


def _is_whole(entry: tuple[Any, Any]) -> bool:
    """Return whether an entry is a name and a tensor with memory for all its values: views can claim more."""
    name, tensor = entry
    return (
        isinstance(name, str)
        and isinstance(tensor, Tensor)
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and tensor.untyped_storage().nbytes() >= tensor.nbytes
    )


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
        return build(parse_json(text))
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {shortened(first_line(error), 200)}"
        raise CheckpointError(f"{path} is no whole training state ({reason}); start again from the weights") from error
