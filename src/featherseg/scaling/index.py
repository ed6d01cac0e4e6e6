"""The index of what was segmented: a folder of Parquet files, one for each block that is complete."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import DataError, first_line, require
from ..core.text_files import shortened
from .places import Place

PART = "part-"
READERS = 16
"""Files of an index that are read at once: object stores answer slowly, but many at a time."""


@dataclass(frozen=True)
class Row:
    """What the index says of a picture.

    Args:
        path: its address; of one in a table, the table's with the row's number.
        mask: of its mask, within the folder of results; None where there is none.
        height: of the picture in pixels; None where it could not be read, as for all but `error`.
        width: likewise.
        coverage: share of the pixels of each class, by name.
        confidence: mean probability of the pixels' classes, 0–1; None where it was not asked for, too.
        error: why there is no mask; None where there is one.
    """

    path: str
    mask: str | None = None
    height: int | None = None
    width: int | None = None
    coverage: dict[str, float] | None = None
    confidence: float | None = None
    error: str | None = None


@dataclass
class Tally:
    """Sums over pictures, which add up whoever made them.

    Args:
        done: pictures with a mask.
        failed: pictures without.
        shares: sum of each class's shares.
        confidence: sum of the means.
        sure: pictures in that sum.
        first_error: of one that failed; empty where none did.
    """

    done: int = 0
    failed: int = 0
    shares: dict[str, float] = field(default_factory=dict)
    confidence: float = 0.0
    sure: int = 0
    first_error: str = ""

    def add(self, other: Tally) -> None:
        """Add the sums over other pictures."""
        self.done += other.done
        self.failed += other.failed
        names = {**self.shares, **other.shares}
        self.shares = {name: self.shares.get(name, 0.0) + other.shares.get(name, 0.0) for name in names}
        self.confidence += other.confidence
        self.sure += other.sure
        self.first_error = self.first_error or other.first_error


def tally(rows: Iterable[Row]) -> Tally:
    """Return the sums over rows."""
    found = Tally()
    for row in rows:
        if row.error is not None:
            found.failed += 1
            found.first_error = found.first_error or f"{row.path}: {row.error}"
            continue
        found.done += 1
        for name, share in (row.coverage or {}).items():
            found.shares[name] = found.shares.get(name, 0.0) + share
        if row.confidence is not None:
            found.confidence += row.confidence
            found.sure += 1
    return found


class Index:
    """The folder of an index.

    Any Parquet reader takes it as one table. What begins with an underscore, such as notes of blocks that are not
    complete, is passed over by those readers.

    Args:
        folder: its place; need not be there yet.
        classes: names, in the order of `coverage`.
    """

    def __init__(self, folder: Place, classes: Sequence[str]) -> None:
        self.folder = folder
        self.classes = tuple(classes)

    def parts(self) -> list[str]:
        """Return the names of the files of complete blocks."""
        return [name for name in self.folder.names() if name.startswith(PART) and name.endswith(".parquet")]

    def write(self, name: str, rows: Sequence[Row]) -> None:
        """Write the rows of a block; the file is whole or not there.

        Raises:
            OSError: it cannot be written.
        """
        arrow = require("pyarrow", "ray", "Writing the index")
        parquet = require("pyarrow.parquet", "ray", "Writing the index")
        shares = arrow.struct([(each, arrow.float64()) for each in self.classes])
        types = {
            "path": arrow.string(),
            "mask": arrow.string(),
            "height": arrow.int32(),
            "width": arrow.int32(),
            "coverage": shares,
            "confidence": arrow.float32(),
            "error": arrow.string(),
        }
        columns = {key: arrow.array([getattr(row, key) for row in rows], kind) for key, kind in types.items()}
        stream = io.BytesIO()
        parquet.write_table(arrow.table(columns), stream, compression="zstd")
        (self.folder / name).write(stream.getvalue())

    def read(self, name: str, columns: Sequence[str] | None = None) -> list[Row]:
        """Return the rows of a block.

        Args:
            name: of its file.
            columns: that are wanted, ``path`` among them; all where left out.

        Raises:
            DataError: the file is damaged.
        """
        parquet = require("pyarrow.parquet", "ray", "Reading the index")
        place = self.folder / name
        try:
            table: Any = parquet.ParquetFile(io.BytesIO(place.read())).read(columns=columns)
            return [Row(**row) for row in table.to_pylist()]
        except Exception as error:  # pyarrow's, and those of stores
            why = shortened(first_line(error), 200)
            raise DataError(
                f"{place.address} cannot be read ({why}); remove it, and its pictures are done anew"
            ) from error

    def read_all(self, names: Sequence[str], columns: Sequence[str] | None = None) -> Iterator[tuple[str, list[Row]]]:
        """Give names and rows of blocks, several being read at once and few being held."""
        with ThreadPoolExecutor(READERS) as pool:
            for first in range(0, len(names), 4 * READERS):
                some = names[first : first + 4 * READERS]
                yield from zip(some, pool.map(lambda name: self.read(name, columns), some), strict=True)

    def retry_failed(self) -> Tally:
        """Take the pictures that failed out of the index, so that they are tried again, and sum up the others."""
        kept = Tally()
        for name, rows in self.read_all(self.parts()):
            good = [row for row in rows if row.error is None]
            if not good:
                (self.folder / name).remove()
            elif len(good) < len(rows):
                self.write(name, good)
            kept.add(tally(good))
        return kept
