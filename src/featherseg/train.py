"""Training from a configuration: the set-up of data, network, losses and run folder."""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch

from .checkpoint import load_checkpoint, load_weights
from .config import Config
from .data.cache import CachedDataset, fits_cache
from .data.datasets import SegmentationDataset, class_frequencies, create_dataset
from .data.loader import EpochBatches, TrainSamples, train_loader
from .data.transforms import TrainTransform
from .devices import create_fabric
from .distill import Distilled
from .errors import CheckpointError, ConfigError
from .losses import build_loss
from .models import SegmentationModel, count_parameters, create_model
from .objectives import Supervised
from .progress import counting, say
from .run import RunFolder
from .teacher import load_teacher
from .trainer import RunResult, Trainer


def fit(config: Config, *, resume: bool = False, quiet: bool = False) -> RunResult:
    """Train as configured and leave a run folder.

    Args:
        config: the whole run.
        resume: go on with the run in the folder that `config` names.
        quiet: show no progress.

    Raises:
        FeathersegError: a setting, dataset or weights file cannot be used; nothing is left behind then.
        TrainingDivergedError: the loss is not finite; the last good checkpoint stays.
    """
    fabric = create_fabric(config.train)
    fabric.launch()
    quiet = quiet or not fabric.is_global_zero
    data = config.data
    with fabric.rank_zero_first():  # one process downloads, if any has to
        train_set = create_dataset(data.name, data.root, data.train_split, **data.options)
        val_set = create_dataset(data.name, data.root, data.val_split, **data.options)
    torch.manual_seed(config.seed)
    run = RunFolder(Path(config.out) / config.name)
    fresh = not (resume and run.has_state)
    # A training state replaces all weights: those of the start need not be there any more.
    options = {k: v for k, v in config.model.options.items() if fresh or k not in ("encoder_weights", "pretrained")}
    model = create_model(config.model.name, len(train_set.classes), **options)
    if config.model.init and fresh:
        start_from(model, Path(config.model.init).expanduser(), train_set)
    for note in getattr(train_set, "notes", ()):
        say(note, quiet)
    if config.data.cache:
        train_set, val_set = (cached(dataset, quiet) for dataset in (train_set, val_set))

    weights = class_weights(config, train_set)
    ignore = train_set.classes.ignore_index
    supervised = Supervised(
        model,
        build_loss(config.loss.out, ignore, weights),
        build_loss(config.loss.aux, ignore, weights),
        config.loss.aux_weight,
    )
    objective: Supervised | Distilled = supervised
    if config.distill.teacher:
        with fabric.rank_zero_first():
            teacher = load_teacher(config.distill.teacher)
        objective = Distilled(supervised, teacher, config.distill.losses, train_set.classes)
    batches = EpochBatches(len(train_set), config.data.batch_size, config.seed, fabric.global_rank, fabric.world_size)
    samples = TrainSamples(train_set, TrainTransform(config.augment, ignore), config.seed)
    loader = train_loader(samples, batches, config.data.workers, pin_memory=fabric.device.type == "cuda")
    trainer = Trainer(fabric, objective, loader, batches, val_set, config, run, quiet)
    if fabric.is_global_zero:  # only now that nothing of the configuration can be refused any more
        run.create(config, train_set.classes, resume=resume)
    fabric.barrier()
    params, _ = count_parameters(model)
    say(
        f"{config.model.name} ({params / 1e6:.2f} M parameters) on {len(train_set)} images of {config.data.name}, "
        f"{config.train.epochs} epochs x {len(batches)} steps of {config.data.batch_size}, "
        f"{fabric.strategy.precision.precision} on {fabric.device}",
        quiet,
    )
    result = trainer.train(resume)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # its threads would abort a process that ends with them running
    return result


def resume_run(folder: str | Path, *, quiet: bool = False) -> RunResult:
    """Go on with the run in `folder`, which may have been moved, as it was configured.

    Raises:
        CheckpointError: it is no run folder, or no epoch of it was finished.
    """
    folder = Path(folder)
    config = msgspec.structs.replace(RunFolder(folder).config, out=str(folder.parent), name=folder.name)
    return fit(config, resume=True, quiet=quiet)


def start_from(model: SegmentationModel, source: Path, train_set: SegmentationDataset) -> None:
    """Fill `model` with the weights of a run folder or weights file.

    Raises:
        CheckpointError: it is missing, of another network, or of other classes, which would be mixed up silently.
    """
    start = load_checkpoint(source)
    if start.classes.names != train_set.classes.names:
        theirs, ours = ", ".join(start.classes.names), ", ".join(train_set.classes.names)
        raise CheckpointError(f"model.init {source} was trained on {theirs}, but the data have {ours}; leave it out")
    load_weights(model, start.model.state_dict(), source)


def cached(dataset: SegmentationDataset, quiet: bool) -> SegmentationDataset:
    """Return `dataset` decoded, or itself where that would be too large."""
    if not fits_cache(dataset):
        say(f"{dataset.name} {dataset.split} is too large to keep decoded; files are decoded each time", quiet)
        return dataset
    with counting(f"decode {dataset.split}", len(dataset), quiet=quiet) as progress:
        return CachedDataset(dataset, progress)


def class_weights(config: Config, train_set: SegmentationDataset) -> list[float] | None:
    """Return one loss weight a class as the recipe asks, or None.

    "auto" is the square root of inverse frequency, scaled to a mean of 1 over labelled pixels: full inverse
    frequency makes rare classes flood their surroundings.
    """
    chosen = config.loss.class_weights
    if chosen == "none":
        return None
    if chosen == "auto":
        share = class_frequencies(train_set)
        raw = 1 / (share + 1e-3) ** 0.5
        return [float(w) for w in raw / (raw * share).sum()]
    if len(chosen) != len(train_set.classes):
        raise ConfigError(
            f"loss.class_weights has {len(chosen)} numbers for {len(train_set.classes)} classes; give one a class"
        )
    return list(chosen)
