"""Soups: means of weights, and which networks go into them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from conftest import error_line
from featherseg.core.errors import CheckpointError
from featherseg.core.types import ClassSet, InputSpec
from featherseg.models.checkpoint import Checkpoint
from featherseg.models.factory import create_model
from featherseg.models.soup import greedy_soup, soup

CLASSES = ClassSet(("sky", "road", "car"))


def made(seed: int, name: str = "jetnet", classes: ClassSet = CLASSES, **options: Any) -> Checkpoint:
    torch.manual_seed(seed)
    model = create_model(name, len(classes), **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            module.num_batches_tracked.fill_(seed)  # type: ignore[union-attr]
    training = {"run": f"r{seed}", "dataset": "camvid", "split": "train", "seed": 7, "val_miou": 0.5, "crop": [64, 64]}
    return Checkpoint(model.eval(), classes, training | {"scale": seed})


def test_every_floating_tensor_is_the_mean_and_counters_are_the_firsts() -> None:
    made_of = [made(seed) for seed in (1, 2, 6)]
    before = [{k: v.clone() for k, v in each.model.state_dict().items()} for each in made_of]
    mixed = soup(made_of, ["a", "b", "c"])
    kinds = set()
    for name, tensor in mixed.model.state_dict().items():
        first, *others = (state[name] for state in before)
        kinds.add(name.rpartition(".")[2])
        if tensor.is_floating_point():
            expected = (first.double() + others[0].double() + others[1].double()) / 3
            torch.testing.assert_close(tensor, expected.float(), rtol=0, atol=1e-7)
        else:
            assert tensor == 1
    assert {"weight", "running_mean", "running_var", "num_batches_tracked"} <= kinds
    for each, state in zip(made_of, before, strict=True):  # they stay as they were
        assert all(torch.equal(state[k], v) for k, v in each.model.state_dict().items())
    assert not mixed.model.training
    assert mixed.classes == CLASSES


def test_a_soup_of_equals_is_each_of_them_to_the_last_bit() -> None:
    state = made(1).model.state_dict()
    mixed = soup([made(1)] * 3, ["a", "b", "c"]).model.state_dict()
    assert all(torch.equal(state[name], mixed[name]) for name in state)


def test_it_says_what_is_true_of_all_and_what_it_is_made_of() -> None:
    said = soup([made(1), made(2)], ["runs/a", "runs/b"]).training
    assert said == {"dataset": "camvid", "split": "train", "crop": [64, 64], "soup": ["runs/a", "runs/b"]}


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda: made(2, "enet"), "network of b: enet, but a has jetnet"),
        (lambda: made(2, classes=ClassSet(("sky", "car", "road"))), "classes of b: sky, car, road, but a has"),
        (lambda: made(2, classes=ClassSet(("sky", "road"))), "classes of b: sky, road, but a has"),
    ],
)
def test_networks_that_differ_in_more_than_weights_are_refused(other: Any, words: str) -> None:
    assert words in error_line(CheckpointError, soup, [made(1), other()], ["a", "b"])


def test_other_options_and_sizes_are_refused() -> None:
    narrow = made(2, "fastsegnet", width=0.5)
    assert "options of b:" in error_line(CheckpointError, soup, [made(1, "fastsegnet"), narrow], ["a", "b"])
    enlarged = made(2)
    enlarged.model.input_spec = InputSpec(long_side=960)
    assert "normalisation and size of b:" in error_line(CheckpointError, soup, [made(1), enlarged], ["a", "b"])
    assert "a soup needs a network" in error_line(CheckpointError, soup, [], [])


def test_the_greedy_soup_takes_what_does_not_make_it_worse() -> None:
    """By hand: b (0.8) begins; d keeps 0.8 and stays; a lowers it and does not; c raises it."""
    found = {("b", "d"): 0.8, ("b", "d", "a"): 0.79, ("b", "d", "c"): 0.85}
    asked = []

    def score(tried: Checkpoint) -> float:
        asked.append(tuple(tried.training["soup"]))
        return found[asked[-1]]

    taken = greedy_soup([made(i) for i in range(4)], list("abcd"), [0.6, 0.8, 0.5, 0.7], score)
    assert taken == (1, 3, 2)
    assert asked == [("b", "d"), ("b", "d", "a"), ("b", "d", "c")]


def test_the_greedy_soup_may_be_the_best_alone() -> None:
    assert greedy_soup([made(i) for i in range(3)], list("abc"), [0.1, 0.3, 0.2], lambda tried: 0.0) == (1,)
