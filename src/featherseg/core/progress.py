"""What people see while they wait: bars with rates and time left, and notes, on standard error.

The library prints nothing by itself. It logs notes to the logger ``featherseg`` and offers its progress to bars that
show only after :func:`show_progress`, which is the first thing that the command line does.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

logger = logging.getLogger("featherseg")
"""The one logger: INFO for what is done and decided, WARNING for what a user should act on."""

console = Console(stderr=True)
"""Where progress and notes go; results go to standard output."""

OnProgress = Callable[[int, int], None]
"""Called with the number of steps done and of all."""


def no_progress(done: int, total: int) -> None:
    """Report to nobody."""


class _Notes(logging.Handler):
    """Shows notes between the bars."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a note's text."""
        # Names and paths may hold brackets, which rich would take for markup; logs have no width to wrap at.
        console.print(record.getMessage(), markup=False, highlight=False, soft_wrap=True)


_notes = _Notes()
_bars_are_shown = False


def show_progress(enabled: bool = True) -> None:
    """Show progress bars and notes on standard error from now on; of what needs action, with `enabled` false, too.

    For programs and notebooks that want what the command line shows. Those that log have no need of it: the notes go
    to the logger ``featherseg``.

    For example:

        >>> import featherseg
        >>> featherseg.show_progress()
        >>> featherseg.show_progress(False)  # warnings alone, as after --quiet

    Args:
        enabled: whether bars and notes are shown, or warnings alone.
    """
    global _bars_are_shown
    _bars_are_shown = enabled
    logger.setLevel(logging.INFO if enabled else logging.WARNING)
    if _notes not in logger.handlers:
        logger.addHandler(_notes)


@contextmanager
def hidden(condition: bool = True) -> Iterator[None]:
    """Show neither bars nor notes while the block runs, such as in all processes of a training but the first."""
    global _bars_are_shown
    shown, level = _bars_are_shown, logger.level
    if condition:
        _bars_are_shown = False
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        _bars_are_shown = shown
        logger.setLevel(level)


def _progress(*columns: str) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        *(TextColumn(column) for column in columns),
        TimeRemainingColumn(compact=True),
        console=console,
        disable=not _bars_are_shown,
        transient=True,
    )


@contextmanager
def bars(*columns: str) -> Iterator[Progress]:
    """Offer bars with done/total, share, the given columns (rich markup over task fields) and time left."""
    with _progress(*columns) as progress:
        yield progress


@contextmanager
def counting(description: str, total: int | None = None) -> Iterator[OnProgress]:
    """Offer one bar; the yielded function takes the steps done and their total.

    Args:
        description: stands before the bar.
        total: of steps, where it is known before; else the bar appears with the first step.
    """
    progress = _progress("{task.fields[rate]}")
    task = progress.add_task(description, total=total, rate="")
    started = total is not None
    if started:
        progress.start()

    def update(done: int, total: int) -> None:
        nonlocal started
        if not started:
            started = True
            progress.start()
        speed = progress.tasks[task].speed
        progress.update(task, completed=done, total=total, rate=f"{speed:.1f}/s" if speed else "")

    try:
        yield update
    finally:
        if started:
            progress.stop()


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
