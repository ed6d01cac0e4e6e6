"""Kernels' times put together with layers' costs: a network's profile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...core.errors import ArtifactError, ConfigError
from ...core.machine import available_threads, cpu_name
from ...core.types import MIN_SIZE
from ...runtime.artifact import read_artifact
from ...runtime.choose import picture
from .costs import GraphCosts
from .kernels import time_kernels
from .peaks import Peaks, measure_peaks


@dataclass(frozen=True)
class LayerTime:
    """A layer of the network, or a kernel that the engine adds.

    Args:
        layer: the module's name, or the node's.
        kind: the engine's operators that do it.
        ms: median time.
        macs: multiply-accumulates in one image.
        params: weights and biases.
        bytes: read and written.
    """

    layer: str
    kind: str
    ms: float
    macs: int
    params: int
    bytes: int

    def reach(self, peaks: Peaks) -> tuple[float, float]:
        """Return its share of the machine's peaks: of multiply-accumulates, and of bytes per second, 1 at the peak.

        A layer whose bytes lie in a cache can be above 1, and so can one in less than fp32.
        """
        seconds = max(self.ms, 1e-4) / 1000
        return self.macs / seconds / 1e9 / peaks.gmacs, self.bytes / seconds / 1e9 / peaks.gbytes


@dataclass(frozen=True)
class ProfileResult:
    """A network's layers with their times.

    Args:
        file: what was profiled.
        size: (height, width) of the image.
        layers: the slowest first.
        ms: median of whole runs while counting, the layers' sum and what lies between them.
        peaks: of the machine.
        engine: with version and precision.
        device: processor.
    """

    file: str
    size: tuple[int, int]
    layers: tuple[LayerTime, ...]
    ms: float
    peaks: Peaks
    engine: str
    device: str

    @property
    def total(self) -> LayerTime:
        """All layers as one."""
        sums = {key: sum(getattr(layer, key) for layer in self.layers) for key in ("ms", "macs", "params", "bytes")}
        return LayerTime("all", "", **sums)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON types."""

        def row(layer: LayerTime) -> dict[str, Any]:
            compute, memory = layer.reach(self.peaks)
            share = layer.ms / self.total.ms if self.total.ms else 0.0
            return asdict(layer) | {"share": share, "of_peak_macs": compute, "of_peak_bytes": memory}

        return {
            "file": self.file,
            "size": list(self.size),
            "engine": self.engine,
            "device": self.device,
            "run_ms": self.ms,
            "peaks": asdict(self.peaks),
            "total": row(self.total),
            "layers": [row(layer) for layer in self.layers],
        }


def profile(
    path: str | Path,
    size: tuple[int, int],
    *,
    engine: str = "onnxruntime",
    threads: int | None = None,
    precision: str = "fp32",
    runs: int = 15,
    warmup: int = 5,
    peaks: Callable[[int], Peaks] = measure_peaks,
) -> ProfileResult:
    """Measure where the time of an exported ONNX file goes.

    Args:
        path: the file, fp32 or int8.
        size: (height, width) of the image.
        engine: ``"onnxruntime"`` or ``"openvino"``.
        threads: of the engine, and of the peaks; all that the process may use where left out.
        precision: what OpenVINO computes floats in.
        runs: counted runs.
        warmup: runs before them.
        peaks: measures what the machine can do with so many threads.

    Raises:
        ArtifactError: it is no exported ONNX file, or the engine cannot run it.
        ConfigError: an argument is out of range or unknown.
        MissingExtraError: the package ``onnx``, or the engine, is not installed.
    """
    path = Path(path)
    if path.suffix.lower() != ".onnx":
        raise ArtifactError(f"{path}: profiles are of .onnx files; export it with `featherseg export`")
    if runs < 1 or warmup < 0:
        raise ConfigError(f"runs is {runs} and warmup {warmup}; measure at least 1 run after 0 or more")
    if min(size) < MIN_SIZE:
        raise ConfigError(f"size is {size[0]}x{size[1]}; networks take {MIN_SIZE} or more per side")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads is {threads}; give at least 1, or leave it out to use all")
    threads = threads or available_threads()
    read_artifact(path)  # refuses what is no exported file
    costs = GraphCosts(path, size)
    best = peaks(threads)
    timed = time_kernels(
        path,
        picture(size)[None],
        engine=engine,
        threads=threads,
        precision=precision,
        runs=runs,
        warmup=warmup,
    )
    layers: dict[str, LayerTime] = {}
    for kernel in timed.kernels:
        name, cost = costs.find(kernel.name)
        before = layers.get(name)
        if before is None:
            macs, params = (cost.macs, cost.params) if cost else (0, 0)
            layers[name] = LayerTime(name, kernel.kind, kernel.ms, macs, params, kernel.bytes)
        else:  # parts of one layer, such as a product and the activation behind it
            kind = before.kind if kernel.kind in before.kind.split(" + ") else f"{before.kind} + {kernel.kind}"
            layers[name] = LayerTime(
                name, kind, before.ms + kernel.ms, before.macs, before.params, before.bytes + kernel.bytes
            )
    order = tuple(sorted(layers.values(), key=lambda layer: -layer.ms))
    return ProfileResult(str(path), size, order, timed.ms, best, timed.engine, cpu_name())
