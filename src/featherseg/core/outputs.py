"""What a command writes never replaces what a person made: a file gives way only if it is as featherseg left it.

No format of ours says reliably that nobody edited it since, and people's masks may well have our palette. So each
folder that a command writes into gets a small record of what was written there: names and SHA-256 digests, as
``sha256sum`` prints them. A file that is not in it, or whose digest differs, is a person's.

Files of version 0.1.0 have no record and count as a person's too: nothing about them tells a prediction from a mask
that someone corrected, and a refusal costs one more word on the command line.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import ConfigError
from .files import sha256, write_atomically

RECORD_NAME = ".featherseg-outputs"
"""Name of a folder's record; hidden, since no listing of pictures wants it."""


class Outputs:
    """The files that one call may write. Records are read once, so that a hundred thousand masks stay cheap.

    Several threads may write at once.
    """

    def __init__(self) -> None:
        self._known: dict[Path, dict[str, set[str]]] = {}
        self._reading = threading.Lock()

    def require(self, paths: Iterable[Path]) -> None:
        """Refuse files that would be lost; worth asking for all of them before the first is written.

        Raises:
            ConfigError: one is there that featherseg did not write, or that was edited since.
        """
        lost = [path for path in paths if not self.replaceable(path)]
        if lost:
            more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
            raise ConfigError(
                f"{lost[0]}{more} exists and is not as featherseg wrote it, so it is not replaced; write elsewhere, or "
                "move it away first"
            )

    def replaceable(self, path: Path) -> bool:
        """Return whether nothing of a person's is at `path`; devices and folders are not judged here."""
        if not path.is_file():
            return not path.is_symlink() or path.exists()
        digests = self._record(path.parent).get(path.name, set())
        return bool(digests) and sha256(path) in digests

    def write(self, path: Path, write: Callable[[BinaryIO], object]) -> Path:
        """Write a file as :func:`featherseg.core.files.write_atomically` does, and remember it as featherseg's.

        Raises:
            ConfigError: a person's file is there.
        """
        self.require([path])
        return write_atomically(path, write, finished=lambda temporary: self._note(path, sha256(temporary)))

    def remember(self, paths: Iterable[Path]) -> None:
        """Remember files that were just written by other means; those that are not there are passed over."""
        for path in paths:
            if path.is_file():
                self._note(path, sha256(path))

    def _record(self, folder: Path) -> dict[str, set[str]]:
        """Return the digests of what was written to a folder, by name: all of them, since a rename may have failed."""
        home = folder.resolve()
        with self._reading:
            if home not in self._known:
                self._known[home] = _read_record(home / RECORD_NAME)
            return self._known[home]

    def _note(self, path: Path, digest: str) -> None:
        """Add a line to a folder's record, in one write to its end: two programs at once spoil nothing."""
        digests = self._record(path.parent).setdefault(path.name, set())
        if digest in digests:
            return
        name = path.name.encode("unicode_escape").decode()  # names on disk may hold line ends and half characters
        handle = os.open(path.parent.resolve() / RECORD_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        with os.fdopen(handle, "ab") as file:
            file.write(f"\n{digest}  {name}".encode())  # the line end first: a full disk may have cut the last line
        digests.add(digest)


def _read_record(path: Path) -> dict[str, set[str]]:
    known: dict[str, set[str]] = defaultdict(set)
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in filter(None, lines):
        digest, _, name = line.partition("  ")
        known[name.encode("ascii", "replace").decode("unicode_escape", "replace")].add(digest)
    return known


@contextmanager
def writing(*paths: str | Path | None) -> Iterator[None]:
    """Let the block write files that are not there yet or are featherseg's, and remember them.

    Args:
        paths: of all that it may write; None is passed over.

    Raises:
        ConfigError: before the block is entered: one of them is a person's.
    """
    outputs, files = Outputs(), [Path(path).expanduser() for path in paths if path is not None]
    outputs.require(files)
    try:
        yield
    finally:  # a video that was cut short is there and can be played
        outputs.remember(files)
