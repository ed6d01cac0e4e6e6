"""Time and peak memory of losses of upsampled logits: tile by tile (featherseg.training.losses), and upsampling first.

    python benchmarks/fused_loss.py [--device cuda] [--threads 1] [--runs 5]

One step is the loss and its backward pass to the logits at the network's stride. Times are medians of runs in which
the two ways alternate: CPU time of the process on one thread of a CPU, else wall time. Memory is what one step adds at
its peak to the logits and the target: on a CPU the rise of the resident set (Linux), in a process for each case; on
CUDA what torch has allocated.
"""

from __future__ import annotations

import argparse
import gc
import math
import multiprocessing
import platform
import re
import statistics
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from featherseg.core.machine import cpu_name
from featherseg.training.losses import CrossEntropyLoss, OHEMLoss

MIB = 1 << 20
Loss = Callable[[Tensor, Tensor], Tensor]


class Case(NamedTuple):
    """Logits of a batch and the size of its target."""

    name: str
    batch: int
    classes: int
    size: tuple[int, int]
    stride: int = 8


CASES = (
    Case("Cityscapes crop", 8, 19, (1024, 1024)),
    Case("CamVid", 8, 11, (360, 480)),
    Case("VOC", 8, 21, (512, 512)),
)
WARM_UP = Case("small", 1, 19, (64, 64))


def naive_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    full = F.interpolate(logits, size=target.shape[-2:], mode="bilinear", align_corners=False)
    return F.cross_entropy(full, target, ignore_index=255)


def naive_ohem(logits: Tensor, target: Tensor, thresh: float = 0.7, min_kept: int = 100_000) -> Tensor:
    full = F.interpolate(logits, size=target.shape[-2:], mode="bilinear", align_corners=False)
    values = F.cross_entropy(full, target, ignore_index=255, reduction="none")[target != 255]
    hardest = values.detach().topk(min(min_kept, values.numel()), sorted=False).values.min()
    return values[values >= hardest.clamp(max=-math.log(thresh))].mean()


LOSSES: dict[str, tuple[Loss, Loss]] = {
    "cross_entropy": (CrossEntropyLoss(), naive_cross_entropy),
    "ohem": (OHEMLoss(), naive_ohem),
}


def make_inputs(case: Case, device: str) -> tuple[Tensor, Tensor]:
    """Return random logits at the stride and a target of which 5 % is ignored."""
    torch.manual_seed(0)
    height, width = case.size
    logits = 3 * torch.randn(case.batch, case.classes, -(-height // case.stride), -(-width // case.stride))
    target = torch.randint(0, case.classes, (case.batch, height, width))
    target[torch.rand(target.shape) < 0.05] = 255
    return logits.to(device).requires_grad_(), target.to(device)


def step(loss: Loss, logits: Tensor, target: Tensor) -> tuple[float, Tensor]:
    """Return the value and the gradient."""
    value = loss(logits, target)
    (gradient,) = torch.autograd.grad(value, logits)
    return value.item(), gradient


def resident(field: str) -> float:
    """Return a field of this process's memory status in MiB: VmRSS, or its high-water mark VmHWM."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def peak_memory(case: Case, loss_name: str, which: int, device: str, threads: int) -> float:
    """Return the MiB that a step adds at its peak."""
    torch.set_num_threads(threads)
    loss = LOSSES[loss_name][which]
    step(loss, *make_inputs(WARM_UP, device))  # loads the code, whose pages are no part of the loss
    logits, target = make_inputs(case, device)
    gc.collect()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() / MIB
        step(loss, logits, target)
        return torch.cuda.max_memory_allocated() / MIB - before
    Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark back to what is resident
    before = resident("VmRSS")
    step(loss, logits, target)
    return resident("VmHWM") - before


def seconds(function: Callable[[], object], device: str) -> float:
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    begin = clock()
    function()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - begin


def compare(case: Case, loss_name: str, device: str, threads: int, runs: int) -> None:
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        peaks = pool.starmap(peak_memory, [(case, loss_name, i, device, threads) for i in (0, 1)], chunksize=1)
    inputs = make_inputs(case, device)
    (value, gradient), (expected, expected_gradient) = (step(loss, *inputs) for loss in LOSSES[loss_name])
    error = float((gradient - expected_gradient).norm() / expected_gradient.norm())
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for loss, record in zip(LOSSES[loss_name], times, strict=True):
            record.append(1000 * seconds(partial(step, loss, *inputs), device))
    fast, slow = (statistics.median(record) for record in times)
    shape = f"{case.batch}x{case.classes}x{case.size[0]}x{case.size[1]} /{case.stride}"
    print(
        f"{case.name:16} {shape:19} {loss_name:13} {slow:8.1f} {fast:8.1f} {slow / fast:6.1f} "
        f"{peaks[1]:8.1f} {peaks[0]:8.1f} {peaks[1] / peaks[0]:7.1f}   {abs(value - expected):.0e} {error:.0e}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    where = cpu_name() if options.device == "cpu" else torch.cuda.get_device_name(options.device)
    clock = "CPU time" if options.device == "cpu" and options.threads == 1 else "wall time"
    print(
        f"{date.today()}, {where}, {options.threads} thread(s), fp32, torch {torch.__version__}, "
        f"Python {platform.python_version()}; medians of {options.runs} alternating runs ({clock})"
    )
    print(f"{'':51} {'step, ms':^24} {'peak extra MiB':^25}   difference of")
    print(
        f"{'case':16} {'logits /stride':19} {'loss':13} {'naive':>8} {'tiles':>8} {'ratio':>6} "
        f"{'naive':>8} {'tiles':>8} {'ratio':>7}   value gradient"
    )
    for case in CASES:
        for loss_name in LOSSES:
            compare(case, loss_name, options.device, options.threads, options.runs)


if __name__ == "__main__":
    main()
