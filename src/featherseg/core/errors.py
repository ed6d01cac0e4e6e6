"""What a user can get wrong, as exceptions.

Every message is one line: what was wrong, its value, and what to do. The command line prints it and
exits with code 2; a traceback always means a defect of featherseg.

::

    FeathersegError
    ├── ConfigError          a setting, name or argument
    ├── DataError            a file or folder of images and masks
    │   ├── UndecidedError       several things that a folder may mean; ``details`` lists them
    │   └── TooLargeError        a picture of more pixels than are taken
    ├── CheckpointError      a run folder or its weights
    │   └── UnfitWeightsError    weights of another network
    ├── ArtifactError        an exported file
    ├── MissingExtraError    a package of an optional extra
    ├── DownloadError        a file of an address, which is not to be had or is another
    ├── MachineError         a full disk, a killed process, no memory
    ├── TrainingDivergedError    a loss that is not finite
    └── VerificationError    an exported file that does not do what the network does (exit code 1)
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from difflib import get_close_matches
from types import ModuleType


class FeathersegError(Exception):
    """Base of all errors a user can mend; ``exit_code`` is what the command line ends with.

    Example:
        >>> try:
        ...     featherseg.create_model("fastsegnett", 19)
        ... except featherseg.FeathersegError as error:
        ...     print(error)
        unknown network 'fastsegnett'; did you mean "fastsegnet"?
    """

    exit_code = 2
    details: tuple[str, ...] = ()
    """Lines to be shown below the message, such as what there is to choose from."""


class ConfigError(FeathersegError, ValueError):
    """A setting, name or argument is unknown or out of range."""


class DataError(FeathersegError, ValueError):
    """An image, mask, split file or dataset folder cannot be used as it is."""


class UndecidedError(DataError):
    """A folder may mean several things, and only its owner knows which.

    Args:
        message: one line: what is undecided, and which setting decides.
        details: the choices, a line each; lines that begin with a space belong to the one above.
    """

    def __init__(self, message: str, details: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.details = tuple(details)


class TooLargeError(DataError):
    """A picture has more pixels than are taken."""


class CheckpointError(FeathersegError, ValueError):
    """A run folder or weights file cannot be used as it is."""


class UnfitWeightsError(CheckpointError):
    """Weights are another network's than the one they were to fill."""


class ArtifactError(FeathersegError, ValueError):
    """An exported file cannot be used as it is."""


class MissingExtraError(FeathersegError, ImportError):
    """A feature needs a package of an optional extra that is not installed."""


class DownloadError(FeathersegError, OSError):
    """A file cannot be fetched from its address, or is not the one that was pinned."""


class MachineError(FeathersegError, RuntimeError):
    """The machine let a training down; what it left behind can be gone on from."""


class TrainingDivergedError(FeathersegError, ArithmeticError):
    """The loss is no finite number any more."""


class VerificationError(FeathersegError):
    """An exported file was run and does not do what the network does."""

    exit_code = 1


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the closest of `known` as a question, else all of them: always helpful, one line.

    >>> did_you_mean("fastsegnett", ["fastsegnet", "jetnet"])
    'did you mean "fastsegnet"?'
    >>> did_you_mean("zzz", ["fastsegnet", "jetnet"])
    'known: fastsegnet, jetnet'
    """
    names = sorted(known)
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    return f'did you mean "{close[0]}"?' if close else f"known: {', '.join(names)}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error of another library, or its type where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import `module`, or raise a sentence that names the extra it belongs to.

    Args:
        module: dotted import name, such as ``"torch"``.
        extra: the featherseg extra that installs it.
        purpose: start of the sentence, such as ``"Training"``.

    Raises:
        MissingExtraError: the module (or one it imports) is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(f'{purpose} needs: pip install "featherseg[{extra}]" ({first_line(error)})') from error
