"""Artifacts for tests of what reads and runs them, and a network so small that one can do it in one's head."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from featherseg.core.types import ClassSet, InputSpec
from featherseg.runtime.artifact import Artifact
from featherseg.runtime.sessions.base import Session

EVERY_FIELD = Artifact(
    classes=ClassSet(("road", "Straße", "車"), ((1, 2, 3), (4, 5, 6), (255, 0, 9)), ignore_index=254),
    input_spec=InputSpec((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
    stride=8,
    network="jetnet",
    params=133_301,
    training={"dataset": "camvid", "epochs": 40},
    verification={"agreement": 0.99999, "iou": {"road": None}},
    calibration={"temperature": [1.5, 0.75, 2.0], "dataset": "camvid val"},
)
"""An artifact none of whose fields is as it would be by itself."""
STRIDE = 8
CLASSES = ClassSet(("red", "green", "blue"), ((255, 0, 0), (0, 255, 0), (0, 0, 255)))
POOLED = Artifact(CLASSES, InputSpec(), STRIDE, "pooled", 1)


def block_means(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The pooled network in NumPy: a class's logit is the mean of its colour over each 8x8 block, cut off at edges."""
    batch, height, width, _ = images.shape
    h, w = -(-height // STRIDE), -(-width // STRIDE)
    logits = np.zeros((batch, 3, h, w), np.float32)
    for y in range(h):
        for x in range(w):
            block = images[:, y * STRIDE : (y + 1) * STRIDE, x * STRIDE : (x + 1) * STRIDE]
            logits[:, :, y, x] = block.mean(axis=(1, 2))
    return logits


class PooledSession(Session):
    """The pooled network as a session, which remembers what it was given."""

    name = "pooled"
    device = "paper"
    artifact = POOLED

    def __init__(self) -> None:
        self.seen: list[NDArray[np.uint8]] = []

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.seen.append(images)
        return block_means(images)


def write_pooled(
    path: Path,
    artifact: Artifact | None = POOLED,
    name: str = "logits",
    channels: int = 3,
    size: tuple[int, int] | None = None,
) -> Path:
    """The pooled network as an ONNX file, for images of any size or of `size` alone."""
    height, width = size or ("height", "width")
    nodes = [
        helper.make_node("Transpose", ["image"], ["chw"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["chw"], ["float"], to=TensorProto.FLOAT),
        helper.make_node(
            "AveragePool", ["float"], [name], kernel_shape=[8, 8], strides=[8, 8], ceil_mode=1, count_include_pad=0
        ),
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", height, width, channels])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", channels, "h", "w"])]
    graph = helper.make_graph(nodes, "pooled", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    if artifact is not None:
        helper.set_model_props(model, artifact.to_metadata())
    onnx.save(model, str(path))
    return path


@pytest.fixture
def pooled(tmp_path: Path) -> Path:
    return write_pooled(tmp_path / "pooled.onnx")


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A smooth picture, on which neighbouring pixels are mostly of one class."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(2, height // 20), max(2, width // 20), 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def noise(*shape: int) -> NDArray[np.uint8]:
    """Pictures of `shape`, such as (batch, height, width), no two of whose pixels have to do with each other."""
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
