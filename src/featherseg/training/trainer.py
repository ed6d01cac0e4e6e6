"""The training loop: one flat pass over epochs and steps, and all that an epoch changes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import msgspec
import torch
from lightning_fabric import Fabric
from rich.progress import Progress

from ..core.config import Config
from ..core.durations import duration
from ..core.errors import CheckpointError, TrainingDivergedError, first_line
from ..core.progress import OnProgress, bars, counting, logger
from ..data.datasets import SegmentationDataset
from ..data.loader import EpochBatches, Sample, one_line_errors
from ..evaluation.centerline import take_widths
from ..evaluation.result import EvalResult
from ..evaluation.scores import Watch, protocol, score
from ..models.base import SegmentationModel
from ..models.checkpoint import Checkpoint, load_checkpoint
from ..models.facts import count_gmacs, count_parameters
from ..models.session import TorchSession, describe
from ..runtime.artifact import Artifact
from ..runtime.segmenter import Segmenter
from .distill import Distilled
from .failures import report_failures
from .optim import build_ema, build_schedule, restore_optimizer, stretch_schedule
from .progress_pictures import ProgressPictures
from .run_clock import RunClock, time_scores
from .run_folder import RunFolder
from .run_log import row_text
from .run_result import RunResult
from .self_training import SelfTrained
from .start_share import StartBlend
from .step import TrainingStep
from .supervised import Supervised

TICK = 1e-9
"""Seconds; a clock may say that none went by."""


@dataclass(frozen=True)
class Setup:
    """All that a configuration stands for, ready to be trained.

    Args:
        objective: ``(batch) -> {"loss": …}``, owner of the network and its losses.
        loader: of training batches, ordered by `batches`.
        batches: told the epoch before each.
        images: how many are trained on.
        val_set: what the best epoch is chosen on.
    """

    objective: Supervised | Distilled | SelfTrained
    loader: Iterable[Sample]
    batches: EpochBatches
    images: int
    val_set: SegmentationDataset


class Trainer:
    """The loop, with all that an epoch changes in one place.

    Args:
        fabric: launched.
        setup: what is trained, and on what.
        config: of the run.
        run: its folder.
    """

    def __init__(self, fabric: Fabric, setup: Setup, config: Config, run: RunFolder) -> None:
        self.fabric, self.setup, self.config, self.run = fabric, setup, config, run
        self.val_set = setup.val_set
        self.step = TrainingStep(fabric, setup.objective, config)
        self.schedule = build_schedule(self.step.optimizer.optimizer, config.optim, self._steps(config.train.epochs))
        self.ema = build_ema(setup.objective.model, config.train.ema)
        setup.objective.follow(cast(SegmentationModel, self.ema.module))
        share = config.train.start_share
        self.blend = StartBlend(setup.objective.model, share) if share else None
        self.epoch = self.saved = 0
        self.best_epoch, self.best_miou = 0, -1.0
        self.better_epoch = 0  # the last that was not only as good; patience counts from it
        self.clock = RunClock(len(setup.batches), 60 * config.train.minutes, self.time_scores)
        self.val_share = range(fabric.global_rank, len(self.val_set), fabric.world_size)
        count = config.train.pictures if fabric.is_global_zero else 0
        self.pictures = ProgressPictures(run.path, self.val_set.classes, self.val_share, count)
        self.board = run.board() if config.train.tensorboard and fabric.is_global_zero else None

    def train(self, resume: bool = False) -> RunResult:
        """Train to the last epoch, or until `patience` evaluations brought nothing better.

        Raises:
            CheckpointError: another training holds the run folder.
            TrainingDivergedError: the loss is not finite.
            MachineError: a full disk, a killed data worker or the like.
        """
        speaks = self.fabric.is_global_zero
        with (
            self.run.lock() if speaks else nullcontext(),
            report_failures(self.run.path, self._stage, talks=speaks),
        ):
            return self._train(resume)

    def _train(self, resume: bool) -> RunResult:
        begin = time.monotonic()
        if resume:
            self._restore()
        self._run_epochs()
        result = RunResult(self.run.path, self._final_scores(), self.best_epoch, self.epoch, time.monotonic() - begin)
        if self.fabric.is_global_zero:
            facts = {
                "params": count_parameters(self.network)[0],
                "gmacs": round(count_gmacs(self.network, self.config.augment.crop), 4),
                "best_epoch": self.best_epoch,
                "epochs": self.epoch,
            }
            self.run.write_result(result.best.to_dict() | facts)
        return result

    def _stage(self) -> str:
        """Return what is being done, for a line that says where it ended."""
        over = self.saved == self.config.train.epochs or self._out_of_patience()
        return "the final scores" if over else f"epoch {self.saved + 1}"

    def _run_epochs(self) -> None:
        """Train and evaluate epoch after epoch, each left behind as a checkpoint."""
        every = self.config.train.eval_every
        with bars("{task.fields[figures]}") as progress:
            overall = progress.add_task("epochs", total=self.config.train.epochs, completed=self.epoch, figures="")
            while self.epoch < self.config.train.epochs and not self._out_of_patience():
                row = self._epoch(progress)
                before = self._plan_anew()
                epochs = self.config.train.epochs
                if self.epoch % every == 0 or self.epoch == epochs:
                    row |= self._evaluate(progress)
                begin = time.monotonic()
                self.save(row, replanned_from=before)
                self.clock.saved(time.monotonic() - begin)
                self.saved = self.epoch
                figures = f"best mIoU {100 * self.best_miou:.1f}"
                progress.update(overall, completed=self.epoch, total=epochs, figures=figures)
                logger.info(row_text(row, epochs, self.clock.ends(self.epoch, epochs, every)))

    def save(self, row: dict[str, Any], *, replanned_from: int = 0) -> None:
        """Leave an epoch behind: its row, weights and state, all before others go on.

        Args:
            row: of the epoch.
            replanned_from: the epochs of the run as they were planned until this one, where they were planned anew.
        """
        if self.fabric.is_global_zero:
            self.run.log(row)
            self.run.save("last", self._checkpoint(row))
            # The state comes first: a run that is killed before its configuration is written finds the plan in it.
            planned = {"planned": [replanned_from, self.config.train.epochs]} if replanned_from else {}
            self.run.save_state(self._state() | planned)
            if planned:
                self.run.change(self.config)
        if self.board is not None:
            for name in ("loss", "miou", "lr", "images_per_second"):
                if name in row:
                    self.board.add_scalar(name, row[name], self.epoch)
            self.board.flush()
        self.fabric.barrier()

    def _plan_anew(self) -> int:
        """Plan other epochs where the run would not end in time; return as how many they were planned before, or 0."""
        before, every = self.config.train.epochs, self.config.train.eval_every
        epochs = int(self.fabric.broadcast(self.clock.plan(self.epoch, before, every)))
        if epochs == before:
            return 0
        logger.info(
            f"train.epochs={epochs} instead of {before}: a step takes {duration(self.clock.pace().step)}, and the run "
            f"has {duration(self.clock.limit)}"
        )
        self._set_epochs(epochs)
        return before

    def _set_epochs(self, epochs: int) -> None:
        change = msgspec.structs.replace
        self.config = change(self.config, train=change(self.config.train, epochs=epochs))
        stretch_schedule(self.schedule, self.config.optim, self._steps(epochs), self._steps(self.epoch))

    def _steps(self, epochs: int) -> int:
        """Return the optimiser's steps of so many epochs."""
        return epochs * math.ceil(len(self.setup.batches) / self.config.optim.accumulate)

    def _epoch(self, progress: Progress) -> dict[str, Any]:
        """Train one epoch and return its row of the log."""
        config, fabric = self.config, self.fabric
        # Dropout's stream depends on seed, epoch and process alone, so that a resumed run draws the same numbers.
        torch.manual_seed((config.seed * 100_003 + self.epoch) * 1_009 + fabric.global_rank)
        self.step.objective.train()
        self.step.plain.set_progress(self.epoch / config.train.epochs)
        self.setup.batches.begin(self.epoch)
        total = len(self.setup.batches)
        task = progress.add_task(f"epoch {self.epoch + 1}", total=total, figures="")
        losses: list[torch.Tensor] = []
        begin = time.monotonic()
        for step, batch in enumerate(one_line_errors(self.setup.loader), start=1):
            last = step % config.optim.accumulate == 0 or step == total
            losses.append(self.step(batch, last=last))
            if last:
                self.schedule.step()
                self.ema.update_parameters(self.setup.objective.model)
            if step % 5 == 0 or step == total:
                self._check_finite(losses[-5:], step)
                speed = step * config.data.batch_size * fabric.world_size / max(time.monotonic() - begin, TICK)
                figures = f"loss {float(torch.stack(losses[-20:]).mean()):.3f}, {speed:.1f} images/s"
                progress.update(task, completed=step, figures=figures)
                train = config.train
                elapsed = time.monotonic() - begin
                if words := self.clock.said_early(step, elapsed, self.epoch, train.epochs, train.eval_every):
                    logger.info(words)
        progress.remove_task(task)
        if self.blend is not None:
            self.blend.update(self.ema.module.state_dict())
        self.epoch += 1
        seconds = max(time.monotonic() - begin, TICK)
        self.clock.trained(seconds)
        mean = fabric.all_reduce(torch.stack(losses).mean(), reduce_op="mean")
        return {
            "epoch": self.epoch,
            "loss": float(cast(torch.Tensor, mean)),
            "lr": self.schedule.get_last_lr()[-1],
            "seconds": round(seconds, 2),
            "images_per_second": round(total * config.data.batch_size * fabric.world_size / seconds, 2),
            **self.step.plain.figures(),
        }

    def _evaluate(self, progress: Progress) -> dict[str, Any]:
        """Score the averaged weights on the validation split, keep them if they are the best, and return scores."""
        begin = time.monotonic()
        self._share(self.network.buffers())  # each process's batch norms saw other samples; the first's are saved
        task = progress.add_task("evaluate", total=len(self.val_set), figures="")
        world, watch = self.fabric.world_size, self.pictures.watch
        result = self._score(lambda done, _: progress.update(task, completed=done * world), watch=watch)
        progress.remove_task(task)
        seconds = time.monotonic() - begin
        self.clock.looked(seconds)
        row = {
            "validation_seconds": round(seconds, 2),
            "miou": round(result.miou, 6),
            "pixel_accuracy": round(result.pixel_accuracy, 6),
            "iou": {
                name: None if math.isnan(iou) else round(float(iou), 4)
                for name, iou in zip(result.classes.names, result.iou, strict=True)
            },
        }
        if result.miou > self.best_miou:
            self.better_epoch = self.epoch
        if result.miou >= self.best_miou:  # of equals the later one, which has learnt for longer
            self.best_miou, self.best_epoch = result.miou, self.epoch
            if self.fabric.is_global_zero:
                self.run.save("best", self._checkpoint(row))
                self.pictures.write(self.epoch, self.board)
        return row

    def _score(self, progress: OnProgress, boundary: bool = False, watch: Watch | None = None) -> EvalResult:
        """Score the averaged weights; each process takes its share of the images, and the counts are added up."""
        fabric, segmenter = self.fabric, self._segmenter()
        widths = take_widths(self.val_set) if boundary else None
        thin = widths.thin if widths else ()
        confusion, borders, lines = score(
            segmenter.segment,
            self.val_set,
            indices=self.val_share,
            boundary=boundary,
            thin=thin,
            watch=watch,
            progress=progress,
        )
        for counts in (counts for metric in (confusion, borders, lines) if metric for counts in metric.counts()):
            total = fabric.all_reduce(torch.from_numpy(counts).to(fabric.device), reduce_op="sum")
            counts[:] = cast(torch.Tensor, total).cpu().numpy()
        rules = protocol(self.val_set, long_side=self.network.input_spec.long_side)
        return EvalResult.from_metrics(confusion, borders, rules, lines, widths)

    def _segmenter(self) -> Segmenter:
        return Segmenter(TorchSession(self.network, self._artifact(), device=str(self.fabric.device)))

    def time_scores(self) -> tuple[float, float]:
        """Return about what a look at all validation images takes in seconds, and what final scores have beside it."""
        return time_scores(self._segmenter().segment, self.val_set, self.fabric.world_size)

    def _share(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give all processes the first one's values."""
        if self.fabric.world_size > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor, src=0)

    def _check_finite(self, losses: list[torch.Tensor], step: int) -> None:
        if not bool(torch.isfinite(torch.stack(losses)).all()):
            raise TrainingDivergedError(
                f"the loss is not finite in epoch {self.epoch + 1}, step {step}; lower optim.lr or use "
                f"train.precision=fp32; {self.run.path} keeps the epoch before"
            )

    def _out_of_patience(self) -> bool:
        patience = self.config.train.patience * self.config.train.eval_every
        return bool(patience) and self.better_epoch > 0 and self.epoch - self.better_epoch >= patience

    @property
    def network(self) -> SegmentationModel:
        """What is evaluated and shipped: the averaged network, with its share of the start where there is one."""
        return self.blend.network if self.blend is not None else cast(SegmentationModel, self.ema.module)

    def _artifact(self) -> Artifact:
        return describe(self.network, self.val_set.classes)

    def _checkpoint(self, row: dict[str, Any]) -> Checkpoint:
        config = self.config
        training = {
            "run": config.name,
            "dataset": config.data.name,
            "split": config.data.train_split,
            "epoch": self.epoch,
            "epochs": config.train.epochs,
            "seed": config.seed,
            "crop": list(config.augment.crop),
            "val_miou": row.get("miou"),
        }
        return Checkpoint(self.network, self.val_set.classes, training)

    def _state(self) -> dict[str, Any]:
        start = {} if self.blend is None else {"start": self.blend.start}
        return start | {
            "objective": self.step.plain.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.step.optimizer.state_dict(),
            "schedule": {"last_epoch": self.schedule.last_epoch},
            "scaler": self.fabric.strategy.precision.state_dict(),
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "best_miou": self.best_miou,
            "better_epoch": self.better_epoch,
        }

    def _restore(self) -> None:
        state = self.run.load_state()
        if state is None:
            logger.info(f"{self.run.path} holds no finished epoch; training starts at the first")
            return
        try:
            self.step.plain.load_state_dict(state["objective"])
            self.ema.load_state_dict(state["ema"])
            if self.blend is not None:
                self.blend.start = state["start"]
                self.blend.update(self.ema.module.state_dict())
            restore_optimizer(self.step.optimizer, state["optimizer"])
            self.fabric.strategy.precision.load_state_dict(state["scaler"])
            self.epoch, self.best_epoch, self.best_miou = state["epoch"], state["best_epoch"], state["best_miou"]
            self.better_epoch = state.get("better_epoch", self.best_epoch)  # runs of 0.6 do not say
            before, planned = state.get("planned", (0, 0))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"the training state in {self.run.path} is damaged or another network's ({first_line(error)}); "
                "restore it, or train anew under another name"
            ) from error
        self.saved = self.epoch
        if before == self.config.train.epochs:  # it was killed before this was in its configuration
            self._set_epochs(planned)
            if self.fabric.is_global_zero:
                self.run.change(self.config)
        # The schedule may have been stretched, and an epoch's steps be others than they were.
        stretch_schedule(
            self.schedule, self.config.optim, self._steps(self.config.train.epochs), self._steps(self.epoch)
        )
        self.clock.spent = self.run.seconds(self.epoch) if self.fabric.is_global_zero else 0.0

    def _final_scores(self) -> EvalResult:
        """Score the best epoch's weights in full, boundary F1 with it."""
        if self.fabric.is_global_zero:  # other nodes need not see its folder
            load_checkpoint(self.run.path, model=self.network)
        self._share(self.network.state_dict().values())
        images = len(self.val_set)
        with counting("best epoch", images) as progress:
            return self._score(lambda done, _: progress(done * self.fabric.world_size, images), boundary=True)
