from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
import zipfile
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import onnx
import pytest
from onnx import TensorProto, helper

from artifact_fixtures import EVERY_FIELD
from conftest import error_line
from featherseg.core.errors import ArtifactError
from featherseg.runtime import containers as module
from featherseg.runtime.artifact import Artifact, read_artifact
from featherseg.runtime.containers import METADATA_KEY, companion_path, write_companion


def entries(**changes: Any) -> dict[str, str]:
    data = json.loads(EVERY_FIELD.to_metadata()[METADATA_KEY])
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
    message = error_line(ArtifactError, action, *args)
    assert len(message) < 500
    return message


def test_metadata_round_trip() -> None:
    metadata = EVERY_FIELD.to_metadata()
    assert list(metadata) == ["featherseg"]
    assert Artifact.from_metadata(metadata) == EVERY_FIELD
    assert Artifact.from_metadata({"other": "x", **metadata}) == EVERY_FIELD
    with pytest.raises(FrozenInstanceError):
        EVERY_FIELD.stride = 4  # type: ignore[misc]


def test_the_temperature_is_one_for_all_or_one_for_each_class() -> None:
    assert EVERY_FIELD.temperature == (1.5, 0.75, 2.0)
    assert replace(EVERY_FIELD, calibration={"temperature": 2}).temperature == 2.0
    assert replace(EVERY_FIELD, calibration={}).temperature == 1.0
    older = json.loads(EVERY_FIELD.to_metadata()[METADATA_KEY])
    del older["calibration"]
    assert Artifact.from_metadata({METADATA_KEY: json.dumps(older)}).temperature == 1.0


def test_an_int8_file_with_the_words_of_0_1_0_is_read() -> None:
    old = {"miou_float": 0.75, "miou": 0.74, "float_layers": ["stem.0"], "float_bytes": 9, "float_latency_ms": 2.5}
    read = Artifact.from_metadata(entries(training={"dataset": "street", "quantization": old})).training
    assert read["dataset"] == "street"
    assert read["quantization"] == {
        "miou_fp32": 0.75,
        "miou": 0.74,
        "fp32_layers": ["stem.0"],
        "fp32_bytes": 9,
        "fp32_latency_ms": 2.5,
    }


def test_file_round_trip_reads_what_onnx_wrote(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a.onnx", {"before": "1", **EVERY_FIELD.to_metadata(), "after": "2"})
    assert read_artifact(path) == EVERY_FIELD
    assert read_artifact(str(path)) == EVERY_FIELD


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
        ({"calibration": [1]}, "calibration"),
        ({"calibration": {"temperature": 0}}, "temperature"),
        ({"calibration": {"temperature": [1.0, 2.0]}}, "temperature"),
        ({"calibration": {"temperature": [1.0, 2.0, "3"]}}, "temperature"),
        ({"calibration": {"temperature": 1e9}}, "temperature"),
        ({"calibration": {"temperature": True}}, "temperature"),
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
    assert "JSON" in refusal(replace(EVERY_FIELD, training={"loss": float("nan")}).to_metadata)
    assert "JSON" in refusal(replace(EVERY_FIELD, training={"path": Path("x")}).to_metadata)
    assert "JSON" in refusal(replace(EVERY_FIELD, training={"half a pair": "\ud83d"}).to_metadata)
    assert "bytes" in refusal(replace(EVERY_FIELD, training={"log": "x" * (1 << 20)}).to_metadata)


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
    path = write_model(tmp_path / "a.onnx", EVERY_FIELD.to_metadata())
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
    path = write_model(tmp_path / "a.onnx", {"junk": "x" * (2 << 20), **EVERY_FIELD.to_metadata()})
    monkeypatch.setattr(module, "_read_entry", lambda *_: pytest.fail("it was read"))
    assert "too many" in refusal(read_artifact, path)


TEXT = EVERY_FIELD.to_metadata()[METADATA_KEY]


def write_xml(path: Path, info: str, head: str = "") -> Path:
    """A model as OpenVINO writes it, with runtime information of a layer before the model's own."""
    layer = '<layer id="0"><rt_info><featherseg value="of a layer"/></rt_info></layer>'
    path.write_text(f'<?xml version="1.0"?>{head}<net name="n" version="11"><layers>{layer}</layers>{info}</net>')
    return path


def test_openvino_file(tmp_path: Path) -> None:
    other = '<framework><featherseg value="of another framework"/></framework>'
    info = f"<rt_info>{other}<featherseg value={quoteattr(TEXT)} /></rt_info>"
    assert read_artifact(write_xml(tmp_path / "a.xml", info)) == EVERY_FIELD
    assert "no featherseg metadata" in refusal(
        read_artifact, write_xml(tmp_path / "b.xml", f"<rt_info>{other}</rt_info>")
    )
    whole = (tmp_path / "a.xml").read_bytes()
    for end in [0, 1, 30, len(whole) // 2, *range(len(whole) - 60, len(whole) - 1, 7)]:
        (tmp_path / "c.xml").write_bytes(whole[:end])
        assert "whole OpenVINO" in refusal(read_artifact, tmp_path / "c.xml")


def test_hostile_xml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entities = '<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {name} "{f"&{inner};" * 10}">' for inner, name in zip("abcdefghi", "bcdefghij", strict=True)
    )
    bomb = write_xml(tmp_path / "a.xml", '<rt_info><featherseg value="&j;"/></rt_info>', f"<!DOCTYPE net [{entities}]>")
    assert "document type" in refusal(read_artifact, bomb)
    outside = '<!DOCTYPE net SYSTEM "file:///etc/passwd">'
    assert "document type" in refusal(read_artifact, write_xml(tmp_path / "b.xml", "", outside))
    assert "no OpenVINO model" in refusal(read_artifact, write_xml(tmp_path / "c.xml", "<a>" * 200 + "</a>" * 200))
    (tmp_path / "d.xml").write_text("<html><body/></html>")
    assert "no OpenVINO model" in refusal(read_artifact, tmp_path / "d.xml")
    (tmp_path / "e.xml").write_bytes(bytes(range(256)))
    assert "whole OpenVINO" in refusal(read_artifact, tmp_path / "e.xml")
    long = write_xml(tmp_path / "f.xml", f"<rt_info><featherseg value='{'x' * (1 << 21)}'/></rt_info>")
    assert "too many" in refusal(read_artifact, long)
    monkeypatch.setattr(module, "_MAX_XML_BYTES", 1 << 20)
    assert "too many" in refusal(read_artifact, long)


def write_program(path: Path, content: bytes | None, entries: dict[str, bytes] | None = None) -> Path:
    """An archive as torch.export writes it: all in one folder, nothing compressed."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data/weights/weight_0", bytes(100_000))
        for name, value in (entries or {}).items():
            archive.writestr(name, value)
        if content is not None:
            archive.writestr("net/extra/featherseg", content)
    return path


def test_program_file(tmp_path: Path) -> None:
    nearby = {"net/extra/featherseg2": b"{}", "extra/featherseg": b"{}", "net/x/extra/featherseg": b"{}"}
    path = write_program(tmp_path / "a.pt2", TEXT.encode(), nearby)
    assert read_artifact(path) == EVERY_FIELD
    whole = path.read_bytes()
    for end in (0, 3, 5000, len(whole) - 30):
        path.write_bytes(whole[:end])
        assert "whole .pt2" in refusal(read_artifact, path)
    assert "no featherseg metadata" in refusal(read_artifact, write_program(tmp_path / "b.pt2", None, nearby))
    assert "UTF-8" in refusal(read_artifact, write_program(tmp_path / "c.pt2", b"\xff\xfe"))
    damaged = bytearray(whole)
    damaged[damaged.index(b'"network"') + 4] ^= 1
    path.write_bytes(damaged)
    assert "whole .pt2" in refusal(read_artifact, path)


def test_hostile_archive_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.pt2"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/extra/featherseg", bytes(64 << 20))
    assert path.stat().st_size < 1 << 17
    tracemalloc.start()
    assert "too many" in refusal(read_artifact, path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_companion(tmp_path: Path) -> None:
    path = tmp_path / "a.engine"
    path.write_bytes(b"engine")
    assert "a.engine.json is not beside it" in refusal(read_artifact, path)
    assert write_companion(path, TEXT, "tensorrt_rtx 1.0, fp16") == companion_path(path) == tmp_path / "a.engine.json"
    assert read_artifact(path) == EVERY_FIELD
    known = json.loads(companion_path(path).read_text())
    # SHA-256 of b"engine", from the command line tool of that name.
    assert known["sha256"] == "ed9f6f25068608efd412958da4dfc19328ca3511251fa6d5f9c42baf230e32f8"
    assert known["built_with"] == "tensorrt_rtx 1.0, fp16"
    for content, word in [
        ("", "JSON"),
        ("[1]", "does not hold"),
        (json.dumps(known | {"sha256": 7}), "does not hold"),
        (json.dumps(known | {"featherseg": TEXT}), "does not hold"),
        (json.dumps(known | {"featherseg": {"format_version": 9}}), "format 9"),
        ("[" * 100_000, "JSON"),
        (" " * (3 << 20), "too many"),
    ]:
        companion_path(path).write_text(content)
        assert word in refusal(read_artifact, path)


@pytest.mark.parametrize("name", ["a.onnx", "a.xml", "a.pt2", "a.engine"])
def test_unreadable_file(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    path.write_bytes(b"x")

    def denied(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module, "read_companion", denied)
    monkeypatch.setattr(Path, "open", denied)
    monkeypatch.setattr(module.zipfile, "ZipFile", denied)
    assert "Permission denied" in refusal(read_artifact, path)


def test_runtime_imports_without_torch() -> None:
    code = (
        "import sys, featherseg.runtime.segmenter, featherseg.runtime.sessions\n"
        "heavy = {'torch', 'onnx', 'openvino', 'torchvision'} & set(sys.modules)\n"
        "sys.exit(f'imports {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
