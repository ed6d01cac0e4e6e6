from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from featherseg.compress.calibration import calibration_images
from featherseg.compress.qat import fake_quantize, plain
from featherseg.compress.qdq import quantize_onnx
from featherseg.compress.weights_int8 import quantize_array
from featherseg.core.errors import ConfigError, DataError
from featherseg.core.types import ClassSet
from featherseg.data.readers.synthetic import SyntheticStreet
from featherseg.exporting.onnx import export_onnx
from featherseg.models.base import SegmentationModel
from featherseg.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from featherseg.models.factory import create_model
from featherseg.models.facts import count_gmacs
from featherseg.models.session import describe
from featherseg.runtime.segmenter import Segmenter
from int8_graphs import settle_norms

IMAGES = calibration_images(SyntheticStreet(count=6, size=(64, 96)), 6)
CLASSES = ClassSet(tuple("abcde"))


@pytest.fixture
def model() -> SegmentationModel:
    torch.manual_seed(0)
    net = create_model("jetnet", len(CLASSES))
    settle_norms(net, IMAGES)
    return net


def pixels(net: SegmentationModel) -> Tensor:
    return torch.from_numpy(np.stack([net.input_spec.normalize(image) for image in IMAGES]))


def logits(net: SegmentationModel) -> Tensor:
    with torch.no_grad():
        return net.outputs(pixels(net))["out"]


@pytest.mark.parametrize("flavour", ["onnxruntime", "openvino", "tensorrt"])
@pytest.mark.slow
def test_rounds_as_the_int8_file_does(model: SegmentationModel, tmp_path: Path, flavour: str) -> None:
    exact = logits(model)
    source = export_onnx(model, tmp_path / "f.onnx", describe(model, CLASSES))
    names = fake_quantize(model, IMAGES, flavour=flavour)
    assert names == ["stem.0.0", *[f"stem.{i}.conv{j}.0" for i in (1, 2) for j in (1, 2)], "down4.0", "down8.0"]
    ours = logits(model)
    session = Segmenter(quantize_onnx(source, tmp_path / "i.onnx", IMAGES, flavour=flavour)).session
    file = torch.from_numpy(session.run(np.stack(IMAGES)))
    with torch.inference_mode():  # as evaluation runs it
        assert torch.equal(model.outputs(pixels(model))["out"], ours)
    assert (ours - file).pow(2).mean() < 0.35 * (exact - file).pow(2).mean(), "most of the file's error is foreseen"


def test_plain_again_with_the_trained_weights(model: SegmentationModel, tmp_path: Path) -> None:
    before, keys, kinds = logits(model), list(model.state_dict()), [type(m) for m in model.modules()]
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fake_quantize(model, IMAGES)
    assert list(model.state_dict()) == keys, "checkpoints are those of the plain network"
    assert not torch.equal(logits(model), before)
    save_checkpoint(tmp_path / "w.safetensors", Checkpoint(model, CLASSES))
    torch.testing.assert_close(logits(load_checkpoint(tmp_path / "w.safetensors").model), before)
    assert count_gmacs(model, (64, 96)) > 0, "training notes it"
    twin = copy.deepcopy(model)  # as averaging does
    assert torch.equal(logits(twin), logits(model))
    plain(model)
    assert [type(m) for m in model.modules()] == kinds
    assert torch.equal(logits(model), before)
    assert not torch.equal(logits(twin), before), "the copy still rounds"
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[name])
    assert not any("step" in name for module in model.modules() for name in vars(module))


def test_weights_are_rounded_a_channel_each(model: SegmentationModel) -> None:
    conv = model.get_submodule("down4.0")
    assert isinstance(conv, nn.Conv2d)
    codes, scale = quantize_array(conv.weight.detach().numpy(), 0)
    reference = nn.Conv2d(32, 64, 3, stride=2, padding=conv.padding, dilation=conv.dilation, bias=False)
    reference.weight.data = torch.from_numpy(codes * scale)
    fake_quantize(model, IMAGES)
    low, zero, lowest, highest = conv.input_step  # type: ignore[misc]
    x = torch.rand(1, 32, 20, 20) * low * 300
    rounded = (torch.clamp(torch.round(x / low) + zero, lowest, highest) - zero) * low
    torch.testing.assert_close(conv(x), reference(rounded), rtol=1e-4, atol=1e-4)


def test_gradients_pass_within_the_range_and_stop_beyond(model: SegmentationModel) -> None:
    fake_quantize(model, IMAGES)
    conv = model.get_submodule("down4.0")
    top = conv.input_step[0] * 255  # type: ignore[index]
    inside = torch.full((1, 32, 8, 8), 0.4 * top, requires_grad=True)
    conv(inside).sum().backward()
    assert inside.grad is not None
    assert inside.grad.abs().sum() > 0
    beyond = torch.full((1, 32, 8, 8), 1.5 * top, requires_grad=True)
    conv(beyond).sum().backward()
    assert beyond.grad is not None
    assert not beyond.grad.any()
    model.train()
    model.outputs(pixels(model))["out"].sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


@pytest.mark.slow
def test_training_with_the_rounding_wins_back_what_it_cost(model: SegmentationModel) -> None:
    """A network taught its own float logits, through inputs of 15 steps only."""
    target = logits(model)
    fake_quantize(model, IMAGES)
    for module in model.modules():
        if scale := getattr(module, "input_step", None):
            module.input_step = (scale[0] * 17, scale[1] // 17, 0, 15)  # type: ignore[assignment]
    before = (logits(model) - target).pow(2).mean()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-4)
    for _ in range(40):
        optimizer.zero_grad()
        loss = (model.outputs(pixels(model))["out"] - target).pow(2).mean()
        loss.backward()
        optimizer.step()
    assert (logits(model) - target).pow(2).mean() < 0.7 * before


def test_symmetric_codes_for_tensorrt(model: SegmentationModel) -> None:
    fake_quantize(model, IMAGES, flavour="tensorrt")
    steps = [m.input_step for m in model.modules() if getattr(m, "input_step", None)]
    assert steps
    assert {step[1:] for step in steps} == {(0, -127, 127)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fastsegnet", "lednet"])
def test_other_networks_round_and_come_back(name: str) -> None:
    torch.manual_seed(0)
    net = create_model(name, 3).eval()
    before = logits(net)
    names = fake_quantize(net, IMAGES[:4])
    assert len(names) > 50
    rounded = logits(net)
    assert 0 < float((rounded - before).pow(2).mean()) < 0.2 * float(before.pow(2).mean())
    plain(net)
    assert torch.equal(logits(net), before)


def test_wrong_uses(model: SegmentationModel) -> None:
    with pytest.raises(DataError, match="give at least"):
        fake_quantize(model, IMAGES[:2])
    with pytest.raises(ConfigError, match="method is"):
        fake_quantize(model, IMAGES, method="none")
    fake_quantize(model, IMAGES)
    with pytest.raises(ConfigError, match="jetnet rounds already"):
        fake_quantize(model, IMAGES)
