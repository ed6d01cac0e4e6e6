"""Losses of upsampled logits against torch's own interpolation and cross-entropy, and the memory they may use."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from featherseg.core.errors import ConfigError
from featherseg.training.losses import losses
from featherseg.training.tiled_cross_entropy import upsampled_cross_entropy, upsampled_pixel_losses

# Classes, logits' size, target's size: strides 8, 2 and 1 (in one tile and in several), one axis only, odd ratios, one
# column, one pixel, downsampling.
SHAPES = [
    (19, (8, 16), (64, 128)),
    (3, (15, 10), (30, 20)),
    (11, (9, 7), (9, 7)),
    (4, (30, 41), (30, 41)),
    (4, (30, 41), (30, 82)),
    (5, (7, 9), (50, 61)),
    (4, (23, 30), (360, 37)),
    (2, (5, 1), (33, 8)),
    (6, (1, 1), (13, 10)),
    (7, (21, 17), (8, 9)),
    (1, (4, 4), (16, 16)),
]


def make_batch(classes: int, low: tuple[int, int], size: tuple[int, int], images: int = 3) -> tuple[Tensor, Tensor]:
    """Logits that ask for a gradient, and a target with ignored rows and scattered ignored pixels."""
    generator = torch.Generator().manual_seed(classes)
    logits = 4 * torch.randn(images, classes, *low, generator=generator)
    target = torch.randint(0, classes, (images, *size), generator=generator)
    target[0, : size[0] // 3] = 255
    target[torch.rand(target.shape, generator=generator) < 0.1] = 255
    return logits.requires_grad_(), target


def resized(logits: Tensor, target: Tensor) -> Tensor:
    return F.interpolate(logits.float(), size=target.shape[-2:], mode="bilinear", align_corners=False)


def naive_loss(
    logits: Tensor, target: Tensor, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    return F.cross_entropy(
        resized(logits, target), target, class_weights, ignore_index=255, label_smoothing=label_smoothing
    )


def mean_pixel_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return the same as upsampled_cross_entropy, by the other function."""
    return upsampled_pixel_losses(logits, target).sum() / (target != 255).sum().clamp(min=1)


def run(loss: Callable[[Tensor], Tensor], logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss and its gradient with respect to a copy of `logits`."""
    leaf = logits.detach().clone().requires_grad_()
    value = loss(leaf)
    value.backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


def assert_same(ours: tuple[Tensor, Tensor], naive: tuple[Tensor, Tensor], rtol: float = 2e-6) -> None:
    """Compare values relatively, and gradients relative to the largest of them."""
    assert ours[0].dtype == torch.float32
    assert ours[1].dtype == naive[1].dtype
    torch.testing.assert_close(ours[0], naive[0], rtol=rtol, atol=1e-7)
    top = naive[1].abs().max().item()
    torch.testing.assert_close(ours[1], naive[1], rtol=0, atol=max(rtol * top, 1e-12))


class Largest(TorchDispatchMode):
    """Records the most elements of any tensor that an operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.untyped_storage().nbytes() // 4 for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.numel = max([self.numel, *sizes])
        return result


@pytest.mark.parametrize(("classes", "low", "size"), SHAPES)
@pytest.mark.parametrize("tile", [None, 13])
def test_cross_entropy_is_the_naive_one(classes, low, size, tile):
    logits, target = make_batch(classes, low, size)
    ours = run(lambda x: upsampled_cross_entropy(x, target, tile=tile), logits)
    assert_same(ours, run(lambda x: naive_loss(x, target), logits))


@pytest.mark.parametrize("tile", [1, 5, 16, 1000])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0, 0.0, 3.0]])
def test_settings_and_tiles(tile, smoothing, weights):
    logits, target = make_batch(5, (3, 4), (17, 23))
    factors = None if weights is None else torch.tensor(weights)
    ours = run(
        lambda x: upsampled_cross_entropy(x, target, class_weights=factors, label_smoothing=smoothing, tile=tile),
        logits,
    )
    assert_same(ours, run(lambda x: naive_loss(x, target, factors, smoothing), logits))


def test_value_oracle():
    # Two classes, logits 0 and 8·column share: on three columns the middle one lies halfway.
    logits = torch.tensor([[[[0.0, 0.0]], [[0.0, 8.0]]]])
    target = torch.tensor([[[1, 1, 255]]])
    expected = (math.log(1 + math.exp(0)) + math.log(1 + math.exp(-4))) / 2
    assert upsampled_cross_entropy(logits, target).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss", [upsampled_cross_entropy, mean_pixel_loss])
def test_half_precision_logits_are_computed_in_float32(dtype, loss):
    logits, target = make_batch(5, (6, 5), (40, 33))
    logits = logits.detach().to(dtype)
    value, gradient = run(lambda x: loss(x, target), logits)
    expected, expected_gradient = run(lambda x: naive_loss(x, target), logits)
    assert value.dtype == torch.float32
    assert gradient.dtype == dtype
    torch.testing.assert_close(value, expected, rtol=2e-6, atol=0)
    torch.testing.assert_close(gradient, expected_gradient)


@pytest.mark.parametrize("loss", [upsampled_cross_entropy, mean_pixel_loss])
def test_autocast_changes_nothing(loss):
    logits, target = make_batch(5, (6, 5), (40, 33))
    plain = run(lambda x: loss(x, target), logits)
    with torch.autocast("cpu", torch.bfloat16):
        cast = run(lambda x: loss(x, target), logits)
    assert torch.equal(plain[0], cast[0])
    assert torch.equal(plain[1], cast[1])


def test_a_scaled_loss_keeps_small_fp16_gradients():
    logits, target = make_batch(5, (64, 64), (128, 128), images=1)
    logits = logits.detach().half()
    _, lost = run(lambda x: upsampled_cross_entropy(x, target), logits)
    _, kept = run(lambda x: upsampled_cross_entropy(x, target) * 4096, logits)
    _, exact = run(lambda x: upsampled_cross_entropy(x, target) * 4096, logits.float())
    assert (lost == 0).sum() > (kept == 0).sum()
    torch.testing.assert_close(kept.float(), exact, rtol=1e-3, atol=1e-7)


def test_extreme_logits_stay_finite():
    logits, target = make_batch(4, (5, 5), (20, 20))
    logits = 3000 * logits.detach()
    assert_same(
        run(lambda x: upsampled_cross_entropy(x, target), logits),
        run(lambda x: naive_loss(x, target), logits),
        rtol=1e-5,
    )


@pytest.mark.parametrize("loss", [upsampled_cross_entropy, mean_pixel_loss])
def test_all_ignored_is_zero_with_a_zero_gradient(loss):
    logits, target = make_batch(5, (4, 4), (16, 16))
    value, gradient = run(lambda x: loss(x, torch.full_like(target, 255)), logits)
    assert value.item() == 0.0
    assert torch.equal(gradient, torch.zeros_like(logits))


def test_only_classes_of_weight_zero_is_zero():
    logits, target = make_batch(2, (4, 4), (16, 16))
    value, gradient = run(
        lambda x: upsampled_cross_entropy(x, torch.zeros_like(target), class_weights=torch.tensor([0.0, 1.0])), logits
    )
    assert value.item() == 0.0
    assert not gradient.any()


@pytest.mark.parametrize("ignore_index", [0, -100])
def test_other_ignore_index(ignore_index):
    logits, target = make_batch(5, (4, 4), (16, 16))
    target[target == 255] = ignore_index
    ours = run(lambda x: upsampled_cross_entropy(x, target, ignore_index=ignore_index), logits)
    assert_same(ours, run(lambda x: F.cross_entropy(resized(x, target), target, ignore_index=ignore_index), logits))


def test_an_id_that_is_no_class_fails():
    logits, target = make_batch(5, (4, 4), (16, 16))
    target[1, 3, 3] = 9
    with pytest.raises((RuntimeError, IndexError)):
        upsampled_cross_entropy(logits, target)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_gradcheck_cross_entropy(smoothing):
    logits, target = make_batch(3, (3, 2), (8, 7), images=2)
    weights = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    leaf = logits.detach().double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: upsampled_cross_entropy(x, target, class_weights=weights, label_smoothing=smoothing, tile=3), (leaf,)
    )


def test_gradcheck_pixel_losses():
    logits, target = make_batch(3, (3, 2), (8, 7), images=2)
    leaf = logits.detach().double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: upsampled_pixel_losses(x, target, tile=3), (leaf,))


@pytest.mark.parametrize(("classes", "low", "size"), SHAPES)
def test_pixel_losses_are_the_naive_ones(classes, low, size):
    logits, target = make_batch(classes, low, size)
    # Not their mean: each pixel's loss gets a slope of its own, as focal and boundary losses give it.
    slopes = torch.randn(target.shape, generator=torch.Generator().manual_seed(1))
    expected = F.cross_entropy(resized(logits, target), target, ignore_index=255, reduction="none")
    torch.testing.assert_close(upsampled_pixel_losses(logits, target, tile=11), expected, rtol=1e-5, atol=1e-5)
    assert_same(
        run(lambda x: (upsampled_pixel_losses(x, target, tile=11).square() * slopes).sum(), logits),
        run(
            lambda x: (
                F.cross_entropy(resized(x, target), target, ignore_index=255, reduction="none").square() * slopes
            ).sum(),
            logits,
        ),
        rtol=2e-5,
    )


def test_non_contiguous_and_channels_last_logits():
    logits, target = make_batch(5, (6, 8), (40, 64))
    expected = run(lambda x: naive_loss(x, target), logits)
    channels_last = logits.detach().to(memory_format=torch.channels_last)
    assert_same(run(lambda x: upsampled_cross_entropy(x, target), channels_last), expected)
    padded = F.pad(logits.detach(), (2, 3, 1, 4))
    value, gradient = run(lambda x: upsampled_cross_entropy(x[..., 1:7, 2:10], target), padded)
    assert_same((value, gradient[..., 1:7, 2:10]), expected)


def test_gradient_flows_on_and_accumulates():
    logits, target = make_batch(5, (6, 5), (40, 33))
    scale = torch.tensor(1.5, requires_grad=True)
    loss = upsampled_cross_entropy(logits * scale, target)
    (2 * loss).backward(retain_graph=True)
    once = scale.grad.clone()
    (2 * loss).backward()
    torch.testing.assert_close(scale.grad, 2 * once)
    other = torch.tensor(1.5, requires_grad=True)
    (2 * naive_loss(logits.detach() * other, target)).backward()
    torch.testing.assert_close(once, other.grad, rtol=1e-5, atol=1e-6)


def test_without_grad():
    logits, target = make_batch(5, (6, 5), (40, 33))
    expected = naive_loss(logits, target).detach()
    with torch.no_grad():
        value = upsampled_cross_entropy(logits, target)
    with torch.inference_mode():
        inferred = upsampled_cross_entropy(logits, target)
    assert not value.requires_grad
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(inferred.clone(), expected)


@pytest.mark.parametrize(
    "loss",
    [
        upsampled_cross_entropy,
        upsampled_pixel_losses,
        *(losses.create(name) for name in losses if name not in ("dice", "cldice")),
    ],
)
def test_no_tensor_has_the_full_size(loss):
    classes, size = 40, (512, 256)
    logits, target = make_batch(classes, (64, 32), size, images=2)
    pixels = target.numel()
    with Largest() as largest:
        loss(logits, target).sum().backward()
    # One value a pixel may exist (and its int64 ids), and a tile; not one image's upsampled logits.
    assert pixels <= largest.numel <= max(2 * pixels, 1 << 18)
    assert largest.numel < classes * size[0] * size[1] / 8
    with Largest() as naive:
        naive_loss(logits, target).backward()
    assert naive.numel >= classes * pixels


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("tile", [None, 13])
def test_cuda_is_the_cpu(tile):
    logits, target = make_batch(19, (8, 16), (64, 128))
    for loss in (upsampled_cross_entropy, mean_pixel_loss):
        cpu = run(lambda x, loss=loss: loss(x, target), logits)
        cuda = run(lambda x, loss=loss: loss(x, target.cuda(), tile=tile), logits.detach().cuda())
        assert_same((cuda[0].cpu(), cuda[1].cpu()), cpu, rtol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", losses.names())
def test_the_host_does_not_wait_for_the_device(name):
    logits, target = make_batch(5, (6, 5), (40, 33))
    leaf, target, loss = logits.detach().cuda().requires_grad_(), target.cuda(), losses.create(name)
    loss(leaf, target).backward()  # the first call loads libraries
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss(leaf, target).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_smoothing": 1.5}, "label_smoothing is 1.5; give a share"),
        ({"class_weights": torch.ones(4)}, r"class_weights are \(4,\) for 5 classes"),
        ({"tile": 0}, "tile is 0; give a side"),
        ({"target": torch.zeros(2, 16, 16, dtype=torch.int64)}, "none of them empty"),
        ({"target": torch.zeros(3, 0, 16, dtype=torch.int64)}, "none of them empty"),
        ({"target": torch.zeros(3, 1, 16, 16, dtype=torch.int64)}, r"needs \(B, C, h, w\) and \(B, H, W\)"),
    ],
)
def test_wrong_arguments(change, message):
    logits, target = make_batch(5, (4, 4), (16, 16))
    with pytest.raises(ConfigError, match=message):
        upsampled_cross_entropy(**({"logits": logits, "target": target} | change))
