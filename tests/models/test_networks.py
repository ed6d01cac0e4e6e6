from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from conftest import create_variant, error_line
from featherseg.core.errors import ConfigError
from featherseg.models.base import SegmentationModel
from featherseg.models.factory import create_model, model_facts, models
from featherseg.models.facts import count_gmacs, count_parameters
from featherseg.models.families.fastsegnet import FastSegNet
from featherseg.models.families.jetnet import JetBlock, JetNet
from featherseg.models.families.lednet import NET_NAMES, Downsampler, LEDNet, SSnbt, return_model
from featherseg.models.families.mobilenet_aspp import LightweightSegmentationModel
from featherseg.models.families.resnet_unet import ResNetUNet

CLASSES = 5
_built: dict[str, SegmentationModel] = {}


@pytest.fixture
def model(variant: str) -> Iterator[SegmentationModel]:
    """One instance of each network for the whole file, in eval; tests that change it build their own."""
    if variant not in _built:
        torch.manual_seed(0)
        _built[variant] = create_variant(variant, CLASSES)
    with torch.no_grad():
        yield _built[variant].eval()


def ceil(a: int, b: int) -> int:
    return -(-a // b)


# Every network


@pytest.mark.parametrize("size", [(224, 224), (65, 97), (33, 17), (1, 1)])
def test_logits_have_the_image_size(model: SegmentationModel, size: tuple[int, int]) -> None:
    logits = model(torch.randn(2, 3, *size))
    assert logits.shape == (2, CLASSES, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (127, 66), (33, 17), (130, 20)])
def test_maps_have_the_declared_strides(model: SegmentationModel, size: tuple[int, int]) -> None:
    maps = model.outputs(torch.randn(1, 3, *size))
    strides = {"out": model.stride} | {tap: int(tap[1:]) for tap in maps if tap.startswith("x")}
    assert len(strides) > 1, "no feature taps for distillation"
    assert set(maps) == set(strides), "auxiliary logits belong to training only"
    assert model.stride == model.options.get("stride", model_facts(model.name).stride)
    for tap, stride in strides.items():
        assert maps[tap].shape[-2:] == (ceil(size[0], stride), ceil(size[1], stride)), tap


def test_forward_is_outputs_resized(model: SegmentationModel) -> None:
    image = torch.randn(1, 3, 97, 65)
    expected = F.interpolate(model.outputs(image)["out"], size=(97, 65), mode="bilinear", align_corners=False)
    torch.testing.assert_close(model(image), expected, rtol=0, atol=0)


def test_eval_is_deterministic_and_images_do_not_mix(model: SegmentationModel) -> None:
    images = torch.randn(2, 3, 64, 96)
    both = model(images)
    torch.testing.assert_close(model(images), both, rtol=0, atol=0)
    # In double precision: where ENet unpools to hangs on which of four values is the largest, if only by rounding.
    exact, images = copy.deepcopy(model).double(), images.double()
    torch.testing.assert_close(exact(images[1:]), exact(images)[1:], rtol=1e-9, atol=1e-9)


def test_declared_facts_are_true(network_name: str) -> None:
    facts = model_facts(network_name)
    with torch.device("meta"):
        model = create_model(network_name, facts.num_classes).eval()
        image = torch.zeros(1, 3, *facts.size)
    assert count_parameters(model)[0] == facts.params
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.outputs(image)
    assert counter.get_total_flops() / 2e9 == pytest.approx(facts.gmacs, abs=6e-4)


@pytest.mark.parametrize("size", [(65, 97), (1, 1)])
def test_a_batch_of_one_trains_every_parameter(variant: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = create_variant(variant, CLASSES).train()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):  # timm starts the last norm of a residual branch at zero
            nn.init.uniform_(layer.weight, 0.5, 1.5)
    image = torch.randn(1, 3, *size)
    logits = [maps for key, maps in model.outputs(image).items() if key == "out" or key.startswith("aux")]
    loss = torch.stack([(x * torch.randn_like(x)).sum() for x in (*logits, model(image))]).sum()
    loss.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{key} gets no gradient"
        assert parameter.grad.isfinite().all(), key
        if size != (1, 1) and parameter.ndim > 1:
            assert parameter.grad.any(), f"{key} gets a zero gradient"


def test_options_and_state_rebuild_the_network(model: SegmentationModel) -> None:
    twin = create_model(model.name, CLASSES, **model.options)
    twin.load_state_dict(model.state_dict(), strict=True)
    image = torch.randn(1, 3, 70, 64)
    torch.testing.assert_close(twin.eval()(image), model(image), rtol=0, atol=0)


def test_encoder_parameters_are_some_of_the_networks(model: SegmentationModel) -> None:
    encoder = {id(p) for p in model.encoder_parameters()}
    own = {id(p) for p in model.parameters()}
    assert encoder < own
    assert bool(encoder) == ("encoder_weights" in inspect.signature(models.get(model.name)).parameters)


def test_unknown_options_are_refused(network_name: str) -> None:
    with pytest.raises(ConfigError, match="no option 'pretraind'"):
        create_model(network_name, CLASSES, pretraind=True)


# Parameter counts that users know


@pytest.mark.parametrize(
    ("kind", "count"), [(JetNet, 133_301), (ResNetUNet, 26_703_701), (LightweightSegmentationModel, 6_831_509)]
)
def test_parameter_counts_at_21_classes(kind: type[SegmentationModel], count: int) -> None:
    with torch.device("meta"):
        assert count_parameters(kind()) == (count, count)  # 21 is the default


# FastSegNet


def test_fastsegnet_of_the_usual_stride_is_what_it_was() -> None:
    """Checkpoints of versions before the option load, and such versions load ours."""
    with torch.device("meta"):
        model = FastSegNet(2)
    assert (model.stride, model.options) == (8, {"width": 1.0})
    assert "head.0.0.weight" in model.state_dict()
    assert not [name for name in model.state_dict() if name.startswith("finer")]


@pytest.mark.parametrize(("stride", "params", "gmacs"), [(8, 2.303, 4.650), (4, 2.238, 4.378), (2, 2.236, 4.582)])
def test_fastsegnet_costs_at_each_stride_what_its_docstring_says(stride: int, params: float, gmacs: float) -> None:
    with torch.device("meta"):
        model = FastSegNet(19, stride=stride)
    assert count_parameters(model)[0] / 1e6 == pytest.approx(params, abs=6e-4)
    assert count_gmacs(model, (512, 1024)) == pytest.approx(gmacs, abs=6e-4)
    row = f"{stride}       {params:.3f}         {gmacs:.3f}"
    assert row in (inspect.getdoc(FastSegNet) or "")


@pytest.mark.parametrize("width", [0.5, 0.75])
@pytest.mark.parametrize("stride", [4, 2])
def test_fastsegnet_of_another_width_takes_every_stride(width: float, stride: int) -> None:
    model = create_model("fastsegnet", CLASSES, width=width, stride=stride).eval()
    with torch.no_grad():
        maps = model.outputs(torch.randn(1, 3, 97, 65))
    assert maps["out"].shape == (1, CLASSES, ceil(97, stride), ceil(65, stride))
    assert model.options == {"width": width, "stride": stride}


@pytest.mark.parametrize("stride", [16, 1, 0, -4])
def test_fastsegnet_refuses_another_stride(stride: int) -> None:
    line = error_line(ConfigError, create_model, "fastsegnet", CLASSES, stride=stride)
    assert line == f"fastsegnet's stride is {stride}; choose one of 8, 4, 2"


# JetNet


def test_jetblock_is_an_identity_plus_a_branch() -> None:
    block = JetBlock(4, dilation=2).eval()
    x = torch.randn(1, 4, 9, 7)
    nn.init.zeros_(block.conv2[1].weight)
    torch.testing.assert_close(block(x), x.clamp(min=0))


# LEDNet


def test_lednet_size_and_signs() -> None:
    torch.manual_seed(0)
    model = LEDNet(22).train()
    logits = model(torch.randn(2, 3, 64, 64))
    assert 0.90e6 < count_parameters(model)[0] < 0.95e6
    lowest, highest = logits.amin(dim=(0, 2, 3)), logits.amax(dim=(0, 2, 3))
    assert (lowest < 0).sum() > 2, "logits are clamped at zero"
    assert (highest > 0).sum() > 2


def test_lednet_starts_near_the_loss_of_guessing() -> None:
    torch.manual_seed(0)
    target = torch.randint(0, 21, (2, 64, 96))
    loss = F.cross_entropy(LEDNet(21).train()(torch.randn(2, 3, 64, 96)), target)
    assert loss.item() == pytest.approx(torch.tensor(21.0).log().item(), abs=0.5)


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (1, 2)])
def test_downsampler_rounds_up(size: tuple[int, int]) -> None:
    assert Downsampler(3, 32)(torch.randn(2, 3, *size)).shape == (2, 32, ceil(size[0], 2), ceil(size[1], 2))


def test_ssnbt_shuffles_two_groups() -> None:
    block = SSnbt(6).eval()
    for layer in block.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.zeros_(layer.weight)  # silences both branches
    x = torch.rand(1, 6, 3, 3)
    torch.testing.assert_close(block(x), x[:, [0, 3, 1, 4, 2, 5]])


@pytest.mark.parametrize("dilation", [1, 5])
def test_ssnbt_sees_as_far_as_its_dilation(dilation: int) -> None:
    block = SSnbt(4, dilation=dilation).eval()
    for parameter in block.parameters():
        nn.init.constant_(parameter, 0.1)
    x = torch.rand(1, 4, 41, 41, requires_grad=True)
    block(x)[0, :, 20, 20].sum().backward()
    assert x.grad is not None
    for channel in range(4):
        seen = x.grad[0, channel].nonzero()
        # One plain and one dilated pair: 1 + dilation pixels to each side, in both directions.
        assert seen.amin(0).tolist() == [19 - dilation] * 2
        assert seen.amax(0).tolist() == [21 + dilation] * 2


def test_lednet_dilations() -> None:
    spreads = [
        max(max(layer.dilation) for layer in block.modules() if isinstance(layer, nn.Conv2d))
        for block in LEDNet(2).stage8
        if isinstance(block, SSnbt)
    ]
    assert spreads == [1, 2, 5, 9, 2, 5, 9, 17]


@pytest.mark.parametrize("net", NET_NAMES)
def test_return_model_takes_the_known_names(net: str) -> None:
    model = return_model(input_nc=3, output_nc=22, netG=net).eval()
    assert model(torch.randn(1, 3, 64, 80)).shape == (1, 22, 64, 80)


def test_return_model_takes_other_channels() -> None:
    assert return_model(4, 2).eval()(torch.randn(1, 4, 65, 65)).shape == (1, 2, 65, 65)
    with pytest.raises(ConfigError, match=r"'lednet_129'; did you mean"):
        return_model(netG="lednet_129")
    with pytest.raises(ConfigError, match="output_nc is 0"):
        return_model(output_nc=0)
    with pytest.raises(ConfigError, match="in_channels is 32"):
        return_model(input_nc=32)


# ResNetUNet


@pytest.mark.parametrize(
    "encoder",
    [
        "resnet18",
        "resnet50",
        "efficientnet_b0",
        "mobilenetv3_large_100",
        "edgenext_xx_small",  # rounds sizes down, no stride 2
        "fastvit_t8",  # rounds up, no stride 2
        "hrnet_w18_small",  # fails by itself at odd sizes
        "tf_efficientnet_lite0",  # pads by whether a side is odd
    ],
)
def test_unet_takes_encoders_by_name(encoder: str) -> None:
    model = ResNetUNet(CLASSES, encoder=encoder)
    assert model.training
    assert all(layer.training for layer in model.modules())
    image = torch.randn(1, 3, 65, 70)
    with torch.no_grad():
        assert model(image).shape == (1, CLASSES, 65, 70)  # a batch of one in training
        maps = model.eval().outputs(image)
    assert {key: tuple(x.shape[-2:]) for key, x in maps.items()} == {
        "out": (33, 35),
        "x4": (17, 18),
        "x8": (9, 9),
        "x16": (5, 5),
    }


def test_unet_pads_as_tensorflow_does_where_sides_are_even() -> None:
    model = ResNetUNet(CLASSES, encoder="tf_efficientnet_lite0").eval()
    original = timm.create_model("tf_efficientnet_lite0", features_only=True).eval()
    original.load_state_dict(model.encoder.state_dict())
    image = torch.randn(1, 3, 96, 160)
    with torch.no_grad():
        for ours, theirs in zip(model.encoder(image), original(image), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_unet_decoder_joins_the_stated_channels() -> None:
    with torch.device("meta"):
        decoder = ResNetUNet().decoder
    assert [block.mix[0][0].in_channels for block in decoder] == [512, 256, 128, 96]
    assert [block.up.in_channels for block in decoder] == [512, 256, 128, 64]


def test_unet_normalises_as_its_encoder_was_trained() -> None:
    with torch.device("meta"):
        assert ResNetUNet(2, encoder="resnet18").input_spec.mean == (0.485, 0.456, 0.406)
        assert ResNetUNet(2, encoder="mobilevit_xxs").input_spec.std == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("resnet35", "unknown encoder 'resnet35'; did you mean"),
        ("resnet18.nonsense", r"cannot be used \(.*nonsense"),
        ("vit_tiny_patch16_224", "no feature maps at strides 4, 8, 16 and 32"),
    ],
)
def test_unet_refuses_what_is_no_pyramid(encoder: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        ResNetUNet(2, encoder=encoder)
    assert "\n" not in str(caught.value)


# mobilenet_aspp


@pytest.mark.parametrize("size", [(64, 128), (65, 97), (33, 17)])
def test_return_features(size: tuple[int, int]) -> None:
    model = LightweightSegmentationModel(CLASSES, return_features=True).eval()
    image = torch.randn(2, 3, *size)
    with torch.no_grad():
        logits, features = model(image)
        maps = model.outputs(image)
    assert logits.shape == (2, CLASSES, *size)
    expected = {"low": (16, 4), "mid": (24, 8), "high": (48, 16)}
    assert set(features) == set(expected)
    for key, (channels, stride) in expected.items():
        assert features[key].shape == (2, channels, ceil(size[0], stride), ceil(size[1], stride))
        assert torch.equal(features[key], maps[f"x{stride}"])


def test_aspp_works_at_stride_16() -> None:
    model = LightweightSegmentationModel(CLASSES).eval()
    seen: list[torch.Size] = []
    model.aspp.register_forward_hook(lambda _, args, y: seen.extend([args[0].shape, y.shape]))
    with torch.no_grad():
        model(torch.randn(1, 3, 128, 97))
    assert seen == [(1, 576, 8, 7), (1, 256, 8, 7)]
