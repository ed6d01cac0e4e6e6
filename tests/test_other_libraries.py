"""Networks of segmentation_models_pytorch, torchvision and transformers, from a module to a proven int8 file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

import featherseg
from conftest import street
from featherseg.core.images import write_image, write_mask
from featherseg.core.types import ClassSet

CLASSES = ClassSet(("sky", "road", "car"))


def unet() -> nn.Module:
    smp = pytest.importorskip("segmentation_models_pytorch")
    return smp.Unet("resnet18", encoder_depth=3, encoder_weights=None, decoder_channels=(32, 16, 8), classes=3)


def fpn() -> nn.Module:
    """One that refuses sides that are no multiples of 32."""
    smp = pytest.importorskip("segmentation_models_pytorch")
    return smp.FPN("resnet18", encoder_weights=None, classes=3, decoder_pyramid_channels=32)


def lraspp() -> nn.Module:
    return lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)


def segformer() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.SegformerConfig(num_labels=3, hidden_sizes=[8, 16, 24, 32], depths=[1] * 4)
    return transformers.SegformerForSemanticSegmentation(config)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve pictures, of a size that no network's stride divides."""
    for i in range(12):
        image, mask = street(i, (70, 90))
        for part in ("images", "masks"):
            (tmp_path / "photos" / part).mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / "photos" / "images" / f"s{i}.png", image)
        write_mask(tmp_path / "photos" / "masks" / f"s{i}.png", mask, CLASSES)
    (tmp_path / "photos" / "classes.toml").write_text('names = ["sky", "road", "car"]\n')
    return tmp_path / "photos"


@pytest.mark.slow
@pytest.mark.parametrize("build", [unet, fpn, lraspp, segformer], ids=lambda build: build.__name__)
def test_from_a_module_to_a_proven_int8_file(
    build: Callable[[], nn.Module], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    module = build()
    quick = {"data": {"batch_size": 4, "workers": 0}, "augment": {"crop": [64, 64]}}
    run = featherseg.fit(photos, model=module, train={"epochs": 2, "precision": "fp32", "device": "cpu"}, **quick)
    # What is hardly trained loses more to rounding than a network may.
    wide = ["ship.int8=true", "ship.max_drop=0.95", "ship.calibration=6", "ship.threads=1"]
    wide.append("ship.tolerances.int8={min_agreement=0.05, max_logit_error=20.0, max_confidence_error=1.0}")
    report = featherseg.ship(run.path, "dist", featherseg.load_config(None, wide).ship, model=module)
    assert [(file.name, file.passed) for file in report.files] == [("photos.onnx", True), ("photos_int8.onnx", True)]
    fp32, int8 = (file.bytes for file in report.files)
    assert int8 < 0.5 * fp32
    prediction = featherseg.Segmenter("dist/photos_int8.onnx", threads=1)("photos/images/s0.png")
    assert prediction.mask.shape == (70, 90)


def test_a_network_in_memory_step_by_step(photos: Path, tmp_path: Path) -> None:
    """Evaluate, export with proof, quantise and ship what featherseg has not trained."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1)
    )
    val_set, train_set = (featherseg.create_dataset("folder", photos, split) for split in ("val", "train"))
    assert 0 <= featherseg.evaluate(module, val_set).miou <= 1
    assert featherseg.export_verified(module, tmp_path / "net.onnx", val_set, threads=1).passed
    assert featherseg.verify(module, tmp_path / "net.onnx", val_set, threads=1).passed
    result = featherseg.export("onnx", module, tmp_path / "fixed.onnx", val_set, size=(64, 96), threads=1)
    assert result is not None
    assert result.passed
    images = [train_set.read(i)[0] for i in range(6)]
    settings = featherseg.QuantizeConfig(max_drop=0.95, runs=1, threads=1)
    int8 = featherseg.quantize(module, tmp_path / "net_int8.onnx", images, val_set, settings)
    assert int8.path.is_file()
    report = featherseg.ship(module, tmp_path / "dist", featherseg.ShipConfig(threads=1), data=photos)
    assert [(file.name, file.passed) for file in report.files] == [("sequential.onnx", True)]
    assert featherseg.Segmenter(tmp_path / "dist" / "sequential.onnx").artifact.classes.names == ("sky", "road", "car")
