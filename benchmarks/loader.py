"""Rate of training samples: featherseg's loader, torchvision's transforms in torch's loader, and what training takes.

    python benchmarks/loader.py [--data FOLDER --kind camvid --crop 360x480] [--seconds 3] [--json]

Without --data, street scenes are drawn into a temporary folder: 360x480 whole, and 1024x2048 with crops of 512x1024.
All pipelines give crops of one size with one set of changes: scale 0.5-2, crop, flip, jitter 0.3 (hue 0.03), blur for
a tenth. torchvision's are composed as its own segmentation references do it, with PIL images or with tensors, and
decode each file each time; featherseg's decodes once and cuts before it resizes. Its batches are uint8, to be
normalised on the device; torchvision's are normalised float.

Every figure is the median of rounds in which the pipelines alternate, each with workers that start anew: the seconds
to the first batch, then images/s once all workers are busy, and the CPU time of all processes an image, which other
work on the machine hardly changes (on Linux alone: elsewhere a worker's clock cannot be read). The last columns divide
a pipeline's images/s by those of a network's training step: below 1 the network waits.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from featherseg.cli.tables import print_json, print_table, print_text
from featherseg.core.config import AugmentConfig
from featherseg.core.machine import available_threads, cpu_name
from featherseg.core.types import IMAGENET_MEAN, IMAGENET_STD
from featherseg.data.cache import CachedDataset
from featherseg.data.datasets import FileDataset, create_dataset
from featherseg.data.loader import EpochBatches, Sample, TrainSamples, train_loader
from featherseg.data.on_device import DeviceBatches
from featherseg.data.readers.synthetic import write_street
from featherseg.data.transforms import TrainTransform
from featherseg.models.factory import create_model
from featherseg.training.devices import fast_bf16
from featherseg.training.losses import CrossEntropyLoss
from featherseg.training.supervised import Supervised

NETWORKS = ("fastsegnet", "jetnet")
STREETS = (((360, 480), (360, 480), 24), ((1024, 2048), (512, 1024), 6))
"""Size of the drawn scenes, of the crops, and how many there are."""

Size = tuple[int, int]


class Figures(NamedTuple):
    """What one run of a pipeline, or of a network's training step, takes."""

    first: float  # seconds to the first batch
    rate: float  # images/s
    cpu: float  # ms of CPU time an image, of all processes


class Endless(EpochBatches):
    """Epoch after epoch, so that a run may last as long as it needs."""

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for epoch in count():
            self.begin(epoch)
            yield from super().__iter__()


class TorchvisionSamples(Dataset[Any]):
    """Files decoded by PIL and changed by torchvision's v2 transforms, on tensors or on PIL images."""

    def __init__(self, dataset: FileDataset, crop: Size, *, tensors: bool) -> None:
        self.pairs = dataset.pairs
        height = dataset.read(0)[1].shape[0]
        fill = {tv_tensors.Mask: 255, "others": 0}
        self.transform = v2.Compose(
            [
                *([v2.ToImage()] if tensors else []),
                v2.RandomResize(height // 2, height * 2, antialias=True),
                v2.RandomHorizontalFlip(),
                v2.RandomCrop(crop, pad_if_needed=True, fill=fill),
                v2.ColorJitter(0.3, 0.3, 0.3, 0.03),
                v2.RandomApply([v2.GaussianBlur(7, (0.3, 1.5))], p=0.1),
                *([] if tensors else [v2.ToImage()]),
                v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}, scale=True),
                v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        image_path, mask_path = self.pairs[key[1]]
        mask = tv_tensors.Mask(v2.functional.pil_to_tensor(Image.open(mask_path)))
        image, mask = self.transform(Image.open(image_path).convert("RGB"), mask)
        return image.as_subclass(Tensor), mask.as_subclass(Tensor)[0]


Loaders = dict[str, Callable[[int], Iterable[Any]]]
"""By name, what makes a pipeline with so many workers."""


def pipelines(dataset: FileDataset, crop: Size, batch_size: int, device: torch.device) -> Loaders:
    """Return the pipelines over `dataset`."""
    config = AugmentConfig(crop=crop, scale=(0.5, 2.0), flip=0.5, jitter=0.3, blur=0.1)
    cached, transform = CachedDataset(dataset), TrainTransform(config)
    batches, pin_memory = Endless(len(dataset), batch_size, seed=0), device.type == "cuda"

    def ours(workers: int, raw: bool = False) -> Iterable[Sample]:
        loader = train_loader(TrainSamples(cached, transform, 0, raw=raw), batches, workers, pin_memory=pin_memory)
        return DeviceBatches(loader, config, device) if raw else loader

    def theirs(workers: int, tensors: bool) -> Iterable[Any]:
        samples = TorchvisionSamples(dataset, crop, tensors=tensors)
        return DataLoader(samples, batch_sampler=batches, num_workers=workers, pin_memory=pin_memory)

    found: Loaders = {"featherseg": ours}
    if device.type != "cpu":
        found[f"featherseg, looks on {device.type}"] = partial(ours, raw=True)
    return found | {
        "torchvision v2, tensors": partial(theirs, tensors=True),
        "torchvision v2, PIL": partial(theirs, tensors=False),
    }


def cpu_seconds() -> float:
    """Return the CPU time of this process and its workers."""
    # The id of a process's CPU clock, as clock_getcpuclockid(3) makes it on Linux.
    clocks = [~process.pid << 3 | 2 for process in multiprocessing.active_children() if process.pid]
    return time.process_time() + sum(map(time.clock_gettime, clocks))


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def time_loader(loader: Iterable[Any], batch_size: int, workers: int, seconds: float, device: torch.device) -> Figures:
    begin = time.perf_counter()
    batches = iter(loader)
    next(batches)
    first = time.perf_counter() - begin
    for _ in range(2 * workers):  # what workers made ahead while their pipeline filled
        next(batches)
    synchronize(device)
    images, begin, cpu = 0, time.perf_counter(), cpu_seconds()
    while images < 2 * batch_size or time.perf_counter() - begin < seconds:
        next(batches)
        images += batch_size
    synchronize(device)
    return Figures(first, images / (time.perf_counter() - begin), 1000 * (cpu_seconds() - cpu) / images)


def time_step(network: str, crop: Size, batch_size: int, seconds: float, device: torch.device) -> Figures:
    """Return the figures of a training step as featherseg.training.trainer makes it, its batch being there already."""
    torch.manual_seed(0)
    model = create_model(network, 19).to(device).to(memory_format=torch.channels_last)
    objective = Supervised(model, CrossEntropyLoss(), CrossEntropyLoss()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    image = torch.randint(0, 256, (batch_size, 3, *crop), dtype=torch.uint8, device=device)
    batch = {"image": image.to(memory_format=torch.channels_last)}
    batch["mask"] = torch.randint(0, 19, (batch_size, *crop), device=device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=fast_bf16(device.type)):
            loss = objective(batch)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()
        synchronize(device)

    begin = time.perf_counter()
    step()
    first = time.perf_counter() - begin
    times: list[float] = []
    cpu = cpu_seconds()
    while not times or sum(times) < seconds:
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    spent = 1000 * (cpu_seconds() - cpu) / (batch_size * len(times))
    return Figures(first, batch_size / statistics.median(times), spent)


def median(runs: list[Figures]) -> Figures:
    return Figures(*map(statistics.median, zip(*runs, strict=True)))


def measure(dataset: FileDataset, crop: Size, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of all pipelines over `dataset`, by worker count, and of all networks."""
    device, size = options.device, options.batch_size
    makers = pipelines(dataset, crop, size, device)
    loaders: dict[str, dict[int, list[Figures]]] = {name: {w: [] for w in options.workers} for name in makers}
    steps: dict[str, list[Figures]] = {name: [] for name in NETWORKS}
    for _ in range(options.rounds):
        for workers in options.workers:
            for name, make in makers.items():
                loaders[name][workers].append(time_loader(make(workers), size, workers, options.seconds, device))
        for name in NETWORKS:
            steps[name].append(time_step(name, crop, size, options.seconds, device))
    return {
        "data": f"{dataset.name} {dataset.split}, {len(dataset)} images",
        "image": "x".join(map(str, dataset.read(0)[1].shape)),
        "crop": "x".join(map(str, crop)),
        "loaders": {
            name: {workers: median(runs)._asdict() for workers, runs in rows.items()} for name, rows in loaders.items()
        },
        "steps": {name: median(runs)._asdict() for name, runs in steps.items()},
    }


def show(case: dict[str, Any]) -> None:
    """Print a case as a table."""
    steps = case["steps"]
    rows = [
        [name, str(workers), *texts(row), *(f"{row['rate'] / step['rate']:.1f}" for step in steps.values())]
        for name, by_workers in case["loaders"].items()
        for workers, row in by_workers.items()
    ]
    rows += [[f"training step of {name}", "", *texts(step), *("" for _ in steps)] for name, step in steps.items()]
    columns = ["", "workers", "images/s", "CPU ms/image", "first batch, s", *(f"/ {name}" for name in steps)]
    print_table(f"{case['data']} of {case['image']}, crops of {case['crop']}", columns, rows)


def texts(row: dict[str, float]) -> list[str]:
    return [f"{row['rate']:.1f}", f"{row['cpu']:.2f}", f"{row['first']:.2f}"]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of a dataset of files; drawn streets where left out")
    parser.add_argument("--kind", default="folder", help="of the dataset: folder, camvid, voc, cityscapes")
    parser.add_argument("--split", default="train")
    parser.add_argument("--crop", default="360x480", help="HxW, of --data")
    parser.add_argument("--limit", type=int, default=64, help="take so many images of --data at most")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="torch's in this process")
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def cases(options: argparse.Namespace, folder: Path) -> Iterator[tuple[FileDataset, Size]]:
    """Yield datasets and the size of their crops."""
    if options.data:
        height, width = map(int, options.crop.split("x"))
        dataset = create_dataset(options.kind, options.data, options.split)
        if not isinstance(dataset, FileDataset):
            raise SystemExit(f"--kind {options.kind} is not made of files; choose folder, camvid, voc or cityscapes")
        pairs = dataset.pairs[: options.limit]
        yield FileDataset(dataset.name, dataset.split, dataset.classes, pairs, dataset.table), (height, width)
        return
    for size, crop, number in STREETS:
        streets = create_dataset("folder", write_street(folder / f"{size[0]}", number, 1, size), "train")
        assert isinstance(streets, FileDataset)
        yield streets, crop


def main() -> None:
    options = parse()
    warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than cores are asked for on purpose
    torch.set_num_threads(options.threads)
    device = options.device
    where = cpu_name() if device.type == "cpu" else torch.cuda.get_device_name(device)
    precision = "bf16" if fast_bf16(device.type) else "fp32"
    facts = (
        f"{date.today()}, {where}, {available_threads()} cores of {cpu_name()}, {options.threads} thread(s), "
        f"batches of {options.batch_size}, steps in {precision}, torch {torch.__version__}, "
        f"torchvision {torchvision.__version__}, OpenCV {cv2.__version__}, Python {platform.python_version()}; "
        f"medians of {options.rounds} alternating runs of {options.seconds:g} s"
    )
    with tempfile.TemporaryDirectory() as folder:
        found = []
        if not options.json:
            print_text(facts)
        for dataset, crop in cases(options, Path(folder)):
            found.append(measure(dataset, crop, options))
            if not options.json:
                show(found[-1])
        if options.json:
            print_json({"machine": facts, "cases": found})


if __name__ == "__main__":
    main()
