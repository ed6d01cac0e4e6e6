from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from artifact_fixtures import picture, write_pooled
from conftest import Ended
from running_server import encoded


@contextmanager
def serving(*words: object, **environment: str) -> Iterator[tuple[subprocess.Popen[str], int, list[str]]]:
    """The command in a process of its own, its port, and what it has said by then."""
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "featherseg",
        "serve",
        *map(str, words),
        "--port",
        "0",
        "--log-json",
    ]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=variables)
    try:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if '"address"' in line:
                break
        assert lines, "it has ended"
        records = [json.loads(line) for line in lines]
        said = [record["message"] for record in records if record["level"] == "warning"]
        yield process, int(records[-1]["address"].rpartition(":")[2]), said
    finally:
        process.kill()
        process.communicate()


def test_it_serves_until_it_is_told_to_end(pooled: Path) -> None:
    with serving(pooled, f"again={pooled}", "--workers", "2") as (process, port, _):
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        for name in ("pooled", "again"):
            connection.request("POST", f"/v1/segment/{name}", encoded(picture(64, 96)))
            answer = connection.getresponse()
            assert answer.status == 200
            assert answer.read().startswith(b"\x89PNG")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        connection.close()
    assert process.returncode == 0
    records = [json.loads(line) for line in err.splitlines()]
    assert [record["message"][:6] for record in records] == ["POST /", "POST /", "ending", "ended"]
    assert {record["level"] for record in records} == {"info"}
    first = records[0]
    assert (first["model"], first["status"], first["client"]) == ("pooled", 200, "127.0.0.1")
    assert {"time", "ms", "bytes", "queue_ms", "segment_ms"} <= first.keys()


def test_a_token_from_the_environment_and_a_warning_where_there_is_none(pooled: Path) -> None:
    with serving(pooled, "--quiet", FEATHERSEG_TOKEN="abc") as (_, port, said):
        assert not any("whoever" in line for line in said)
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        for headers, status in (({}, 401), ({"Authorization": "Bearer abc"}, 200)):
            connection.request("GET", "/v2", headers=headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == status
        connection.close()
    with serving(pooled, "--host", "0.0.0.0", "--quiet") as (process, port, said):
        assert any("whoever reaches 0.0.0.0" in line for line in said)
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/v2/health/ready")
        assert connection.getresponse().read() == b'{"ready":true}'
        connection.close()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == 0


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_mistakes_are_one_line(run: Callable[..., Ended], pooled: Path, taken: int, tmp_path: Path) -> None:
    assert run("serve", pooled, "--port", taken).refused(f"port {taken}", "taken", "--port")
    assert run("serve", pooled, "--port", 70_000).refused("70000")
    assert run("serve", pooled, "--port", 0, "--host", "no.such.host.invalid").refused("no.such.host.invalid")
    assert run("serve", tmp_path / "none.onnx", "--port", 0).refused("none.onnx")
    assert run("serve", pooled, pooled, "--port", 0).refused("pooled", "two models")
    assert run("serve", f"a b={pooled}", "--port", 0).refused("a b")
    assert run("serve", pooled, "--port", 0, "--workers", 0).refused("--workers")
    assert run("serve", pooled, "--port", 0, "--max-pixels", 0).refused("pixels is 0")
    assert run("serve", pooled, "--port", 0, "--timeout", -1).refused("seconds is -1")
    assert run("serve", pooled, "--port", 0, "--page", tmp_path).refused("index.html")
    assert run("serve", pooled, "--port", 0, "--token-file", tmp_path / "no").refused("cannot be read")
    for text in ("", " \n", "two words", "é", "x" * 5000):
        (tmp_path / "token").write_text(text, encoding="utf-8")
        assert run("serve", pooled, "--port", 0, "--token-file", tmp_path / "token").refused("no token", "openssl")


def test_broken_models_are_told_before_anything_is_served(run: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"nothing")
    assert run("serve", tmp_path / "a.onnx", "--port", 0).refused("a.onnx")
    assert run("serve", write_pooled(tmp_path / "b.onnx", artifact=None), "--port", 0).refused("b.onnx", "metadata")
