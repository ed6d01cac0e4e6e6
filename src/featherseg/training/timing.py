"""How long a training would take on this machine: a few real steps, validation images and saves are timed."""

from __future__ import annotations

import gc
import itertools
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import torch

from ..core.config import Config
from ..core.durations import duration
from ..core.errors import ConfigError, MachineError
from ..core.progress import hidden, logger, silenced
from ..data.loader import one_line_errors
from .choices import Plan, SettingChoice
from .devices import create_fabric
from .fit import set_up, with_pruned_start
from .pace import LOOK_SHARE, LOOKS, Pace
from .run_folder import RunFolder
from .trainer import Trainer

WARM_UP = 3
"""Steps that are not timed: kernels are chosen, memory is asked for, workers start."""
STEPS = (4, 100)
"""At least and at most so many steps are timed,"""
SHARE = 0.03
"""and no further ones after this share of the time that a run may take,"""
SECONDS = 20.0
"""or after so many seconds."""

Measure = Callable[[Config, float], Pace]
"""As :func:`measure_pace`."""


def measure_pace(config: Config, seconds: float) -> Pace:
    """Time what a training as configured does again and again; nothing of it is left behind.

    Loader, losses, precision and threads are the training's own. A network that has learnt nothing yet draws more
    borders than one that has, so that validation is timed as rather too long.

    Args:
        config: the run; its schedule and epochs do not matter.
        seconds: that the run may take; the measurement takes a few percent of them.

    Raises:
        ConfigError: several processes.
        FeathersegError: a setting, dataset or weights file cannot be used.
        MachineError: the memory is too small for a step.
    """
    fabric = create_fabric(config.train)
    if fabric.world_size > 1:
        raise ConfigError(
            f"a run is timed in one process, not in {fabric.world_size}; leave --time out and set train.epochs, or "
            "train.minutes, by which epochs are planned anew as the run goes on"
        )
    fabric.launch()
    logger.info("a few steps are timed")
    begin = time.monotonic()
    change = msgspec.structs.replace
    config = with_pruned_start(config)
    plain = change(config.train, tensorboard=False, minutes=0.0)
    config = change(config, train=plain, distill=change(config.distill, cache=""))
    try:
        with tempfile.TemporaryDirectory(prefix="featherseg-") as place, hidden(), silenced():
            setup = set_up(config, fabric)
            trainer = Trainer(fabric, setup, config, RunFolder(Path(place)))
            start = time.monotonic() - begin
            step = _time_steps(trainer, min(SHARE * seconds, SECONDS))
            look, boundary = trainer.time_scores()
            begin = time.monotonic()
            trainer.save({"epoch": 1, "loss": 0.0})
            save = time.monotonic() - begin
    except torch.OutOfMemoryError as error:
        height, width = config.augment.crop
        raise MachineError(
            f"a step of {config.data.batch_size} crops of {height}x{width} does not fit into the memory; set a lower "
            "data.batch_size or augment.crop"
        ) from error
    pace = Pace(len(setup.batches), step, look, look + boundary, save, start)
    del trainer, setup  # with the loader's workers and the decoded images
    gc.collect()
    return pace


def _time_steps(trainer: Trainer, seconds: float) -> float:
    """Return the seconds of a step, the averaging of weights included."""
    setup, accumulate = trainer.setup, trainer.config.optim.accumulate
    trainer.step.objective.train()
    done, begin, spent = 0, 0.0, 0.0
    for epoch in itertools.count():
        setup.batches.begin(epoch)
        for batch in one_line_errors(setup.loader):
            if done == WARM_UP:
                begin = time.monotonic()
            done += 1
            last = done % accumulate == 0
            loss = trainer.step(batch, last=last)
            if last:
                trainer.ema.update_parameters(setup.objective.model)
            float(loss)  # GPUs are waited for
            spent = time.monotonic() - begin
            timed = done - WARM_UP
            if timed >= STEPS[1] or (timed >= STEPS[0] and spent >= seconds):
                return spent / timed
    raise AssertionError("there is always a next epoch")


def plan_length(pace: Pace, left: float, seconds: float, every: int | None = None) -> tuple[SettingChoice, ...]:
    """Choose as many epochs as end in time, and how often to look at the validation images.

    Args:
        pace: of the run.
        left: seconds from now to the end.
        seconds: that all may take, what is over by now included.
        every: after how many epochs the user wants a look.

    Raises:
        ConfigError: the time is too short for one epoch.
    """
    left -= pace.start
    epochs = pace.fitting(left, every)
    if not epochs:
        least = math.ceil(seconds - left + pace.left(1, 1))
        raise ConfigError(
            f"--time is {duration(seconds)}, and one epoch with its scores takes {duration(least)} here, measuring "
            f"included; give --time {least if least < 100 else math.ceil(least / 60)}{'s' if least < 100 else 'm'} or "
            "more, or a smaller augment.crop"
        )
    each = every or pace.look_every(epochs)
    whole = seconds - left + pace.left(epochs, each)
    parts = f"a step takes {duration(pace.step)}, validation {duration(pace.look)}, final scores {duration(pace.final)}"
    why = f"looks at the validation images take at most {LOOK_SHARE:.0%} of the time, and are {LOOKS} or so at most"
    return (
        SettingChoice("train.epochs", epochs, f"{duration(whole)} in all; {parts}"),
        *(() if every else (SettingChoice("train.eval_every", each, why),)),
        SettingChoice("train.minutes", round(left / 60, 2), f"what is left of {duration(seconds)} for the run itself"),
    )


def in_time(
    config: Config, settings: Sequence[str], seconds: float, measure: Measure | None = None
) -> tuple[Config, tuple[SettingChoice, ...]]:
    """Plan as many epochs of a recipe as end within so many seconds from now, whatever it says of them.

    Args:
        config: the run.
        settings: ``dotted.key=value`` of the user's, which `config` holds already.
        seconds: that all may take.
        measure: times what the training does; really, where left out.

    Returns:
        the planned run, and what was chosen.

    Raises:
        ConfigError: epochs are given as well, or the time is too short for one.
    """
    begin = time.monotonic()
    plan = Plan(settings)
    refuse_length(plan)
    pace = (measure or measure_pace)(config, seconds)
    every = config.train.eval_every if plan.gave("train.eval_every") else None
    choices = plan_length(pace, seconds - (time.monotonic() - begin), seconds, every)
    train = {choice.setting.removeprefix("train."): choice.value for choice in choices}
    return msgspec.structs.replace(config, train=msgspec.structs.replace(config.train, **train)), choices


def refuse_length(plan: Plan) -> None:
    """Refuse a length of the training that the user gives beside its time."""
    if both := next((each for each in ("train.epochs", "train.minutes") if plan.gave(each)), None):
        raise ConfigError(f"--time plans {both}, which is given as well; leave one of them out")
