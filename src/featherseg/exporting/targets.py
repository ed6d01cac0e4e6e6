"""The kinds of files that a network can be exported to: for each one function that writes it, and one session.

Every file is derived from the ONNX file that was proven first, but for torch's own, which needs the network. A new kind
is one function here, registered with its facts, and one session, registered in :mod:`featherseg.runtime.sessions` with
the same suffix. If the file can say itself what it is, :mod:`featherseg.runtime.containers` has to read that too; else
a companion does.
"""

from __future__ import annotations

import inspect
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from ..core.errors import ConfigError, VerificationError, did_you_mean
from ..core.files import TEMPORARY
from ..core.progress import OnProgress, no_progress
from ..core.registry import Registry
from ..core.staging import staged
from ..data.datasets import SegmentationDataset
from ..evaluation.ways import Ways
from ..models.base import SegmentationModel
from ..models.checkpoint import Checkpoint
from ..models.foreign import as_network
from ..models.opening import made_up_classes
from ..models.session import describe
from ..runtime.artifact import Artifact, read_artifact
from ..runtime.containers import METADATA_KEY, read_companion, write_companion
from .fixed import fix_size
from .onnx import atomic_path, export_onnx, write_artifact
from .openvino import PRECISIONS as OPENVINO_PRECISIONS
from .openvino import export_openvino, write_openvino_artifact
from .program import export_program, write_program_artifact
from .tensorrt import PRECISIONS as TENSORRT_PRECISIONS
from .tensorrt import build_engine
from .verdict import Tolerance, VerifyResult
from .verify import verify

TOLERANCES = {
    "fp32": Tolerance(),
    "fp16": Tolerance(max_logit_error=0.05, min_agreement=0.995, max_miou_drop=0.002, max_confidence_error=0.01),
    "int8": Tolerance(max_logit_error=1.0, min_agreement=0.97, max_miou_drop=0.01, max_confidence_error=0.03),
}
"""Limits of :func:`export_target_verified` where none are given, by precision. Measured on CamVid with FastSegNet:
weights in fp16 move logits by 1.6 % of the largest, int8 by 33 to 58 %; masks agree in 99.95 % and 98.7–99.1 %."""


@dataclass(frozen=True)
class TargetSource:
    """What a target is written from.

    Args:
        onnx_path: the exported, proven ONNX file.
        model: the network it is of, where there is one at hand.
    """

    onnx_path: Path
    model: SegmentationModel | None


@dataclass(frozen=True)
class Target:
    """One kind of file.

    Args:
        name: what it is registered as.
        suffix: of its files.
        precisions: that it knows, the usual one first.
        backend: session in :mod:`featherseg.runtime.sessions` that runs its files here.
        extra: extra of featherseg that it needs.
        write: writes a file: ``write(source, path, precision, **options)``.
        stamp: replaces what a file says of itself: ``stamp(path, artifact)``.
    """

    name: str
    suffix: str
    precisions: tuple[str, ...]
    backend: str
    extra: str
    write: Callable[..., object]
    stamp: Callable[[Path, Artifact], object]

    def __call__(self, source: TargetSource, path: str | Path, precision: str | None = None, **options: Any) -> Path:
        """Write a file; see :func:`export_target`."""
        path, precision = Path(path), self.checked(precision)
        if path.suffix.lower() != self.suffix:
            raise ConfigError(f"{path}: {self.name} files end in {self.suffix}, not {path.suffix!r}; rename it")
        known = [key for key in inspect.signature(self.write).parameters if key not in ("source", "path", "precision")]
        if unknown := [key for key in options if key not in known]:
            hint = did_you_mean(unknown[0], known) if known else "it has none"
            raise ConfigError(f"target {self.name!r} has no option {unknown[0]!r}; {hint}")
        self.write(source, path, precision, **options)
        return path

    def checked(self, precision: str | None) -> str:
        """Return `precision`, or the usual one; one that the target does not know is a :class:`ConfigError`."""
        chosen = self.precisions[0] if precision is None else precision
        if chosen not in self.precisions:
            hint = did_you_mean(chosen, self.precisions)
            raise ConfigError(f"target {self.name!r} has no precision {chosen!r}; {hint}")
        return chosen


targets: Registry[Target] = Registry("target")

Write = Callable[..., object]


def register_target(
    name: str,
    *,
    suffix: str,
    precisions: tuple[str, ...],
    backend: str,
    extra: str,
    stamp: Callable[[Path, Artifact], object] | None = None,
) -> Callable[[Write], Write]:
    """Return a decorator that files its function as what writes target `name`; see :class:`Target`.

    The function takes a :class:`TargetSource`, a path and a precision, then options by keyword. Where `stamp` is left
    out, files have a companion beside them, written with :func:`featherseg.runtime.containers.write_companion`.
    """

    def add(write: Write) -> Write:
        target = Target(name, suffix, precisions, backend, extra, write, stamp or stamp_companion)
        targets.register(name)(target)
        return write

    return add


def stamp_companion(path: str | Path, artifact: Artifact) -> None:
    """Replace what is said of the file at `path` in its companion.

    Raises:
        ArtifactError: it has none, or it is damaged.
    """
    path = Path(path)
    write_companion(path, artifact.to_metadata()[METADATA_KEY], read_companion(path)["built_with"])


def export_target(
    name: str,
    model: Checkpoint | SegmentationModel | None,
    onnx_path: str | Path,
    path: str | Path,
    *,
    precision: str | None = None,
    **options: Any,
) -> Path:
    """Write a network as a file of another kind. What is written is not proven yet.

    Args:
        name: of the target; see :data:`targets`.
        model: the network, which target ``"torch"`` needs; None elsewhere where it is not at hand.
        onnx_path: the ONNX file of it, exported and proven before.
        path: file to write, ending in the target's suffix; it appears whole, with the files it needs beside it, or
            not at all.
        precision: one that the target knows; its first where left out.
        options: of the target: ``size`` of ``"onnx"``; ``compiled`` of ``"torch"``; ``min_size``, ``opt_size``,
            ``max_size``, ``max_batch`` and ``timing_cache`` of ``"tensorrt"``.

    Returns:
        `path`.

    Raises:
        ConfigError: a name or option is unknown, or an argument is not to be had for such a file.
        ArtifactError: the ONNX file cannot be used, or not for this target.
        MissingExtraError: the target's packages are not installed.
    """
    network = model.model if isinstance(model, Checkpoint) else model
    return targets.get(name)(TargetSource(Path(onnx_path), network), path, precision, **options)


def export_target_verified(
    name: str,
    checkpoint: Checkpoint,
    onnx_path: str | Path,
    path: str | Path,
    dataset: SegmentationDataset,
    tolerance: Tolerance | None = None,
    *,
    precision: str | None = None,
    sizes: Sequence[tuple[int, int]] | None = None,
    threads: int | None = None,
    ways: Ways | None = None,
    progress: OnProgress = no_progress,
    **options: Any,
) -> VerifyResult:
    """Write a network as a file of another kind with its verification's figures inside, or not at all.

    Args:
        name: of the target; its session has to run on this machine.
        checkpoint: the network.
        onnx_path: the ONNX file of it, exported and proven before.
        path: file to write; see :func:`export_target`.
        dataset: labelled images, such as the validation split.
        tolerance: the limits; those of the precision in :data:`TOLERANCES` where not given.
        precision: one that the target knows; its first where left out.
        sizes: (height, width) of the logit comparison; of a file that is fixed to one size, that one.
        threads: threads of the engine that runs the file.
        ways: see :func:`.verify.verify`.
        progress: called with the numbers of images done and of all.
        options: of the target; see :func:`export_target`.

    Raises:
        VerificationError: a figure is past the tolerance; nothing was written.
    """
    path, target = Path(path), targets.get(name)
    limits = tolerance or TOLERANCES[target.checked(precision)]
    with staged(path) as temporary:
        export_target(name, checkpoint, onnx_path, temporary, precision=precision, **options)
        result = verify(
            checkpoint.model,
            temporary,
            dataset,
            sizes=sizes,
            tolerance=limits,
            backend=target.backend,
            threads=threads,
            ways=ways,
            progress=progress,
        )
        if not result.passed:
            raise VerificationError(f"{path} was not written: {result.explanation}")
        target.stamp(temporary, result.stamped(read_artifact(temporary)))
    return result


def export(
    name: str,
    checkpoint: Checkpoint | nn.Module,
    path: str | Path,
    dataset: SegmentationDataset | None,
    tolerance: Tolerance | None = None,
    *,
    precision: str | None = None,
    threads: int | None = None,
    progress: OnProgress = no_progress,
    **options: Any,
) -> VerifyResult | None:
    """Write a trained network as a file of any kind, proven; the ONNX file that it is derived from is not left.

    Args:
        name: of the target.
        checkpoint: the network; see :func:`.verify.export_verified`.
        path: file to write, ending in the target's suffix.
        dataset: labelled images to prove it on; None writes a file that says it is not verified, for machines that
            build what only others can run.
        tolerance: the limits; see :func:`export_target_verified`, and so for the other arguments.
        precision: one that the target knows.
        threads: threads of the engine that runs the file.
        progress: called with the numbers of images done and of all.
        options: of the target.

    Raises:
        VerificationError: a figure is past the tolerance; nothing was written.

    Example:
        >>> val_set = featherseg.create_dataset("synthetic", split="val", val_count=2, size=(64, 96))
        >>> best = featherseg.load_checkpoint("runs/street")
        >>> featherseg.export("onnx", best, "small.onnx", val_set, size=(64, 96)).passed
        True
    """
    path, target = Path(path), targets.get(name)
    target.checked(precision)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=TEMPORARY) as folder:
        source = Path(folder, "source.onnx")
        if not isinstance(checkpoint, Checkpoint):
            network = as_network(checkpoint)
            checkpoint = Checkpoint(network, dataset.classes if dataset else made_up_classes(network))
        artifact = describe(checkpoint.model, checkpoint.classes, checkpoint.training)
        export_onnx(checkpoint.model, source, artifact)
        if dataset is None:
            export_target(name, checkpoint, source, path, precision=precision, **options)
            return None
        return export_target_verified(
            name,
            checkpoint,
            source,
            path,
            dataset,
            tolerance,
            precision=precision,
            threads=threads,
            progress=progress,
            **options,
        )


@register_target(
    "onnx", suffix=".onnx", precisions=("fp32",), backend="onnxruntime", extra="train", stamp=write_artifact
)
def _write_onnx(source: TargetSource, path: Path, precision: str, size: tuple[int, int] | None = None) -> None:
    if size is not None:
        fix_size(source.onnx_path, path, size)
        return
    read_artifact(source.onnx_path)
    with atomic_path(path) as temporary:
        shutil.copyfile(source.onnx_path, temporary)


@register_target(
    "openvino",
    suffix=".xml",
    precisions=OPENVINO_PRECISIONS,
    backend="openvino",
    extra="openvino",
    stamp=write_openvino_artifact,
)
def _write_openvino(source: TargetSource, path: Path, precision: str) -> None:
    export_openvino(source.onnx_path, path, precision=precision)


@register_target("tensorrt", suffix=".engine", precisions=TENSORRT_PRECISIONS, backend="tensorrt", extra="tensorrt")
def _write_tensorrt(
    source: TargetSource,
    path: Path,
    precision: str,
    min_size: tuple[int, int] | None = None,
    opt_size: tuple[int, int] | None = None,
    max_size: tuple[int, int] | None = None,
    max_batch: int = 1,
    timing_cache: str | Path | None = None,
) -> None:
    build_engine(
        source.onnx_path,
        path,
        precision=precision,
        min_size=min_size,
        opt_size=opt_size,
        max_size=max_size,
        max_batch=max_batch,
        timing_cache=timing_cache,
    )


@register_target(
    "torch", suffix=".pt2", precisions=("fp32",), backend="torch", extra="train", stamp=write_program_artifact
)
def _write_program(source: TargetSource, path: Path, precision: str, compiled: bool = False) -> None:
    if source.model is None:
        raise ConfigError("target 'torch' is written from the network itself; give its checkpoint or model")
    artifact = replace(read_artifact(source.onnx_path), verification={})
    if (kind := artifact.training.get("weights")) is not None:
        raise ConfigError(
            f"{source.onnx_path}: holds {kind} weights, but a program is of the network itself; give its fp32 file"
        )
    export_program(source.model, path, artifact, compiled=compiled)
