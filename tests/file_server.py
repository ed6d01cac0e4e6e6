"""An HTTP server on this machine that serves one file, as well or as badly as a test wants."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """What is served, and what was asked.

    Args:
        content: of the file.
        cut: bytes of the first answer after which the connection breaks; none where None.
        ranges: whether parts can be asked for.
        redirect: whether ``/file`` leads to ``/moved``.
        length: what the header says, where it lies.
        status: in place of 200.
    """

    content: bytes
    cut: int | None = None
    ranges: bool = True
    redirect: bool = False
    length: int | None = None
    status: int = 200
    asked: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(served: Served) -> Iterator[Served]:
    """Serve while the block runs; ``served.url`` is the file's address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            served.asked.append(wanted)
            if served.redirect and self.path == "/file":
                self.send_response(302)
                self.send_header("Location", "/moved")
                self.end_headers()
                return
            if served.status != 200:
                self.send_error(served.status)
                return
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and served.ranges else 0
            body = served.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body) if served.length is None else served.length))
            self.end_headers()
            if served.cut is not None:
                body, served.cut = body[: served.cut], None
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}/file"
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
