"""`featherseg bench` and `featherseg profile`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Ended, Tiny, Trained
from featherseg.cli import bench as cli_timing
from featherseg.evaluation import candidates
from featherseg.evaluation.profiling import layers
from featherseg.evaluation.profiling.peaks import Peaks
from featherseg.runtime import timing

QUICK = ("--size", "64x96", "--threads", 1, "--runs", 2, "-q")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "PAUSE", 0.0)
    monkeypatch.setattr(layers.profile, "__kwdefaults__", layers.profile.__kwdefaults__ | {"peaks": stub})


def stub(threads: int) -> Peaks:
    return Peaks(50.0, 20.0, threads)


class TestBench:
    def test_figures(self, run: Callable[..., Ended], trained: Trained) -> None:
        ended = run("bench", trained.file, trained.run, *QUICK, "--no-memory", "--json")
        assert ended.code == 0
        assert ended.json["size"] == [64, 96]
        assert ended.json["frame"] == "generated street"
        results = {(row["file"], row["engine"]): row for row in ended.json["results"]}
        assert {("jetnet.onnx", "onnxruntime"), ("tiny", "torch fp32"), ("tiny", "torch bf16")} <= set(results)
        for row in results.values():
            if not row["failure"]:
                assert row["fps"] == pytest.approx(1000 / row["ms"]["sum"]["p50"], rel=0.01)
                assert "frame 64x96, network 64x96" in row["device"]
        assert ended.json["machine"]["threads"] == 1

    def test_table(
        self, run: Callable[..., Ended], trained: Trained, photos: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(candidates, "peak_memory", lambda opening, size: 77_000_000)  # of itself in test_benchmark
        ended = run("bench", trained.file, *QUICK, "--image", photos / "photo0.png")
        assert ended.code == 0
        assert "frame 64x96" in ended.out
        assert "peak MB" in ended.out
        assert " 77 " in ended.out
        assert "onnxruntime" in ended.out
        assert "cores: " in ended.out
        assert ended.err == ""

    def test_engine_that_is_not_there_is_a_line(
        self, run: Callable[..., Ended], trained: Trained, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from featherseg.core.errors import MissingExtraError
        from featherseg.runtime.sessions import openvino

        def missing(*_: object) -> None:
            raise MissingExtraError("Running with OpenVINO needs: something")

        monkeypatch.setattr(openvino, "require", missing)
        ended = run("bench", trained.file, *QUICK, "--no-memory")
        assert ended.code == 0
        assert "jetnet.onnx with openvino fp32: Running with OpenVINO needs: something" in ended.out

    def test_mistakes(self, run: Callable[..., Ended], trained: Trained, tmp_path: Path) -> None:
        assert run("bench", tmp_path / "none.onnx").refused("none.onnx does not exist")
        assert run("bench", trained.file, "--size", "64").refused("--size is '64'")
        assert run("bench", trained.file, "--runs", 0).refused("--runs is 0")
        assert run("bench", trained.file, "--threads", 0).refused("--threads is 0")
        assert run("bench", trained.file, "--image", tmp_path / "none.png").refused("none.png does not exist")
        (tmp_path / "other.onnx").write_bytes(b"no graph")
        assert run("bench", tmp_path / "other.onnx", "-q").refused("nothing here runs other.onnx")


class TestProfile:
    def test_figures(self, run: Callable[..., Ended], trained: Trained) -> None:
        ended = run("profile", trained.file, *QUICK[:-1], "--json")
        assert ended.code == 0
        assert ended.json["peaks"] == {"gmacs": 50.0, "gbytes": 20.0, "threads": 1}
        assert ended.json["total"]["macs"] == sum(row["macs"] for row in ended.json["layers"]) > 1e6
        assert "classifier" in {row["layer"] for row in ended.json["layers"]}

    def test_slowest_or_all(self, run: Callable[..., Ended], trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cli_timing, "SLOWEST", 3)
        short, whole = (run("profile", trained.file, *QUICK[:-1], *words).out for words in ((), ("--all",)))
        assert "faster layers are in the sum alone" in short
        assert "faster layers" not in whole
        assert len(whole.splitlines()) > len(short.splitlines())
        assert "50 G fp32 MACs/s" in whole

    def test_openvino(self, run: Callable[..., Ended], trained: Trained) -> None:
        pytest.importorskip("openvino", reason="needs the extra openvino")
        ended = run("profile", trained.file, *QUICK[:-1], "--engine", "openvino", "--json")
        assert ended.json["engine"].startswith("openvino")

    def test_mistakes(self, run: Callable[..., Ended], trained: Trained, tmp_path: Path) -> None:
        assert run("profile", trained.run).refused("profiles are of .onnx files")
        assert run("profile", tmp_path / "none.onnx").refused("no such file")
        assert run("profile", trained.file, "--size", "32x32").refused("size is 32x32")
        assert run("profile", trained.file, "--precision", "bf16").refused("ONNX Runtime computes in fp32")


class TestBundle:
    def test_a_folder_for_another_device(self, run: Callable[..., Ended], tiny: Tiny, tmp_path: Path) -> None:
        ended = run("bench", "--bundle", tmp_path / "pi", "--networks", "tiny", "--size", "64x96", "--classes", 3, "-q")
        assert ended.code == 0, ended.err
        assert "python time_here.py" in ended.out
        assert (tmp_path / "pi" / "time_here.py").is_file()
        assert run("bench", "--bundle", tmp_path / "pi").refused("is not empty")

    def test_mistakes(self, run: Callable[..., Ended], trained: Trained, tmp_path: Path) -> None:
        assert run("bench").refused("there is nothing to time")
        assert run("bench", trained.file, "--bundle", tmp_path / "pi").refused("leave")
        assert run("bench", "--bundle", tmp_path / "pi", "--networks", "nosuch").refused("names 'nosuch'")
        assert run("bench", "--bundle", tmp_path / "pi", "--classes", 0).refused("--classes is 0")
        assert run("bench", trained.file, "--classes", 3).refused("--classes is of a --bundle")
        assert not (tmp_path / "pi").exists()
