"""Files that are whole or not there, and how to tell that they are the same."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

T = TypeVar("T")

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What writing fails with where there is no room: disk, quota, or limit on a file's size."""

TEMPORARY = ".writing-"
"""How names of files that are being written begin; only a killed process leaves one behind."""


def write_atomically(
    path: Path, write: Callable[[BinaryIO], object], *, finished: Callable[[Path], object] | None = None
) -> Path:
    """Let `write` fill a temporary file beside `path`, sync it, and rename it: the file is whole or not there.

    Args:
        path: the file.
        write: gets the temporary file, open for writing bytes.
        finished: gets the temporary file's path before it is renamed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Names may have 255 bytes, up to four a letter, and the temporary one is longer.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{TEMPORARY}{path.name[:50]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)  # mkstemp makes files private; give them the usual rights
        if finished is not None:
            finished(Path(name))
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal digits; read in pieces, whatever its size."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class FileMemo(Generic[T]):
    """What was found out about files, as long as they stay as they are: splits of a folder are opened one by one."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int, bytes], T] = {}

    def get(self, path: Path, find: Callable[[], T], key: bytes = b"") -> T:
        """Return what `find` finds in a file, found once for each `key`.

        Raises:
            OSError: the file is not there, or may not be looked at.
        """
        stat = path.stat()
        place = str(path), stat.st_mtime_ns, stat.st_size, key
        if place not in self._known:
            self._known[place] = find()
        return self._known[place]


def cache_folder() -> Path | None:
    """Return the folder of what featherseg can make again, such as its choices; None for a user without a home."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if Path(given).is_absolute():  # others are to be ignored, as the XDG base directory specification says
        return Path(given) / "featherseg"
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "featherseg" / "Cache"
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "featherseg"
