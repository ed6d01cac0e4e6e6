"""One step of training: batches forward and backward, and the optimiser's step after the last of them."""

from __future__ import annotations

from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ..core.config import Config
from ..data.loader import Sample
from .devices import synchronize_batchnorm, wants_sync_batchnorm
from .distill import Distilled
from .optim import build_optimizer
from .safe_layout import shield_dilated_groups
from .self_training import SelfTrained
from .strided_groups import quicken_strided_groups
from .supervised import Supervised

IMAGES = frozenset({"image", "weak", "strong"})
"""What of a batch goes through networks."""


class TrainingStep:
    """An objective with its optimiser, as a configuration asks for them, on the processes that Fabric launched.

    Args:
        fabric: launched.
        objective: ``(batch) -> {"loss": …}``, owner of the network; it is moved to the device.
        config: of the run.
    """

    def __init__(self, fabric: Fabric, objective: Supervised | Distilled | SelfTrained, config: Config) -> None:
        self.fabric, self.config, self.plain = fabric, config, objective
        if wants_sync_batchnorm(config.train, fabric):
            synchronize_batchnorm(objective)
        if config.train.channels_last:
            objective.to(memory_format=torch.channels_last)
            if fabric.device.type == "cpu":
                shield_dilated_groups(objective)
                quicken_strided_groups(objective)
        optimizer = build_optimizer(objective.model, config.optim, fused=fabric.device.type == "cpu")
        if extra := objective.extra_parameters():
            optimizer.add_param_group({"params": extra, "weight_decay": config.optim.weight_decay})
        wrapped, self.optimizer = fabric.setup(objective, optimizer)
        self.objective = cast(nn.Module, wrapped)

    def __call__(self, batch: Sample, *, last: bool = True) -> Tensor:
        """Add the gradient of a batch, and with the `last` of those that are accumulated, change the weights.

        Returns:
            The batch's loss, detached.
        """
        fabric, optim = self.fabric, self.config.optim
        batch = fabric.to_device(batch)
        if self.config.train.channels_last:
            for name in IMAGES & batch.keys():
                batch[name] = batch[name].to(memory_format=torch.channels_last)
        with fabric.no_backward_sync(self.objective, enabled=not last):  # type: ignore[arg-type]
            loss: Tensor = self.objective(batch)["loss"]
            fabric.backward(loss / optim.accumulate)
        if last:
            if optim.clip_norm:
                fabric.clip_gradients(
                    self.objective, self.optimizer, max_norm=optim.clip_norm, error_if_nonfinite=False
                )
            self.optimizer.step()
            self.optimizer.zero_grad()
        return loss.detach()
