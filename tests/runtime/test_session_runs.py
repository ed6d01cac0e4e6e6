"""Open sessions: they give the network's own logits, and obey or refuse what they are set to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from artifact_fixtures import POOLED, PooledSession, picture
from featherseg.core.errors import ArtifactError, ConfigError
from featherseg.core.machine import available_threads
from featherseg.runtime.segmenter import Segmenter
from featherseg.runtime.sessions.base import Session, open_session, sessions
from featherseg.runtime.sessions.onnx import OnnxSession


def test_onnx_session_equals_the_network(pooled: Path) -> None:
    session = OnnxSession(pooled)
    assert isinstance(session, Session)
    assert session.artifact == POOLED
    images = np.stack([picture(77, 130, 1), picture(77, 130, 2)])
    logits = session.run(images)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, PooledSession().run(images), rtol=1e-5)
    frame = picture(50, 99)
    assert np.array_equal(Segmenter(str(pooled)).segment(frame), Segmenter(PooledSession()).segment(frame))


def test_openvino_equals_onnxruntime(pooled: Path) -> None:
    pytest.importorskip("openvino")
    session = open_session(pooled, "openvino", threads=1)
    assert isinstance(session, Session)
    assert "threads: 1, CPU, fp32" in session.device
    for size in ((64, 64), (77, 130)):
        images = picture(*size)[None]
        np.testing.assert_allclose(session.run(images), PooledSession().run(images), rtol=1e-5)
    first = session.run(picture(64, 64, 1)[None])
    kept = first.copy()
    session.run(picture(64, 64, 2)[None])
    assert np.array_equal(first, kept)


def test_openvino_survives_a_failed_run(pooled: Path) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    session = open_session(pooled, "openvino", threads=1)
    images = picture(64, 64)[None]
    for _ in range(3):
        with pytest.raises(ArtifactError, match="OpenVINO cannot run"):
            session.run(images[..., :2])
        np.testing.assert_allclose(session.run(images), PooledSession().run(images), rtol=1e-5)


def test_threads_are_passed_on_and_said(pooled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    given = []
    real = onnxruntime.InferenceSession

    def spy(path: str, options: onnxruntime.SessionOptions, **rest: object) -> onnxruntime.InferenceSession:
        given.append(options.intra_op_num_threads)
        return real(path, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    assert ", threads: 1, CPUExecutionProvider" in Segmenter(pooled, threads=1).session.device
    assert f", threads: {available_threads()}," in OnnxSession(pooled).device
    assert given == [1, available_threads()]
    assert f"onnxruntime {onnxruntime.__version__}" in OnnxSession(pooled).device
    for threads in (0, -1):
        with pytest.raises(ConfigError, match="threads"):
            Segmenter(pooled, threads=threads)


def test_settings_are_obeyed_or_refused(pooled: Path) -> None:
    with pytest.raises(ConfigError, match="onnxruntime"):
        Segmenter(pooled, backend="onnxruntim")
    with pytest.raises(ConfigError, match="no option 'precision'"):
        open_session(pooled, precision="fp32")
    with pytest.raises(ConfigError, match="open already"):
        Segmenter(OnnxSession(pooled), threads=2)
    with pytest.raises(ConfigError, match="open already"):
        Segmenter(OnnxSession(pooled), backend="openvino")
    with pytest.raises(ConfigError, match="size"):
        Segmenter(pooled, size=(0, 64))
    with pytest.raises(ConfigError, match="source"):
        Segmenter(None)  # type: ignore[arg-type]
    assert {"onnxruntime", "openvino"} <= set(sessions.names())


def test_registered_backend_gets_only_given_options(pooled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions.names()  # fills the table, which is copied here
    monkeypatch.setattr(sessions, "_entries", dict(sessions._entries))

    @sessions.register("mine")
    class Mine(PooledSession):
        def __init__(self, path: Path) -> None:
            super().__init__()

    assert Segmenter(pooled, backend="mine").session.name == "pooled"
    with pytest.raises(ConfigError, match="no option 'threads'"):
        Segmenter(pooled, backend="mine", threads=1)
