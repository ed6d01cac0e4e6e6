"""Others' clients, unchanged, against a server: what the protocol's documents leave open shows only here.

They are in the dependency group ``clients``, but for KServe's: ``uv run --with kserve pytest -m slow tests/serving``.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifact_fixtures import PooledSession, block_means
from featherseg.runtime.segmenter import Segmenter
from featherseg.serving.limits import Limits
from running_server import FRAME, Running, running

BATCH = np.stack([FRAME, np.ascontiguousarray(FRAME[::-1])])
MASKS = np.stack([Segmenter(PooledSession()).segment(frame) for frame in BATCH])
LOGITS = block_means(BATCH)

pytestmark = pytest.mark.filterwarnings("default")  # theirs


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(limits=Limits(pixels=40_000, workers=2)) as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
def test_tritonclient(server: Running, binary_in: bool, binary_out: bool, coding: str | None) -> None:
    http = pytest.importorskip("tritonclient.http", reason="needs the dependency group clients: tritonclient[http]")
    client = http.InferenceServerClient(f"127.0.0.1:{server.port}")
    image = http.InferInput("image", list(BATCH.shape), "UINT8")
    image.set_data_from_numpy(BATCH, binary_data=binary_in)
    outputs = [http.InferRequestedOutput(name, binary_data=binary_out) for name in ("mask", "logits")]
    result = client.infer("colors", [image], outputs=outputs, request_id="7", request_compression_algorithm=coding)
    np.testing.assert_array_equal(result.as_numpy("mask"), MASKS)
    np.testing.assert_array_equal(result.as_numpy("logits"), LOGITS)
    assert result.get_response()["id"] == "7"
    everything = client.infer("colors", [image], model_version="1")
    np.testing.assert_array_equal(everything.as_numpy("mask"), MASKS)
    client.close()


@pytest.mark.slow
def test_what_tritonclient_asks_besides(server: Running) -> None:
    http = pytest.importorskip("tritonclient.http", reason="needs the dependency group clients: tritonclient[http]")
    client = http.InferenceServerClient(f"127.0.0.1:{server.port}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("colors")
    assert client.is_model_ready("colors", "1")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert client.get_model_metadata("colors")["outputs"][1]["shape"] == [-1, 3, -1, -1]
    image = http.InferInput("image", [1, 2, 3], "FP32")
    image.set_data_from_numpy(np.zeros((1, 2, 3), np.float32))
    with pytest.raises(sys.modules["tritonclient.utils"].InferenceServerException, match="UINT8"):
        client.infer("colors", [image])
    with pytest.raises(sys.modules["tritonclient.utils"].InferenceServerException, match="did you mean"):
        client.infer("color", [image])
    client.close()


@pytest.mark.slow
@pytest.mark.parametrize("binary", [True, False])
def test_the_client_of_kserve(server: Running, binary: bool) -> None:
    kserve = pytest.importorskip("kserve", reason="needs KServe's client: uv run --with kserve")
    config = kserve.inference_client.RESTConfig(protocol="v2", retries=0)
    address = f"http://127.0.0.1:{server.port}"

    async def ask() -> Any:
        client = kserve.InferenceRESTClient(config)
        assert await client.is_server_live(address)
        assert await client.is_server_ready(address)
        assert await client.is_model_ready(address, "colors")
        image = kserve.InferInput("image", list(BATCH.shape), "UINT8")
        image.set_data_from_numpy(BATCH, binary_data=binary)
        request = kserve.InferRequest(
            model_name="colors",
            infer_inputs=[image],
            request_outputs=[
                kserve.protocol.infer_type.RequestedOutput(name, {"binary_data": binary}) for name in ("mask", "logits")
            ],
        )
        try:
            return await client.infer(address, request, model_name="colors")
        finally:
            await client.close()

    response = asyncio.run(ask())
    found = {output.name: output.as_numpy() for output in response.outputs}
    np.testing.assert_array_equal(found["mask"], MASKS)
    np.testing.assert_array_equal(found["logits"], LOGITS)


@pytest.mark.slow
def test_schemathesis_finds_nothing(server: Running, tmp_path: Path) -> None:
    """Requests made up from the description: none is answered with 500, or with what the description leaves out."""
    pytest.importorskip("schemathesis", reason="needs the dependency group clients: schemathesis")
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{server.port}/openapi.json"),
        *(
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        ),
        *("--max-examples", "40", "--seed", "3", "--no-color", "--phases", "examples,coverage,fuzzing"),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout[-4000:]
    assert server.service.gate.running == server.service.bodies.held == 0
