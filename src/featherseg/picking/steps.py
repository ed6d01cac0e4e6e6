"""A step of the study: one network trained through one rung, in a run folder of its own that outlives a kill."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ..core.config import Config, DistillConfig
from ..core.errors import FeathersegError, MachineError, TrainingDivergedError, first_line
from ..core.progress import hidden, logger
from ..training.fit import fit
from ..training.run_folder import RunFolder
from ..training.run_log import read_log

TEACHING: tuple[dict[str, Any], ...] = (
    {"name": "kl", "temperature": 2.0, "use_ignored": True, "decay": True},
    {"name": "cwd", "weight": 3.0, "use_ignored": True, "decay": True},
)
"""What a network learns from its teacher; as in recipes/camvid_fastsegnet_half_distilled.toml, but less and less of it:
the teacher is not at its best yet either."""


@dataclass(frozen=True)
class Step:
    """A training.

    Args:
        slug: what the network's files are called.
        name: what people call it.
        rung: of the study.
        epochs: to train.
        minutes: that it may take; 0 for as long as it takes.
        teacher: run folder that it learns from beside the masks; empty for none.
        start: run folder of the rung before; empty in the first.
    """

    slug: str
    name: str
    rung: int
    epochs: int
    minutes: float = 0.0
    teacher: str = ""
    start: str = ""


def step_folder(folder: Path, slug: str, rung: int) -> Path:
    """Return the run folder of a network's rung."""
    return folder / "steps" / slug / f"rung{rung}"


def step_config(usual: Config, step: Step, folder: Path) -> Config:
    """Return the configuration of a step.

    Args:
        usual: the network's training.
        step: which.
        folder: of the study.
    """
    change = msgspec.structs.replace
    path = step_folder(folder, step.slug, step.rung)
    model, train = usual.model, usual.train
    if step.start:
        options = {key: value for key, value in model.options.items() if key not in ("encoder_weights", "pretrained")}
        model = change(model, options=options, init=step.start, init_classes={})
        train = change(train, start_share=0.0)
    # One look, at the end: the others would cost a fifth of a short run, and the last is what is compared.
    train = change(train, epochs=step.epochs, eval_every=step.epochs, minutes=step.minutes, patience=0, pictures=0)
    distill = DistillConfig(teacher=step.teacher, losses=TEACHING) if step.teacher else DistillConfig()
    return change(usual, name=path.name, out=str(path.parent), model=model, train=train, distill=distill)


def train_step(usual: Config, step: Step, folder: Path) -> dict[str, Any]:
    """Train a step, or go on with it, and return what the study notes of it.

    A training that fails by itself, such as one whose loss is not finite, is noted with its reason.

    Raises:
        MachineError: the disk is full, or the like, which no other training would survive either.
    """
    path = step_folder(folder, step.slug, step.rung)
    if not (path / "result.json").is_file():
        run = RunFolder(path)
        begun = (path / "config.toml").is_file()
        config = step_config(usual, step, folder)
        if begun:
            # As it was begun, except for the place, which may be another on another machine.
            config = msgspec.structs.replace(run.config, name=config.name, out=config.out)
        logger.info(f"rung {step.rung + 1}: {step.name}, {config.train.epochs} epochs{' (going on)' * begun}")
        try:
            with hidden():
                _fit(config, begun)
        except MachineError:
            raise
        except FeathersegError as error:
            return {"miou": None, "failure": first_line(error), **_common(step)}
    return _read(path) | _common(step)


def _fit(config: Config, begun: bool) -> None:
    """Train, or go on; where the loss is not finite in fewer bits than fp32, go on from the last epoch in fp32."""
    try:
        fit(config, resume=begun)
    except TrainingDivergedError as error:
        if config.train.precision == "fp32":
            raise
        logger.info(f"{first_line(error)}; it goes on in fp32")
        again = msgspec.structs.replace(config, train=msgspec.structs.replace(config.train, precision="fp32"))
        RunFolder(Path(config.out) / config.name).change(again)
        fit(again, resume=True)


def _common(step: Step) -> dict[str, Any]:
    return {
        "planned": step.epochs,
        "teacher": Path(step.teacher).parent.name if step.teacher else "",
        "process": f"{os.getpid()} on {socket.gethostname()}",
    }


def _read(path: Path) -> dict[str, Any]:
    """Return the scores and times of a finished run."""
    result: Mapping[str, Any] = json.loads((path / "result.json").read_text(encoding="utf-8"))
    rows = read_log(path)
    trained = sum(float(row.get("seconds", 0.0)) for row in rows)
    looked = sum(float(row.get("validation_seconds", 0.0)) for row in rows)
    miou = result.get("miou")
    return {
        "miou": float(miou) if miou is not None else 0.0,
        "boundary_f1": result.get("boundary_f1"),
        "epochs": int(result["epochs"]),
        "train_seconds": round(trained, 2),
        "look_seconds": round(looked, 2),
    }
