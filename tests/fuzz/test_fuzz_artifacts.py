"""Exported files of any content: what they say of themselves, or one line; and opening them ends no process."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import pytest
from fuzzing import (
    INTERESTING,
    LONG,
    Edit,
    answer,
    check_line,
    edits,
    fuzzed,
    json_values,
    listing,
    mutated,
    tampered,
    tree_changes,
)
from hypothesis import given
from hypothesis import strategies as st

from artifact_fixtures import EVERY_FIELD
from conftest import Trained
from featherseg.core.errors import ArtifactError
from featherseg.runtime.artifact import Artifact, read_artifact
from featherseg.runtime.containers import METADATA_KEY, sha256

TEXT = EVERY_FIELD.to_metadata()[METADATA_KEY]
FACTS = json.loads(TEXT)


def varint(value: int) -> bytes:
    """Protobuf's variable-length integer, written here from its specification."""
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def message(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def onnx_of(text: str) -> bytes:
    """A ModelProto without a graph: version, producer, 2 kB of weights, metadata."""
    entry = message(1, METADATA_KEY.encode()) + message(2, text.encode(errors="surrogatepass"))
    return varint(1 << 3) + varint(8) + message(2, b"maker") + message(7, b"\x01" * 2000) + message(14, entry)


def xml_of(text: str) -> bytes:
    layers = '<layers><layer id="0" name="image" type="Parameter"/></layers>'
    info = f"<rt_info><{METADATA_KEY} value={quoteattr(text)}/></rt_info>"
    head = '<?xml version="1.0"?>\n'
    return f'{head}<net name="m" version="11">{layers}{info}</net>'.encode(errors="surrogatepass")


def pt2_of(text: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("m/version", "3")
        archive.writestr("m/extra/featherseg", text.encode(errors="surrogatepass"))
        archive.writestr("m/data/weights/w", b"\x01" * 500)
    return stream.getvalue()


def engine_of(text: str) -> bytes:
    return f'{{"{METADATA_KEY}": {text}, "sha256": "0", "built_with": "tensorrt 10"}}'.encode(errors="surrogatepass")


WRITERS: dict[str, Callable[[str], bytes]] = {".onnx": onnx_of, ".xml": xml_of, ".pt2": pt2_of, ".engine": engine_of}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


def read(place: Path, suffix: str, content: bytes) -> Any:
    path = place / f"a{suffix}"
    if suffix == ".engine":
        path.write_bytes(b"engine")
        (place / "a.engine.json").write_bytes(content)
    else:
        path.write_bytes(content)
    before = listing(place)
    found = answer(read_artifact, path)
    assert isinstance(found, Artifact | ArtifactError)
    assert listing(place) == before
    return found


@pytest.mark.parametrize("suffix", WRITERS)
def test_whole_ones_are_read(place: Path, suffix: str) -> None:
    assert read(place, suffix, WRITERS[suffix](TEXT)) == EVERY_FIELD


@fuzzed(500)
@given(suffix=st.sampled_from(sorted(WRITERS)), changes=edits())
def test_damaged_ones(place: Path, suffix: str, changes: list[Edit]) -> None:
    read(place, suffix, mutated(WRITERS[suffix](TEXT), changes))


@fuzzed(300)
@given(suffix=st.sampled_from(sorted(WRITERS)), changes=tree_changes())
def test_descriptions_of_any_content(place: Path, suffix: str, changes: list[tuple[float, Any]]) -> None:
    try:
        text = json.dumps(tampered(FACTS, changes), ensure_ascii=False)
    except ValueError:  # a number with more digits than Python writes
        return
    found = read(place, suffix, WRITERS[suffix](text))
    if isinstance(found, Artifact):
        assert Artifact.from_metadata(found.to_metadata()) == found


@fuzzed(150)
@given(suffix=st.sampled_from(sorted(WRITERS)), value=json_values(30))
def test_any_json(place: Path, suffix: str, value: Any) -> None:
    try:
        text = json.dumps(value)
    except ValueError:
        return
    read(place, suffix, WRITERS[suffix](text))


@fuzzed(150)
@given(suffix=st.sampled_from(sorted(WRITERS)), other=st.sampled_from(sorted(WRITERS)), noise=st.binary(max_size=300))
def test_other_formats_and_noise(place: Path, suffix: str, other: str, noise: bytes) -> None:
    read(place, suffix, noise)
    if suffix != other:
        assert isinstance(read(place, suffix, WRITERS[other](TEXT)), ArtifactError)


@pytest.mark.parametrize("encoding", ["utf-7", "nope", "utf-16", "shift_jis", "idna", "rot13", "hex", "utf-8\n"])
def test_encodings_that_xml_claims(place: Path, encoding: str) -> None:
    content = xml_of(TEXT).replace(b'version="1.0"', f'version="1.0" encoding="{encoding}"'.encode(), 1)
    read(place, ".xml", content)


OPEN = """
import contextlib, resource, sys
from pathlib import Path
import numpy as np
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
from featherseg.core.errors import FeathersegError
from featherseg.runtime.sessions.base import open_session
image = np.zeros((1, 64, 96, 3), np.uint8)
for line in sys.stdin:
    path, backend = line.split()
    try:
        logits = open_session(path, backend, threads=1).run(image)
        print("ran", logits.shape, flush=True)
    except FeathersegError as error:
        print("refused", str(error).replace("\\n", "NEWLINE"), flush=True)
"""
"""Opens the files that it is given, a line each, within 6 GB; engines are native code, so in a process of its own."""


def opened(files: list[tuple[Path, str]]) -> list[str]:
    """Return a line for each file; a crash or a traceback in the process is a failure that names the file."""
    command = [sys.executable, "-W", "ignore", "-c", OPEN]
    lines = "".join(f"{path} {backend}\n" for path, backend in files)
    ended = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=120 + 2 * len(files))
    said = [line for line in ended.stdout.splitlines() if line.startswith(("ran", "refused"))]
    assert ended.returncode == 0, f"{files[len(said)]} ended the process: {ended.returncode} {ended.stderr[-2000:]}"
    return said


def damaged(content: bytes, count: int, seed: int) -> list[bytes]:
    """Return `count` damaged copies, drawn without hypothesis, since all of them go to one process.

    Structure stands at both ends, the weights between them: two of three changes go for the structure.
    """
    drawn = random.Random(seed)

    def change() -> Edit:
        near = drawn.random() * 0.03
        share = drawn.choice([near, 1 - near, drawn.random()])
        return drawn.randrange(6), share, drawn.choice([*INTERESTING, drawn.randbytes(3)])

    return [mutated(content, [change() for _ in range(drawn.randint(1, 3))]) for _ in range(count)]


def check_opening(content: bytes, suffix: str, backend: str, folder: Path, beside: dict[str, bytes]) -> None:
    files = []
    for i, broken in enumerate(damaged(content, LONG // 20 or 25, seed=len(content) + LONG)):
        home = folder / f"{backend}{suffix}{i}"
        home.mkdir()
        (home / f"m{suffix}").write_bytes(broken)
        for name, companion in beside.items():
            (home / name).write_bytes(companion)
        files.append((home / f"m{suffix}", backend))
    for line in opened(files):
        check_line(line)
        assert "NEWLINE" not in line


def test_a_damaged_onnx_file_ends_no_process(trained: Trained, tmp_path: Path) -> None:
    check_opening(trained.file.read_bytes(), ".onnx", "onnxruntime", tmp_path, {})


def test_a_damaged_openvino_file_ends_no_process(trained: Trained, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="needs OpenVINO")
    model = openvino.convert_model(trained.file)
    model.set_rt_info(json.dumps(FACTS | {"classes": {"names": list("abcdefghijk")}}), [METADATA_KEY])
    openvino.save_model(model, tmp_path / "m.xml", compress_to_fp16=False)
    weights = (tmp_path / "m.bin").read_bytes()
    assert sha256(tmp_path / "m.bin")
    check_opening((tmp_path / "m.xml").read_bytes(), ".xml", "openvino", tmp_path, {"m.bin": weights})
