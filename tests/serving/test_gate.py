"""The queue before the threads."""

from __future__ import annotations

import asyncio

import pytest

from featherseg.serving.gate import Gate, Job
from featherseg.serving.limits import Limits, Refusal


def test_where_there_is_no_place_nothing_is_begun() -> None:
    gate = Gate(Limits(workers=1, waiting=0))
    gate.running = 1
    watched = []

    async def gone() -> None:
        watched.append(True)

    with pytest.raises(Refusal, match="as many as may") as caught:  # a coroutine that nobody awaits would be an error
        asyncio.run(gate.run(lambda job: job, Job(), gone))
    gate.close()
    assert caught.value.status == 503
    assert not watched
