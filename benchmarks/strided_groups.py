"""The gradient of strided depthwise convolutions' inputs in bf16: oneDNN's own way, ours, and oneDNN's in fp32.

    python benchmarks/strided_groups.py [--batch 4] [--runs 9]

The shapes are those of FastSegNet's encoder at 360x480. One thread, ways take turns, medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from datetime import date

import torch
from torch import nn

from featherseg.cli.tables import print_table, print_text
from featherseg.core.machine import cpu_name, load
from featherseg.training.strided_groups import quicken_strided_groups

SHAPES = ((96, 180, 240), (144, 90, 120), (192, 45, 60), (576, 23, 30))
"""Channels, height and width of the maps that go in."""


def backward_ms(conv: nn.Conv2d, x: torch.Tensor) -> float:
    """Return the milliseconds that the gradient of the maps takes."""
    y = conv(x)
    upstream = torch.ones_like(y)
    begin = time.perf_counter()
    torch.autograd.grad(y, x, upstream)
    return 1000 * (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for channels, height, width in SHAPES:
        ways = []
        for dtype, quick in ((torch.bfloat16, False), (torch.bfloat16, True), (torch.float32, False)):
            conv = nn.Conv2d(channels, channels, 3, 2, 1, groups=channels, bias=False)
            conv = conv.to(dtype, memory_format=torch.channels_last)
            if quick:
                quicken_strided_groups(conv)
            x = torch.randn(options.batch, channels, height, width, dtype=dtype)
            ways.append((conv, x.to(memory_format=torch.channels_last).requires_grad_()))
        times = [[backward_ms(*way) for way in ways] for _ in range(options.runs + 1)][1:]
        medians = (f"{statistics.median(column):.1f}" for column in zip(*times, strict=True))
        rows.append((f"{channels}, {height}x{width}", *medians))
    print_table("ms", ("channels, size of the input", "oneDNN's own", "ours", "in fp32"), rows)
    print_text(f"{date.today()}, one thread of {cpu_name()}, load {load()}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
