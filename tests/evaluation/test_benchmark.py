"""Turns, and what is made of the times: nothing here asserts how fast anything is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from conftest import Trained
from featherseg.core.errors import ArtifactError, ConfigError
from featherseg.core.machine import available_threads, machine_facts
from featherseg.core.types import Latency
from featherseg.evaluation import benchmark as module
from featherseg.evaluation.benchmark import Contender, Standing, benchmark, drift, time_in_turns
from featherseg.evaluation.candidates import Opening, contenders, peak_memory
from featherseg.runtime import timing
from featherseg.runtime.segmenter import Segmenter
from featherseg.runtime.timing import take_turns

FRAME = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)

pytestmark = pytest.mark.usefixtures("no_pause")


class TestTurns:
    def test_order_is_turned_round_and_no_run_is_lost(self) -> None:
        calls: list[tuple[str, int, int]] = []

        def task(name: str) -> Callable[[int, int], list[str]]:
            def take(runs: int, before: int) -> list[str]:
                calls.append((name, runs, before))
                return [f"{name}{len(calls)}"] * runs

            return take

        done: list[int] = []
        results = take_turns(
            {"a": task("a"), "b": task("b")}, runs=7, warmup=4, progress=lambda count, _: done.append(count)
        )
        assert calls == [("a", 3, 4), ("b", 3, 4), ("b", 3, 1), ("a", 3, 1), ("a", 1, 1), ("b", 1, 1)]
        assert results["a"] == ["a1"] * 3 + ["a4"] * 3 + ["a5"]
        assert len(results["b"]) == 7
        assert done == [7, 10, 11], "warm-up and runs together"

    def test_each_turn_begins_with_a_pause(self, monkeypatch: pytest.MonkeyPatch) -> None:
        order: list[object] = []
        monkeypatch.setattr(timing, "PAUSE", 0.125)
        monkeypatch.setattr(timing, "time", SimpleNamespace(sleep=order.append))
        take_turns(
            {"a": lambda r, _: order.append("a") or [0] * r, "b": lambda r, _: order.append("b") or [0] * r}, runs=3
        )
        assert order == [0.125, "a", 0.125, "b"]

    @pytest.mark.parametrize(
        ("tasks", "runs", "warmup", "words"),
        [({}, 1, 0, "no segmenter"), ({"a": 1}, 0, 0, "runs is 0"), ({"a": 1}, 1, -1, "warmup -1")],
    )
    def test_mistakes(self, tasks: dict[str, Callable[..., list[int]]], runs: int, warmup: int, words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            take_turns(tasks, runs=runs, warmup=warmup)

    def test_stages_of_segmenters(self, trained: Trained) -> None:
        segmenters = {name: Segmenter(trained.file, threads=1) for name in ("a", "b")}
        times = time_in_turns(segmenters, FRAME, runs=5, warmup=2)
        assert list(times) == ["a", "b"]
        for latency in times.values():
            assert list(latency.stages) == ["pre", "net", "post"]
            assert (latency.runs, latency.warmup) == (5, 2)
            assert min(latency.stages["net"]) > 0
            assert "onnxruntime" in latency.device
        drawn = time_in_turns(segmenters, FRAME, runs=1, warmup=0, draw=True)
        assert list(drawn["a"].stages) == ["pre", "net", "post", "draw"]


def latency(*sums: float) -> Latency:
    return Latency({"pre": tuple(s / 4 for s in sums), "net": tuple(3 * s / 4 for s in sums)}, 0, "here")


class TestDrift:
    def test_thirds(self) -> None:
        assert drift(latency(*[10.0] * 9)) == 0
        assert drift(latency(10, 10, 99, 10, 10, 10, 12, 12, 12)) == pytest.approx(0.2)
        assert drift(latency(10, 10, 10, 50, 50, 50, 8, 8, 99)) == pytest.approx(-0.2)

    def test_too_few_runs_say_nothing(self) -> None:
        assert drift(latency(1, 2, 3, 4, 5)) == 0


def refusing() -> Segmenter:
    raise ArtifactError("it is no good")


class TestBenchmark:
    def test_what_runs_and_what_does_not(self, trained: Trained) -> None:
        steps: list[int] = []
        good = Contender("good.onnx", "onnxruntime", lambda: Segmenter(trained.file, threads=1), lambda: 123)
        bad = Contender("bad.onnx", "openvino fp32", refusing)
        result = benchmark(
            [bad, good], FRAME, runs=6, warmup=1, threads=1, progress=lambda count, _: steps.append(count)
        )
        first, second = result.standings
        assert (first.latency, first.failure, first.fps) == (None, "it is no good", None)
        assert second.latency is not None
        assert second.fps == pytest.approx(1000 / second.latency.percentile(50))
        assert second.peak_bytes == 123
        assert steps == sorted(steps)
        assert steps[-1] == 2 + 1 + 6
        data = result.to_dict()
        assert data["size"] == [64, 96]
        assert data["results"][0] == {
            "file": "bad.onnx",
            "engine": "openvino fp32",
            "peak_bytes": None,
            "failure": "it is no good",
        }
        assert set(data["results"][1]["ms"]) == {"pre", "net", "post", "draw", "sum"}
        assert set(data["results"][1]["ms"]["net"]) == {"p50", "p90", "p99", "min"}
        assert data["machine"]["threads"] == 1

    def test_nothing_runs(self) -> None:
        with pytest.raises(ArtifactError, match=r"nothing here runs bad\.onnx: it is no good"):
            benchmark([Contender("bad.onnx", "mine", refusing)], FRAME)
        with pytest.raises(ConfigError, match="nothing to time"):
            benchmark([], FRAME)
        with pytest.raises(ConfigError, match="runs is 0"):
            benchmark([Contender("bad.onnx", "mine", refusing)], FRAME, runs=0)

    def test_doubts_are_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calm, wild = latency(*[10.0] * 6), latency(10, 10, 10, 10, 13, 13)
        facts = machine_facts(2) | {"load": 0.1, "cores": 2}
        rows = [Standing("a.onnx", "mine", calm), Standing("b.onnx", "mine"), Standing("c.onnx", "mine", wild)]
        (note,) = module._notes(rows, facts)
        assert "1 of 2 drifted" in note
        assert "c.onnx mine by +30%" in note
        assert module._notes(rows[:2], facts) == ()
        (note,) = module._notes(rows[:2], facts | {"load": 1.4})
        assert note.startswith("1.4 processes wanted the 2 cores already before")
        assert module._notes(rows[:2], facts | {"load": 1.4, "threads": 1, "cores": 4}) == (), "cores enough for both"
        assert module._notes(rows[:2], facts | {"load": None}) == ()

    def test_machine_facts(self) -> None:
        facts = machine_facts()
        assert facts["threads"] == facts["cores"] == available_threads()
        assert facts["versions"]["numpy"] == np.__version__


class TestContenders:
    def test_every_engine_in_every_precision_and_torch(self, trained: Trained) -> None:
        found = contenders([trained.file, trained.run], frame_size=(64, 96), compiled=True, memory=False)
        names = [(c.file, c.engine) for c in found]
        assert names[0] == ("jetnet.onnx", "onnxruntime")
        assert ("jetnet.onnx", "openvino fp32") in names
        assert names[-4:] == [
            ("tiny", f"{kind} {precision}") for kind in ("torch", "torch.compile") for precision in ("fp32", "bf16")
        ]
        assert found[0].peak_memory() is None
        masks = [c.open().segment(FRAME) for c in (found[0], found[-4])]
        assert np.mean(masks[0] == masks[1]) > 0.999
        assert "bf16" in found[-3].open().session.device

    def test_none(self) -> None:
        with pytest.raises(ArtifactError, match="none does not exist"):
            contenders(["none"], frame_size=(64, 96))

    @pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="the system does not tell")
    def test_peak_memory_is_the_childs_alone(self, trained: Trained) -> None:
        ballast = np.ones(400_000_000, np.uint8)  # a process that is started has its starter's peak, in getrusage
        peak = peak_memory(Opening(str(trained.file), "onnxruntime", None, 1, None), (64, 96))
        assert peak is not None
        assert 30e6 < peak < ballast.nbytes

    def test_peak_memory_of_what_does_not_run(self, tmp_path: Path) -> None:
        opening = Opening(str(tmp_path / "none.onnx"), "onnxruntime", None, 1, None)
        assert peak_memory(opening, (64, 96)) is None
