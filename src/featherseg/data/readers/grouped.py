"""Images and masks in a folder for each town, patient or recording: what belongs together stays together."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from ...core.errors import DataError
from ...core.images import list_images
from ..annotations import AnnotatedDataset, Evidence, Labels, Sample, recognisers
from ..datasets import FileDataset, datasets
from ..listing import label_contents, split_word
from ..mask_annotations import IndexMask
from ..splits import draw_split
from .coco import check_share
from .folder import folder


@datasets.register("grouped")
def grouped(
    root: Path,
    split: str = "train",
    *,
    images: str = "images",
    masks: str = "masks",
    classes: str | None = None,
    val_share: float = 0.2,
    seed: int = 0,
) -> AnnotatedDataset:
    """Open a folder of images and masks in subfolders that are no splits: ``images/TOWN/x.png``, ``masks/TOWN/x.png``.

    Masks and classes are read as those of the kind ``folder``. Whole subfolders are drawn for ``val``, in the order of
    a hash of seed and name, until they hold its share of the images: frames of one recording, or slices of one patient,
    are so alike that a network scores well on those that it has as good as seen.

    Overlaps: the masks have none. Background, and ignored: what the class file says, else as the kind ``folder`` infers
    it.

    Args:
        root: the folder.
        split: ``train``, ``val`` or ``all``.
        images: images' subfolder.
        masks: masks' subfolder.
        classes: class file, as of the kind ``folder``.
        val_share: share of the images that ``val`` has at least, over 0 and under 1.
        seed: of the draw.
    """
    return grouped_labels(root, images, masks, classes, val_share, seed).dataset(split)


@recognisers.register("grouped")
def recognise_grouped(root: Path) -> Evidence | None:
    """Know groups by subfolders of images and of masks that are called alike, and not as splits are."""
    try:
        groups = _groups(root / "images")
        alike = groups == _groups(root / "masks") and not list_images(root / "images")
        if len(groups) < 2 or not alike or any(split_word(name) for name in groups):
            return None
        if not any(list_images(root / "images" / name) for name in groups):
            return None
    except OSError:  # no such folder, or one that may not be looked into
        return None
    seen = f"images/ and masks/ have {len(groups)} subfolders that are no splits"
    return Evidence(seen, lambda: grouped_labels(root), instead_of=("folder",))


def _groups(home: Path) -> list[str]:
    return sorted(place.name for place in home.iterdir() if place.is_dir() and not place.name.startswith("."))


def grouped_labels(
    root: Path,
    images: str = "images",
    masks: str = "masks",
    classes: str | None = None,
    val_share: float = 0.2,
    seed: int = 0,
) -> Labels:
    """Read all groups; see :func:`grouped`.

    Raises:
        DataError: a folder is missing, an image has no mask, or the classes cannot be told.
    """
    check_share(val_share)
    every = folder(root, "all", images=images, masks=masks, classes=classes)
    assert isinstance(every, FileDataset)
    groups: dict[str, list[Sample]] = defaultdict(list)
    for image, mask in every.pairs:
        groups[image.parent.name].append(Sample(image, IndexMask(mask, every.table)))
    if len(groups) < 2:
        raise DataError(f"{root / images} holds one group, which makes no split; use the kind folder")
    samples = [sample for part in groups.values() for sample in part]
    names = [f"{sample.image.parent.name}/{sample.image.stem}" for sample in samples]
    homes = [sample.image.parent.name for sample in samples]
    count = len(every.classes)
    places = draw_split(names, val_share, seed, groups=homes, classes=count, contents=label_contents(samples, count))
    splits = {
        split: tuple(samples[place] for place in part) for split, part in zip(("train", "val"), places, strict=True)
    }
    chosen = {homes[place] for place in places[1]}
    held = f"{len(chosen)} of {len(groups)}, with {len(splits['val'])} of {len(every)} images"
    note = f"whole subfolders were drawn for val: {held}"
    return Labels("grouped", every.classes, splits, (*every.notes, note))
