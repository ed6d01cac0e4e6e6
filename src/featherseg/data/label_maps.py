"""The lists of names and colours that labelling programs put beside their masks."""

from __future__ import annotations

import re
from pathlib import Path

from ..core.errors import DataError, first_line
from ..core.text_files import read_text, shortened

LABEL_MAP, LABEL_COLORS, CLASS_NAMES = "labelmap.txt", "label_colors.txt", "class_names.txt"
"""CVAT's beside VOC-like masks and beside CamVid-like ones, and LabelMe's."""
NamedColor = tuple[str, tuple[int, int, int]]


def read_label_map(file: Path) -> list[NamedColor]:
    """Return names and colours of a label map, whose lines are ``name:red,green,blue:parts:actions``.

    Raises:
        DataError: it cannot be read, or a line is no such line.
    """
    entries = []
    for number, line in named_lines(file):
        parts = line.rsplit(":", 3)
        color = re.fullmatch(r"(\d{1,3}),(\d{1,3}),(\d{1,3})", parts[1].replace(" ", "")) if len(parts) == 4 else None
        if color is None:
            raise DataError(
                f"label map {file}, line {number}: {shortened(repr(line))} is no name:red,green,blue:parts:actions; "
                "correct the line"
            )
        entries.append((parts[0].strip(), (int(color[1]), int(color[2]), int(color[3]))))
    return entries


def read_label_colors(file: Path) -> list[NamedColor]:
    """Return names and colours of a list whose lines are ``red green blue name``.

    Raises:
        DataError: it cannot be read, or a line is no such line.
    """
    entries = []
    for number, line in named_lines(file):
        color = re.fullmatch(r"(\d{1,3})\s+(\d{1,3})\s+(\d{1,3})\s+(\S.*)", line)
        if color is None:
            raise DataError(
                f"colour list {file}, line {number}: {shortened(repr(line))} is no red green blue name; correct it"
            )
        entries.append((color[4].strip(), (int(color[1]), int(color[2]), int(color[3]))))
    return entries


def named_lines(file: Path) -> list[tuple[int, str]]:
    """Return the lines of a small text file that say something, with their numbers; comments begin with ``#``."""
    try:
        text = read_text(file)
    except ValueError as error:
        raise DataError(f"{file} cannot be read ({first_line(error)}); save it as UTF-8 text") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); check its rights") from error
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), start=1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]
