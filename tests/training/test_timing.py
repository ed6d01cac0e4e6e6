"""Trainings that are planned for a time, by a pace that the test makes up; and one that is measured."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import Ended, error_line, street_photos
from featherseg.core.config import Config
from featherseg.core.errors import ConfigError
from featherseg.training import timing
from featherseg.training.extent import FEWEST_STEPS
from featherseg.training.pace import Pace
from featherseg.training.quickstart import QuickStart, quick_start
from featherseg.training.timing import in_time, measure_pace, plan_length
from trainings import tiny_config

SETTINGS = ["model.name=jetnet", "train.device=cpu", "data.workers=0"]


def machine(step: float, look: float = 1.0, asked: list[Config] | None = None) -> Callable[[Config, float], Pace]:
    """A machine that takes `step` seconds for a million pixels of a batch."""

    def measure(config: Config, _: float) -> Pace:
        if asked is not None:
            asked.append(config)
        height, width = config.augment.crop
        seconds = step * config.data.batch_size * height * width / 1e6
        return Pace(1, seconds, look, 2 * look, 0.1, 2.0)

    return measure


def reasons(start: QuickStart) -> dict[str, str]:
    return {choice.setting: choice.reason for choice in start.choices}


@pytest.mark.parametrize("seed", range(20))
def test_as_many_epochs_are_planned_as_fit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pace = Pace(int(rng.integers(1, 50)), *(float(s) for s in rng.uniform(0, [1, 20, 40, 0.5])))
    seconds, done, every = float(rng.uniform(0, 2000)), int(rng.integers(0, 5)), int(rng.integers(1, 4))
    found = pace.fitting(seconds, every, done)
    fitting = [n for n in range(done + 1, 3000) if pace.left(n, every, done) <= seconds]
    assert found <= max(fitting, default=done)
    assert found >= max(fitting, default=done) - 1  # an epoch without a look may fit after one with
    chosen = pace.fitting(seconds)
    looks = -(-chosen // pace.look_every(chosen)) if chosen else 0
    assert looks <= 50
    if looks > 1:
        assert looks * pace.look <= 0.25 * seconds


def test_epochs_fill_the_time_and_the_reason_says_what_takes_it(tmp_path: Path) -> None:
    folder = street_photos(tmp_path / "photos", 20)
    start = quick_start(folder, SETTINGS, seconds=1200, measure=machine(4.0))
    config, said = start.config, reasons(start)
    steps = -(-16 * config.data.crops // config.data.batch_size) * config.train.epochs
    step = 4.0 * config.data.batch_size * 96 * 128 / 1e6
    assert 0.85 * 1200 < steps * step + config.train.epochs * 0.1 + 2 < 1200
    assert said["train.epochs"].endswith("min in all; a step takes 0.39 s, validation 1 s, final scores 2 s")
    assert said["train.minutes"] == "what is left of 20 min for the run itself"
    assert 19.0 < config.train.minutes < 19.97
    twice = quick_start(folder, SETTINGS, seconds=2400, measure=machine(4.0)).config
    assert twice.train.epochs == pytest.approx(2 * config.train.epochs, rel=0.05)


def test_crops_are_as_large_as_the_time_allows(tmp_path: Path) -> None:
    folder = street_photos(tmp_path / "photos", 10, (584, 565))
    asked: list[Config] = []
    slow = quick_start(folder, SETTINGS, seconds=600, measure=machine(4.0, asked=asked))
    assert slow.config.augment.crop[0] * slow.config.augment.crop[1] <= 256 * 320
    assert "as much as a CPU trains in good time" in reasons(slow)["augment.crop"]
    assert asked[-1].augment.crop == slow.config.augment.crop  # what is planned by was measured
    middle = quick_start(folder, SETTINGS, seconds=3600, measure=machine(4.0)).config
    quick = quick_start(folder, SETTINGS, seconds=7200, measure=machine(1.0))
    assert slow.config.augment.crop < middle.augment.crop < quick.config.augment.crop == (576, 544)
    assert "seen whole" in reasons(quick)["augment.crop"]
    batches = -(-8 * quick.config.data.crops // quick.config.data.batch_size)
    assert quick.config.train.epochs * batches >= FEWEST_STEPS["cpu"]


def test_without_a_time_a_moderately_larger_image_is_seen_whole(tmp_path: Path) -> None:
    start = quick_start(street_photos(tmp_path / "photos", 10, (584, 565)), SETTINGS)
    assert (start.config.augment.crop, start.config.data.batch_size) == ((576, 544), 4)
    pixels = start.config.train.epochs * start.config.data.crops * 8 * 576 * 544
    assert pixels == pytest.approx(1500 * 8 * 256 * 320, rel=0.1)  # in the time that crops of the usual size take


def test_a_time_that_is_too_short_says_the_least(tmp_path: Path) -> None:
    folder = street_photos(tmp_path / "photos", 20)
    words = error_line(
        ConfigError, lambda: quick_start(folder, SETTINGS, seconds=20, measure=machine(100.0, look=30.0))
    )
    assert "--time is 20 s, and one epoch with its scores takes" in words
    least = int(words.partition("give --time ")[2].partition("m ")[0])
    assert quick_start(folder, SETTINGS, seconds=60 * least, measure=machine(100.0, look=30.0)).config.train.epochs


def test_what_the_user_gives_beside_a_time(tmp_path: Path) -> None:
    folder = street_photos(tmp_path / "photos", 20)
    for given in ("train.epochs=5", "train.minutes=5", "train={epochs=5}"):
        words = error_line(ConfigError, lambda given=given: quick_start(folder, [*SETTINGS, given], seconds=60))
        assert "which is given as well; leave one of them out" in words
    start = quick_start(
        folder, [*SETTINGS, "train.eval_every=7", "data.batch_size=3"], seconds=600, measure=machine(4.0)
    )
    assert (start.config.train.eval_every, start.config.data.batch_size) == (7, 3)
    assert "train.eval_every" not in reasons(start)


def test_a_recipe_is_planned_too(tmp_path: Path) -> None:
    config, choices = in_time(tiny_config(tmp_path), [], 600, lambda *_: Pace(3, 0.5, 2.0, 4.0, 0.5, 10.0))
    assert config.train.epochs == pytest.approx(590 / (3 * 0.5 + 0.5 + 2 * 0.2), rel=0.3)
    assert [choice.setting for choice in choices] == ["train.epochs", "train.eval_every", "train.minutes"]
    assert config.train.minutes == pytest.approx(590 / 60, abs=0.05)
    assert config.optim == tiny_config(tmp_path).optim
    with pytest.raises(ConfigError, match=r"give --time 17s or more"):
        plan_length(Pace(3, 0.5, 2.0, 4.0, 0.5, 8.9), 10, 10)


def test_a_pace_is_measured_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(timing, "STEPS", (4, 5))
    pace = measure_pace(tiny_config(tmp_path / "out", data={"crops": 2}), 10)
    assert pace.batches == 5
    assert min(pace.step, pace.look, pace.save, pace.start) > 0
    assert pace.final >= pace.look
    assert list(tmp_path.iterdir()) == []


def test_the_command(run: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = street_photos(tmp_path / "photos", 8, (64, 96))
    monkeypatch.setattr(timing, "measure_pace", lambda *_: Pace(1, 1.0, 1.0, 1.0))
    assert run("train", folder, "--time", "soon", "-q").refused("--time is 'soon'; write a time over 0")
    assert run("train", folder, "--time", "20m", "train.epochs=3", "-q").refused("leave one of them out")
    assert run("train", "--resume", folder, "--time", "20m", "-q").refused("--resume", "leave one of them out")
    assert run("train", folder, "--find-lr", "--time", "20m", "-q").refused("--find-lr", "leave one of them out")
    assert run("train", "data.root=photos", "--time", "1s", "-q").refused("give --time 4s or more")
