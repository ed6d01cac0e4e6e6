"""What LabelMe's ``labelme2voc`` exports: class names in a text file, and masks as PNG or NumPy arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ...core.errors import DataError, first_line
from ...core.images import MAX_PIXELS, list_images, read_ids
from ...core.text_files import read_text, shortened
from ...core.types import IGNORE_INDEX, MaskArray
from ..annotations import AnnotatedDataset, Evidence, Labels, Sample, name_classes, recognisers
from ..datasets import datasets, require_folder
from ..listing import settle_splits
from .coco import check_share

HOMES = ("SegmentationClassPNG", "SegmentationClass", "SegmentationClassNpy")
"""Where masks are, by the version that wrote them; a PNG is taken before an array of the same mask."""
IGNORED = "__ignore__"


@dataclass(frozen=True)
class MaskAnnotation:
    """A mask of class ids, -1 or 255 for ignored; see :class:`featherseg.data.annotations.Annotation`."""

    file: Path
    count: int

    def read(self) -> MaskArray:
        """Return class ids, uint8 (H, W)."""
        values = _array(self.file) if self.file.suffix == ".npy" else read_ids(self.file)
        if values.ndim != 2:
            raise DataError(f"mask {self.file} is in colour; export it again with class ids")
        ids = np.where(values == -1, IGNORE_INDEX, values)
        wrong = (ids != IGNORE_INDEX) & ((ids < 0) | (ids >= self.count))
        if wrong.any():
            raise DataError(
                f"mask {self.file} holds id {int(ids[wrong][0])}, but class_names.txt names {self.count} classes; "
                "correct the mask, or add the name"
            )
        return ids.astype(np.uint8)


def _array(file: Path) -> np.ndarray:
    try:
        # Mapped, not read: a header of any size costs nothing, and nothing in it is run.
        values = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # ValueError, OSError, SyntaxError of a damaged header, …
        reason = shortened(first_line(error), 200)
        raise DataError(f"{file} cannot be read as an array ({reason}); export it again") from error
    if values.ndim != 2 or values.dtype.kind not in "iu" or not 0 < values.size <= MAX_PIXELS:
        raise DataError(f"{file} holds {values.dtype} of shape {values.shape}, no class ids; export it again")
    return np.asarray(values)


@datasets.register("labelme_voc")
def labelme_voc(root: Path, split: str = "train", *, val_share: float = 0.2, seed: int = 0) -> AnnotatedDataset:
    """Open what LabelMe's ``labelme2voc`` exports: ``JPEGImages/``, ``SegmentationClass/`` and ``class_names.txt``.

    Masks are PNGs, or arrays (.npy) where there is no PNG. They hold class ids by the lines of ``class_names.txt``, of
    which ``_background_`` is the class of all that was not labelled; -1 and 255 are ignored. What overlaps was decided
    at the export: the later shape lies on top. The split is drawn.

    Args:
        root: the folder.
        split: ``train``, ``val`` or ``all``.
        val_share: share of the validation split, over 0 and under 1.
        seed: of the draw.
    """
    return read_export(root, val_share=val_share, seed=seed).dataset(split)


@recognisers.register("labelme_voc")
def recognise_export(root: Path) -> Evidence | None:
    """Return whether class names lie beside images and masks as ``labelme2voc`` writes them."""
    homes = any((root / home).is_dir() for home in HOMES)
    if not ((root / "class_names.txt").is_file() and (root / "JPEGImages").is_dir() and homes):
        return None
    return Evidence("class_names.txt and SegmentationClass are of labelme2voc", partial(read_export, root), ("folder",))


def read_export(root: Path, *, val_share: float = 0.2, seed: int = 0) -> Labels:
    """Read an export; see :func:`labelme_voc`."""
    check_share(val_share)
    images, file = require_folder(root / "JPEGImages", "images"), root / "class_names.txt"
    try:
        names = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    except (ValueError, OSError) as error:
        raise DataError(f"{file} cannot be read: {error}; it holds a class name on each line") from error
    names = [name for name in names if name != IGNORED]
    if len(set(names)) < len(names):
        raise DataError(f"{file} names a class twice; give each its own name")
    classes, _, _ = name_classes(names, background=False, where=file)
    samples, missing = [], []
    for image in list_images(images):
        places = [root / home / f"{image.stem}{end}" for end in (".png", ".npy") for home in HOMES]
        mask = next((place for place in places if place.is_file()), None)
        if mask is None:
            missing.append(f"{image.name} (no mask)")
        else:
            samples.append(Sample(image, MaskAnnotation(mask, len(classes))))
    splits, drawn = settle_splits({None: samples}, val_share, seed, len(classes))
    notes = ("the masks are as labelme2voc drew them, the later shape on top; 255 and -1 are ignored", *drawn)
    return Labels("labelme_voc", classes, splits, notes, {"train": tuple(missing)} if missing else {})
