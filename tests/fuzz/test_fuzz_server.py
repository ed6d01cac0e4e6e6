"""Damaged pictures and requests, sent to a server of its own process: answers of one line, no 500, and no growth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

import numpy as np
import pytest
from fuzzing import Edit, check_line, edits, fuzzed, mutated, tampered, tree_changes
from hypothesis import given
from hypothesis import strategies as st
from test_fuzz_pictures import SEEDS

from artifact_fixtures import write_pooled

GROWTH = 64 << 20
"""Bytes that a server's memory may grow by, once it has warmed up: that of a few pictures, and allocators' slack."""
KINDS = ("image/png", "image/jpeg", "application/json")
WHOLE = {
    "inputs": [{"name": "image", "shape": [1, 8, 8, 3], "datatype": "UINT8", "data": list(range(192))}],
    "outputs": [{"name": "mask", "parameters": {"binary_data": True}}, {"name": "logits"}],
    "parameters": {},
    "id": "1",
}


@dataclass
class Server:
    """A server, and one connection to it."""

    connection: HTTPConnection

    def ask(self, path: str, body: bytes, **headers: str) -> tuple[int, bytes]:
        """Send a request, and hold the answer to what all answers are held to."""
        shown = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request("POST", path, body, shown)
        answer = self.connection.getresponse()
        content = answer.read()
        assert answer.status < 500, content
        if answer.status != 200:
            check_line(json.loads(content)["error"])
        return answer.status, content

    def memory(self) -> float:
        self.connection.request("GET", "/metrics")
        lines = self.connection.getresponse().read().decode().splitlines()
        found = [line for line in lines if line.startswith("featherseg_resident_bytes ")]
        return float(found[0].split()[1]) if found else 0.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = write_pooled(tmp_path_factory.mktemp("served") / "net.onnx")
    words = ("serve", model, "--port", "0", "--log-json", "--quiet", "--workers", "1", "--max-pixels", "1000000")
    command = [sys.executable, "-m", "featherseg", *map(str, words)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        assert process.stderr is not None
        line = next((line for line in process.stderr if '"address"' in line), "")
        assert line, "it has ended"
        connection = HTTPConnection("127.0.0.1", int(json.loads(line)["address"].rpartition(":")[2]), timeout=60)
        found = Server(connection)
        for kind in sorted(SEEDS):  # what decoders hold once they have run is no growth
            for accept in KINDS:
                found.ask("/v1/segment/net", SEEDS[kind], Accept=accept)
        before = found.memory()
        yield found
        assert found.memory() - before < GROWTH
        connection.close()
    finally:
        process.kill()
        rest = process.communicate()[1]
    assert "traceback" not in rest, rest


@fuzzed(300)
@given(kind=st.sampled_from(sorted(SEEDS)), changes=edits(), accept=st.sampled_from(KINDS))
def test_damaged_pictures(server: Server, kind: str, changes: list[Edit], accept: str) -> None:
    server.ask("/v1/segment/net", mutated(SEEDS[kind], changes), Accept=accept)


@fuzzed(150)
@given(changes=tree_changes())
def test_requests_that_are_something_else(server: Server, changes: list[tuple[float, Any]]) -> None:
    body = json.dumps(tampered(WHOLE, changes)).encode("utf-8", "replace")
    server.ask("/v2/models/net/infer", body)


@fuzzed(150)
@given(
    changes=edits(), header=st.one_of(st.none(), st.integers(-5, 300).map(str), st.text("0123456789eE+-. ", max_size=6))
)
def test_damaged_bodies_of_tensors(server: Server, changes: list[Edit], header: str | None) -> None:
    head = json.dumps(
        {"inputs": [{**WHOLE["inputs"][0], "data": [], "parameters": {"binary_data_size": 192}}]}  # type: ignore[dict-item]
    ).encode()
    body = mutated(head + np.arange(192, dtype=np.uint8).tobytes(), changes)
    length = str(len(head)) if header is None else header.strip()
    server.ask("/v2/models/net/infer", body, Inference_Header_Content_Length=length)


@fuzzed(100)
@given(
    path=st.text(max_size=30), accept=st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=40)
)
def test_addresses_and_headers(server: Server, path: str, accept: str) -> None:
    from urllib.parse import quote

    server.ask(f"/v1/segment/{quote(path.encode('utf-8', 'replace'))}", SEEDS["png"], Accept=accept.strip())


def test_bombs_of_every_format_cost_nothing(server: Server) -> None:
    before = server.memory()
    for data in bombs():
        status, content = server.ask("/v1/segment/net", data)
        assert status in (413, 422), content
    assert server.memory() - before < GROWTH


def bombs() -> Iterator[bytes]:
    """Small files that claim many pixels: sizes in the heads of seeds, overwritten."""
    yield b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR" + (20_000).to_bytes(4, "big") * 2 + SEEDS["png"][24:]
    place = SEEDS["jpeg"].index(b"\xff\xc0") + 5
    yield SEEDS["jpeg"][:place] + (65_000).to_bytes(2, "big") * 2 + SEEDS["jpeg"][place + 4 :]
    yield b"P6\n30000 30000\n255\n" + bytes(100)
    yield SEEDS["bmp"][:18] + (30_000).to_bytes(4, "little") * 2 + SEEDS["bmp"][26:]
    yield SEEDS["gif"][:6] + (65_000).to_bytes(2, "little") * 2 + SEEDS["gif"][10:]
    # VP8L: 14 bits each of width and height, less one, behind its signature.
    place = SEEDS["webp-lossless"].index(b"VP8L") + 9
    size = ((16_000 - 1) | (16_000 - 1) << 14).to_bytes(4, "little")
    yield SEEDS["webp-lossless"][:place] + size + SEEDS["webp-lossless"][place + 4 :]
