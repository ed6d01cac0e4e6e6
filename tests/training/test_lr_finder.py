"""The learning-rate sweep against curves whose answer is known, and against real training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from featherseg.core.errors import ConfigError
from featherseg.training import step as step_module
from featherseg.training.lr_finder import HIGHEST, LOWEST, find_lr, smooth, suggest
from trainings import tiny_config

RATES = np.geomspace(LOWEST, HIGHEST, 100)


def curve(fall: float, lost: float | None = None, noise: float = 0.0, seed: int = 0) -> tuple[list[float], list[float]]:
    """A loss of 5 that falls to 1 around the rate `fall` and is lost at the rate `lost`."""
    steps = np.log10(RATES)
    losses = 5 - 4 / (1 + np.exp(-6 * (steps - math.log10(fall))))
    losses += noise * np.random.default_rng(seed).normal(size=len(losses))
    if lost is None:
        return RATES.tolist(), losses.tolist()
    end = int(np.searchsorted(RATES, lost)) + 1
    losses[end - 1] = 1000.0
    return RATES[:end].tolist(), losses[:end].tolist()


def test_the_average_is_the_textbooks() -> None:
    losses = [3.0, 1.0, 4.0, 1.0, 5.0]
    for n in range(1, 6):
        weights = 0.9 ** np.arange(n)[::-1]
        assert smooth(losses)[n - 1] == pytest.approx(float((weights * losses[:n]).sum() / weights.sum()))


@pytest.mark.parametrize("fall", [1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_steepest_rate_is_found_within_the_lag_of_the_average(fall: float, noise: float) -> None:
    for seed in range(20 if noise else 1):
        result = suggest(*curve(fall, noise=noise, seed=seed))
        assert fall / 3 < result.steepest < 10 * fall
        assert result.diverged is None
        assert result.suggestion == pytest.approx(result.steepest, rel=0.06)  # two digits


def test_the_suggestion_keeps_a_decade_from_where_training_is_lost() -> None:
    far = suggest(*curve(1e-4, lost=1.0))
    assert far.diverged == pytest.approx(1.0, rel=0.2)
    assert far.suggestion == pytest.approx(far.steepest, rel=0.06)
    near = suggest(*curve(1e-3, lost=1e-2))
    assert near.suggestion == pytest.approx(near.diverged / 10 if near.diverged else 0, rel=0.06)
    assert near.suggestion < near.steepest


def test_a_loss_that_is_no_number_is_a_loss_of_the_training() -> None:
    rates, losses = curve(1e-3, lost=1.0)
    losses[-1] = math.nan
    assert suggest(rates, losses).diverged == rates[-1]


@pytest.mark.parametrize("losses", [[2.0] * 100, np.linspace(1, 2, 100).tolist(), [math.nan]])
def test_a_loss_that_never_falls_is_said(losses: list[float]) -> None:
    with pytest.raises(ConfigError, match="the loss fell at none of"):
        suggest(RATES[: max(len(losses), 2)].tolist(), losses)


def test_the_text_is_a_short_table() -> None:
    text = str(suggest(*curve(1e-3, lost=1.0)))
    assert 10 < len(text.splitlines()) < 20
    assert "lost at 1.0e+00; try optim.lr=0.00" in text
    assert str(suggest(*curve(1e-3))).splitlines()[-1].count("never lost")


def test_a_real_sweep_tries_every_rate_and_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = tiny_config(
        tmp_path / "runs", model={"name": "fastsegnet", "options": {"width": 0.5}}, optim={"encoder_lr": 3e-4}
    )
    used: list[list[float]] = []
    build = step_module.build_optimizer

    def spied(*words: Any, **options: Any) -> Any:
        optimizer = build(*words, **options)
        step = optimizer.step

        def record(*arguments: Any, **options: Any) -> Any:
            used.append([group["lr"] for group in optimizer.param_groups])
            return step(*arguments, **options)

        monkeypatch.setattr(optimizer, "step", record)
        return optimizer

    monkeypatch.setattr(step_module, "build_optimizer", spied)
    result = find_lr(config, steps=12)
    assert list(tmp_path.iterdir()) == []
    assert result.rates == pytest.approx(np.geomspace(1e-6, 10, 12)[: len(result.rates)])
    assert [row[-1] for row in used] == pytest.approx(result.rates)
    assert [row[0] for row in used] == pytest.approx([rate / 10 for rate in result.rates])  # the encoder's proportion
    assert result.losses[0] > min(result.smoothed)
    assert LOWEST < result.suggestion < HIGHEST
    again = find_lr(config, steps=12)
    assert again.losses == result.losses


def test_accumulated_batches_are_one_step(tmp_path: Path) -> None:
    one = find_lr(tiny_config(tmp_path, data={"batch_size": 2}, optim={"accumulate": 2}), steps=10)
    assert len(one.losses) == len(one.rates)
    torch.manual_seed(0)
    both = find_lr(tiny_config(tmp_path, data={"batch_size": 2}), steps=10)
    # Nothing is trained yet in the first batches, so that the first step's loss is the mean of theirs.
    assert one.losses[0] == pytest.approx(float(np.mean(both.losses[:2])), rel=0.05)


def test_what_cannot_be_looked_for_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="steps is 9; give 10 or more"):
        find_lr(tiny_config(tmp_path), steps=9)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="in one process, not 2; start without torchrun"):
        find_lr(tiny_config(tmp_path), steps=10)
