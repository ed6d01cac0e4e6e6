"""Files that belong together appear together or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .files import TEMPORARY


@contextmanager
def staged(path: str | Path) -> Iterator[Path]:
    """Give a path of the same name in a temporary folder; on leaving, all files written there move beside `path`.

    `path` itself moves last and an older one goes first, so that it never stands beside files of another export. If
    the block raises, or a file cannot be moved, all is as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=TEMPORARY) as folder:
        new, old = Path(folder, "new"), Path(folder, "old")
        new.mkdir()
        old.mkdir()
        yield new / path.name
        names = sorted((file.name for file in new.iterdir()), key=lambda name: name == path.name)
        for name in names:
            with (new / name).open("rb+") as stream:
                os.fsync(stream.fileno())
        try:
            for name in reversed(names):
                if (path.parent / name).exists():
                    (path.parent / name).replace(old / name)
            for name in names:
                (new / name).replace(path.parent / name)
        except BaseException:
            for name in names:
                if not (new / name).exists():
                    (path.parent / name).replace(new / name)
                if (old / name).exists():
                    (old / name).replace(path.parent / name)
            raise
