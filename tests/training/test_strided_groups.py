from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from featherseg.models.factory import create_model
from featherseg.training.strided_groups import StridedConvolution, is_slow, quicken_strided_groups

CHANNELS = 16


def depthwise(kernel: tuple[int, int], stride: tuple[int, int]) -> nn.Conv2d:
    padding = (kernel[0] // 2, kernel[1] // 2)
    return nn.Conv2d(CHANNELS, CHANNELS, kernel, stride, padding, groups=CHANNELS, bias=False)


def gradients(conv: nn.Conv2d, image: Tensor, *, bf16: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Output, gradient of the image, gradient of the weights, of a loss that weighs each output on its own."""
    conv, image = copy.deepcopy(conv), image.detach().clone(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        output = conv(image)
    upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(1), dtype=image.dtype)
    output.backward(upstream.to(output.dtype))
    assert image.grad is not None
    assert conv.weight.grad is not None
    return output.detach(), image.grad, conv.weight.grad


@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (3, 7)])
@pytest.mark.parametrize("stride", [(2, 2), (3, 2), (1, 2)])
@pytest.mark.parametrize("size", [(12, 16), (13, 15), (7, 10), (3, 1)])
def test_gradients_are_the_plain_layers(
    kernel: tuple[int, int], stride: tuple[int, int], size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    plain = depthwise(kernel, stride).double()
    image = torch.randn(2, CHANNELS, *size, dtype=torch.float64, requires_grad=True)
    outputs = StridedConvolution.apply(image, plain.weight, stride), plain(image)
    upstream = torch.randn_like(outputs[1])
    for ours, theirs in zip(*(torch.autograd.grad(y, (image, plain.weight), upstream) for y in outputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_bf16_rounds_as_the_plain_layer_does() -> None:
    torch.manual_seed(0)
    plain = depthwise((3, 3), (2, 2)).to(memory_format=torch.channels_last)
    quick = copy.deepcopy(plain)
    quicken_strided_groups(nn.Sequential(quick))
    image = torch.randn(2, CHANNELS, 20, 30)
    exact = gradients(copy.deepcopy(plain).double(), image.double())
    for ours, theirs, right in zip(
        gradients(quick, image, bf16=True), gradients(plain, image, bf16=True), exact, strict=True
    ):
        assert ours.dtype == theirs.dtype
        errors = [(each.double() - right).abs().max() / right.abs().max() for each in (ours, theirs)]
        assert errors[0] <= 1.5 * errors[1] + 1e-6


def test_only_strided_depthwise_layers_change() -> None:
    for conv in (
        nn.Conv2d(16, 16, 3, 1, 1, groups=16, bias=False),
        nn.Conv2d(16, 32, 3, 2, 1, groups=16, bias=False),
        nn.Conv2d(16, 16, 3, 2, 1, groups=16),
        nn.Conv2d(16, 16, 3, 2, 0, groups=16, bias=False),
        nn.Conv2d(16, 16, 4, 2, 1, groups=16, bias=False),
        nn.Conv2d(16, 16, 3, 2, 2, 2, groups=16, bias=False),
        nn.Conv2d(16, 16, 3, 2, 1, bias=False),
    ):
        assert not is_slow(conv)
        assert quicken_strided_groups(conv) == 0
    assert quicken_strided_groups(create_model("fastsegnet", 3)) == 4


def test_weights_stay_and_copies_work() -> None:
    torch.manual_seed(0)
    model = create_model("fastsegnet", 3).eval()
    quick = copy.deepcopy(model)
    quicken_strided_groups(quick)
    again = pickle.loads(pickle.dumps(copy.deepcopy(quick)))
    again.load_state_dict(model.state_dict())
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(again(image), model(image))
    with torch.inference_mode():
        torch.testing.assert_close(quick(image), model(image))
