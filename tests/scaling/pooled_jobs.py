"""Jobs of the pooled network, which says red, green or blue, for tests of what does them without Ray."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from artifact_fixtures import CLASSES, write_pooled
from featherseg.scaling.index import Index, Row
from featherseg.scaling.listing import Picture
from featherseg.scaling.results import Record, Results, model_digest
from featherseg.scaling.worker import Job, Model, Worker

pytest.importorskip("pyarrow", reason="the extra ray brings pyarrow")
pytest.importorskip("fsspec", reason="the extra ray brings fsspec")

PURE = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def paint(path: Path, name: str, size: tuple[int, int] = (16, 24)) -> Path:
    """A picture of one colour, (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), PURE[name], np.uint8)).save(path)
    return path


def paint_many(folder: Path, count: int) -> list[str]:
    """Pictures of the colours in turns; the names of their results, in order."""
    names = [f"{'sub/' if i % 3 == 2 else ''}p{i}" for i in range(count)]
    for i, name in enumerate(names):
        paint(folder / f"{name}.png", list(PURE)[i % 3])
    return names


def pictures(folder: Path, names: Sequence[str]) -> list[Picture]:
    return [Picture(str(folder / f"{name}.png"), name) for name in names]


def make_job(tmp_path: Path, out: str | Path, call: str = "first", **record: object) -> Job:
    """A job of the pooled network, whose folder of results is begun."""
    file = tmp_path / "pooled.onnx"
    if not file.exists():
        write_pooled(file)
    made = Record(file.name, model_digest(file), CLASSES.names, **record)
    results = Results(str(out))
    results.begin(made, resume=True)
    return Job(Model(str(file)), made, results, call)


def rows_of(job: Job) -> dict[str, Row]:
    """The rows of a job's index by path; each path is there once."""
    index = Index(job.results.index, CLASSES.names)
    rows = [row for _, part in index.read_all(index.parts()) for row in part]
    found = {row.path: row for row in rows}
    assert len(found) == len(rows)
    return found


def work(job: Job, block: Sequence[Picture]) -> dict[str, Row]:
    """Do one block, and return the rows of the whole index."""
    Worker(job)(block)
    return rows_of(job)
