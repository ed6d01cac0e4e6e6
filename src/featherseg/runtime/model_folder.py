"""Model folders, as ``featherseg ship`` writes them: which of their files is to be run, and which could be."""

from __future__ import annotations

import json
from pathlib import Path

from ..core.errors import DataError
from .sessions.base import artifact_suffixes

LABELS = "labels.json"
"""What a model folder is known by: classes, and the main file's name."""


def is_model_folder(path: Path) -> bool:
    """Return whether a path is a model folder."""
    return (path / LABELS).is_file()


def main_file(folder: Path) -> Path:
    """Return the file that a model folder's labels name.

    Raises:
        DataError: they name none.
    """
    try:
        main = json.loads((folder / LABELS).read_text(encoding="utf-8"))["model"]
        return folder / Path(str(main)).name
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{folder / LABELS} does not say which file to run; name the file itself") from error


def model_files(path: Path) -> list[Path]:
    """Return the exported files of a model folder, by name; of anything else itself."""
    if not is_model_folder(path):
        return [path]
    suffixes = artifact_suffixes()
    return sorted(file for file in path.iterdir() if file.suffix.lower() in suffixes and file.is_file())
