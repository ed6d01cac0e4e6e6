"""What one process does: blocks of pictures become masks, and a file of the index each. It knows nothing of Ray."""

from __future__ import annotations

import hashlib
import io
import posixpath
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np

from ..core.errors import DataError, FeathersegError, first_line
from ..core.files import write_atomically
from ..core.images import read_image, write_image, write_mask
from ..core.text_files import shortened
from ..evaluation.opening import open_segmenter
from ..runtime.prediction import Prediction
from ..runtime.segmenter import Segmenter
from .index import PART, Index, Row, Tally, tally
from .listing import Picture
from .places import MOST_BYTES, Options, Place, place_of
from .results import MASKS, OVERLAYS, PENDING, Note, Record, Results, block_id, unwritable
from .tables import RowReader

AHEAD = 4
"""Pictures whose bytes are fetched, and results that are written, while another is segmented."""


@dataclass(frozen=True)
class Model:
    """A network that processes open, on this machine or others.

    Args:
        path: of its file or run folder.
        content: of the file, where it travels with the work; else each machine must have it at `path`.
    """

    path: str
    content: bytes | None = None

    def open(self, **options: Any) -> Segmenter:
        """Open it; `options` are those of :func:`featherseg.open_segmenter`.

        Raises:
            FeathersegError: it cannot be used.
        """
        return open_segmenter(self.path if self.content is None else self._unpacked(self.content), **options)

    def _unpacked(self, content: bytes) -> Path:
        """Return a file of the content, one for all processes of the machine's user."""
        digest = hashlib.sha256(content).hexdigest()
        folder = Path(tempfile.gettempdir()) / f"featherseg-{digest[:20]}"
        file = folder / Path(self.path).name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            write_atomically(file, lambda stream: stream.write(content))
        return file


@dataclass(frozen=True)
class Job:
    """What is done with each picture.

    Args:
        model: the network.
        record: what it is done with.
        results: where to.
        call: which call of the program this is.
        column: of pictures in Parquet tables.
        threads: of the engine.
        replaceable: results that a call before, which did not end well, may have left.
        options: of the object stores that pictures are in.
    """

    model: Model
    record: Record
    results: Results
    call: str
    column: str = ""
    threads: int = 1
    replaceable: frozenset[str] = frozenset()
    options: Options = field(default_factory=dict)


class Worker:
    """Segments blocks of pictures, one after the other.

    Args:
        job: what is done.

    Raises:
        FeathersegError: the network cannot be opened.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        cv2.setNumThreads(job.threads)  # else each of many workers would resize with all cores
        self.segmenter = job.model.open(size=job.record.size, fit=job.record.fit, threads=job.threads)
        self.segmenter.confidence = job.record.confidence
        self.place = job.results.place
        self.index = Index(job.results.index, job.record.classes)
        self._rows = RowReader(job.column, job.options)
        self._pool = ThreadPoolExecutor(AHEAD)

    def __call__(self, block: Sequence[Picture]) -> Tally:
        """Do a block, unless it is complete, enter it into the index, and return the sums over it.

        A worker that ends on a block, as for want of memory, leaves a note. Whoever takes the block up then notes each
        picture before it begins it; a picture that ends a worker again gets an error, and its block goes on.

        Raises:
            DataError: results cannot be written.
        """
        ident = block_id([picture.path for picture in block])
        part, pending = f"{PART}{ident}.parquet", self.index.folder / f"{PENDING}{ident}.json"
        try:
            if (self.index.folder / part).exists():
                return tally(self.index.read(part))
            note = self._begin(pending, block)
            rows = self._segmented(block, note, pending)
            self.index.write(part, rows)
            pending.remove()
        except OSError as error:
            raise unwritable(self.place.address, error) from error
        return tally(rows)

    def _begin(self, pending: Place, block: Sequence[Picture]) -> Note:
        """Return the note of a block, written down."""
        files = tuple(file for picture in block for file in self._files(picture))
        note = Note(self.job.call, files=files)
        if pending.exists():
            try:
                before = Note.from_json(pending.read())
            except ValueError:
                before = note
            note = before.again() if before.call == note.call else note
        pending.write(note.to_json())
        return note

    def _files(self, picture: Picture) -> list[str]:
        """Return the results of a picture, within their folder."""
        overlays = [f"{OVERLAYS}/{picture.name}.jpg"] * self.job.record.overlays
        return [f"{MASKS}/{picture.name}.png", *overlays]

    def _segmented(self, block: Sequence[Picture], note: Note, pending: Place) -> list[Row]:
        """Return the rows of a block's pictures, whose results are written.

        Raises:
            OSError: they cannot be.
        """
        rows: list[Row] = []
        writes: deque[Future[None]] = deque()
        may_replace = self.job.replaceable.union(note.files if note.tries > 1 else ())
        for picture, fetch in self._fetched(block):
            if picture.path in note.bad:
                rows.append(Row(picture.path, error="it ended the process that segmented it, twice; make it smaller"))
                continue
            if note.tries > 1:
                pending.write(replace(note, now=picture.path).to_json())
            row, files = self._one(picture, fetch, may_replace)
            rows.append(row)
            writes += [self._pool.submit((self.place / name).write, data) for name, data in files.items()]
            while len(writes) > AHEAD:
                writes.popleft().result()
        for write in writes:
            write.result()
        return rows

    def _fetched(self, block: Sequence[Picture]) -> Iterator[tuple[Picture, Callable[[], bytes]]]:
        """Give the pictures with what returns their bytes, those of the next ones being fetched meanwhile."""

        def fetch(picture: Picture) -> Callable[[], bytes]:
            if picture.error:
                return partial(_refuse, picture.error)
            if picture.table:  # rows are read in their order
                return partial(self._rows.read, picture.table, picture.group, picture.row)
            return self._pool.submit(self._read, picture.path).result

        waiting: deque[tuple[Picture, Callable[[], bytes]]] = deque()
        for picture in block:
            waiting.append((picture, fetch(picture)))
            if len(waiting) > AHEAD:
                yield waiting.popleft()
        while waiting:  # emptied one by one: what was given is not held
            yield waiting.popleft()

    def _read(self, address: str) -> bytes:
        return place_of(address, self.job.options).read(MOST_BYTES)

    def _one(
        self, picture: Picture, fetch: Callable[[], bytes], may_replace: Iterable[str]
    ) -> tuple[Row, dict[str, bytes]]:
        """Return a picture's row, and its results by name; with an error in the row there are none."""
        try:
            image = read_image(posixpath.basename(picture.path), fetch())
            prediction: Prediction = self.segmenter(image)
            files = self._encoded(picture, prediction)
            for name in files:
                if name not in may_replace and (self.place / name).exists():
                    raise DataError(f"{name} exists and is not of this index, so it is not replaced; move it away")
        except FeathersegError as error:
            return Row(picture.path, error=_line(str(error))), {}
        except FileNotFoundError:
            return Row(picture.path, error="it does not exist any more"), {}
        except MemoryError:
            return Row(picture.path, error="there is not enough memory for it; make it smaller"), {}
        except OSError as error:
            return Row(picture.path, error=_line(f"it cannot be read ({error.strerror or error})")), {}
        except Exception as error:  # an engine's, which may be of any type, on this picture alone
            return Row(
                picture.path, error=_line(f"it cannot be segmented ({type(error).__name__}: {first_line(error)})")
            ), {}
        height, width = prediction.mask.shape
        sure = None if prediction.confidence is None else float(prediction.confidence.mean(dtype=np.float64))
        return Row(picture.path, self._files(picture)[0], height, width, prediction.coverage(), sure), files

    def _encoded(self, picture: Picture, prediction: Prediction) -> dict[str, bytes]:
        """Return the files of a prediction."""
        record, found = self.job.record, {}

        def keep(path: Path, write: Callable[[BinaryIO], object]) -> Path:
            stream = io.BytesIO()
            write(stream)
            found[path.as_posix()] = stream.getvalue()
            return path

        mask, *overlays = self._files(picture)
        write_mask(mask, prediction.mask, prediction.classes, keep)
        for overlay in overlays:
            write_image(overlay, prediction.overlay(alpha=record.alpha, background=record.background), keep)
        return found


def _refuse(why: str) -> bytes:
    raise DataError(why)


def _line(text: str) -> str:
    return shortened(" ".join(text.split()), 500)
