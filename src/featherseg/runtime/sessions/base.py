"""What all sessions share: their interface, their registry, and what they check of a file before they trust it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ArtifactError, ConfigError, first_line
from ...core.machine import available_threads
from ...core.registry import Registry
from ..artifact import Artifact, read_artifact


class Session(ABC):
    """A network that is ready to run, in any engine.

    A session gives :attr:`artifact`, :attr:`name`, :attr:`device` and :meth:`run`; of the rest there are defaults.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    """Of the files it reads, its own kind first; of a class with none, any file is tried."""
    thread_safe: ClassVar[bool] = False
    """Whether any number of threads may run it at once."""

    artifact: Artifact
    """What the network says of itself."""
    name: str
    """Short name of the engine."""
    device: str
    """Where and how it runs, for people: processor, threads, provider, precision, versions."""
    precision: str | None = "fp32"
    """What layers are computed in that are not integer ones; None where only the engine knows."""
    size: tuple[int, int] | None = None
    """(height, width) of a file that takes no other."""
    streams: int = 1
    """How many images it best works on at once, each run by another thread."""

    @abstractmethod
    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits (B, C, h, w) at the network's stride of RGB images, uint8 (B, H, W, 3).

        H and W are at least ``MIN_SIZE``; smaller frames are the segmenter's business.
        """

    def planned(self, size: tuple[int, int]) -> Session:
        """Return a session of the same file for images of (height, width) `size` alone, if the engine is quicker then.

        Itself where it is not.

        Raises:
            ArtifactError: the graph breaks on images of this size.
        """
        return self

    def divided(self, count: int | None = None) -> Session:
        """Return a session of the same file whose threads each have an image of their own, where they can.

        That gives more images a second, each of them later: threads that share an image wait for one another in every
        layer. Itself where there is nothing to divide.

        Args:
            count: images at once, at most; `MAX_STREAMS` where left out.

        Raises:
            ArtifactError: the file has gone in the meantime.
        """
        return self


MAX_THREADS = 1024
"""More than any processor has; engines would start them all."""
MAX_STREAMS = 4
"""Images that a divided session works on at once, at most: each holds its own activations, a hundred megabytes or so,
and comes as many times as late. From eight threads on, some of them share an image again."""

sessions: Registry[type[Session]] = Registry("backend", home="featherseg.runtime.sessions")


def open_session(path: str | Path, backend: str = "auto", **options: Any) -> Session:
    """Open an exported file.

    Args:
        path: the file.
        backend: a name in :data:`sessions`; ``"auto"`` is the one whose own kind of file it is: ONNX Runtime for
            ``.onnx``, OpenVINO for ``.xml``, TensorRT for ``.engine``, torch for ``.pt2``.
        options: of the backend, such as ``threads`` or ``precision``.

    Raises:
        ArtifactError: the file is missing, damaged, not from featherseg, or gives no logits.
        ConfigError: the backend or one of the options is unknown or out of range, the backend reads no such files, or
            this machine cannot run it.
        MissingExtraError: the backend's package is not installed.
    """
    suffix = Path(path).suffix.lower()
    if backend == "auto":
        backend = _own_backend(path, suffix)
    else:
        suffixes = sessions.get(backend).suffixes
        if suffixes and suffix not in suffixes:
            raise ConfigError(
                f"backend {backend!r} reads {' and '.join(suffixes)} files, not {path}; give one of those, or use auto"
            )
    session: Session = sessions.create(backend, path, **options)
    return session


def artifact_suffixes() -> tuple[str, ...]:
    """Return the suffixes of files that a registered session opens by itself, such as ``.onnx``."""
    return tuple(reader.suffixes[0] for reader in map(sessions.get, sessions) if reader.suffixes)


def checked_threads(threads: int | None) -> int:
    """Return `threads`, or all that the process may use; below 1 or over 1024 is a :class:`ConfigError`."""
    if threads is None:
        return available_threads()
    if not 1 <= threads <= MAX_THREADS:
        raise ConfigError(
            f"threads is {threads}; give 1 to {MAX_THREADS}, or leave it out to use all {available_threads()}"
        )
    return threads


def shares(threads: int, count: int | None = None) -> tuple[int, int]:
    """Return how many images `threads` threads best work on at once, at most `count`, and the threads of each."""
    streams = min(threads, count or MAX_STREAMS)
    return streams, threads // streams


def logits_artifact(path: str | Path) -> Artifact:
    """Return what the file says of itself, if it gives logits."""
    artifact = read_artifact(path)
    if artifact.output != "logits":
        raise ArtifactError(
            f"{path}: gives a {artifact.output}, for foreign runtimes; export it with output logits for featherseg"
        )
    return artifact


def check_ports(
    path: str | Path, artifact: Artifact, inputs: Mapping[str, str], outputs: Mapping[str, Sequence[Any]]
) -> None:
    """Refuse a graph that is not what its metadata says, before it gives wrong masks.

    Args:
        path: the file, for messages.
        artifact: what it says of itself.
        inputs: types of the inputs by name.
        outputs: shapes of the outputs by name; of dimensions that are not fixed, anything that is no number from 0.
    """
    if inputs.get("image") not in ("tensor(uint8)", "tensor(u8)") or len(outputs.get("logits", ())) != 4:
        raise ArtifactError(f"{path}: its graph is not uint8 image -> logits (B, C, h, w); export it with featherseg")
    channels = str(outputs["logits"][1])
    if channels.isdigit() and int(channels) != len(artifact.classes):
        raise ArtifactError(
            f"{path}: its graph has {channels} classes but its metadata names {len(artifact.classes)}; export it again"
        )


def fixed_size(shape: Sequence[Any]) -> tuple[int, int] | None:
    """Return the (height, width) that an input (B, H, W, 3) is fixed to, if it is."""
    height, width = (str(dimension) for dimension in shape[1:3])
    return (int(height), int(width)) if height.isdigit() and width.isdigit() else None


def check_size(size: tuple[int, int] | None, images: NDArray[np.uint8]) -> None:
    """Refuse images of another size than a file is fixed to."""
    if size is not None and images.shape[1:3] != size:
        raise ArtifactError(
            f"the file takes images of {size[0]}x{size[1]} alone, not {images.shape[1]}x{images.shape[2]}; "
            f"give the segmenter size=({size[0]}, {size[1]})"
        )


def refusal(path: str | Path, engine: str, error: BaseException) -> ArtifactError:
    """Return the error for a file that an engine does not open."""
    return ArtifactError(f"{path}: {engine} refuses it ({first_line(error)}); export it again")


def run_failure(engine: str, images: NDArray[np.uint8], error: BaseException) -> ArtifactError:
    """Return the error for a file that opened but does not run."""
    reason = first_line(error)
    return ArtifactError(
        f"{engine} cannot run the file on images {images.shape} ({reason}); export and verify it again"
    )


def _own_backend(path: str | Path, suffix: str) -> str:
    own = next((name for name in sessions if sessions.get(name).suffixes[:1] == (suffix,)), None)
    if own is None:
        raise ArtifactError(f"{path}: is no exported file; those end in {', '.join(artifact_suffixes())}")
    return own
