"""Mask files as annotations: ids, a picture in the classes' colours, or one file per class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DataError
from ..core.images import read_mask
from ..core.types import MaskArray
from .labels import LabelTable


@dataclass(frozen=True)
class IndexMask:
    """A mask file of ids, such as a palette PNG."""

    file: Path
    table: LabelTable

    def read(self) -> MaskArray:
        """Return class ids, uint8 (H, W).

        Raises:
            DataError: unreadable, or holding a value that is not in the table.
        """
        return self.table.read(self.file)


@dataclass(frozen=True)
class ColorMask:
    """A mask file that is a picture in the classes' colours, whatever its mode.

    Programs that shrink PNGs make palettes and greys of RGB, and each file's palette has an order of its own.
    """

    file: Path
    table: LabelTable

    def read(self) -> MaskArray:
        """Return class ids, uint8 (H, W).

        Raises:
            DataError: unreadable, or holding a colour that is not in the table.
        """
        return self.table.apply(read_colors(self.file), self.file)


@dataclass(frozen=True)
class Layers:
    """One binary mask file per class. Where they overlap, the one with fewer pixels in this picture lies on top.

    Args:
        layers: mask files and their class ids, at least one; several files of a class are taken together.
        base: class id, or the ignored id, of pixels that are in no layer.
    """

    layers: tuple[tuple[Path, int], ...]
    base: int

    @property
    def file(self) -> Path:
        """The first of the files."""
        return self.layers[0][0]

    def read(self) -> MaskArray:
        """Return class ids, uint8 (H, W).

        Raises:
            DataError: a file is unreadable or not binary, or their sizes differ.
        """
        covered: dict[int, NDArray[np.bool_]] = {}
        for file, label in self.layers:
            layer = read_binary(file)
            other = next(iter(covered.values()), layer)
            if layer.shape != other.shape:
                sizes = ["x".join(map(str, part.shape)) for part in (layer, other)]
                raise DataError(
                    f"mask {file} is {sizes[0]} but {self.file} of the same image is {sizes[1]} (height x width); "
                    "make them one size"
                )
            covered[label] = covered[label] | layer if label in covered else layer
        return stacked(covered, self.base)


def stacked(covered: dict[int, NDArray[np.bool_]], base: int) -> MaskArray:
    """Lay classes over one another, the smaller on top; of two equally large, the one with the higher id.

    Args:
        covered: pixels, bool (H, W), by class id; at least one class.
        base: id of pixels that no class covers.

    Returns:
        class ids, uint8 (H, W).
    """
    mask = np.full(next(iter(covered.values())).shape, base, np.uint8)
    for label, layer in sorted(covered.items(), key=lambda entry: (-int(entry[1].sum()), entry[0])):
        mask[layer] = label
    return mask


def read_colors(path: Path) -> NDArray[np.uint8]:
    """Read a mask file as the picture it shows: RGB uint8 (H, W, 3), palettes and greys as colours.

    Raises:
        DataError: as for :func:`featherseg.core.images.read_mask`, or the file has no colours of 8 bits.
    """
    mask = read_mask(path)
    values = mask.values
    if mask.colour:
        return values
    if mask.alpha or values.dtype != np.uint8:
        raise DataError(f"mask {path} has the mode {mask.mode} and no colours of 8 bits; save it as an RGB PNG")
    if mask.palette is not None:
        highest = int(values.max(initial=0))
        if highest >= len(mask.palette):
            raise DataError(f"mask {path} holds id {highest}, which has no colour in its palette; save it again")
        colors: NDArray[np.uint8] = mask.palette[values]
        return colors
    return np.repeat((values * np.uint8(255) if mask.bilevel else values)[..., None], 3, axis=2)


def read_binary(path: Path) -> NDArray[np.bool_]:
    """Read the mask file of one class, which holds 0 and one other value, as bool (H, W).

    Raises:
        DataError: unreadable, or holding more values than the two, which may be ids, or borders that were smoothed.
    """
    mask = read_mask(path)
    values = mask.values
    if mask.colour:
        if not mask.grey:
            raise DataError(f"mask {path} is in colour, but it is to show one class; save 0 and 255 in a grey PNG")
        values = values[..., 0]
    found = np.unique(values)
    if len(found[found != 0]) > 1:
        shown = ", ".join(str(int(value)) for value in found[:5]) + (", …" if len(found) > 5 else "")
        raise DataError(
            f"mask {path} holds {len(found)} values ({shown}), but the mask of one class holds 0 and one other; "
            "correct the file"
        )
    covered: NDArray[np.bool_] = values != 0
    return covered
