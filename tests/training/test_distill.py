"""The distillation losses against oracles of a few lines of NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from featherseg.core.errors import ConfigError
from featherseg.core.types import ClassSet
from featherseg.training.distill import ChannelWiseLoss, DISTLoss, FeatureLoss, KLLoss, distillations

CLASSES = ClassSet(("sky", "road", "car"))
KL = ({"name": "kl"},)


@pytest.fixture
def maps() -> tuple[Tensor, Tensor, Tensor]:
    """Logits (2, 5, 6, 7) of a student and of a teacher, and which pixels count: one image and half of the other."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(2, 5, 6, 7, generator=generator) for _ in range(2))
    valid = torch.ones(2, 6, 7, dtype=torch.bool)
    valid[1, :3] = False
    return student, teacher, valid


def softmax(x: np.ndarray, axis: int) -> Any:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def rows(x: Tensor, valid: np.ndarray) -> Any:
    return x.double().numpy().transpose(0, 2, 3, 1)[valid]


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("masked", [True, False])
def test_kl_oracle(maps: Any, temperature: float, masked: bool) -> None:
    student, teacher, valid = maps
    chosen = valid.numpy() if masked else np.ones_like(valid.numpy())
    q, p = (softmax(rows(x, chosen) / temperature, 1) for x in (student, teacher))
    expected = temperature**2 * (p * np.log(p / q)).sum(1).mean()
    assert KLLoss(temperature)(student, teacher, valid if masked else None).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("masked", [True, False])
def test_cwd_oracle(maps: Any, temperature: float, masked: bool) -> None:
    student, teacher, valid = maps
    parts = []
    for image in range(2):
        chosen = valid[image].numpy() if masked else np.ones((6, 7), bool)
        for channel in range(5):
            s, t = (x[image, channel].double().numpy()[chosen] / temperature for x in (student, teacher))
            p, q = softmax(t, 0), softmax(s, 0)
            parts.append(temperature**2 * (p * np.log(p / q)).sum())
    loss = ChannelWiseLoss(temperature)(student, teacher, valid if masked else None)
    assert loss.item() == pytest.approx(np.mean(parts), rel=1e-5)


def test_cwd_leaves_out_images_without_a_valid_pixel(maps: Any) -> None:
    student, teacher, valid = maps
    valid[1] = False
    expected = ChannelWiseLoss()(student[:1], teacher[:1])
    torch.testing.assert_close(ChannelWiseLoss()(student, teacher, valid), expected)


@pytest.mark.parametrize(("inter", "intra"), [(1.0, 0.0), (0.0, 1.0), (0.5, 2.0)])
@pytest.mark.parametrize("masked", [True, False])
def test_dist_oracle(maps: Any, inter: float, intra: float, masked: bool) -> None:
    student, teacher, valid = maps
    chosen = valid.numpy() if masked else np.ones_like(valid.numpy())
    q, p = (softmax(rows(x, chosen) / 2.0, 1) for x in (student, teacher))
    between = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
    within = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)])
    loss = DISTLoss(2.0, inter, intra)(student, teacher, valid if masked else None)
    assert loss.item() == pytest.approx(4 * (inter * between + intra * within), rel=1e-4)


def test_features_oracle(maps: Any) -> None:
    student, teacher, valid = maps
    loss: Any = FeatureLoss({"x8": (5, 3)})
    s = rows(student, valid.numpy()) @ loss.adapter.weight[:, :, 0, 0].detach().double().numpy().T
    s += loss.adapter.bias.detach().numpy()
    t = rows(teacher[:, :3], valid.numpy())
    s, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (s, t))
    expected = ((s - t) ** 2).sum(1).mean()
    assert loss(student, teacher[:, :3], valid).item() == pytest.approx(expected, rel=1e-5)


def build(name: str) -> Any:
    """A loss of 5 channels; the adapter of features is the identity, so that equal maps are equal to it."""
    if name != "features":
        return distillations.create(name)
    loss: Any = FeatureLoss({"x8": (5, 5)})
    nn.init.dirac_(loss.adapter.weight)
    nn.init.zeros_(loss.adapter.bias)
    return loss


def test_all_losses_are_tried_here() -> None:
    assert distillations.names() == ["cwd", "dist", "features", "kl"]


@pytest.mark.parametrize("name", distillations.names())
def test_zero_for_equal_maps_and_for_them_alone(maps: Any, name: str) -> None:
    student, teacher, valid = maps
    loss = build(name)
    assert abs(loss(teacher, teacher, valid).item()) < 1e-5
    assert loss(student, teacher, valid).item() > 0.1


@pytest.mark.parametrize("name", distillations.names())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_float32_and_finite_at_the_extremes(maps: Any, name: str, dtype: torch.dtype) -> None:
    student, teacher, valid = maps
    student = (100 * student).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = build(name)(student, (100 * teacher).to(dtype), valid)
    assert value.dtype == torch.float32
    value.backward()
    assert value.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert not student.grad[1, :, :3].any()  # pixels that do not count


@pytest.mark.parametrize("name", distillations.names())
def test_constant_student_has_a_finite_gradient(maps: Any, name: str) -> None:
    student = torch.zeros_like(maps[0]).requires_grad_()
    build(name)(student, maps[1]).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("name", distillations.names())
def test_nothing_valid_is_zero_with_zero_gradient(maps: Any, name: str) -> None:
    student = maps[0].requires_grad_()
    value = build(name)(student, maps[1], torch.zeros_like(maps[2]))
    value.backward()
    assert value.item() == 0
    assert student.grad is not None
    assert not student.grad.any()


@pytest.mark.parametrize("name", ["kl", "cwd", "dist"])
def test_shapes_that_would_broadcast_are_refused(maps: Any, name: str) -> None:
    with pytest.raises(ConfigError, match=r"\(2, 5, 6, 7\) and \(2, 1, 6, 7\)"):
        build(name)(maps[0], maps[1][:, :1])
