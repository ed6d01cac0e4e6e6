"""What a dataset is, and the registry of the kinds there are. No torch: evaluation needs this on edge boxes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, overload

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, DataError
from ..core.images import read_image
from ..core.registry import Registry
from ..core.text_files import shortened
from ..core.types import ClassSet, ImageArray, MaskArray
from .labels import LabelTable

ArraySample = dict[str, NDArray[Any]]
"""``{"image": uint8 (3, H, W) RGB, "mask": int64 (H, W)}``, which torch's DataLoader makes tensors of."""


class SegmentationDataset(Protocol):
    """A split of labelled images. All kinds look like this to the rest of featherseg."""

    @property
    def name(self) -> str:
        """Kind of dataset, as in the registry."""

    @property
    def split(self) -> str:
        """``"train"``, ``"val"`` or another name the dataset knows."""

    @property
    def classes(self) -> ClassSet:
        """Names and colours of the class ids in the masks."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def stem(self, index: int) -> str:
        """Return a name of sample `index`, usable as a file name."""

    def read(self, index: int) -> tuple[ImageArray, MaskArray]:
        """Return sample `index`: RGB uint8 (H, W, 3) and class ids uint8 (H, W)."""


class IndexedDataset(SegmentationDataset, Protocol):
    """A dataset of the kinds here, whose samples are had by index too."""

    def __getitem__(self, index: int) -> ArraySample:
        """Return a sample; see :class:`Indexed`."""

    def resized(self, size: tuple[int, int]) -> Samples:
        """Return the samples at one size."""


class Indexed:
    """Base of the kinds here: samples by index, as loops and torch's DataLoader ask for them."""

    def __getitem__(self: SegmentationDataset, index: int) -> ArraySample:
        """Return a sample; negative indices count from the end.

        Raises:
            IndexError: there is no such sample.
            DataError: it cannot be read.
        """
        return sample_of(self, index)

    def resized(self: SegmentationDataset, size: tuple[int, int]) -> Samples:
        """Return the samples at one (height, width), so that pictures of several sizes can be batched."""
        return Samples(self, size)


class Samples(Sequence[ArraySample]):
    """The samples of a dataset at one size, so that they can be batched.

    Scores are of masks at their own size: evaluate the dataset itself.

    Args:
        dataset: is read, each time anew.
        size: (height, width) of images (linear; by area where they become smaller) and masks (nearest).

    Raises:
        ConfigError: the size is not of pixels.
    """

    def __init__(self, dataset: SegmentationDataset, size: tuple[int, int]) -> None:
        if len(size) != 2 or min(size) < 1:
            raise ConfigError(f"size is {size}; give (height, width) of at least 1 pixel each")
        self.dataset, self.size = dataset, size

    def __len__(self) -> int:
        return len(self.dataset)

    @overload
    def __getitem__(self, index: int) -> ArraySample: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[ArraySample]: ...

    def __getitem__(self, index: int | slice) -> ArraySample | Sequence[ArraySample]:
        """Return a sample, or a list of those that a slice means."""
        if isinstance(index, slice):
            return [sample_of(self.dataset, place, self.size) for place in range(len(self))[index]]
        return sample_of(self.dataset, index, self.size)


def sample_of(dataset: SegmentationDataset, index: int, size: tuple[int, int] | None = None) -> ArraySample:
    """Return a sample of a dataset as networks take it; see :class:`Indexed`."""
    place, count = operator.index(index), len(dataset)
    if not -count <= place < count:
        raise IndexError(f"sample {place} of {count}")
    image, mask = dataset.read(place % count)
    if size is not None and mask.shape != tuple(size):
        shrinks = size[0] * size[1] < mask.size
        image = np.asarray(
            cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.uint8
        )
        mask = np.asarray(cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
    return {"image": np.ascontiguousarray(image.transpose(2, 0, 1)), "mask": mask.astype(np.int64)}


@dataclass(frozen=True)
class FileDataset(Indexed):
    """A dataset of image files and mask files.

    Args:
        pairs: (image, mask) paths.
        table: meaning of the mask files' values.
        notes: what was inferred rather than stated, a sentence each, to be shown to the user.
        named_values: mask values that have a name but are no class, by that name; a map of classes may name them.
    """

    name: str
    split: str
    classes: ClassSet
    pairs: tuple[tuple[Path, Path], ...]
    table: LabelTable
    notes: tuple[str, ...] = ()
    named_values: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.pairs:
            raise DataError(f"{self.name} split {self.split!r} holds no samples; check the folder and the split's name")

    def __len__(self) -> int:
        return len(self.pairs)

    def stem(self, index: int) -> str:
        """Return the image file's name without suffix."""
        return self.pairs[index][0].stem

    def read(self, index: int) -> tuple[ImageArray, MaskArray]:
        """Return sample `index`.

        Raises:
            DataError: a file is missing or unreadable, a mask value is no class, or the sizes differ.
        """
        image_path, mask_path = self.pairs[index]
        image, mask = read_image(image_path), self.table.read(mask_path)
        if image.shape[:2] != mask.shape:
            theirs, ours = "x".join(map(str, mask.shape)), "x".join(map(str, image.shape[:2]))
            raise DataError(
                f"mask {mask_path} is {theirs} but image {image_path} is {ours} (height x width); make them one size"
            )
        return image, mask


DatasetBuilder = Callable[..., SegmentationDataset]
datasets: Registry[DatasetBuilder] = Registry("dataset", home="featherseg.data.readers")


def register_dataset(name: str) -> Callable[[DatasetBuilder], DatasetBuilder]:
    """Return a decorator that files a builder ``(root, split, **options) -> SegmentationDataset``.

    Args:
        name: what recipes and :func:`create_dataset` call it.

    Raises:
        ConfigError: the name is taken.

    Example:
        >>> @featherseg.register_dataset("my_kind")
        ... def my_kind(root, split="train"):
        ...     return featherseg.create_dataset("folder", root, split)
        >>> len(featherseg.create_dataset("my_kind", "photos", "all"))
        10
    """
    return datasets.register(name)


def create_dataset(name: str, root: str | Path = "", split: str = "train", **options: Any) -> IndexedDataset:
    """Open a split of a dataset.

    Its samples are arrays by index, ``{"image": uint8 (3, H, W), "mask": int64 (H, W)}``, as torch's DataLoader takes
    them; ``dataset.resized((360, 480))`` gives all of them one size, so that pictures of several can be batched.

    Args:
        name: kind, one of :func:`list_datasets`.
        root: folder of the data; a leading ``~`` is expanded. The synthetic set takes none.
        split: ``"train"``, ``"val"``, …
        options: the kind's own.

    Raises:
        ConfigError: unknown kind or option.
        DataError: the folder is missing, not laid out as the kind expects, or the split is empty.

    Example:
        >>> dataset = featherseg.create_dataset("folder", "photos", "val")
        >>> image, mask = dataset.read(0)
        >>> image.shape, mask.shape
        ((64, 96, 3), (64, 96))
        >>> batch = next(iter(torch.utils.data.DataLoader(dataset, batch_size=2)))
        >>> batch["image"].shape, batch["mask"].shape
        (torch.Size([2, 3, 64, 96]), torch.Size([2, 64, 96]))
    """
    dataset: IndexedDataset = datasets.create(name, Path(root).expanduser(), split, **options)
    return dataset


def list_datasets(pattern: str = "*") -> list[str]:
    """Return the names of the dataset kinds that match a shell-style `pattern`.

    Example:
        >>> featherseg.list_datasets("c*v*d")
        ['camvid']
    """
    return datasets.names(pattern)


def require_folder(folder: Path, what: str) -> Path:
    """Return `folder` if it is one, else raise a :class:`DataError` that says what was looked for."""
    if not folder.is_dir():
        here = "" if folder.is_absolute() else f" in {Path.cwd()}"
        raise DataError(f"{what} not found: {folder} is no folder{here}; check data.root")
    return folder


def require_pairs(pairs: Sequence[tuple[Path, Path]]) -> tuple[tuple[Path, Path], ...]:
    """Return `pairs` if every file of them exists, else raise for the first that does not."""
    for image, mask in pairs:
        try:
            if not image.is_file():
                raise DataError(f"image {image} is listed but does not exist; restore it or remove it from the split")
            if not mask.is_file():
                raise DataError(f"image {image} has no mask: {mask} does not exist; add the mask or remove the image")
        except OSError as error:  # a name too long, a folder without rights
            raise DataError(
                f"image {shortened(str(image), 300)} cannot be read ({error.strerror}); correct it"
            ) from error
    return tuple(pairs)
