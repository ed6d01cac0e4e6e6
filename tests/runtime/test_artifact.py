from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from featherseg.errors import ArtifactError
from featherseg.runtime import artifact as module
from featherseg.runtime.artifact import METADATA_KEY, Artifact, read_artifact
from featherseg.types import ClassSet, InputSpec

ARTIFACT = Artifact(
    classes=ClassSet(("road", "Straße", "車"), ((1, 2, 3), (4, 5, 6), (255, 0, 9)), ignore_index=254),
    input_spec=InputSpec((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
    stride=8,
    network="jetnet",
    params=133_301,
    training={"dataset": "camvid", "epochs": 40},
    verification={"agreement": 0.99999, "iou": {"road": None}},
)


def entries(**changes: Any) -> dict[str, str]:
    data = json.loads(ARTIFACT.to_metadata()[METADATA_KEY])
    return {METADATA_KEY: json.dumps(data | changes)}


def write_model(path: Path, metadata: dict[str, str]) -> Path:
    """A file as ONNX itself writes it, with weights before the metadata."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [50_000], [0.5] * 50_000)
    value = helper.make_tensor_value_info("w", TensorProto.FLOAT, [50_000])
    model = helper.make_model(helper.make_graph([], "g", [], [value], [weight]))
    helper.set_model_props(model, metadata)
    onnx.save(model, str(path))
    return path


def refusal(action: Any, *args: Any) -> str:
    with pytest.raises(ArtifactError) as caught:
        action(*args)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


def test_metadata_round_trip() -> None:
    metadata = ARTIFACT.to_metadata()
    assert list(metadata) == ["featherseg"]
    assert Artifact.from_metadata(metadata) == ARTIFACT
    assert Artifact.from_metadata({"other": "x", **metadata}) == ARTIFACT
    with pytest.raises(FrozenInstanceError):
        ARTIFACT.stride = 4  # type: ignore[misc]


def test_file_round_trip_reads_what_onnx_wrote(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a.onnx", {"before": "1", **ARTIFACT.to_metadata(), "after": "2"})
    assert read_artifact(path) == ARTIFACT
    assert read_artifact(str(path)) == ARTIFACT


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"classes": {"names": []}}, "classes"),
        ({"classes": {"names": ["a", "a"]}}, "twice"),
        ({"classes": {"names": ["a"], "colors": [[0, 0, 256]]}}, "256"),
        ({"classes": {"names": ["a"], "colors": [[0, 0]]}}, "classes"),
        ({"classes": {"names": ["a", ["x" * 9999]]}}, "names"),
        ({"classes": {"names": ["a"], "colors": [[1e999, 0, 0]]}}, "JSON"),
        ({"classes": {"names": [1, 2]}}, "names"),
        ({"classes": {"names": ["a"], "ignore_index": 300}}, "300"),
        ({"classes": ["a", "b"]}, "classes"),
        ({"input_spec": {"mean": [0, 0, 0], "std": [1, 0, 1]}}, "std"),
        ({"input_spec": {"mean": [0, 0], "std": [1, 1, 1]}}, "mean"),
        ({"input_spec": {"mean": [0, 0, 10**400], "std": [1, 1, 1]}}, "mean"),
        ({"input_spec": {"mean": [0, 0, "0"], "std": [1, 1, 1]}}, "mean"),
        ({"stride": 0}, "stride"),
        ({"stride": True}, "stride"),
        ({"stride": 8.0}, "stride"),
        ({"params": None}, "params"),
        ({"network": ["x"]}, "network"),
        ({"training": "long"}, "training"),
        ({"output": "boxes"}, "boxes"),
        ({"format_version": 2}, "update"),
        ({"format_version": "1"}, "format_version"),
    ],
)
def test_malformed_metadata_is_one_line(changes: dict[str, Any], word: str) -> None:
    assert word in refusal(Artifact.from_metadata, entries(**changes))


@pytest.mark.parametrize(
    ("text", "word"),
    [("", "JSON"), ("{", "JSON"), ("[]", "list"), ("[" * 100_000, "JSON"), ("x" * (1 << 20 | 1), "too many")],
)
def test_text_that_is_no_metadata(text: str, word: str) -> None:
    assert word in refusal(Artifact.from_metadata, {METADATA_KEY: text})


def test_what_json_cannot_hold_is_not_written() -> None:
    assert "JSON" in refusal(replace(ARTIFACT, training={"loss": float("nan")}).to_metadata)
    assert "JSON" in refusal(replace(ARTIFACT, training={"path": Path("x")}).to_metadata)
    assert "bytes" in refusal(replace(ARTIFACT, training={"log": "x" * (1 << 20)}).to_metadata)


def test_foreign_file_says_so(tmp_path: Path) -> None:
    path = write_model(tmp_path / "foreign.onnx", {"author": "someone"})
    message = refusal(read_artifact, path)
    assert str(path) in message
    assert "no featherseg metadata" in message
    assert "export it again" in message


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert "no such file" in refusal(read_artifact, tmp_path / "none.onnx")
    assert "no such file" in refusal(read_artifact, tmp_path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a.onnx", ARTIFACT.to_metadata())
    whole = path.read_bytes()
    tail = len(whole) - len(json.dumps(entries())) - 200
    for end in [0, 1, 7, 30, 1000, 100_000, *range(tail, len(whole), 37)]:
        path.write_bytes(whole[:end])
        refusal(read_artifact, path)


@pytest.mark.parametrize(
    "content",
    [b"\x89PNG\r\n\x1a\n" + bytes(range(256)), b"hello, world\n" * 50, b"\xff" * 100, b"\x00" * 100_000],
)
def test_other_formats_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    refusal(read_artifact, path)


def test_absurd_metadata_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_model(tmp_path / "a.onnx", {"junk": "x" * (2 << 20), **ARTIFACT.to_metadata()})
    monkeypatch.setattr(module, "_read_entry", lambda *_: pytest.fail("it was read"))
    assert "too many" in refusal(read_artifact, path)


def test_runtime_imports_without_torch() -> None:
    code = (
        "import sys, featherseg.runtime.segmenter, featherseg.runtime.sessions\n"
        "heavy = {'torch', 'onnx', 'openvino', 'torchvision'} & set(sys.modules)\n"
        "sys.exit(f'imports {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
