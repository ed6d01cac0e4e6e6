"""The addresses of a server, as one application for any ASGI server."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from ..core.errors import ConfigError
from . import v1, v2
from .front import Front
from .index import index_page
from .limits import Limits
from .models import Models
from .openapi import description
from .service import Service

ISOLATION = (
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-embedder-policy", b"require-corp"),
)
"""What browsers ask of a page before its WebAssembly may use threads."""


def create_app(
    models: Models, limits: Limits | None = None, *, token: str | None = None, page: str | Path | None = None
) -> Front:
    """Return a server's application.

    Args:
        models: what it offers; see :func:`featherseg.serving.models.open_models`.
        limits: of what it takes on.
        token: that requests must show; None lets everybody in.
        page: folder of a static page for ``/``, as ``featherseg web`` writes it; a list of the models where left out.

    Raises:
        ConfigError: `page` is no folder with a page.
    """
    service = Service(models, limits or Limits())
    said = description(models, token is not None)

    async def openapi(request: Request) -> Response:
        return v1.json_response(said)

    routes: list[BaseRoute] = [
        Route("/v1/segment/{name}", v1.segment, methods=["POST"]),
        Route("/v1/models", v1.models),
        Route("/v1/models/{name}", v1.model),
        Route("/metrics", v1.metrics),
        Route("/openapi.json", openapi),
        Route("/v2", v2.server),
        Route("/v2/health/live", v2.live),
        Route("/v2/health/ready", v2.ready),
    ]
    for version in ("", "/versions/{version}"):
        place = f"/v2/models/{{name}}{version}"
        routes += [
            Route(place, v2.model),
            Route(f"{place}/ready", v2.model_ready),
            Route(f"{place}/infer", v2.infer, methods=["POST"]),
        ]
    routes.append(_page(models, page))
    return Front(Router(routes, redirect_slashes=False), service, token)


def _page(models: Models, folder: str | Path | None) -> BaseRoute:
    """Return what stands at ``/``."""
    if folder is not None:
        if not (Path(folder) / "index.html").is_file():
            raise ConfigError(f"{folder} holds no index.html; give a folder that `featherseg web` wrote")
        return Mount("/", _isolated(StaticFiles(directory=folder, html=True)))

    async def index(request: Request) -> Response:
        return HTMLResponse(index_page(models))

    return Route("/", index)


def _isolated(app: ASGIApp) -> ASGIApp:
    """Return `app` with the headers that let its page use threads."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *ISOLATION]}  # type: ignore[misc]
            await send(message)

        await app(scope, receive, with_headers)  # type: ignore[arg-type]

    return answer
