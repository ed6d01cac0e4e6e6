"""Several threads at work, and their results in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from featherseg.runtime.video.stages import in_order


def names_of_threads() -> set[str]:
    """Return the names of the stages' threads; those of the kernels serve the whole process and stay."""
    names = {thread.name for thread in threading.enumerate()}
    return {name for name in names if name.startswith("featherseg") and not name.startswith("featherseg-post")}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_are_those_of_their_items_in_order(count: int) -> None:
    def work(number: int) -> tuple[int, str]:
        time.sleep(0.004 * (number % 3))
        return number * number, threading.current_thread().name

    found = list(in_order(work, iter(range(20)), count, threading.Event()))
    assert [(item, value) for item, (value, _) in found] == [(i, i * i) for i in range(20)]
    workers = {name for _, (_, name) in found}
    if count == 1:
        assert workers == {threading.current_thread().name}
    else:
        assert 1 < len(workers) <= count
    assert not names_of_threads()


def test_as_many_are_at_work_as_there_are_threads() -> None:
    together = threading.Barrier(3, timeout=20)  # passed by three at once alone
    assert [item for item, _ in in_order(lambda _: together.wait(), range(6), 3, threading.Event())] == list(range(6))


def test_what_is_done_does_not_wait_for_the_next_item() -> None:
    """As of a camera: its second frame comes when the first has been looked at."""
    seen = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        assert seen.wait(20)
        yield 1

    for item, _ in in_order(lambda item: item, items(), 2, threading.Event()):
        assert item == 0 or seen.is_set()
        seen.set()


def test_errors_come_in_the_place_of_their_result() -> None:
    def work(number: int) -> int:
        if number == 3:
            raise ValueError("the fourth")
        return number

    stop = threading.Event()
    results = in_order(work, range(9), 2, stop)
    found = [next(results)[0] for _ in range(3)]
    assert found == [0, 1, 2]
    with pytest.raises(ValueError, match="the fourth"):
        next(results)
    assert stop.is_set()
    assert not names_of_threads()


def test_errors_of_the_source_come_after_what_it_gave() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise OSError("unplugged")

    results = in_order(lambda item: item, items(), 2, threading.Event())
    assert [next(results)[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="unplugged"):
        next(results)


def test_who_has_enough_leaves_no_thread() -> None:
    stop = threading.Event()
    with closing(in_order(lambda item: item, range(10**9), 2, stop)) as results:
        assert next(results) == (0, 0)
    assert stop.is_set()
    assert not names_of_threads()
