"""Training images without labels: a folder of pictures, or what of a split is left when some of it counts as labelled.

Masks of unlabelled images are never opened, so they may be missing, or wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from ..core.config import REST, DataConfig
from ..core.errors import DataError
from ..core.images import list_images, read_image
from ..core.order import natural
from ..core.text_files import read_text, shortened
from ..core.types import ClassSet, ImageArray, MaskArray
from .annotations import AnnotatedDataset
from .class_maps import open_mapped
from .datasets import FileDataset, Indexed, SegmentationDataset
from .taken import taken

MAX_LIST_BYTES = 64 << 20
"""Largest list of images; a line of a million has about 40."""


@dataclass(frozen=True)
class Unlabelled(Indexed):
    """Images without labels: all mask values are 0, so that padding, which is ignored, can be told from the image.

    Args:
        classes: of the labelled ones beside them.
        images: a name and what reads it, each.
        notes: to be shown to the user.
    """

    classes: ClassSet
    images: tuple[tuple[str, Callable[[], ImageArray]], ...]
    notes: tuple[str, ...] = ()
    name: str = "unlabelled"
    split: str = "unlabelled"

    def __len__(self) -> int:
        return len(self.images)

    def stem(self, index: int) -> str:
        """Return the name of image `index`."""
        return self.images[index][0]

    def read(self, index: int) -> tuple[ImageArray, MaskArray]:
        """Return image `index`, RGB uint8 (H, W, 3), and zeros, uint8 (H, W)."""
        image = self.images[index][1]()
        return image, np.zeros(image.shape[:2], np.uint8)


def labelled_images(data: DataConfig, seed: int) -> tuple[SegmentationDataset, SegmentationDataset | None]:
    """Open the training split: the images that count as labelled, and the others of it, None where there are none.

    Args:
        data: the section; ``labelled`` says which count.
        seed: of the run, by which a number of images is drawn. A larger number holds the smaller one's, and the order
            of the files does not matter.

    Raises:
        ConfigError: as for any dataset.
        DataError: likewise; or a listed image is not there, or there are fewer than wanted.
    """
    whole = open_mapped(data.name, data.root, data.train_split, data.classes, **data.options)
    if data.labelled == "":
        return whole, None
    names, total = [whole.stem(i) for i in range(len(whole))], len(whole)
    if (wanted := data.labelled_number(total)) is None:
        places, how = _listed_places(Path(str(data.labelled)).expanduser(), names), f"{data.labelled} lists"
    else:
        if wanted > total:
            raise DataError(
                f"data.labelled is {data.labelled}, but split {data.train_split!r} has {total} images; give fewer"
            )
        places, how = sorted(_hash_order(names, seed)[:wanted]), "were drawn"
    note = f"{len(places)} of {total} images count as labelled, as {how}"
    chosen = set(places)
    rest = [place for place in range(total) if place not in chosen]
    notes = (*getattr(whole, "notes", ()), note)
    ours = taken([whole], [(whole, place) for place in places], whole.split, notes)
    return ours, taken([whole], [(whole, place) for place in rest], whole.split, ()) if rest else None


def unlabelled_images(
    source: str, labelled: SegmentationDataset, val: SegmentationDataset, rest: SegmentationDataset | None
) -> Unlabelled:
    """Return the images that are trained on without labels.

    Args:
        source: a folder, with those below it; or ``"rest"``.
        labelled: what is trained on with labels. Neither its images nor those of `val` are among the unlabelled ones,
            whether the very files or copies of the same name and size.
        val: the validation split.
        rest: of the training split.

    Raises:
        DataError: there is no such folder, or no image is left.
    """
    if source == REST:
        if rest is None:
            raise DataError(
                'data.unlabelled is "rest", but every training image counts as labelled; set data.labelled, such as 1/8'
            )
        return without_masks(rest)
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise DataError(f"data.unlabelled is {shortened(source)}, no folder; give one of images, or rest")
    found = _pictures_below(folder)
    taken_ones = {key for dataset in (labelled, val) for path in image_paths(dataset) for key in _identities(path)}
    free = [path for path in found if not taken_ones.intersection(_identities(path))]
    if not free:
        what = f"its {len(found)} images are all labelled or validated on" if found else "it holds no images"
        raise DataError(f"data.unlabelled is {shortened(source)}, but {what}; give a folder of others")
    left = (
        f"; {len(found) - len(free)} that are labelled or validated on are left out" if len(free) < len(found) else ""
    )
    return Unlabelled(
        labelled.classes,
        tuple((path.stem, _reader(path)) for path in free),
        (f"{len(free)} images of {folder} are trained on without labels{left}",),
    )


def without_masks(dataset: SegmentationDataset) -> Unlabelled:
    """Return the images of a dataset; of files, nothing else is opened."""
    note = f"{len(dataset)} other images of it are trained on without labels"
    if paths := image_paths(dataset):
        return Unlabelled(dataset.classes, tuple((path.stem, _reader(path)) for path in paths), (note,))

    def reader(place: int) -> Callable[[], ImageArray]:
        return lambda: dataset.read(place)[0]

    return Unlabelled(dataset.classes, tuple((dataset.stem(i), reader(i)) for i in range(len(dataset))), (note,))


def image_paths(dataset: SegmentationDataset) -> list[Path]:
    """Return the image files of a dataset; none where it is made of something else."""
    if isinstance(dataset, FileDataset):
        return [image for image, _ in dataset.pairs]
    if isinstance(dataset, AnnotatedDataset):
        return [sample.image for sample in dataset.samples]
    return []


def _reader(path: Path) -> Callable[[], ImageArray]:
    return lambda: read_image(path)


def _pictures_below(folder: Path) -> list[Path]:
    """Return the pictures in a folder and those in it, in natural order; hidden ones are left out."""
    homes = [folder, *(p for p in folder.rglob("*") if p.is_dir() and not p.relative_to(folder).as_posix().count("/."))]
    return natural(path for home in homes if not home.name.startswith(".") for path in list_images(home))


def _identities(path: Path) -> tuple[object, ...]:
    """Return what tells an image file: where it is, and its name and size, which a copy of it has too."""
    try:
        return path.resolve(), (path.name, path.stat().st_size)
    except OSError:  # whoever reads it says so
        return (path,)


def _hash_order(names: Sequence[str], seed: int) -> list[int]:
    """Return places in the order of a hash of seed and name."""

    def rank(place: int) -> str:
        return sha256(f"{seed}:{names[place]}".encode("utf-8", "surrogateescape")).hexdigest()

    return sorted(range(len(names)), key=rank)


def _listed_places(file: Path, names: Sequence[str]) -> list[int]:
    """Return the places of the images that a text file lists by name, with or without folder and suffix.

    Raises:
        DataError: it cannot be read, lists none, or one that is not there.
    """
    try:
        lines = [line.strip() for line in read_text(file, MAX_LIST_BYTES).splitlines()]
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise DataError(
            f"data.labelled is {shortened(str(file))}, which cannot be read ({why}); give a share such as 1/8, a "
            "number of images, or a text file with a name on each line"
        ) from error
    known = {name: place for place, name in enumerate(names)}
    places: set[int] = set()
    for line in filter(None, lines):
        place = known.get(line, known.get(Path(line).name, known.get(Path(line).stem)))
        if place is None:
            raise DataError(f"{file} lists {shortened(repr(line))}, which is no image of the training split; remove it")
        places.add(place)
    if not places:
        raise DataError(f"{file} lists no images; write a name on each line")
    return sorted(places)
