"""What images without labels are worth, and the order in which `label` would have them labelled, on CamVid.

    FEATHERSEG_WEIGHTS=WEIGHTS python benchmarks/label_loop.py data/CamVid --out runs/label_loop
        [--parts eighth order] [--hold-out 0001TP 0006R0 0016E5] [--seeds 0 1 2] [--sizes 10 20 40 80]
        [--steps 1000] [--threads 1]

FastSegNet from ImageNet's encoder, folds by recording: two of CamVid's three are trained on, and the third, which no
training saw, labelled or not, is what the last epoch is judged on. All trainings take the same steps of as many
labelled images.

eighth: an eighth of the training images labelled, drawn by the seed, alone and with the rest without labels.
order: 10 images drawn by the seed, then 20, 40 and 80: 10, 20 and 40 more that `label` puts first with the network of
the step before, or that are drawn. A person's labels are CamVid's masks.

Each training is a run folder of its own below --out: what is done is passed over, what was begun is resumed, so that
the program may be stopped and started again. The table is of all that is there, for the same --steps.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import torch

from featherseg.cli.tables import print_table
from featherseg.core.config import Config
from featherseg.core.images import write_mask
from featherseg.core.progress import show_progress
from featherseg.core.recipes import load_config
from featherseg.data.class_maps import open_mapped
from featherseg.data.datasets import FileDataset
from featherseg.data.readers.public import recording_of
from featherseg.data.unlabelled import labelled_images
from featherseg.evaluation.opening import open_segmenter
from featherseg.labelling.label import label
from featherseg.runtime.predict import Found
from featherseg.training.fit import fit

RECORDINGS = ("0001TP", "0006R0", "0016E5")
SIZES = (10, 20, 40, 80)
SAMPLES = 400
"""Labelled crops of an epoch: a multiple of all sizes, so that each takes the same steps."""


@dataclass(frozen=True)
class Plan:
    """What all trainings share.

    Args:
        data: CamVid's folder.
        out: folder of the run folders.
        steps: of each training.
        batch: labelled crops in a step.
        crop: height and width.
        samples: labelled crops in an epoch.
        settings: further ones of all trainings.
        taught: further ones of those with unlabelled images.
    """

    data: Path
    out: Path
    steps: int
    batch: int
    crop: tuple[int, int]
    samples: int
    settings: tuple[str, ...]
    taught: tuple[str, ...]

    def config(self, held_out: str, seed: int, name: str, images: int, *settings: str) -> Config:
        """Return the configuration of a training on so many labelled images."""
        crops = max(round(self.samples / images), 1)
        epochs = max(round(self.steps / -(-images * crops // self.batch)), 1)
        options = {"of": "camvid", "fold": _fold_of(self.data, held_out), "folds": len(RECORDINGS)}
        return load_config(
            None,
            [
                f"name={name}",
                f"out={self.out / held_out / f'seed{seed}'}",
                f"seed={seed}",
                "model.name=fastsegnet",
                'model.options={encoder_weights="imagenet"}',
                "data.name=fold",
                f"data.root={self.data}",
                f"data.options={_inline(options)}",
                f"data.batch_size={self.batch}",
                f"data.crops={crops}",
                "data.workers=0",
                f"augment.crop=[{self.crop[0]}, {self.crop[1]}]",
                "augment.class_balance=0.5",
                "loss.class_weights=auto",
                "optim.lr=2e-3",
                "optim.encoder_lr=3e-4",
                "optim.warmup=0.1",
                f"train.epochs={epochs}",
                f"train.eval_every={epochs}",
                "train.ema=0.998",
                "train.pictures=0",
                *self.settings,
                *settings,
            ],
        )

    def train(self, config: Config) -> float:
        """Train, unless it is done, and return the held-out recording's mIoU in percent."""
        run = Path(config.out) / config.name
        if not (run / "result.json").is_file():
            fit(config, resume=(run / "config.toml").is_file())
        return 100 * float(json.loads((run / "result.json").read_text())["miou"])


def _inline(options: dict[str, object]) -> str:
    return "{" + ", ".join(f"{key} = {json.dumps(value)}" for key, value in options.items()) + "}"


def _fold_of(data: Path, recording: str) -> int:
    """Return the number of the fold that is judged on a recording."""
    for fold in range(1, len(RECORDINGS) + 1):
        held = open_mapped("fold", data, "val", of="camvid", fold=fold, folds=len(RECORDINGS))
        if recording_of(held.stem(0)) == recording:
            return fold
    raise SystemExit(f"no recording is called {recording}; choose from {', '.join(RECORDINGS)}")


def eighth(plan: Plan, held_out: str, seed: int, variant: str) -> dict[str, float]:
    """Return mIoU with an eighth of the images labelled, alone and with the rest beside it."""
    drawn = "data.labelled=1/8"
    count = len(labelled_images(plan.config(held_out, seed, "count", 1, drawn).data, seed)[0])
    alone = plan.train(plan.config(held_out, seed, "eighth_alone", count, drawn))
    name = f"eighth_rest{f'_{variant}' if variant else ''}"
    rest = plan.train(plan.config(held_out, seed, name, count, drawn, "data.unlabelled=rest", *plan.taught))
    return {"an eighth alone": alone, f"an eighth and the rest{f' ({variant})' if variant else ''}": rest}


def order(plan: Plan, held_out: str, seed: int, sizes: Sequence[int]) -> dict[str, float]:
    """Return mIoU by how many images are labelled, and which."""
    scores: dict[str, float] = {}
    home = plan.out / held_out / f"seed{seed}"
    home.mkdir(parents=True, exist_ok=True)
    every, _ = labelled_images(plan.config(held_out, seed, "all", 1).data, seed)
    assert isinstance(every, FileDataset)
    config = plan.config(held_out, seed, f"first_{sizes[0]}", sizes[0], f"data.labelled={sizes[0]}")
    first, _ = labelled_images(config.data, seed)
    chosen = [first.stem(i) for i in range(len(first))]
    scores[f"{sizes[0]} drawn"] = plan.train(config)
    before = Path(config.out) / config.name
    for size in sizes[1:]:
        drawn = plan.config(held_out, seed, f"drawn_{size}", size, f"data.labelled={size}")
        scores[f"{size} drawn"] = plan.train(drawn)
        names = home / f"ordered_{size}.txt"
        if not names.is_file():
            more = ordered(every, chosen, before, home / f"labels_{len(chosen)}")[: size - len(chosen)]
            names.write_text("".join(f"{name}\n" for name in [*chosen, *more]))
        chosen = names.read_text().split()
        config = plan.config(held_out, seed, f"ordered_{size}", size, f"data.labelled={names}")
        scores[f"{size} in label's order"] = plan.train(config)
        before = Path(config.out) / config.name
    return scores


def ordered(every: FileDataset, labelled: Sequence[str], run: Path, out: Path) -> list[str]:
    """Return the names of the images that are not labelled, in the order of `label` with a run's network."""
    for place, (image, mask) in enumerate(every.pairs):
        if every.stem(place) in labelled:
            write_mask(out / "masks" / f"{image.stem}.png", every.table.read(mask), every.classes)
    images = [Found(image, PurePath(image.name)) for image, _ in every.pairs]
    result = label(open_segmenter(run), images, out, model=run, sheet=24)
    assert len(result.kept) == len(labelled)
    return [each.path.stem for each in result.order]


def main() -> None:
    """Train what is not trained yet, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/label_loop"))
    parser.add_argument("--parts", nargs="+", choices=("eighth", "order"), default=("eighth", "order"))
    parser.add_argument("--hold-out", nargs="+", choices=RECORDINGS, default=RECORDINGS)
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, nargs=2, default=(256, 320), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--samples", type=int, default=SAMPLES, help="labelled crops in an epoch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", nargs="+", default=(), help="settings of all trainings, such as train.precision=fp32")
    parser.add_argument("--taught", nargs="+", default=(), help="settings of those with unlabelled images")
    parser.add_argument("--variant", default="", help="name of what --taught makes, for its run folders")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    show_progress()
    crop = (given.crop[0], given.crop[1])
    out = given.out / f"{given.steps}_steps"
    plan = Plan(
        given.data.resolve(), out, given.steps, given.batch, crop, given.samples, tuple(given.set), tuple(given.taught)
    )
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for seed in given.seeds:
        for held_out in given.hold_out:
            scores = eighth(plan, held_out, seed, given.variant) if "eighth" in given.parts else {}
            scores |= order(plan, held_out, seed, given.sizes) if "order" in given.parts else {}
            for name, score in scores.items():
                found[name][held_out].append(score)
            (out / "scores.json").write_text(json.dumps(found, indent=1))
            print_found(found, given.hold_out)


def print_found(found: dict[str, dict[str, list[float]]], held_out: Sequence[str]) -> None:
    """Print the mean over the seeds for each held-out recording, and over all of them with its spread."""
    rows = []
    for name, by_recording in found.items():
        means = [f"{np.mean(by_recording[each]):.1f}" if each in by_recording else "–" for each in held_out]
        every = [score for scores in by_recording.values() for score in scores]
        spread = f" ± {np.std(every, ddof=1):.1f}" if len(every) > 1 else ""
        rows.append((name, *means, f"{np.mean(every):.1f}{spread}", str(len(every))))
    print_table("mIoU of recordings that no training saw", ("labelled", *held_out, "mean ± sd", "trainings"), rows)


if __name__ == "__main__":
    main()
