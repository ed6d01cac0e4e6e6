"""The run folder: everything a training leaves behind, described by itself."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..core.config import Config
from ..core.errors import CheckpointError, ConfigError, require
from ..core.files import TEMPORARY, write_atomically
from ..core.formatting import quoted
from ..core.lock import folder_lock
from ..core.machine import cpu_name, gpu_name, versions
from ..core.recipes import config_to_toml, load_config
from ..core.types import ClassSet
from ..models.checkpoint import Checkpoint, load_state, save_checkpoint, save_state
from .failures import go_on, room_for
from .progress_pictures import FOLDER
from .run_log import read_log

OWN_FILES = ("classes.json", "env.json", "log.jsonl", "result.json", FOLDER)
"""What a run writes beside weights, whose names nobody else has."""
PACKAGES = ("featherseg", "torch", "torchvision", "timm", "lightning-fabric", "numpy", "opencv-python-headless")


class RunFolder:
    """``config.toml, classes.json, env.json, log.jsonl, result.json, best.*, last.*, state.*, progress/`` in one place.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._locked = False

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other trainings out of the folder; a lock that this object holds already is taken as it is.

        Raises:
            CheckpointError: another training holds it.
        """
        if self._locked:
            yield
            return
        with folder_lock(self.path):
            self._locked = True
            try:
                yield
            finally:
                self._locked = False

    def require_new(self) -> None:
        """Refuse a folder that holds a run already, or files of a person's that a run would replace.

        Raises:
            ConfigError: it does.
        """
        if (self.path / "config.toml").exists():
            raise ConfigError(
                f"{self.path} holds a run already; go on with it by --resume {quoted(self.path)}, or choose another "
                "name or out"
            )
        if taken := [name for name in OWN_FILES if (self.path / name).exists()]:
            raise ConfigError(
                f"{self.path} is no run folder but holds {taken[0]}, which a run replaces; choose another name or out"
            )

    def create(self, config: Config, classes: ClassSet, *, resume: bool = False) -> None:
        """Make the folder and write what is known before training.

        With `resume` the run in it stays; what a killed process left half-written is removed.

        Raises:
            ConfigError: there is a run in it already, and it shall not be resumed.
            MachineError: the disk is full; of a new run nothing is left then.
        """
        if not resume:
            self.require_new()
        for folder in (self.path, self.path / FOLDER):
            for stale in folder.glob(f"{TEMPORARY}*"):
                stale.unlink(missing_ok=True)
        files = {
            "config.toml": config_to_toml(config),
            "classes.json": json.dumps(classes.to_dict(), indent=1),
            "env.json": json.dumps(environment(), indent=1),
        }
        try:
            with room_for(f"{self.path} cannot be written", f"make room, then {self._again(resume)}"):
                for name, text in files.items():
                    self._write(name, text)
        except BaseException:
            for name in () if resume else files:  # a part of them would pass for a run
                (self.path / name).unlink(missing_ok=True)
            raise

    @property
    def config(self) -> Config:
        """The configuration of the run in the folder."""
        if not (self.path / "config.toml").is_file():
            raise CheckpointError(f"{self.path} is no run folder: it holds no config.toml")
        return load_config(self.path / "config.toml")

    def change(self, config: Config) -> None:
        """Write another configuration for the run in the folder."""
        self._write("config.toml", config_to_toml(config))

    def seconds(self, epochs: int) -> float:
        """Return what so many epochs of the run took, validation included, as far as its log says."""
        rows = read_log(self.path) if (self.path / "log.jsonl").is_file() else []
        parts = ("seconds", "validation_seconds")
        times = (row.get(part, 0.0) for row in rows if row["epoch"] <= epochs for part in parts)
        return sum(seconds for seconds in times if isinstance(seconds, int | float))

    def log(self, row: dict[str, Any]) -> None:
        """Append a row to ``log.jsonl``; a row of an epoch that is there already (after a resume) replaces it."""
        file = self.path / "log.jsonl"
        rows = [r for r in read_log(self.path) if r["epoch"] < row["epoch"]] if file.exists() else []
        self._write("log.jsonl", "".join(json.dumps(r) + "\n" for r in [*rows, row]))

    def board(self) -> Any:
        """Return a TensorBoard writer into the folder.

        Raises:
            MissingExtraError: TensorBoard is not installed.
        """
        tensorboard = require("torch.utils.tensorboard", "track", "Logging to TensorBoard")
        return tensorboard.SummaryWriter(self.path / "tensorboard")

    def write_result(self, result: dict[str, Any]) -> None:
        """Write ``result.json``: the best epoch's scores, when training is over."""
        self._write("result.json", json.dumps(result, indent=1))

    def save(self, name: str, checkpoint: Checkpoint) -> Path:
        """Write weights as ``<name>.safetensors``."""
        return save_checkpoint(self.path / f"{name}.safetensors", checkpoint)

    def save_state(self, state: dict[str, Any]) -> None:
        """Write the training state that :meth:`load_state` goes on from."""
        save_state(self.path / "state.safetensors", state)

    def load_state(self) -> dict[str, Any] | None:
        """Read the last training state; None where the first epoch did not end.

        Raises:
            CheckpointError: it is damaged.
        """
        if not self.has_state:
            return None
        state: dict[str, Any] = load_state(self.path / "state.safetensors")
        return state

    @property
    def has_state(self) -> bool:
        """Whether an epoch was finished, so that there is a state to go on from."""
        return (self.path / "state.safetensors").is_file()

    def _again(self, resume: bool) -> str:
        return go_on(self.path) if resume else "start again"

    def _write(self, name: str, text: str) -> None:
        write_atomically(self.path / name, lambda file: file.write(text.encode()))


def environment() -> dict[str, Any]:
    """Return machine and versions, as figures need beside them."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "gpu": gpu_name(),
        "command": sys.argv,
        "versions": versions(PACKAGES, missing="not installed"),
    }
