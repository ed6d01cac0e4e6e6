"""Telling masks from photographs by a look at a few of them: masks hold few values, photographs many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DataError, FeathersegError
from ..core.files import FileMemo
from ..core.images import open_image
from ..core.mask_files import mask_of

FEW = 64
"""Distinct values of a mask, at most; more are a photograph's, or what compression made of a mask."""
LARGE, LARGE_AREA = 16, 0.9
"""Values of a compressed mask that together hold so much of it; of a photograph they hold a part."""
LOOKED_AT = 3
"""Files of a folder that are looked at: the first, the last, and one between."""
SHOWN_VALUES = 6


@dataclass(frozen=True)
class Look:
    """What a look at a file shows.

    Args:
        mask: it may be a mask.
        values: the most frequent values first, as text, each with its share of the pixels.
        pages: pictures that the file holds, all of one size.
    """

    mask: bool
    values: tuple[tuple[str, float], ...] = ()
    pages: int = 1


_looks: FileMemo[Look] = FileMemo()


def look(path: Path) -> Look:
    """Look at a file; one that cannot be read is no mask here, and whoever reads it says why."""
    try:
        return _looks.get(path, lambda: _look(path))
    except (FeathersegError, OSError):
        return Look(False)


def _look(path: Path) -> Look:
    with open_image(path) as image:
        size, pages = image.size, 1
        for page in range(1, int(getattr(image, "n_frames", 1)) if path.suffix.lower() in (".tif", ".tiff") else 1):
            image.seek(page)  # a page of another size is a smaller copy of the first, as maps have them
            pages += image.size == size
        image.seek(0)
        mask = mask_of(image)
    if mask.mode == "F":  # a map of depths or heights
        return Look(False, pages=pages)
    values: NDArray[np.int64]
    if mask.colour:
        wide = mask.values.astype(np.int64)
        values = (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
    else:
        values = mask.values.astype(np.int64)
    found, counts = np.unique(values, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    largest = int(counts[order[:LARGE]].sum())
    few = len(found) <= FEW or largest >= LARGE_AREA * values.size
    names = [f"#{int(v):06x}" if mask.colour else str(int(v)) for v in found[order[:SHOWN_VALUES]]]
    shares = [float(count) / values.size for count in counts[order[:SHOWN_VALUES]]]
    return Look(few, tuple(zip(names, shares, strict=True)), pages)


def sampled(files: Sequence[Path]) -> list[Path]:
    """Return a few of the files, spread evenly."""
    places = sorted({0, len(files) // 2, len(files) - 1}) if files else []
    return [files[place] for place in places][:LOOKED_AT]


def are_masks(files: Sequence[Path]) -> bool:
    """Return whether a few of the files, looked at, may all be masks."""
    return bool(files) and all(look(path).mask for path in sampled(files))


def are_photographs(files: Sequence[Path]) -> bool:
    """Return whether a few of the files, looked at, are all photographs, or nothing that can be read."""
    return bool(files) and not any(look(path).mask for path in sampled(files))


def refuse_stack(path: Path) -> None:
    """Refuse a TIFF of several pages of one size, such as a volume's slices: only the first would be used.

    Raises:
        DataError: it is one.
    """
    if path.suffix.lower() in (".tif", ".tiff") and (pages := look(path).pages) > 1:
        raise DataError(f"{path} is a stack of {pages} pictures; save each of its pages as a file of its own")
