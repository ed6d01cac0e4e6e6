"""A rate to hold: what is tried, what is taken, and what is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from artifact_fixtures import POOLED, write_pooled
from featherseg.core.errors import ArtifactError, ConfigError, DataError
from featherseg.evaluation.opening import open_segmenter, split_model
from featherseg.runtime.segmenter import Segmenter
from featherseg.runtime.video import pace
from featherseg.runtime.video.pace import SCALES, Trial, candidates, choose_pace, rehearse
from featherseg.runtime.video.sources import open_source

Clips = Callable[..., None]
TABLE = [[1.0, 0.74], [0.8, 0.73], [0.65, 0.70], [0.5, 0.60]]


def write_file(path: Path, miou: float | None = None, scales: object = None) -> Path:
    said = {"miou": miou} | ({"scales": scales} if scales is not None else {})
    return write_pooled(path, replace(POOLED, verification=said if miou is not None else {}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder with a float file, and an int8 one that knows what sizes cost."""
    home = tmp_path / "dist"
    home.mkdir()
    write_file(home / "a.onnx", 0.75)
    write_file(home / "a_int8.onnx", 0.74, TABLE)
    (home / "labels.json").write_text(json.dumps({"model": "a.onnx"}))
    (home / "README.md").write_text("card")
    return home


def machine(speed: float, seen: list[tuple[str, float]], slow: str = "a.onnx") -> Callable[[Segmenter], Trial]:
    """Return the trial of a machine that makes `speed` frames/s at full size, half as many of file `slow`."""

    def trial(segmenter: Segmenter) -> Trial:
        name = segmenter.session.path.name  # type: ignore[attr-defined]
        seen.append((name, segmenter.scale))
        return Trial(speed / segmenter.scale**2 / (2 if name == slow else 1), (540, 960))

    return trial


def test_the_most_accurate_comes_first(folder: Path) -> None:
    order = [(each.path.name, each.scale, each.miou) for each in candidates(folder)]
    assert order[:3] == [("a.onnx", 1.0, 0.75), ("a_int8.onnx", 1.0, 0.74), ("a.onnx", 0.8, pytest.approx(0.74))]
    assert len(order) == 2 * len(SCALES)
    assert [miou for _, _, miou in order] == sorted((miou for _, _, miou in order), reverse=True)


def test_without_figures_larger_sizes_come_first(tmp_path: Path) -> None:
    file = write_file(tmp_path / "mine.onnx")
    assert [(each.scale, each.miou) for each in candidates(file)] == [(scale, None) for scale in SCALES]
    damaged = write_file(tmp_path / "odd.onnx", 0.5, [["x", 1], 7])
    assert [each.miou for each in candidates(damaged)] == [0.5, None, None, None]


def test_what_holds_the_rate_first_is_taken(folder: Path) -> None:
    seen: list[tuple[str, float]] = []
    chosen = choose_pace(folder, 30, machine(40, seen), threads=1)
    assert seen == [("a.onnx", 1.0), ("a_int8.onnx", 1.0)]
    assert chosen.held
    assert str(chosen) == "30 frames/s: a_int8.onnx at 540x960 makes 40.0 here, mIoU 74.0 where the best has 75.0"
    assert chosen.to_dict() == {"file": "a_int8.onnx", "size": [540, 960], "fps": 40.0, "wanted": 30, "miou": 0.74}


def test_smaller_sizes_and_no_trial_without_hope(folder: Path) -> None:
    seen: list[tuple[str, float]] = []
    chosen = choose_pace(folder, 60, machine(30, seen), threads=1)
    assert chosen.candidate.path.name == "a_int8.onnx"
    assert (chosen.candidate.scale, chosen.seen) == (0.65, (352, 624))
    assert ("a.onnx", 0.8) not in seen, "twice the frames of 15 are fewer than 60 at any of these sizes"
    assert ("a_int8.onnx", 0.8) not in seen


def test_a_rate_that_nothing_holds(folder: Path) -> None:
    chosen = choose_pace(folder, 200, machine(20, []), threads=1)
    assert not chosen.held
    words = "nothing holds 200 frames/s here: a_int8.onnx at 272x480, the fastest, makes 80.0, 60 % fewer"
    assert str(chosen) == words


def test_a_file_that_does_not_open_is_passed_over(folder: Path) -> None:
    (folder / "a.onnx").write_bytes((folder / "a.onnx").read_bytes()[:200])
    assert choose_pace(folder, 30, machine(40, []), threads=1).candidate.path.name == "a_int8.onnx"
    (folder / "a_int8.onnx").unlink()
    with pytest.raises(ArtifactError, match=r"a\.onnx"):
        choose_pace(folder, 30, machine(40, []), threads=1)


def test_rates_that_are_refused(folder: Path) -> None:
    for rate in (0.0, -30.0, 1e6, float("nan")):
        with pytest.raises(ConfigError, match="give the frames per second to hold"):
            choose_pace(folder, rate, machine(40, []))


def test_model_folders_are_opened_by_their_main_file(folder: Path) -> None:
    assert split_model([folder, "drive.mp4"]) == (folder, [Path("drive.mp4")])
    assert open_segmenter(folder, threads=1).session.path == folder / "a.onnx"  # type: ignore[attr-defined]
    (folder / "labels.json").write_text("{}")
    with pytest.raises(DataError, match="does not say which file to run"):
        open_segmenter(folder)


@pytest.mark.parametrize("written", [True, False])
def test_a_rehearsal_leaves_the_source_and_the_output_alone(
    pooled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    clips = pytest.importorskip("video_clips", reason="needs the video extra")
    monkeypatch.setattr(pace, "SECONDS", 0.05)
    video = clips.write_video(tmp_path / "drive.mp4")
    source = open_source(video)
    out = tmp_path / "out.mp4"
    found = rehearse(Segmenter(pooled, threads=2), source, out if written else None, mode="mask")
    assert found.frame_size == (clips.HEIGHT, clips.WIDTH)
    assert 1 < found.fps < 100_000
    assert not out.exists()
    assert len(list(source.frames())) == clips.FRAMES
    source.close()


def test_made_up_frames_stand_for_those_of_a_live_source(pooled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = pytest.importorskip("video_clips", reason="needs the video extra")
    monkeypatch.setattr(pace, "SECONDS", 0.05)
    with clips.camera(lambda sender: clips.send_frames(sender, 100)) as url:
        source = open_source(url)
        found = rehearse(Segmenter(pooled, threads=1), source, None)
        assert found.frame_size == source.frame_size == (clips.HEIGHT, clips.WIDTH)  # type: ignore[attr-defined]
        source.close()
