"""Which pictures there are: folders, object stores and Parquet tables, listed piece by piece and never held whole."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..core.errors import ConfigError, DataError, first_line
from ..core.images import IMAGE_SUFFIXES, list_images
from ..core.order import natural_key
from ..core.text_files import shortened
from ..runtime.predict import folders_below, result_folders
from .places import Options, Place, place_of
from .seen import Seen
from .tables import is_table, table_pictures

SMALLEST_BLOCK = 8
"""Pictures of the first blocks: few, so that all workers of a small job have some."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that is to be segmented.

    Args:
        path: its address, or that of its table and the row in it: what the index calls it.
        name: of its results, without ending, such as ``sub/a``.
        table: address of the Parquet file that holds its bytes; empty where it is a file itself.
        group: row group in that.
        row: row in the group.
        error: why it cannot be segmented, where the list says so already.
    """

    path: str
    name: str
    table: str = ""
    group: int = -1
    row: int = -1
    error: str = ""


@dataclass(frozen=True)
class Sources:
    """Where pictures are.

    Args:
        addresses: pictures, folders with all that is below them, or Parquet tables (``*.parquet``, which may hold
            wildcards) of pictures or of their addresses.
        out: folder that results go to, in which none are looked for.
        column: of the tables; found by its type and name where empty.
        options: of the object stores; see :func:`.places.place_of`.
    """

    addresses: tuple[str, ...]
    out: str = ""
    column: str = ""
    options: Options = field(default_factory=dict)

    def check(self) -> None:
        """Refuse sources that are not there, before anything is started.

        Raises:
            ConfigError: an address is none, or a table has no such column.
            DataError: a source does not exist or may not be listed.
        """
        if not self.addresses:
            raise ConfigError("there are no sources; name images, folders or addresses such as s3://bucket/photos")
        for address in self.addresses:
            place = place_of(address, self.options)
            if is_table(address):
                next(iter(table_pictures(place, self.column)), None)
                continue
            try:
                there = place.exists()
            except Exception as error:  # stores have errors of their own
                raise _unlisted(place, error) from error
            if not there:
                raise DataError(f"{place.address} does not exist; give an image, a folder or a .parquet file")

    def __iter__(self) -> Iterator[Picture]:
        """Give the pictures in order; hidden files and folders are left out.

        Raises:
            DataError: a source cannot be listed.
        """
        for address in self.addresses:
            place = place_of(address, self.options)
            if is_table(address):
                for where, name, group, row in table_pictures(place, self.column):
                    table = where.partition("#")[0] if group >= 0 else ""
                    yield Picture(where, name, table, group, row)
            elif place.is_local:
                yield from self._local(Path(place.path))
            else:
                yield from self._stored(place)

    def _local(self, source: Path) -> Iterator[Picture]:
        if not source.is_dir():
            yield Picture(str(source), source.with_suffix("").name)
            return
        out = place_of(self.out, self.options) if self.out else None
        results = result_folders(out.path) if out is not None and out.is_local else set()
        try:
            for folder, _ in folders_below(source, results):
                for path in list_images(folder):
                    yield Picture(str(path), path.relative_to(source).with_suffix("").as_posix())
        except OSError as error:
            raise DataError(
                f"{error.filename or source} cannot be listed ({error.strerror}); check its rights"
            ) from error

    def _stored(self, source: Place) -> Iterator[Picture]:
        """Give the pictures of an object store, a folder at a time."""
        out = place_of(self.out, self.options).address if self.out else ""
        folders = [source]
        while folders:
            folder = folders.pop()
            try:
                entries = folder.system.ls(folder.path, detail=True)
            except NotADirectoryError:
                entries = [{"name": folder.path, "type": "file"}]
            except Exception as error:
                raise _unlisted(folder, error) from error
            below = []
            for entry in sorted(entries, key=lambda each: natural_key(PurePosixPath(_path(each)))):
                place = Place(folder.system, _path(entry))
                name = posixpath.basename(place.path)
                if name.startswith(".") or not name or place.path == folder.path != source.path:
                    continue
                if entry.get("type") == "directory":
                    if place.address != out and place.path != folder.path:
                        below.append(place)
                elif PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES:
                    yield Picture(place.address, _name_below(place.path, source.path))
            folders += reversed(below)


def _path(entry: Any) -> str:
    return str(entry["name"]).rstrip("/")


def _name_below(path: str, source: str) -> str:
    """Return what results of a picture are called: its path within the source, or its own name where it is that."""
    root = source.rstrip("/")
    inside = path[len(root) + 1 :] if path.startswith(root + "/") else posixpath.basename(path)
    return str(PurePosixPath(inside).with_suffix(""))


def _unlisted(place: Place, error: BaseException) -> DataError:
    why = shortened(first_line(error), 200)
    return DataError(f"{place.address} cannot be listed ({why}); check address, rights and credentials")


def unseen(pictures: Iterable[Picture], paths: Seen, names: Seen) -> Iterator[Picture]:
    """Give the pictures that are not in `paths`, and add them; one whose results' name is taken gets an error.

    Args:
        pictures: all of them.
        paths: of pictures that are done.
        names: of the results that there are.
    """
    for picture in pictures:
        if not paths.add(picture.path):
            continue
        if not picture.error and not names.add(picture.name):
            why = f"another picture's results are called {picture.name} already; rename one of the two"
            picture = replace(picture, error=why)
        yield picture


def blocks(pictures: Iterable[Picture], size: int, workers: int) -> Iterator[list[Picture]]:
    """Give the pictures in blocks, which are done and entered into the index as a whole.

    Four blocks for each worker have ``SMALLEST_BLOCK`` pictures, as many twice that, and so on up to `size`: few
    pictures suffice for many workers, and of many pictures no block is small. A block ends where the row group of a
    Parquet table does, which is read from its beginning.

    Args:
        pictures: in order.
        size: most pictures of a block.
        workers: that share them.
    """
    block: list[Picture] = []
    given = 0
    for picture in pictures:
        full = len(block) >= min(size, SMALLEST_BLOCK << min(given // (4 * workers), 30))
        if block and (full or (picture.table, picture.group) != (block[0].table, block[0].group)):
            yield block
            block, given = [], given + 1
        block.append(picture)
    if block:
        yield block


def sources_of(given: str | Path | Sequence[str | Path], **others: Any) -> Sources:
    """Return the sources that one address, or several, mean."""
    several = (given,) if isinstance(given, str | Path) else tuple(given)
    return Sources(tuple(map(str, several)), **others)
