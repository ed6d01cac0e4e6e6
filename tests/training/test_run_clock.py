"""Runs that keep to a time, by a clock that the test sets: how fast the machine is changes under way."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from torch import Tensor

from featherseg.core.config import Config
from featherseg.models.checkpoint import load_state
from featherseg.training import run_clock, trainer
from featherseg.training.fit import fit, resume_run
from featherseg.training.pace import Pace
from featherseg.training.run_clock import RunClock
from featherseg.training.run_folder import RunFolder
from featherseg.training.run_log import read_log, row_text
from featherseg.training.step import TrainingStep
from trainings import assert_same, tiny_config


class FakeClock:
    """Stands still but for what is added to it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    for module in (run_clock, trainer):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=fake.monotonic))
    return fake


def simulate(clock: FakeClock, limit: float, epochs: int, seconds: Callable[[int], float], look: float = 5.0) -> float:
    """Run epochs of ten steps that take `seconds` by their number; return the share of the limit that all took."""
    run = RunClock(10, limit, lambda: (look, look))
    done = 0
    while done < epochs:
        clock.now += (took := seconds(done))
        run.trained(took)
        done += 1
        epochs = run.plan(done, epochs, 2)
        if done % 2 == 0 or done == epochs:
            clock.now += look
            run.looked(look)
        clock.now += 0.5
        run.saved(0.5)
    clock.now += 2 * look
    return run.seconds / limit


@pytest.mark.parametrize("factor", [0.3, 0.7, 1.0, 1.5, 3.0])
def test_a_first_measurement_that_was_off_is_made_good(clock: FakeClock, factor: float) -> None:
    planned = Pace(10, 2.0, 5, 10, 0.5).fitting(1200, 2)
    assert 0.85 < simulate(clock, 1200, planned, lambda _: 20 * factor) <= 1.05


def test_so_is_a_machine_that_gets_other_work(clock: FakeClock) -> None:
    planned = Pace(10, 2.0, 5, 10, 0.5).fitting(1200, 2)
    assert 0.85 < simulate(clock, 1200, planned, lambda epoch: 20.0 if epoch < planned // 2 else 50.0) <= 1.15
    assert 0.85 < simulate(clock, 1200, planned, lambda epoch: 20.0 if epoch < planned // 2 else 8.0) <= 1.15


def test_noise_changes_no_plan(clock: FakeClock) -> None:
    run = RunClock(10, 1200, lambda: (5.0, 5.0))
    for done, seconds in enumerate((20.0, 20.4, 19.8, 20.1, 20.3), start=1):
        clock.now += seconds
        run.trained(seconds)
        assert run.plan(done, 52, 2) == 52
    assert RunClock(10, 0, lambda: (5.0, 5.0)).plan(1, 52, 2) == 52  # no time, no plan


def test_the_end_is_said_after_a_minute(clock: FakeClock) -> None:
    run = RunClock(100, 0, lambda: (14.0, 6.0))
    assert run.said_early(5, 20.0, 0, 3, 1) == ""  # a slow begin is no measure of the rest
    clock.now += 59
    assert run.said_early(44, 59.0, 0, 3, 1) == ""
    clock.now += 1
    words = run.said_early(45, 60.0, 0, 3, 1)  # 255 steps of a second, three looks and the final scores are left
    assert words.startswith("ends about ")
    assert words.endswith(", 6.3 min in all")
    assert run.said_early(50, 65.0, 0, 3, 1) == ""  # once
    clock.now += 55
    run.trained(115.0)
    clock.now += 14
    run.looked(14.0)
    assert "min in all" in run.ends(1, 3, 1)
    assert run.ends(3, 3, 1) == ""  # it is over


def test_an_epochs_line_says_what_of_it_was_validation() -> None:
    row = {"epoch": 3, "loss": 0.5, "images_per_second": 9.5, "seconds": 55.0}
    assert row_text(row, 34).endswith("9.5 images/s  55 s")
    row["validation_seconds"] = 14.2
    assert row_text(row, 34, "ends about 21:47, 23 min in all").endswith(
        "9.5 images/s  69 s (14 of it validation)  ends about 21:47, 23 min in all"
    )


class Stopped(Exception):
    """Stands for a signal."""


@pytest.fixture
def slow(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Steps take ten seconds by the fake clock; after `stop` steps the run is killed."""
    state = SimpleNamespace(steps=0, stop=10**9, clock=clock)
    step = TrainingStep.__call__

    def slowed(self: TrainingStep, *args: Any, **options: Any) -> Tensor:
        if state.steps == state.stop:
            raise Stopped
        state.steps += 1
        clock.now += 10
        return step(self, *args, **options)

    monkeypatch.setattr(TrainingStep, "__call__", slowed)
    return state


def config(out: Path, name: str) -> Config:
    """Ten images in batches of four, three steps an epoch: half a minute each, and nine of them in five minutes."""
    return tiny_config(out, name, train={"epochs": 20, "minutes": 5.0, "ema": 0.9}, data={"crops": 1})


def test_a_run_is_planned_anew_and_resumed_to_the_same_bits(
    slow: SimpleNamespace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "featherseg"):
        whole = fit(config(tmp_path, "whole"))
    assert whole.epochs == 10
    assert "train.epochs=10 instead of 20: a step takes 10 s, and the run has 5 min" in caplog.text
    assert RunFolder(whole.path).config.train.epochs == 10
    assert slow.steps == 30
    assert [row["epoch"] for row in read_log(whole.path)] == list(range(1, 11))

    slow.steps, slow.stop = 0, 14  # in the fifth epoch
    with pytest.raises(Stopped):
        fit(config(tmp_path, "killed"), quiet=True)
    folder = RunFolder(tmp_path / "killed")
    assert folder.config.train.epochs == 10
    slow.stop = 10**9
    assert resume_run(folder.path, quiet=True).epochs == 10
    for name in ("state", "last", "best"):
        ours, theirs = (load_state(tmp_path / run / "state.safetensors") for run in ("killed", "whole"))
        assert_same(ours, theirs, name)


def test_a_plan_that_did_not_reach_the_configuration_is_in_the_state(
    slow: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "change", killed)
        with pytest.raises(Stopped):
            fit(config(tmp_path, "run"), quiet=True)
    folder = RunFolder(tmp_path / "run")
    assert folder.config.train.epochs == 20
    assert resume_run(folder.path, quiet=True).epochs == 10
    assert folder.config.train.epochs == 10


def test_epochs_that_are_asked_for_are_not_planned_away(slow: SimpleNamespace, tmp_path: Path) -> None:
    slow.stop = 5
    with pytest.raises(Stopped):
        fit(config(tmp_path, "run"), quiet=True)
    slow.stop = 10**9
    assert resume_run(tmp_path / "run", epochs=12, quiet=True).epochs == 12
    assert RunFolder(tmp_path / "run").config.train.minutes == 0


def test_an_epoch_of_another_number_of_steps_goes_on_at_its_rate(tmp_path: Path) -> None:
    """Runs of before dropped an epoch's last batch: their schedule goes on by epochs, not by steps."""
    short = msgspec.structs.replace(config(tmp_path, "run"), train=tiny_config(tmp_path).train)
    run = fit(msgspec.structs.replace(short, data=msgspec.structs.replace(short.data, crops=2)), quiet=True)
    file = run.path / "config.toml"
    file.write_text(file.read_text().replace("crops = 2", "crops = 1").replace("epochs = 3", "epochs = 6"))
    resumed = resume_run(run.path, quiet=True)
    assert load_state(resumed.path / "state.safetensors")["schedule"]["last_epoch"] == 6 * 3
    assert read_log(run.path)[-1]["lr"] < 1e-4
