"""OpenVINO's own format from an exported file: an ``.xml`` with the graph and a ``.bin`` with the weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from ..core.errors import ArtifactError, ConfigError, first_line, require
from ..core.files import sha256, write_atomically
from ..core.precision import check_precision
from ..core.staging import staged
from ..runtime.artifact import Artifact, read_artifact
from ..runtime.containers import WEIGHTS_KEY, openvino_info
from ..runtime.sessions.openvino import openvino_core, pin_batch

PRECISIONS = ("fp32", "fp16", "int8")


def export_openvino(onnx_path: str | Path, path: str | Path, *, precision: str = "fp32") -> Path:
    """Write an exported file in OpenVINO's format. It says of itself what the file says, but for its verification.

    Args:
        onnx_path: the exported ONNX file.
        path: file to write, ending in ``.xml``; its ``.bin`` comes beside it. Both appear, or neither.
        precision: ``"fp32"``, or ``"fp16"``, which stores the weights in half the space (what the network computes
            in is chosen when it is opened); ``"int8"``, for a file with ``QuantizeLinear`` operators, which becomes one
            for a single image at a time, since OpenVINO errs with more.

    Returns:
        `path`.

    Raises:
        ConfigError: an argument is out of range, or the file is not of a kind that `precision` can be made of.
        ArtifactError: the file is missing, not from featherseg, or OpenVINO refuses it.
        MissingExtraError: OpenVINO is not installed.
    """
    onnx_path, path = Path(onnx_path), Path(path)
    check_precision(precision, PRECISIONS)
    if path.suffix.lower() != ".xml":
        raise ConfigError(f"{path}: OpenVINO's files end in .xml, not {path.suffix!r}; rename it")
    artifact = read_artifact(onnx_path)
    openvino = require("openvino", "openvino", "Exporting for OpenVINO")
    try:
        model = openvino_core(openvino).read_model(str(onnx_path))
    except RuntimeError as error:
        raise ArtifactError(f"{onnx_path}: OpenVINO refuses it ({first_line(error)}); export it again") from error
    quantized = any(operator.get_type_name() == "FakeQuantize" for operator in model.get_ops())
    if quantized != (precision == "int8"):
        kind = "has int8 operators" if quantized else "has no QuantizeLinear operators"
        fitting = "int8" if quantized else "fp32 or fp16"
        raise ConfigError(f"{onnx_path}: {kind}, so precision {precision} is not to be had of it; give {fitting}")
    if quantized:
        pin_batch(openvino, model)
    if "framework" in model.rt_info:
        del model.rt_info["framework"]  # a copy of the ONNX file's metadata, its verification included
    with staged(path) as temporary:
        openvino.save_model(model, str(temporary), compress_to_fp16=precision == "fp16")
        write_openvino_artifact(temporary, replace(artifact, verification={}))
    return path


def write_openvino_artifact(path: str | Path, artifact: Artifact) -> None:
    """Replace what the ``.xml`` at `path` says of itself; graph and weights stay as they are.

    Raises:
        ArtifactError: it is no whole OpenVINO file.
    """
    path = Path(path)
    openvino_info(path)  # refuses what is too large or declares entities, which the parser below would expand
    root = ElementTree.parse(path).getroot()
    info = root.find("rt_info")
    if info is None:
        info = ElementTree.SubElement(root, "rt_info")
    entries = {**artifact.to_metadata(), WEIGHTS_KEY: sha256(path.with_suffix(".bin"))}
    for key, value in entries.items():
        for entry in info.findall(key):
            info.remove(entry)
        ElementTree.SubElement(info, key, value=value)
    ElementTree.indent(info, "\t", level=1)
    content = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    write_atomically(path, lambda file: file.write(content))
