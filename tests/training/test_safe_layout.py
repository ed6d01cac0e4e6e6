from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from featherseg.models.factory import create_model
from featherseg.training.safe_layout import is_affected, shield_dilated_groups


def litter() -> None:
    """Leave NaN in the memory that is given out next, so that what is read before it is written shows."""
    _ = [torch.full((1 << power,), float("nan")) for power in range(8, 22)]


def weight_gradient(conv: nn.Conv2d, image: Tensor, upstream: Tensor, *, bf16: bool) -> Tensor:
    conv = copy.deepcopy(conv)
    litter()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        output = conv(image)
    output.backward(upstream.to(output.dtype))
    assert conv.weight.grad is not None
    return conv.weight.grad.float()


@pytest.mark.parametrize(
    ("kernel", "dilation", "groups"), [((3, 1), 2, 64), ((1, 3), 9, 64), ((3, 3), 2, 64), ((3, 3), 4, 32)]
)
def test_gradients_of_dilated_groups_are_right_in_bf16_and_channels_last(
    kernel: tuple[int, int], dilation: int, groups: int
) -> None:
    torch.manual_seed(0)
    padding = tuple(dilation * (side // 2) for side in kernel)
    plain = nn.Conv2d(64, 64, kernel, padding=padding, dilation=dilation, groups=groups, bias=False)
    image, upstream = (torch.randn(2, 64, 24, 32).contiguous(memory_format=torch.channels_last) for _ in range(2))
    expected = weight_gradient(plain, image, upstream, bf16=False)
    shielded = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    assert shield_dilated_groups(nn.Sequential(shielded)) == 1
    for _ in range(3):
        error = (weight_gradient(shielded, image, upstream, bf16=True) - expected).abs().max() / expected.abs().max()
        assert error < 0.02


def test_layers_that_are_right_are_left_as_they_are() -> None:
    assert not is_affected(nn.Conv2d(64, 64, 3, groups=64))
    assert not is_affected(nn.Conv2d(64, 64, 3, dilation=2))
    assert not is_affected(nn.Conv2d(128, 128, 3, dilation=2, groups=4))
    assert shield_dilated_groups(create_model("fastsegnet", 3)) == 0
    assert shield_dilated_groups(create_model("fddwnet", 3)) > 0


def test_a_shielded_network_gives_channels_last_on() -> None:
    conv = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8)
    shield_dilated_groups(conv)
    assert conv(torch.randn(1, 8, 16, 16)).is_contiguous(memory_format=torch.channels_last)
