"""Files and postprocessing that are wrong in the usual ways must not pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from export_fixtures import CLASSES, QUICK, Scenes
from featherseg.core.errors import VerificationError
from featherseg.exporting.verify import export_verified, verify
from featherseg.models.base import SegmentationModel
from featherseg.models.checkpoint import Checkpoint
from featherseg.runtime import segmenter as segmenter_module
from featherseg.runtime.artifact import Artifact

Weights = dict[str, NDArray[np.float32]]


def bgr(weights: Weights) -> None:
    weights["model.stem.0.weight"] = weights["model.stem.0.weight"][:, [2, 1, 0]]


def shuffled(weights: Weights) -> None:
    for name in ("model.head.weight", "model.head.bias"):
        weights[name] = np.roll(weights[name], 1, axis=0)


def no_scaling(weights: Weights) -> None:
    weights["scale"], weights["shift"] = np.full_like(weights["scale"], 1 / 255), np.zeros_like(weights["shift"])


def statistics_of_bgr(weights: Weights) -> None:
    weights["scale"], weights["shift"] = weights["scale"][:, ::-1], weights["shift"][:, ::-1]


def lost_class(weights: Weights) -> None:
    weights["model.head.bias"][1] -= 1000


PLACES = {
    bgr: "from the first layer on, stem.0 ",
    no_scaling: "look at normalisation, colour order",
    statistics_of_bgr: "look at normalisation, colour order",
    shuffled: "from layer head on",
    lost_class: "while body.1.0 still agrees",
}


@pytest.mark.parametrize("sabotage", [bgr, shuffled, no_scaling, statistics_of_bgr, lost_class])
def test_sabotaged_file_fails(
    model: SegmentationModel, exported: Path, scenes: Scenes, tmp_path: Path, sabotage: Callable[[Weights], None]
) -> None:
    proto = onnx.load(str(exported))
    weights = {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in proto.graph.initializer}
    sabotage(weights)
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(weights[tensor.name]), tensor.name))
    path = tmp_path / "a.onnx"
    onnx.save(proto, str(path))
    result = verify(model, path, scenes, **QUICK)
    assert [text.split()[0] for text in result.failures] == ["logits", "masks", "mIoU", "confidence"]
    assert "scene" in result.failures[1]
    assert any(f"class {name}:" in result.failures[2] for name in CLASSES.names)
    assert result.file.miou < result.torch.miou - 0.01
    assert PLACES[sabotage] in result.place
    assert result.explanation.endswith(result.place)
    if sabotage is lost_class:
        assert "worst in class road: 100.00 to 0.00" in result.failures[2]


def align_corners(logits: NDArray[np.float32], size: tuple[int, int], extent: object = None) -> NDArray[np.uint8]:
    maps = nn.functional.interpolate(
        torch.from_numpy(logits.copy())[None], size=size, mode="bilinear", align_corners=True
    )
    return maps.argmax(1)[0].numpy().astype(np.uint8)


def truncated(logits: NDArray[np.float32], size: tuple[int, int], extent: object = None) -> NDArray[np.uint8]:
    """What a fixed factor of 8 does to sizes that it does not divide: grown too far, then cut."""
    grown = logits.repeat(8, 1).repeat(8, 2).argmax(0).astype(np.uint8)
    return grown[: size[0], : size[1]]


@pytest.mark.usefixtures("no_export")
@pytest.mark.parametrize("fault", [align_corners, truncated])
def test_sabotaged_postprocessing_fails_and_leaves_no_file(
    model: SegmentationModel,
    artifact: Artifact,
    scenes: Scenes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[..., NDArray[np.uint8]],
) -> None:
    monkeypatch.setattr(segmenter_module, "upsample_argmax", fault)
    path = tmp_path / "a.onnx"
    with pytest.raises(VerificationError, match="masks agree in") as caught:
        export_verified(Checkpoint(model, artifact.classes, artifact.training), path, scenes, **QUICK)
    assert "logits" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
