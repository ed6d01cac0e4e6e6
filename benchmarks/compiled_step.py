"""Whether torch.compile pays in a training step: what compiling takes, and what each step saves afterwards.

    python benchmarks/compiled_step.py [--model fastsegnet] [--threads 2] [--steps 8]

Forward and backward pass of a network in training mode, in turns: as the trainer runs it (bf16, channels last, its own
gradients of strided groups), and compiled for the one size of the crops. The loss and the optimiser have kernels of
their own and are the same in both, so they are left out. Printed are the seconds of the first compiled step, the
medians of the others, and after how many steps the saved time makes up for the compilation.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from datetime import date

import torch
from torch import Tensor, nn

from featherseg.core.machine import cpu_name
from featherseg.models.factory import create_model
from featherseg.training.safe_layout import shield_dilated_groups
from featherseg.training.strided_groups import quicken_strided_groups

CLASSES = 11


def pass_of(model: nn.Module, run: Callable[[Tensor], dict[str, Tensor]], images: Tensor) -> float:
    """Return the seconds of a forward and backward pass."""
    model.zero_grad()
    begin = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = run(images)
    torch.autograd.backward(torch.stack([each.float().mean() for each in outputs.values()]).sum())
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="fastsegnet")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, nargs=2, default=[360, 480])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    usual, model = (create_model(options.model, CLASSES).to(memory_format=torch.channels_last).train() for _ in "ab")
    shield_dilated_groups(usual)
    quicken_strided_groups(usual)
    images = torch.rand(options.batch, 3, *options.crop).to(memory_format=torch.channels_last)
    compiled = torch.compile(model.outputs, dynamic=False)
    pass_of(usual, usual.outputs, images)
    first = pass_of(model, compiled, images)
    pass_of(model, compiled, images)
    seconds: dict[str, list[float]] = {"usual": [], "compiled": []}
    for step in range(options.steps):
        turns = [("usual", usual, usual.outputs), ("compiled", model, compiled)]
        for name, network, run in turns if step % 2 else turns[::-1]:
            seconds[name].append(pass_of(network, run, images))
    before, after = (statistics.median(each) for each in seconds.values())
    height, width = options.crop
    print(
        f"{date.today()}, {cpu_name()}, threads: {options.threads}, load {os.getloadavg()[0]:.1f}, torch "
        f"{torch.__version__}; {options.model}, {options.batch} crops of {height}x{width}, bf16, medians of "
        f"{options.steps} in turns"
    )
    print(f"forward and backward: {1000 * before:.0f} ms, compiled {1000 * after:.0f} ms ({before / after:.2f} times)")
    print(f"the first compiled one takes {first:.0f} s", end="")
    print(
        f", made up for after {(first - after) / (before - after):.0f} steps" if after < before else ": it never pays"
    )


if __name__ == "__main__":
    main()
