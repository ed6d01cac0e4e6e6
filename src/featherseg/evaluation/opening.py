"""One way to open whatever was trained or exported, and to segment many images with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, DataError
from ..core.recipes import load_config
from ..data.annotations import recognise
from ..data.class_maps import open_mapped
from ..data.datasets import SegmentationDataset, create_dataset, datasets
from ..runtime.choose import fastest_engine
from ..runtime.fitting import Fit
from ..runtime.model_folder import is_model_folder, main_file
from ..runtime.segmenter import Segmenter
from ..runtime.sessions.base import artifact_suffixes, open_session
from ..runtime.sessions.weights import open_weights

STREET = Path(__file__).parents[1] / "pretrained" / "street.onnx"
"""The network that comes with featherseg: FastSegNet for streets, trained on CamVid; see the README beside it."""
MODEL_SUFFIXES = (*artifact_suffixes(), ".safetensors", ".pth", ".pt")


def split_model(words: Sequence[str | Path]) -> tuple[Path, list[Path]]:
    """Return the model that the first of `words` names, or the one that comes with featherseg, and the rest."""
    first = Path(words[0])
    named = first.suffix.lower() in MODEL_SUFFIXES or (first / "config.toml").is_file() or is_model_folder(first)
    return (first, [Path(word) for word in words[1:]]) if named else (STREET, [Path(word) for word in words])


def open_segmenter(
    source: str | Path = STREET,
    *,
    size: tuple[int, int] | None = None,
    fit: Fit | None = None,
    backend: str = "auto",
    threads: int | None = None,
    device: str = "auto",
    precision: str | None = None,
) -> Segmenter:
    """Open an exported file, or a run folder or weights file, as a segmenter.

    Args:
        source: exported file (``.onnx``, ``.xml``, …), model folder, run folder, ``.safetensors`` or ``.pth``;
            published weights such as ``fddwnet:cityscapes``; the street network that comes with featherseg where left
            out.
        size: (height, width) for the network; images' own where left out.
        fit: how images come to `size`; see :class:`featherseg.runtime.segmenter.Segmenter`.
        backend: engine for an exported file: "auto" for its own, "fastest" for what
            :func:`featherseg.runtime.choose.fastest_engine` finds, or a name that
            :func:`featherseg.runtime.sessions.base.open_session` knows. For weights "pytorch", or "compiled" for
            torch.compile, which takes a minute at the first image of each size.
        threads: of that engine; all that the process may use where left out.
        device: torch device for weights; "auto" takes a CUDA device where there is one.
        precision: what floats are computed in, such as "bf16", for engines that have a choice: OpenVINO, and torch for
            weights; fp32 where left out. With "fastest" also "any", for whichever is fastest.

    Raises:
        MissingExtraError: weights need torch, which the base install leaves out.
        ConfigError: backend, device, threads or precision are not to be had for such a file.
        ArtifactError, CheckpointError: the file cannot be used.

    Example:
        >>> featherseg.open_segmenter("runs/street", size=(64, 96)).size
        (64, 96)
    """
    path = Path(source)
    if is_model_folder(path):
        path = main_file(path)
    if path.suffix.lower() not in artifact_suffixes():
        session = open_weights(path, backend=backend, threads=threads, device=device, precision=precision)
        return Segmenter(session, size=size, fit=fit)
    if backend == "pytorch":
        raise ConfigError(f"backend {backend!r} runs weights; {path} is an exported file: use auto or onnxruntime")
    if device not in ("auto", "cpu"):
        raise ConfigError(f"device is {device!r}, but an exported file runs where its engine does; leave it out")
    if backend == "fastest":
        engine = fastest_engine(path, size=size, threads=threads, precision=precision).engine
        return Segmenter(engine.open(path, threads), size=size, fit=fit)
    given = {"threads": threads, "precision": precision}
    options = {name: value for name, value in given.items() if value is not None}
    return Segmenter(open_session(path, backend, **options), size=size, fit=fit)


def open_labelled(
    source: str | Path,
    training: Mapping[str, Any],
    *,
    root: str | Path | None = None,
    kind: str | None = None,
    split: str | None = None,
) -> SegmentationDataset:
    """Open the labelled split to judge a network on: by default the validation split it was trained beside.

    Args:
        source: what was opened; a run folder (or a file in one) tells where its data are.
        training: what the network says of its training, such as the kind of its data.
        root: folder of the data, where the run folder's is not to be used.
        kind: dataset kind, where it is another than the network's; labels that are no mask files need none.
        split: split's name; the run's validation split, or ``"val"``.

    Raises:
        ConfigError: neither argument nor network says which data to use.
        DataError: the data cannot be used.
    """
    path = Path(source)
    folder = path if path.is_dir() else path.parent
    data = load_config(folder / "config.toml").data if (folder / "config.toml").is_file() else None
    known = data.name if data else training.get("dataset")
    # A user's own loader has no kind, and a stranger's file says anything.
    is_told = kind is not None
    kind = kind or (known if isinstance(known, str) and known in datasets else None)
    if kind is None and root is not None:
        kind = _foreign_kind(root)
    if kind is None:
        raise ConfigError(f"{source} does not say which kind of data it was trained on; give --kind, such as folder")
    same_kind = data is not None and data.name == kind
    if root is None:
        if not same_kind and kind != "synthetic":  # the one kind that needs no folder
            raise ConfigError(f"{source} does not say where {kind} data are; give their folder with --data")
        root = data.root if data is not None and same_kind else ""
    options = data.options if data is not None and same_kind else {}
    classes = data.classes if data is not None and same_kind else {}
    split = split or (data.val_split if data else "val")
    try:
        return open_mapped(kind, root, split, classes, **options)
    except DataError:
        # A folder of another kind than the network's, whose labels speak for themselves.
        other = None if is_told else _foreign_kind(root)
        if other in (None, kind):
            raise
        return create_dataset(other, root, split)


def _foreign_kind(root: str | Path) -> str | None:
    """Return the kind of labels that a folder holds where they are no mask files; None where it holds none.

    Raises:
        ConfigError: it may be several.
    """
    found = recognise(Path(root).expanduser())
    if len(found) > 1:
        seen = "; or ".join(f"{kind} ({evidence.seen})" for kind, evidence in found.items())
        raise ConfigError(f"{root} may be {seen}: say which with --kind")
    return next(iter(found), None)
