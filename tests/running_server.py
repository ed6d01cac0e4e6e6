"""A server of featherseg's in a thread of the test, and requests to it that hide nothing."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from numpy.typing import NDArray
from PIL import Image

from artifact_fixtures import PooledSession, picture
from featherseg.runtime.segmenter import Segmenter
from featherseg.runtime.sessions.base import Session
from featherseg.serving.app import create_app
from featherseg.serving.limits import Limits
from featherseg.serving.models import Models, ServedModel
from featherseg.serving.server import bind, make_server
from featherseg.serving.service import Service

FRAME = picture(70, 100)
"""What most requests send."""


@dataclass
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The one line of a refusal."""
        assert self.headers["content-type"] == "application/json"
        (message,) = json.loads(self.body).values()
        assert isinstance(message, str)
        assert len(message.splitlines()) == 1
        return message

    @property
    def mask(self) -> NDArray[np.uint8]:
        return np.asarray(Image.open(io.BytesIO(self.body)))


@dataclass
class Running:
    """A server that runs."""

    port: int
    service: Service
    server: uvicorn.Server
    thread: threading.Thread

    def stop(self) -> None:
        """Tell it to end."""
        self.server.should_exit = True

    def open_connections(self) -> int:
        return len(self.server.server_state.connections)

    def connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """Send a request on a connection of its own; ``_`` in names of headers stands for ``-``."""
        connection = self.connect()
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()


def served(session: Session | None = None, name: str = "colors", **options: Any) -> ServedModel:
    """The pooled network, or a session, under a name."""
    segmenter = Segmenter(session or PooledSession(), confidence=True, **options)
    return ServedModel(name, Path(f"{name}.onnx"), segmenter, segmenter)


@contextmanager
def running(*models: ServedModel, limits: Limits | None = None, **options: Any) -> Iterator[Running]:
    """Serve while the block runs."""
    app = create_app(Models(models or [served()]), limits or Limits(workers=2), **options)
    with bind("127.0.0.1", 0) as listener:
        ready = threading.Event()
        server = make_server(app, ready.set)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        found = Running(listener.getsockname()[1], app.service, server, thread)
        thread.start()
        assert ready.wait(60)
        try:
            yield found
        finally:
            found.stop()
            thread.join(60)
            app.service.gate.close()
    assert not thread.is_alive()


def encoded(frame: NDArray[np.uint8] = FRAME, kind: str = "PNG", **options: Any) -> bytes:
    """A picture's file."""
    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, format=kind, **options)
    return stream.getvalue()
