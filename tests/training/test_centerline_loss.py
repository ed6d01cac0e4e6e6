"""The loss of centre lines against NumPy, and what it is for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import error_line
from featherseg.core.errors import ConfigError
from featherseg.training.centerline_loss import CenterlineDiceLoss, soft_skeleton
from featherseg.training.fit import fit
from featherseg.training.loss_terms import build_loss
from trainings import tiny_config

NAMES = ("ground", "vessel", "ball")


def eroded(image: np.ndarray) -> np.ndarray:
    wide = np.pad(image, 1, constant_values=np.inf)
    return np.min([image, wide[:-2, 1:-1], wide[2:, 1:-1], wide[1:-1, :-2], wide[1:-1, 2:]], axis=0)


def opened(image: np.ndarray) -> np.ndarray:
    wide = np.pad(eroded(image), 1, constant_values=-np.inf)
    return np.max([wide[y : y + image.shape[0], x : x + image.shape[1]] for y in range(3) for x in range(3)], axis=0)


def numpy_skeleton(image: np.ndarray, iterations: int) -> np.ndarray:
    line = np.maximum(image - opened(image), 0)
    for _ in range(iterations):
        image = eroded(image)
        more = np.maximum(image - opened(image), 0)
        line = line + (1 - line) * more
    return line


def vessel(*, gap: bool = False, width: int = 3) -> Tensor:
    """A vertical vessel (1, 24, 32) of ids; `gap` leaves two rows of it out."""
    mask = torch.zeros(1, 24, 32, dtype=torch.int64)
    mask[:, :, 10 : 10 + width] = 1
    if gap:
        mask[:, 11:13] = 0
    return mask


def sure(mask: Tensor) -> Tensor:
    return 20 * torch.nn.functional.one_hot(mask, 3).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("iterations", [1, 3, 6])
def test_soft_skeleton_oracle(iterations: int) -> None:
    image = np.random.default_rng(0).random((17, 23))
    ours = soft_skeleton(torch.from_numpy(image)[None, None], iterations)[0, 0]
    np.testing.assert_allclose(ours.numpy(), numpy_skeleton(image, iterations), atol=1e-12)


def test_a_bar_leaves_its_middle() -> None:
    line = soft_skeleton((vessel(width=5) == 1).float()[None], 3)[0, 0]
    assert line[8].nonzero().flatten().tolist() == [12]


def test_loss_oracle() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, 3, 16, 20, generator=generator)
    target = torch.randint(0, 3, (2, 16, 20), generator=generator)
    target[:, :3] = 255
    probs = logits.double().softmax(1).numpy() * (target != 255).numpy()[:, None]
    truth = (target == 1).double().numpy()
    pairs = [(numpy_skeleton(p, 2), numpy_skeleton(t, 2)) for p, t in zip(probs[:, 1], truth, strict=True)]
    line, true_line = (np.stack(each) for each in zip(*pairs, strict=True))
    precision = ((line * truth).sum() + 1) / (line.sum() + 1)
    sensitivity = ((true_line * probs[:, 1]).sum() + 1) / (true_line.sum() + 1)
    expected = 1 - 2 * precision * sensitivity / (precision + sensitivity)
    assert CenterlineDiceLoss([1], iterations=2)(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_gradients_are_those_of_differences() -> None:
    generator = torch.Generator().manual_seed(1)
    maps = torch.rand(1, 2, 6, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m: soft_skeleton(m, 2).square().sum(), maps)


def test_thickness_is_free_and_gaps_cost() -> None:
    loss = CenterlineDiceLoss([1])
    assert loss(sure(vessel()), vessel()).item() < 1e-4
    thick = loss(sure(vessel(width=5)), vessel()).item()
    assert loss(sure(vessel(gap=True)), vessel()).item() > thick + 0.01


def test_absent_classes_are_left_out() -> None:
    logits = torch.randn(1, 3, 24, 32, generator=torch.Generator().manual_seed(2), requires_grad=True)
    torch.testing.assert_close(
        CenterlineDiceLoss()(logits, vessel()), CenterlineDiceLoss([1])(logits, vessel())
    )  # no ball
    none = CenterlineDiceLoss([2], smooth=0.0)(logits, vessel())
    none.backward()
    assert none.item() == 0
    assert not logits.grad.any()


def test_names_become_ids() -> None:
    terms = [{"name": "cldice", "classes": ["vessel"], "iterations": 4}]
    (loss,) = build_loss(terms, names=NAMES).terms
    assert (loss.classes, loss.iterations) == ((1,), 4)
    wrong = [{"name": "cldice", "classes": ["vesel"]}]
    assert 'did you mean "vessel"' in error_line(ConfigError, build_loss, wrong, names=NAMES)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classes": []}, "give a list of one class or more"),
        ({"classes": "vessel"}, "give a list of one class or more"),
        ({"classes": [1, "ball"]}, "give a list of one class or more"),
        ({"iterations": 0}, "iterations is 0"),
        ({"smooth": -1.0}, "smooth is -1.0"),
    ],
)
def test_mistakes_are_refused(options: dict[str, object], words: str) -> None:
    assert words in error_line(ConfigError, build_loss, [{"name": "cldice", **options}], names=NAMES)


def test_ids_that_the_network_has_not() -> None:
    assert "give ids of 0 to 2" in error_line(ConfigError, CenterlineDiceLoss([7]), sure(vessel()), vessel())


def test_a_recipe_trains_with_it(tmp_path: Path) -> None:
    terms = [{"name": "cross_entropy"}, {"name": "cldice", "weight": 0.3, "classes": ["pole"]}]
    run = fit(tiny_config(tmp_path, loss={"out": terms}, train={"epochs": 1}), quiet=True)
    assert run.epochs == 1
