"""What trainings take, by a few steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from featherseg.core.config import Config
from featherseg.picking import pace
from featherseg.picking.pace import Glimpse, NetPace, glimpse, net_paces
from featherseg.training.pace import Pace
from trainings import tiny_config


def test_a_glimpse_is_of_the_trainings_own_step(tmp_path: Path) -> None:
    usual = tiny_config(tmp_path, model={"long_side": 128}, loss={"out": [{"name": "dice"}]})
    seen = glimpse(usual, 5, 10, (64, 96))
    assert seen.batches == 3
    assert seen.step > 0
    assert seen.look > 0


def test_one_real_training_puts_the_others_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    glimpses = {"jetnet": Glimpse(10, 0.5, 0.1), "lednet": Glimpse(10, 1.0, 0.3)}
    monkeypatch.setattr(pace, "glimpse", lambda config, *rest: glimpses[config.model.name])
    real = Pace(batches=10, step=0.6, look=2.0, final=3.0, save=1.0, start=4.0)
    asked: list[str] = []

    def measure(config: Config, seconds: float) -> Pace:
        asked.append(config.model.name)
        return real

    monkeypatch.setattr(pace, "measure_pace", measure)
    configs = {name: tiny_config(tmp_path, model={"name": name}) for name in glimpses}
    paces, failures = net_paces(configs, 5, 100, (64, 96), 60.0)
    assert failures == {}
    assert asked == ["jetnet"]  # once: it reads all data
    assert paces["jetnet"] == NetPace(pytest.approx(real.epoch), pytest.approx(4.0 + 5.0))
    assert paces["lednet"] == NetPace(pytest.approx(10 * 1.0 + real.epoch - 5.0), pytest.approx(4.0 + 15.0))


def test_what_cannot_be_trained_has_a_reason(tmp_path: Path) -> None:
    wrong = tiny_config(tmp_path, model={"name": "jetnet", "options": {"nosuch": 1}})
    paces, failures = net_paces({"a": wrong}, 5, 10, (64, 96), 60.0)
    assert paces == {}
    assert "nosuch" in failures["a"]
