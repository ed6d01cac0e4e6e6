"""The exported file: one ONNX that takes uint8 RGB images and needs nothing beside it."""

from __future__ import annotations

import copy
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.errors import ArtifactError, ConfigError, did_you_mean, require
from ..core.progress import silenced
from ..core.types import MIN_SIZE
from ..models.base import SegmentationModel
from ..models.session import check_artifact
from ..runtime.artifact import OUTPUTS, Artifact
from ..runtime.postprocess import await_kernels

MIN_OPSET = 18
"""The first that torch's exporter writes without converting versions."""


class Deployed(nn.Module):
    """The network as it is deployed: uint8 RGB (B, H, W, 3) in, logits at its stride (or a mask) out.

    Args:
        model: the network, in eval mode.
        output: ``"logits"`` float32 (B, C, h, w), or ``"mask"`` uint8 (B, H, W), resized and decided inside.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, model: SegmentationModel, output: str = "logits") -> None:
        super().__init__()
        self.model = model
        self.output = output
        mean = torch.tensor(model.input_spec.mean, dtype=torch.float64).view(1, 3, 1, 1)
        std = torch.tensor(model.input_spec.std, dtype=torch.float64).view(1, 3, 1, 1)
        # (x / 255 - mean) / std as one product and one sum: two passes over the image fewer.
        self.register_buffer("scale", (1 / (255 * std)).float())
        self.register_buffer("shift", (-mean / std).float())

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits or masks of images."""
        # Transposed while still bytes: a quarter of the memory to move.
        pixels = image.permute(0, 3, 1, 2).to(torch.float32) * self.scale + self.shift
        logits = self.model.outputs(pixels)["out"]
        if self.output == "logits":
            return logits
        logits = F.interpolate(logits, size=image.shape[1:3], mode="bilinear", align_corners=False)
        return logits.argmax(dim=1).to(torch.uint8)


def export_onnx(
    model: SegmentationModel,
    path: str | Path,
    artifact: Artifact,
    *,
    output: str = "logits",
    example_size: tuple[int, int] = (256, 256),
    opset: int = 20,
) -> Path:
    """Write `model` as one ONNX file, for any batch, height and width from ``MIN_SIZE``.

    The network itself is left as it is: a copy, on the CPU, in fp32 and eval mode, is exported. What is
    written is not proven yet; :func:`featherseg.exporting.verify.export_verified` does both.

    Args:
        model: the network.
        path: file to write, ending in ``.onnx``; it appears whole or not at all.
        artifact: what the file shall say of itself; see :func:`featherseg.models.session.describe`.
        output: ``"logits"`` at the network's stride, which featherseg's runtime reads; or ``"mask"``, upsampled
            and decided inside the graph, for runtimes in other languages (smaller work for them, slower).
        example_size: (height, width) that the network is traced at.
        opset: ONNX operator set, from 18.

    Returns:
        `path`.

    Raises:
        ConfigError: an argument is out of range, or the artifact is not this network's.
        ArtifactError: torch cannot export the network for any size, or ONNX finds the result faulty.
    """
    path = onnx_path(path)
    if output not in OUTPUTS:
        raise ConfigError(f"output is {output!r}; {did_you_mean(output, OUTPUTS)}")
    if min(example_size) < MIN_SIZE:
        raise ConfigError(f"example_size is {example_size}; give (height, width) of at least {MIN_SIZE} each")
    if opset < MIN_OPSET:
        raise ConfigError(f"opset is {opset}; give at least {MIN_OPSET}")
    check_artifact(model, artifact)
    net = copy.deepcopy(model).to("cpu", torch.float32).eval()
    proto = _trace(Deployed(net, output).eval(), output, example_size, opset)
    # Notes of inner shapes, which runtimes infer themselves: torch writes one for good where a side is one at
    # `example_size`, and ONNX Runtime then refuses images in which it is larger.
    del proto.graph.value_info[:]
    _ease(proto.graph)
    _write(proto, path, replace(artifact, output=output))
    return path


def onnx_path(path: str | Path) -> Path:
    """Return `path` if it is named as an exported file must be."""
    path = Path(path)
    if path.suffix.lower() != ".onnx":
        raise ConfigError(f"{path}: an exported file ends in .onnx, not {path.suffix!r}; rename it")
    return path


def write_artifact(path: str | Path, artifact: Artifact) -> None:
    """Replace what the exported file at `path` says of itself; its graph stays as it is."""
    onnx = require("onnx", "train", "Writing an exported file")
    _write(onnx.load(str(path)), Path(path), artifact)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on leaving, what was written there replaces `path` in one step.

    If the block raises, the temporary file is gone and `path` is as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _trace(net: Deployed, output: str, example_size: tuple[int, int], opset: int) -> Any:
    """Return the ONNX ModelProto of `net`, of dynamic batch, height and width."""
    require("onnxscript", "train", "Exporting")
    # A batch of two, since torch takes a one for a constant; no zeros, which some networks would fold away.
    example = torch.randint(0, 256, (2, *example_size, 3), dtype=torch.uint8)
    height, width = (torch.export.Dim(name, min=MIN_SIZE) for name in ("height", "width"))
    await_kernels()
    try:
        with torch.inference_mode(False), torch.no_grad(), silenced():
            program = torch.onnx.export(
                net,
                (example,),
                dynamo=True,
                opset_version=opset,
                input_names=["image"],
                output_names=[output],
                dynamic_shapes={"image": {0: torch.export.Dim("batch"), 1: height, 2: width}},
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # torch wraps whatever went wrong in the network in errors of several families
        reason = str(error.__cause__ or error).strip().splitlines()[0][:200]
        name = type(net.model).__name__
        raise ArtifactError(
            f"{name} cannot be exported for any size ({reason}); see that its code has no fixed sizes"
        ) from error
    assert program is not None
    _check_free(program.model_proto, type(net.model).__name__, output)
    return program.model_proto


def _ease(graph: Any) -> None:
    """Write PReLUs of one slope as leaky ReLUs, which they are: engines have fast kernels, and integer ones, for them.

    LEDNet at 360x480 in ONNX Runtime, one thread: 46 ms against 59.
    """
    onnx = require("onnx", "train", "Exporting")
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "PRelu" and node.input[1] in tensors:
            slope = onnx.numpy_helper.to_array(tensors[node.input[1]])
            if slope.size == 1:
                node.op_type = "LeakyRelu"
                del node.input[1]
                node.attribute.append(onnx.helper.make_attribute("alpha", float(slope.item())))
    used = {name for node in graph.node for name in node.input} | {port.name for port in graph.output}
    for name in tensors.keys() - used:
        graph.initializer.remove(tensors[name])


def _check_free(proto: Any, name: str, output: str) -> None:
    """Refuse a graph of one size: torch writes one without a word where the network's code fixes a size."""
    free = {"image": {0: "batch", 1: "height", 2: "width"}}
    free[output] = {0: "batch", 2: "height", 3: "width"} if output == "logits" else free["image"]
    for port in (*proto.graph.input, *proto.graph.output):
        dims = port.type.tensor_type.shape.dim
        for axis, meaning in free[port.name].items():
            if not dims[axis].dim_param:
                raise ArtifactError(
                    f"{name} cannot be exported for any size (the {meaning} of {port.name} is fixed at "
                    f"{dims[axis].dim_value}); see that its code has no fixed sizes"
                )


def _write(proto: Any, path: Path, artifact: Artifact) -> None:
    """Check `proto`, give it its metadata and write it."""
    onnx = require("onnx", "train", "Writing an exported file")
    _strip_traces(proto.graph)
    for function in proto.functions:
        _strip_traces(function)
    del proto.metadata_props[:]
    proto.producer_name, proto.producer_version = "featherseg", artifact.version
    onnx.helper.set_model_props(proto, artifact.to_metadata())
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise ArtifactError(f"{path}: ONNX finds the exported graph faulty ({reason}); try another opset") from error
    with atomic_path(path) as temporary:
        temporary.write_bytes(proto.SerializeToString(deterministic=True))


def _strip_traces(graph: Any) -> None:
    """Remove what torch notes of each operator: stack traces with paths of this machine, half the file at times."""
    parts = [*graph.node, *graph.value_info]
    if hasattr(graph, "initializer"):
        parts += [graph, *graph.initializer, *graph.input, *graph.output]
    for part in parts:
        del part.metadata_props[:]
        part.doc_string = ""
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] * attribute.HasField("g") + list(attribute.graphs):
                _strip_traces(inner)
