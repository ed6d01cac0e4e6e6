"""A lock on a folder that ends with its holder, however that ends, so that two trainings never write into one."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from .errors import CheckpointError
from .progress import logger

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK = ".lock"
"""The locked file in the folder; it says who holds it. Without a holder it locks nothing."""

NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
"""What locking fails with on file systems without it."""

_held: set[int] = set()


def _let_go() -> None:
    """Close the locks in a forked child: a data worker that outlives its killed parent must not hold them."""
    for handle in _held:
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold `folder`, which is made where it is missing, against other processes.

    Folders that were made and hold nothing at the end are removed again. On file systems without locks there is a
    line of warning instead of a lock.

    Raises:
        CheckpointError: another training holds it; the line names its process and machine.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    handle = _acquire(folder)
    _held.add(handle)
    try:
        with suppress(OSError):  # a lock on a full disk is one all the same; it only does not say whose
            os.ftruncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        if handle in _held:  # not in a forked child, where the lock is the parent's
            # The file goes before the lock: the other way round, it could be the next holder's already.
            with suppress(OSError):
                (folder / LOCK).unlink()
            _held.discard(handle)
            os.close(handle)
            with suppress(OSError):
                for place in made:
                    place.rmdir()


def _acquire(folder: Path) -> int:
    """Return the descriptor of the folder's locked file."""
    file = folder / LOCK
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        with ExitStack() as stack:
            stack.callback(os.close, handle)
            if not _try_lock(handle, folder):
                holder = os.read(handle, 500).decode(errors="replace") or "another process"
                raise CheckpointError(
                    f"{folder} is being trained by {holder}; wait for it or stop it, or choose another name or out"
                )
            # A holder that ended between our opening and locking took its file with it; ours locks nothing then.
            if file.exists() and os.path.samestat(file.stat(), os.fstat(handle)):
                stack.pop_all()
                return handle


def _try_lock(handle: int, folder: Path) -> bool:
    """Lock an open file without waiting, and return whether nobody else holds it."""
    try:
        if sys.platform == "win32":
            os.lseek(handle, 1 << 30, os.SEEK_SET)  # locked bytes cannot be read there, so not those that say who
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        logger.warning(f"warning: the file system of {folder} has no locks; start no second training into it meanwhile")
    return True
