"""Model repositories of two inference servers, which load them as they are.

::

    triton/                     tritonserver --model-repository=triton
      NAME/config.pbtxt         inputs and outputs
      NAME/labels.txt           a class on each line
      NAME/1/model.onnx         version 1
    ovms/                       ovms --config_path ovms/config.json
      config.json               the models there are
      NAME/labels.txt
      NAME/1/model.onnx

Both serve what the file takes and gives: ``image``, RGB uint8 (B, H, W, 3), and ``logits`` at the network's stride. A
client that asks ``featherseg serve`` for ``logits`` asks them in the same words. Masks, which are computed from logits,
only that one has.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.errors import require
from ..runtime.artifact import Artifact, read_artifact

VERSION = "1"
TYPES = {"tensor(uint8)": "TYPE_UINT8", "tensor(float)": "TYPE_FP32"}
"""ONNX Runtime's names of types, and those of Triton's ``DataType``."""


def write_triton(main: Path, place: Path) -> Path:
    """Write a model repository for Triton with its ONNX Runtime backend.

    Its configuration is a ``ModelConfig`` in protobuf's text format, of Triton's ``model_config.proto``. Requests are
    not put together to batches (``max_batch_size`` 0), so that a request may have any batch itself: on processors, a
    network takes as long for several images together as one after the other.

    Args:
        main: an exported file.
        place: folder to write.

    Raises:
        ArtifactError: the file cannot be read.
    """
    artifact = read_artifact(main)
    folder = _model_folder(main, place, artifact)
    (folder / "config.pbtxt").write_text(triton_config(main, artifact), encoding="utf-8", newline="\n")
    return place


def triton_config(main: Path, artifact: Artifact) -> str:
    """Return the configuration of an exported file for Triton, in protobuf's text format."""
    classes = artifact.classes
    ports = _ports(main)
    blocks = [f"name: {_quoted(main.stem)}", 'backend: "onnxruntime"', "max_batch_size: 0"]
    for kind, port in (("input", "image"), ("output", "logits")):
        dtype, dims = ports[port]
        labels = '\n    label_filename: "labels.txt"' if kind == "output" else ""
        blocks.append(
            f'{kind} [\n  {{\n    name: "{port}"\n    data_type: {TYPES[dtype]}\n    dims: {dims}{labels}\n  }}\n]'
        )
    facts = {
        "classes": json.dumps(classes.names, ensure_ascii=False),
        "colors": json.dumps(classes.colors),
        "ignore_index": str(classes.ignore_index),
        "stride": str(artifact.stride),
    }
    for key, value in facts.items():
        blocks.append(f"parameters {{\n  key: {_quoted(key)}\n  value: {{ string_value: {_quoted(value)} }}\n}}")
    return "\n".join(blocks) + "\n"


def write_ovms(main: Path, place: Path) -> Path:
    """Write a model repository for OpenVINO Model Server.

    Its engine is held to what was proven: fp32, which it would leave for bf16 where the processor has that, and one
    image at a time, since it computes some networks of a free batch wrongly; see
    :func:`featherseg.runtime.sessions.openvino.pin_batch`.

    Args:
        main: an exported file.
        place: folder to write.

    Raises:
        ArtifactError: the file cannot be read.
    """
    _model_folder(main, place, read_artifact(main))
    config: dict[str, Any] = {
        "name": main.stem,
        "base_path": main.stem,  # from the folder of this file, so that the repository can be put anywhere
        "batch_size": 1,
        "plugin_config": {"INFERENCE_PRECISION_HINT": "f32"},
    }
    content = json.dumps({"model_config_list": [{"config": config}]}, indent=1, ensure_ascii=False)
    (place / "config.json").write_text(content + "\n", encoding="utf-8", newline="\n")
    return place


def _model_folder(main: Path, place: Path, artifact: Artifact) -> Path:
    """Make a model's folder, with its one version and its labels."""
    folder = place / main.stem
    (folder / VERSION).mkdir(parents=True)
    shutil.copyfile(main, folder / VERSION / "model.onnx")
    names = [" ".join(name.split()) for name in artifact.classes.names]
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8", newline="\n")
    return folder


def _ports(main: Path) -> dict[str, tuple[str, Sequence[int]]]:
    """Return type and shape of an exported file's input and output; -1 is any size."""
    ort = require("onnxruntime", "train", "Reading an exported file")
    session = ort.InferenceSession(str(main), providers=["CPUExecutionProvider"])
    return {
        port.name: (port.type, [side if isinstance(side, int) else -1 for side in port.shape])
        for port in (*session.get_inputs(), *session.get_outputs())
    }


def _quoted(text: str) -> str:
    """Return a text as protobuf's text format has it: as JSON does, but letters of all scripts as they are."""
    escaped = text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n").replace("\r", r"\r")
    return f'"{escaped}"'
