"""Losses take logits of any size: each is what it would be after upsampling them first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from featherseg.training.losses import OHEMLoss, losses
from loss_oracles import CLASSES, WEIGHTS, border_oracle, numpy_pixels, resized


def harder_half(values: Tensor) -> Tensor:
    """Return which losses belong to the upper half, those included that rounding alone puts below its edge."""
    return values >= torch.quantile(values.detach(), 0.5) - 1e-4


def shifted(maps: Tensor, places: list[tuple[int, int]], beyond: float) -> Tensor:
    """Return copies of maps (..., H, W), each moved by so many rows and columns (N, ..., H, W)."""
    wide = F.pad(maps, (1, 1, 1, 1), value=beyond)
    height, width = maps.shape[-2:]
    return torch.stack([wide[..., 1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in places])


def naive_skeleton(maps: Tensor, iterations: int) -> Tensor:
    """Algorithm 1 of arXiv 2003.07311 by moved copies."""
    cross = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]
    square = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]

    def erode(m: Tensor) -> Tensor:
        return shifted(m, cross, torch.inf).min(0).values

    line: Tensor | float = 0.0
    for _ in range(iterations + 1):
        opened = shifted(erode(maps), square, -torch.inf).max(0).values
        line = line + (1 - line) * (maps - opened).relu()
        maps = erode(maps)
    return torch.as_tensor(line)


def naive_cldice(logits: Tensor, target: Tensor, iterations: int = 3) -> Tensor:
    probs, terms = logits.softmax(1), []
    for c in range(1, logits.shape[1]):
        truth, p = (target == c).float(), probs[:, c] * (target != 255)
        if not truth.any():
            continue
        ours, theirs = naive_skeleton(p, iterations), naive_skeleton(truth, iterations)
        precision = ((ours * truth).sum() + 1) / (ours.sum() + 1)
        sensitivity = ((theirs * p).sum() + 1) / (theirs.sum() + 1)
        terms.append(1 - 2 * precision * sensitivity / (precision + sensitivity))
    return torch.stack(terms).mean()


def naive(name: str, weights: list[float] | None) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a loss of full-size logits, of plain torch operations only."""

    def mean(logits: Tensor, target: Tensor, factor: Callable[[Tensor], Tensor | float]) -> Tensor:
        rows = logits.permute(0, 2, 3, 1)[target != 255]
        ids = target[target != 255]
        values = F.cross_entropy(rows, ids, reduction="none")
        w = (torch.tensor(weights)[ids] if weights else torch.ones(len(ids))) * (
            1 if name == "focal" else factor(values)
        )
        return (w * values * (factor(values) if name == "focal" else 1)).sum() / w.sum()

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        if name == "cross_entropy":
            factors = torch.tensor(weights) if weights else None
            return F.cross_entropy(logits, target, factors, ignore_index=255, label_smoothing=0.1)
        if name == "focal":
            return mean(logits, target, lambda values: (1 - torch.exp(-values)) ** 2)
        if name == "ohem":
            return mean(logits, target, harder_half)
        if name == "boundary":
            near = torch.from_numpy(np.stack([border_oracle(ids, 3) for ids in target.numpy()]))
            return mean(logits, target, lambda _: 1.0 + 3 * near[target != 255])
        if name == "cldice":
            return naive_cldice(logits, target)
        probs = logits.softmax(1).permute(0, 2, 3, 1)[target != 255]
        member = F.one_hot(target[target != 255], CLASSES)
        dice = (2 * (probs * member).sum(0) + 1) / (probs.sum(0) + member.sum(0) + 1)
        return 1 - dice[member.sum(0) > 0].mean()

    return loss


@pytest.mark.parametrize("name", losses.names())
@pytest.mark.parametrize("low", [(4, 6), (32, 48), (5, 7), (32, 24), (1, 1), (40, 50)])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_size_of_logits_is_as_upsampling_first(name, low, weights, dtype):
    generator = torch.Generator().manual_seed(2)
    target = torch.randint(0, CLASSES - 1, (2, 8, 12), generator=generator)
    target = target.repeat_interleave(4, 1).repeat_interleave(4, 2)
    target[:, 3:7] = 255
    logits = (3 * torch.randn(2, CLASSES, *low, generator=generator)).to(dtype)
    options: dict[str, Any] = {"cross_entropy": {"label_smoothing": 0.1}}.get(name, {})
    if name == "ohem":
        valid = F.cross_entropy(resized(logits, target), target, ignore_index=255, reduction="none")[target != 255]
        # A threshold that no pixel reaches leaves the choice to min_kept: here the harder half, ties with it.
        options = {"thresh": 1e-30, "min_kept": int((valid >= torch.quantile(valid, 0.5)).sum())}
    if weights and name not in ("dice", "cldice"):
        options["class_weights"] = weights
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    value = losses.create(name, **options)(ours, target)
    expected = naive(name, weights if name not in ("dice", "cldice") else None)(resized(theirs, target), target)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    assert value.dtype == torch.float32
    value.backward()
    expected.backward()
    top = theirs.grad.abs().max().item()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=(1e-5 if dtype == torch.float32 else 1e-2) * top)


@pytest.mark.parametrize("thresh", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("min_kept", [0, 20, 900, 10**6])
def test_ohem_at_a_stride_chooses_among_upsampled_pixels(thresh, min_kept):
    generator = torch.Generator().manual_seed(5)
    logits = 3 * torch.randn(2, CLASSES, 6, 5, generator=generator)
    target = torch.randint(0, CLASSES, (2, 40, 33), generator=generator)
    target[:, :5] = 255
    _, true, _ = numpy_pixels(resized(logits, target), target)
    count = min(max((true < thresh).sum(), min_kept), len(true))
    expected = -np.log(np.sort(true)[:count]).mean()
    assert OHEMLoss(thresh, min_kept)(logits, target).item() == pytest.approx(expected, rel=1e-5)
