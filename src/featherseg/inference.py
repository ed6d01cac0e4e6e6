"""One way to open whatever was trained or exported, and to segment many images with it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .config import load_config
from .data import create_dataset
from .data.datasets import SegmentationDataset, datasets
from .errors import CheckpointError, ConfigError, DataError, require
from .images import list_images, read_ids, read_image, write_image
from .runtime.choose import fastest_engine
from .runtime.fitting import Fit
from .runtime.segmenter import Prediction, Segmenter, coverage
from .runtime.sessions import Session, artifact_suffixes, checked_threads, open_session
from .texts import shortened

STREET = Path(__file__).parent / "pretrained" / "street.onnx"
"""The network that comes with featherseg: FastSegNet for streets, trained on CamVid; see the README beside it."""
MODEL_SUFFIXES = (*artifact_suffixes(), ".safetensors", ".pth", ".pt")


def split_model(words: Sequence[str | Path]) -> tuple[Path, list[Path]]:
    """Return the model that the first of `words` names, or the one that comes with featherseg, and the rest."""
    first = Path(words[0])
    named = first.suffix.lower() in MODEL_SUFFIXES or (first / "config.toml").is_file()
    return (first, [Path(word) for word in words[1:]]) if named else (STREET, [Path(word) for word in words])


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Return ``"HxW"`` as (height, width); None stays None."""
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text, re.ASCII | re.IGNORECASE)
    if match is None:
        raise ConfigError(f"--size is {shortened(repr(text))}; write height x width, such as 512x1024")
    return int(match[1]), int(match[2])


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
        source: exported file (``.onnx``, ``.xml``, …), run folder, ``.safetensors`` or ``.pth``; the street network
            that comes with featherseg where left out.
        size: (height, width) for the network; images' own where left out.
        fit: how images come to `size`; see :class:`featherseg.runtime.segmenter.Segmenter`.
        backend: engine for an exported file: "auto" for its own, "fastest" for what
            :func:`featherseg.runtime.choose.fastest_engine` finds, or a name that
            :func:`featherseg.runtime.sessions.open_session` knows. For weights "pytorch", or "compiled" for
            torch.compile, which takes a minute at the first image of each size.
        threads: of that engine; all that the process may use where left out.
        device: torch device for weights; "auto" takes a CUDA device where there is one.
        precision: what floats are computed in, such as "bf16", for engines that have a choice: OpenVINO, and torch for
            weights; float32 where left out. With "fastest" also "any", for whichever is fastest.

    Raises:
        MissingExtraError: weights need torch, which the base install leaves out.
        ConfigError: backend, device, threads or precision are not to be had for such a file.
        ArtifactError, CheckpointError: the file cannot be used.
    """
    path = Path(source)
    if path.suffix.lower() not in artifact_suffixes():
        session = _weights_session(path, backend, threads, device, precision)
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


def _weights_session(path: Path, backend: str, threads: int | None, device: str, precision: str | None) -> Session:
    """Return the session of a run folder's or file's weights."""
    if not path.exists():
        raise CheckpointError(f"{path} does not exist; give a run folder, weights file or .onnx file")
    torch = require("torch", "train", f"Opening the weights of {path}")
    from .checkpoint import load_checkpoint
    from .torch_session import TorchSession, describe

    compiled = backend == "compiled"
    if not compiled and backend not in ("auto", "fastest", "torch", "pytorch"):
        raise ConfigError(f"backend {backend!r} runs exported files; {path} holds weights, so export it or use torch")
    checkpoint = load_checkpoint(path)
    if threads is not None:
        torch.set_num_threads(checked_threads(threads))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    artifact = describe(checkpoint.model, checkpoint.classes, checkpoint.training)
    return TorchSession(checkpoint.model, artifact, device=device, precision=precision or "f32", compile=compiled)


@dataclass(frozen=True)
class PredictResult:
    """Files that :func:`predict` wrote.

    Args:
        masks: palette PNGs of class ids.
        overlays: pictures with legend; empty if none were asked for.
        coverage: mean share of the pixels of each class over all images.
    """

    masks: tuple[Path, ...]
    overlays: tuple[Path, ...]
    coverage: dict[str, float]


def find_images(sources: Iterable[str | Path]) -> list[Path]:
    """Return the image files that `sources` (files and folders) mean, in order.

    Raises:
        DataError: a source does not exist, a folder holds none, or two files would share an output's name.
    """
    found: list[Path] = []
    for source in map(Path, sources):
        if source.is_dir():
            images = list_images(source)
            if not images:
                raise DataError(f"no images in {source}; give a folder with .png or .jpg files")
            found += images
        elif source.is_file():
            found.append(source)
        else:
            raise DataError(f"{source} does not exist; give an image or a folder of images")
    stem, count = Counter(path.stem for path in found).most_common(1)[0] if found else ("", 0)
    if count > 1:
        raise DataError(f"{count} images are called {stem!r}, and their masks would overwrite each other; rename them")
    return found


def predict(
    segmenter: Segmenter,
    images: Iterable[Path],
    out: str | Path,
    *,
    overlays: bool = True,
    resume_from: Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> PredictResult:
    """Segment images and write ``out/masks/<name>.png`` and ``out/overlays/<name>.jpg``, each whole or not at all.

    Args:
        segmenter: what segments them.
        images: their files.
        out: folder to write to.
        overlays: whether to write overlays too.
        resume_from: the network's file or folder, to go on where a call before stopped: results that are newer than
            both it and their image stay as they are.
        progress: called with the number of images done.

    Raises:
        DataError: an image cannot be read, a file cannot be written, or would replace an image; what was done before
            stays.
    """
    out = Path(out)
    masks: list[Path] = []
    pictures: list[Path] = []
    shares: Counter[str] = Counter()
    for done, path in enumerate(images, start=1):
        mask, picture = out / "masks" / f"{path.stem}.png", out / "overlays" / f"{path.stem}.jpg"
        if path.resolve() in (mask.resolve(), picture.resolve()):
            raise DataError(f"{path} would be replaced by its own result; choose another folder than {out}")
        results = [mask, picture] if overlays else [mask]
        if resume_from is not None and _newer(results, [path, resume_from]):
            shares.update(coverage(np.asarray(read_ids(mask), np.uint8), segmenter.artifact.classes))
        else:
            prediction: Prediction = segmenter(read_image(path))
            try:
                if overlays:
                    write_image(picture, prediction.overlay())
                prediction.save(mask)
            except OSError as error:
                raise DataError(f"cannot write to {out} ({error.strerror}); choose another folder with -o") from error
            shares.update(prediction.coverage())
        masks.append(mask)
        pictures += results[1:]
        progress(done)
    means = {name: share / len(masks) for name, share in shares.items()} if masks else {}
    return PredictResult(tuple(masks), tuple(pictures), means)


def _newer(results: Iterable[Path], sources: Iterable[Path]) -> bool:
    """Return whether all results are there, none older than any source."""
    if not all(result.is_file() for result in results):
        return False
    return min(r.stat().st_mtime for r in results) >= max(s.stat().st_mtime for s in sources)


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
        kind: dataset kind, where it is another than the network's.
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
    kind = kind or (known if isinstance(known, str) and known in datasets else None)
    if kind is None:
        raise ConfigError(f"{source} does not say which kind of data it was trained on; give --kind, such as folder")
    same_kind = data is not None and data.name == kind
    if root is None:
        if not same_kind and kind != "synthetic":  # the one kind that needs no folder
            raise ConfigError(f"{source} does not say where {kind} data are; give their folder with --data")
        root = data.root if data is not None and same_kind else ""
    options = data.options if data is not None and same_kind else {}
    return create_dataset(kind, root, split or (data.val_split if data else "val"), **options)
