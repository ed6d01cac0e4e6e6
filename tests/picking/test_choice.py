"""The pick, and what is a tie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from featherseg.picking.candidates import Candidate, Net, Variant, Way
from featherseg.picking.choice import TIE, choose, difference
from featherseg.picking.finals import Judged, ways_to_judge
from featherseg.picking.timings import Timing
from featherseg.runtime.engines import Engine

WAY = Way("fp32", Engine("onnxruntime"))


def candidate(name: str, scale: float = 1.0, way: Way = WAY) -> Candidate:
    return Candidate(Net(Variant(name), scale), way)


def timing(p95: float) -> Timing:
    return Timing(0.9 * p95, p95, {"net": 0.9 * p95}, 42, 0.0, "here")


def images(share: float, spread: float = 0.0, count: int = 40, seed: int = 0) -> np.ndarray:
    """Confusion matrices of two equal classes, of which about `share` is right in each image."""
    rng = np.random.default_rng(seed)
    rights = np.clip(share + spread * rng.standard_normal(count), 0.01, 0.99) * 1000
    return np.array([[[int(r), 1000 - int(r)], [1000 - int(r), int(r)]] for r in rights])


def judged(name: str, p95: float, matrices: np.ndarray, scale: float = 1.0) -> Judged:
    total = matrices.sum(axis=0)
    right = np.diag(total)
    miou = float(np.mean(right / (total.sum(0) + total.sum(1) - right)))
    return Judged(candidate(name, scale), "run", "file.onnx", miou, 0.5, timing(p95), None, 1000)


def chosen(*given: tuple[str, float, np.ndarray], limit: float = 20.0):
    found = [judged(*each) for each in given]
    return choose(found, {each.candidate.key: m for each, (_, _, m) in zip(found, given, strict=True)}, limit)


def test_the_best_masks_in_time_win() -> None:
    choice = chosen(("slow", 25.0, images(0.95)), ("good", 18.0, images(0.9)), ("quick", 5.0, images(0.8)))
    assert str(choice.pick.candidate.net.variant) == "good"
    assert str(choice.runner_up.candidate.net.variant) == "quick"
    assert choice.ties == ()
    words = " ".join(choice.reasons)
    assert "slow at full size, fp32 onnxruntime would be" in words
    assert "18.0 ms of the 20.0" in words


def test_what_the_images_cannot_tell_apart_is_a_tie_and_the_quicker_wins() -> None:
    choice = chosen(("one", 18.0, images(0.9, 0.05)), ("other", 9.0, images(0.9, 0.05, seed=1)))
    assert str(choice.pick.candidate.net.variant) == "other"
    assert len(choice.ties) == 2
    assert "It is a tie with one" in " ".join(choice.reasons)


def test_one_network_in_two_ways_is_no_tie_and_the_quicker_is_taken() -> None:
    counts = images(0.9, 0.05)
    one = judged("net", 18.0, counts)
    other = replace(one, candidate=candidate("net", way=Way("fp32", Engine("openvino", "bf16"))), timing=timing(9.0))
    choice = choose([one, other], {one.candidate.key: counts, other.candidate.key: counts}, 20.0)
    assert choice.pick == other
    assert choice.ties == ()
    assert choice.runner_up == one


def test_of_a_tie_that_takes_the_same_time_the_better_wins() -> None:
    one, other = images(0.900, 0.05), images(0.9015, 0.05, seed=3)
    assert chosen(("one", 9.0, one), ("other", 9.2, other)).pick.miou == max(
        judged("one", 9.0, one).miou, judged("other", 9.2, other).miou
    )


def test_a_small_but_steady_difference_is_none() -> None:
    low, high = difference(images(0.9), images(0.898))
    assert 0 < low <= high < TIE
    choice = chosen(("one", 18.0, images(0.9)), ("other", 5.0, images(0.898)))
    assert str(choice.pick.candidate.net.variant) == "one"
    assert choice.ties == ()


def test_the_same_seed_gives_the_same_interval() -> None:
    one, other = images(0.9, 0.1), images(0.9, 0.1, seed=5)
    assert difference(one, other, 3) == difference(one, other, 3)
    assert difference(one, other, 3) != difference(one, other, 4)
    low, high = difference(one, one)
    assert low == high == 0


def test_where_nothing_is_in_time_there_is_no_pick_but_a_reason() -> None:
    choice = chosen(("one", 25.0, images(0.9)), ("other", 22.5, images(0.8)))
    assert choice.pick is None
    assert "other at full size, fp32 onnxruntime, takes 22.5 ms where 20.0 are allowed" in choice.reasons[0]
    failed = Judged(candidate("one"), "run", failure="it fell over")
    assert choose([failed], {}, 20.0).pick is None


def test_of_each_precision_the_quickest_way_is_judged() -> None:
    ways = [
        Way("fp32", Engine("onnxruntime")),
        Way("fp32", Engine("openvino", "fp32")),
        Way("int8", Engine("onnxruntime")),
    ]
    given = [candidate("net", way=way) for way in ways]
    p95 = dict(zip([each.key for each in given], (12.0, 10.0, 30.0), strict=True))
    assert ways_to_judge(given, p95, 20.0) == [given[1]]
    assert ways_to_judge(given, p95, 25.0) == [given[1], given[2]]
    assert ways_to_judge(given, {}, 25.0) == []


def test_judged_travel_as_json() -> None:
    one = judged("one", 9.0, images(0.9))
    known = {one.candidate.key: one.candidate}
    assert Judged.from_dict(one.to_dict(), known) == one
    failed = Judged(candidate("one"), "run", failure="it fell over")
    again = Judged.from_dict(failed.to_dict(), known)
    assert np.isnan(again.miou)
    assert again.failure == failed.failure


@pytest.mark.parametrize("limit", [5.0, 9.0])
def test_limits_are_of_the_95th_percentile(limit: float) -> None:
    assert judged("one", 9.0, images(0.9)).fits(limit) == (limit >= 9.0)
