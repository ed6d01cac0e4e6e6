"""The Open Inference Protocol, spoken by hand; others' clients speak it in test_clients.py."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifact_fixtures import PooledSession, block_means, picture, write_pooled
from featherseg.runtime.segmenter import Segmenter
from featherseg.runtime.sessions.base import open_session
from featherseg.serving.limits import Limits
from running_server import FRAME, Reply, Running, running, served

PLACE = "/v2/models/colors"
BATCH = np.stack([FRAME, FRAME[::-1]])
MASKS = np.stack([Segmenter(PooledSession()).segment(np.ascontiguousarray(frame)) for frame in BATCH])


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(limits=Limits(pixels=40_000, workers=2)) as found:
        yield found


def request(images: np.ndarray = BATCH, **other: Any) -> dict[str, Any]:
    tensor = {"name": "image", "shape": list(images.shape), "datatype": "UINT8", "data": images.ravel().tolist()}
    return {"inputs": [tensor], **other}


def binary(images: np.ndarray = BATCH, size: int | None = None, **other: Any) -> tuple[bytes, int]:
    """A body with the images as bytes, and how many of its bytes are JSON."""
    parameters = {"binary_data_size": images.size if size is None else size}
    tensor = {"name": "image", "shape": list(images.shape), "datatype": "UINT8", "parameters": parameters}
    head = json.dumps({"inputs": [tensor], **other}).encode()
    return head + images.tobytes(), len(head)


def infer(server: Running, content: Any, place: str = f"{PLACE}/infer", **headers: str) -> Reply:
    return server.ask("POST", place, json.dumps(content), **headers)


def tensors(reply: Reply) -> dict[str, np.ndarray]:
    """All outputs of an answer, whichever way they came."""
    assert reply.status == 200, reply.error
    head = int(reply.headers.get("inference-header-content-length", len(reply.body)))
    rest = reply.body[head:]
    found = {}
    for output in json.loads(reply.body[:head])["outputs"]:
        dtype = {"UINT8": np.uint8, "FP32": np.float32}[output["datatype"]]
        if size := output.get("parameters", {}).get("binary_data_size"):
            values, rest = np.frombuffer(rest[:size], dtype), rest[size:]
        else:
            values = np.array(output["data"], dtype)
        found[output["name"]] = values.reshape(output["shape"])
    assert not rest
    return found


def test_health_and_metadata(server: Running) -> None:
    assert server.ask("GET", "/v2/health/live").json == {"live": True}
    assert server.ask("GET", "/v2/health/ready").json == {"ready": True}
    said = server.ask("GET", "/v2").json
    assert (said["name"], said["extensions"]) == ("featherseg", ["binary_tensor_data"])
    model = server.ask("GET", PLACE).json
    assert model == server.ask("GET", f"{PLACE}/versions/1").json
    assert model["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
    assert [(o["name"], o["shape"]) for o in model["outputs"]] == [("mask", [-1] * 3), ("logits", [-1, 3, -1, -1])]
    assert server.ask("GET", f"{PLACE}/ready").json == {"name": "colors", "ready": True}
    assert "version" in server.ask("GET", f"{PLACE}/versions/2/ready").error


def test_json_both_ways(server: Running) -> None:
    reply = infer(server, request(id="a7"))
    assert (reply.json["id"], reply.json["model_name"], reply.json["model_version"]) == ("a7", "colors", "1")
    found = tensors(reply)
    np.testing.assert_array_equal(found["mask"], MASKS)
    np.testing.assert_array_equal(found["logits"], block_means(BATCH))


def test_nested_data_is_the_same(server: Running) -> None:
    content = request()
    content["inputs"][0]["data"] = BATCH.tolist()
    np.testing.assert_array_equal(tensors(infer(server, content))["mask"], MASKS)


def test_bytes_both_ways(server: Running) -> None:
    body, head = binary(parameters={"binary_data_output": True})
    found = tensors(server.ask("POST", f"{PLACE}/versions/1/infer", body, Inference_Header_Content_Length=str(head)))
    np.testing.assert_array_equal(found["mask"], MASKS)
    np.testing.assert_array_equal(found["logits"], block_means(BATCH))
    squeezed = gzip.compress(body)
    reply = server.ask(
        "POST", f"{PLACE}/infer", squeezed, Inference_Header_Content_Length=str(head), Content_Encoding="gzip"
    )
    np.testing.assert_array_equal(tensors(reply)["mask"], MASKS)


def test_outputs_are_chosen_one_by_one(server: Running) -> None:
    outputs = [{"name": "logits", "parameters": {"binary_data": True}}, {"name": "mask"}]
    reply = infer(server, request(outputs=outputs))
    assert list(tensors(reply)) == ["logits", "mask"]
    only = infer(server, request(outputs=[{"name": "mask"}]))
    assert "inference-header-content-length" not in only.headers
    assert list(tensors(only)) == ["mask"]


def test_letterboxed_pictures_have_no_logits() -> None:
    with running(served(size=(64, 64), fit="letterbox")) as server:
        assert [output["name"] for output in server.ask("GET", PLACE).json["outputs"]] == ["mask"]
        assert list(tensors(infer(server, request()))) == ["mask"]
        assert "known: mask" in infer(server, request(outputs=[{"name": "logits"}])).error


def test_a_file_for_one_size_takes_any(tmp_path: Path) -> None:
    path = write_pooled(tmp_path / "fixed.onnx", size=(64, 96))
    with running(served(open_session(path, threads=1), "fixed")) as server:
        found = tensors(infer(server, request(picture(100, 80)[None]), "/v2/models/fixed/infer"))
        assert found["mask"].shape == (1, 100, 80)
        assert found["logits"].shape == (1, 3, 8, 12)
        np.testing.assert_array_equal(found["mask"][0], Segmenter(path).segment(picture(100, 80)))


def broken(**changes: Any) -> dict[str, Any]:
    content = request(FRAME[None])
    content["inputs"][0] |= changes
    return content


REFUSED = {
    "a text": ("x", 400, "object"),
    "no object": ([1], 400, "object"),
    "no inputs": ({}, 400, "inputs"),
    "another input": (broken(name="input"), 400, "'input'"),
    "two inputs": ({"inputs": request()["inputs"] * 2}, 400, "'image', 'image'"),
    "floats": (broken(datatype="FP32"), 400, "UINT8"),
    "no batch": (broken(shape=[70, 100, 3]), 400, "[batch, height, width, 3]"),
    "channels first": (broken(shape=[1, 3, 70, 100]), 400, "[batch, height, width, 3]"),
    "nothing": (broken(shape=[0, 70, 100, 3], data=[]), 400, "shape"),
    "negative": (broken(shape=[1, -70, -100, 3]), 400, "shape"),
    "too large": (broken(shape=[1, 10**9, 10**9, 3]), 413, "pixels"),
    "huge numbers": (broken(shape=[1, 10**30, 1, 3]), 413, "shape"),
    "too few values": (broken(data=[1, 2, 3]), 400, "3 values"),
    "values out of range": (broken(data=[256] * 21_000), 400, "255"),
    "fractions": (broken(data=[0.5] * 21_000), 400, "255"),
    "texts": (broken(data=["a"] * 21_000), 400, "255"),
    "a number": (broken(data=7), 400, "array"),
    "no data": (broken(data=None), 400, "array"),
    "holes": (broken(data=[[1], [], [2]]), 400, "data"),
    "size without bytes": (broken(parameters={"binary_data_size": 21_000}), 400, "0 bytes follow"),
    "strange size": (broken(parameters={"binary_data_size": "many"}), 400, "'many'"),
    "unknown output": (request(outputs=[{"name": "masks"}]), 400, 'did you mean "mask"?'),
    "an output twice": (request(outputs=[{"name": "mask"}] * 2), 400, "twice"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(server: Running, case: str) -> None:
    content, status, words = REFUSED[case]
    reply = infer(server, content)
    assert (reply.status, words in reply.error) == (status, True), reply.error


def test_headers_and_bytes_that_do_not_fit(server: Running) -> None:
    body, head = binary(FRAME[None])
    for header in ("x", "-1", "10000000000000000000000000", "²", ""):
        reply = server.ask("POST", f"{PLACE}/infer", body, Inference_Header_Content_Length=header.encode("latin-1"))
        assert reply.status == 400, header
        assert "JSON" in reply.error
    for wrong, length in ((binary(FRAME[None], size=5)[0], head), (body[:-1], head), (body + b"x", head)):
        assert server.ask("POST", f"{PLACE}/infer", wrong, Inference_Header_Content_Length=str(length)).status == 400
    content = json.dumps(request(FRAME[None])).encode()
    reply = server.ask("POST", f"{PLACE}/infer", content + b"x", Inference_Header_Content_Length=str(len(content)))
    assert "1 bytes follow" in reply.error
    assert server.ask("POST", "/v2/models/color/infer", body).status == 404
