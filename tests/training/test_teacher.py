"""Teachers out of run folders and from torchvision."""

from __future__ import annotations

import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from conftest import Tiny
from featherseg.core.errors import CheckpointError, ConfigError
from featherseg.core.types import ClassSet, InputSpec
from featherseg.data.readers.public import VOC_CLASSES
from featherseg.models.checkpoint import Checkpoint, save_checkpoint
from featherseg.training.teacher import load_teacher

CLASSES = ClassSet(("sky", "road", "car"))
KL = ({"name": "kl"},)


@pytest.mark.parametrize("place", ["file", "folder"])
def test_a_teacher_from_a_run(tiny: Tiny, tmp_path: Path, place: str) -> None:
    model = tiny().eval()
    model.input_spec = InputSpec((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    file = save_checkpoint(tmp_path / "best.safetensors", Checkpoint(model, CLASSES))
    teacher = load_teacher(file if place == "file" else str(tmp_path))
    assert teacher.classes == CLASSES
    assert teacher.input_spec == model.input_spec
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model.outputs(image)
    found = teacher(image)
    assert set(found) == {"out", "x4"}
    assert all(torch.equal(found[k], expected[k]) for k in found)


def test_a_missing_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere does not exist"):
        load_teacher(tmp_path / "nowhere")


def test_a_torchvision_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import segmentation

    torch.manual_seed(0)
    network = segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, aux_loss=True).eval()
    asked: list[dict[str, Any]] = []

    def fetch(url: str, **options: Any) -> Any:
        asked.append(options)
        return network.state_dict()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    teacher = load_teacher("torchvision:deeplabv3_mobilenet_v3_large")
    assert asked[0]["weights_only"]
    assert asked[0]["check_hash"]
    assert teacher.classes.names == VOC_CLASSES.names
    assert teacher.input_spec == InputSpec()
    image = torch.randn(1, 3, 64, 96)
    found = teacher(image)
    assert {name: tuple(x.shape) for name, x in found.items()} == {"out": (1, 21, 4, 6), "x16": (1, 960, 4, 6)}
    with torch.no_grad():
        upsampled = network(image)["out"]
    small = nn.functional.interpolate(found["out"], size=(64, 96), mode="bilinear", align_corners=False)
    torch.testing.assert_close(small, upsampled)


def test_torchvision_offline_or_unknown_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(url: str, **options: Any) -> Any:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(ConfigError, match=r"no route to host.*go online, or put https.*\.pth into") as caught:
        load_teacher("torchvision:deeplabv3_mobilenet_v3_large")
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match='did you mean "fcn_resnet50"'):
        load_teacher("torchvision:fcn_resnet5")
