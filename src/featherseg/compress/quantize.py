"""Int8 within a limit: layers go back to float, the worst first, until the mIoU on the user's data is kept."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ConfigError, VerificationError, did_you_mean
from ..core.staging import staged
from ..core.types import ImageArray
from ..data.datasets import SegmentationDataset
from ..evaluation.metrics import EvalResult
from ..evaluation.scores import evaluate
from ..exporting.onnx import onnx_path, write_artifact
from ..exporting.openvino import write_openvino_artifact
from ..runtime.artifact import read_artifact
from ..runtime.segmenter import Segmenter
from ..runtime.timing import time_in_turns
from .graph import FloatGraph
from .openvino_int8 import quantize_openvino
from .plan import FLAVOURS, plan
from .qdq import calibrate, quantize_onnx
from .ranges import METHOD
from .sensitivity import layer_sensitivity

MAX_DROP = 0.01
WARMUP = 3


@dataclass(frozen=True)
class QuantizeResult:
    """What int8 did; shares are 0–1, NaN where a class does not occur.

    Args:
        path: the int8 file.
        flavour: the engine it is for.
        float_eval: scores of the float32 file.
        int8_eval: scores of the int8 file, by the same protocol.
        float_layers: layers that stayed float to keep the mIoU.
        layers: how many could be integers.
        rounds: for each try, layers left float and mIoU.
        float_bytes: size of the float32 file.
        bytes: size of the int8 file, of all its parts.
        float_latency_ms: median of the float32 network's time for one image, None where this machine cannot tell.
        latency_ms: of the int8 network, run in turns with it.
        device: where.
        size: (height, width) of the timed image.
    """

    path: Path
    flavour: str
    float_eval: EvalResult
    int8_eval: EvalResult
    float_layers: tuple[str, ...]
    layers: int
    rounds: tuple[tuple[int, float], ...]
    float_bytes: int
    bytes: int
    float_latency_ms: float | None
    latency_ms: float | None
    device: str
    size: tuple[int, int]

    @property
    def drop(self) -> float:
        """What was lost of the mIoU."""
        return self.float_eval.miou - self.int8_eval.miou

    @property
    def damage(self) -> dict[str, float]:
        """IoU that each class lost, by name, the most first; classes that do not occur are left out."""
        lost = self.float_eval.iou - self.int8_eval.iou
        known = {name: float(d) for name, d in zip(self.float_eval.classes.names, lost, strict=True) if not np.isnan(d)}
        return dict(sorted(known.items(), key=lambda entry: -entry[1]))

    @property
    def slower(self) -> bool:
        """Whether the int8 file takes longer than its float32 twin, so that nothing speaks for it but its size."""
        times = self.latency_ms, self.float_latency_ms
        return times[0] is not None and times[1] is not None and times[0] > times[1]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON types."""
        return {
            "path": str(self.path),
            "flavour": self.flavour,
            "miou_float": self.float_eval.miou,
            "miou": self.int8_eval.miou,
            "drop": self.drop,
            "damage": self.damage,
            "protocol": self.int8_eval.to_dict()["protocol"],
            "float_layers": list(self.float_layers),
            "layers": self.layers,
            "rounds": [list(entry) for entry in self.rounds],
            "float_bytes": self.float_bytes,
            "bytes": self.bytes,
            "float_latency_ms": self.float_latency_ms,
            "latency_ms": self.latency_ms,
            "slower": self.slower,
            "device": self.device,
            "size": list(self.size),
        }

    def __str__(self) -> str:
        protocol = self.float_eval.protocol
        lines = [
            f"int8 for {self.flavour}: mIoU {self.int8_eval.miou:.2%} (float32 {self.float_eval.miou:.2%}) on "
            f"{protocol['dataset']} {protocol['split']}, {protocol['images']} images, {protocol['resolution']}",
            f"  {self.bytes / 1e6:.2f} MB, {self.bytes / self.float_bytes:.0%} of {self.float_bytes / 1e6:.2f} MB",
        ]
        if self.latency_ms is None or self.float_latency_ms is None:
            lines.append("  not timed: measure it on the device it is for")
        else:
            verdict = "; slower, so not recommended: use the float32 file" if self.slower else ""
            lines.append(
                f"  {self.latency_ms:.1f} ms an image of {self.size[0]}x{self.size[1]} (float32 "
                f"{self.float_latency_ms:.1f} ms, in turns){verdict}: {self.device}"
            )
        worst = [f"{name} {lost * 100:.1f}" for name, lost in list(self.damage.items())[:3]]
        lines.append(f"  points of IoU lost, the most: {', '.join(worst)}")
        kept = f": {', '.join(self.float_layers)}" if self.float_layers else ""
        lines.append(f"  {len(self.float_layers)} of {self.layers} layers stayed float{kept}")
        return "\n".join(lines)


def quantize_within(
    source: str | Path,
    path: str | Path,
    calibration: Sequence[ImageArray],
    validation: SegmentationDataset,
    *,
    max_drop: float = MAX_DROP,
    flavour: str = "onnxruntime",
    way: str = "qdq",
    method: str = METHOD,
    size: tuple[int, int] | None = None,
    threads: int | None = None,
    runs: int = 20,
    progress: Callable[[str], None] = lambda message: None,
) -> QuantizeResult:
    """Write an exported float32 file again in int8, with as few layers in float32 as keep its mIoU.

    While more than `max_drop` is lost, the 1, 2, 4, 8, … most damaging layers stay float32; see
    :mod:`.sensitivity`. The file notes its figures under ``"quantization"`` of its training facts.

    Args:
        source: an exported float32 ONNX file that gives logits.
        path: file to write, ending in ``.onnx``, which OpenVINO reads too, or ``.xml`` for its own format, whose graph
            in text takes more room (FastSegNet: 37 % of the float32 file against 27 %); whole or not at all.
        calibration: RGB images at the deployed size, see :func:`.calibration.calibration_images`. Not those of the
            validation, whose scores would say too much good.
        validation: labelled images.
        max_drop: mIoU (0–1) that may be lost.
        flavour: the engine that will run it: ``"onnxruntime"``, ``"openvino"``, or ``"tensorrt"``, whose scores are
            those of ONNX Runtime with the same file, and which is not timed.
        way: for OpenVINO's own format; see :func:`.openvino_int8.quantize_openvino`.
        method: see :func:`.qdq.quantize_onnx`.
        size: (height, width) that the runtime will resize frames to, as :class:`Segmenter` takes it.
        threads: threads of the engine; all that the process may use where left out.
        runs: timed runs of either file, in turns.
        progress: called with a sentence when a step begins.

    Raises:
        ConfigError: an argument is out of range, or the validation's classes are not the network's.
        DataError: the calibration images are too few, or random noise.
        ArtifactError: `source` is not an exported float32 file.
        VerificationError: even with half of the layers in float32 more is lost; nothing was written.
        MissingExtraError: a package that the flavour needs is not installed.
    """
    path = Path(path)
    if flavour not in FLAVOURS:
        raise ConfigError(f"flavour is {flavour!r}; {did_you_mean(flavour, FLAVOURS)}")
    if not 0 <= max_drop < 1:
        raise ConfigError(f"max_drop is {max_drop}; give the mIoU that may be lost, 0 to 1 (0.01 is one point)")
    if runs < 1:
        raise ConfigError(f"runs is {runs}; measure at least 1")
    own_format = flavour == "openvino" and path.suffix.lower() == ".xml"
    if not own_format:
        onnx_path(path)
    if way != "qdq" and not own_format:
        raise ConfigError(f"way is {way!r}, which gives a file in OpenVINO's format; let path end in .xml")
    backend = "openvino" if flavour == "openvino" else "onnxruntime"
    whole = plan(FloatGraph(source), flavour)
    progress("scoring the float32 file")
    original = Segmenter(source, size=size, backend=backend, threads=threads)
    float_eval = evaluate(original, validation, boundary=False)
    progress(f"calibrating with {len(calibration)} images")
    histograms = calibrate(whole, calibration)
    kept: list[str] = []
    ranking: list[str] = []
    rounds: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        candidate = Path(folder, path.name)
        while True:
            if own_format:
                known = histograms if way == "qdq" else calibration
                quantize_openvino(source, candidate, known, keep=kept, way=way, method=method)
            else:
                quantize_onnx(source, candidate, histograms, flavour=flavour, keep=kept, method=method)
            progress(f"scoring int8 with {len(kept)} of {len(whole.layers)} layers in float32")
            smaller = Segmenter(candidate, size=size, backend=backend, threads=threads)
            int8_eval = evaluate(smaller, validation, boundary=False)
            rounds.append((len(kept), int8_eval.miou))
            if not float_eval.miou - int8_eval.miou > max_drop:
                break
            count = max(2 * len(kept), 1)
            if 2 * count > len(whole.layers):
                raise VerificationError(_hopeless(path, float_eval, rounds, max_drop))
            if not ranking:
                progress("measuring each layer's damage")
                found = layer_sensitivity(source, calibration, flavour=flavour, method=method, histograms=histograms)
                ranking = [damage.name for damage in found]
            kept = ranking[:count]
        progress("timing both files")
        picture = calibration[0]
        times: tuple[float | None, float | None] = (None, None)
        if flavour != "tensorrt":
            turns = time_in_turns({"float": original, "int8": smaller}, picture, runs=runs, warmup=WARMUP)
            times = turns["float"].percentile(50, "net"), turns["int8"].percentile(50, "net")
        result = QuantizeResult(
            path=path,
            flavour=flavour,
            float_eval=float_eval,
            int8_eval=int8_eval,
            float_layers=tuple(kept),
            layers=len(whole.layers),
            rounds=tuple(rounds),
            float_bytes=Path(source).stat().st_size,
            bytes=0,
            float_latency_ms=times[0],
            latency_ms=times[1],
            device=smaller.session.device,
            size=size or (picture.shape[0], picture.shape[1]),
        )
        _note(candidate, result)
        result = replace(result, bytes=sum(part.stat().st_size for part in _parts(candidate)))
        with staged(path) as temporary:
            for part in _parts(candidate):
                temporary.with_suffix(part.suffix).write_bytes(part.read_bytes())
    return result


def _hopeless(path: Path, float_eval: EvalResult, rounds: Sequence[tuple[int, float]], max_drop: float) -> str:
    count, miou = rounds[-1]
    return (
        f"{path} was not written: with {count} layers in float32 int8 still loses "
        f"{(float_eval.miou - miou) * 100:.2f} points of mIoU (limit {max_drop * 100:.2f}); calibrate with more "
        "of your own images, or train on with fake quantisation"
    )


def _parts(path: Path) -> list[Path]:
    """Return the files of an exported file: OpenVINO's have two."""
    return [path, path.with_suffix(".bin")] if path.suffix.lower() == ".xml" else [path]


def _note(path: Path, result: QuantizeResult) -> None:
    """Let the file itself say what int8 did to it."""
    artifact = read_artifact(path)
    # Less what the file itself shows: its place, its size and, by then, the layers.
    figures = result.to_dict()
    for key in ("path", "bytes", "float_layers"):
        del figures[key]
    quantization = artifact.training["quantization"] | figures
    noted = replace(artifact, training=artifact.training | {"quantization": quantization})
    if path.suffix.lower() == ".xml":
        write_openvino_artifact(path, noted)
    else:
        write_artifact(path, noted)
