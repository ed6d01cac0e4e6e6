"""The plain addresses: a picture's bytes in, what ``Accept`` asks for out."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from .answers import Answer, segmented, wanted
from .gate import Job
from .limits import Refusal
from .service import JOB, Service, service_of


async def segment(request: Request) -> Response:
    """Segment the picture in the body."""
    service = service_of(request)
    model = service.models.get(request.path_params["name"])
    kind = wanted(request.headers.get("accept", ""))

    def work(body: bytearray, job: Job) -> Answer:
        if not body:
            raise Refusal(400, "the body is empty; send a picture, as `curl --data-binary @street.jpg` does")
        return segmented(body, kind, model, service.limits, job)

    answer = await service.compute(request, work)
    headers = {"Server-Timing": server_timing(request.scope[JOB]), "Vary": "Accept"}
    return Response(answer.content, media_type=answer.media_type, headers=headers)


async def models(request: Request) -> Response:
    """List the networks."""
    return json_response({"models": [model.facts() for model in service_of(request).models]})


async def model(request: Request) -> Response:
    """Say what a network says of itself: its classes and colours."""
    return json_response(service_of(request).models.get(request.path_params["name"]).facts())


async def metrics(request: Request) -> Response:
    """Say what was done, for Prometheus."""
    service: Service = service_of(request)
    return Response(service.metrics.text(service.gauges()), media_type="text/plain; version=0.0.4; charset=utf-8")


def server_timing(job: Job) -> str:
    """Return a job's stages as the header that browsers show (W3C Server Timing), in ms."""
    return ", ".join(f"{stage};dur={1000 * seconds:.2f}" for stage, seconds in job.stages.items())


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return JSON."""
    return Response(msgspec.json.encode(content), status, headers, media_type="application/json")
