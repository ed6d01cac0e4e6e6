"""What an engine gains by planning for frames of one size: each file and precision with a plan and without, in turns.

    python benchmarks/planned.py [MODEL.onnx …] [--size 512x1024] [--threads 1]

The network alone, uint8 frame to logits, in medians of processor time: with one thread that is what an idle core would
take, however busy the machine; with more, threads that wait for each other would count too. *Same classes* is the share
of logits with the same winner both ways.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from featherseg.cli.app import parse_size
from featherseg.cli.tables import print_table, print_text
from featherseg.core.machine import machine_facts
from featherseg.core.types import ImageArray
from featherseg.evaluation.opening import STREET
from featherseg.runtime.choose import picture
from featherseg.runtime.engines import ANY, engines_of
from featherseg.runtime.postprocess import kernels
from featherseg.runtime.segmenter import Segmenter
from featherseg.runtime.timing import take_turns

ENGINE = "openvino"
"""The one that can plan."""


def timed(segmenter: Segmenter, frame: ImageArray) -> Callable[[int, int], list[float]]:
    def task(runs: int, before: int) -> list[float]:
        times = []
        for _ in range(before + runs):
            begin = time.process_time()
            segmenter.logits(frame)
            times.append((time.process_time() - begin) * 1000)
        return times[before:]

    return task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="*", default=[STREET], help="exported .onnx files")
    parser.add_argument("--size", default="512x1024", help="HxW of the frames")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=18)
    args = parser.parse_args()
    height, width = parse_size(args.size)
    frame = picture((height, width))
    facts = machine_facts(args.threads)
    ways: dict[str, Segmenter] = {}
    for path in args.models:
        for engine in engines_of(path, ANY):
            if engine.backend == ENGINE:
                free = Segmenter(engine.open(path, args.threads))
                name = f"{path.name}, {engine.precision}"
                ways |= {f"{name}, free": free, f"{name}, planned": free.planned((height, width))}
    kernels(None)  # compiled before anything is timed
    times = take_turns({name: timed(way, frame) for name, way in ways.items()}, runs=args.runs)
    rows = []
    for name in (name.removesuffix(", free") for name in ways if name.endswith(", free")):
        free_ms, planned_ms = (np.median(times[f"{name}, {way}"]) for way in ("free", "planned"))
        winners = [ways[f"{name}, {way}"].logits(frame).argmax(0) for way in ("free", "planned")]
        same = f"{100 * np.mean(winners[0] == winners[1]):.2f} %"
        rows.append([name, f"{free_ms:.1f}", f"{planned_ms:.1f}", f"{100 * (1 - planned_ms / free_ms):.1f} %", same])
    print_table(f"{ENGINE}, {args.size}, CPU ms", ["file, precision", "free", "planned", "less", "same classes"], rows)
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    print_text(f"{facts['processor']}, threads: {args.threads}, load before: {facts['load']}; {versions}")


if __name__ == "__main__":
    main()
