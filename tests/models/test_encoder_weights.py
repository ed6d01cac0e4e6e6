"""Pretrained encoders: from files, from the folder of weights, and what is said where there are none."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor

import featherseg.models.families.resnet_unet
from featherseg.core.errors import CheckpointError, ConfigError
from featherseg.models.families.fastsegnet import FastSegNet
from featherseg.models.families.mobilenet_aspp import LightweightSegmentationModel
from featherseg.models.families.resnet_unet import ResNetUNet


@pytest.mark.parametrize("stride", [4, 2])
def test_fastsegnet_encoder_from_imagenet_at_a_fine_stride(stride: int, shared: Path) -> None:
    file = shared / "weights" / "mobilenet_v2_imagenet_features.safetensors"
    model = FastSegNet(5, stride=stride, encoder_weights=file)
    theirs = load_file(file)
    prefix = "features." if all(name.startswith("features.") for name in theirs) else ""
    ours = model.features.state_dict()
    assert all(torch.equal(tensor, theirs[prefix + name]) for name, tensor in ours.items())


def test_unet_encoder_from_a_local_classifier(tmp_path: Path) -> None:
    classifier = timm.create_model("resnet18", pretrained=False)
    torch.save(classifier.state_dict(), tmp_path / "resnet18.pth")
    model = ResNetUNet(2, encoder="resnet18", encoder_weights=tmp_path / "resnet18.pth").eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model.encoder(image)[-1], classifier.eval().forward_features(image))
    with pytest.raises(CheckpointError, match="layer1"):
        ResNetUNet(2, encoder="resnet50", encoder_weights=tmp_path / "resnet18.pth")


def test_unet_encoder_from_a_flattened_pyramid(tmp_path: Path) -> None:
    classifier = timm.create_model("edgenext_xx_small", pretrained=False)
    save_file(classifier.state_dict(), tmp_path / "edgenext.safetensors")
    model = ResNetUNet(2, encoder="edgenext_xx_small", encoder_weights=tmp_path / "edgenext.safetensors")
    assert torch.equal(model.encoder.state_dict()["stem_0.weight"], classifier.state_dict()["stem.0.weight"])


def test_mobilenet_encoder_from_a_local_classifier(tmp_path: Path) -> None:
    classifier = torchvision.models.mobilenet_v3_small()
    save_file(classifier.state_dict(), tmp_path / "v3.safetensors")
    model = LightweightSegmentationModel(2, encoder_weights=str(tmp_path / "v3.safetensors"))
    ours, theirs = model.features.state_dict(), classifier.features.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    with pytest.raises(CheckpointError, match="another network"):
        ResNetUNet(2, encoder="resnet18", encoder_weights=tmp_path / "v3.safetensors")
    with pytest.raises(ConfigError, match="pretrained=True asks for ImageNet"):
        LightweightSegmentationModel(2, pretrained=True, encoder_weights=tmp_path / "v3.safetensors")


def test_pretrained_asks_for_imagenet(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = torchvision.models.mobilenet_v3_small()
    weights = torchvision.models.MobileNet_V3_Small_Weights

    def published(*_: object, **__: object) -> dict[str, Tensor]:
        return dict(classifier.state_dict())

    monkeypatch.setattr(weights, "get_state_dict", published)
    for model in (
        LightweightSegmentationModel(2, pretrained=True),
        LightweightSegmentationModel(2, encoder_weights="imagenet"),
    ):
        assert torch.equal(model.features[12][0].weight, classifier.features[12][0].weight)


def test_imagenet_weights_are_taken_from_the_folder_that_the_variable_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = torchvision.models.mobilenet_v3_small()
    (tmp_path / "deep").mkdir()
    for name in ("mobilenet_v3_smaller.safetensors", "mobilenet_v3_small-047dcff4.txt"):
        (tmp_path / name).write_bytes(b"another file")
    save_file(classifier.state_dict(), tmp_path / "deep" / "mobilenet_v3_small-047dcff4.safetensors")
    monkeypatch.setenv("FEATHERSEG_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(
        torchvision.models.MobileNet_V3_Small_Weights, "get_state_dict", lambda *_, **__: pytest.fail("fetched")
    )
    model = LightweightSegmentationModel(2, encoder_weights="imagenet")
    assert torch.equal(model.features[12][0].weight, classifier.features[12][0].weight)
    monkeypatch.setenv("FEATHERSEG_WEIGHTS", str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match="which is no folder"):
        LightweightSegmentationModel(2, encoder_weights="imagenet")


def test_offline_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> dict[str, Tensor]:
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models.MobileNet_V3_Small_Weights, "get_state_dict", offline)
    monkeypatch.setattr(featherseg.models.families.resnet_unet, "_imagenet", offline)
    for build in (
        lambda: LightweightSegmentationModel(2, pretrained=True),
        lambda: ResNetUNet(2, encoder="resnet18", encoder_weights="imagenet"),
    ):
        with pytest.raises(ConfigError, match=r"cannot be downloaded \(no route to host\)"):
            build()
