"""Which engine opens which file, and what it says of files that it cannot use."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from artifact_fixtures import CLASSES, POOLED, PooledSession, block_means, noise, write_pooled
from conftest import error_line, python
from featherseg.core.errors import ArtifactError, ConfigError, FeathersegError, MissingExtraError
from featherseg.core.types import InputSpec
from featherseg.runtime.artifact import Artifact
from featherseg.runtime.segmenter import Segmenter
from featherseg.runtime.sessions.base import Session, artifact_suffixes, open_session, sessions


@pytest.fixture
def ir(pooled: Path) -> Path:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    from featherseg.exporting.openvino import export_openvino

    return export_openvino(pooled, pooled.with_name("pooled.xml"))


def refusal(path: Path, backend: str = "auto", kind: type[FeathersegError] = ArtifactError) -> str:
    message = error_line(kind, open_session, path, backend)
    assert str(path) in message
    assert len(message) < 600
    return message


def test_suffixes_pick_their_engines(pooled: Path, ir: Path) -> None:
    assert sorted(artifact_suffixes()) == [".engine", ".onnx", ".pt2", ".xml"]
    assert open_session(pooled).name == "onnxruntime"
    assert open_session(pooled, "openvino").name == "openvino"
    session = open_session(ir, threads=1)
    assert session.name == open_session(ir, "openvino").name == "openvino"
    assert isinstance(session, Session)
    assert session.artifact == POOLED
    images = noise(2, 64, 72)
    np.testing.assert_allclose(session.run(images), block_means(images), rtol=1e-5)
    upper = shutil.copy(pooled, pooled.with_name("UPPER.ONNX"))
    assert open_session(upper).name == "onnxruntime"


@pytest.mark.parametrize(
    ("name", "backend", "words"),
    [
        ("pooled.xml", "onnxruntime", "reads .onnx files"),
        ("pooled.onnx", "torch", "reads .pt2 files"),
        ("pooled.onnx", "tensorrt", "reads .engine files"),
        ("pooled.pt2", "openvino", "reads .xml and .onnx files"),
    ],
)
def test_engine_that_reads_no_such_files(tmp_path: Path, name: str, backend: str, words: str) -> None:
    assert words in refusal(tmp_path / name, backend, ConfigError)


def test_files_of_no_kind(tmp_path: Path) -> None:
    picture = tmp_path / "street.jpg"
    picture.write_bytes(b"picture")
    assert "is no exported file; those end in .onnx, .xml, .engine, .pt2" in refusal(picture)
    assert "is no exported file" in refusal(tmp_path / "none")
    assert "no such file" in refusal(tmp_path / "none.onnx")
    with pytest.raises(ConfigError, match='did you mean "openvino"'):
        open_session(tmp_path / "a.onnx", "openvin")


def test_defaults_of_a_session(tmp_path: Path) -> None:
    session = PooledSession()
    assert (session.suffixes, session.size, session.precision, session.thread_safe) == ((), None, "fp32", False)
    assert session.planned((64, 96)) is session
    assert Segmenter(session, size=(64, 96))._plan is None, "nothing was planned"
    with pytest.raises(TypeError, match="abstract"):
        Session()  # type: ignore[abstract]


def test_own_session_without_suffixes_tries_any_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions.names()  # fills the table, which is copied here
    monkeypatch.setattr(sessions, "_entries", dict(sessions._entries))

    @sessions.register("mine")
    class Mine(PooledSession):
        def __init__(self, path: Path) -> None:
            self.path = path

    session = open_session(tmp_path / "a.tflite", "mine")
    assert isinstance(session, Mine)
    assert session.path == tmp_path / "a.tflite"
    assert ".tflite" not in artifact_suffixes()


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_files_that_cannot_be_used(tmp_path: Path, backend: str) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(write_pooled(tmp_path / "a.onnx").read_bytes()[:-40])
    cases = {
        "no such file": tmp_path / "none.onnx",
        "whole ONNX": broken,
        "no featherseg metadata": write_pooled(tmp_path / "b.onnx", artifact=None),
        "not uint8 image": write_pooled(tmp_path / "c.onnx", name="scores"),
        "4 classes": write_pooled(tmp_path / "d.onnx", channels=4),
        "output logits": write_pooled(tmp_path / "e.onnx", Artifact(CLASSES, InputSpec(), 8, "x", 1, output="mask")),
    }
    for words, path in cases.items():
        with pytest.raises(ArtifactError, match=words) as caught:
            open_session(path, backend)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_graph_that_the_engine_refuses(tmp_path: Path) -> None:
    path = write_pooled(tmp_path / "a.onnx")
    model = onnx.load(str(path))
    model.graph.node[2].op_type = "NoSuchOperator"
    onnx.save(model, str(path))
    with pytest.raises(ArtifactError, match="ONNX Runtime refuses it") as caught:
        Segmenter(path)
    assert "\n" not in str(caught.value)


def test_damaged_onnx(pooled: Path) -> None:
    whole = pooled.read_bytes()
    place = whole.index(b"AveragePool")
    pooled.write_bytes(whole[:place] + b"AveragePoop" + whole[place + 11 :])
    assert "ONNX Runtime refuses it" in refusal(pooled)
    pooled.write_bytes(whole[: len(whole) // 2])
    assert "whole ONNX" in refusal(pooled)
    write_pooled(pooled, None)
    assert "no featherseg metadata" in refusal(pooled)


def test_damaged_openvino(ir: Path) -> None:
    whole, weights = ir.read_bytes(), ir.with_suffix(".bin")
    content = weights.read_bytes()
    assert content, "the test damages them"
    weights.write_bytes(content[:-1])
    assert "pooled.bin is damaged or another file's" in refusal(ir)
    weights.write_bytes(bytes([content[0] ^ 1]) + content[1:])  # OpenVINO itself runs this one
    assert "pooled.bin is damaged or another file's" in refusal(ir)
    weights.unlink()
    assert "its weights, pooled.bin, are not beside it" in refusal(ir)
    weights.write_bytes(content)
    open_session(ir)
    ir.write_bytes(whole.replace(b'type="AvgPool"', b'type="NoPool"'))
    assert "OpenVINO refuses it" in refusal(ir)
    ir.write_bytes(whole[: len(whole) // 2])
    assert "whole OpenVINO" in refusal(ir)


def test_openvino_file_without_our_checksum(ir: Path) -> None:
    """As other tools write it, which keep our metadata but add nothing."""
    ir.write_text(re.sub(r"<featherseg_weights [^>]*>", "", ir.read_text()))
    assert open_session(ir).artifact == POOLED
    weights = ir.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:1])
    assert "OpenVINO refuses it" in refusal(ir)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_a_signal_after_openvino_sessions_came_and_went(ir: Path) -> None:
    code = """if True:
        import faulthandler, os, signal, sys
        from featherseg.runtime.sessions.base import open_session
        faulthandler.enable()
        signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
        first = open_session(sys.argv[1], "openvino")
        second = open_session(sys.argv[1], "openvino")
        del first
        del second
        os.kill(os.getpid(), signal.SIGUSR1)
    """
    assert python(code, ir) == "handled\n"


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_file_of_one_size(tmp_path: Path, backend: str) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino", reason="needs the extra openvino")
    path = write_pooled(tmp_path / "fixed.onnx", size=(64, 96))
    session = open_session(path, backend, threads=1)
    assert session.size == (64, 96)
    images = noise(2, 64, 96)
    np.testing.assert_allclose(session.run(images), block_means(images), rtol=1e-5)
    for size in ((64, 64), (96, 64), (128, 192)):
        with pytest.raises(
            ArtifactError, match=r"takes images of 64x96 alone, not .* give the segmenter size=\(64, 96"
        ):
            session.run(noise(1, *size))
    assert Segmenter(session, size=(64, 96)).segment(noise(100, 150)).shape == (100, 150)
    assert open_session(write_pooled(tmp_path / "free.onnx"), backend).size is None


@pytest.mark.parametrize(("backend", "name"), [("openvino", "a.xml"), ("torch", "a.pt2")])
def test_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, name: str) -> None:
    monkeypatch.setitem(sys.modules, backend, None)
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(MissingExtraError, match=r'pip install "featherseg\['):
        open_session(tmp_path / name)


def test_missing_openvino_names_its_extra(pooled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r'pip install "featherseg\[openvino\]"'):
        Segmenter(pooled, backend="openvino")
    with pytest.raises(ConfigError, match="did you mean"):
        open_session(pooled, "openvino", precision="bf61")


def test_mask_files_are_for_others(tmp_path: Path) -> None:
    path = write_pooled(tmp_path / "a.onnx", replace(POOLED, output="mask"))
    assert "gives a mask, for foreign runtimes" in refusal(path)


def test_opening_needs_no_torch(ir: Path) -> None:
    code = (
        "import sys, numpy as np; from featherseg.runtime.segmenter import Segmenter\n"
        f"mask = Segmenter({str(ir)!r}).segment(np.zeros((64, 96, 3), np.uint8))\n"
        "assert mask.shape == (64, 96)\n"
        "sys.exit('torch' in sys.modules or 'onnx' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
