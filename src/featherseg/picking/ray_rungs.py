"""The steps of a rung on a Ray cluster, through Ray Tune: each is a trial, wherever there is room for it.

The study's folder has to be one that all machines of the cluster see under the same name, for a step reads the run
folders of the rung before, and leaves its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.config import Config
from ..core.errors import MachineError, require
from .steps import Step, train_step

Task = tuple[Config, Step, Path]
"""A network's usual training, the step, and the study's folder."""


def train_on_ray(tasks: Sequence[Task], note: Callable[[Step, Mapping[str, Any]], None]) -> None:
    """Train steps, and note each that ended; those that a machine's end took with it are begun again by the caller.

    Args:
        tasks: the steps.
        note: is told what each ended with.

    Raises:
        MissingExtraError: Ray is not installed.
        MachineError: no step of all of them ended.
    """
    ray = require("ray", "ray", "Training on a cluster")
    tune = require("ray.tune", "ray", "Training on a cluster")
    if not ray.is_initialized():
        ray.init(address=None, log_to_driver=False)
    on_gpu = ray.cluster_resources().get("GPU", 0) >= 1
    resources = {"cpu": 1, "gpu": 1} if on_gpu else {"cpu": 1}

    def step_of(config: Mapping[str, Any]) -> None:
        usual, step, folder = tasks[int(config["task"])]
        tune.report({"result": train_step(usual, step, folder), "task": config["task"]})

    tuner = tune.Tuner(
        tune.with_resources(step_of, resources),
        param_space={"task": tune.grid_search(list(range(len(tasks))))},
        run_config=tune.RunConfig(storage_path=str(tasks[0][2] / "ray"), verbose=0),
    )
    ended = 0
    for outcome in tuner.fit():
        metrics = outcome.metrics or {}
        if outcome.error is None and "result" in metrics:
            ended += 1
            note(tasks[int(metrics["task"])][1], metrics["result"])
    if not ended:
        raise MachineError("no training ended on the Ray cluster; see its dashboard, or leave --ray out")
