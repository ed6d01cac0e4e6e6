"""Optimiser, learning-rate schedule and weight averaging, from the recipe's numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from ..core.config import OptimConfig
from ..core.errors import ConfigError
from ..models.base import SegmentationModel

FLOOR = 1e-3
"""Where a warm-up starts and a cosine ends, as a share of the peak rate."""


def build_optimizer(model: SegmentationModel, config: OptimConfig, fused: bool = False) -> Optimizer:
    """Return an optimiser over the network's trainable parameters.

    The encoder has its own rate; biases and norms are not decayed, since they have no scale to hold down.

    Args:
        model: the network.
        config: of the run.
        fused: whether AdamW goes through memory once for all that it does to a weight. On CPUs that takes a third of
            the time; on GPUs gradient scalers forbid clipping with it.

    Raises:
        ConfigError: an encoder's rate is set, but the network has none.
    """
    encoder = {id(p) for p in model.encoder_parameters()}
    if config.encoder_lr is not None and not encoder:
        raise ConfigError(f"optim.encoder_lr is {config.encoder_lr}, but {model.name} has no encoder; leave it out")
    groups: list[dict[str, Any]] = []
    for is_encoder in (True, False):
        rate = config.encoder_lr if is_encoder and config.encoder_lr is not None else config.lr
        for decayed in (True, False):
            members = [
                p
                for p in model.parameters()
                if p.requires_grad and (id(p) in encoder) == is_encoder and (p.ndim > 1) == decayed
            ]
            if members:
                groups.append({"params": members, "lr": rate, "weight_decay": config.weight_decay * decayed})
    if config.name == "sgd":
        return SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
    return AdamW(groups, lr=config.lr, betas=(config.momentum, 0.999), fused=fused or None)


def restore_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Load what ``optimizer.state_dict()`` gave, each value laid out in memory as its weight is.

    Files keep values contiguous. torch's fused AdamW walks through weights and averages as they lie, and would pair the
    wrong ones, without a word, where a weight is in channels-last and its averages are not. Whether it is fused is this
    device's affair, not that of the one that the state comes from.

    Raises:
        KeyError, ValueError: it is the state of other weights.
    """
    groups = zip(state["param_groups"], optimizer.param_groups, strict=True)
    optimizer.load_state_dict(state | {"param_groups": [saved | {"fused": own["fused"]} for saved, own in groups]})
    for weight, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                values[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def schedule_factor(config: OptimConfig, steps: int) -> Callable[[int], float]:
    """Return the learning rate's factor by step of `steps`: linear warm-up, then the schedule.

    Cosine falls to ``FLOOR``; poly is (1 − t)^0.9, as DeepLab's (arXiv 1606.00915).
    """
    warmup = round(config.warmup * steps)

    def factor(step: int) -> float:
        if step < warmup:
            return FLOOR + (1 - FLOOR) * step / warmup
        done = min((step - warmup) / max(steps - warmup, 1), 1.0)
        if config.schedule == "cosine":
            return FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * done)) / 2
        return (1 - done) ** 0.9 if config.schedule == "poly" else 1.0

    return factor


def build_schedule(optimizer: Optimizer, config: OptimConfig, steps: int) -> LambdaLR:
    """Return a scheduler to be stepped after each of `steps` optimiser steps."""
    return LambdaLR(optimizer, schedule_factor(config, steps))


def stretch_schedule(schedule: LambdaLR, config: OptimConfig, steps: int, done: int) -> None:
    """Let a schedule go on after `done` steps as it is there in a run of `steps`, however many it was built for."""
    schedule.lr_lambdas = [schedule_factor(config, steps) for _ in schedule.lr_lambdas]
    schedule.last_epoch = done
    rates = zip(schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True)
    for group, rate, factor in rates:
        group["lr"] = rate * factor(done)


class WeightAverage(AveragedModel):
    """An exponential moving average of weights and buffers.

    torch's own asks the device how many updates there were, and so waits for it at each; here the host counts them.

    Args:
        model: the network.
        decay: share of the average that an update keeps once there were enough; see :func:`build_ema`.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, use_buffers=True)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take in what `model` is now."""
        n = int(self.n_averaged)  # on the CPU wherever the network is
        keep = min(self.decay, (1 + n) / (10 + n)) if n else 0.0
        floats: tuple[list[Tensor], list[Tensor]] = ([], [])
        for averaged, current in zip(_tensors(self.module), _tensors(model), strict=True):
            if n and averaged.is_floating_point():
                floats[0].append(averaged)
                floats[1].append(current)
            else:  # counters of batch norm
                averaged.copy_(current)
        if floats[0]:
            torch._foreach_lerp_(*floats, 1 - keep)
        self.n_averaged += 1


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    return chain(model.parameters(), model.buffers())


def build_ema(model: nn.Module, decay: float) -> WeightAverage:
    """Return an exponential moving average of weights and buffers; `decay` 0 copies the network as it is.

    The decay is (1 + n) / (10 + n) after n updates until it reaches `decay`, so that short runs are not averaged
    with their initialisation (the rule of TensorFlow's ExponentialMovingAverage).
    """
    return WeightAverage(model, decay)
