"""Which processor, precision and processes a training runs on."""

from __future__ import annotations

import logging
import os
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import nn

from ..core.config import TrainConfig
from ..core.errors import ConfigError

# It announces its precision on standard error, which says nothing that our own first line does not.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)


def create_fabric(config: TrainConfig) -> Fabric:
    """Return Fabric for the machine, or for the processes that torchrun started.

    Raises:
        ConfigError: precision or device that is not to be had here.
    """
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"train.device is {device!r}; choose auto, cpu, cuda or mps")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("train.device is 'cuda', but no CUDA device is to be had; use auto or cpu")
    if device == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("train.device is 'mps', but this is no Apple GPU; use auto or cpu")
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if fast_bf16(device) else "fp32"
    if precision == "fp16" and device == "cpu":
        raise ConfigError("train.precision is 'fp16', which CPUs cannot train in; use bf16 or fp32")
    names = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
    by_torchrun = "LOCAL_WORLD_SIZE" in os.environ
    if not by_torchrun and (tasks := int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))) > 1:
        raise ConfigError(
            f"srun started {tasks} processes that know nothing of each other; let it start one torchrun per node "
            "(srun --ntasks-per-node=1 torchrun ... -m featherseg train ...)"
        )
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nodes = max(int(os.environ.get("WORLD_SIZE", "1")) // processes, 1)
    if device == "cuda" and processes > torch.cuda.device_count():
        raise ConfigError(
            f"torchrun started {processes} processes for {torch.cuda.device_count()} GPUs; start one each"
        )
    world = processes * nodes
    if config.sync_batchnorm == "on" and world > 1 and device != "cuda":
        raise ConfigError(f"train.sync_batchnorm is 'on', which torch has for GPUs, not for {device}; use auto or off")
    return Fabric(
        accelerator=device,
        devices=processes,
        num_nodes=nodes,
        strategy="ddp" if world > 1 else "auto",
        precision=cast(Any, names[precision]),
        # Else a scheduler's variables (SLURM's, say, of the job that this is one process of) would be taken for ours.
        plugins=[] if by_torchrun else [LightningEnvironment()],
    )


def wants_sync_batchnorm(config: TrainConfig, fabric: Fabric) -> bool:
    """Return whether batch norm shall share its statistics: on several GPUs, unless it is switched off."""
    return config.sync_batchnorm != "off" and fabric.world_size > 1 and fabric.device.type == "cuda"


def synchronize_batchnorm(module: nn.Module) -> None:
    """Let the batch norms in `module` share their statistics among processes; names and values of weights stay.

    timm's conversion knows its own layers, which hold an activation that torch's would drop without a word.
    """
    from timm.layers.norm_act import convert_sync_batchnorm

    convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]  # in place, unless it is a batch norm itself


def fast_bf16(device: str) -> bool:
    """Return whether `device` multiplies bf16 in hardware; elsewhere it would be emulated, and slow."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))
