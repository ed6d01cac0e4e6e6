"""Times of candidates in turns, and whether the machine was steady."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Tiny, error_line
from featherseg.core.errors import ArtifactError
from featherseg.core.images import write_image
from featherseg.core.types import Latency
from featherseg.picking import screening, timings
from featherseg.picking.candidates import Candidate, Net, Variant, Way, candidates, nets
from featherseg.picking.files import CandidateFiles
from featherseg.picking.screening import Screened, Screener, Screening
from featherseg.picking.timings import Timing, time_many
from featherseg.runtime.choose import picture
from featherseg.runtime.engines import Engine
from featherseg.runtime.segmenter import Segmenter

WAYS = [Way("fp32", Engine("onnxruntime")), Way("int8", Engine("onnxruntime"))]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featherseg.runtime.timing.PAUSE", 0.0)


@pytest.fixture
def screener(tiny: Tiny, tmp_path: Path) -> Screener:
    frame = tmp_path / "frame.png"
    write_image(frame, picture((64, 96)))
    return Screener(CandidateFiles(3, tmp_path), frame, 5000.0, threads=1, cache=tmp_path)


def latency(ms: list[float]) -> Latency:
    return Latency({"net": tuple(ms)}, 1, "here")


def test_candidates_are_timed_from_file_to_mask(screener: Screener) -> None:
    chosen = candidates(nets([Variant("tiny")], (1.0, 0.5)), WAYS)
    found = screener.screen(chosen, seconds=30.0)
    assert [result.candidate for result in found.results] == chosen
    for result in found.results:
        assert result.timing is not None
        assert set(result.timing.stages) == {"decode", "pre", "net", "post"}
        assert result.timing.runs >= timings.RUNS[0]
        assert 0 < result.timing.p50 <= result.timing.p95
        size = "64x96" if result.candidate.net.scale == 1 else "64x64"  # no smaller one is seen
        assert result.fits(5000.0)
        assert size[:2] in result.timing.device
    assert Screening.from_dict(found.to_dict(), chosen) == found
    assert found.fastest() is not None


def test_what_is_far_too_slow_is_timed_no_further(screener: Screener) -> None:
    screener.limit_ms = 1e-4
    (result,) = screener.screen([Candidate(Net(Variant("tiny")), WAYS[0])], seconds=30.0).results
    assert result.timing is not None
    assert result.timing.runs == timings.LOOK
    assert not result.near(1e-4)


def test_where_there_is_no_time_the_rest_is_said_to_be_untimed(
    screener: Screener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timings, "GROUP", 1)
    chosen = candidates([Net(Variant("tiny"))], WAYS)
    first, second = screener.screen(chosen, seconds=0.0).results
    assert first.timing is not None
    assert second.timing is None
    assert "no time left" in second.reason
    screener.files = CandidateFiles(4, screener.picture.parent)
    late = screener.screen(chosen, export_seconds=-1.0).results
    assert all("not exported" in result.reason for result in late)


def test_what_a_prediction_excludes_is_not_exported(screener: Screener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screening, "WORTH_IT", 1)
    monkeypatch.setattr(screening, "REFERENCES", ("tiny",))
    chosen = candidates([Net(Variant("jetnet")), Net(Variant("tiny"))], WAYS[:1])
    screener.limit_ms = 0.02
    jetnet, tiny = screener.screen(chosen, seconds=30.0).results
    assert jetnet.timing is None
    assert jetnet.predicted_ms is not None
    assert jetnet.predicted_ms > 1.6 * 0.02
    assert "too slow even if" in jetnet.reason
    assert not screener.files.place(Variant("jetnet"), WAYS[0]).exists()
    assert tiny.timing is not None or tiny.predicted_ms is not None
    assert list((screener.picture.parent / "layers").glob("*.json"))
    monkeypatch.setattr(Screener, "_fitted", None)  # what is remembered is not timed again
    assert screener.screen(chosen, seconds=30.0).results[0].predicted_ms == pytest.approx(jetnet.predicted_ms)


def test_what_does_not_run_has_a_reason(screener: Screener) -> None:
    wrong = Candidate(Net(Variant("tiny", {"nosuch": 1})), WAYS[0])
    good = Candidate(Net(Variant("tiny")), WAYS[0])
    failed, timed = screener.screen([wrong, good], seconds=30.0).results
    assert "nosuch" in failed.reason
    assert timed.timing is not None

    def refuse() -> Segmenter:
        raise ArtifactError("it is damaged")

    line = error_line(ArtifactError, time_many, {"a": refuse}, screener.picture, limit_ms=1.0, seconds=9.0)
    assert "it is damaged" in line


def test_a_machine_that_is_not_steady_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    steady, drifting = [10.0] * 9, [10.0] * 3 + [11.0] * 3 + [14.0] * 3
    both = {timings.REFERENCE: latency(steady), "a": latency(steady)}
    assert timings._unsteady(both, [10.0, 10.2]) == ""
    assert "drifted by up to +40%" in timings._unsteady({k: latency(drifting) for k in both}, [])
    assert "took +25% of its usual time" in timings._unsteady(both, [8.0])
    calls: list[int] = []

    def measured(*_: object, runs: int) -> dict[str, Latency]:
        calls.append(runs)
        return both if len(calls) == 2 else {k: latency(drifting) for k in both}

    monkeypatch.setattr(timings, "time_whole_path", measured)
    assert timings._steadily({}, Path(), 9, [], 1e18) == (both, "")
    assert len(calls) == 2
    calls.clear()
    _, wrong = timings._steadily({}, Path(), 9, [], 0.0)  # no time for another try
    assert len(calls) == 1
    assert "drifted" in wrong


def test_limits() -> None:
    result = Screened(Candidate(Net(Variant("tiny")), WAYS[0]), Timing(9.0, 12.0, {}, 9, 0.0, ""))
    assert result.fits(12.0)
    assert not result.fits(11.0)
    assert result.near(11.0)
    assert not Screened(result.candidate).near(11.0)
