"""What `featherseg train FOLDER` gains from the start it chooses, with few pictures and equal time.

    python benchmarks/starts.py data/CamVid [--pictures 20] [--minutes 10] [--seeds 0]

A folder of so many labelled pictures is drawn from two recordings of CamVid and trained on twice: FastSegNet from
ImageNet weights, and whatever is chosen for the folder. Both have the same time, by the clock: a few epochs of each are
timed first, and as many are trained as fit. Both are scored on all pictures of the other recordings, which no training
saw, and which no epoch is chosen by; that is done on pictures of the folder itself. Published weights are looked for
as always (FEATHERSEG_WEIGHTS); without them the second is the first.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import tomli_w
import torch

from featherseg.core.config import Config
from featherseg.core.images import write_image, write_mask
from featherseg.core.machine import cpu_name
from featherseg.core.progress import show_progress
from featherseg.data.datasets import SegmentationDataset, create_dataset
from featherseg.evaluation.result import EvalResult
from featherseg.evaluation.scores import protocol, score
from featherseg.models.checkpoint import load_checkpoint
from featherseg.models.session import TorchSession, describe
from featherseg.runtime.segmenter import Segmenter
from featherseg.training.fit import fit
from featherseg.training.quickstart import quick_start
from featherseg.training.run_log import read_log

TIMED = (2, 5)
"""Epochs of the trainings that are timed first: what the longer one takes beyond the other is free of set-up."""
LOOKS = 20
"""At most so often a training looks at its validation pictures."""


@dataclass(frozen=True)
class Row:
    """One training: what it was, its epochs and seconds, and its scores on the unseen recordings."""

    start: str
    epochs: int
    seconds: float
    result: EvalResult


def draw_folder(data: SegmentationDataset, folder: Path, pictures: int, seed: int) -> Path:
    """Write a folder of pictures and masks drawn from a dataset."""
    for index in sorted(np.random.default_rng(seed).choice(len(data), pictures, replace=False).tolist()):
        image, mask = data.read(index)
        write_image(folder / "images" / f"{data.stem(index)}.png", image)
        write_mask(folder / "masks" / f"{data.stem(index)}.png", mask, data.classes)
    (folder / "classes.toml").write_text(tomli_w.dumps({"names": list(data.classes.names)}))
    return folder


def chosen(folder: Path, settings: list[str], say: bool = False) -> Config:
    start = quick_start(folder, settings)
    if say:
        print("\n".join(f"    {line}" for line in (*start.notes, *map(str, start.choices))), flush=True)
    return start.config


def train(folder: Path, settings: list[str], out: Path, minutes: float) -> tuple[Path, Config, float]:
    """Train as many epochs as fit into so many minutes; return the run, its configuration and its seconds."""
    fixed = [*settings, f"out={out}"]
    short, long = (
        fit(chosen(folder, [*fixed, f"name=timed{n}", f"train.epochs={n}", "train.eval_every=1"], say=n == TIMED[0]))
        for n in TIMED
    )
    epoch = float(np.median([row["seconds"] for row in read_log(long.path)]))
    look = max((long.seconds - short.seconds) / (TIMED[1] - TIMED[0]) - epoch, 0.0)
    budget = 60 * minutes
    looked_at_each = budget / (epoch + look)
    epochs = max(int(looked_at_each if looked_at_each <= LOOKS else (budget - LOOKS * look) / epoch), 1)
    lasting = [f"train.epochs={epochs}", f"train.eval_every={math.ceil(epochs / LOOKS)}"]
    config = chosen(folder, [*fixed, "name=run", *lasting])
    begin = time.monotonic()
    run = fit(config)
    return run.path, config, time.monotonic() - begin


def unseen(run: Path, data: SegmentationDataset, images: int) -> EvalResult:
    checkpoint = load_checkpoint(run)
    description = describe(checkpoint.model, checkpoint.classes)
    segmenter = Segmenter(TorchSession(checkpoint.model, description, device="cpu"))
    indices = np.linspace(0, len(data) - 1, min(images or len(data), len(data))).astype(int).tolist()
    confusion, _, _ = score(segmenter.segment, data, indices=indices, boundary=False)
    return EvalResult.from_metrics(confusion, None, protocol(data, long_side=checkpoint.model.input_spec.long_side))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("camvid", type=Path)
    parser.add_argument("--recordings", nargs="+", default=["0006R0", "0016E5"], help="what pictures are drawn from")
    parser.add_argument("--pictures", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=10.0, help="of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="each draws pictures and trains anew")
    parser.add_argument("--images", type=int, default=0, help="unseen pictures to score, evenly spaced; 0 takes all")
    parser.add_argument("--encoder-weights", default="imagenet", help='FastSegNet\'s: "imagenet" or a file of them')
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    show_progress(False)
    recordings = {"recordings": options.recordings}
    train_set, val_set = (
        create_dataset("camvid", str(options.camvid), split, **recordings) for split in ("train", "val")
    )
    before = ["model.name=fastsegnet", f"model.options.encoder_weights={options.encoder_weights}"]
    rows = []
    for seed in options.seeds:
        for settings in (before, []):
            with tempfile.TemporaryDirectory() as place:
                folder = draw_folder(train_set, Path(place) / "pictures", options.pictures, seed)
                common = [f"seed={seed}", "train.device=cpu"]
                run, config, seconds = train(folder, [*settings, *common], Path(place) / "runs", options.minutes)
                start = f"{config.model.name}, {config.model.init or ('encoder' if settings else 'as chosen')}"
                rows.append(Row(start, config.train.epochs, seconds, unseen(run, val_set, options.images)))
                print(f"seed {seed}: {start}: {100 * rows[-1].result.miou:.1f}", flush=True)
    print(f"\n{date.today()}, {cpu_name()}, {options.threads} threads, torch {torch.__version__}")
    print(
        f"{options.pictures} pictures of {', '.join(options.recordings)}; {options.minutes:g} minutes of training each"
    )
    scored = min(options.images or len(val_set), len(val_set))
    print(f"scored on {scored} of {len(val_set)} pictures of the other recordings, as large as they are, single scale")
    print(f"{'start':28} {'epochs':>6} {'minutes':>8} {'mIoU':>6}")
    for row in rows:
        print(f"{row.start:28} {row.epochs:6} {row.seconds / 60:8.1f} {100 * row.result.miou:6.1f}")


if __name__ == "__main__":
    main()
