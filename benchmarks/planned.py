"""How well `featherseg train FOLDER --time T` keeps to its time: what was planned, and what the clock says in the end.

    python benchmarks/planned.py 3m [10m …] [--images 60] [--size 240x320] [--threads 1] [settings …]

A folder of synthetic streets is written and trained on once for each time, as the command does it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import date
from pathlib import Path

import torch

from featherseg.core.durations import duration, parse_duration
from featherseg.core.images import write_image, write_mask
from featherseg.core.machine import cpu_name, load
from featherseg.core.progress import show_progress
from featherseg.data.datasets import create_dataset
from featherseg.training.fit import fit
from featherseg.training.quickstart import quick_start
from featherseg.training.run_folder import RunFolder


def write_folder(folder: Path, images: int, size: tuple[int, int]) -> Path:
    streets = create_dataset("synthetic", split="train", count=images, size=size)
    for i in range(images):
        image, mask = streets.read(i)
        write_image(folder / "images" / f"s{i}.png", image)
        write_mask(folder / "masks" / f"s{i}.png", mask, streets.classes)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="+", help="times, and dotted.key=value settings")
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--size", default="240x320")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    height, width = map(int, options.size.split("x"))
    settings = [word for word in options.words if "=" in word]
    torch.set_num_threads(options.threads)
    show_progress()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = write_folder(Path(place) / "photos", options.images, (height, width))
        for n, word in enumerate(word for word in options.words if "=" not in word):
            seconds, begin = parse_duration(word, "the time"), time.monotonic()
            out = [f"out={place}", f"name=run{n}", "train.device=cpu"]
            start = quick_start(folder, [*settings, *out], seconds=seconds)
            print("\n".join(f"    {choice}" for choice in start.choices), flush=True)
            run = fit(start.config)
            planned, final = start.config.train.epochs, RunFolder(run.path).config.train.epochs
            rows.append((word, planned, final, time.monotonic() - begin, seconds))
    print(f"\n{date.today()}, {cpu_name()}, {options.threads} threads, torch {torch.__version__}, load {load()}")
    print(f"{options.images} images of {options.size}")
    print("time   epochs planned, trained   taken   of the time")
    for word, planned, final, took, seconds in rows:
        print(f"{word:6} {planned:14} {final:9}   {duration(took):>7} {100 * took / seconds:9.0f} %")


if __name__ == "__main__":
    main()
