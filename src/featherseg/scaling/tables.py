"""Parquet tables of pictures: their bytes in a column, as the library ``datasets`` stores them, or their addresses."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

from ..core.errors import ConfigError, DataError, FeathersegError, did_you_mean, first_line, require
from ..core.text_files import shortened
from .places import MOST_BYTES, Options, Place, is_address, place_of

COLUMNS = ("image", "images", "img", "photo", "picture", "bytes", "path", "file", "filename", "url", "uri", "key")
"""What people call such a column, what is taken first to the left."""
LISTED = 4096
"""Addresses that are read from a table at a time."""
DECODED = 16
"""Pictures that are read from a table at a time."""

Entry = tuple[str, str, int, int]
"""What the index calls a picture, the name of its results, and the row group and row of its bytes, or -1 and -1."""


def is_table(address: str) -> bool:
    """Return whether an address is of a Parquet table, or of several by wildcards."""
    return address.lower().endswith(".parquet")


def table_pictures(place: Place, column: str) -> Iterator[Entry]:
    """Give what the tables at a place say, in order.

    Args:
        place: a file, or several by wildcards.
        column: that holds pictures or addresses; found where empty.

    Raises:
        ConfigError: there is no such column.
        DataError: a table is not there, or cannot be read.
    """
    wild = any(letter in place.path for letter in "*?[")
    found = sorted(map(str, place.system.glob(place.path))) if wild else [place.path]
    if not found:
        raise DataError(f"no table is at {place.address}; check the address")
    for path in found:
        yield from _of_table(Place(place.system, path), column)


def _of_table(table: Place, column: str) -> Iterator[Entry]:
    with _opened(table) as file:
        chosen, holds_bytes = _column(file.schema_arrow, column, table.address)
        if holds_bytes:
            stem, number = PurePosixPath(table.path).stem, 0
            for group in range(file.num_row_groups):
                for row in range(file.metadata.row_group(group).num_rows):
                    yield f"{table.address}#{number}", f"{stem}/{number:08}", group, row
                    number += 1
            return
        number = 0
        for batch in file.iter_batches(LISTED, columns=[chosen]):
            for address in batch.column(0).to_pylist():
                if address is None:
                    yield f"{table.address}#{number}", f"{PurePosixPath(table.path).stem}/{number:08}", -1, -1
                else:
                    yield _address(address, table), _name(address), -1, -1
                number += 1


class RowReader:
    """Reads the pictures of tables forwards: it goes on where it stopped, if what is asked for comes later.

    Args:
        column: see :func:`table_pictures`.
        options: of the object stores that tables lie in.
    """

    def __init__(self, column: str, options: Options) -> None:
        self.column, self.options = column, options
        self._open: tuple[str, int] | None = None
        self._next = 0
        self._rows: Iterator[bytes | None] = iter(())

    def read(self, table: str, group: int, row: int) -> bytes:
        """Return the bytes of one picture.

        Raises:
            DataError: there are none, or the table cannot be read.
        """
        if self._open != (table, group) or row < self._next:
            self._rows, self._open, self._next = self._of_group(table, group), (table, group), 0
        data: bytes | None = None
        while self._next <= row:
            data = next(self._rows, None)
            self._next += 1
        if not data:
            raise DataError(f"row {row} of row group {group} of {table} holds no picture")
        if len(data) > MOST_BYTES:
            raise DataError(f"row {row} of row group {group} of {table} has over {MOST_BYTES:,} bytes; leave it out")
        return data

    def _of_group(self, table: str, group: int) -> Iterator[bytes | None]:
        place = place_of(table, self.options)
        with _opened(place) as file:
            chosen, _ = _column(file.schema_arrow, self.column, table)
            for batch in file.iter_batches(DECODED, row_groups=[group], columns=[chosen]):
                for value in batch.column(0).to_pylist():
                    yield value.get("bytes") if isinstance(value, dict) else value


@contextmanager
def _opened(table: Place) -> Iterator[Any]:
    """Open a table; whatever goes wrong in opening or reading is one :class:`DataError`."""
    parquet = require("pyarrow.parquet", "ray", "Reading Parquet tables")
    try:
        with table.system.open(table.path, "rb") as stream, parquet.ParquetFile(stream) as file:
            yield file
    except FeathersegError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{table.address} does not exist; check the address") from error
    except Exception as error:  # pyarrow's, and those of stores
        why = shortened(first_line(error), 200)
        raise DataError(f"{table.address} cannot be read as a Parquet table ({why}); check or replace it") from error


def _column(schema: Any, wanted: str, table: str) -> tuple[str, bool]:
    """Return the column that holds pictures or addresses, and whether it is pictures."""
    types = require("pyarrow", "ray", "Reading Parquet tables").types
    kinds = {}
    for each in schema:
        inner = {child.name: child.type for child in each.type} if types.is_struct(each.type) else {}
        kind = inner.get("bytes", each.type)
        if types.is_binary(kind) or types.is_large_binary(kind):
            kinds[each.name] = True
        elif types.is_string(kind) or types.is_large_string(kind):
            kinds[each.name] = False
    if wanted:
        if wanted not in kinds:
            there = f"; {did_you_mean(wanted, kinds)}" if kinds else ""
            raise ConfigError(f"{table} has no column {wanted!r} of pictures or addresses{there}")
        return wanted, kinds[wanted]
    named = [name for common in COLUMNS for name in kinds if name.lower() == common]
    chosen = next(iter(named), next(iter(kinds)) if len(kinds) == 1 else None)
    if chosen is None:
        there = ", ".join(kinds) or "none"
        raise ConfigError(
            f"{table}: which column holds pictures or addresses is not clear; say it with --column ({there})"
        )
    return chosen, kinds[chosen]


def _address(written: str, table: Place) -> str:
    """Return the address of a picture as a table has it: one that is relative is so to the table's folder."""
    if is_address(written):
        return written
    return Place(table.system, posixpath.join(posixpath.dirname(table.path), written)).address


def _name(address: str) -> str:
    """Return what results of a picture are called whose address is in a table: that, as a path that stays below."""
    path = PurePosixPath(address.partition("://")[2] or address.replace("\\", "/"))
    kept = [part for part in path.parts if part not in ("..", ".", path.anchor)]
    return str(PurePosixPath(*kept or ["_"]).with_suffix(""))
