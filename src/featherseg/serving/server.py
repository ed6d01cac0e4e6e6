"""A server from its socket to its end: it binds, answers, and when it is told to end, finishes what it has begun."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import uvicorn

from ..core.errors import ConfigError, first_line
from .front import Front
from .logs import note
from .protocol import guarded_protocol

HOST, PORT = "127.0.0.1", 8000
TOKEN_VARIABLE = "FEATHERSEG_TOKEN"
BACKLOG = 128
DRAIN_SECONDS = 30
"""How long requests may go on once the server is told to end; then it ends all the same."""
KEEP_ALIVE_SECONDS = 60
"""How long a connection may rest between requests: longer than the pools of clients let it, which then close first."""
TOKEN_BYTES = 4096
"""Of a token's file; a longer one is another file."""
_TAKEN = (98, 48, 10048)
"""EADDRINUSE of Linux, macOS and Windows."""


def read_token(path: str | Path | None) -> str | None:
    """Return the token that requests must show: a file's first line, or that of the environment; None where neither is.

    Raises:
        ConfigError: the file cannot be read, or there is no usable token in it.
    """
    if path is None:
        text, where = os.environ.get(TOKEN_VARIABLE), TOKEN_VARIABLE
        if text is None:
            return None
    else:
        where = str(path)
        try:
            with Path(path).expanduser().open(encoding="utf-8") as file:
                text = file.read(TOKEN_BYTES)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the token's file {path} cannot be read ({first_line(error)})") from error
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token or len(token) >= TOKEN_BYTES:
        raise ConfigError(
            f"{where} holds no token; write one line of letters and digits, such as `openssl rand -hex 24`"
        )
    return token


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that has its port, and listens once the server runs: clients can wait for it until then.

    Args:
        host: name or address of the interface.
        port: 0 takes a free one.

    Raises:
        ConfigError: the port is taken, or host or port are not to be had.
    """
    if not 0 <= port < 1 << 16:
        raise ConfigError(f"--port is {port}; give 0 (any free one) to 65535")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        # The protocol is named because asyncio sends small packets at once on such sockets alone: else the last of an
        # answer would wait for the client's delayed word that it has the first, 40 ms on Linux.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            if os.name == "posix":  # elsewhere it would let two programs have one port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
        except BaseException:
            listener.close()
            raise
        return listener
    except socket.gaierror as error:
        raise ConfigError(f"--host is {host!r}, which is no address of this machine ({first_line(error)})") from error
    except OSError as error:
        if error.errno in _TAKEN:
            raise ConfigError(
                f"port {port} of {host} is taken by another program; give another --port, or 0"
            ) from error
        raise ConfigError(f"port {port} of {host} is not to be had ({error.strerror}); give another one") from error


def address(listener: socket.socket) -> str:
    """Return the address that clients on this machine use."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


def warn_if_open(host: str, token: str | None) -> None:
    """Say so where other machines may send pictures without a token."""
    try:
        is_local = ip_address(host).is_loopback
    except ValueError:
        is_local = host == "localhost"
    if not is_local and token is None:
        note(
            f"whoever reaches {host} can use this server; set {TOKEN_VARIABLE} or give --token-file, and put what "
            "speaks TLS before it",
            logging.WARNING,
        )


def make_server(app: Front, on_ready: Callable[[], None] = lambda: None) -> uvicorn.Server:
    """Return what answers requests with an application, within the limits of its service.

    Args:
        app: of :func:`featherseg.serving.app.create_app`.
        on_ready: called once it listens, and knows what to do when it is told to end.
    """
    service = app.service
    config = uvicorn.Config(
        app,
        http=guarded_protocol(service.limits),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    own = logging.getLogger("uvicorn.error")
    own.setLevel(logging.CRITICAL)  # what it tells of is answered, and logged, here

    class Server(uvicorn.Server):
        """Tells those who watch when it is ready, and that it is ending before it does."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_ready()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            service.draining = True
            note(f"ending: requests that have begun are answered, for up to {DRAIN_SECONDS} s")
            await super().shutdown(sockets)

    return Server(config)


def run(app: Front, listener: socket.socket) -> None:
    """Answer requests until SIGTERM or Ctrl-C; then finish what has begun, and return.

    Args:
        app: of :func:`featherseg.serving.app.create_app`.
        listener: of :func:`bind`.
    """

    def ready() -> None:
        names, place = [model.name for model in app.service.models], address(listener)
        note(f"serving {', '.join(names)} at {place}", address=place, models=names)

    # uvicorn sends itself the signal again once it has ended, which the command line would take for an interruption.
    with suppress(KeyboardInterrupt):
        asyncio.run(make_server(app, ready).serve(sockets=[listener]))
    app.service.gate.close()
    note("ended")
