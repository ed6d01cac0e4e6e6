"""Files and folders by their address: on this machine's disks, or in object stores through fsspec."""

from __future__ import annotations

import posixpath
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, DataError, MissingExtraError, first_line, require
from ..core.files import write_atomically
from ..core.text_files import shortened

MOST_BYTES = 256 << 20
"""Largest object that is read as a picture; more than the largest picture that is decoded has as a PNG, mostly."""
WAITS = (0.5, 2.0)
"""Seconds before an object is asked for again, whose store did not answer or said that it was too busy."""
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
"""What will not be another answer for being asked again."""
WHOLE_PUTS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "r2", "memory"})
"""Stores that show an object when it is whole; others get a temporary file that is then renamed."""
READ_ONLY = frozenset({"http", "https", "data", "github", "zip", "tar"})

Options = Mapping[str, Any]
"""Of a store's fsspec file system: credentials, endpoint."""


@dataclass(frozen=True)
class Place:
    """A file or folder.

    Args:
        system: its fsspec file system.
        path: within that; of local files absolute.
    """

    system: Any
    path: str

    @property
    def is_local(self) -> bool:
        """Whether it is on a disk of this machine."""
        return "file" in _protocols(self.system)

    @property
    def address(self) -> str:
        """What it is called: of local files their path, else with ``s3://`` or the like."""
        return self.path if self.is_local else str(self.system.unstrip_protocol(self.path))

    def __truediv__(self, name: str) -> Place:
        return Place(self.system, f"{self.path.rstrip('/')}/{name}")

    def exists(self) -> bool:
        """Return whether it is there, a file or folder."""
        return Path(self.path).exists() if self.is_local else bool(self.system.exists(self.path))

    def names(self) -> list[str]:
        """Return the names of what is in the folder; nothing where there is none."""
        if self.is_local:
            folder = Path(self.path)
            return sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
        try:
            found = self.system.ls(self.path, detail=False)
        except FileNotFoundError:
            return []
        return sorted(name for each in found if (name := posixpath.basename(str(each).rstrip("/"))))

    def read(self, most: int | None = None) -> bytes:
        """Return the file's bytes; a store that does not answer is asked three times.

        Args:
            most: bytes that it may have.

        Raises:
            DataError: it has more.
            OSError: it cannot be read.
        """
        end = None if most is None else most + 1
        if self.is_local:
            with Path(self.path).open("rb") as file:
                data = file.read() if end is None else file.read(end)
        else:
            data = self._fetched(end)
        if most is not None and len(data) > most:
            raise DataError(f"{self.address} has over {most:,} bytes, too many for a picture; leave it out")
        return data

    def _fetched(self, end: int | None) -> bytes:
        for wait in (*WAITS, None):
            try:
                # By keyword: s3fs has another argument between.
                return bytes(self.system.cat_file(self.path, **({} if end is None else {"start": 0, "end": end})))
            except Exception as error:  # stores have errors of their own, such as aiohttp's
                status = getattr(error, "status", 0)
                refused = isinstance(status, int) and 400 <= status < 500 and status != 429
                if wait is None or refused or isinstance(error, FINAL):
                    if isinstance(error, OSError):
                        raise
                    raise OSError(first_line(error)) from error
                time.sleep(wait)
        raise AssertionError  # the last wait is None

    def write(self, data: bytes) -> None:
        """Write a file: it is whole or not there. Folders are made as needed.

        Raises:
            OSError: it cannot be written.
        """
        if self.is_local:
            write_atomically(Path(self.path), lambda file: file.write(data))
            return
        try:
            if WHOLE_PUTS.intersection(_protocols(self.system)):
                self.system.pipe_file(self.path, data)
            else:
                folder, name = posixpath.split(self.path)
                self.system.makedirs(folder, exist_ok=True)
                temporary = f"{folder}/.writing-{uuid.uuid4().hex}-{name[-50:]}"
                self.system.pipe_file(temporary, data)
                self.system.mv(temporary, self.path)
        except OSError:
            raise
        except Exception as error:
            raise OSError(first_line(error)) from error

    def remove(self) -> None:
        """Remove the file; it need not be there."""
        if self.is_local:
            Path(self.path).unlink(missing_ok=True)
        elif self.system.exists(self.path):
            self.system.rm_file(self.path)


def is_address(word: str) -> bool:
    """Return whether a word names something by address, such as ``s3://…``, and not a path."""
    return "://" in word


def place_of(address: str | Path, options: Options | None = None) -> Place:
    """Return the place of an address, without asking whether it is there.

    Args:
        address: a path; or what fsspec takes, such as ``s3://bucket/photos``.
        options: of the store; none are passed on for paths.

    Raises:
        ConfigError: the address or the options are none that fsspec knows.
        MissingExtraError: fsspec, or the package that knows such a store, is not installed.
    """
    fsspec = require("fsspec", "ray", "Reading and writing by address")
    text = str(address)
    if "::" in text:
        raise ConfigError(f"{text} is a chain of addresses, which is not taken; name the file or folder by itself")
    if not is_address(text):
        return Place(fsspec.filesystem("file"), str(Path(text).expanduser().absolute()))
    scheme = text.partition("://")[0]
    try:
        # Listings are not kept: those of a million objects take a gigabyte.
        system, path = fsspec.core.url_to_fs(text, **{"use_listings_cache": False, **(options or {})})
    except ImportError as error:
        raise MissingExtraError(
            f"{scheme}:// needs a package beside featherseg[ray] ({shortened(first_line(error), 120)}); install it on "
            "every machine"
        ) from error
    except Exception as error:
        raise ConfigError(f"{text} cannot be used ({shortened(first_line(error), 200)}); check the address") from error
    return Place(system, str(path))


def require_writable(place: Place) -> None:
    """Refuse addresses that nothing can be written to.

    Raises:
        ConfigError: it is one of those.
    """
    if READ_ONLY.intersection(_protocols(place.system)):
        raise ConfigError(f"{place.address} can only be read from; give a folder or an object store with -o")


def _protocols(system: Any) -> tuple[str, ...]:
    found = system.protocol
    return (found,) if isinstance(found, str) else tuple(found)
