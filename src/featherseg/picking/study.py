"""A pick's memory: a folder that several processes and machines may share, and that outlives every one of them.

::

    study.journal     Optuna's study: a trial for each network that is trained, a value for each of its rungs
    question.json     what is asked
    screening.json    what candidates take
    plan.json         what is trained for how long
    finals.json       how the finalists were judged
    configs/          the training of each network, as a recipe
    steps/            run folders: one for each network and rung, gone on with after a kill
    clocks/           working time of each process
    locks/            who does what at the moment; a lock ends with its holder
    report.html, report.json, recipe.toml
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core.errors import CheckpointError, ConfigError, first_line, require
from ..core.files import write_atomically
from ..core.lock import folder_lock
from .clock import WorkClock
from .question import Question

JOURNAL = "study.journal"
NAME = "pick"
POLL = 0.5
"""Seconds between two looks at what another process does."""
GRACE = 10
"""Seconds after which Optuna takes a lock on its journal away from a process that was killed with it."""


class Study:
    """A study's folder, and Optuna's study in it.

    Args:
        folder: is made where it is missing.
        question: what is asked.

    Raises:
        ConfigError: the folder holds a study of another question, or other things.
        CheckpointError: the study in it is damaged.
        MissingExtraError: Optuna is not installed.
    """

    def __init__(self, folder: str | Path, question: Question) -> None:
        self._optuna = require("optuna", "pick", "Picking a network")
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        self.folder, self.question = Path(folder).absolute(), question
        self.clock = WorkClock(self.folder / "clocks")
        asked = self.folder / "question.json"
        if not asked.is_file() and self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise ConfigError(f"{folder} holds other things than a pick; give another --study")
        with self.lock("opening"):
            if asked.is_file():
                before = self.read("question")
                if difference := question.difference(before or {}):
                    raise ConfigError(
                        f"{folder} holds the study of another question ({difference}); ask the same, or give another "
                        "--study"
                    )
            else:
                self.write("question", question.to_dict())
            self._mend_journal()
        self._study = self._open()

    @contextmanager
    def lock(self, name: str, *, wait: bool = True) -> Iterator[bool]:
        """Do something that one process does at a time; whether this one does it is what the block gets.

        Args:
            name: of what is done.
            wait: for others that do it; else the block gets False.
        """
        place = self.folder / "locks" / name
        while True:
            held = folder_lock(place)
            try:
                held.__enter__()
                break
            except (CheckpointError, FileNotFoundError):  # the folder of a lock goes with its last holder
                if not wait:
                    yield False
                    return
                with self.clock.waiting():
                    time.sleep(POLL)
        try:
            yield True
        finally:
            held.__exit__(None, None, None)

    def read(self, name: str) -> dict[str, Any] | None:
        """Return what was written under a name; None where nothing was.

        Raises:
            CheckpointError: it is damaged.
        """
        path = self.folder / f"{name}.json"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError(f"{path} is damaged ({first_line(error)}); remove it, it is made again") from error
        if not isinstance(data, dict):
            raise CheckpointError(f"{path} is damaged (no JSON object); remove it, it is made again")
        return data

    def write(self, name: str, data: Mapping[str, Any]) -> None:
        """Write JSON types under a name, whole or not at all."""
        text = json.dumps(dict(data), indent=1)
        write_atomically(self.folder / f"{name}.json", lambda file: file.write(text.encode()))

    def once(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what was written under a name, which is made now where nothing was, by one process for all."""
        with self.lock(name):
            found = self.read(name)
            if found is None:
                found = make()
                self.write(name, found)
            return found

    def add_nets(self, slugs: Mapping[str, str]) -> None:
        """Let networks take part, by what their files are called, with what people call them; once is enough."""
        create, state = self._optuna.trial.create_trial, self._optuna.trial.TrialState
        choice = self._optuna.distributions.CategoricalDistribution
        with self.lock("nets"):
            known = self.trials()
            for slug, name in slugs.items():
                if slug not in known:
                    self._study.add_trial(
                        create(
                            state=state.RUNNING,
                            params={"net": slug},
                            distributions={"net": choice(tuple(slugs))},
                            user_attrs={"name": name, "rungs": {}},
                        )
                    )

    def trials(self) -> dict[str, Any]:
        """Return Optuna's trials by network."""
        return {trial.params["net"]: trial for trial in self._study.get_trials(deepcopy=False)}

    def results(self, rung: int) -> dict[str, dict[str, Any]]:
        """Return what is known of each network that was trained in a rung."""
        found = {slug: trial.user_attrs["rungs"].get(str(rung)) for slug, trial in self.trials().items()}
        return {slug: result for slug, result in found.items() if result is not None}

    def record(self, slug: str, rung: int, result: Mapping[str, Any]) -> None:
        """Note what a network's training in a rung ended with: ``miou``, None where it failed, and more."""
        with self.lock(f"record-{slug}"):
            frozen = self.trials()[slug]
            trial = self._optuna.trial.Trial(self._study, frozen._trial_id)
            if str(rung) in frozen.user_attrs["rungs"]:
                return
            trial.set_user_attr("rungs", frozen.user_attrs["rungs"] | {str(rung): dict(result)})
            if result.get("miou") is not None and not frozen.state.is_finished():
                trial.report(float(result["miou"]), step=rung)

    def drop(self, slug: str, rung: int, why: str) -> None:
        """Let a network take no further part."""
        frozen = self.trials()[slug]
        if frozen.state.is_finished():
            return
        trial = self._optuna.trial.Trial(self._study, frozen._trial_id)
        when = datetime.now(UTC).isoformat(timespec="seconds")
        trial.set_user_attr("dropped", {"rung": rung, "why": why, "when": when})
        self._study.tell(frozen.number, state=self._optuna.trial.TrialState.PRUNED)

    def finish(self, slug: str, miou: float) -> None:
        """Note what a finalist reached as it is deployed."""
        frozen = self.trials()[slug]
        if not frozen.state.is_finished():
            self._study.tell(frozen.number, miou)

    def dropped(self) -> dict[str, dict[str, Any]]:
        """Return after which rung networks were dropped, why and when, by network."""
        return {
            slug: trial.user_attrs["dropped"] for slug, trial in self.trials().items() if "dropped" in trial.user_attrs
        }

    def _open(self) -> Any:
        journal = self._optuna.storages.journal
        path = str(self.folder / JOURNAL)
        # No symbolic link for a lock: Windows lets only administrators make one.
        backend = journal.JournalFileBackend(path, journal.JournalFileOpenLock(path, grace_period=GRACE))
        try:
            return self._optuna.create_study(
                study_name=NAME,
                storage=self._optuna.storages.JournalStorage(backend),
                direction="maximize",
                load_if_exists=True,
            )
        except (ValueError, LookupError, TypeError, AssertionError) as error:  # which is how Optuna tells
            raise CheckpointError(
                f"{path} is damaged ({first_line(error)}); give another --study, or remove {self.folder}"
            ) from error

    def _mend_journal(self) -> None:
        """Cut off a last line that a killed process left half-written; another line behind it would spoil both."""
        path = self.folder / JOURNAL
        if not path.is_file():
            return
        with path.open("rb+") as file:
            content = file.read()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                file.truncate(whole)
                file.flush()
                os.fsync(file.fileno())
