"""From a network to a proven int8 file: quantised within a limit, compared with the network, scored by size."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..core.errors import VerificationError
from ..core.progress import OnProgress, no_progress
from ..core.staging import staged
from ..core.types import ImageArray
from ..data.datasets import SegmentationDataset
from ..evaluation.ways import Ways
from ..exporting.onnx import write_artifact
from ..exporting.targets import TOLERANCES
from ..exporting.verdict import Tolerance, VerifyResult
from ..exporting.verify import export_verified, verify
from ..models.checkpoint import Checkpoint
from ..runtime.artifact import read_artifact
from ..runtime.containers import file_parts
from ..runtime.segmenter import Segmenter
from ..runtime.video.pace import SCALES
from .calibration import calibration_images
from .quantize import QuantizeConfig, QuantizeResult, quantize
from .ranges import Histogram


def export_int8(
    checkpoint: Checkpoint,
    path: str | Path,
    train_set: SegmentationDataset,
    val_set: SegmentationDataset,
    *,
    calibration: int = 48,
    config: QuantizeConfig | None = None,
    progress: OnProgress = no_progress,
) -> tuple[QuantizeResult, VerifyResult]:
    """Write a trained network as one proven int8 file, or not at all; see :func:`quantize_proven`.

    Args:
        checkpoint: the network.
        path: file to write, ending in ``.onnx``.
        train_set: what `calibration` images for the ranges are taken from, spread over it; masks are not used.
        val_set: labelled images to prove it on.
        calibration: how many images ranges are taken from.
        config: limits and engine.
        progress: called with the numbers of images done and of all while the file is compared with the network.
    """
    path, config = Path(path), config or QuantizeConfig()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, f"{path.stem}_fp32.onnx")
        ways = Ways(val_set)
        export_verified(checkpoint, source, val_set, threads=config.threads, ways=ways)
        images = calibration_images(train_set, calibration, spec=checkpoint.model.input_spec)
        return quantize_proven(checkpoint, source, path, images, val_set, config, ways=ways, progress=progress)


def quantize_proven(
    checkpoint: Checkpoint,
    source: str | Path,
    path: str | Path,
    calibration: Sequence[ImageArray],
    val_set: SegmentationDataset,
    config: QuantizeConfig,
    *,
    tolerance: Tolerance | None = None,
    ways: Ways | None = None,
    histograms: dict[str, Histogram] | None = None,
    progress: OnProgress = no_progress,
) -> tuple[QuantizeResult, VerifyResult]:
    """Write an exported fp32 file again in int8 with its verification's figures inside, or not at all.

    Beside what :func:`.quantize.quantize` and :func:`featherseg.exporting.verify.verify` find, the file then says under
    ``"scales"`` of its verification what mIoU it has where the network sees images smaller, for those who have to
    choose between frames a second and masks.

    Args:
        checkpoint: the network.
        source: its fp32 file, proven.
        path: file to write.
        calibration: RGB images for the ranges, at the deployed size.
        val_set: labelled images.
        config: limits, engine and method.
        tolerance: limits of the comparison with the network; those usual for int8 where left out.
        ways: masks of `val_set` by the network and its files, as far as there are some; see :func:`.quantize.quantize`.
        histograms: see there.
        progress: called with the numbers of images done and of all while the file is compared with the network.

    Raises:
        VerificationError: a limit is passed; nothing was written.
    """
    path = Path(path)
    limits = tolerance or replace(TOLERANCES["int8"], max_miou_drop=config.max_drop)
    backend = "openvino" if config.flavour == "openvino" else "onnxruntime"
    ways = ways or Ways(val_set)
    with staged(path) as temporary:
        quantized = quantize(source, temporary, calibration, val_set, config, ways=ways, histograms=histograms)
        verified = verify(
            checkpoint.model,
            temporary,
            val_set,
            tolerance=limits,
            backend=backend,
            threads=config.threads,
            ways=ways,
            progress=progress,
        )
        if not verified.passed:
            raise VerificationError(f"{path.name} was not written: {verified.explanation}")
        scales = {"scales": scores_by_scale(temporary, ways, backend=backend, threads=config.threads)}
        proven = verified.stamped(read_artifact(temporary))
        write_artifact(temporary, replace(proven, verification=proven.verification | scales))
        size = sum(part.stat().st_size for part in file_parts(temporary))
    return replace(quantized, path=path, bytes=size), verified


def scores_by_scale(
    path: str | Path, ways: Ways, *, backend: str = "auto", threads: int | None = None
) -> list[list[float]]:
    """Return pairs of scale and mIoU (0-1): the file's scores where the network sees images at parts of their size."""
    found = []
    for scale in SCALES:
        way = ways.of_file(path, Segmenter(path, scale=scale, backend=backend, threads=threads))
        for index in range(len(ways.dataset)):
            way.score(index)
        found.append([scale, round(float(way.confusion.miou()), 5)])
        if scale != 1:
            ways.forget(way)
    return found
