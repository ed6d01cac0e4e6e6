from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pruning_cases import Convolution, build, halved, logits, same, silence, trained_like
from torch import Tensor, nn

from featherseg.compress.channels import find_channels
from featherseg.compress.prune import prune, remove_channels
from featherseg.core.errors import ConfigError
from featherseg.models.base import SegmentationModel, resize_like
from featherseg.models.factory import create_model
from featherseg.models.facts import count_parameters

# Exactness: what is removed was all that belonged to the channels, and nothing more


def test_removing_silent_channels_changes_nothing(variant: str) -> None:
    _, result = halved(variant)
    model = build(variant).double()
    found = find_channels(model)
    rng = np.random.default_rng(0)
    gone = []
    for group in found.groups:
        before, after = next((result.plan[layer] for layer in group.layers if layer in result.plan), (0, 0))
        gone.append(rng.permutation(len(group))[: before - after])
    image = torch.randn(2, 3, 97, 65, dtype=torch.float64)
    loud = logits(model, image)
    silence(model, found.groups, gone)
    expected = logits(model, image)
    assert not torch.allclose(loud["out"], expected["out"], atol=1e-3)
    pruned = prune(model, 0.45, importance="l1", ranking="uniform", example_size=(64, 96))
    assert {layer: after for layer, (_, after) in pruned.plan.items()} == {
        layer: after for layer, (_, after) in result.plan.items()
    }
    same(logits(pruned.model, image), expected)


@pytest.mark.parametrize(
    "encoder",
    ["regnety_002", *(pytest.param(name, marks=pytest.mark.slow) for name in ("efficientnet_lite0", "densenet121"))],
)
def test_encoders_of_all_kinds(encoder: str) -> None:
    torch.manual_seed(0)
    model = trained_like(create_model("resnet_unet", 5, encoder=encoder)).double()
    found = find_channels(model)
    rows = [np.arange(0, len(group) - 1, 3) for group in found.groups]
    silence(model, found.groups, rows)
    image = torch.randn(1, 3, 70, 64, dtype=torch.float64)
    pruned = remove_channels(model, found.groups, rows)
    same(logits(pruned, image), logits(model, image))
    assert count_parameters(pruned)[0] < 0.85 * count_parameters(model)[0]
    if encoder == "regnety_002":
        assert "works on groups" in found.kept["encoder.s1.b1.conv2.conv"]


@pytest.mark.parametrize("name", ["fastsegnet", "fastsegnet at stride 2", "jetnet", "mobilenet_aspp", "resnet_unet"])
def test_groups_are_those_that_torch_pruning_finds(name: str) -> None:
    """Torch-Pruning works from torch's autograd graph; it cannot read LEDNet's shuffle."""
    tp = pytest.importorskip("torch_pruning", reason="compares with Torch-Pruning's dependency graph")
    model = build(name)

    class AllLogits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, image: Tensor) -> list[Tensor]:
            return list(self.model.outputs(image).values())

    wrapped = AllLogits().eval()
    graph = tp.DependencyGraph().build_dependency(wrapped, torch.randn(2, 3, 64, 64))
    theirs = set()
    names = {layer: name.removeprefix("model.") for name, layer in wrapped.named_modules()}
    for group in graph.get_all_groups(root_module_types=[nn.Conv2d, nn.ConvTranspose2d]):
        members = [item.dep for item in group]
        layers = {
            names[dep.target.module]
            for dep in members
            if isinstance(dep.target.module, Convolution) and graph.is_out_channel_pruning_fn(dep.handler)
        }
        theirs.add(frozenset(layers))
    found = find_channels(model)
    ours = {frozenset(group.layers) for group in found.groups} | {frozenset([layer]) for layer in found.kept}
    assert {group for group in ours if "aux_head.1" not in group} == theirs  # it sees a network in eval mode alone


def test_what_lednet_keeps() -> None:
    model, result = halved("lednet")
    splits = {layer for layer, reason in result.kept.items() if "splits or reorders" in reason}
    assert splits == {"stage2.0.conv", "stage4.0.conv", "stage8.0.conv"} | {
        f"{name}.7" for name, layer in model.named_modules() if name.endswith("_first") and len(layer) == 9
    } | {f"{name}.{len(layer) - 2}" for name, layer in model.named_modules() if name.endswith("_first")}
    assert result.kept["decoder.down1.0"] == "they are no more than 8"


# Networks of other people's making


class Custom(SegmentationModel):
    """A convolution of 16 channels, `middle`, and logits of `joined` channels; one more convolution beside."""

    stride = 1
    num_classes = 2

    def __init__(self, middle: Callable[[Custom, Tensor], Tensor], channels: int = 16) -> None:
        super().__init__()
        self.middle = middle
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.one = nn.Conv2d(16, 1, 1)
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.linear = nn.Linear(16, 16)
        self.slopes = nn.PReLU(16)
        self.scale = nn.Parameter(torch.rand(16, 1, 1))
        self.head = nn.Conv2d(channels, 2, 1)

    def compute(self, image: Tensor) -> dict[str, Tensor]:
        return {"out": self.head(self.middle(self, F.relu(self.first(image))))}


REMOVABLE: dict[str, tuple[Callable[[Custom, Tensor], Tensor], int]] = {
    "twice the same layer": (lambda net, x: net.second(F.relu(net.second(x))), 16),
    "sum": (lambda net, x: x + net.second(x), 16),
    "concatenation": (lambda net, x: torch.cat([net.second(x), x, x], 1), 48),
    "a slope per channel": (lambda net, x: net.slopes(net.second(x) - x), 16),
    "one channel over many": (lambda net, x: x * net.one(net.second(x)), 16),
    "pooling": (lambda net, x: resize_like(F.avg_pool2d(net.second(x), 2), x) + x.amax((2, 3), keepdim=True), 16),
    "places": (lambda net, x: net.second(x[..., 1:, :-1])[..., ::2].transpose(2, 3), 16),
    "silu": (lambda net, x: F.silu(net.second(x)) * F.hardsigmoid(x.mean((2, 3), keepdim=True)), 16),
}

KEPT: dict[str, tuple[Callable[[Custom, Tensor], Tensor], int, dict[str, str]]] = {
    "a split": (
        lambda net, x: torch.cat([a * b for a, b in [net.second(x).chunk(2, 1)]], 1),
        8,
        {"second": "splits or reorders"},
    ),
    "groups": (lambda net, x: net.grouped(x), 16, {"first": "works on groups", "grouped": "works on groups"}),
    "softmax": (lambda net, x: net.second(x).softmax(1), 16, {"second": "they go through torch's _softmax"}),
    "a linear layer": (
        lambda net, x: net.linear(net.second(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
        16,
        {"second": "splits or reorders"},
    ),
    "a parameter of its own": (lambda net, x: net.second(x) * net.scale, 16, {"second": "tensor of another shape"}),
    "a constant": (
        lambda net, x: net.second(x) + torch.linspace(0, 1, 16, device=x.device, dtype=x.dtype).view(1, -1, 1, 1),
        16,
        {"second": "join the image's channels or constants"},
    ),
    "normalised weights": (
        lambda net, x: F.conv2d(x, net.second.weight / net.second.weight.norm(), padding=1),
        16,
        {"second": "they go through torch's linalg_vector_norm"},
    ),
}


def custom(middle: Callable[[Custom, Tensor], Tensor], channels: int) -> Custom:
    torch.manual_seed(0)
    net = Custom(middle, channels)
    with torch.no_grad():
        net.slopes.weight.uniform_(0.1, 0.9)
    return net.double().eval()


@pytest.mark.parametrize("case", REMOVABLE)
def test_networks_that_can_be_pruned(case: str) -> None:
    net = custom(*REMOVABLE[case])
    found = find_channels(net)
    assert not {"first", "second"} & set(found.kept)
    rows = [np.array([1, 4, 5, 11]) if len(group) == 16 else np.arange(0) for group in found.groups]
    assert sum(map(len, rows)) >= 4
    silence(net, found.groups, rows)
    pruned = remove_channels(net, found.groups, rows)
    assert pruned.first.out_channels == 12
    image = torch.randn(2, 3, 66, 64, dtype=torch.float64)
    torch.testing.assert_close(pruned(image), net(image), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", KEPT)
def test_networks_that_say_what_they_keep(case: str) -> None:
    middle, channels, reasons = KEPT[case]
    net = custom(middle, channels)
    found = find_channels(net)
    for layer, words in reasons.items():
        assert words in found.kept[layer]
    rows = [np.arange(5) for _ in found.groups]
    pruned = remove_channels(net, found.groups, rows)
    assert all(getattr(pruned, layer).out_channels == 16 for layer in reasons)
    assert pruned(torch.randn(1, 3, 64, 64, dtype=torch.float64)).isfinite().all()


def test_shared_weights_stay_shared() -> None:
    net = custom(lambda net, x: net.second(net.one_more(x)), 16)
    net.one_more = nn.Conv2d(16, 16, 3, padding=1).double()
    net.one_more.weight = net.second.weight
    net.second.weight.requires_grad_(False)
    found = find_channels(net)
    rows = [np.array([2, 3]) for _ in found.groups]
    silence(net, found.groups, rows)
    pruned = remove_channels(net, found.groups, rows)
    assert pruned.one_more.weight is pruned.second.weight
    assert pruned.second.weight.shape == (14, 14, 3, 3)
    assert not pruned.second.weight.requires_grad
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(pruned(image), net(image), rtol=1e-9, atol=1e-9)


def test_a_network_for_other_images_is_refused() -> None:
    with pytest.raises(ConfigError, match="LEDNet does not run on an RGB image"):
        prune(create_model("lednet", 5, in_channels=4))
