"""The networks that a server offers, by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from ..core.errors import ConfigError, did_you_mean
from ..core.machine import available_threads
from ..core.types import ClassSet
from ..evaluation.opening import open_segmenter
from ..runtime.artifact import Artifact
from ..runtime.fitting import Fit
from ..runtime.model_folder import is_model_folder, main_file
from ..runtime.postprocess import kernels
from ..runtime.segmenter import Segmenter
from .limits import Refusal

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""What can stand in an address without being quoted."""
WARM_UP_SIZE = (256, 512)


@dataclass(frozen=True)
class ServedModel:
    """A network under its name, open twice: for one request among others, and for one alone.

    Threads that share a picture wait for one another: with a thread for each of several pictures a machine segments
    more of them (docs/tutorials/server.md has figures). A picture that is alone is done sooner with all threads.

    Args:
        name: in addresses.
        source: what was opened.
        shared: the segmenter that workers use at once.
        alone: the segmenter of a picture that nothing else is segmented beside.
    """

    name: str
    source: Path
    shared: Segmenter
    alone: Segmenter
    _locks: dict[int, Lock] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for each in (self.shared, self.alone):
            if not each.session.thread_safe:
                self._locks[id(each.session)] = Lock()

    @property
    def artifact(self) -> Artifact:
        """What the network says of itself."""
        return self.shared.artifact

    @property
    def classes(self) -> ClassSet:
        """The classes that masks are of."""
        return self.artifact.classes

    @property
    def has_logits(self) -> bool:
        """Whether whole logits belong to a picture; to letterboxed and tiled ones none do."""
        return self.shared.fit in (None, "stretch")

    def segmenter(self, alone: bool) -> Segmenter:
        """Return the segmenter to use."""
        return self.alone if alone else self.shared

    def using(self, segmenter: Segmenter) -> AbstractContextManager[Any]:
        """Return what to hold while a segmenter runs, where its engine takes one picture at a time."""
        return self._locks.get(id(segmenter.session)) or nullcontext()

    def facts(self) -> dict[str, Any]:
        """Return what it says of itself, of JSON types only."""
        said = self.artifact
        return {
            "name": self.name,
            "network": said.network,
            "parameters": said.params,
            "stride": said.stride,
            "size": list(self.shared.size) if self.shared.size else None,
            "device": self.shared.device,
            "classes": said.classes.to_dict(),
        }


class Models:
    """All networks of a server.

    Args:
        models: with different names.

    Raises:
        ConfigError: there is none, or two have one name.
    """

    def __init__(self, models: Sequence[ServedModel]) -> None:
        self._by_name = {model.name: model for model in models}
        if not models:
            raise ConfigError("there is no model to serve; name at least one, such as street.onnx")
        if len(self._by_name) < len(models):
            names = [model.name for model in models]
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigError(f"two models are called {twice!r}; name them, as in left={twice}.onnx right={twice}.onnx")

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._by_name.values())

    def get(self, name: str) -> ServedModel:
        """Return the model of a name.

        Raises:
            Refusal: there is none.
        """
        if name not in self._by_name:
            raise Refusal(404, f"unknown model {name[:100]!r}; {did_you_mean(name[:100], self._by_name)}")
        return self._by_name[name]


def open_models(
    sources: Sequence[str | Path],
    *,
    workers: int,
    size: tuple[int, int] | None = None,
    fit: Fit | None = None,
    backend: str = "auto",
    precision: str | None = None,
) -> Models:
    """Open networks, and run each once, so that the first request waits for nothing.

    Args:
        sources: what :func:`featherseg.open_segmenter` opens, or model folders; ``NAME=SOURCE`` gives a name, which is
            otherwise the file's or folder's own.
        workers: pictures that are segmented at once, which share the processor's threads.
        size: see :func:`featherseg.open_segmenter`, as the next three.
        fit: how pictures come to `size`.
        backend: engine.
        precision: what it computes in.

    Raises:
        ConfigError: a name cannot stand in an address, or two models have one; and as for opening.
        ArtifactError, CheckpointError: a file cannot be used.
    """
    threads = available_threads()
    options: dict[str, Any] = {"size": size, "fit": fit, "backend": backend, "precision": precision}
    opened = []
    for name, source in map(named_source, sources):
        alone = open_segmenter(source, threads=threads, **options)
        # Divided, not opened with fewer threads: OpenVINO computes what is open with one thread on one core, however
        # many ask.
        shared = alone.divided(workers) if workers > 1 else alone
        if shared is alone and workers > 1 and threads > 1:
            shared = open_segmenter(source, threads=max(threads // workers, 1), **options)
        for each in (shared, alone):
            each.confidence = True  # computed for answers that tell of it
        model = ServedModel(name, source, shared, alone)
        warm_up(model)
        opened.append(model)
    return Models(opened)


def named_source(word: str | Path) -> tuple[str, Path]:
    """Return the name and the path that a word of the command line stands for.

    Raises:
        ConfigError: the name cannot stand in an address, or the model folder is not whole.
    """
    given, _, rest = str(word).partition("=")
    if rest and not Path(word).exists():
        name, path = given, Path(rest).expanduser()
    else:
        path = Path(word).expanduser()
        name = path.name.replace(":", "-") if path.is_dir() or ":" in path.name else path.stem
    if is_model_folder(path):
        path = main_file(path)
        name = given if rest else path.stem
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot stand in an address; give a name of letters and digits, as in street={path}"
        )
    return name, path


def warm_up(model: ServedModel) -> None:
    """Run a network once: engines plan at the first picture, and kernels of a new installation are compiled."""
    kernels(None)
    frame = np.zeros((*(model.shared.size or WARM_UP_SIZE), 3), np.uint8)
    for segmenter in (model.shared, model.alone):
        segmenter.segment(frame)
