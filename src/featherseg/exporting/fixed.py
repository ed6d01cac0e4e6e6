"""Exported files of one size, for tools that take no other: many compilers for phones and neural processors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.errors import ArtifactError, ConfigError, first_line, require
from ..core.types import MIN_SIZE
from ..runtime.artifact import read_artifact
from .onnx import atomic_path, onnx_path, write_artifact

_FOLDED_ELEMENTS = 64
"""Constants up to this many elements are computed beforehand: reckoning with sizes, but no weights in int8."""


def fix_size(source: str | Path, path: str | Path, size: tuple[int, int]) -> Path:
    """Write an exported file again for images of one size; what it reckons with sizes becomes constants.

    The batch stays free. The new file has no verification.

    Args:
        source: the exported file, of any size.
        path: file to write, ending in ``.onnx``; it appears whole or not at all.
        size: (height, width) of the images.

    Returns:
        `path`.

    Raises:
        ConfigError: `size` is out of range.
        ArtifactError: `source` is not an exported file, is fixed to another size, or cannot be fixed to this one.
        MissingExtraError: ``onnx`` or ``onnxscript`` is not installed.
    """
    source, path = Path(source), onnx_path(path)
    if len(size) != 2 or min(size) < MIN_SIZE:
        raise ConfigError(f"size is {size}; give (height, width) of at least {MIN_SIZE} each")
    artifact = read_artifact(source)
    onnx = require("onnx", "train", "Fixing a size")
    optimizer = require("onnxscript.optimizer", "train", "Fixing a size")
    proto = onnx.load(str(source))
    before = graph_size(proto)
    if before is not None and before != size:
        raise ArtifactError(f"{source}: is fixed to {before[0]}x{before[1]} already; give the file of any size")
    height, width = proto.graph.input[0].type.tensor_type.shape.dim[1:3]
    height.dim_value, width.dim_value = size
    for dimension in proto.graph.output[0].type.tensor_type.shape.dim[-2:]:
        dimension.Clear()
    del proto.graph.value_info[:]  # shapes of before
    try:
        proto = optimizer.optimize(proto, input_size_limit=_FOLDED_ELEMENTS)
        proto = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    except Exception as error:  # two libraries' own
        raise ArtifactError(
            f"{source}: cannot be fixed to {size[0]}x{size[1]} ({first_line(error)}); export it again"
        ) from error
    with atomic_path(path) as temporary:
        temporary.write_bytes(proto.SerializeToString())
        write_artifact(temporary, replace(artifact, verification={}))
    return path


def graph_size(proto: Any) -> tuple[int, int] | None:
    """Return the (height, width) that a ModelProto's images are fixed to, None where they are free."""
    height, width = proto.graph.input[0].type.tensor_type.shape.dim[1:3]
    return (height.dim_value, width.dim_value) if height.dim_value and width.dim_value else None
