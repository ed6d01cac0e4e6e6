"""Decode each file once: samples as raw bytes in one memory-mapped file that all worker processes share."""

from __future__ import annotations

import os
import sys
import tempfile
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ..core.progress import OnProgress, no_progress
from ..core.types import ImageArray, MaskArray
from .datasets import Indexed, SegmentationDataset

MAX_CACHE_BYTES = 16 << 30
"""Largest cache that is made; a bigger dataset is decoded file by file as before."""


class CachedDataset(Indexed):
    """A dataset whose samples lie decoded in a temporary file, gone when the object is.

    Pages of the file are shared by all processes and given back under memory pressure, unlike copies in
    each worker's own memory.

    Args:
        dataset: what to decode; its order, names and classes stay.
        progress: called with the numbers of samples decoded and of all.
    """

    def __init__(self, dataset: SegmentationDataset, progress: OnProgress = no_progress) -> None:
        self.name, self.split, self.classes = dataset.name, dataset.split, dataset.classes
        self._stems = [dataset.stem(i) for i in range(len(dataset))]
        self._shapes: list[tuple[int, int]] = []
        self._offsets: list[int] = []
        self._mapped: list[NDArray[np.uint8]] = []
        file = tempfile.NamedTemporaryFile(prefix="featherseg-cache-", delete=False)  # noqa: SIM115 (open as long as self)
        self._path = Path(file.name)
        if sys.platform == "linux":
            # Without a name, the file goes with this process even where that is killed; others reach it as ours.
            self._path.unlink()
            self._path = Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")
        self._finalizer = weakref.finalize(self, _remove, file, self._path, self._mapped, os.getpid())
        with ThreadPoolExecutor(4) as pool:  # decoders release the interpreter lock
            for done, (image, mask) in enumerate(pool.map(dataset.read, range(len(dataset))), start=1):
                self._offsets.append(file.tell())
                self._shapes.append((mask.shape[0], mask.shape[1]))
                file.write(np.ascontiguousarray(image).data)
                file.write(np.ascontiguousarray(mask).data)
                progress(done, len(dataset))
        file.flush()

    def __getstate__(self) -> dict[str, object]:
        """Leave the finalizer behind: only the process that made the file removes it. Each process maps it anew."""
        return {key: value for key, value in self.__dict__.items() if key != "_finalizer"} | {"_mapped": []}

    def __len__(self) -> int:
        return len(self._stems)

    @property
    def nbytes(self) -> int:
        """Size of the file."""
        return self._path.stat().st_size

    def stem(self, index: int) -> str:
        """Return the name of sample `index`."""
        return self._stems[index]

    def read(self, index: int) -> tuple[ImageArray, MaskArray]:
        """Return sample `index` as read-only views of the file: RGB (H, W, 3) and ids (H, W), uint8."""
        height, width = self._shapes[index]
        pixels, offset = height * width, self._offsets[index]
        if not self._mapped:  # once a process: mapping each sample anew costs as much as resizing it
            self._mapped.append(np.asarray(np.memmap(self._path, np.uint8, mode="r")))
        data = self._mapped[0][offset : offset + 4 * pixels]
        return data[: 3 * pixels].reshape(height, width, 3), data[3 * pixels :].reshape(height, width)


def _remove(file: IO[bytes], path: Path, mapped: list[NDArray[np.uint8]], owner: int) -> None:
    """Remove the file, but not from a forked worker, whose copy of the object may die while its parent lives."""
    mapped.clear()  # Windows removes no file that is mapped
    file.close()
    if os.getpid() == owner and sys.platform != "linux":
        path.unlink(missing_ok=True)


def fits_cache(dataset: SegmentationDataset) -> bool:
    """Return whether the decoded dataset would stay under ``MAX_CACHE_BYTES``, judged by its first sample."""
    image, mask = dataset.read(0)
    return (image.nbytes + mask.nbytes) * len(dataset) <= MAX_CACHE_BYTES
