"""The log of a run, a row for each epoch; read and said without torch."""

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


def row_text(row: dict[str, Any], epochs: int, end: str = "") -> str:
    """Return a row as a line: loss, scores, images per second of training, and seconds with validation among them.

    Args:
        row: of an epoch.
        epochs: of the run.
        end: when it will end, where that is known.
    """
    scores = ""
    if "miou" in row:
        one = " (of one class)" if sum(iou is not None for iou in row["iou"].values()) == 1 else ""
        scores = f"val mIoU {100 * row['miou']:5.2f}{one}  "
    scores += f"sure of {100 * row['sure']:.0f} %  " if "sure" in row else ""
    seconds = row["seconds"] + (look := row.get("validation_seconds", 0.0))
    parts = f" ({look:.0f} of it validation)" if look >= 0.5 else ""
    return (
        f"epoch {row['epoch']:3}/{epochs}  loss {row['loss']:.4f}  {scores}"
        f"{row['images_per_second']:.1f} images/s  {seconds:.0f} s{parts}{'  ' if end else ''}{end}"
    )


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and type(row.get("epoch")) is int
