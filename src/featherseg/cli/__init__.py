"""The command line: each command parses, makes one call of the library, and prints.

Heavy imports stand inside the commands, so that ``--help`` answers at once and the base install suffices for
all that needs no training.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from cyclopts import CycloptsError

from ..errors import FeathersegError
from . import listing, proving, segmenting, shipping, training
from .app import app

__all__ = ["listing", "main", "proving", "segmenting", "shipping", "training"]


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line, or `words` as one.

    Exit codes: 0 done, 1 verification failed, 2 a mistake of the user's, 130 interrupted.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop ends things as Ctrl-C does
    try:
        app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        command = " ".join(["featherseg", *(error.command_chain or ())])
        _stop(f"{str(error).strip().rstrip('.')}; see {command} --help", 2)
    except FeathersegError as error:
        _stop(str(error), error.exit_code)
    except BrokenPipeError:  # the reader has seen enough; Python would complain again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _stop(f"{error.filename or 'system'}: {error.strerror or error}; check path, rights and free space", 2)
    except KeyboardInterrupt:
        _ignore_signals()
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _ignore_signals() -> None:
    """Let a second signal, which launchers send, not interrupt the end."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)


def _stop(message: str, code: int) -> NoReturn:
    _ignore_signals()
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
