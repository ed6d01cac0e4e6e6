"""The files of a network that is shipped: each written, proven, or told why it is not; and how fast each is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..compress.proven import quantize_proven
from ..compress.quantize import QuantizeConfig
from ..compress.ranges import Histogram
from ..core.config import ShipConfig
from ..core.errors import ConfigError, VerificationError, did_you_mean, require
from ..core.files import sha256
from ..core.progress import counting
from ..core.types import ClassSet, ImageArray, Latency
from ..evaluation.benchmark import time_in_turns
from ..exporting.targets import Target, export_target_verified, targets
from ..exporting.verdict import Quality, VerifyResult
from ..models.checkpoint import Checkpoint
from ..runtime.containers import file_parts
from ..runtime.segmenter import Segmenter
from ..runtime.sessions.cuda import Driver, DriverError
from .context import ShipContext
from .folder_targets import FolderTarget, folder_targets
from .report.figures import ShippedFile, latency_table

INT8_FLAVOURS = {"onnx": "onnxruntime", "openvino": "openvino"}
"""Flavour of int8 by target, of those that are proven on this machine. Either is an ONNX file: OpenVINO runs that as
fast as its own format, whose graph in text takes up to half as much room as the weights."""
INT8_ENDINGS = {"onnx": "_int8.onnx", "openvino": "_int8_openvino.onnx"}
ROUNDS, WARMUP = 30, 5
"""Timed runs of each file, and those before them that are not counted."""


@dataclass(frozen=True)
class BuiltFile:
    """A file that was written and proven, or why it does not exist.

    Args:
        path: of the file, whether it exists or not.
        target: what it is exported for.
        precision: its target's usual one, such as ``"fp32"``, or ``"int8"``.
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


def chosen_targets(names: Iterable[str]) -> tuple[list[Target], list[FolderTarget]]:
    """Return the targets of these names: those that are files, and those that are folders.

    Raises:
        ConfigError: there is none of such a name.
    """
    files: list[Target] = []
    folders: list[FolderTarget] = []
    for name in dict.fromkeys(names):
        if name in folder_targets:
            folders.append(folder_targets.get(name))
        elif name in targets:
            files.append(targets.get(name))
        else:
            raise ConfigError(f"unknown target {name!r}; {did_you_mean(name, [*targets, *folder_targets])}")
    return files, folders


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


def build_files(
    context: ShipContext,
    checkpoint: Checkpoint,
    proven: tuple[Path, VerifyResult],
    chosen: Sequence[Target],
    calibration: Callable[[], Sequence[ImageArray]],
) -> list[BuiltFile]:
    """Write a network's files beside its proven ONNX file; those that fail are not there, and say why.

    Args:
        context: precisions, limits, and the images to prove files on.
        checkpoint: the network.
        proven: its fp32 ONNX file, and that file's figures.
        chosen: targets to write.
        calibration: returns the images that int8 is calibrated with; called only where it is needed.
    """
    source, verified = proven
    built: list[BuiltFile] = []
    images: Sequence[ImageArray] | None = None
    histograms: dict[str, Histogram] = {}
    for target in chosen:
        if target.name == "onnx":
            built.append(BuiltFile(source, "onnx", "fp32", verified))
        else:
            built.append(_float_file(context, target, checkpoint, source))
        if context.config.int8 and target.name in INT8_FLAVOURS:
            if images is None:
                images = calibration()
            built.append(_int8_file(context, target, checkpoint, source, images, histograms))
    return built


def _float_file(context: ShipContext, target: Target, checkpoint: Checkpoint, source: Path) -> BuiltFile:
    """Write a target's file in its usual precision, and hold it to that precision's limits."""
    path, precision = source.with_suffix(target.suffix), target.checked(None)
    try:
        with counting(f"verify {path.name}", len(context.val_set)) as progress:
            verified = export_target_verified(
                target.name,
                checkpoint,
                source,
                path,
                context.val_set,
                context.tolerance(precision),
                precision=precision,
                threads=context.threads,
                ways=context.ways,
                progress=progress,
            )
    except VerificationError as error:
        return BuiltFile(path, target.name, precision, None, str(error))
    return BuiltFile(path, target.name, precision, verified)


def _int8_file(
    context: ShipContext,
    target: Target,
    checkpoint: Checkpoint,
    source: Path,
    images: Sequence[ImageArray],
    histograms: dict[str, Histogram],
) -> BuiltFile:
    path = source.with_name(source.stem + INT8_ENDINGS[target.name])
    settings = QuantizeConfig(
        max_drop=context.config.max_drop,
        flavour=INT8_FLAVOURS[target.name],
        threads=context.threads,
        timed=False,  # all files are timed in turns at the end
    )
    try:
        with counting(f"verify {path.name}", len(context.val_set)) as progress:
            result, verified = quantize_proven(
                checkpoint,
                source,
                path,
                images,
                context.val_set,
                settings,
                tolerance=context.tolerance("int8"),
                ways=context.ways,
                histograms=histograms,
                progress=progress,
            )
    except VerificationError as error:
        return BuiltFile(path, target.name, "int8", None, str(error))
    stayed = f"{len(result.fp32_layers)} of {result.layers} layers stayed fp32"
    return BuiltFile(path, target.name, "int8", verified, note=stayed)


def time_files(context: ShipContext, built: Sequence[BuiltFile], others: Mapping[str, Path]) -> dict[str, Latency]:
    """Time all files that passed, and other ONNX files by name, in turns in one run on the first image."""
    frame, threads = context.val_set.read(0)[0], context.threads
    segmenters = {
        file.path.name: Segmenter(file.path, backend=targets.get(file.target).backend, threads=threads)
        for file in built
        if file.verified
    }
    segmenters |= {name: Segmenter(path, threads=threads) for name, path in others.items()}
    segmenters = {name: each.planned((frame.shape[0], frame.shape[1])) for name, each in segmenters.items()}
    with counting("time", ROUNDS + WARMUP) as progress:
        return time_in_turns(segmenters, frame, runs=ROUNDS, warmup=WARMUP, progress=progress)


def shipped(
    file: BuiltFile, built: Sequence[BuiltFile], times: Mapping[str, Latency], classes: ClassSet
) -> ShippedFile:
    """Return what the report says of a file, of all that were built."""
    name = file.path.name
    if file.verified is None:
        nan = float("nan")
        return ShippedFile(
            name, file.target, file.precision, 0, "", "", nan, nan, {}, nan, nan, passed=False, failures=(file.failure,)
        )
    quality, latency = file.verified.file, times[name]
    sizes = latency.device.rpartition("; ")[2]
    twins = [other for other in built if other.target == file.target and other.precision == "fp32" and other.verified]
    has_twin = bool(twins) and file.precision != "fp32"
    twin_ms = times[twins[0].path.name].percentile(50) if has_twin else float("nan")
    return ShippedFile(
        name=name,
        target=file.target,
        precision=file.precision,
        bytes=sum(part.stat().st_size for part in file.parts),
        sha256=sha256(file.path),
        session=file.verified.session,
        miou=quality.miou,
        boundary_f1=quality.boundary_f1,
        iou=by_class(quality, classes),
        agreement=file.verified.agreement,
        parity=max(parity.relative for parity in file.verified.parity),
        latency_ms=latency_table(latency),
        twin_latency_ms=twin_ms,
        slower=latency.percentile(50) > twin_ms,  # false where it has no twin
        calibration=file.verified.calibration.to_dict() if file.verified.calibration else {},
        timing=f"{latency.runs} runs in turns with the others, after {latency.warmup}; {sizes}",
    )


def by_class(quality: Quality, classes: ClassSet) -> dict[str, float]:
    """Return the IoU by class name."""
    return dict(zip(classes.names, quality.iou, strict=True))
