from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from conftest import Tiny
from featherseg.core.config import OptimConfig
from featherseg.training.optim import (
    FLOOR,
    build_ema,
    build_optimizer,
    build_schedule,
    restore_optimizer,
    schedule_factor,
)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_groups_have_the_rates_and_decays_asked_for(tiny: Tiny, name: Any) -> None:
    model = tiny()
    config = OptimConfig(name=name, lr=0.1, encoder_lr=0.01, weight_decay=0.5, momentum=0.8)
    optimizer = build_optimizer(model, config)
    found = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert len(found) == sum(len(g["params"]) for g in optimizer.param_groups) == len(list(model.parameters()))
    for key, p in model.named_parameters():
        rate = 0.01 if key.startswith("encoder") else 0.1
        decay = 0.5 if key in ("encoder.0.weight", "head.weight", "aux_head.weight") else 0.0
        assert found[id(p)] == (rate, decay), key
    group = optimizer.param_groups[0]
    assert group["betas"] == (0.8, 0.999) if name == "adamw" else (group["momentum"], group["nesterov"]) == (0.8, True)


def test_one_rate_for_all_and_frozen_parameters_left_out(tiny: Tiny) -> None:
    model = tiny()
    model.encoder.requires_grad_(False)
    optimizer = build_optimizer(model, OptimConfig(name="sgd", momentum=0.0, lr=0.3))
    assert {g["lr"] for g in optimizer.param_groups} == {0.3}
    assert sum(len(g["params"]) for g in optimizer.param_groups) == 4
    tuned = build_optimizer(tiny(), OptimConfig(lr=0.3))
    assert {g["lr"] for g in tuned.param_groups} == {0.3}


@pytest.mark.parametrize(
    ("schedule", "half", "end"),
    [("cosine", FLOOR + (1 - FLOOR) / 2, FLOOR), ("poly", 0.5**0.9, 0.0), ("constant", 1.0, 1.0)],
)
def test_the_rate_at_hand_computed_steps(schedule: Any, half: float, end: float) -> None:
    factor = schedule_factor(OptimConfig(schedule=schedule, warmup=0.2), 100)
    assert factor(0) == FLOOR
    assert factor(10) == pytest.approx(FLOOR + (1 - FLOOR) / 2)
    assert factor(20) == 1.0
    assert factor(60) == pytest.approx(half)
    assert factor(100) == pytest.approx(end)
    assert factor(150) == pytest.approx(end)  # past the end it stays there
    quarter = schedule_factor(OptimConfig(schedule="cosine", warmup=0.0), 100)(25)
    assert quarter == pytest.approx(FLOOR + (1 - FLOOR) * (1 + math.sqrt(0.5)) / 2)


@pytest.mark.parametrize(("warmup", "steps"), [(0.0, 1), (1.0, 1), (1.0, 10), (0.05, 3)])
def test_short_schedules_are_finite_and_rise_above_zero(warmup: float, steps: int) -> None:
    factor = schedule_factor(OptimConfig(warmup=warmup), steps)
    assert all(0 < factor(step) <= 1 for step in range(steps + 1))


def test_the_schedule_scales_every_group(tiny: Tiny) -> None:
    config = OptimConfig(lr=0.1, encoder_lr=0.01, warmup=0.5, schedule="poly")
    optimizer = build_optimizer(tiny(), config)
    schedule = build_schedule(optimizer, config, 4)
    seen = []
    for _ in range(4):
        seen.append({round(g["lr"], 12) for g in optimizer.param_groups})
        optimizer.step()
        schedule.step()
    share = FLOOR + (1 - FLOOR) / 2
    assert seen[0] == {round(0.1 * FLOOR, 12), round(0.01 * FLOOR, 12)}
    assert seen[1] == {round(0.1 * share, 12), round(0.01 * share, 12)}
    assert seen[2] == {0.1, 0.01}
    assert seen[3] == {round(0.1 * 0.5**0.9, 12), round(0.01 * 0.5**0.9, 12)}


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.999])
def test_the_average_is_the_formula_buffers_too(decay: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    ema = build_ema(model, decay)
    oracle: dict[str, torch.Tensor] = {}
    for n in range(6):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p))
        model(torch.randn(8, 3))  # moves the running statistics
        ema.update_parameters(model)
        keep = min(decay, (1 + n) / (10 + n)) if n else 0.0  # the first update copies
        for key, value in copy.deepcopy(model.state_dict()).items():
            mix = value if not value.is_floating_point() or not n else keep * oracle[key] + (1 - keep) * value
            oracle[key] = mix
    for key, value in ema.module.state_dict().items():
        torch.testing.assert_close(value, oracle[key], rtol=1e-5, atol=1e-6)
    assert int(ema.module.state_dict()["1.num_batches_tracked"]) == 6


def test_the_average_asks_the_device_for_nothing() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).to("meta")  # whose values nobody can read
    ema = build_ema(model, 0.9)
    for _ in range(3):
        ema.update_parameters(model)
    assert int(ema.state_dict()["n_averaged"]) == 3


def test_a_restored_optimiser_goes_on_to_the_same_bits_whatever_the_layout() -> None:
    def steps(optimizer: torch.optim.Optimizer, weight: Tensor, count: int) -> None:
        for i in range(count):
            drawn = torch.randn(weight.shape, generator=torch.Generator().manual_seed(i))
            weight.grad = drawn.contiguous(memory_format=torch.channels_last)
            optimizer.step()

    def fresh(start: Tensor) -> tuple[torch.optim.Optimizer, nn.Parameter]:
        weight = nn.Parameter(start.clone(memory_format=torch.channels_last))
        return torch.optim.AdamW([weight], lr=0.01, fused=True), weight

    whole, ours = fresh(torch.arange(72.0).view(4, 2, 3, 3))
    steps(whole, ours, 3)
    kept = copy.deepcopy(whole.state_dict())
    for name, value in kept["state"][0].items():
        kept["state"][0][name] = value.contiguous()  # as files keep it
    again, theirs = fresh(ours.detach())
    restore_optimizer(again, kept)
    steps(whole, ours, 2)
    steps(again, theirs, 2)
    assert torch.equal(ours, theirs)
