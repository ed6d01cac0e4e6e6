"""The figures of shipping a network: each step of making it smaller, each file that came out, and by which rules.

Plain data without any of the machinery that measures it. Scores are fractions (0–1) and times milliseconds; NaN stands
for what was not measured or does not occur, and is None in JSON.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ...core.errors import ArtifactError, ConfigError, did_you_mean, first_line
from ...core.precision import parse_precision, renamed_keys
from ...core.types import ClassSet, Latency

FORMAT = "featherseg ship report"
FORMAT_VERSION = 2
"""2 has today's words for precisions; 1 is still read."""
LATENCY_PARTS = ("net", "total")
PERCENTILES = ("p50", "p90", "p99")
NAN = float("nan")


@dataclass(frozen=True)
class Step:
    """The network after one step of distil → prune → fine-tune → quantise.

    Args:
        name: what people call it, such as ``"pruned 30 %"``.
        kind: ``"baseline"``, ``"distil"``, ``"prune"``, ``"finetune"``, ``"quantise"`` or another word.
        miou: mean IoU, 0–1.
        boundary_f1: mean boundary F1, 0–1.
        params: parameters of the network.
        gmacs: 10⁹ multiply-adds for one image of the protocol's size.
        bytes: size of its exported file.
        latency_p50_ms: median of the whole path (pre, net, post) with its exported file.
        kept: False for a step that was rolled back; the note then says why.
        note: a sentence for people.
    """

    name: str
    kind: str
    miou: float
    boundary_f1: float
    params: int
    gmacs: float
    bytes: int
    latency_p50_ms: float
    kept: bool = True
    note: str = ""

    def __post_init__(self) -> None:
        _check_fractions(f"step {self.name!r}", {"miou": self.miou, "boundary_f1": self.boundary_f1})
        if not self.kept and not self.note.strip():
            raise ConfigError(f"step {self.name!r} was rolled back, but its note is empty; say why in it")

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types, None for NaN."""
        return _as_json(asdict(self))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Step:
        """Rebuild it from :meth:`to_dict`'s result."""
        return cls(**_with_nan(data, ("miou", "boundary_f1", "gmacs", "latency_p50_ms")))


@dataclass(frozen=True)
class ShippedFile:
    """One file that came out, and what it was found to be.

    Args:
        name: of the file, without folders.
        target: what it was exported for, such as ``"onnx"`` or ``"openvino"``.
        precision: of weights and arithmetic, such as ``"fp32"`` or ``"int8"``.
        bytes: size, files beside it that it needs included; 0 for a file that could not be made.
        sha256: of the file, 64 hexadecimal digits; empty for a file that could not be made.
        session: engine and device that ran it: processor, threads, precision, versions.
        miou: mean IoU, 0–1.
        boundary_f1: mean boundary F1, 0–1.
        iou: IoU by class name, 0–1.
        agreement: share of pixels, 0–1, that have the network's class.
        parity: largest difference of a logit, relative to the largest logit; the worst of all sizes.
        latency_ms: ``{"net": {"p50", "p90", "p99"}, "total": {…}}``; see :func:`latency_table`. Empty if not measured.
        twin_latency_ms: median of the whole path of its fp32 twin, timed in the same run, in turns.
        slower: whether it is slower than that twin.
        passed: whether its verification passed.
        failures: one sentence for each limit it is past.
        timing: how the latency was measured: runs, warm-up, sizes.
        calibration: its temperature and how reliable its confidence is, see
            :class:`featherseg.evaluation.calibration.Calibration`; empty where it was not fitted.
    """

    name: str
    target: str
    precision: str
    bytes: int
    sha256: str
    session: str
    miou: float
    boundary_f1: float
    iou: dict[str, float]
    agreement: float
    parity: float
    latency_ms: dict[str, dict[str, float]] = field(default_factory=dict)
    twin_latency_ms: float = NAN
    slower: bool = False
    passed: bool = True
    failures: tuple[str, ...] = ()
    timing: str = ""
    calibration: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        scores = {"miou": self.miou, "boundary_f1": self.boundary_f1, "agreement": self.agreement}
        _check_fractions(f"file {self.name!r}", scores | {f"IoU of {name}": iou for name, iou in self.iou.items()})
        if self.passed == bool(self.failures):
            raise ConfigError(
                f"file {self.name!r} has passed={self.passed} and {len(self.failures)} failures; a file that passed "
                "has none, and one that failed says why"
            )
        missing = [
            f"{part} {q}" for part in LATENCY_PARTS for q in PERCENTILES if q not in self.latency_ms.get(part, {})
        ]
        if self.latency_ms and missing:
            raise ConfigError(
                f"latency of file {self.name!r} lacks {', '.join(missing)}; give net and total, all three"
            )

    def latency(self, part: str, q: str) -> float:
        """Return one figure of :attr:`latency_ms`; NaN where it was not measured."""
        return self.latency_ms.get(part, {}).get(q, NAN)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types, None for NaN."""
        return _as_json(asdict(self))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ShippedFile:
        """Rebuild it from :meth:`to_dict`'s result."""
        values = _with_nan(data, ("miou", "boundary_f1", "agreement", "parity", "twin_latency_ms"))
        values["iou"] = _with_nan(data["iou"], data["iou"])
        values["latency_ms"] = {part: _with_nan(row, row) for part, row in data["latency_ms"].items()}
        values["failures"] = tuple(data["failures"])
        values["precision"] = parse_precision(data["precision"])
        return cls(**values)


@dataclass(frozen=True)
class WorstImage:
    """An image on which a file's mask is far from the fp32 network's; see :func:`.worst.worst_images`.

    Args:
        name: stem of the image.
        file: name of the file.
        agreement: share of the pixels, 0–1, with the same class in both masks.
        miou_fp32: mIoU of this image alone with the fp32 network; NaN where it has no labelled pixel.
        miou_file: the same with the file.
        panels: pictures as ``data:`` addresses, by title, in the order they are shown.
        seen: names of the classes that occur in the pictures.
    """

    name: str
    file: str
    agreement: float
    miou_fp32: float
    miou_file: float
    panels: dict[str, str]
    seen: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types, None for NaN."""
        return _as_json(asdict(self))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> WorstImage:
        """Rebuild it from :meth:`to_dict`'s result."""
        values = _with_nan(renamed_keys(data), ("agreement", "miou_fp32", "miou_file"))
        return cls(**values | {"panels": dict(data["panels"]), "seen": tuple(data["seen"])})


@dataclass(frozen=True)
class ShipReport:
    """All that is known of a shipped network.

    Args:
        name: of the network, for people.
        created: when, as ISO 8601.
        classes: names and colours.
        protocol: how scores were measured, in words: split, resolution, scales, rule for classes that do not occur.
        dataset: what they were measured on: name and split.
        images: how many images that are.
        hardware: processor, threads, versions, … by name.
        steps: the way here, the fp32 baseline first.
        files: what came out.
        worst: images on which a file does worst.
        fp32_iou: IoU by class name, 0–1, of the fp32 network that the files were made from.

    Raises:
        ConfigError: no step, a name that occurs twice, or a class that is not in `classes`.
    """

    name: str
    created: str
    classes: ClassSet
    protocol: str
    dataset: str
    images: int
    hardware: dict[str, str]
    steps: tuple[Step, ...]
    files: tuple[ShippedFile, ...]
    worst: tuple[WorstImage, ...] = ()
    fp32_iou: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.steps:
            raise ConfigError(f"report {self.name!r} has no steps; give at least the fp32 baseline")
        _check_fractions(f"report {self.name!r}", {f"fp32 IoU of {name}": iou for name, iou in self.fp32_iou.items()})
        names = [file.name for file in self.files]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(f"file {twice!r} occurs twice in report {self.name!r}; give each file its own name")
        for source in (self.fp32_iou, *(file.iou for file in self.files)):
            if stray := next((name for name in source if name not in self.classes.names), None):
                hint = did_you_mean(stray, self.classes.names)
                raise ConfigError(f"report {self.name!r} has an IoU of unknown class {stray!r}; {hint}")

    @property
    def baseline(self) -> Step:
        """The fp32 network before any step."""
        return self.steps[0]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON types, None for NaN."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "created": self.created,
            "dataset": self.dataset,
            "images": self.images,
            "protocol": self.protocol,
            "hardware": dict(self.hardware),
            "classes": self.classes.to_dict(),
            "fp32_iou": _as_json(self.fp32_iou),
            "steps": [step.to_dict() for step in self.steps],
            "files": [file.to_dict() for file in self.files],
            "worst": [image.to_dict() for image in self.worst],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ShipReport:
        """Rebuild it from :meth:`to_dict`'s result.

        Raises:
            ArtifactError: it is no such result, a newer one, or damaged.
        """
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise ArtifactError("it is no featherseg ship report; give the report.json of a model folder")
        written = data.get("format_version")
        if not isinstance(written, int) or written > FORMAT_VERSION:
            raise ArtifactError(f"it has format {written}, and this featherseg reads up to {FORMAT_VERSION}; update it")
        data = renamed_keys(data)
        try:
            return cls(
                name=data["name"],
                created=data["created"],
                classes=ClassSet.from_dict(data["classes"]),
                protocol=data["protocol"],
                dataset=data["dataset"],
                images=data["images"],
                hardware=dict(data["hardware"]),
                steps=tuple(map(Step.from_dict, data["steps"])),
                files=tuple(map(ShippedFile.from_dict, data["files"])),
                worst=tuple(map(WorstImage.from_dict, data["worst"])),
                fp32_iou=_with_nan(data["fp32_iou"], data["fp32_iou"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise ArtifactError(f"it is damaged ({reason}); ship the network again") from error


def latency_table(latency: Latency) -> dict[str, dict[str, float]]:
    """Return what :attr:`ShippedFile.latency_ms` holds: percentiles of the network alone and of the whole path."""
    return {
        part: {q: latency.percentile(float(q[1:]), None if part == "total" else part) for q in PERCENTILES}
        for part in LATENCY_PARTS
    }


def _check_fractions(what: str, values: Mapping[str, float]) -> None:
    """Refuse scores that are no fractions; NaN is one that was not measured."""
    for name, value in values.items():
        if not math.isnan(value) and not 0 <= value <= 1:
            raise ConfigError(f"{what}: {name} is {value}; give a fraction from 0 to 1, not a percentage")


def _as_json(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _json_value(value) for key, value in data.items()}


def _json_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _as_json(value)
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_nan(data: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Return `data` with NaN in the place of None under `keys`."""
    return {**data, **{key: NAN for key in keys if data[key] is None}}
