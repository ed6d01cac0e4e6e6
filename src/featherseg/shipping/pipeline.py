"""From a run to a folder of proven files: prune and train again, export, quantise, time in turns, report.

Each step is a function of its own elsewhere; here is their order, what is compared with what, and what happens when a
step does not pay: it is rolled back, and the report says so.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from torch import nn

from ..compress.calibration import calibration_images
from ..compress.prune import prune
from ..core.config import Config, DistillConfig, ShipConfig
from ..core.errors import ConfigError, VerificationError
from ..core.files import TEMPORARY
from ..core.images import read_image
from ..core.progress import counting, logger
from ..core.types import ImageArray, Latency
from ..evaluation.scores import protocol
from ..exporting.verdict import VerifyResult
from ..exporting.verify import export_verified
from ..models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ..models.facts import count_gmacs, count_parameters
from ..runtime.artifact import read_artifact
from ..runtime.choose import picture
from ..runtime.segmenter import Segmenter
from ..training.fit import fit
from ..training.run_folder import RunFolder, environment
from .context import ShipContext
from .files import BuiltFile, build_files, by_class, check_targets, chosen_targets, shipped, time_files
from .folder import check_replaceable, write_model_folder
from .report.figures import ShipReport, Step, WorstImage
from .report.worst import worst_images
from .source import open_source

TEACHING: tuple[dict[str, Any], ...] = (
    {"name": "kl", "temperature": 2.0, "use_ignored": True},
    {"name": "cwd", "weight": 3.0, "use_ignored": True},
)
"""What a pruned network learns from the one that it was; as in recipes/camvid_fastsegnet_half_distilled.toml."""
FINETUNE_LR = 1 / 3
"""Rate of training a pruned network again, as a share of the run's: most of what it knew is still there."""


@dataclass(frozen=True)
class ProvenStep:
    """The network after a step, with its proven fp32 file."""

    name: str
    kind: str
    checkpoint: Checkpoint
    path: Path
    verified: VerifyResult
    kept: bool = True
    note: str = ""


def ship(
    run: str | Path | Checkpoint | nn.Module,
    out: str | Path,
    config: ShipConfig | None = None,
    *,
    data: str | Path | None = None,
    kind: str | None = None,
    model: nn.Module | None = None,
    terms: str = "",
    golden: str | Path | None = None,
) -> ShipReport:
    """Make a folder of proven files of a trained run.

    Args:
        run: run folder or weights file; pruning needs the run folder, whose recipe trains the pruned network again in
            a run of its own beside it. One that was finished before is used again. Or a network in memory, of another
            library too (see :func:`featherseg.wrap`), with `data`.
        out: folder to write; see :mod:`featherseg.shipping.folder`. It appears whole, or stays as it was.
        config: what to make; the run's own ``[ship]`` section where left out.
        data: folder of the data, where the run's is not to be used.
        kind: dataset kind, where it is another than the run's.
        model: the network, where the run is of one that no name builds; it gets the run's weights.
        terms: the data's terms of use, for the model card.
        golden: image that goes along with its expected mask; where left out the first validation image, or a made-up
            one of its size if the configuration wants no pictures.

    Returns:
        The report that stands in the folder.

    Raises:
        ConfigError: a setting cannot be followed, or files of a target cannot be proven here.
        VerificationError: files failed; those that passed are in the folder, unless it was the fp32 ONNX file.

    Example:
        >>> report = featherseg.ship("runs/street", "dist", featherseg.ShipConfig(threads=1))
        >>> [file.name for file in report.files], Path("dist/report.html").is_file()
        (['street.onnx'], True)
    """
    out = Path(out)
    source = open_source(run, model, data, kind)
    run, checkpoint, whole, val_set = source.run, source.checkpoint, source.whole, source.val_set
    config = config or (whole.ship if whole else ShipConfig())
    chosen, folders = chosen_targets(("onnx", *config.to))
    check_targets(chosen, config)
    check_replaceable(out)
    if config.prune and whole is None:
        raise ConfigError(f"pruning trains again by the run's recipe, but {run} is no run folder; give one")
    shown = read_image(golden) if golden is not None else val_set.read(0)[0]
    if golden is None and not config.pictures:
        shown = picture((shown.shape[0], shown.shape[1]))
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=TEMPORARY) as folder:
        context = ShipContext(Path(folder), run, config, val_set)
        steps = [_step(context, 1, "fp32", "baseline", checkpoint)]
        if config.prune and whole is not None:
            steps += _pruned(context, steps[0], _finetuning(whole, run, config, data, kind))
        best = [step for step in steps if step.kept][-1]

        def calibration() -> Sequence[ImageArray]:
            return calibration_images(source.train_set(), config.calibration, spec=best.checkpoint.model.input_spec)

        built = build_files(context, best.checkpoint, (best.path, best.verified), chosen, calibration)
        report = _report(context, steps, best, built)
        write_model_folder(
            out,
            read_artifact(best.path),
            [part for file in built if file.verified for part in file.parts],
            report,
            np.ascontiguousarray(shown),
            data=f"{val_set.name}, {checkpoint.training.get('split', 'its training')} split",
            terms=terms or "Not stated. Ask whoever made the images before giving this model away.",
            main=best.path.name,
            threads=context.threads,
            folders=folders,
        )
    failed = [f"{file.path.name}: {file.failure}" for file in built if file.failure]
    if failed:
        raise VerificationError(f"{len(failed)} of {len(built)} files are not in {out}: {'; '.join(failed)}")
    return report


def _finetuning(whole: Config, run: Path, config: ShipConfig, data: str | Path | None, kind: str | None) -> Config:
    """Return the recipe of training a pruned network again: the run's own, shorter, with the run as teacher."""
    share = f"{100 * config.prune:.0f}"
    source, optim = whole.data, whole.optim
    if data is not None or kind is not None:
        source = msgspec.structs.replace(source, root=str(data or source.root), name=kind or source.name)
    return msgspec.structs.replace(
        whole,
        name=f"{run.resolve().name}_pruned{share}",
        out=str(run.absolute().parent),
        model=msgspec.structs.replace(whole.model, options={}, init=str(run / f"pruned{share}.safetensors")),
        data=source,
        distill=DistillConfig(teacher=str(run), losses=TEACHING),
        optim=msgspec.structs.replace(optim, lr=optim.lr * FINETUNE_LR),
        train=msgspec.structs.replace(whole.train, epochs=config.finetune_epochs, minutes=0.0),
    )


def _step(
    context: ShipContext, number: int, name: str, kind: str, checkpoint: Checkpoint, note: str = ""
) -> ProvenStep:
    """Export a network as a proven fp32 file."""
    path = context.folder / str(number) / f"{context.name}.onnx"
    with counting(f"verify {name}", len(context.val_set)) as progress:
        verified = export_verified(
            checkpoint,
            path,
            context.val_set,
            context.tolerance("fp32"),
            threads=context.threads,
            ways=context.ways,
            progress=progress,
        )
    logger.info(f"{name}: mIoU {100 * verified.file.miou:.2f}, {path.stat().st_size / 1e6:.2f} MB")
    return ProvenStep(name, kind, checkpoint, path, verified, note=note)


def _pruned(context: ShipContext, before: ProvenStep, recipe: Config) -> list[ProvenStep]:
    """Prune a network and train it again; both steps are rolled back where too much was lost."""
    share, allowed = context.config.prune, context.config.max_drop
    cut = prune(before.checkpoint.model, share, example_size=context.size)
    logger.info(str(cut))
    start = Checkpoint(cut.model, before.checkpoint.classes, before.checkpoint.training)
    name = f"pruned {100 * share:.0f} %"
    steps = [_step(context, 2, name, "prune", start, cut.summary())]
    save_checkpoint(recipe.model.starts[0], start)
    again = RunFolder(Path(recipe.out) / recipe.name)
    if not (again.path / "result.json").is_file():
        fit(recipe, resume=again.has_state)
    note = f"{recipe.train.epochs} epochs by the run's recipe, with the run as teacher"
    steps.append(_step(context, 3, f"{name}, trained again", "finetune", load_checkpoint(again.path), note))
    lost = before.verified.file.miou - steps[-1].verified.file.miou
    if lost <= allowed:
        return steps
    why = f"{100 * lost:.2f} points of mIoU lost, {100 * allowed:.2f} allowed"
    logger.info(f"{name}: rolled back, {why}")
    return [replace(step, kept=False, note=f"{why}; {step.note}") for step in steps]


def _report(
    context: ShipContext, steps: Sequence[ProvenStep], best: ProvenStep, built: Sequence[BuiltFile]
) -> ShipReport:
    """Time everything in one run, look for the worst images, and return the report."""
    classes, val_set = best.checkpoint.classes, context.val_set
    names = {f"step {i}": step.path for i, step in enumerate(steps) if step is not best}
    times = time_files(context, built, names)
    env, rules = environment(), protocol(val_set)
    hardware = {"processor": env["cpu"], "threads": str(context.threads or env["threads"]), **env["versions"]}
    return ShipReport(
        name=context.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        classes=classes,
        protocol=f"{rules['resolution']}, single scale, {rules['rule']}",
        dataset=f"{val_set.name} {val_set.split}",
        images=len(val_set),
        hardware=hardware,
        steps=tuple(
            _reported(context, step, times[best.path.name if step is best else f"step {i}"])
            for i, step in enumerate(steps)
        ),
        files=tuple(shipped(file, built, times, classes) for file in built),
        worst=_worst(context, best, built),
        fp32_iou=by_class(best.verified.torch, classes),
    )


def _reported(context: ShipContext, step: ProvenStep, latency: Latency) -> Step:
    """Return what the report says of a step."""
    model = step.checkpoint.model
    return Step(
        name=step.name,
        kind=step.kind,
        miou=step.verified.file.miou,
        boundary_f1=step.verified.file.boundary_f1,
        params=count_parameters(model)[0],
        gmacs=count_gmacs(model, context.size),
        bytes=step.path.stat().st_size,
        latency_p50_ms=latency.percentile(50),
        kept=step.kept,
        note=step.note,
    )


def _worst(context: ShipContext, best: ProvenStep, built: Sequence[BuiltFile]) -> tuple[WorstImage, ...]:
    """Return the images on which the file that agrees least with the network does worst."""
    small = [file for file in built if file.verified and file.precision != "fp32"]
    if not small or not context.config.pictures:
        return ()
    file = min(small, key=lambda file: file.verified.agreement if file.verified else 1.0)
    ways = [context.ways.of_file(path, Segmenter(path, threads=context.threads)) for path in (best.path, file.path)]
    with counting("worst images", len(context.val_set)) as progress:
        return worst_images(
            ways[0].dataset,
            ways[0].mask,
            ways[1].mask,
            context.config.pictures,
            file=file.path.name,
            progress=progress,
        )
