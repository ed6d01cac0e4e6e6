"""The fastest engine: never a wrong or a less precise one, remembered, and never a failure because of the memory."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from artifact_fixtures import POOLED, block_means
from featherseg.core.errors import ArtifactError, ConfigError, MissingExtraError
from featherseg.core.files import cache_folder
from featherseg.evaluation.opening import open_segmenter
from featherseg.runtime import choose, engines
from featherseg.runtime.choose import EngineChoice, fastest_engine, picture
from featherseg.runtime.engines import ANY, Engine, engines_of
from featherseg.runtime.sessions.base import Session, sessions

SMALL = (64, 96)

pytestmark = pytest.mark.usefixtures("no_pause")


class Fake(Session):
    """An engine that takes as long as it is told, and is as right."""

    suffixes = (".onnx",)
    delay = 0.0
    error = 0.0
    missing = ""
    opened = 0
    name = "fake"
    device = "fake"
    artifact = POOLED

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        if self.missing:
            raise MissingExtraError(self.missing)
        type(self).opened += 1

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        time.sleep(self.delay)
        logits = block_means(images)
        wrong = np.random.default_rng(0).normal(0, 1, logits.shape).astype(np.float32)
        return logits + logits.std() * self.error * wrong


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, type[Fake]]:
    """Two engines: ``own``, the file's, and ``quick``, which is faster."""
    own, quick = type("Own", (Fake,), {"delay": 0.02}), type("Quick", (Fake,), {"name": "quick"})
    sessions.names()  # fills the table, which is replaced here
    monkeypatch.setattr(sessions, "_entries", {"own": own, "quick": quick})
    return {"own": own, "quick": quick}


def choice(path: Path, cache: Path, **options: Any) -> EngineChoice:
    return fastest_engine(path, **{"size": SMALL, "cache": cache} | options)


def test_fastest_is_chosen_and_remembered(fakes: dict[str, type[Fake]], pooled: Path, tmp_path: Path) -> None:
    first = choice(pooled, tmp_path / "cache")
    assert first.engine == Engine("quick")
    assert list(first.ms) == ["quick", "own"]
    assert first.ms["own"] >= 20
    assert first.size == SMALL
    assert not first.remembered
    assert str(first).startswith("fastest of quick ")
    assert str(first).endswith("at 64x96, measured now")
    opened = fakes["own"].opened
    again = choice(pooled, tmp_path / "cache")
    assert again.remembered
    assert (again.engine, again.ms, again.size) == (first.engine, first.ms, first.size)
    assert str(again).endswith("remembered")
    assert fakes["own"].opened == opened, "nothing is opened for what is known"


def test_other_circumstances_are_measured_anew(
    fakes: dict[str, type[Fake]], pooled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    assert not choice(pooled, cache).remembered
    assert not choice(pooled, cache, size=(64, 64)).remembered
    assert not choice(pooled, cache, threads=1 + choose.available_threads()).remembered
    assert choice(pooled, cache, threads=choose.available_threads()).remembered, "the same as leaving it out"
    moved = Path(shutil.copy(pooled, tmp_path / "moved.onnx"))
    assert choice(moved, cache).remembered, "the same file elsewhere"
    model = onnx.load(str(pooled))
    model.doc_string = "another"
    onnx.save(model, str(moved))
    assert not choice(moved, cache).remembered
    with monkeypatch.context() as patch:
        patch.setattr(choose, "versions", lambda packages: {"torch": "another"})
        assert not choice(pooled, cache).remembered
    with monkeypatch.context() as patch:
        patch.setattr(choose, "cpu_name", lambda: "another")
        assert not choice(pooled, cache).remembered
    assert choice(pooled, cache).remembered


def test_wrong_logits_are_not_fast(fakes: dict[str, type[Fake]], pooled: Path, tmp_path: Path) -> None:
    fakes["quick"].error = 0.8
    found = choice(pooled, tmp_path / "cache")
    assert found.engine == Engine("own")
    assert "of their spread from those of own" in found.left_out["quick"]
    assert choice(pooled, tmp_path / "cache").left_out == found.left_out
    fakes["quick"].error = 0.1  # as int8 in another engine
    assert choice(pooled, tmp_path / "other").engine == Engine("quick")
    fakes["quick"].error = float("nan")
    assert choice(pooled, tmp_path / "third").engine == Engine("own")


def test_engines_that_do_not_open_are_named(fakes: dict[str, type[Fake]], pooled: Path, tmp_path: Path) -> None:
    fakes["quick"].missing = "needs a package"
    found = choice(pooled, tmp_path / "cache")
    assert found.engine == Engine("own")
    assert found.left_out == {"quick": "needs a package"}
    assert str(found) == "own, the only engine here that takes the file"
    fakes["own"].missing = "needs another"
    with pytest.raises(MissingExtraError, match="needs another"):
        choice(pooled, tmp_path / "other")


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", "7", "engine", "ms", "size", "left_out", "nesting", "bytes"])
def test_damaged_memory_is_measured_again(
    fakes: dict[str, type[Fake]], pooled: Path, tmp_path: Path, damage: str
) -> None:
    choice(pooled, tmp_path)
    (place,) = (tmp_path / "engines").glob("*.json")
    if damage in ("engine", "ms", "size", "left_out"):
        place.write_text(json.dumps(json.loads(place.read_text()) | {damage: "none"}))
    elif damage == "bytes":
        place.write_bytes(b"\xff\xfe\x00")
    else:
        place.write_text("[" * 100_000 if damage == "nesting" else damage)
    assert not choice(pooled, tmp_path).remembered
    assert choice(pooled, tmp_path).remembered, "it was mended"


def test_memory_that_cannot_be_written(
    fakes: dict[str, type[Fake]], pooled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    assert choice(pooled, tmp_path / "file").engine == Engine("quick")
    assert not choice(pooled, tmp_path / "file").remembered
    (tmp_path / "cache").mkdir()
    choice(pooled, tmp_path / "cache")
    (place,) = (tmp_path / "cache" / "engines").glob("*.json")
    place.unlink()
    place.mkdir()  # not even an entry that can be replaced
    assert not choice(pooled, tmp_path / "cache").remembered
    monkeypatch.setattr(choose, "cache_folder", lambda: None)
    assert fastest_engine(pooled, size=SMALL).engine == Engine("quick")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have their own folders")
def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "featherseg"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_folder() == tmp_path / "home" / ".cache" / "featherseg"

    def homeless() -> Path:
        raise RuntimeError

    monkeypatch.setattr(choose.Path, "home", homeless)
    assert cache_folder() is None


class TestEngines:
    @pytest.fixture(autouse=True)
    def processor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(engines, "openvino_precisions", lambda: ("fp32", "bf16"))

    def names(self, *arguments: Any) -> list[str]:
        return [str(engine) for engine in engines_of(*arguments)]

    def test_own_precision_unless_asked(self) -> None:
        assert self.names("a.onnx") == ["onnxruntime", "openvino fp32"]
        assert self.names("a.onnx", "fp32") == ["onnxruntime", "openvino fp32"]
        assert self.names("a.onnx", "bf16") == ["openvino bf16"]
        assert self.names("a.ONNX", ANY) == ["onnxruntime", "openvino fp32", "openvino bf16"]
        assert self.names("a.xml") == ["openvino fp32"]
        assert self.names("a.pt2", ANY) == ["torch"]
        assert self.names("a.engine", ANY) == ["tensorrt"]
        assert self.names("a.jpg") == self.names("a.jpg", "bf16") == []

    @pytest.mark.parametrize(("path", "precision"), [("a.onnx", "fp16"), ("a.pt2", "bf16"), ("a.engine", "fp32")])
    def test_precision_that_is_not_to_be_had(self, path: str, precision: str) -> None:
        with pytest.raises(ConfigError, match=f"precision is '{precision}', which no engine for {path}"):
            engines_of(path, precision)


def test_mistakes_are_one_line(pooled: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such file"):
        fastest_engine(tmp_path / "none.onnx")
    with pytest.raises(ArtifactError, match="is no exported file"):
        fastest_engine(tmp_path / "street.jpg")
    with pytest.raises(ConfigError, match="threads is 0"):
        fastest_engine(pooled, threads=0, cache=tmp_path / "cache")
    assert fastest_engine(tmp_path / "one.pt2") == EngineChoice(Engine("torch")), "no choice, nothing to open"


def test_real_engines_and_the_segmenter(pooled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    frame = picture((64, 96), seed=1)
    expected = open_segmenter(pooled).segment(frame)
    fastest = open_segmenter(pooled, backend="fastest", size=SMALL, threads=1)
    found = fastest_engine(pooled, size=SMALL, threads=1)
    assert found.remembered
    assert set(found.ms) == {"onnxruntime", "openvino fp32"}
    assert fastest.session.name == found.engine.backend
    np.testing.assert_array_equal(fastest.segment(frame), expected)
    if "bf16" in engines.openvino_precisions():
        half = open_segmenter(pooled, backend="fastest", size=SMALL, precision="bf16")
        assert "bf16" in half.session.device
    one = open_segmenter(pooled, backend="openvino", precision="fp32", threads=1)
    assert "fp32" in one.session.device
    with pytest.raises(ConfigError, match="has no option 'precision'"):
        open_segmenter(pooled, backend="onnxruntime", precision="bf16")
    with pytest.raises(ConfigError, match="precision is 'f99'"):
        open_segmenter(pooled, backend="fastest", precision="f99")


def test_realtime_segmentation_says_what_it_chose(
    fakes: dict[str, type[Fake]], pooled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="the facades need the extra train")
    from featherseg.facades import RealtimeSegmentation

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    chosen = RealtimeSegmentation(pooled, size=SMALL)
    assert chosen.choice is not None
    assert chosen.segmenter.session.name == "quick"
    assert chosen.device == f"fake; {chosen.choice}"
    assert "fastest of quick" in chosen.device
    frame = picture(SMALL, seed=1)
    np.testing.assert_array_equal(chosen.infer(frame).mask, open_segmenter(pooled, backend="own").segment(frame))
    for backend in ("auto", "own"):  # the file's own engine, as everywhere
        told = RealtimeSegmentation(pooled, backend=backend)
        assert told.choice is None
        assert told.segmenter.session.name == open_segmenter(pooled, backend=backend).session.name == "fake"
        assert told.device == "fake"
    with pytest.raises(ConfigError, match="device is 'cuda'"):
        RealtimeSegmentation(pooled, device="cuda")


def test_picture_is_a_frame() -> None:
    frame = picture((65, 130))
    assert frame.shape == (65, 130, 3)
    assert frame.dtype == np.uint8
    assert frame.std() > 20
    assert np.array_equal(frame, picture((65, 130)))
    assert not np.array_equal(frame, picture((65, 130), seed=1))
