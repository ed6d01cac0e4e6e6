"""The command line: each command parses, makes one call of the library, and prints.

Heavy imports stand inside the commands, so that ``--help`` answers at once and the base install suffices for
all that needs no training.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from cyclopts import CycloptsError

from ..core.errors import FeathersegError
from ..core.text_files import shortened

# Commands register themselves.
from . import (  # noqa: F401
    bench,
    compress,
    convert,
    doctor,
    evaluate,
    export,
    info,
    label,
    pick,
    predict,
    serve,
    ship,
    soup,
    train,
    web,
    weights,
)
from .app import app

VERBOSE = "--verbose"
MAX_LINE = 1000
"""Characters of an error that are shown; a value in it can be as long as its file."""


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line, or `words` as one.

    Exit codes: 0 done, 1 verification failed or findings of the doctor, 2 a mistake of the user's, 130 interrupted.
    ``--verbose``, anywhere, prints where an error came from before its line.
    """
    words = list(sys.argv[1:] if words is None else words)
    verbose = VERBOSE in words
    words = _with_lines([word for word in words if word != VERBOSE])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop ends things as Ctrl-C does
    for stream in (sys.stdout, sys.stderr):  # names can hold what the terminal's encoding, or any, cannot say
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(words, exit_on_error=False, print_error=False, result_action="return_value")
        if sys.stdout is not None:  # as it is where the caller closed it
            sys.stdout.flush()  # a full disk is told here, not as a complaint of Python's at its end
    except CycloptsError as error:
        command = " ".join(["featherseg", *(error.command_chain or ())])
        message = str(error).partition(" Available commands:")[0]
        _stop(f"{message.strip().rstrip('.')}; see {command} --help", 2)
    except FeathersegError as error:
        if verbose:
            traceback.print_exc()
        _stop(str(error), error.exit_code, error.details)
    except BrokenPipeError:  # the reader has seen enough; Python would complain again at its end
        _drop_output()
        sys.exit(1)
    except OSError as error:
        _drop_output()
        _stop(f"{error.filename or 'system'}: {error.strerror or error}; check path, rights and free space", 2)
    except MemoryError:
        _stop("out of memory; close other programs, or give smaller images, batches or a smaller --size", 2)
    except KeyboardInterrupt:
        _ignore_signals()
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _with_lines(words: Sequence[str]) -> list[str]:
    """Return the words with ``--json NAME.jsonl`` as ``--lines NAME.jsonl``: the parser's ``--json`` takes no value."""
    found = list(words)
    for i, word in enumerate(found):
        if word == "--json" and i + 1 < len(found) and found[i + 1].lower().endswith(".jsonl"):
            found[i] = "--lines"
        elif word.startswith("--json=") and word.lower().endswith(".jsonl"):
            found[i] = word.replace("--json", "--lines", 1)
    return found


def _drop_output() -> None:
    """Let what standard output still holds go nowhere, if it cannot be written where it should."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _ignore_signals() -> None:
    """Let a second signal, which launchers send, not interrupt the end."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)


def _stop(message: str, code: int, details: Sequence[str] = ()) -> NoReturn:
    _ignore_signals()
    for line in ("error: " + " ".join(message.split()), *details):
        # Files of strangers give names, and a terminal obeys control characters.
        shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shortened(line, MAX_LINE))
        print(shown, file=sys.stderr)
    sys.exit(code)
