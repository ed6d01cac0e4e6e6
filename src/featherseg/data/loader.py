"""From datasets to batches on the way to the network."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..core.errors import FeathersegError
from .datasets import SegmentationDataset
from .mixing import MixedCrops
from .transforms import TrainTransform
from .unlabelled_crops import UnlabelledCrops, as_row, channels_first

Sample = dict[str, Tensor]
"""``{"image": uint8 (3, H, W) RGB, "mask": int64 (H, W)}``; a batch has one more axis in front.

With images without labels, what :class:`.unlabelled_crops.UnlabelledCrops` gives is beside them."""


Key = tuple[int, int] | tuple[int, int, int]
"""(epoch, index) of a sample, and which copy of it this is from 1 on, where an epoch has it more than once."""


class TrainSamples(Dataset[Sample]):
    """Transformed samples, asked for by :data:`Key`: a pure function of these and the seed.

    Args:
        dataset: what is transformed.
        transform: how.
        seed: of all samples.
        raw: give what :class:`.on_device.DeviceBatches` goes on from: ``{"image": uint8 (H, W, 3), "mask": uint8
            (H, W), "look": float32 (6,)}``, cut and mixed, its :class:`.transforms.Look` drawn but not made.
        unlabelled: what each sample gets of another image, without labels; the labelled ones are the same with it.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        transform: TrainTransform,
        seed: int,
        *,
        raw: bool = False,
        unlabelled: UnlabelledCrops | None = None,
    ) -> None:
        self.dataset = dataset
        self.transform = transform
        self.seed = seed
        self.raw = raw
        self.unlabelled = unlabelled
        self._crops = MixedCrops(dataset, transform)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Sample:
        index = key[1]
        rng = np.random.default_rng((self.seed, *key))
        image, mask = self._crops(index, rng)
        look = self.transform.draw_look(rng)
        others = {} if self.unlabelled is None else self.unlabelled(rng, raw=self.raw)
        if self.raw:
            return {"image": torch.from_numpy(image), "mask": torch.from_numpy(mask), "look": as_row(look), **others}
        image, mask = self.transform.apply(image, mask, look)
        return {"image": channels_first(image), "mask": torch.from_numpy(mask).long(), **others}


class EpochBatches(Sampler[list[Key]]):
    """Batches of :data:`Key`: each epoch a new order, each process its own share, all of one length.

    An epoch has every sample `crops` times, each time cut anew. Batch norm suffers from incomplete batches: what the
    last one lacks are further crops of the samples that the epoch began with.

    Args:
        length: samples in the dataset.
        batch_size: samples a batch and process.
        seed: of the order; the same in all processes.
        rank: number of this process.
        processes: how many there are.
        crops: how often an epoch has each sample, before the last batch is filled.
    """

    def __init__(
        self, length: int, batch_size: int, seed: int, rank: int = 0, processes: int = 1, *, crops: int = 1
    ) -> None:
        self.length = length
        self.crops = crops
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.processes = processes
        self.epoch = 0
        self.start = 0

    def begin(self, epoch: int, start: int = 0) -> None:
        """Set the epoch of the next iteration, and how many of its batches to skip (after a resume)."""
        self.epoch = epoch
        self.start = start

    def __len__(self) -> int:
        return math.ceil(self.length * self.crops / (self.batch_size * self.processes))

    def __iter__(self) -> Iterator[list[Key]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = np.concatenate([rng.permutation(self.length) for _ in range(self.crops)])
        order = np.resize(order, len(self) * self.batch_size * self.processes)
        for batch in range(self.start, len(self)):
            begin = (batch * self.processes + self.rank) * self.batch_size
            yield [
                self._key(int(order[place]), place // self.length) for place in range(begin, begin + self.batch_size)
            ]

    def _key(self, index: int, copy: int) -> Key:
        return (self.epoch, index, copy) if copy else (self.epoch, index)


def train_loader(
    samples: TrainSamples,
    batches: EpochBatches,
    workers: int,
    *,
    pin_memory: bool,
    worker_start: Callable[[int], None] | None = None,
) -> DataLoader[Sample]:
    """Return a loader of training batches; `workers` processes live as long as it does.

    On Linux they are forked: a forked worker delivers within a fraction of a second, while one that starts anew, as is
    Python's own choice from 3.14 on, imports torch for seconds. It is safe, since workers use neither the GPU nor
    anybody's threads: OpenCV has none here, and torch sets its own to one. `worker_start` is called in each with its
    number.
    """
    return DataLoader(
        samples,
        batch_sampler=batches,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
        worker_init_fn=worker_start,
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        # A loader draws a seed when its workers start, at the first epoch of a sitting: from the global generator it
        # would shift the numbers that dropout draws after a resume.
        generator=torch.Generator(),
    )


def one_line_errors(loader: Iterable[Sample]) -> Iterator[Sample]:
    """Yield a loader's batches; a user's error in a worker process arrives without the traceback torch adds."""
    try:
        yield from loader
    except FeathersegError as error:
        last = str(error).strip().splitlines()[-1]
        raise type(error)(last.removeprefix(f"{type(error).__module__}.{type(error).__name__}: ")) from None
