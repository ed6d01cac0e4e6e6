"""Training from a configuration: the set-up of data, network, losses and run folder."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import msgspec
import torch
from lightning_fabric import Fabric
from torch import nn

from ..core.config import REST, Config
from ..core.errors import CheckpointError, ConfigError
from ..core.progress import counting, hidden, logger
from ..core.text_files import shortened
from ..data.cache import CachedDataset, fits_cache
from ..data.class_counts import ClassCounts, absent_class_warnings, require_contrast, take_class_counts
from ..data.class_maps import open_mapped
from ..data.datasets import SegmentationDataset
from ..data.loader import EpochBatches, TrainSamples, train_loader
from ..data.on_device import DeviceBatches, looks_on_device
from ..data.transforms import TrainTransform
from ..data.unlabelled import labelled_images, unlabelled_images
from ..data.unlabelled_crops import UnlabelledCrops
from ..models.base import SegmentationModel
from ..models.checkpoint import Checkpoint, load_checkpoint
from ..models.factory import create_model
from ..models.facts import count_parameters
from ..models.published import is_published, load_published, open_checkpoint, published
from ..models.soup import soup
from ..models.transfer import start_from
from .devices import create_fabric
from .distill import Distilled
from .failures import leave_signals_to_parent, room_for
from .loss_terms import build_loss
from .run_folder import RunFolder
from .run_log import read_log
from .run_result import RunResult
from .self_training import SelfTrained
from .supervised import Supervised
from .teacher import load_teacher
from .trainer import Setup, Trainer


def fit(
    config: Config | str | Path,
    *,
    model: nn.Module | Mapping[str, Any] | str | None = None,
    resume: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> RunResult:
    """Train, and leave a run folder.

    Args:
        config: the whole run; or a folder of images and masks, for which all is chosen that `settings` leave open, as
            ``featherseg train FOLDER`` does (the choices and their reasons are logged); or a recipe's TOML file.
        model: a network to train, of another library too (see :func:`featherseg.wrap`): a copy of it is trained, and
            in the end it gets the weights of the best epoch. Else the recipe's section, or the name of a network.
        resume: go on with the run in the folder that `config` names.
        quiet: show no bars and notes, even where :func:`featherseg.show_progress` was called.
        settings: as in a recipe, a dictionary for each section: ``train={"epochs": 10}, optim={"lr": 1e-3}``, and
            ``name``, ``out`` and ``seed`` as they are.

    Raises:
        FeathersegError: a setting, dataset or weights file cannot be used, or another training holds the run folder;
            nothing is left behind then.
        TrainingDivergedError: the loss is not finite; the last good checkpoint stays.
        MachineError: a full disk, a killed data worker or the like; the last good checkpoint stays.

    Example:
        >>> config = featherseg.load_config("recipe.toml", ["name=mine", "train.epochs=1"])
        >>> featherseg.fit(config).path.name
        'mine'
        >>> quick = {"train": {"epochs": 1}, "data": {"batch_size": 4}, "augment": {"crop": [64, 64]}}
        >>> featherseg.fit("photos", model="jetnet", name="quick", **quick).epochs
        1
    """
    from .given import as_given  # which chooses settings, and looks at starts as they are loaded here

    with hidden(quiet):
        config, network = as_given(config, model, settings, resume=resume)
    run = RunFolder(Path(config.out) / config.name)
    if not resume:
        run.require_new()
        config = with_lasting_paths(with_pruned_start(config))
    fabric = create_fabric(config.train)
    fabric.launch()
    first = fabric.is_global_zero
    with hidden(quiet or not first), run.lock() if first else nullcontext():
        trained = None if network is None else copy.deepcopy(network)
        setup = set_up(config, fabric, fresh=not (resume and run.has_state), model=trained)
        trainer = Trainer(fabric, setup, config, run)
        if first:  # only now that nothing of the configuration can be refused any more
            run.create(config, setup.val_set.classes, resume=resume)
        fabric.barrier()
        params, _ = count_parameters(setup.objective.model)
        processes = f" x {fabric.world_size} processes" if fabric.world_size > 1 else ""
        logger.info(
            f"{config.model.name} ({params / 1e6:.2f} M parameters) on {setup.images} images of "
            f"{config.data.name}, {config.train.epochs} epochs x {len(setup.batches)} steps of "
            f"{config.data.batch_size}{processes}, {fabric.strategy.precision.precision} on {fabric.device}"
        )
        result = trainer.train(resume)
        if network is not None:
            network.load_state_dict(trainer.network.state_dict())
            network.eval()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # its threads would abort a process that ends with them running
    return result


def set_up(config: Config, fabric: Fabric, *, fresh: bool = True, model: SegmentationModel | None = None) -> Setup:
    """Build datasets, network, losses and loader; nothing is written.

    Args:
        config: the whole run.
        fabric: launched.
        fresh: fill the network with the weights it starts from; a training state replaces them all.
        model: the network, where it is not built by its name.

    Raises:
        FeathersegError: a setting, dataset or weights file cannot be used.
    """
    data = config.data
    with fabric.rank_zero_first():  # one process downloads, if any has to
        train_set, rest = labelled_images(data, config.seed)
        val_set = open_mapped(data.name, data.root, data.val_split, data.classes, **data.options)
        others = unlabelled_images(data.unlabelled, train_set, val_set, rest) if data.unlabelled else None
    torch.manual_seed(config.seed)
    # A training state replaces all weights: those of the start need not be there any more.
    options = {k: v for k, v in config.model.options.items() if fresh or k not in ("encoder_weights", "pretrained")}
    if model is None:
        model = create_model(config.model.name, len(train_set.classes), **options)
    elif model.num_classes != (count := len(train_set.classes)):
        raise ConfigError(
            f"model gives logits of {model.num_classes} classes, but {data.name} has {count} "
            f"({shortened(', '.join(train_set.classes.names), 100)}); build it with {count}"
        )
    if config.model.long_side:
        model.input_spec = replace(model.input_spec, long_side=config.model.long_side)
    if config.model.starts and fresh:
        start = load_start(config.model.starts, model)
        named = Path(" + ".join(config.model.starts))
        if kept := start_from(model, start, train_set.classes, named, config.model.init_classes):
            logger.info(kept)
        if (side := start.model.input_spec.long_side) and side != config.model.long_side:
            logger.warning(f"warning: {named} saw images with a long side of {side}; set model.long_side={side}")
    for note in (*getattr(train_set, "notes", ()), *(others.notes if others is not None else ())):
        logger.info(note)
    unlabelled: SegmentationDataset | None = others
    if data.cache:
        train_set, val_set = (cached(dataset) for dataset in (train_set, val_set))
        unlabelled = None if unlabelled is None else cached(unlabelled)
    counts = take_class_counts(train_set)
    val_counts = take_class_counts(val_set)
    require_contrast(counts, val_counts, train_set.classes)
    for line in absent_class_warnings(counts, val_counts, train_set.classes.names):
        logger.warning(line)

    weights = class_weights(config, counts)
    if config.loss.class_weights == "auto" and counts.seen < counts.total:
        logger.info(f"class weights are from {counts} training masks")
    ignore = train_set.classes.ignore_index
    supervised = Supervised(
        model,
        build_loss(config.loss.out, ignore, weights, train_set.classes.names),
        build_loss(config.loss.aux, ignore, weights, train_set.classes.names),
        config.loss.aux_weight,
    )
    taught: Supervised | Distilled = supervised
    distill = config.distill
    if distill.teachers:
        with fabric.rank_zero_first():
            teachers = [load_teacher(source) for source in distill.teachers]
        taught = Distilled(
            supervised, teachers, distill.losses, train_set.classes, distill.cache, class_table=distill.classes
        )
    objective: Supervised | Distilled | SelfTrained = taught
    if others is not None:
        with fabric.rank_zero_first():
            teacher = load_teacher(config.selftrain.teacher) if config.selftrain.teacher else None
        objective = SelfTrained(taught, config.selftrain, train_set.classes, teacher)
    elif config.selftrain.teacher:
        raise ConfigError(
            f"selftrain.teacher is {config.selftrain.teacher}, but there are no images without labels; set "
            "data.unlabelled to a folder of them, or to rest"
        )
    images = len(train_set)
    if (step := data.batch_size * fabric.world_size) > images * data.crops:
        logger.warning(
            f"warning: a step takes {step} samples of {images} images, some of them more than once, though each time "
            f"cut anew; data.batch_size={max(images // fabric.world_size, 1)} takes each once"
        )
    batches = EpochBatches(
        images, data.batch_size, config.seed, fabric.global_rank, fabric.world_size, crops=data.crops
    )
    raw = looks_on_device(config.augment, fabric.device)
    transform, crops = TrainTransform(config.augment, ignore, model.input_spec), None
    if unlabelled is not None:
        crops = UnlabelledCrops(unlabelled, config.augment, config.selftrain, ignore, model.input_spec)
    samples = TrainSamples(train_set, transform, config.seed, raw=raw, unlabelled=crops)
    on_gpu = fabric.device.type == "cuda"
    loader = train_loader(samples, batches, data.workers, pin_memory=on_gpu, worker_start=leave_signals_to_parent)
    strong = config.selftrain.jitter > 0
    source = DeviceBatches(loader, config.augment, fabric.device, strong=strong) if raw else loader
    return Setup(objective, source, batches, images, val_set)


def resume_run(
    folder: str | Path, *, epochs: int | None = None, quiet: bool = False, model: nn.Module | None = None
) -> RunResult:
    """Go on with the run in `folder`, which may have been moved, as it was configured.

    Args:
        folder: of the run.
        epochs: in all, where there shall be more or fewer than configured; the schedule is stretched to them.
        quiet: show no progress.
        model: the network, where the run is of one that no name builds; see :func:`fit`.

    Raises:
        CheckpointError: it is no run folder, or no epoch of it was finished.
        ConfigError: more epochs than that are done.

    Example:
        >>> featherseg.resume_run("runs/street").best_epoch in (1, 2)
        True
    """
    folder = Path(folder)
    config = msgspec.structs.replace(RunFolder(folder).config, out=str(folder.parent), name=folder.name)
    if epochs is not None and epochs != config.train.epochs:
        done = max((row["epoch"] for row in read_log(folder)), default=0) if (folder / "log.jsonl").is_file() else 0
        if epochs < done:
            raise ConfigError(f"train.epochs is {epochs}, but {folder} has {done} already; give {done} or more")
        logger.info(
            f"{epochs} epochs in all instead of {config.train.epochs}: the schedule is stretched, so that the learning "
            f"rate goes on from epoch {done + 1} as it is there in a run of {epochs}"
        )
        train = msgspec.structs.replace(config.train, epochs=epochs, minutes=0.0)  # which would plan others
        config = msgspec.structs.replace(config, train=train)
    return fit(config, resume=True, quiet=quiet, model=model)


def with_lasting_paths(config: Config) -> Config:
    """Return `config` with paths that mean the same from every folder, since evaluations start elsewhere.

    Those that begin with ``~`` stay, for they mean the same already; so does what is no path, such as a teacher of
    torchvision's. One path stays one, and a list a list.
    """

    def lasting(path: str) -> str:
        return str(Path(path).absolute()) if path and not path.startswith("~") and Path(path).exists() else path

    def lasting_start(path: str) -> str:
        return path if names_published(path) else lasting(path)

    init, teacher, data = config.model.init, config.distill.teacher, config.data
    change = msgspec.structs.replace
    listed = data.labelled_number(1) is None
    return change(
        config,
        data=change(
            data,
            root=lasting(data.root),
            labelled=lasting(str(data.labelled)) if listed else data.labelled,
            unlabelled=data.unlabelled if data.unlabelled == REST else lasting(data.unlabelled),
        ),
        model=change(
            config.model, init=lasting_start(init) if isinstance(init, str) else tuple(map(lasting_start, init))
        ),
        distill=change(
            config.distill, teacher=lasting(teacher) if isinstance(teacher, str) else tuple(map(lasting, teacher))
        ),
        selftrain=change(config.selftrain, teacher=lasting(config.selftrain.teacher)),
    )


def with_pruned_start(config: Config) -> Config:
    """Return `config` with the architecture of the pruned network that ``model.init`` names, if it is one.

    The run folder then says it itself, and can be resumed without the file that it started from. Of several starts the
    first tells: the others have to be like it.

    Raises:
        CheckpointError: the file cannot be used, or is of another network.
    """
    source = next(iter(config.model.starts), "")
    if not source or "pruned" in config.model.options or names_published(source):
        return config
    start = load_checkpoint(Path(source).expanduser()).model
    if "pruned" not in start.options:
        return config
    if start.name != config.model.name:
        raise CheckpointError(f"model.init {source} is of {start.name}; set model.name={start.name}")
    return msgspec.structs.replace(config, model=msgspec.structs.replace(config.model, options=start.options))


def names_published(init: str) -> bool:
    """Return whether a start is published weights' data, such as ``cityscapes``.

    A file or run folder of that name comes first; another folder, such as the dataset itself, is no start.
    """
    path = Path(init)
    starts = (path, path / "best.safetensors", path / "last.safetensors")
    return is_published(init) and not any(each.is_file() for each in starts)


def load_start(starts: Sequence[str], model: SegmentationModel) -> Checkpoint:
    """Return what ``model.init`` names, of several the mean.

    Args:
        starts: run folders, weights files, or data of published weights of the same network.
        model: is to start from them.

    Raises:
        ConfigError: no such weights of this network are published.
        DownloadError: they are not here and cannot be fetched.
        CheckpointError: one is missing, damaged, or another network than the first.
    """
    found = [
        load_published(published(model.name, start, model.options))
        if names_published(start)
        else open_checkpoint(start)
        for start in starts
    ]
    return found[0] if len(found) == 1 else soup(found, starts)


def cached(dataset: SegmentationDataset) -> SegmentationDataset:
    """Return `dataset` decoded, or itself where that would be too large.

    Raises:
        MachineError: the disk of temporary files is full.
    """
    if not fits_cache(dataset):
        logger.info(f"{dataset.name} {dataset.split} is too large to keep decoded; files are decoded each time")
        return dataset
    with (
        room_for(
            f"decoded images of {dataset.name} {dataset.split} do not fit into {gettempdir()}",
            "make room, set the variable TMPDIR to a folder on a larger disk, or set data.cache=false",
        ),
        counting(f"decode {dataset.split}", len(dataset)) as progress,
    ):
        return CachedDataset(dataset, progress)


def class_weights(config: Config, train: ClassCounts) -> list[float] | None:
    """Return one loss weight per class as the recipe asks, or None.

    "auto" is the square root of inverse frequency, scaled to a mean of 1 over labelled pixels: full inverse
    frequency makes rare classes flood their surroundings.
    """
    chosen = config.loss.class_weights
    if chosen == "none":
        return None
    if chosen == "auto":
        share = train.share
        raw = 1 / (share + 1e-3) ** 0.5
        return [float(w) for w in raw / (raw * share).sum()]
    if len(chosen) != len(train.pixels):
        raise ConfigError(
            f"loss.class_weights has {len(chosen)} numbers for {len(train.pixels)} classes; give one per class"
        )
    return list(chosen)
