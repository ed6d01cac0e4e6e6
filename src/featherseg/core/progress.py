"""What people see while they wait: bars with rates and time left, on standard error."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

console = Console(stderr=True)
"""Where progress and notes go; results go to standard output."""


@contextmanager
def bars(*columns: str, quiet: bool = False) -> Iterator[Progress]:
    """Show bars with done/total, share, the given columns (rich markup over task fields) and time left."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        *(TextColumn(column) for column in columns),
        TimeRemainingColumn(compact=True),
        console=console,
        disable=quiet,
        transient=True,
    )
    with progress:
        yield progress


@contextmanager
def counting(description: str, total: int, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Show one bar; the yielded function takes the number done so far."""
    with bars("{task.fields[rate]}", quiet=quiet) as progress:
        task = progress.add_task(description, total=total, rate="")

        def update(done: int) -> None:
            speed = progress.tasks[task].speed
            progress.update(task, completed=done, rate=f"{speed:.1f}/s" if speed else "")

        yield update


def say(text: str, quiet: bool = False) -> None:
    """Show a line of text on standard error, unless `quiet`."""
    if not quiet:
        # Names and paths may hold brackets, which rich would take for markup; logs have no width to wrap at.
        console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def silenced() -> Iterator[None]:
    """Silence a library that prints, warns and logs, such as an exporter; its errors still come as exceptions."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
