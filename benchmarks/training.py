"""A training step beside a tutorial's, in turns, and what each part of it takes.

    python benchmarks/training.py --data data/CamVid [--threads 2]            # on quiet cores: whole epochs too
    python benchmarks/training.py --data data/CamVid --threads 1 --cpu-time   # while the machine does other things

FastSegNet, crops of 360x480, batches of 8, with its auxiliary head. The tutorial's loop is plain PyTorch: files that
are decoded each time, torchvision's transforms, fp32, logits upsampled to the mask's size, CrossEntropyLoss, AdamW.
featherseg's is that of its recipes, as `featherseg train` runs it. Parts are timed in this process: in processor time
without worker processes, so that data is included; by the clock with two of featherseg's, so that its data is what is
waited for, and the tutorial's all of it. Of whole epochs both have two workers, and validation at the end of each;
there the clock decides, as it does for whoever waits for them. What a step does beside the parts that are named is the
forward pass.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from parts import Clock
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import ColorJitter, InterpolationMode
from torchvision.transforms import functional as T

from featherseg.core.config import Config
from featherseg.core.images import write_image
from featherseg.core.machine import cpu_name
from featherseg.core.progress import show_progress
from featherseg.core.recipes import config_from_dict
from featherseg.core.types import IMAGENET_MEAN, IMAGENET_STD
from featherseg.data.datasets import SegmentationDataset, create_dataset
from featherseg.models.factory import create_model
from featherseg.training.devices import create_fabric
from featherseg.training.fit import set_up
from featherseg.training.run_folder import RunFolder
from featherseg.training.trainer import Trainer

PARTS = ("data", "forward", "loss", "backward", "optimiser", "average of weights", "validation")
GOAL = 2.3
"""How many times the tutorial's images a second featherseg is to train."""


class Files(Dataset[tuple[Tensor, Tensor]]):
    """Files as tutorials read and change them: random magnification, crop, mirror and colours; or as they are."""

    def __init__(self, folder: Path, count: int, crop: tuple[int, int], training: bool) -> None:
        self.folder, self.count, self.crop, self.training = folder, count, crop, training
        self.jitter = ColorJitter(0.3, 0.3, 0.3, 0.03)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return a normalised image, float (3, H, W), and its mask, int64 (H, W)."""
        image = Image.open(self.folder / f"{index}_image.png").convert("RGB")
        mask = Image.open(self.folder / f"{index}_mask.png")
        if self.training:
            image, mask = self._changed(image, mask)
        return (
            T.normalize(T.to_tensor(image), list(IMAGENET_MEAN), list(IMAGENET_STD)),
            torch.from_numpy(np.array(mask, dtype=np.int64)),
        )

    def _changed(self, image: Image.Image, mask: Image.Image) -> tuple[Image.Image, Image.Image]:
        factor = random.uniform(0.5, 2.0)
        size = [max(round(side * factor), 1) for side in (image.height, image.width)]
        image = T.resize(image, size, InterpolationMode.BILINEAR)
        mask = T.resize(mask, size, InterpolationMode.NEAREST)
        short = [max(crop - side, 0) for crop, side in zip(self.crop, size, strict=True)]
        if any(short):
            image = T.pad(image, [0, 0, short[1], short[0]])
            mask = T.pad(mask, [0, 0, short[1], short[0]], fill=255)
        top = random.randint(0, image.height - self.crop[0])
        left = random.randint(0, image.width - self.crop[1])
        image, mask = (T.crop(each, top, left, *self.crop) for each in (image, mask))
        if random.random() < 0.5:
            image, mask = T.hflip(image), T.hflip(mask)
        return self.jitter(image), mask


class Tutorial:
    """The loop as tutorials have it."""

    name = "tutorial"

    def __init__(self, options: argparse.Namespace, folder: Path, counts: tuple[int, int], classes: int) -> None:
        self.clock = Clock()
        crop = tuple(options.crop)
        self.sets = [
            Files(folder / part, n, crop, part == "train") for part, n in zip(("train", "val"), counts, strict=True)
        ]
        self.batch, self.classes = options.batch, classes
        self.model = create_model("fastsegnet", classes)
        self.criterion = nn.CrossEntropyLoss(ignore_index=255)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=1e-2)

    def batches(self, workers: int) -> Iterator[Any]:
        """Return an epoch's batches."""
        return iter(DataLoader(self.sets[0], self.batch, shuffle=True, num_workers=workers, drop_last=True))

    def step(self, batch: tuple[Tensor, Tensor]) -> None:
        """Change the weights by one batch."""
        images, masks = batch
        self.optimizer.zero_grad()
        outputs = self.model.outputs(images)
        loss = self.clock.watch("loss", self._loss)(outputs, masks)
        self.clock.watch("backward", loss.backward)()
        self.clock.watch("optimiser", self.optimizer.step)()

    def _loss(self, outputs: dict[str, Tensor], masks: Tensor) -> Tensor:
        losses = {
            name: self.criterion(
                nn.functional.interpolate(logits, size=masks.shape[1:], mode="bilinear", align_corners=False), masks
            )
            for name, logits in outputs.items()
            if name == "out" or name.startswith("aux_")
        }
        return losses.pop("out") + 0.4 * sum(losses.values())

    def train(self) -> None:
        """Be ready for steps."""
        self.model.train()

    @torch.no_grad()
    def validate(self, workers: int) -> float:
        """Return the mIoU on all validation images."""
        self.model.eval()
        matrix = np.zeros((self.classes, self.classes), np.int64)
        for images, masks in DataLoader(self.sets[1], 1, num_workers=workers):
            found = self.model(images).argmax(1)
            known = masks != 255
            ids = self.classes * masks[known] + found[known]
            matrix += np.bincount(ids.numpy(), minlength=matrix.size).reshape(matrix.shape)
        hits = np.diag(matrix)
        union = matrix.sum(0) + matrix.sum(1) - hits
        return float(np.mean(hits[union > 0] / union[union > 0]))


class Featherseg:
    """featherseg's own loop: its trainer, whose parts are watched."""

    name = "featherseg"

    def __init__(self, options: argparse.Namespace, config: Config, folder: Path) -> None:
        self.clock = Clock()
        fabric = create_fabric(config.train)
        fabric.launch()
        run = RunFolder(folder)
        self.setup = set_up(config, fabric)
        run.create(config, self.setup.val_set.classes)
        self.trainer = Trainer(fabric, self.setup, config, run)
        self.epoch = 0
        watch = self.clock.watch
        plain, step = self.trainer.step.plain, self.trainer.step
        plain.of_outputs = watch("loss", plain.of_outputs)  # type: ignore[method-assign, union-attr]
        fabric.backward = watch("backward", fabric.backward)  # type: ignore[method-assign]
        fabric.clip_gradients = watch("optimiser", fabric.clip_gradients)  # type: ignore[method-assign]
        step.optimizer.step = watch("optimiser", step.optimizer.step)  # type: ignore[method-assign]
        self._average = watch("average of weights", self.trainer.ema.update_parameters)

    def batches(self, workers: int) -> Iterator[Any]:
        """Return an epoch's batches."""
        self.setup.batches.begin(self.epoch)
        self.epoch += 1
        return iter(self.setup.loader)

    def step(self, batch: dict[str, Tensor]) -> None:
        """Change the weights by one batch."""
        self.trainer.step(batch)
        self.trainer.schedule.step()
        self._average(self.setup.objective.model)

    def train(self) -> None:
        """Be ready for steps."""
        self.trainer.step.objective.train()

    def validate(self, workers: int) -> float:
        """Return the mIoU on all validation images."""
        return self.trainer._score(lambda done, total: None).miou


Loop = Tutorial | Featherseg


def write_files(data: SegmentationDataset, folder: Path, count: int) -> int:
    """Write pictures and masks as PNG files of plain names; return how many."""
    for i in range(min(count, len(data))):
        image, mask = data.read(i)
        write_image(folder / f"{i}_image.png", image)
        Image.fromarray(mask).save(folder / f"{i}_mask.png")
    return min(count, len(data))


def parts(loops: list[Loop], steps: int, timer: Callable[[], float]) -> dict[str, list[dict[str, float]]]:
    """Return the ms an image of each part, by loop, in turns of one batch."""
    found: dict[str, list[dict[str, float]]] = {loop.name: [] for loop in loops}
    feeds = [loop.clock.watch("data", itertools.chain.from_iterable(_epochs(loop)).__next__) for loop in loops]
    for turn in range(steps + 1):
        for loop, feed in zip(loops, feeds, strict=True):
            loop.clock.timer = timer
            loop.train()
            loop.clock.begin()
            batch = feed()
            size = len(batch["image"] if isinstance(batch, dict) else batch[0])
            loop.clock.watch("forward", loop.step)(batch)
            if turn:  # the first is to warm up
                found[loop.name].append({part: 1000 * s / size for part, s in loop.clock.seconds.items()})
    return found


def _epochs(loop: Loop) -> Iterator[Iterator[Any]]:
    while True:
        yield loop.batches(0)


def validation(loop: Loop, images: int, timer: Callable[[], float]) -> float:
    """Return the ms that a look at the validation images takes for each of them."""
    begin = timer()
    loop.validate(0)
    return 1000 * (timer() - begin) / images


def whole_epochs(loops: list[Loop], epochs: int) -> dict[str, list[float]]:
    """Return images a second of whole epochs, with two workers and validation, by the clock, in turns."""
    found: dict[str, list[float]] = {loop.name: [] for loop in loops}
    for epoch in range(epochs + 1):
        for loop in loops if epoch % 2 else loops[::-1]:
            begin, images = time.perf_counter(), 0
            loop.train()
            for batch in loop.batches(2):
                loop.step(batch)
                images += len(batch["image"] if isinstance(batch, dict) else batch[0])
            loop.validate(2)
            if epoch:  # the first starts workers
                found[loop.name].append(images / (time.perf_counter() - begin))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of CamVid; drawn streets where left out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="processor time in place of the clock, no whole epochs")
    parser.add_argument("--steps", type=int, default=12, help="of each, after one that is not counted")
    parser.add_argument("--epochs", type=int, default=4, help="whole ones of each, after one that is not counted")
    parser.add_argument("--images", type=int, default=0, help="to train on; 0 takes all")
    parser.add_argument("--val-images", type=int, default=0, help="to validate on; 0 takes all")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, nargs=2, default=[360, 480])
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    random.seed(0)
    show_progress(False)
    name = "camvid" if options.data else "synthetic"
    root = str(options.data) if options.data else ""
    drawn = (
        {}
        if options.data
        else {"count": options.images or 32, "val_count": options.val_images or 8, "size": options.crop}
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        sets = [create_dataset(name, root, part, **drawn) for part in ("train", "val")]
        numbers = options.images or len(sets[0]), options.val_images or len(sets[1])
        counts = tuple(
            write_files(each, folder / part, n) for each, part, n in zip(sets, ("train", "val"), numbers, strict=True)
        )
        config = config_from_dict(
            {
                "name": "run",
                "out": place,
                "model": {"name": "fastsegnet"},
                "data": {
                    "name": name,
                    "root": root,
                    "options": drawn,
                    "batch_size": options.batch,
                    "workers": 0 if options.cpu_time else 2,
                },
                "augment": {"crop": options.crop, "scale": [0.5, 2.0], "jitter": 0.3},
                "train": {"device": "cpu", "precision": "bf16", "ema": 0.998},
            }
        )
        ours = Featherseg(options, config, folder / "run")
        theirs = Tutorial(options, folder, (counts[0], counts[1]), len(sets[0].classes))
        loops: list[Loop] = [ours, theirs]
        timer = time.process_time if options.cpu_time else time.perf_counter
        rows = parts(loops, options.steps, timer)
        seen = {"featherseg": len(ours.setup.val_set), "tutorial": counts[1]}
        share = counts[1] / max(counts[0], 1)
        found = {
            each: {p: statistics.median(row.get(p, 0.0) for row in rows[each]) for p in PARTS[:-1]} for each in rows
        }
        for loop in loops:
            found[loop.name]["validation"] = share * validation(loop, seen[loop.name], timer)
        rates = {} if options.cpu_time else whole_epochs(loops, options.epochs)
    return report(options, found, rates)


def report(options: argparse.Namespace, found: dict[str, dict[str, float]], rates: dict[str, list[float]]) -> int:
    """Print what was measured; return whether the goal is missed."""
    kind = "processor time" if options.cpu_time else "by the clock"
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    title = (
        f"{date.today()}, {cpu_name()}, threads: {options.threads}, load {load:.1f}, torch {torch.__version__}; "
        f"fastsegnet, {options.crop[0]}x{options.crop[1]}, batch {options.batch}, "
        f"medians of {options.steps} steps in turns, {kind}"
    )
    print(
        f"{title}\n\n| ms an image | featherseg | share | tutorial | share | times as long |\n|---|---|---|---|---|---|"
    )
    totals = {name: sum(each.values()) for name, each in found.items()}
    for part in (*PARTS, "sum"):
        ours, theirs = (found[name].get(part, totals[name]) for name in ("featherseg", "tutorial"))
        shares = ours / totals["featherseg"], theirs / totals["tutorial"]
        ratio = f"{theirs / ours:.2f}" if ours and theirs else ""
        print(f"| {part} | {ours:.1f} | {shares[0]:.0%} | {theirs:.1f} | {shares[1]:.0%} | {ratio} |")
    ratio = totals["tutorial"] / totals["featherseg"]
    if rates:
        medians = {name: statistics.median(values) for name, values in rates.items()}
        ratio = medians["featherseg"] / medians["tutorial"]
        print(
            f"\nwhole epochs with two workers and validation, medians of {options.epochs}: featherseg "
            f"{medians['featherseg']:.2f} images/s, the tutorial's loop {medians['tutorial']:.2f}"
        )
    print(f"\nfeatherseg trains {ratio:.2f} times as many images a second (goal {GOAL})")
    if options.out:
        written = {"title": title, "ms": found, "images_per_second": rates, "ratio": ratio}
        options.out.write_text(json.dumps(written, indent=1), encoding="utf-8")
    return 0 if ratio >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
