"""Labels that are no mask files: shapes, run lengths, one picture per class. They become class ids when they are read.

Each reader of such labels is a file in :mod:`featherseg.data.readers` that registers two things under one name: with
:data:`featherseg.data.datasets.datasets` what opens a split, and with :data:`recognisers` what knows the layout when
it sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..core.errors import DataError
from ..core.images import read_image
from ..core.registry import Registry
from ..core.types import ClassSet, ImageArray, MaskArray


class Annotation(Protocol):
    """The labels of one image."""

    @property
    def file(self) -> Path:
        """Where they stand, for messages."""

    def read(self) -> MaskArray:
        """Return class ids, uint8 (H, W), of the image as it is stored or upright, as the reader's kind has it.

        Raises:
            DataError: they cannot be read, or do not say which class a pixel is.
        """


@dataclass(frozen=True)
class Sample:
    """An image and what is labelled in it."""

    image: Path
    annotation: Annotation


@dataclass(frozen=True)
class Labels:
    """All that a folder of foreign labels holds.

    Args:
        kind: as in the registry of datasets.
        classes: names and colours.
        splits: samples by split, ``train`` and ``val`` among them, drawn where the labels name none.
        notes: what was decided, a sentence each, to be shown to the user: what lies on top where labels overlap, what
            unlabelled pixels are, what is ignored.
    """

    kind: str
    classes: ClassSet
    splits: Mapping[str, tuple[Sample, ...]]
    notes: tuple[str, ...] = ()

    def dataset(self, split: str) -> AnnotatedDataset:
        """Return a split.

        Raises:
            DataError: there is no such split, or it is empty.
        """
        if split not in self.splits:
            raise DataError(f"split {split!r} not found; splits there: {', '.join(self.splits)}")
        if not self.splits[split]:
            raise DataError(f"{self.kind} split {split!r} holds no samples; check the folder and the split's name")
        return AnnotatedDataset(self.kind, split, self.classes, self.splits[split], self.notes)


@dataclass(frozen=True)
class AnnotatedDataset:
    """A split of images with labels that are no mask files; see :class:`Labels` for the arguments."""

    name: str
    split: str
    classes: ClassSet
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def stem(self, index: int) -> str:
        """Return the image file's name without suffix."""
        return self.samples[index].image.stem

    def read(self, index: int) -> tuple[ImageArray, MaskArray]:
        """Return sample `index`: RGB uint8 (H, W, 3) and class ids uint8 (H, W).

        Raises:
            DataError: a file is missing or unreadable, or the sizes differ.
        """
        sample = self.samples[index]
        image, mask = read_image(sample.image), sample.annotation.read()
        if image.shape[:2] != mask.shape:
            theirs, ours = "x".join(map(str, mask.shape)), "x".join(map(str, image.shape[:2]))
            raise DataError(
                f"the labels in {sample.annotation.file} are of a picture of {theirs}, but image {sample.image} is "
                f"{ours} (height x width); label the image as it is"
            )
        return image, mask


@dataclass(frozen=True)
class Evidence:
    """That a folder holds labels of a kind.

    Args:
        seen: what was recognised, for people: ``"annotations.json is a COCO file"``.
        labels: reads them all, when they are wanted; raises a :class:`DataError` where they are damaged.
    """

    seen: str
    labels: Callable[[], Labels]


Recogniser = Callable[[Path], Evidence | None]
"""Looks at names and first bytes only, and answers within milliseconds; None where a folder is of another kind."""
recognisers: Registry[Recogniser] = Registry("recogniser", home="featherseg.data.readers")


def recognise(root: Path) -> dict[str, Evidence]:
    """Return what each kind of labels sees of itself in a folder; two kinds are a question, not a choice."""
    found = ((name, recognisers.get(name)(root)) for name in recognisers)
    return {name: evidence for name, evidence in found if evidence is not None}
