"""Folders that go to others: whole or not there, with the checksums of all that is in them.

A folder that featherseg wrote is replaced as a whole. Anything else that is there, or was changed since, is a
person's and stays.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import ConfigError
from .files import TEMPORARY, sha256

SUMS = "SHA256SUMS"
LITTER = frozenset({"__pycache__", ".DS_Store"})
"""What programs leave in folders without being asked; it may go with the folder."""


@contextmanager
def whole_folder(folder: str | Path) -> Iterator[Path]:
    """Give an empty folder to fill. On leaving, what is in it gets its checksums and takes the place of `folder`.

    If the block raises, or the folder cannot be put in its place, all is as it was. What is replaced should have been
    asked about with :func:`check_untouched`.
    """
    place = Path(folder).resolve()  # a link stays a link
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=f"{TEMPORARY}{place.name}."))
    try:
        built = temporary / "new"
        built.mkdir()  # with the usual rights, unlike the temporary folder
        yield built
        found = files_below(built)
        sums = "".join(f"{sha256(path)}  {path.relative_to(built).as_posix()}\n" for path in found)
        (built / SUMS).write_bytes(sums.encode())
        for path in [*found, built / SUMS]:
            with path.open("rb+") as stream:
                os.fsync(stream.fileno())
        swap(built, place, temporary / "old")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def files_below(folder: Path) -> list[Path]:
    """Return all files in a folder and below it, but for litter, in order."""
    return sorted(
        path
        for path in folder.rglob("*")
        if (path.is_symlink() or not path.is_dir()) and not LITTER.intersection(path.relative_to(folder).parts)
    )


def read_sums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that a folder's checksums list, by path within it.

    Raises:
        OSError, ValueError: there are none, or they are damaged.
    """
    lines = (folder / SUMS).read_text("utf-8").splitlines()
    pairs = [line.split("  ", 1) for line in lines]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"{SUMS} is damaged")
    return {name: digest for digest, name in pairs}


def check_untouched(folder: str | Path) -> None:
    """Refuse to replace a folder, whose checksums can be read, in which somebody changed something.

    Raises:
        ConfigError: it holds a file that is not listed, or one that is another by now.
    """
    place = Path(folder).resolve()
    listed = read_sums(place)
    found = {path.relative_to(place).as_posix() for path in files_below(place)}
    if strangers := found - listed.keys() - {SUMS}:
        raise ConfigError(f"{folder} holds {min(strangers)!r}, which featherseg did not write; move it elsewhere first")
    edited = [name for name, digest in listed.items() if (place / name).is_file() and sha256(place / name) != digest]
    if edited:
        raise ConfigError(f"{folder} holds {min(edited)!r}, which was edited since; move the folder elsewhere first")


def swap(built: Path, place: Path, old: Path) -> None:
    """Put a finished folder in its place; if that fails, what was there is there again."""
    if not place.exists():
        built.rename(place)
        return
    place.rename(old)
    try:
        built.rename(place)
    except BaseException:
        old.rename(place)
        raise
