"""The files of a network that is shipped: each written, proven, or told why it is not; and how fast each is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from ..compress.quantize import quantize_within
from ..core.config import ShipConfig
from ..core.errors import ConfigError, VerificationError, require
from ..core.progress import counting, say
from ..core.types import ClassSet, ImageArray, Latency
from ..data.datasets import SegmentationDataset
from ..evaluation.benchmark import time_in_turns
from ..exporting.onnx import write_artifact
from ..exporting.targets import TOLERANCES, Target, export_target_verified, targets
from ..exporting.verify import Quality, Tolerance, VerifyResult, verify
from ..models.checkpoint import Checkpoint
from ..runtime.artifact import read_artifact
from ..runtime.containers import file_parts
from ..runtime.segmenter import Segmenter
from ..runtime.sessions.cuda import Driver, DriverError
from .report.figures import ShippedFile, latency_table

INT8_FLAVOURS = {"onnx": "onnxruntime", "openvino": "openvino"}
"""Flavour of int8 by target, of those that are proven on this machine. Either is an ONNX file: OpenVINO runs that as
fast as its own format, whose graph in text takes up to half as much room as the weights."""
INT8_ENDINGS = {"onnx": "_int8.onnx", "openvino": "_int8_openvino.onnx"}
ROUNDS, WARMUP = 30, 5
"""Timed runs of each file, and those before them that are not counted."""


@dataclass(frozen=True)
class Made:
    """A file that was written and proven, or why it does not exist.

    Args:
        path: of the file, whether it exists or not.
        target: what it is exported for.
        precision: ``"fp32"`` or ``"int8"``.
        verified: its figures; None where it failed.
        failure: why it does not exist.
        note: what is to be known of it.
    """

    path: Path
    target: str
    precision: str
    verified: VerifyResult | None
    failure: str = ""
    note: str = ""

    @property
    def parts(self) -> list[Path]:
        """The file and those that it needs beside it."""
        return file_parts(self.path)


def tolerance(config: ShipConfig, precision: str) -> Tolerance:
    """Return the limits of a precision: the usual ones, with those that the configuration sets."""
    limits = TOLERANCES[precision]
    if precision == "int8":
        limits = replace(limits, max_miou_drop=config.max_drop)
    chosen: Mapping[str, Any] = {}
    for name, own in config.tolerances.items():
        if name == precision:
            chosen = {key: value for key, value in msgspec.structs.asdict(own).items() if value is not None}
    return replace(limits, **chosen)


def check_targets(chosen: Sequence[Target], config: ShipConfig) -> None:
    """Refuse, before any work, what could not be written or proven on this machine.

    Raises:
        ConfigError: a target's engine cannot run here.
        MissingExtraError: its packages are not installed.
    """
    for target in chosen:
        if target.name == "openvino":
            require("openvino", target.extra, "Exporting for OpenVINO")
        if target.name == "tensorrt":
            try:
                Driver(0)
            except DriverError as error:
                raise ConfigError(
                    f"target 'tensorrt' cannot be proven here ({error}), and nothing unproven is shipped; ship on its "
                    "device, or write it alone: featherseg export RUN --to tensorrt --unproven"
                ) from error
    if config.int8 and not any(target.name in INT8_FLAVOURS for target in chosen):
        raise ConfigError(f"int8 is of the targets {' and '.join(INT8_FLAVOURS)}; add one of them")


def make_files(
    checkpoint: Checkpoint,
    proven: tuple[Path, VerifyResult],
    chosen: Sequence[Target],
    config: ShipConfig,
    val_set: SegmentationDataset,
    calibration: Callable[[], Sequence[ImageArray]],
    quiet: bool = False,
) -> list[Made]:
    """Write a network's files beside its proven ONNX file; those that fail are not there, and say why.

    Args:
        checkpoint: the network.
        proven: its float32 ONNX file, and that file's figures.
        chosen: targets to write.
        config: precisions and limits.
        val_set: labelled images to prove files on.
        calibration: returns the images that int8 is calibrated with; called only where it is needed.
        quiet: show no progress.
    """
    source, verified = proven
    made: list[Made] = []
    images: Sequence[ImageArray] | None = None
    for target in chosen:
        if target.name == "onnx":
            made.append(Made(source, "onnx", "fp32", verified))
        else:
            path = source.with_suffix(target.suffix)
            made.append(_float_file(target, checkpoint, source, path, config, val_set, quiet))
        if config.int8 and target.name in INT8_FLAVOURS:
            if images is None:
                images = calibration()
            path = source.with_name(source.stem + INT8_ENDINGS[target.name])
            made.append(_int8_file(target, checkpoint, source, path, images, config, val_set, quiet))
    return made


def _float_file(
    target: Target,
    checkpoint: Checkpoint,
    source: Path,
    path: Path,
    config: ShipConfig,
    val_set: SegmentationDataset,
    quiet: bool,
) -> Made:
    try:
        with counting(f"verify {path.name}", len(val_set), quiet=quiet) as progress:
            verified = export_target_verified(
                target.name,
                checkpoint,
                source,
                path,
                val_set,
                tolerance(config, "fp32"),
                threads=config.threads or None,
                progress=lambda done, total: progress(done),
            )
    except VerificationError as error:
        return Made(path, target.name, "fp32", None, str(error))
    return Made(path, target.name, "fp32", verified)


def _int8_file(
    target: Target,
    checkpoint: Checkpoint,
    source: Path,
    path: Path,
    images: Sequence[ImageArray],
    config: ShipConfig,
    val_set: SegmentationDataset,
    quiet: bool,
) -> Made:
    threads = config.threads or None
    try:
        result = quantize_within(
            source,
            path,
            images,
            val_set,
            max_drop=config.max_drop,
            flavour=INT8_FLAVOURS[target.name],
            threads=threads,
            progress=lambda message: say(f"{path.name}: {message}", quiet),
        )
        with counting(f"verify {path.name}", len(val_set), quiet=quiet) as progress:
            verified = verify(
                checkpoint.model,
                path,
                val_set,
                tolerance=tolerance(config, "int8"),
                backend=target.backend,
                threads=threads,
                progress=lambda done, total: progress(done),
            )
    except VerificationError as error:
        return Made(path, target.name, "int8", None, str(error))
    if not verified.passed:
        for part in Made(path, target.name, "int8", None).parts:
            part.unlink()
        return Made(path, target.name, "int8", None, verified.explanation)
    write_artifact(path, replace(read_artifact(path), verification=verified.to_dict()))
    stayed = f"{len(result.float_layers)} of {result.layers} layers stayed float32"
    return Made(path, target.name, "int8", verified, note=stayed)


def time_files(
    made: Sequence[Made], others: Mapping[str, Path], frame: ImageArray, threads: int | None, quiet: bool
) -> dict[str, Latency]:
    """Time all files that passed, and other ONNX files by name, in turns in one run."""
    segmenters = {
        file.path.name: Segmenter(file.path, backend=targets.get(file.target).backend, threads=threads)
        for file in made
        if file.verified
    }
    segmenters |= {name: Segmenter(path, threads=threads) for name, path in others.items()}
    segmenters = {name: each.planned((frame.shape[0], frame.shape[1])) for name, each in segmenters.items()}
    with counting("time", ROUNDS + WARMUP, quiet=quiet) as progress:
        return time_in_turns(segmenters, frame, runs=ROUNDS, warmup=WARMUP, progress=progress)


def shipped(made: Made, made_files: Sequence[Made], times: Mapping[str, Latency], classes: ClassSet) -> ShippedFile:
    """Return what the report says of a file."""
    name = made.path.name
    if made.verified is None:
        nan = float("nan")
        return ShippedFile(
            name, made.target, made.precision, 0, "", "", nan, nan, {}, nan, nan, passed=False, failures=(made.failure,)
        )
    quality, latency = made.verified.file, times[name]
    sizes = latency.device.rpartition("; ")[2]
    twins = [file for file in made_files if file.target == made.target and file.precision == "fp32" and file.verified]
    has_twin = bool(twins) and made.precision != "fp32"
    twin_ms = times[twins[0].path.name].percentile(50) if has_twin else float("nan")
    return ShippedFile(
        name=name,
        target=made.target,
        precision=made.precision,
        bytes=sum(part.stat().st_size for part in made.parts),
        sha256=hashlib.sha256(made.path.read_bytes()).hexdigest(),
        session=made.verified.session,
        miou=quality.miou,
        boundary_f1=quality.boundary_f1,
        iou=by_class(quality, classes),
        agreement=made.verified.agreement,
        parity=max(parity.relative for parity in made.verified.parity),
        latency_ms=latency_table(latency),
        twin_latency_ms=twin_ms,
        slower=latency.percentile(50) > twin_ms,  # false where it has no twin
        timing=f"{latency.runs} runs in turns with the others, after {latency.warmup}; {sizes}",
    )


def by_class(quality: Quality, classes: ClassSet) -> dict[str, float]:
    """Return the IoU by class name."""
    return dict(zip(classes.names, quality.iou, strict=True))
