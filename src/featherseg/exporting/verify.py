"""Proof that an exported file does what the network does: on real images, through the deployed path, in figures.

First the logits, at several sizes. Then, over a dataset, the masks of the deployed path (the file, its own
normalisation, the runtime's resizing) against those of plain torch, and what either is worth against the truth.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.errors import ArtifactError, ConfigError, DataError, VerificationError
from ..core.progress import OnProgress, no_progress
from ..core.types import MIN_SIZE, ImageArray, MaskArray
from ..data.datasets import SegmentationDataset
from ..evaluation.calibration import Calibration, Pixels, fitted, judged
from ..evaluation.ways import LogitsAt, Way, Ways
from ..models.base import SegmentationModel
from ..models.checkpoint import Checkpoint, as_checkpoint
from ..models.foreign import as_network
from ..models.session import describe
from ..runtime.artifact import read_artifact
from ..runtime.fitting import resized
from ..runtime.segmenter import Segmenter
from ..runtime.sessions.base import Session
from .locate import first_divergence
from .onnx import atomic_path, export_onnx, onnx_path, write_artifact
from .verdict import Parity, Quality, Tolerance, VerifyResult

PARITY_SIZES = ((64, 96), (256, 512), (333, 517))
"""(height, width) of the logit comparison: the smallest, a usual one, and one that no stride divides."""
PARITY_IMAGES = 2
"""Images of the logit comparison at each size; they go in as one batch."""

MIN_DIVERGENCE = 0.01
"""Relative difference of a layer's activations that is no rounding, whatever the limit for logits."""

"""Called with images done and images in all."""


def verify(
    model: nn.Module,
    artifact_path: str | Path,
    dataset: SegmentationDataset,
    *,
    sizes: Sequence[tuple[int, int]] | None = None,
    tolerance: Tolerance | None = None,
    backend: str = "auto",
    threads: int | None = None,
    ways: Ways | None = None,
    progress: OnProgress = no_progress,
) -> VerifyResult:
    """Compare an exported file with the network it came from. The network should be trained: random ones hide faults.

    Args:
        model: the network, or any module that :func:`featherseg.wrap` takes; compared on the CPU in fp32 and eval mode,
            and left as it is.
        artifact_path: the exported file.
        dataset: labelled images, such as the validation split.
        sizes: (height, width) of the logit comparison; ``PARITY_SIZES`` where left out, or a fixed file's one.
        tolerance: the limits; :class:`Tolerance`'s defaults where not given.
        backend: engine to run the file with.
        threads: threads of that engine.
        ways: masks of `dataset` by this network, unchanged since, and by other files, where there are some: what was
            made for one comparison serves the next.
        progress: called with the numbers of images done and of all.

    Returns:
        The figures; whether they are good enough is :attr:`VerifyResult.passed`.

    Raises:
        ConfigError: the dataset's classes are not the file's, or `sizes` is empty or too small.
        ArtifactError: the file cannot be opened.
        VerificationError: it cannot run at one of the sizes or images.

    Example:
        >>> val_set = featherseg.create_dataset("synthetic", split="val", val_count=2, size=(64, 96))
        >>> best = featherseg.load_checkpoint("runs/street")
        >>> featherseg.verify(best.model, "street.onnx", val_set).passed
        True
    """
    model = as_network(model)
    segmenter = Segmenter(artifact_path, backend=backend, threads=threads)
    classes = segmenter.artifact.classes
    if dataset.classes.names != classes.names:
        raise ConfigError(
            f"dataset {dataset.name} has classes {', '.join(dataset.classes.names)} but the file has "
            f"{', '.join(classes.names)}; verify on the dataset it was trained on"
        )
    if len(dataset) == 0:
        raise DataError(f"dataset {dataset.name} {dataset.split} is empty; verify on one with images")
    if sizes is None:
        sizes = (segmenter.size,) if segmenter.size else PARITY_SIZES
    if not sizes or min(min(size) for size in sizes) < MIN_SIZE:
        raise ConfigError(f"sizes is {list(sizes)}; give at least one (height, width) from {MIN_SIZE} each")
    # A copy, so that a network on a GPU, in training or in bf16 is compared as the plain one it stands for.
    net = copy.deepcopy(model).to("cpu", torch.float32).eval()
    try:
        parity = tuple(_parity(net, segmenter.session, dataset, size) for size in sizes)
        ways = ways or Ways(dataset)
        file = ways.of_file(artifact_path, segmenter)
        masks = _compare_masks(file, _reference(ways, model, net, segmenter.size), ways.dataset, progress)
    except ArtifactError as error:
        raise VerificationError(f"{artifact_path} does not run where its network does: {error}") from error
    result = VerifyResult(
        classes=classes,
        dataset=f"{dataset.name} {dataset.split}",
        images=len(dataset),
        session=segmenter.device,
        parity=parity,
        agreement=masks.agreement,
        worst_image=masks.worst_image,
        file=masks.file,
        torch=masks.torch,
        tolerance=tolerance or Tolerance(),
        calibration=masks.calibration,
        confidence_error=masks.confidence_error,
    )
    return result if result.passed else replace(result, place=_place(net, Path(artifact_path), dataset, result))


def export_verified(
    checkpoint: Checkpoint | nn.Module,
    path: str | Path,
    dataset: SegmentationDataset,
    tolerance: Tolerance | None = None,
    *,
    sizes: Sequence[tuple[int, int]] = PARITY_SIZES,
    threads: int | None = None,
    transform: Callable[[Path], object] = lambda path: None,
    ways: Ways | None = None,
    progress: OnProgress = no_progress,
) -> VerifyResult:
    """Export a trained network to `path` with its verification's figures inside, or not at all.

    The file gets its name only after it has passed; a file that was there before stays as it is until then.

    Args:
        checkpoint: network, classes and training facts; see :func:`featherseg.models.checkpoint.load_checkpoint`. Or a
            network alone, whose classes are the dataset's; see :func:`featherseg.wrap`.
        path: file to write, ending in ``.onnx``.
        dataset: labelled images, such as the validation split.
        tolerance: the limits; :class:`Tolerance`'s defaults where not given.
        sizes: (height, width) of the logit comparison.
        threads: threads of the engine that runs the file.
        transform: rewrites the exported file in place before it is verified, such as
            :func:`featherseg.compress.weights_int8.store_int8`.
        ways: see :func:`verify`.
        progress: called with the numbers of images done and of all.

    Raises:
        VerificationError: a figure is past the tolerance; nothing was written.

    Example:
        >>> val_set = featherseg.create_dataset("synthetic", split="val", val_count=2, size=(64, 96))
        >>> best = featherseg.load_checkpoint("runs/street")
        >>> featherseg.export_verified(best, "proven.onnx", val_set).agreement > 0.999
        True
    """
    checkpoint = as_checkpoint(checkpoint, dataset.classes)
    model = checkpoint.model
    artifact = describe(model, checkpoint.classes, checkpoint.training)
    with atomic_path(onnx_path(path)) as temporary:
        export_onnx(model, temporary, artifact)
        transform(temporary)
        result = verify(
            model,
            temporary,
            dataset,
            sizes=sizes,
            tolerance=tolerance,
            threads=threads,
            ways=ways,
            progress=progress,
        )
        if not result.passed:
            raise VerificationError(f"{path} was not written: {result.explanation}")
        write_artifact(temporary, result.stamped(read_artifact(temporary)))
    return result


def _place(net: SegmentationModel, path: Path, dataset: SegmentationDataset, result: VerifyResult) -> str:
    """Return where the file parts from its network, as far as that can be told."""
    if path.suffix.lower() != ".onnx":
        return ""
    size = result.parity[0].size
    image = np.asarray(cv2.resize(dataset.read(0)[0], size[::-1]), np.uint8)
    found = first_divergence(net, path, image, limit=max(MIN_DIVERGENCE, result.tolerance.max_logit_error))
    return str(found) if found else ""


@dataclass(frozen=True)
class _Masks:
    """What comparing the masks found; see :class:`VerifyResult`."""

    agreement: float
    worst_image: tuple[str, float]
    file: Quality
    torch: Quality
    calibration: Calibration | None
    confidence_error: float


def _reference(ways: Ways, model: nn.Module, net: SegmentationModel, size: tuple[int, int] | None) -> Way:
    """Return the way of the network alone; `net` is the copy of `model` that computes."""
    # Channels last is the same arithmetic in three quarters of the time. The logits were compared without.
    net = net.to(memory_format=torch.channels_last)

    def look(image: ImageArray) -> tuple[MaskArray, LogitsAt]:
        full = _torch_logits(net, image, size)
        mask: MaskArray = full.argmax(dim=0).to(torch.uint8).numpy()
        return mask, lambda rows, columns: full[:, rows, columns].T.contiguous().numpy()

    return ways.of((model, size), look)


def _quality(way: Way) -> Quality:
    iou = tuple(float(value) for value in way.confusion.iou())
    return Quality(float(way.confusion.miou()), iou, float(way.boundary.mean()))


def _parity(net: SegmentationModel, session: Session, dataset: SegmentationDataset, size: tuple[int, int]) -> Parity:
    """Compare the logits of a few images, spread over the dataset, resized to `size`."""
    indices = sorted({round(i) for i in np.linspace(0, len(dataset) - 1, PARITY_IMAGES)})
    images = [np.asarray(cv2.resize(dataset.read(i)[0], size[::-1]), np.uint8) for i in indices]
    normalized = torch.from_numpy(np.stack([net.input_spec.normalize(image) for image in images]))
    with torch.inference_mode():
        expected = net.outputs(normalized)["out"].numpy()
    actual = session.run(np.stack(images))
    if actual.shape != expected.shape:
        return Parity(size, math.inf, math.inf, dataset.stem(indices[0]))
    absolute = np.abs(actual - expected).max(axis=(1, 2, 3))
    relative = absolute / np.maximum(np.abs(expected).max(axis=(1, 2, 3)), np.finfo(np.float32).tiny)
    worst = int(np.argmax(relative))  # NaN counts as the largest
    return Parity(size, float(absolute.max()), float(relative[worst]), dataset.stem(indices[worst]))


def _compare_masks(file: Way, reference: Way, dataset: SegmentationDataset, progress: OnProgress) -> _Masks:
    """Segment every image both ways, and judge both by the truth."""
    equal, total, worst = 0, 0, ("", math.inf)
    for i in range(len(dataset)):
        for way in (file, reference):
            way.score(i, boundary=True)
        ours, theirs = file.mask(i), reference.mask(i)
        same = int(np.count_nonzero(ours == theirs))
        equal, total = equal + same, total + ours.size
        worst = min(worst, (dataset.stem(i), same / ours.size), key=lambda entry: entry[1])
        progress(i + 1, len(dataset))
    confidence = _compare_confidence(file.pixels(), reference.pixels(), dataset)
    return _Masks(equal / total, worst, _quality(file), _quality(reference), *confidence)


def _compare_confidence(ours: Pixels, theirs: Pixels, dataset: SegmentationDataset) -> tuple[Calibration | None, float]:
    """Return the file's calibration, and the mean difference of both sides' confidence, each at its own temperature."""
    counts = {len(pixels.whole()[1]) for pixels in (ours, theirs)}
    if counts == {0} or len(counts) > 1:  # nothing is labelled, or logits are no numbers, which other limits are for
        return None, math.nan
    name = f"{dataset.name} {dataset.split}"
    sides = []
    for pixels in (ours, theirs):
        calibration = fitted(pixels, name)
        sides.append((calibration, judged(*pixels.whole(), calibration.temperature)[0]))
    (calibration, confidence), (_, expected) = sides
    return calibration, float(np.abs(confidence - expected).mean())


def _torch_logits(net: SegmentationModel, image: ImageArray, size: tuple[int, int] | None = None) -> Tensor:
    """Return full-size logits (C, H, W) by the network alone, nothing of the deployed path.

    `size` is the one (height, width) that the file takes, if it does; the network then sees the same picture.
    """
    seen = resized(image, size or net.input_spec.size(image.shape[:2]))
    with torch.inference_mode():
        pixels = torch.from_numpy(net.input_spec.normalize(seen))[None].to(memory_format=torch.channels_last)
        return F.interpolate(net.outputs(pixels)["out"], size=image.shape[:2], mode="bilinear", align_corners=False)[0]
