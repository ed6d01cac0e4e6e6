"""What a server does when there is too much, too slow or too late for it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from artifact_fixtures import PooledSession
from conftest import error_line
from featherseg.core.errors import ConfigError
from featherseg.core.machine import resident_bytes
from featherseg.serving.limits import Limits
from featherseg.serving.server import bind
from running_server import Running, encoded, running, served

PLACE = "/v1/segment/colors"
PATIENCE = 20.0


class Held(PooledSession):
    """The pooled network, which computes nothing until it is let go."""

    thread_safe = True

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits = super().run(images)
        assert self.go.wait(PATIENCE)
        return logits


def until(condition: Callable[[], bool]) -> None:
    """Wait for what other threads do."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it has not come about"
        time.sleep(0.01)


@pytest.fixture
def held() -> Iterator[Held]:
    session = Held()
    yield session
    session.go.set()


@contextmanager
def asking(server: Running, count: int) -> Iterator[list[int]]:
    """Send pictures at once; at the end of the block all are answered, and the list holds their status."""
    statuses: list[int] = []
    with ThreadPoolExecutor(count) as pool:
        sent = [pool.submit(server.ask, "POST", PLACE, encoded()) for _ in range(count)]
        yield statuses
        statuses += [each.result().status for each in sent]


def test_a_full_queue_refuses_at_once_and_says_when_to_come_again(held: Held) -> None:
    with running(served(held), limits=Limits(workers=2, waiting=3)) as server:
        with asking(server, 5) as statuses:
            until(lambda: (server.service.gate.running, server.service.gate.waiting) == (2, 3))
            began = time.monotonic()
            reply = server.ask("POST", PLACE, encoded())
            assert time.monotonic() - began < 2
            assert reply.status == 503
            assert 1 <= int(reply.headers["retry-after"]) <= 60
            assert reply.headers["retry-after"] in reply.error
            assert server.ask("GET", "/v2/health/ready").status == 200
            held.go.set()
        assert statuses == [200] * 5
        assert (server.service.gate.running, server.service.gate.waiting) == (0, 0)
        assert server.service.bodies.held == 0
        assert server.ask("POST", PLACE, encoded()).status == 200


def test_a_turn_that_does_not_come_in_time(held: Held) -> None:
    with running(served(held), limits=Limits(workers=1, seconds=0.5)) as server, asking(server, 1):
        until(lambda: server.service.gate.running == 1)
        reply = server.ask("POST", PLACE, encoded())
        assert (reply.status, "0.5 s" in reply.error) == (503, True)
        held.go.set()


def send(server: Running, data: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    connection.sendall(data)
    return connection


def head(length: int) -> bytes:
    return f"POST {PLACE} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()


def answer(connection: socket.socket) -> tuple[int, str]:
    """Return status and line of what comes until the server closes."""
    content = b""
    while part := connection.recv(65536):
        content += part
        status, _, body = content.partition(b"\r\n\r\n")
        if body.endswith(b"}"):
            break
    connection.close()
    return int(status.split()[1]), json.loads(body)["error"]


def test_nobody_is_computed_for_who_has_left(held: Held) -> None:
    with running(served(held), limits=Limits(workers=1)) as server:
        with asking(server, 1) as statuses:
            until(lambda: server.service.gate.running == 1)
            picture = encoded()
            waiting = [send(server, head(len(picture)) + picture) for _ in range(3)]
            until(lambda: server.service.gate.waiting == 3)
            for connection in waiting:
                connection.close()
            until(lambda: server.service.gate.waiting == 0)
            assert server.service.bodies.held <= len(picture)
            held.go.set()
        assert statuses == [200]
        assert server.ask("POST", PLACE, encoded()).status == 200
        assert len(held.seen) == 2  # the first and the last
        families = text_string_to_metric_families(server.ask("GET", "/metrics").body.decode())
        requests = next(family for family in families if family.name == "featherseg_requests")
        counts = {sample.labels["status"]: sample.value for sample in requests.samples}
        assert counts == {"200": 2, "499": 3}


def test_who_leaves_while_sending_leaves_nothing_behind() -> None:
    with running() as server:
        connection = send(server, head(1_000_000) + bytes(200_000))
        until(lambda: server.service.bodies.held == 200_000)
        connection.close()
        until(lambda: server.service.bodies.held == 0)


def test_a_slow_body() -> None:
    with running(limits=Limits(seconds=0.4)) as server:
        status, line = answer(send(server, head(1000) + b"abc"))
        assert (status, "3 bytes" in line) == (408, True), line
        until(lambda: server.service.bodies.held == 0)


def test_a_slow_head() -> None:
    with running(limits=Limits(head_seconds=0.3)) as server:
        for start in (b"", b"POST /v1/seg", head(5)[:-2]):
            status, line = answer(send(server, start))
            assert (status, "0.3 s" in line) == (408, True), line
        # After an answer on the same connection, too.
        connection = send(server, b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: b"featherseg" in connection.recv(65536))
        connection.sendall(b"GET /v2")
        assert answer(connection)[0] == 408


def test_an_endless_head() -> None:
    with running(limits=Limits(head_bytes=5000)) as server:
        assert answer(send(server, b"GET /v2 HTTP/1.1\r\nX: " + b"y" * 9000))[0] == 431
        assert answer(send(server, b"GET /v2 HTTP/1.1\r\nX: \0\r\n\r\n"))[0] == 400
        assert server.ask("POST", PLACE, encoded()).status == 200  # a body is no head


def test_too_many_connections() -> None:
    with running(limits=Limits(connections=3)) as server:
        before = [send(server, b"") for _ in range(3)]
        until(lambda: server.open_connections() == 3)
        status, line = answer(send(server, b""))
        assert (status, "3 connections" in line) == (503, True)
        before.pop().close()
        until(lambda: server.open_connections() == 2)
        assert server.ask("GET", "/v2").status == 200
        for connection in before:
            connection.close()


def test_a_gigabyte_is_refused_by_its_header_or_on_its_way() -> None:
    piece = bytes(1 << 20)
    with running(limits=Limits(pixels=1 << 20)) as server:
        before = resident_bytes()
        reply = server.ask("POST", PLACE, iter([piece] * 1024))  # sent whole, and dropped
        assert reply.status == 413
        status, line = answer(send(server, head(1 << 30) + piece))
        assert (status, "1,073,741,824" in line) == (413, True)
        after = resident_bytes()
        assert before is None or after is None or after - before < 64 << 20


def test_what_others_hold_counts() -> None:
    with running(limits=Limits(memory=300_000)) as server:
        connection = send(server, head(1_000_000) + bytes(200_000))
        until(lambda: server.service.bodies.held == 200_000)
        reply = server.ask("POST", PLACE, bytes(150_000))
        assert (reply.status, "retry-after" in reply.headers) == (503, True)
        connection.close()


def test_an_end_answers_what_has_begun(held: Held) -> None:
    with running(served(held), limits=Limits(workers=1)) as server:
        assert server.ask("GET", "/v2/health/ready").status == 200
        with asking(server, 3) as statuses:
            until(lambda: server.service.gate.waiting == 2)
            server.stop()
            until(lambda: server.service.draining)
            until(lambda: not listens(server.port))
            held.go.set()
        assert statuses == [200] * 3
        server.thread.join(PATIENCE)
        assert not server.thread.is_alive()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_a_defect_is_one_line_and_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    class Defect(PooledSession):
        def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            raise ZeroDivisionError("secret")

    with running(served(Defect())) as server:
        reply = server.ask("POST", PLACE, encoded())
        assert (reply.status, "secret" in reply.error) == (500, False)
        assert server.service.gate.running == 0
    assert "ZeroDivisionError: secret" in caplog.text


def test_counters_that_prometheus_reads() -> None:
    with running(served(name="a"), served(name="b")) as server:
        for path in ("/v1/segment/a", "/v1/segment/a", "/v1/segment/zzz", "/nope"):
            server.ask("POST", path, encoded())
        reply = server.ask("GET", "/metrics")
        assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
        families = {family.name: family for family in text_string_to_metric_families(reply.body.decode())}
    counts = {tuple(s.labels.values()): s.value for s in families["featherseg_requests"].samples}
    assert counts == {("segment", "a", "200"): 2, ("segment", "", "404"): 1, ("none", "", "404"): 1}
    assert {family.type for family in families.values()} == {"counter", "gauge", "histogram"}
    stages = [s for s in families["featherseg_stage_seconds"].samples if s.name.endswith("_count")]
    assert {s.labels["stage"]: s.value for s in stages} == dict.fromkeys(
        ("receive", "queue", "decode", "segment", "encode"), 2
    )
    seconds = [s for s in families["featherseg_request_seconds"].samples if s.labels["address"] == "segment"]
    buckets = [s.value for s in seconds if s.name.endswith("_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == next(s.value for s in seconds if s.name.endswith("_count")) == 3


def test_limits_have_ranges() -> None:
    assert Limits(pixels=10).bytes == 30 + (1 << 20)
    assert Limits(waiting=0).waiting == 0
    for name in ("pixels", "workers", "seconds", "bytes"):
        assert "at least 1" in error_line(ConfigError, Limits, **{name: -1})
    assert "waiting" in error_line(ConfigError, Limits, waiting=-1)


def test_answers_are_not_held_back_for_the_client_s_word_that_it_has_their_beginning() -> None:
    with bind("127.0.0.1", 0) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.proto == socket.IPPROTO_TCP  # what asyncio looks at
