"""What an exported file says of itself.

The facts travel as one JSON text with the file; where, depends on its format: see :mod:`.containers`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from ..core.errors import ArtifactError
from ..core.precision import renamed_keys
from ..core.text_files import check_tree, shortened
from ..core.types import ClassSet, InputSpec
from .containers import MAX_METADATA_BYTES, METADATA_KEY, REMEDY, read_metadata

FORMAT_VERSION = 1
OUTPUTS = ("logits", "mask")
MAX_INTEGER = 2**53
"""Of parameters and the like: what all that reads JSON holds exactly."""


@dataclass(frozen=True)
class Artifact:
    """What an exported file says of itself.

    Args:
        classes: names, colours and ignored id.
        input_spec: normalisation the network was trained with; the file does it itself.
        stride: input pixels per logit and side.
        network: registered name of the network.
        params: parameters of the network.
        training: what it was trained on and with; JSON types.
        verification: figures of :func:`featherseg.exporting.verify.verify`; empty until verified.
        calibration: how sure the network is, and what its logits are to be divided by for its probabilities to be
            right: see :mod:`featherseg.evaluation.calibration`; empty until fitted.
        output: ``"logits"`` float32 (B, C, h, w) at the stride, or ``"mask"`` uint8 (B, H, W).
        version: featherseg that wrote the file.
        format_version: layout of this metadata.
    """

    classes: ClassSet
    input_spec: InputSpec
    stride: int
    network: str
    params: int
    training: dict[str, Any] = field(default_factory=dict)
    verification: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    output: str = "logits"
    version: str = field(default_factory=lambda: installed_version("featherseg"))
    format_version: int = FORMAT_VERSION

    @property
    def temperature(self) -> float | tuple[float, ...]:
        """What logits are to be divided by, one for all or one for each class that can win; 1 where none was fitted."""
        value = self.calibration.get("temperature", 1.0)
        return tuple(value) if isinstance(value, list) else float(value)

    def to_metadata(self) -> dict[str, str]:
        """Return the metadata entries that :meth:`from_metadata` reads.

        Raises:
            ArtifactError: `training`, `verification` or `calibration` hold what JSON cannot (NaN, objects), or too
                much of it.
        """
        data = {
            "format_version": self.format_version,
            "version": self.version,
            "network": self.network,
            "params": self.params,
            "stride": self.stride,
            "output": self.output,
            "classes": self.classes.to_dict(),
            "input_spec": self.input_spec.to_dict(),
            "training": self.training,
            "verification": self.verification,
        }
        if self.calibration:
            data["calibration"] = self.calibration
        try:
            text = json.dumps(data, allow_nan=False, ensure_ascii=False)
            size = len(text.encode())
        except (TypeError, ValueError) as error:
            raise ArtifactError(f"metadata cannot be written as JSON ({error}); use numbers, text, lists") from error
        if size > MAX_METADATA_BYTES:
            raise ArtifactError(f"metadata has {size} bytes; at most {MAX_METADATA_BYTES} fit")
        return {METADATA_KEY: text}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Artifact:
        """Read the entries of an exported file.

        Raises:
            ArtifactError: the file is not from featherseg, from a newer one, or its metadata is damaged.
        """
        text = metadata.get(METADATA_KEY)
        if text is None:
            raise ArtifactError(f"it has no {METADATA_KEY} metadata, so its classes are unknown; {REMEDY}")
        if len(text) > MAX_METADATA_BYTES:
            raise ArtifactError(f"its metadata has {len(text)} characters, too many to be real; {REMEDY}")
        try:
            data = json.loads(text, parse_constant=_refuse_constant)
            check_tree(data)
        except (ValueError, RecursionError) as error:
            raise ArtifactError(f"its metadata is not JSON ({shortened(str(error), 200)}); {REMEDY}") from error
        if not isinstance(data, dict):
            raise ArtifactError(f"its metadata is a JSON {type(data).__name__}, not an object; {REMEDY}")
        written = _integer(data, "format_version")
        if written > FORMAT_VERSION:
            raise ArtifactError(f"it has format {written}, and this featherseg reads up to {FORMAT_VERSION}; update it")
        output = _typed(data, "output", str)
        if output not in OUTPUTS:
            raise ArtifactError(
                f"its metadata has output {shortened(repr(output))}, not one of {', '.join(OUTPUTS)}; {REMEDY}"
            )
        classes = _classes(_typed(data, "classes", dict))
        return cls(
            classes=classes,
            input_spec=_input_spec(_typed(data, "input_spec", dict)),
            stride=_integer(data, "stride"),
            network=_typed(data, "network", str),
            params=_integer(data, "params"),
            training=_training(_typed(data, "training", dict)),
            verification=_typed(data, "verification", dict),
            calibration=_calibration(data.get("calibration", {}), len(classes)),
            output=output,
            version=_typed(data, "version", str),
            format_version=written,
        )


def read_artifact(path: str | Path) -> Artifact:
    """Read what the exported file at `path` says of itself, without building a session.

    Args:
        path: an ``.onnx``, ``.xml`` (OpenVINO), ``.pt2`` (torch.export) or ``.engine`` (TensorRT) file.

    Raises:
        ArtifactError: there is no such file, it is damaged, or it was not written by featherseg.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise ArtifactError("no such file; give the file that `featherseg export` wrote")
        return Artifact.from_metadata(read_metadata(path))
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from error
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}); check its name and permissions") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _typed(data: dict[str, Any], key: str, kind: type) -> Any:
    value = data.get(key)
    if not isinstance(value, kind):
        raise ArtifactError(f"its metadata has {key} = {str(value)[:40]!r}, not a JSON {kind.__name__}; {REMEDY}")
    return value


def _integer(data: dict[str, Any], key: str) -> int:
    value = data.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_INTEGER:
        raise ArtifactError(f"its metadata has {key} = {str(value)[:40]!r}, not an integer from 1; {REMEDY}")
    return value


def _training(data: dict[str, Any]) -> dict[str, Any]:
    """Return training facts with today's words in what an int8 file says of its quantisation."""
    notes = data.get("quantization")
    return data | {"quantization": renamed_keys(notes)} if isinstance(notes, dict) else data


def _calibration(data: Any, classes: int) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ArtifactError(f"its metadata has calibration = {str(data)[:40]!r}, not a JSON dict; {REMEDY}")
    given = data.get("temperature", 1.0)
    values = given if isinstance(given, list) and len(given) == classes else [given]
    if not all(type(value) in (int, float) and 1e-3 <= value <= 1e3 for value in values):
        raise ArtifactError(f"its metadata has temperature {shortened(repr(given))}, which is unusable; {REMEDY}")
    return data


def _classes(data: dict[str, Any]) -> ClassSet:
    try:
        return ClassSet.from_dict(data)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ArtifactError(f"its metadata has unusable classes ({str(error)[:200]}); {REMEDY}") from error


def _input_spec(data: dict[str, Any]) -> InputSpec:
    try:
        return InputSpec.from_dict(data)
    except ValueError as error:
        raise ArtifactError(f"its metadata has {error}; {REMEDY}") from error
