"""Who is trained for how long."""

from __future__ import annotations

import itertools

import pytest

from conftest import error_line
from featherseg.core.errors import ConfigError
from featherseg.picking.pace import NetPace
from featherseg.picking.plan import EARLY_SHARE, FINALISTS, Plan, last_epochs, make_plan, rung_sizes, survivors


def paces(count: int, epoch: float = 10.0, overhead: float = 5.0) -> dict[str, NetPace]:
    return {f"net{i}": NetPace(epoch, overhead) for i in range(count)}


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 12, 27])
def test_each_rung_has_half_of_the_one_before_and_the_last_few(count: int) -> None:
    sizes = rung_sizes(count)
    assert sizes[0] == count
    assert 1 <= sizes[-1] <= FINALISTS
    assert all(after >= before / 2 for before, after in itertools.pairwise(sizes))
    assert all(after < before for before, after in itertools.pairwise(sizes[:-1]))


def test_the_early_rungs_fit_their_share_and_more_time_is_more_epochs() -> None:
    short, long = make_plan(paces(8), 2000.0), make_plan(paces(8), 6000.0)
    assert short.nets == long.nets == tuple(paces(8))
    assert short.epochs[0] < long.epochs[0]
    for plan, seconds in ((short, 2000.0), (long, 6000.0)):
        assert plan.epochs[1] == 2 * plan.epochs[0]
        cost = sum(size * (5 + 13 * count) for size, count in zip(plan.sizes[1:], plan.epochs[1:], strict=False))
        cost += 8 * (5 + 10 * plan.epochs[0])
        assert cost <= EARLY_SHARE * seconds
    assert Plan.from_dict(long.to_dict()) == long


def test_where_time_is_short_the_last_are_left_out_and_it_is_said() -> None:
    plan = make_plan(paces(10), 100.0)
    assert 0 < len(plan.nets) < 10
    assert plan.nets == tuple(f"net{i}" for i in range(len(plan.nets)))
    assert set(plan.left_out) == set(paces(10)) - set(plan.nets)
    assert f"{len(plan.nets)} of 10" in plan.left_out["net9"]


def test_one_network_gets_all_the_time_and_none_is_an_error() -> None:
    assert make_plan(paces(1), 16.0).sizes == (1,)
    line = error_line(ConfigError, make_plan, paces(3), 14.0)
    assert "--budget leaves 14 s" in line
    assert "15 s" in line


def test_survivors_are_the_best_and_those_that_failed_are_none() -> None:
    results = {"a": 0.5, "b": None, "c": 0.7, "d": 0.5}
    assert survivors(results, 3, ["a", "b", "c", "d"]) == ["c", "a", "d"]
    assert survivors(results, 3, ["d", "b", "c", "a"]) == ["c", "d", "a"]


def test_the_last_rung_takes_what_is_left() -> None:
    assert last_epochs(paces(3), ["net0", "net1", "net2"], 330.0) == {"net0": 10, "net1": 10, "net2": 10}
    assert last_epochs(paces(3), ["net2", "net1", "net0"], 35.0) == {"net2": 1, "net1": 1}
    assert last_epochs(paces(3), ["net0", "net1"], 1.0) == {"net0": 1}


def test_a_run_tells_its_pace() -> None:
    result = {"epochs": 4, "train_seconds": 20.0, "seconds": 26.0}
    assert NetPace.of_run(result, NetPace(1, 1)) == NetPace(5.0, 6.0)
    assert NetPace.of_run({"miou": None}, NetPace(1, 1)) == NetPace(1, 1)
    assert NetPace(10, 5).seconds(2, NetPace(20, 0)) == pytest.approx(5 + 2 * 16)
