"""FPENet, MiniNetV2, ENet and CGNet against the program that their published Cityscapes weights come from."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featherseg.compress.channels import find_channels
from featherseg.core.types import ClassSet, ImageArray
from featherseg.exporting.onnx import export_onnx
from featherseg.models.base import SegmentationModel
from featherseg.models.factory import create_model
from featherseg.models.facts import count_parameters
from featherseg.models.families.cgnet import CGBlock
from featherseg.models.families.enet import MaxPool, unpool
from featherseg.models.families.fpenet import FPEBlock
from featherseg.models.layers import InitialBlock
from featherseg.models.session import describe
from featherseg.runtime.sessions.base import open_session

NAMES = ["fpenet", "mininetv2", "enet", "cgnet"]
CORNERS = {"fpenet", "mininetv2", "cgnet"}
"""Networks whose own program upsamples the logits corner onto corner, which no part of featherseg does."""


def facts(shared: Path, name: str) -> tuple[Path, dict[str, Any]]:
    """A published file and what is known of it."""
    folder = shared / "weights" / "cityscapes"
    if not folder.is_dir():
        pytest.skip(f"needs the published weights in {folder}")
    known = json.loads((folder / "files.json").read_text())[name]
    return folder / known["file"], known


def published(shared: Path, name: str) -> SegmentationModel:
    path, known = facts(shared, name)
    weights = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    model = create_model(name, 19).eval()
    convert = import_module(f"featherseg.models.converters.{name}").convert
    model.load_state_dict(convert(weights), strict=True)
    assert count_parameters(model)[0] == known["params"]
    return model


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_the_published_program(name: str, shared: Path) -> None:
    model = published(shared, name)
    golden = np.load(shared / "weights" / "cityscapes" / "golden_logits.npz")
    image = torch.from_numpy(golden["image"])
    with torch.no_grad():
        logits = F.interpolate(
            model.outputs(image)["out"], size=image.shape[-2:], mode="bilinear", align_corners=name in CORNERS
        )[0]
        if name not in CORNERS:
            assert torch.equal(model(image)[0], logits)
    np.testing.assert_allclose(logits[:, ::8, ::8].numpy(), golden[name], rtol=0, atol=1e-4)
    best = logits.topk(2, dim=0).values
    clear = (best[0] - best[1] > 1e-4).numpy()
    assert clear.mean() > 0.9, "ties everywhere prove nothing"
    np.testing.assert_array_equal(logits.argmax(0).numpy()[clear], golden[f"{name}_argmax"][clear])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_exported_file_gives_their_masks(name: str, shared: Path, tmp_path: Path) -> None:
    model = published(shared, name)
    classes = ClassSet(tuple(f"class {i}" for i in range(19)))
    session = open_session(export_onnx(model, tmp_path / "net.onnx", describe(model, classes)), threads=1)
    street = next((shared / "data" / "cityscapes").rglob("*_leftImg8bit.png"), None)
    if street is None:
        pytest.skip(f"needs the pictures in {shared / 'data' / 'cityscapes'}")
    for size in ((128, 256), (131, 213)):
        image = picture(street, size)
        with torch.no_grad():
            expected = model.outputs(torch.from_numpy(model.input_spec.normalize(image))[None])["out"].numpy()
        actual = session.run(image[None])
        assert actual.shape == expected.shape
        assert (actual.argmax(1) == expected.argmax(1)).mean() > 0.9999
        # A handful of ENet's values may be put elsewhere, where two of a window differ by less than rounding.
        assert np.quantile(np.abs(actual - expected), 0.999) < 1e-3


def picture(path: Path, size: tuple[int, int]) -> ImageArray:
    from PIL import Image

    with Image.open(path) as file:
        return np.asarray(file.convert("RGB").resize(size[::-1]))


# ENet's unpooling


@pytest.mark.parametrize("size", [(6, 8), (7, 9), (1, 1), (2, 5)])
@pytest.mark.parametrize("levels", [2, 1000])
def test_unpooling_is_torchs(size: tuple[int, int], levels: int) -> None:
    """Of two levels, most windows have several maxima."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, levels, (2, 3, *size), generator=generator).double() - 1
    x.requires_grad_()
    pooled, lower, right = MaxPool()(x)
    theirs, indices = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
    assert torch.equal(pooled, theirs)
    values = torch.randn(pooled.shape, generator=generator, dtype=torch.float64, requires_grad=True)
    ours = unpool(values, lower, right)[..., : size[0], : size[1]]
    expected = F.max_unpool2d(values, indices, 2, output_size=size)
    assert torch.equal(ours, expected)
    weight = torch.randn(ours.shape, generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((ours * weight).sum(), values)
    assert torch.equal(gradient, torch.autograd.grad((expected * weight).sum(), values)[0])


class Unpooled(SegmentationModel):
    """Values of few levels, pooled and put back."""

    stride = 1
    num_classes = 3

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(-7.0))

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        pooled, lower, right = MaxPool()(image.round())
        return {"out": unpool(pooled + self.shift, lower, right)[..., : image.shape[-2], : image.shape[-1]]}


@pytest.mark.slow
def test_unpooling_is_torchs_in_onnx_runtime(tmp_path: Path) -> None:
    net = Unpooled().eval()
    session = open_session(export_onnx(net, tmp_path / "net.onnx", describe(net, ClassSet(("a", "b", "c")))))
    for size in ((64, 80), (97, 65)):
        image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        x = torch.from_numpy(net.input_spec.normalize(image))[None].round()
        pooled, indices = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
        expected = F.max_unpool2d(pooled - 7, indices, 2, output_size=size)
        np.testing.assert_array_equal(session.run(image[None]), expected.numpy())


# Blocks


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (1, 2)])
def test_what_halves_rounds_up(size: tuple[int, int]) -> None:
    half = -(-size[0] // 2), -(-size[1] // 2)
    x = torch.randn(2, 16, *size)
    assert InitialBlock(16, 64, act=nn.ReLU())(x).shape == (2, 64, *half)
    assert FPEBlock(16, 32, stride=2)(x).shape == (2, 32, *half)
    assert CGBlock(16, 32, dilation=4, stride=2)(x).shape == (2, 32, *half)


def test_fpe_parts_build_on_the_nearer_ones() -> None:
    """A part that sees nothing of its own passes on what those of smaller dilation saw, and not the other way round."""
    block = FPEBlock(8, 8).eval()
    for level in block.pyramid[1:]:
        nn.init.zeros_(level[0].weight)
    seen: list[Tensor] = []
    block.project.register_forward_pre_hook(lambda _, args: seen.extend(args[0].chunk(4, dim=1)))
    block(torch.randn(1, 8, 9, 9))
    assert seen[0].any()
    assert all(torch.equal(part, seen[0]) for part in seen[1:])
    nn.init.zeros_(block.pyramid[0][0].weight)
    nn.init.ones_(block.pyramid[3][0].weight)
    seen.clear()
    block(torch.randn(1, 8, 9, 9))
    assert [bool(part.any()) for part in seen] == [False, False, False, True]


# Pruning


@pytest.mark.parametrize("name", ["fpenet", "cgnet"])
def test_every_convolution_within_a_block_can_be_pruned(name: str) -> None:
    kept = find_channels(create_model(name, 5)).kept
    heads = {layer for layer, reason in kept.items() if "classes of" in reason}
    fusion = {layer for layer in kept if layer.startswith("fuse")}  # its attention takes the mean of all channels
    assert kept.keys() == heads | fusion
    assert bool(fusion) == (name == "fpenet")
