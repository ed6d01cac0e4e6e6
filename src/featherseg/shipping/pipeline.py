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

from ..compress.calibration import calibration_images
from ..compress.prune import prune
from ..core.config import Config, DistillConfig, ShipConfig
from ..core.errors import ConfigError, VerificationError
from ..core.files import TEMPORARY
from ..core.images import read_image
from ..core.progress import counting, say
from ..core.types import Latency
from ..data.datasets import SegmentationDataset
from ..evaluation.opening import open_labelled
from ..evaluation.scores import protocol
from ..exporting.targets import targets
from ..exporting.verify import VerifyResult, export_verified
from ..models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ..models.facts import count_gmacs, count_parameters
from ..runtime.artifact import read_artifact
from ..runtime.choose import picture
from ..runtime.segmenter import Segmenter
from ..training.fit import fit
from ..training.run_folder import RunFolder, environment
from .files import Made, by_class, check_targets, make_files, shipped, time_files, tolerance
from .folder import check_replaceable, write_model_folder
from .report.figures import ShipReport, Step, WorstImage
from .report.worst import worst_images

TEACHING: tuple[dict[str, Any], ...] = (
    {"name": "kl", "temperature": 2.0, "use_ignored": True},
    {"name": "cwd", "weight": 3.0, "use_ignored": True},
)
"""What a pruned network learns from the one that it was; as in recipes/camvid_fastsegnet_half_distilled.toml."""
FINETUNE_LR = 1 / 3
"""Rate of training a pruned network again, as a share of the run's: most of what it knew is still there."""


@dataclass(frozen=True)
class Stage:
    """The network after a step, with its proven float32 file."""

    name: str
    kind: str
    checkpoint: Checkpoint
    path: Path
    verified: VerifyResult
    kept: bool = True
    note: str = ""


def ship(
    run: str | Path,
    out: str | Path,
    config: ShipConfig | None = None,
    *,
    data: str | Path | None = None,
    kind: str | None = None,
    terms: str = "",
    golden: str | Path | None = None,
    quiet: bool = False,
) -> ShipReport:
    """Make a folder of proven files of a trained run.

    Args:
        run: run folder or weights file; pruning needs the run folder, whose recipe trains the pruned network again in
            a run of its own beside it. One that was finished before is used again.
        out: folder to write; see :mod:`featherseg.shipping.folder`. It appears whole, or stays as it was.
        config: what to make; the run's own ``[ship]`` section where left out.
        data: folder of the data, where the run's is not to be used.
        kind: dataset kind, where it is another than the run's.
        terms: the data's terms of use, for the model card.
        golden: image that goes along with its expected mask; where left out the first validation image, or a made-up
            one of its size if the configuration wants no pictures.
        quiet: show no progress.

    Returns:
        The report that stands in the folder.

    Raises:
        ConfigError: a setting cannot be followed, or files of a target cannot be proven here.
        VerificationError: files failed; those that passed are in the folder, unless it was the float32 ONNX file.
    """
    run, out = Path(run), Path(out)
    checkpoint = load_checkpoint(run)
    whole = RunFolder(run).config if run.is_dir() else None
    config = config or (whole.ship if whole else ShipConfig())
    chosen = [targets.get(name) for name in dict.fromkeys(("onnx", *config.to))]
    check_targets(chosen, config)
    check_replaceable(out)
    if config.prune and whole is None:
        raise ConfigError(f"pruning trains again by the run's recipe, but {run} is no run folder; give one")
    val_set = open_labelled(run, checkpoint.training, root=data, kind=kind)
    shown = read_image(golden) if golden is not None else val_set.read(0)[0]
    if golden is None and not config.pictures:
        shown = picture((shown.shape[0], shown.shape[1]))
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=TEMPORARY) as folder:
        work = _Shipment(Path(folder), run, config, val_set, quiet)
        stages = [work.stage("float32", "baseline", checkpoint)]
        if config.prune and whole is not None:
            stages += work.pruned(stages[0], _finetuning(whole, run, config, data, kind))
        best = [stage for stage in stages if stage.kept][-1]
        proven = (best.path, best.verified)
        made = make_files(
            best.checkpoint, proven, chosen, config, val_set, lambda: work.calibration(checkpoint, data, kind), quiet
        )
        report = work.report(stages, best, made)
        write_model_folder(
            out,
            read_artifact(best.path),
            [part for file in made if file.verified for part in file.parts],
            report,
            np.ascontiguousarray(shown),
            data=f"{val_set.name}, {checkpoint.training.get('split', 'its training')} split",
            terms=terms or "Not stated. Ask whoever made the images before giving this model away.",
            main=best.path.name,
            threads=work.threads,
        )
    failed = [f"{file.path.name}: {file.failure}" for file in made if file.failure]
    if failed:
        raise VerificationError(f"{len(failed)} of {len(made)} files are not in {out}: {'; '.join(failed)}")
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
        train=msgspec.structs.replace(whole.train, epochs=config.finetune_epochs),
    )


class _Shipment:
    """What all steps of one shipment share.

    Args:
        folder: to work in; what passed moves out of it together.
        run: the run that is shipped.
        config: what to make.
        val_set: labelled images that every figure is of.
        quiet: show no progress.
    """

    def __init__(self, folder: Path, run: Path, config: ShipConfig, val_set: SegmentationDataset, quiet: bool) -> None:
        self.folder, self.run, self.config, self.val_set, self.quiet = folder, run, config, val_set, quiet
        self.threads = config.threads or None
        self.name = run.resolve().name if run.is_dir() else run.stem
        self.size = val_set.read(0)[1].shape
        self.stages = 0

    def stage(self, name: str, kind: str, checkpoint: Checkpoint, note: str = "") -> Stage:
        """Export a network as a proven float32 file."""
        self.stages += 1
        path = self.folder / str(self.stages) / f"{self.name}.onnx"
        with counting(f"verify {name}", len(self.val_set), quiet=self.quiet) as progress:
            verified = export_verified(
                checkpoint,
                path,
                self.val_set,
                tolerance(self.config, "fp32"),
                threads=self.threads,
                progress=lambda done, total: progress(done),
            )
        say(f"{name}: mIoU {100 * verified.file.miou:.2f}, {path.stat().st_size / 1e6:.2f} MB", self.quiet)
        return Stage(name, kind, checkpoint, path, verified, note=note)

    def pruned(self, before: Stage, recipe: Config) -> list[Stage]:
        """Prune a network and train it again; both stages are rolled back where too much was lost."""
        height, width = self.size
        cut = prune(before.checkpoint.model, self.config.prune, example_size=(height, width))
        say(str(cut), self.quiet)
        start = Checkpoint(cut.model, before.checkpoint.classes, before.checkpoint.training)
        name = f"pruned {100 * self.config.prune:.0f} %"
        stages = [self.stage(name, "prune", start, cut.summary())]
        save_checkpoint(recipe.model.init, start)
        again = RunFolder(Path(recipe.out) / recipe.name)
        if not (again.path / "result.json").is_file():
            fit(recipe, resume=again.has_state, quiet=self.quiet)
        note = f"{recipe.train.epochs} epochs by the run's recipe, with the run as teacher"
        stages.append(self.stage(f"{name}, trained again", "finetune", load_checkpoint(again.path), note))
        lost, allowed = before.verified.file.miou - stages[-1].verified.file.miou, self.config.max_drop
        if lost <= allowed:
            return stages
        why = f"{100 * lost:.2f} points of mIoU lost, {100 * allowed:.2f} allowed"
        say(f"{name}: rolled back, {why}", self.quiet)
        return [replace(stage, kept=False, note=f"{why}; {stage.note}") for stage in stages]

    def calibration(self, checkpoint: Checkpoint, data: str | Path | None, kind: str | None) -> Sequence[Any]:
        """Return training images to calibrate int8 with."""
        split = str(checkpoint.training.get("split", "train"))
        train_set = open_labelled(self.run, checkpoint.training, root=data, kind=kind, split=split)
        return calibration_images(train_set, self.config.calibration)

    def report(self, stages: Sequence[Stage], best: Stage, made: Sequence[Made]) -> ShipReport:
        """Time everything in one run, look for the worst images, and return the report."""
        classes = best.checkpoint.classes
        steps = {f"step {i}": stage.path for i, stage in enumerate(stages) if stage is not best}
        times = time_files(made, steps, self.val_set.read(0)[0], self.threads, self.quiet)
        env, rules = environment(), protocol(self.val_set)
        hardware = {"processor": env["cpu"], "threads": str(self.threads or env["threads"]), **env["versions"]}
        return ShipReport(
            name=self.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            classes=classes,
            protocol=f"{rules['resolution']}, single scale, {rules['rule']}",
            dataset=f"{self.val_set.name} {self.val_set.split}",
            images=len(self.val_set),
            hardware=hardware,
            steps=tuple(
                self._step(stage, times[best.path.name if stage is best else f"step {i}"])
                for i, stage in enumerate(stages)
            ),
            files=tuple(shipped(file, made, times, classes) for file in made),
            worst=self._worst(best, made),
            float_iou=by_class(best.verified.torch, classes),
        )

    def _step(self, stage: Stage, latency: Latency) -> Step:
        model = stage.checkpoint.model
        height, width = self.size
        return Step(
            name=stage.name,
            kind=stage.kind,
            miou=stage.verified.file.miou,
            boundary_f1=stage.verified.file.boundary_f1,
            params=count_parameters(model)[0],
            gmacs=count_gmacs(model, (height, width)),
            bytes=stage.path.stat().st_size,
            latency_p50_ms=latency.percentile(50),
            kept=stage.kept,
            note=stage.note,
        )

    def _worst(self, best: Stage, made: Sequence[Made]) -> tuple[WorstImage, ...]:
        """Return the images on which the file that agrees least with the network does worst."""
        small = [file for file in made if file.verified and file.precision != "fp32"]
        if not small or not self.config.pictures:
            return ()
        file = min(small, key=lambda file: file.verified.agreement if file.verified else 1.0)
        reference, other = (Segmenter(path, threads=self.threads) for path in (best.path, file.path))
        with counting("worst images", len(self.val_set), quiet=self.quiet) as progress:
            return worst_images(
                self.val_set,
                reference.segment,
                other.segment,
                self.config.pictures,
                file=file.path.name,
                progress=progress,
            )
