"""From a mask file's values to class ids: a table, in which every value that may occur has its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, DataError
from ..core.images import read_mask
from ..core.types import IGNORE_INDEX, ClassSet, MaskArray

UNKNOWN = -1


class LabelTable:
    """Maps mask values to class ids; a value outside the table is an error, never a guess.

    Colour masks whose every pixel is a grey that is no class hold ids in all three channels, and are read as such.

    Args:
        ids: class id (or the ignored id) by value of an index, grey or palette mask.
        colors: class id by RGB colour of a colour mask; empty where masks are not in colour.
        by_palette: palette masks are read by their colours, since their ids differ from file to file; 255 is ignored
            whatever its colour is.

    Raises:
        ConfigError: a value is no 16-bit id, which is the most that mask files hold.
    """

    def __init__(
        self,
        ids: Mapping[int, int],
        colors: Mapping[tuple[int, int, int], int] | None = None,
        *,
        by_palette: bool = False,
    ) -> None:
        if wrong := [value for value in ids if not 0 <= value <= 0xFFFF]:
            raise ConfigError(f"mask value {wrong[0]} is out of range; give ids of 0 to 65535")
        self._by_palette = by_palette
        self._ids = np.full(max(ids, default=0) + 1, UNKNOWN, np.int16)
        for value, label in ids.items():
            self._ids[value] = label
        packed = {(r << 16) | (g << 8) | b: label for (r, g, b), label in (colors or {}).items()}
        self._keys = np.array(sorted(packed), np.int64)
        self._labels = np.array([packed[key] for key in sorted(packed)], np.int16)

    @property
    def key(self) -> bytes:
        """The same for tables that read every mask alike, and for no others."""
        how = bytes([self._by_palette])
        return b"|".join((how, *(array.tobytes() for array in (self._ids, self._keys, self._labels))))

    def relabelled(
        self,
        labels: Mapping[int, int],
        values: Mapping[int, int],
        shades: Mapping[tuple[int, int, int], int] | None = None,
    ) -> LabelTable:
        """Return a table whose class ids are others.

        Args:
            labels: new id (or the ignored one) by each old one.
            values: new id by value of an index or grey mask, whatever it was before.
            shades: new id by colour of a colour mask, whatever it was before.
        """
        known = {int(value): int(self._ids[value]) for value in np.flatnonzero(self._ids != UNKNOWN)}
        ids = {value: labels[label] for value, label in known.items()} | dict(values)
        colors = zip(self._keys.tolist(), self._labels.tolist(), strict=True)
        by_color = {(key >> 16, key >> 8 & 255, key & 255): labels[label] for key, label in colors}
        return LabelTable(ids, by_color | dict(shades or {}), by_palette=self._by_palette)

    @classmethod
    def identity(cls, classes: ClassSet) -> LabelTable:
        """Return the table for masks that hold class ids (or the classes' colours) already."""
        ids = {i: i for i in range(len(classes))} | {classes.ignore_index: classes.ignore_index}
        return cls(ids, {color: i for i, color in reversed(list(enumerate(classes.colors)))})

    def read(self, path: Path) -> MaskArray:
        """Read a mask file as class ids, uint8 (H, W).

        Raises:
            DataError: unreadable, or holding a value that is not in the table.
        """
        mask = read_mask(path)
        values: NDArray[np.integer] = mask.values
        if mask.palette is not None and self._by_palette:
            return self._read_palette(values, mask.palette, path)
        if mask.colour and mask.grey and not self._knows_all(values):
            values = values[..., 0]
        return self.apply(values, path)

    def _knows_all(self, colors: NDArray[np.integer]) -> bool:
        """Return whether each of the greys (H, W, 3) is a class's colour."""
        greys = np.unique(colors[..., 0]).astype(np.int64) * 0x010101
        return bool(np.isin(greys, self._keys).all())

    def _read_palette(self, values: NDArray[np.integer], palette: NDArray[np.uint8], path: Path) -> MaskArray:
        """Map the values of a palette file by their colours."""
        used = np.unique(values[values != IGNORE_INDEX])
        if used.size and int(used[-1]) >= len(palette):
            raise DataError(f"mask {path} holds id {int(used[-1])}, which has no colour in its palette; save it again")
        classes = np.full(256, IGNORE_INDEX, np.uint8)
        classes[used] = self.apply(palette[used][None], path)[0]
        mapped: MaskArray = classes[values]
        return mapped

    def apply(self, values: NDArray[np.integer], path: Path) -> MaskArray:
        """Map values (H, W) or colours (H, W, 3); `path` is for messages."""
        mapped = self._from_colors(values, path) if values.ndim == 3 else self._from_ids(values)
        if (mapped == UNKNOWN).any():
            row, column = np.argwhere(mapped == UNKNOWN)[0]
            value = values[row, column]
            shown = f"colour {tuple(int(v) for v in value)}" if values.ndim == 3 else f"id {int(value)}"
            raise DataError(
                f"mask {path} holds {shown} (row {row}, column {column}), which is no class; "
                "correct the mask, or add the value to the classes"
            )
        return mapped.astype(np.uint8)

    def _from_ids(self, values: NDArray[np.integer]) -> NDArray[np.int16]:
        inside = (values >= 0) & (values < len(self._ids))
        if inside.all():
            mapped: NDArray[np.int16] = self._ids[values]
            return mapped
        return np.where(inside, self._ids[np.where(inside, values, 0)], np.int16(UNKNOWN))

    def _from_colors(self, values: NDArray[np.integer], path: Path) -> NDArray[np.int16]:
        if not len(self._keys):
            raise DataError(f"mask {path} is in colour, but this dataset's masks hold class ids; convert the mask")
        wide = values.astype(np.int64)
        packed = (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
        place = np.minimum(np.searchsorted(self._keys, packed), len(self._keys) - 1)
        return np.where(self._keys[place] == packed, self._labels[place], np.int16(UNKNOWN))


def id_counts(mask: MaskArray) -> NDArray[np.float32]:
    """Return how often each id occurs, (256,), several times as fast as NumPy; exact below 2²⁴ pixels per id."""
    return np.asarray(cv2.calcHist([np.ascontiguousarray(mask)], [0], None, [256], [0, 256]), np.float32).ravel()
