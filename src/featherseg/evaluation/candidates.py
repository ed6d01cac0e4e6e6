"""Everything here that can run a model, ready to be timed: each engine, each precision, torch for weights."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..core.errors import ArtifactError
from ..core.machine import peak_resident_bytes
from ..runtime.choose import picture
from ..runtime.engines import ANY, engines_of
from ..runtime.segmenter import Segmenter
from ..runtime.sessions.base import artifact_suffixes
from .benchmark import Contender
from .opening import open_segmenter

TORCH_PRECISIONS = ("fp32", "bf16")  # as models.session has them, which this module does not import: it needs torch
MEMORY_RUNS = 3
MEMORY_SECONDS = 300


@dataclass(frozen=True)
class Opening:
    """How a model is opened: the arguments of :func:`featherseg.evaluation.opening.open_segmenter`, as JSON types."""

    path: str
    backend: str
    precision: str | None
    threads: int | None
    size: tuple[int, int] | None

    def open(self, frame_size: tuple[int, int]) -> Segmenter:
        """Open it, on the CPU, for frames of one size, as of a video."""
        segmenter = open_segmenter(
            self.path,
            size=self.size,
            backend=self.backend,
            threads=self.threads,
            precision=self.precision,
            device="cpu",
        )
        return segmenter.planned(frame_size)


def contenders(
    models: Sequence[str | Path],
    *,
    frame_size: tuple[int, int],
    size: tuple[int, int] | None = None,
    threads: int | None = None,
    compiled: bool = False,
    memory: bool = True,
) -> list[Contender]:
    """Return everything that can run `models`: of files each engine in each precision, of weights torch.

    Args:
        models: exported files, run folders, weights.
        frame_size: (height, width) of the frames, which engines may plan for.
        size: (height, width) that frames are resized to for the network; as they are where left out.
        threads: of each engine; all that the process may use where left out.
        compiled: whether to add torch.compile for weights, which takes a minute to start.
        memory: whether the memory of each is measured, in a process of its own.

    Raises:
        ArtifactError: a model does not exist.
    """
    found = []
    for model in map(Path, models):
        if not model.exists():
            raise ArtifactError(f"{model} does not exist; give an exported file, run folder or weights file")
        if model.suffix.lower() in artifact_suffixes():
            ways = [(str(engine), engine.backend, engine.precision) for engine in engines_of(model, ANY)]
        else:
            ways = [(f"torch {precision}", "torch", precision) for precision in TORCH_PRECISIONS]
            ways += [(f"torch.compile {p}", "compiled", p) for p in TORCH_PRECISIONS * compiled]
        for name, backend, precision in ways:
            opening = Opening(str(model), backend, precision, threads, size)
            found.append(_contender(model.name, name, opening, frame_size, memory))
    return found


def _contender(file: str, engine: str, opening: Opening, frame_size: tuple[int, int], memory: bool) -> Contender:
    opened = partial(opening.open, frame_size)
    if not memory:
        return Contender(file, engine, opened)
    return Contender(file, engine, opened, partial(peak_memory, opening, frame_size))


def peak_memory(opening: Opening, frame_size: tuple[int, int]) -> int | None:
    """Return the peak memory, in bytes, of a process of its own that segments a few frames; None where unknown.

    All that the process holds is in it: Python, the engine's code, the network and its work space. Not measured in
    this process, where each engine would inherit the peak of the one before.
    """
    words = json.dumps({"opening": asdict(opening), "frame_size": list(frame_size)})
    code = "import sys; from featherseg.evaluation.candidates import report_peak; report_peak(sys.argv[1])"
    try:
        ended = subprocess.run(
            [sys.executable, "-c", code, words], capture_output=True, text=True, timeout=MEMORY_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    last = ended.stdout.split()[-1:]
    return int(last[0]) if ended.returncode == 0 and last and last[0].isdigit() else None


def report_peak(words: str) -> None:
    """Open a model, segment a few frames, and write the process's peak memory to standard output: a child's main."""
    asked = json.loads(words)
    opening = Opening(**asked["opening"] | {"size": asked["opening"]["size"] and tuple(asked["opening"]["size"])})
    height, width = asked["frame_size"]
    segmenter = opening.open((height, width))
    frame = np.ascontiguousarray(picture((height, width)))
    for _ in range(MEMORY_RUNS):
        segmenter.segment(frame)
    peak = peak_resident_bytes()
    sys.stdout.write("" if peak is None else f"{peak}\n")
