"""The figures of a report as rows of text, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from ...core import formatting
from .figures import ShipReport

Rows = tuple[Sequence[str], list[Sequence[str]]]
"""Columns' names, and rows."""


def step_rows(report: ShipReport) -> Rows:
    """Return what each step cost and saved."""
    columns = ("step", "mIoU", "boundary F1", "M params", "GMACs", "size", "p50 ms", "")
    rows: list[Sequence[str]] = [
        (
            step.name,
            formatting.percent(step.miou),
            formatting.percent(step.boundary_f1),
            f"{step.params / 1e6:.2f}",
            formatting.fixed(step.gmacs, 3),
            formatting.size(step.bytes),
            formatting.fixed(step.latency_p50_ms, 1),
            "kept" if step.kept else "rolled back",
        )
        for step in report.steps
    ]
    return columns, rows


def file_rows(report: ShipReport) -> Rows:
    """Return what came out, and what it was found to be."""
    columns = ("file", "precision", "mIoU", "boundary F1", "agreement", "size", "p50 ms", "p99 ms", "")
    rows: list[Sequence[str]] = [
        (
            file.name,
            file.precision,
            formatting.percent(file.miou),
            formatting.percent(file.boundary_f1),
            formatting.share(file.agreement),
            formatting.size(file.bytes),
            formatting.fixed(file.latency("total", "p50"), 1),
            formatting.fixed(file.latency("total", "p99"), 1),
            "failed" if not file.passed else "slower than fp32, not recommended" if file.slower else "passed",
        )
        for file in report.files
    ]
    return columns, rows
