"""A small network, its exported file, and pictures, for tests of files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from featherseg.core.types import ClassSet
from featherseg.exporting import verify as verify_module
from featherseg.exporting.onnx import export_onnx
from featherseg.models.base import SegmentationModel
from featherseg.models.layers import ConvBNAct
from featherseg.models.session import describe
from featherseg.runtime.artifact import Artifact

CLASSES = ClassSet(("sky", "road", "tree", "car"))
QUICK = {"sizes": ((64, 96), (77, 101)), "threads": 1}


class TinyNet(SegmentationModel):
    """Four convolutions, stride 8, dropout and a batch norm that matter if the mode is wrong."""

    name = "TinyNet"
    stride = 8

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stem = ConvBNAct(3, 8, stride=2)
        self.body = nn.Sequential(ConvBNAct(8, 12, stride=2), ConvBNAct(12, 16, stride=2), nn.Dropout2d(0.5))
        self.head = nn.Conv2d(16, num_classes, 1)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        return {"out": self.head(self.body(self.stem(image)))}


class FixedPlace(TinyNet):
    """torch exports it for 256x256 alone, without an error."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1, 4, 32, 32))

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        return {"out": super().compute(image)["out"] + self.place}


@dataclass(frozen=True)
class Scenes:
    """Smooth random pictures of different sizes, some below the smallest, whose truth is given or random."""

    sizes: tuple[tuple[int, int], ...] = ((96, 130), (72, 101), (40, 150), (128, 96))
    truth: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None
    name: str = "scenes"
    split: str = "val"
    classes: ClassSet = field(default=CLASSES)

    def __len__(self) -> int:
        return len(self.sizes)

    def stem(self, index: int) -> str:
        return f"scene{index}"

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        height, width = self.sizes[index]
        rng = np.random.default_rng(index)
        coarse = rng.integers(0, 256, (height // 12 + 1, width // 12 + 1, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
        mask = rng.integers(0, 4, (height, width), dtype=np.uint8) if self.truth is None else self.truth(image).copy()
        mask[:3] = 255
        return image, mask


def torch_mask(model: SegmentationModel, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Oracle: the network alone, by InputSpec's arithmetic."""
    with torch.no_grad():
        logits = model(torch.from_numpy(model.input_spec.normalize(image))[None])
    return logits.argmax(1)[0].numpy().astype(np.uint8)


@pytest.fixture(scope="session")
def model() -> SegmentationModel:
    torch.manual_seed(3)
    net = TinyNet().train()
    images = np.stack([cv2.resize(Scenes().read(i)[0], (96, 96)) for i in range(4)])
    batch = torch.stack([torch.from_numpy(net.input_spec.normalize(image)) for image in images])
    with torch.no_grad():
        for _ in range(40):
            net(batch)  # running statistics that are not the identity
        net.eval()
        logits = net.outputs(batch)["out"]
        spread = logits.std(dim=(0, 2, 3), keepdim=True)
        net.head.weight.mul_(3 / spread.view(-1, 1, 1, 1))
        net.head.bias.copy_(-net.outputs(batch)["out"].mean(dim=(0, 2, 3)) + net.head.bias)
    shares = np.bincount(torch_mask(net, images[0]).ravel(), minlength=4) / 96**2
    assert (shares > 0.02).sum() >= 3, "the network tells no classes apart, so it would hide faults"
    return net


@pytest.fixture(scope="session")
def artifact(model: SegmentationModel) -> Artifact:
    return describe(model, CLASSES, {"epochs": 3})


@pytest.fixture(scope="session")
def exported(model: SegmentationModel, artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_onnx(model, tmp_path_factory.mktemp("file") / "tiny.onnx", artifact)


@pytest.fixture
def scenes(model: SegmentationModel) -> Scenes:
    return Scenes(truth=lambda image: torch_mask(model, image))


def images_of(*size: int, batch: int = 1) -> NDArray[np.uint8]:
    return np.stack([cv2.resize(Scenes().read(i)[0], size[::-1]) for i in range(batch)])


@pytest.fixture
def no_export(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies the file that is there instead of exporting it anew, which takes seconds."""
    monkeypatch.setattr(verify_module, "export_onnx", lambda _, path, __: shutil.copy(exported, path))
