"""Int8 within a limit: layers go back to fp32, the worst first, until the mIoU on the user's data is kept."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ..core.errors import ConfigError, VerificationError, did_you_mean
from ..core.progress import logger
from ..core.staging import staged
from ..core.types import ImageArray
from ..data.datasets import SegmentationDataset
from ..evaluation.calibration import Calibration, fitted
from ..evaluation.result import EvalResult
from ..evaluation.ways import Ways
from ..exporting.onnx import onnx_path, write_artifact
from ..exporting.openvino import write_openvino_artifact
from ..exporting.verify import export_verified
from ..models.checkpoint import Checkpoint
from ..runtime.artifact import read_artifact
from ..runtime.containers import file_parts
from ..runtime.segmenter import Segmenter
from ..runtime.timing import time_in_turns
from .graph import FloatGraph
from .plan import FLAVOURS, plan
from .ranges import METHOD, Histogram
from .search import Round, Search

MAX_DROP = 0.01
WARMUP = 3


@dataclass(frozen=True)
class QuantizeConfig:
    """How far int8 may go, and for whom.

    Args:
        max_drop: mIoU (0–1) that may be lost.
        flavour: the engine that will run it: ``"onnxruntime"``, ``"openvino"``, or ``"tensorrt"``, whose scores are
            those of ONNX Runtime with the same file, and which is not timed.
        way: for OpenVINO's own format; see :func:`.openvino_int8.quantize_openvino`.
        method: see :func:`.qdq.quantize_onnx`.
        size: (height, width) that the runtime will resize frames to, as :class:`Segmenter` takes it.
        threads: threads of the engine; all that the process may use where left out.
        runs: timed runs of either file, in turns.
        timed: whether they are timed at all.

    Raises:
        ConfigError: a setting is out of range.

    Example:
        >>> featherseg.QuantizeConfig(max_drop=0.02, flavour="openvino").threads is None
        True
    """

    max_drop: float = MAX_DROP
    flavour: str = "onnxruntime"
    way: str = "qdq"
    method: str = METHOD
    size: tuple[int, int] | None = None
    threads: int | None = None
    runs: int = 20
    timed: bool = True

    def __post_init__(self) -> None:
        if self.flavour not in FLAVOURS:
            raise ConfigError(f"flavour is {self.flavour!r}; {did_you_mean(self.flavour, FLAVOURS)}")
        if not 0 <= self.max_drop < 1:
            raise ConfigError(
                f"max_drop is {self.max_drop}; give the mIoU that may be lost, 0 to 1 (0.01 is one point)"
            )
        if self.runs < 1:
            raise ConfigError(f"runs is {self.runs}; measure at least 1")

    def segmenter(self, file: Path) -> Segmenter:
        """Open a file as it will be deployed."""
        backend = "openvino" if self.flavour == "openvino" else "onnxruntime"
        return Segmenter(file, size=self.size, backend=backend, threads=self.threads)


@dataclass(frozen=True)
class QuantizeResult:
    """What int8 did; shares are 0–1, NaN where a class does not occur.

    Args:
        path: the int8 file.
        flavour: the engine it is for.
        fp32_eval: scores of the fp32 file.
        int8_eval: scores of the int8 file, by the same protocol.
        fp32_layers: layers that stayed fp32 to keep the mIoU.
        layers: how many could be integers.
        rounds: for each try, layers left fp32 and mIoU; of a try that was given up, the most it could have reached.
        fp32_bytes: size of the fp32 file.
        bytes: size of the int8 file, of all its parts.
        fp32_latency_ms: median of the fp32 network's time for one image, None where this machine cannot tell.
        latency_ms: of the int8 network, run in turns with it.
        device: where.
        size: (height, width) of the timed image.
    """

    path: Path
    flavour: str
    fp32_eval: EvalResult
    int8_eval: EvalResult
    fp32_layers: tuple[str, ...]
    layers: int
    rounds: tuple[tuple[int, float], ...]
    fp32_bytes: int
    bytes: int
    fp32_latency_ms: float | None
    latency_ms: float | None
    device: str
    size: tuple[int, int]

    @property
    def drop(self) -> float:
        """What was lost of the mIoU."""
        return self.fp32_eval.miou - self.int8_eval.miou

    @property
    def damage(self) -> dict[str, float]:
        """IoU that each class lost, by name, the most first; classes that do not occur are left out."""
        lost = self.fp32_eval.iou - self.int8_eval.iou
        known = {name: float(d) for name, d in zip(self.fp32_eval.classes.names, lost, strict=True) if not np.isnan(d)}
        return dict(sorted(known.items(), key=lambda entry: -entry[1]))

    @property
    def slower(self) -> bool:
        """Whether the int8 file takes longer than its fp32 twin, so that nothing speaks for it but its size."""
        times = self.latency_ms, self.fp32_latency_ms
        return times[0] is not None and times[1] is not None and times[0] > times[1]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON types."""
        return {
            "path": str(self.path),
            "flavour": self.flavour,
            "miou_fp32": self.fp32_eval.miou,
            "miou": self.int8_eval.miou,
            "drop": self.drop,
            "damage": self.damage,
            "protocol": self.int8_eval.to_dict()["protocol"],
            "fp32_layers": list(self.fp32_layers),
            "layers": self.layers,
            "rounds": [list(entry) for entry in self.rounds],
            "fp32_bytes": self.fp32_bytes,
            "bytes": self.bytes,
            "fp32_latency_ms": self.fp32_latency_ms,
            "latency_ms": self.latency_ms,
            "slower": self.slower,
            "device": self.device,
            "size": list(self.size),
        }

    def __str__(self) -> str:
        protocol = self.fp32_eval.protocol
        lines = [
            f"int8 for {self.flavour}: mIoU {self.int8_eval.miou:.2%} (fp32 {self.fp32_eval.miou:.2%}) on "
            f"{protocol['dataset']} {protocol['split']}, {protocol['images']} images, {protocol['resolution']}",
            f"  {self.bytes / 1e6:.2f} MB, {self.bytes / self.fp32_bytes:.0%} of {self.fp32_bytes / 1e6:.2f} MB",
        ]
        if self.latency_ms is None or self.fp32_latency_ms is None:
            lines.append("  not timed: measure it on the device it is for")
        else:
            verdict = "; slower, so not recommended: use the fp32 file" if self.slower else ""
            lines.append(
                f"  {self.latency_ms:.1f} ms an image of {self.size[0]}x{self.size[1]} (fp32 "
                f"{self.fp32_latency_ms:.1f} ms, in turns){verdict}: {self.device}"
            )
        worst = [f"{name} {lost * 100:.1f}" for name, lost in list(self.damage.items())[:3]]
        lines.append(f"  points of IoU lost, the most: {', '.join(worst)}")
        kept = f": {', '.join(self.fp32_layers)}" if self.fp32_layers else ""
        lines.append(f"  {len(self.fp32_layers)} of {self.layers} layers stayed fp32{kept}")
        return "\n".join(lines)


def quantize(
    source: str | Path | Checkpoint | nn.Module,
    path: str | Path,
    calibration: Sequence[ImageArray],
    validation: SegmentationDataset,
    config: QuantizeConfig | None = None,
    *,
    ways: Ways | None = None,
    histograms: dict[str, Histogram] | None = None,
) -> QuantizeResult:
    """Write an exported fp32 file again in int8, with as few layers in fp32 as keep its mIoU.

    While more than ``config.max_drop`` is lost, the 1, 2, 4, 8, … most damaging layers stay fp32; see
    :mod:`.sensitivity`. A try ends as soon as the images that are left, were all their pixels right, could not bring
    it within the limit. The file notes its figures under ``"quantization"`` of its training facts.

    Args:
        source: an exported fp32 ONNX file that gives logits; or a network, of another library too (see
            :func:`featherseg.wrap`), which is exported and proven on `validation` first.
        path: file to write, ending in ``.onnx``, which OpenVINO reads too, or ``.xml`` for its own format, whose graph
            in text takes more room (FastSegNet: 37 % of the fp32 file against 27 %); whole or not at all.
        calibration: RGB images at the deployed size, see :func:`.calibration.calibration_images`. Not those of the
            validation, whose scores would say too much good.
        validation: labelled images.
        config: limits, engine and method; :class:`QuantizeConfig`'s defaults where left out.
        ways: masks of `validation` by files, where there are some already, as in a shipment that has proven the fp32
            file; those of the int8 file join them.
        histograms: what calibrating this source with these images found before, such as for another engine; what else
            is needed joins it.

    Raises:
        ConfigError: path and settings do not fit, or the validation's classes are not the network's.
        DataError: the calibration images are too few, or random noise.
        ArtifactError: `source` is not an exported fp32 file.
        VerificationError: even with half of the layers in fp32 more is lost; nothing was written.
        MissingExtraError: a package that the flavour needs is not installed.

    Example:
        >>> split = {"size": (64, 96), "count": 8, "val_count": 2}
        >>> val_set = featherseg.create_dataset("synthetic", split="val", **split)
        >>> train_set = featherseg.create_dataset("synthetic", split="train", **split)
        >>> images = [train_set.read(i)[0] for i in range(8)]
        >>> config = featherseg.QuantizeConfig(max_drop=0.5, runs=1)
        >>> featherseg.quantize("street.onnx", "street_int8.onnx", images, val_set, config).layers
        7
    """
    path, config = Path(path), config or QuantizeConfig()
    _check_path(path, config)
    if not isinstance(source, str | Path):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, f"{path.stem}_fp32.onnx")
            ways = ways or Ways(validation)
            export_verified(source, file, validation, threads=config.threads, ways=ways)
            return quantize(file, path, calibration, validation, config, ways=ways, histograms=histograms)
    source = Path(source)
    whole = plan(FloatGraph(source), config.flavour)
    found = {} if histograms is None else histograms
    search = Search(source, whole, calibration, config, ways or Ways(validation), found)
    logger.info(f"{path.name}: scoring the fp32 file")
    original = search.original()
    logger.info(f"{path.name}: calibrating with {len(calibration)} images")
    search.calibrate()
    with tempfile.TemporaryDirectory() as folder:
        candidate = Path(folder, path.name)
        rounds = [search.round(candidate, (), original)]
        ranking: list[str] = []
        while (way := rounds[-1].way) is None or rounds[-1].scores is None:
            count = max(2 * len(rounds[-1].kept), 1)
            if 2 * count > len(whole.layers):
                raise VerificationError(_hopeless(path, original.miou, rounds[-1], config.max_drop))
            ranking = ranking or search.ranking()
            rounds.append(search.round(candidate, ranking[:count], original))
        smaller = rounds[-1].segmenter
        if config.timed:
            logger.info(f"{path.name}: timing both files")
        picture = calibration[0]
        times = _timed(original.segmenter, smaller, picture, config)
        result = QuantizeResult(
            path=path,
            flavour=config.flavour,
            fp32_eval=original.scores,
            int8_eval=rounds[-1].scores,
            fp32_layers=rounds[-1].kept,
            layers=len(whole.layers),
            rounds=tuple((len(each.kept), each.miou) for each in rounds),
            fp32_bytes=source.stat().st_size,
            bytes=0,
            fp32_latency_ms=times[0],
            latency_ms=times[1],
            device=smaller.session.device,
            size=config.size or (picture.shape[0], picture.shape[1]),
        )
        logger.info(f"{path.name}: fitting the temperature of its confidence")
        confidence = fitted(way.pixels(), f"{validation.name} {validation.split}")
        _note(candidate, result, confidence)
        result = replace(result, bytes=sum(part.stat().st_size for part in file_parts(candidate)))
        with staged(path) as temporary:
            for part in file_parts(candidate):
                temporary.with_suffix(part.suffix).write_bytes(part.read_bytes())
    return result


def _timed(
    original: Segmenter, smaller: Segmenter, picture: ImageArray, config: QuantizeConfig
) -> tuple[float | None, float | None]:
    """Return the medians of the fp32 and int8 network's time in ms, taken in turns; None where that says nothing."""
    if config.flavour == "tensorrt" or not config.timed:
        return None, None
    turns = time_in_turns({"fp32": original, "int8": smaller}, picture, runs=config.runs, warmup=WARMUP)
    return turns["fp32"].percentile(50, "net"), turns["int8"].percentile(50, "net")


def _check_path(path: Path, config: QuantizeConfig) -> None:
    """Refuse a file that could not be written as the settings ask."""
    own_format = config.flavour == "openvino" and path.suffix.lower() == ".xml"
    if not own_format:
        onnx_path(path)
    if config.way != "qdq" and not own_format:
        raise ConfigError(f"way is {config.way!r}, which gives a file in OpenVINO's format; let path end in .xml")


def _hopeless(path: Path, miou: float, last: Round, max_drop: float) -> str:
    least = "" if last.whole else "at least "
    return (
        f"{path.name} was not written: with {len(last.kept)} layers in fp32 int8 still loses "
        f"{least}{(miou - last.miou) * 100:.2f} points of mIoU (limit {max_drop * 100:.2f}); calibrate "
        "with more of your own images, or train on with fake quantisation"
    )


def _note(path: Path, result: QuantizeResult, calibration: Calibration) -> None:
    """Let the file itself say what int8 did to it, and how sure it is now."""
    artifact = read_artifact(path)
    # Less what the file itself shows: its place, its size and, by then, the layers.
    figures = result.to_dict()
    for key in ("path", "bytes", "fp32_layers"):
        del figures[key]
    quantization = artifact.training["quantization"] | figures
    training = artifact.training | {"quantization": quantization}
    noted = replace(artifact, training=training, calibration=calibration.to_dict())
    if path.suffix.lower() == ".xml":
        write_openvino_artifact(path, noted)
    else:
        write_artifact(path, noted)
