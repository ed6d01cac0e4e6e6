"""What `featherseg train FOLDER` makes of thin structures: its choices against those of version 0.1, in equal time.

    python benchmarks/vessels.py [--minutes 8] [--seeds 0] [--out vessels]

A folder of synthetic vessels (1 to 6 pixels wide, `data.options.scene=vessels`) is written and trained on twice, each
time with one command and `--time`: as 0.1 chose network, crop, batch, loss and rates, and as they are chosen now. The
best epoch is chosen on the folder's validation pictures; both networks are scored on pictures of another split, which
no training saw. Dice, precision and recall are of the vessels' pixels, clDice is of their centre lines. The picture
shows image, truth, 0.1 and now.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import torch

from featherseg.cli.tables import print_table
from featherseg.core.images import write_image
from featherseg.core.machine import cpu_name
from featherseg.core.progress import show_progress
from featherseg.core.types import ImageArray
from featherseg.data.readers.synthetic import SyntheticVessels, write_synthetic
from featherseg.evaluation.result import EvalResult
from featherseg.evaluation.scores import evaluate
from featherseg.models.checkpoint import load_checkpoint
from featherseg.models.session import TorchSession, describe
from featherseg.runtime.segmenter import Segmenter
from featherseg.training.fit import fit
from featherseg.training.given import configured

OF_0_1 = (
    "model.name=fastsegnet",
    "model.options.stride=8",
    "augment.crop=[256, 320]",
    "data.batch_size=8",
    "data.crops=1",
    "optim.lr=0.003",
    "optim.encoder_lr=0.0003",
    'loss.out=[{name="cross_entropy"}]',
    'loss.class_weights="none"',
    "augment.class_balance=0.0",
)
"""What 0.1 chose for a folder of a few pictures of two frequent classes."""
VESSEL = 1


@dataclass(frozen=True)
class Row:
    """One training: what it was, and how good on pictures that it never saw."""

    name: str
    seed: int
    minutes: float
    epochs: int
    network: str
    result: EvalResult
    segmenter: Segmenter


def train(name: str, seed: int, settings: Sequence[str], options: argparse.Namespace, place: Path) -> Row:
    """Train on the folder as the command does, and score on the test split."""
    folder = place / "pictures"
    config = configured(
        folder,
        [*settings, f"name={name.replace('.', '_')}_{seed}", f"out={place / 'runs'}", f"seed={seed}"],
        seconds=60 * options.minutes,
    )
    run = fit(config)
    checkpoint = load_checkpoint(run.path)
    session = TorchSession(checkpoint.model, describe(checkpoint.model, checkpoint.classes), device="cpu")
    segmenter = Segmenter(session)
    unseen = SyntheticVessels("test", options.test, tuple(options.size))
    network = (
        f"{config.model.name} of stride {checkpoint.model.stride}, crops of {'x'.join(map(str, config.augment.crop))}"
    )
    return Row(
        name, seed, run.seconds / 60, run.epochs, network, evaluate(segmenter, unseen, thin=["vessel"]), segmenter
    )


def strips(rows: Sequence[Row], options: argparse.Namespace, count: int = 3) -> ImageArray:
    """Return pictures of the test split: image, truth, and each network's mask."""
    unseen = SyntheticVessels("test", options.test, tuple(options.size))
    lines = []
    for index in range(min(count, len(unseen))):
        image, mask = unseen.read(index)
        masks = [mask, *(row.segmenter(image).mask for row in rows)]
        drawn = [np.repeat((255 * (each == VESSEL)).astype(np.uint8)[..., None], 3, axis=2) for each in masks]
        lines.append(np.hstack([image, *(cv2.copyMakeBorder(d, 0, 0, 4, 0, cv2.BORDER_CONSTANT) for d in drawn)]))
    return np.vstack(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="of each training, choosing and scoring included")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--train", type=int, default=16, help="pictures that are trained on")
    parser.add_argument("--val", type=int, default=6)
    parser.add_argument("--test", type=int, default=24, help="pictures that are scored on")
    parser.add_argument("--size", type=int, nargs=2, default=[576, 576])
    parser.add_argument("--encoder-weights", default="imagenet", help='FastSegNet\'s: "imagenet" or a file of them')
    parser.add_argument("--only", choices=["0.1", "now"], nargs="+", default=["0.1", "now"])
    parser.add_argument("--settings", nargs="*", default=[], help="more of them, for the choices of now")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("vessels"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    show_progress(True)
    weights = f"model.options.encoder_weights={options.encoder_weights}"
    ways = {"0.1": [*OF_0_1, weights], "now": options.settings}
    rows = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            write_synthetic(place / "pictures", "vessels", options.train, options.val, tuple(options.size), seed)
            rows += [train(way, seed, ways[way], options, place) for way in options.only]
    options.out.mkdir(parents=True, exist_ok=True)
    write_image(options.out / "vessels.png", strips([row for row in rows if row.seed == options.seeds[0]], options))
    size = "x".join(map(str, options.size))
    print(f"\n{date.today()}, {cpu_name()}, {options.threads} threads, torch {torch.__version__}")
    print(f"{options.train} training and {options.val} validation pictures of {size}; scored on {options.test} others")
    lines = []
    for row in rows:
        found = row.result
        scores = [found.dice, found.precision, found.recall, found.cldice_per_class]
        values = [f"{100 * float(each[VESSEL]):.1f}" for each in scores]
        lines.append([row.name, str(row.seed), f"{row.minutes:.1f}", str(row.epochs), *values, row.network])
    print_table("", ["as", "seed", "minutes", "epochs", "Dice", "precision", "recall", "clDice", "network"], lines)


if __name__ == "__main__":
    main()
