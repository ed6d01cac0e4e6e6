"""Which processor, precision and processes a training runs on."""

from __future__ import annotations

import logging
import os
from typing import Any, cast

import torch
from lightning_fabric import Fabric

from .config import TrainConfig
from .errors import ConfigError

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
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nodes = int(os.environ.get("WORLD_SIZE", "1")) // processes
    return Fabric(
        accelerator=device,
        devices=processes,
        num_nodes=max(nodes, 1),
        strategy="ddp" if processes * nodes > 1 else "auto",
        precision=cast(Any, names[precision]),
    )


def fast_bf16(device: str) -> bool:
    """Return whether `device` multiplies bf16 in hardware; elsewhere it would be emulated, and slow."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))
