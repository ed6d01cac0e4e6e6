"""Fetching a file of known content: pinned address, size and SHA-256; whole or not at all, and gone on with later."""

from __future__ import annotations

import http.client
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from ..core.errors import CheckpointError, DownloadError, first_line
from ..core.files import sha256 as digest_of
from ..core.lock import folder_lock
from ..core.progress import OnProgress, no_progress

PIECE = 1 << 16
TIMEOUT = 30
"""Seconds without a byte after which a server counts as gone."""
PARTIAL = ".part"
"""Ending of what has come so far; a later call goes on with it."""


def download(url: str, path: Path, *, size: int, sha256: str, progress: OnProgress = no_progress) -> Path:
    """Fetch a file, or go on with one that broke off before.

    Args:
        url: its address, ``https://`` (or ``http://`` to this machine).
        path: where it shall be; its folder is made.
        size: bytes it has.
        sha256: of its content, in hexadecimal digits.
        progress: called with the numbers of bytes that have come and of all.

    Returns:
        `path`.

    Raises:
        DownloadError: it cannot be fetched, or is not what it should be; what came of the right file stays for later.
    """
    address = urlsplit(url)
    if address.scheme != "https" and address.hostname not in ("127.0.0.1", "localhost"):
        raise DownloadError(f"{url} is no https address; weights are fetched over https alone")
    if path.is_file() and path.stat().st_size == size and digest_of(path) == sha256:
        return path
    with _alone(path.parent):
        part = path.with_name(path.name + PARTIAL)
        try:
            _fetch(url, part, size, progress)
        except (URLError, http.client.HTTPException, OSError, ValueError) as error:
            reason = first_line(error)
            if isinstance(error, HTTPError):
                reason = f"HTTP status {error.code}"
                error.close()  # it is the answer, too
            raise DownloadError(
                f"{url} cannot be fetched ({reason}); fetch it by other means and put it at {path}, or name its folder "
                "in the variable FEATHERSEG_WEIGHTS"
            ) from error
        if (found := digest_of(part)) != sha256:
            part.unlink()
            raise DownloadError(
                f"{url} gave another file than the pinned one (SHA-256 {found[:12]}…, not {sha256[:12]}…); nothing was "
                "kept"
            )
        part.replace(path)
    return path


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from writing into the same part."""
    with ExitStack() as stack:
        try:
            stack.enter_context(folder_lock(folder))
        except CheckpointError as error:
            raise DownloadError(f"another process fetches files into {folder}; wait for it, then try again") from error
        yield


def _fetch(url: str, part: Path, size: int, progress: OnProgress) -> None:
    """Append what is missing of a file; begin anew where the server does not go on, or what is there is too much."""
    done = part.stat().st_size if part.is_file() else 0
    if done >= size:
        part.unlink()
        done = 0
    request = Request(url, headers={"User-Agent": "featherseg", **({"Range": f"bytes={done}-"} if done else {})})
    with urlopen(request, timeout=TIMEOUT) as response:
        if done and response.status != http.HTTPStatus.PARTIAL_CONTENT:
            done = 0
        with part.open("r+b" if done else "wb") as file:
            file.seek(done)
            while piece := response.read(PIECE):
                done += len(piece)
                if done > size:
                    file.truncate(0)
                    raise ValueError(f"it has more than the {size} bytes it should have")
                file.write(piece)
                progress(done, size)
            file.flush()
            os.fsync(file.fileno())
    if done < size:
        raise ValueError(f"it broke off after {done} of {size} bytes; try again, which goes on from there")
