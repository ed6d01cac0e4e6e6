"""Static int8 in OpenVINO's own format, by either of two ways.

``"qdq"``, the usual one, rounds as :mod:`.plan` says and lets OpenVINO read that. ``"nncf"`` is Intel's own tool, with
the extra ``openvino``. OpenVINO also runs the ONNX file that :func:`.qdq.quantize_onnx` writes, as fast; its own
format takes more room, since the graph is text.

CamVid val (101 images, 360x480; one thread of an AMD EPYC, each network's files in one run), mIoU and processor time:

==========  ==============  ==============  ==============
network     fp32            qdq             nncf
==========  ==============  ==============  ==============
FastSegNet  75.23, 19.5 ms  75.17, 7.6 ms   75.18, 10.8 ms
LEDNet      43.34, 54.6 ms  43.08, 33.4 ms  43.65, 29.2 ms
JetNet      39.68, 20.8 ms  39.78, 5.6 ms   39.52, 5.5 ms
==========  ==============  ==============  ==============
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.errors import ArtifactError, ConfigError, did_you_mean, first_line, require
from ..core.progress import silenced
from ..core.staging import staged
from ..core.types import ImageArray
from ..exporting.openvino import export_openvino, write_openvino_artifact
from ..runtime.sessions.openvino import openvino_core, pin_batch
from .calibration import check_calibration
from .graph import FloatGraph, matching
from .plan import Plan, plan
from .qdq import Calibration, quantize_onnx
from .ranges import METHOD

WAYS = ("qdq", "nncf")
PRESETS = ("mixed", "performance")


def quantize_openvino(
    source: str | Path,
    path: str | Path,
    calibration: Calibration,
    *,
    keep: Iterable[str] = (),
    way: str = "qdq",
    method: str = METHOD,
    preset: str = "mixed",
) -> Path:
    """Write an exported fp32 file in int8 in OpenVINO's format, for one image at a time.

    The new file says ``"weights": "int8 OpenVINO"`` in its training facts, and has no verification.

    Args:
        source: an exported fp32 ONNX file that gives logits.
        path: file to write, ending in ``.xml``; its ``.bin`` comes beside it. Both appear, or neither.
        calibration: RGB images at the deployed size, see :func:`.calibration.calibration_images`; for ``"qdq"`` also
            what :func:`.qdq.calibrate` made of them.
        keep: names, or shell-style patterns, of what stays fp32; see :func:`.qdq.quantize_onnx`.
        way: ``"qdq"`` or ``"nncf"``.
        method: for ``"qdq"``, how ranges follow from the values seen; see :func:`.qdq.quantize_onnx`.
        preset: for ``"nncf"``, ``"mixed"`` (activations with a zero point where they have both signs) or
            ``"performance"`` (without).

    Returns:
        `path`.

    Raises:
        ConfigError: an argument is out of range or a pattern in `keep` matches nothing.
        DataError: the calibration images are too few, or random noise.
        ArtifactError: `source` is not an exported fp32 file, or is refused.
        MissingExtraError: OpenVINO, or for ``"nncf"`` NNCF, is not installed.
    """
    source, path = Path(source), Path(path)
    if way not in WAYS:
        raise ConfigError(f"way is {way!r}; {did_you_mean(way, WAYS)}")
    if preset not in PRESETS:
        raise ConfigError(f"preset is {preset!r}; {did_you_mean(preset, PRESETS)}")
    if path.suffix.lower() != ".xml":
        raise ConfigError(f"{path}: OpenVINO's files end in .xml, not {path.suffix!r}; rename it")
    openvino = require("openvino", "openvino", "Quantising for OpenVINO")
    graph = FloatGraph(source)
    whole = plan(graph, "openvino")
    kept = matching(keep, list(whole.layers))
    facts: dict[str, Any] = {"flavour": "openvino", "way": way, "fp32_layers": kept}
    facts |= {"method": method} if way == "qdq" else {"preset": preset}
    notes = {"weights": "int8 OpenVINO", "quantization": facts}
    artifact = replace(graph.artifact, training=graph.artifact.training | notes, verification={})
    with staged(path) as temporary:
        if way == "qdq":
            with tempfile.TemporaryDirectory() as folder:
                middle = Path(folder, "qdq.onnx")
                quantize_onnx(source, middle, calibration, flavour="openvino", keep=kept, method=method)
                export_openvino(middle, temporary, precision="int8")
        elif isinstance(calibration, Sequence):
            check_calibration(calibration)
            model = _by_nncf(openvino, whole, calibration, kept, preset)
            openvino.save_model(model, str(temporary), compress_to_fp16=True)
        else:
            raise ConfigError("calibration is a table of histograms, which NNCF cannot use; give the images")
        write_openvino_artifact(temporary, artifact)
    return path


def _by_nncf(openvino: Any, whole: Plan, images: Sequence[ImageArray], kept: Sequence[str], preset: str) -> Any:
    """Return the OpenVINO model that NNCF makes of a plan's file; of the plan it takes only what stays float."""
    heads = whole.graph.heads(whole.flavour.layers)
    floats = [node for node in whole.graph.proto.graph.node if node.name in heads]
    with silenced():
        nncf = _import_nncf()
        try:
            model = openvino_core(openvino).read_model(str(whole.graph.source))
            pin_batch(openvino, model)
            scope = nncf.IgnoredScope(names=_operator_names(model, [*floats, *(whole.layers[name] for name in kept)]))
            model = nncf.quantize(
                model,
                nncf.Dataset(images, lambda image: {"image": image[None]}),
                preset=nncf.QuantizationPreset(preset),
                subset_size=len(images),
                ignored_scope=scope,
            )
        except (RuntimeError, ValueError, nncf.InternalError) as error:
            reason = first_line(error)
            raise ArtifactError(f'{whole.graph.source}: NNCF fails on it ({reason}); use way "qdq"') from error
    if "framework" in model.rt_info:
        del model.rt_info["framework"]  # a copy of the ONNX file's metadata, its verification included
    return model


def _operator_names(model: Any, nodes: Sequence[Any]) -> list[str]:
    """Return what OpenVINO calls ONNX nodes: a bias makes two operators of one, the last has the output's name."""
    present = {operator.get_friendly_name() for operator in model.get_ops()}
    names = [(f"{node.name}/WithoutBiases", node.name, node.output[0]) for node in nodes]
    return [next(name for name in candidates if name in present) for candidates in names]


def _import_nncf() -> Any:
    """Import NNCF without what it sends to Intel: that is settled by an environment variable when it is imported."""
    before = os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"
    try:
        return require("nncf", "openvino", "Quantising with NNCF")
    finally:
        if before is None:
            del os.environ["NNCF_CI"]
        else:
            os.environ["NNCF_CI"] = before
