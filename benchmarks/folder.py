"""Images per second of `featherseg predict` over a folder: one thread, and as many as there are, in turns.

    python benchmarks/folder.py FOLDER [--model FILE ...] [--images 60] [--rounds 5] [--json]

Every model segments the same images, masks and overlays included, with one engine thread and with all of them, each of
which has an image of its own then. They take turns; figures are medians of rounds. The bound is what the cores allow:
the CPU time of one thread's run over all cores.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

from featherseg.cli.tables import print_json, print_table, print_text
from featherseg.core.machine import available_threads, cpu_name, load
from featherseg.evaluation.opening import STREET, open_segmenter
from featherseg.runtime.postprocess import kernels
from featherseg.runtime.predict import Found, find_images, predict
from featherseg.runtime.segmenter import Segmenter


def seconds(segmenter: Segmenter, images: list[Found]) -> tuple[float, float]:
    """Return wall and CPU time of a run."""
    with tempfile.TemporaryDirectory() as out:
        cpu, begin = time.process_time(), time.perf_counter()
        predict(segmenter, images, out)
        return time.perf_counter() - begin, time.process_time() - cpu


def measure(models: list[Path], images: list[Found], rounds: int) -> list[dict[str, Any]]:
    """Return the figures of each model with one thread and with all."""
    cores = available_threads()
    ways = {(model, threads): open_segmenter(model, threads=threads) for model in models for threads in {1, cores}}
    runs: dict[tuple[Path, int], list[tuple[float, float]]] = {way: [] for way in ways}
    kernels(None)
    for number in range(rounds + 1):
        for way, segmenter in ways.items():
            found = seconds(segmenter, images)
            if number:  # the first warms up
                runs[way].append(found)
    found = []
    for (model, threads), times in runs.items():
        wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        allowed = statistics.median(cpu for _, cpu in runs[model, 1]) / cores
        of_bound = statistics.median(allowed / wall for wall, _ in times)
        figures = {"images_per_second": len(images) / wall, "cpu_ms": 1000 * cpu / len(images), "of_bound": of_bound}
        found.append({"model": model.name, "threads": threads, **figures})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, nargs="+", default=[STREET])
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    images = find_images([options.folder])[: options.images]
    facts = f"{date.today()}, {available_threads()} cores of {cpu_name()}, load {load()}, {len(images)} images"
    cases = measure(options.model, images, options.rounds)
    if options.json:
        print_json({"machine": facts, "cases": cases})
        return
    rows = []
    for case in cases:
        figures = (f"{case['images_per_second']:.1f}", f"{case['cpu_ms']:.1f}", f"{100 * case['of_bound']:.0f}")
        rows.append((case["model"], str(case["threads"]), *figures))
    print_table("predict", ("model", "threads", "images/s", "CPU ms an image", "% of what the cores allow"), rows)
    print_text(facts)


if __name__ == "__main__":
    main()
