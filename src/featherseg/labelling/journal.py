"""What was found out about each image, in a file that a killed call leaves behind and the next one goes on from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..core.files import write_atomically
from ..core.text_files import parse_json, read_text
from .look import Look

NAME = ".featherseg-label.jsonl"
"""Hidden, since it is of no use to people; nobody else has a file of that name."""
MAX_BYTES = 2 << 30
"""Largest file that is read; an image has about 2 kB."""

Stamp = list[int]
"""Time of the last change in nanoseconds, and size in bytes."""


class Journal:
    """A line for each image, as it was looked at with some settings; lines of other settings do not count.

    Args:
        file: is made or gone on with.
        settings: network, thresholds and the like, of JSON types.
    """

    def __init__(self, file: Path, settings: dict[str, Any]) -> None:
        self.file = file
        self._known: dict[str, tuple[Stamp, str, Look]] = {}
        head = json.dumps(settings, sort_keys=True)
        lines = _lines(file)
        if lines[:1] == [head]:
            for line in lines[1:]:
                self._take(line)
            torn = bool(lines) and not file.read_bytes().endswith(b"\n")
            if torn:  # by a kill in the middle of a line, to which the next one would be glued
                write_atomically(file, lambda out: out.write(("\n".join(lines[:-1]) + "\n").encode()))
        else:
            write_atomically(file, lambda out: out.write(f"{head}\n".encode()))

    def find(self, name: str, image: Path, digest: str) -> Look | None:
        """Return what is known of an image that did not change, and whose mask has still this digest."""
        stamp, known, look = self._known.get(name, ([], "", None))
        return look if known == digest and stamp == _stamp(image) else None

    def add(self, name: str, image: Path, digest: str, look: Look) -> None:
        """Remember an image."""
        row = {"image": name, "stamp": _stamp(image), "mask": digest, **look.to_dict()}
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")

    def _take(self, line: str) -> None:
        try:
            row = parse_json(line)
            self._known[str(row["image"])] = row["stamp"], str(row["mask"]), Look.from_dict(row)
        except (ValueError, KeyError, TypeError):  # torn or edited: the image is looked at again
            return


def _lines(file: Path) -> list[str]:
    try:
        return read_text(file, MAX_BYTES).splitlines()
    except (OSError, ValueError):
        return []


def _stamp(image: Path) -> Stamp:
    stat = image.stat()
    return [stat.st_mtime_ns, stat.st_size]
