"""Results as tables on standard output: colours for people, plain text for pipes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..core.formatting import DASH, percent
from ..core.types import Latency
from ..evaluation.result import EvalResult

PIPE_WIDTH = 200


def print_json(data: Any) -> None:
    """Print JSON on standard output."""
    print(json.dumps(data, indent=1))


def print_text(text: str) -> None:
    """Print a result on standard output."""
    # Names and paths may hold brackets or colons, which rich would take for markup.
    Console().print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; columns of figures stand to the right."""
    rows = list(rows)
    heading = Text(title, style="bold") if title else None
    table = Table(title=heading, title_justify="left", show_header=any(columns))
    for i, column in enumerate(columns):
        figures = all(not row[i] or row[i][0].isdigit() or row[i] == DASH for row in rows)
        table.add_column(Text(column), justify="right" if figures else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    # A pipe has no width of its own, and rich's default of 80 would break lines.
    (Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)).print(table)


def print_scores(result: EvalResult) -> None:
    """Print an evaluation: protocol, per-class scores, means."""
    columns = result.columns()
    means = f"mean, of {result.alone} alone" if result.alone else "mean"
    rows = [
        (name, *(percent(values[c]) for values, _ in columns.values())) for c, name in enumerate(result.classes.names)
    ]
    rows.append((means, *(percent(mean) for _, mean in columns.values())))
    rows.append(("pixel accuracy", percent(result.pixel_accuracy), *("",) * (len(columns) - 1)))
    print_table("", ("class", *columns), rows)
    for remark in result.remarks():
        print_text(remark)
    print_text(result.summary())


def print_latency(latency: Latency) -> None:
    """Print each stage's percentiles in milliseconds, their sum, and where they were measured."""
    data = latency.to_dict()
    rows = [(stage, *(f"{ms[q]:.1f}" for q in ("p50", "p90", "p99", "min"))) for stage, ms in data["ms"].items()]
    print_table(f"latency, ms, {latency.runs} runs", ("stage", "p50", "p90", "p99", "min"), rows)
    print_text(latency.device)
