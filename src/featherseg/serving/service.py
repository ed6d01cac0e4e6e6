"""What all addresses share: networks, limits, the queue, and how a body becomes an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from starlette.requests import Request

from .bodies import Bodies
from .gate import Gate, Job
from .limits import Limits
from .metrics import Metrics
from .models import Models

T = TypeVar("T")
JOB = "featherseg.job"
"""Key of a request's :class:`Job` in its scope, for those who log and count it."""


@dataclass
class Service:
    """A server's state.

    Args:
        models: that it offers.
        limits: of what it takes on.
        draining: whether it is ending: what came is answered, and no more should be sent.
    """

    models: Models
    limits: Limits
    metrics: Metrics = field(default_factory=Metrics)
    draining: bool = False

    def __post_init__(self) -> None:
        self.gate = Gate(self.limits)
        self.bodies = Bodies(self.limits)

    async def compute(self, request: Request, work: Callable[[bytearray, Job], T]) -> T:
        """Read a request's body, and return what `work` makes of it in a thread when it is its turn.

        Raises:
            Refusal: body or queue are beyond the limits, or `work` refuses it.
            GoneError: the client has left.
        """
        job = request.scope[JOB] = Job()
        self.bodies.check(request.headers)
        self.gate.check()
        async with self.bodies.read(request, job.arrived) as body:
            job.stages["receive"] = 0.0
            job.lap("receive")
            return await self.gate.run(partial(work, body), job, partial(_left, request))

    def gauges(self) -> dict[str, float]:
        """Return what it is doing right now, by the metric's name."""
        return {
            "featherseg_running": self.gate.running,
            "featherseg_waiting": self.gate.waiting,
            "featherseg_body_bytes": self.bodies.held,
            "featherseg_draining": float(self.draining),
        }


def service_of(request: Request) -> Service:
    """Return the service that a request came to."""
    service: Service = request.app.state.service
    return service


async def _left(request: Request) -> None:
    """Return when the client has gone away; its body has been read."""
    message: Any = {}
    while message.get("type") != "http.disconnect":
        message = await request.receive()
