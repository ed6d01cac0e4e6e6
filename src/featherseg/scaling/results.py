"""The folder of results: what it was made with, and which of its files may be written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, DataError
from ..core.files import sha256
from ..core.text_files import parse_json
from ..runtime.fitting import Fit
from .places import Options, Place, place_of, require_writable

RECORD = "featherseg.json"
MASKS, OVERLAYS, INDEX = "masks", "overlays", "index"
PENDING = "_pending-"


@dataclass(frozen=True)
class Record:
    """What a folder's results were made with; results of another kind are never put beside them.

    Args:
        model: name of the network's file.
        sha256: of that file, or of what makes up a run folder.
        classes: names.
        size: (height, width) that images are resized to; None where they are not.
        fit: how they come to it.
        confidence: whether it is in the index.
        overlays: whether they are written.
        alpha: share of the colours in these.
        background: whether it is coloured in them.
    """

    model: str
    sha256: str
    classes: tuple[str, ...]
    size: tuple[int, int] | None = None
    fit: Fit | None = None
    confidence: bool = True
    overlays: bool = False
    alpha: float = 0.6
    background: bool = False

    def to_json(self) -> bytes:
        """Return what :meth:`difference` compares with, as the bytes of a file."""
        return (json.dumps({"featherseg_results": 1, **asdict(self)}, indent=1) + "\n").encode()

    def difference(self, content: bytes) -> str:
        """Return how what a folder's file says differs from this, in words; empty where it does not.

        Raises:
            ValueError: the file says nothing of the kind.
        """
        told = parse_json(content.decode())
        if not isinstance(told, dict) or "featherseg_results" not in told:
            raise ValueError("it is no record of results")
        ours: dict[str, Any] = json.loads(self.to_json())
        if told.get("sha256") != ours["sha256"]:
            return f"of another network: {told.get('model')} ({str(told.get('sha256'))[:12]}…)"
        differing = [key for key in ours if told.get(key) != ours[key] and key not in ("model", "featherseg_results")]
        return f"made with {differing[0]} {told.get(differing[0])}, not {ours[differing[0]]}" if differing else ""


@dataclass(frozen=True)
class Results:
    """A folder of results.

    Args:
        address: of it.
        options: of its object store.
    """

    address: str
    options: Options = field(default_factory=dict)

    @property
    def place(self) -> Place:
        """Where it is."""
        return place_of(self.address, self.options)

    @property
    def index(self) -> Place:
        """Where its index is."""
        return self.place / INDEX

    def begin(self, record: Record, resume: bool) -> None:
        """Make the folder this record's, or find that it is.

        Args:
            record: what results are made with.
            resume: whether results of the same kind may be there.

        Raises:
            ConfigError: it holds what featherseg did not write, results of another kind, or results while `resume` is
                false.
            DataError: it cannot be read or written.
        """
        place = self.place
        require_writable(place)
        try:
            names = place.names()
            if RECORD in names:
                self._check(record, (place / RECORD).read(), resume)
                return
            if strangers := [name for name in names if not name.startswith(".")]:
                raise ConfigError(
                    f"{place.address} holds {strangers[0]!r}, which is not of such results; name another folder with -o"
                )
            (place / RECORD).write(record.to_json())
        except NotADirectoryError as error:
            raise ConfigError(f"{place.address} is a file; name a folder with -o") from error
        except OSError as error:
            raise unwritable(place.address, error) from error

    def _check(self, record: Record, content: bytes, resume: bool) -> None:
        where = self.place.address
        try:
            difference = record.difference(content)
        except ValueError as error:
            raise ConfigError(
                f"{where}/{RECORD} is not of such results ({error}); name another folder with -o"
            ) from error
        if difference and not self.index.names():  # a call that ended before its first block
            (self.place / RECORD).write(record.to_json())
            return
        if difference:
            raise ConfigError(f"{where} holds results {difference}; name another folder with -o")
        if not resume and any(name.startswith("part-") for name in self.index.names()):
            raise ConfigError(f"{where} holds results already; go on with --resume, or name another folder with -o")

    def leftovers(self) -> dict[str, tuple[str, ...]]:
        """Return the masks, by the name of the note, of blocks that an earlier call did not complete."""
        found = {}
        for name in self.index.names():
            if name.startswith(PENDING):
                try:
                    note = Note.from_json((self.index / name).read())
                except (OSError, ValueError):
                    continue
                found[name] = note.files
        return found


@dataclass(frozen=True)
class Note:
    """What is written down of a block before it is begun, and removed when it is complete.

    Args:
        call: which call of the program works on it.
        tries: how often it was begun in that call: more than once means that a worker ended on it.
        files: results that may be there afterwards.
        now: picture that is being segmented; only noted once a worker ended.
        bad: pictures that workers ended on.
    """

    call: str
    tries: int = 1
    files: tuple[str, ...] = ()
    now: str = ""
    bad: tuple[str, ...] = ()

    def again(self) -> Note:
        """Return the note of another try."""
        return replace(self, tries=self.tries + 1, now="", bad=(*self.bad, *([self.now] if self.now else [])))

    def to_json(self) -> bytes:
        """Return it as the bytes of a file."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Note:
        """Read what :meth:`to_json` gave.

        Raises:
            ValueError: it is something else.
        """
        told = parse_json(content.decode())
        try:
            return cls(
                str(told["call"]), int(told["tries"]), tuple(told["files"]), str(told["now"]), tuple(told["bad"])
            )
        except (KeyError, TypeError) as error:
            raise ValueError("it is no note of a block") from error


def block_id(paths: Sequence[str]) -> str:
    """Return what a block is called: the same for the same pictures."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:20]


def model_digest(path: Path) -> str:
    """Return the SHA-256 of a network's file; of a run folder, of its weights and what describes them.

    Raises:
        DataError: it cannot be read.
    """
    try:
        if not path.is_dir():
            return sha256(path)
        files = sorted([*path.glob("*.safetensors"), *path.glob("config.toml"), *path.glob("classes.json")])
        digest = hashlib.sha256()
        for file in files:
            digest.update(f"{sha256(file)}  {file.name}\n".encode())
        return digest.hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path") from error


def unwritable(where: str, error: OSError) -> DataError:
    """Return what is said where results cannot be written."""
    return DataError(
        f"cannot write to {where} ({error.strerror or error}); check rights and free space, or use another -o"
    )
