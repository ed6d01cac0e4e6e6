"""What every request passes: who may come in, one line for whatever goes wrong, and the record of it."""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
import time
from typing import Any

from starlette.datastructures import State
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..core.text_files import shortened
from .gate import Job
from .limits import GoneError, Refusal
from .logs import FACTS, logger, requests
from .service import JOB, Service
from .v1 import json_response

OPEN = frozenset({"/v2/health/live", "/v2/health/ready"})
"""Addresses that need no token: what watches over a server has none, and they tell nothing else."""
GONE = 499
"""What nginx calls a client that left before it was answered; only counted and logged."""


class Front:
    """Lets requests in, and accounts for them.

    Args:
        app: what answers.
        service: whose metrics are kept.
        token: that requests must show; None lets everybody in.
    """

    def __init__(self, app: ASGIApp, service: Service, token: str | None = None) -> None:
        self._app, self.service = app, service
        self.state = State({"service": service})
        self._token = token.encode() if token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["app"] = self  # as Starlette's own application does, for what handles requests
        started = time.perf_counter()
        status, sent = 0, 0

        async def counted(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            sent += len(message.get("body", b""))
            await send(message)

        try:
            if self._token is not None and scope["path"] not in OPEN:
                check_token(Request(scope), self._token)
            await self._app(scope, receive, counted)
        except Refusal as refusal:
            await refused(refusal)(scope, receive, counted)
        except HTTPException as error:
            await refused(_unknown(scope, error))(scope, receive, counted)
        except GoneError:
            status = GONE
        except Exception:
            logger.exception("a defect of featherseg's; please report it")
            if not status:
                defect = Refusal(500, "a defect of the server's, which its log tells of; other requests go on")
                await refused(defect)(scope, receive, counted)
        self._record(scope, status or GONE, time.perf_counter() - started, sent)

    def _record(self, scope: Scope, status: int, seconds: float, sent: int) -> None:
        endpoint = getattr(scope.get("endpoint"), "__name__", "none")
        named = str(scope.get("path_params", {}).get("name", ""))
        model = named if named in {each.name for each in self.service.models} else ""
        metrics = self.service.metrics
        metrics.count("featherseg_requests_total", address=endpoint, model=model, status=str(status))
        metrics.time("featherseg_request_seconds", seconds, address=endpoint)
        job: Job | None = scope.get(JOB)
        stages = job.stages if job else {}
        for stage, part in stages.items():
            metrics.time("featherseg_stage_seconds", part, stage=stage)
        if not requests.isEnabledFor(logging.INFO):
            return
        method, path = scope["method"], shortened(repr(scope["path"])[1:-1], 200)
        facts: dict[str, Any] = {"method": method, "path": path, "status": status, "ms": round(1000 * seconds, 1)}
        if model:
            facts["model"] = model
        if scope.get("client"):
            facts["client"] = scope["client"][0]
        facts |= {f"{stage}_ms": round(1000 * part, 1) for stage, part in stages.items()}
        line = f"{method} {path} {status} {1000 * seconds:.1f} ms"
        requests.info(line, extra={FACTS: {**facts, "bytes": sent}})


def _unknown(scope: Scope, error: HTTPException) -> Refusal:
    """Return the refusal of what no address is for."""
    path = shortened(repr(scope["path"]), 100)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return Refusal(405, f"{path} takes no {scope['method'][:20]}; use {allowed}", {"Allow": allowed})
    return Refusal(error.status_code, f"there is no address {path}; /openapi.json lists those that there are")


def refused(refusal: Refusal) -> ASGIApp:
    """Return the answer to a request that is not answered as it was meant to be: one line, as JSON."""
    return json_response({"error": " ".join(str(refusal).split())}, refusal.status, refusal.headers)


def check_token(request: Request, token: bytes) -> None:
    """Refuse a request without the token.

    As a bearer token, or for browsers, which ask people for one, as the password of any user. However much of it is
    right, comparing takes the same time.

    Raises:
        Refusal: it shows none, or another.
    """
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    given = shown.strip().encode("utf-8", "replace")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).partition(b":")[2]
        except binascii.Error:
            given = b""
    if scheme.lower() in ("bearer", "basic") and hmac.compare_digest(given, token):
        return
    what = "the token is wrong" if scheme else "there is no token"
    # Only people who look at the page are asked for it: a program that gets the question would wait for an answer.
    challenge = "Basic" if request.method == "GET" and request.url.path == "/" else "Bearer"
    message = f'{what}; send the header "Authorization: Bearer TOKEN" with the one that the server was started with'
    raise Refusal(401, message, {"WWW-Authenticate": f'{challenge} realm="featherseg"'})
