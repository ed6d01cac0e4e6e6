from __future__ import annotations

import numpy as np
import pytest
import torch
from pruning_cases import halved

from featherseg.compress.channels import find_channels
from featherseg.compress.prune import prune, remove_channels
from featherseg.compress.ranking import Costs, rank
from featherseg.models.factory import create_model
from featherseg.models.facts import count_gmacs, count_parameters


def test_costs_are_foretold(variant: str) -> None:
    model, _ = halved(variant)
    groups = find_channels(model).groups
    rng = np.random.default_rng(2)
    rows = [rng.permutation(len(group))[: len(group) // 3] for group in groups]
    pruned = remove_channels(model, groups, rows)
    params, gmacs = Costs(model, (65, 97)).without(groups, rows)
    assert params == count_parameters(pruned)[0]
    assert gmacs == pytest.approx(count_gmacs(pruned, (65, 97)), rel=1e-9)


def test_bn_looks_at_batch_norm_instead_of_filters() -> None:
    torch.manual_seed(0)
    model = create_model("jetnet", 5)
    with torch.no_grad():
        model.down8[0].weight[:64] *= 0.01
        model.down8[1].weight[64:] *= -0.01
    left = {
        kind: prune(model, 0.5, importance=kind, ranking="uniform", example_size=(64, 64)).model.down8[1].weight
        for kind in ("l2", "bn")
    }
    assert (left["l2"] < 0).all()
    assert (left["bn"] == 1).all()


def test_the_uniform_order_takes_from_all_alike() -> None:
    order = rank([np.arange(1.0, 65), np.arange(1.0, 33), np.arange(1.0, 21)], [1, 1, 1], "uniform", 8)
    assert order.removed(0)[0].tolist() == []
    for steps in range(len(order) + 1):
        lost = [len(rows) / len(values) for rows, values in zip(order.removed(steps), order.rows, strict=True)]
        assert max(lost) - min(lost) <= 0.4
    assert [len(rows) for rows in order.removed(len(order))] == [56, 24, 12]
    assert [64 - len(order.removed(steps)[0]) for steps in range(len(order) + 1)][-1] == 8
    assert all((20 - len(order.removed(steps)[2])) % 8 in (0, 4) for steps in range(len(order) + 1))


def test_the_global_order_spares_what_matters_and_prefers_what_is_heavy() -> None:
    flat, steep = np.ones(64), np.concatenate([np.full(32, 0.01), np.full(32, 2.0)])
    order = rank([flat, steep], [1, 1], "global", 8)
    assert [len(rows) for rows in order.removed(4)] == [0, 32]
    heavy = rank([flat, flat], [1, 9], "global", 8)
    assert [len(rows) for rows in heavy.removed(3)] == [0, 24]
    assert len(heavy) == 14


def test_steps_that_were_not_needed_are_taken_back() -> None:
    order = rank([np.ones(20), np.ones(64)], [1, 1], "uniform", 8)
    costs = [1, 10]

    def saved(rows: list[np.ndarray]) -> int:
        return sum(cost * len(group) for cost, group in zip(costs, rows, strict=True))

    for goal in range(1, 500, 7):
        steps = next(n for n in range(len(order) + 1) if saved(order.removed(n)) >= goal)
        taken = order.spare(steps, lambda rows, goal=goal: saved(rows) >= goal)
        rows = order.removed(taken)
        assert saved(rows) >= goal
        assert [(20 - len(rows[0])) % 8, (64 - len(rows[1])) % 8] in ([0, 0], [4, 0])
        for step in taken:  # none of a group's latest can be spared
            rest = [other for other in taken if other != step]
            latest = all(order.groups[other] != order.groups[step] for other in rest if other > step)
            assert not latest or saved(order.removed(rest)) < goal
