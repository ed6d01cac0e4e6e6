"""Labels that are no mask files: shapes, run lengths, one picture per class. They become class ids when they are read.

Each reader of such labels is a file in :mod:`featherseg.data.readers` that registers two things under one name: with
:data:`featherseg.data.datasets.datasets` what opens a split, and with :data:`recognisers` what knows the layout when
it sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..core.errors import DataError
from ..core.images import read_image
from ..core.registry import Registry
from ..core.text_files import plain, shortened
from ..core.types import IGNORE_INDEX, ClassSet, ImageArray, MaskArray
from .datasets import Indexed


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
        missing: names of images by split that are labelled but not there.
    """

    kind: str
    classes: ClassSet
    splits: Mapping[str, tuple[Sample, ...]]
    notes: tuple[str, ...] = ()
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def dataset(self, split: str) -> AnnotatedDataset:
        """Return a split, or every sample as ``all``.

        Raises:
            DataError: there is no such split, it is empty, or images that it should hold are not there.
        """
        for name, images in self.missing.items():
            if images and split in (name, "all"):
                raise DataError(
                    f"{len(images)} images of {self.kind} split {name!r} are labelled but not there, such as "
                    f"{plain(images[0])}; restore them, or make a copy without: featherseg doctor FOLDER --fix NEW"
                )
        if split == "all" and split not in self.splits:
            every = tuple(sample for part in self.splits.values() for sample in part)
            return AnnotatedDataset(self.kind, split, self.classes, every, self.notes)
        if split not in self.splits:
            raise DataError(f"split {split!r} not found; splits there: {', '.join(self.splits)}")
        if not self.splits[split]:
            raise DataError(f"{self.kind} split {split!r} holds no samples; check the folder and the split's name")
        return AnnotatedDataset(self.kind, split, self.classes, self.splits[split], self.notes)


@dataclass(frozen=True)
class AnnotatedDataset(Indexed):
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
        instead_of: kinds that may see the same files, and know less of them.
    """

    seen: str
    labels: Callable[[], Labels]
    instead_of: tuple[str, ...] = ()


Recogniser = Callable[[Path], Evidence | None]
"""Looks at names and first bytes only, and answers within milliseconds; None where a folder is of another kind."""
recognisers: Registry[Recogniser] = Registry("recogniser", home="featherseg.data.readers")


def recognise(root: Path) -> dict[str, Evidence]:
    """Return what each kind of labels sees of itself in a folder; two kinds are a question, not a choice."""
    answers = ((name, recognisers.get(name)(root)) for name in recognisers)
    found = {name: evidence for name, evidence in answers if evidence is not None}
    known_better = {kind for evidence in found.values() for kind in evidence.instead_of}
    return {name: evidence for name, evidence in found.items() if name not in known_better}


BACKGROUND = ("background", "_background_", "__background__")
"""What people and programs call the class of pixels that show nothing of interest, in lower case."""


IGNORED = "__ignore__"
"""LabelMe's name of what is neither a class nor background, which Label Studio's labels may have too."""


def name_classes(
    names: Sequence[str], colors: Mapping[str, tuple[int, int, int]] | None = None, *, background: bool, where: object
) -> tuple[ClassSet, dict[str, int], int]:
    """Return classes of names, and the value of pixels that no label covers.

    Args:
        names: as the labels have them; one that occurs twice is one class.
        colors: of names, where they are known.
        background: whether pixels without a label are the class ``background``, which is then the first, or the one
            that is called so already; else they are ignored.
        where: the file, for messages.

    Returns:
        the classes, class ids by the labels' names, and the value of unlabelled pixels.

    Raises:
        DataError: there are none, or too many, or one that is no name.
    """
    plain = {name: " ".join(name.split()) for name in names}
    plain |= {name: "background" for name in names if name.strip("_") == "background"}
    if wrong := [name for name, clean in plain.items() if not clean or not clean.isprintable()]:
        raise DataError(f"{where} calls a class {shortened(repr(wrong[0]))}; give it a name")
    own = next((clean for clean in plain.values() if clean.lower() in BACKGROUND), None)
    ordered = list(dict.fromkeys(plain.values()))
    if background and own is None:
        ordered.insert(0, "background")
    if not 1 <= len(ordered) <= IGNORE_INDEX:
        raise DataError(f"{where} names {len(ordered)} classes; masks hold 1 to {IGNORE_INDEX}, background among them")
    given = {plain[name]: color for name, color in (colors or {}).items() if name in plain}
    shades = [given.get(name, (0, 0, 0)) for name in ordered]
    if len(set(shades)) < len(shades):  # not each its own
        shades = []
    classes = ClassSet(tuple(ordered), tuple(shades))
    ids = {name: ordered.index(clean) for name, clean in plain.items()}
    unlabelled = ordered.index(own or "background") if background else classes.ignore_index
    return classes, ids, unlabelled
