"""The log of a run, a row for each epoch; read without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import CheckpointError, first_line
from ..core.text_files import parse_json, read_text

MAX_LOG_BYTES = 64 << 20
"""Largest log that is read; an epoch's row has about 500 bytes."""


def read_log(run: str | Path) -> list[dict[str, Any]]:
    """Return the rows of a run's ``log.jsonl``, one per epoch."""
    file = Path(run) / "log.jsonl"
    if not file.is_file():
        raise CheckpointError(f"{run} holds no log.jsonl; give a run folder")
    try:
        rows = [parse_json(line) for line in read_text(file, MAX_LOG_BYTES).splitlines()]
    except ValueError as error:
        raise CheckpointError(f"{file} is damaged ({first_line(error)}); remove the broken line") from error
    if wrong := next((n for n, row in enumerate(rows, 1) if not _is_row(row)), None):
        raise CheckpointError(f"{file} is damaged (line {wrong} is no row of an epoch); remove the broken line")
    return rows


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and type(row.get("epoch")) is int
