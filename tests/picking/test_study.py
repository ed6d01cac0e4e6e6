"""A study's folder: shared, killed and gone on with."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from conftest import error_line
from featherseg.core.errors import CheckpointError, ConfigError
from featherseg.picking.clock import TICK, WorkClock
from featherseg.picking.question import Question
from featherseg.picking.study import JOURNAL, Study

pytest.importorskip("optuna", reason="needs the extra pick")
QUESTION = Question("photos", 33.3)
NETS = {"a": "net a", "b": "net b", "c": "net c"}


def test_networks_and_results_are_remembered(tmp_path: Path) -> None:
    study = Study(tmp_path / "study", QUESTION)
    study.add_nets(NETS)
    study.record("a", 0, {"miou": 0.4, "epochs": 2})
    study.record("a", 0, {"miou": 0.9, "epochs": 2})  # by another process, that did the same: the first stays
    study.record("b", 0, {"miou": None, "failure": "it fell over"})
    study.drop("b", 0, "it fell over")
    again = Study(tmp_path / "study", QUESTION)
    again.add_nets(NETS)
    assert list(again.trials()) == ["a", "b", "c"]
    assert again.results(0) == {"a": {"miou": 0.4, "epochs": 2}, "b": {"miou": None, "failure": "it fell over"}}
    assert again.trials()["a"].intermediate_values == {0: 0.4}
    assert again.dropped()["b"]["why"] == "it fell over"
    assert again.trials()["b"].state.name == "PRUNED"
    again.finish("a", 0.5)
    again.finish("a", 0.6)
    assert study.trials()["a"].value == 0.5


def test_another_question_is_refused_and_so_is_a_folder_of_other_things(tmp_path: Path) -> None:
    Study(tmp_path / "study", QUESTION)
    line = error_line(ConfigError, Study, tmp_path / "study", Question("photos", 33.3, budget=60.0))
    assert "budget 1 h 0 min there, 1 min now" in line.replace("60 s", "1 min")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "holiday.jpg").touch()
    assert "other things" in error_line(ConfigError, Study, tmp_path / "other", QUESTION)
    assert [file.name for file in (tmp_path / "other").iterdir()] == ["holiday.jpg"]


def test_questions_that_cannot_be_asked() -> None:
    assert "--latency is 0" in error_line(ConfigError, Question, "photos", 0.0)
    assert "--seed is -1" in error_line(ConfigError, Question, "photos", 5.0, seed=-1)
    for setting in ("model.name=jetnet", "model={}", "train.epochs=4", "distill.teacher=x"):
        assert setting.partition("=")[0] in error_line(ConfigError, Question, "photos", 5.0, settings=(setting,))
    assert Question("photos", 5.0, settings=("data.batch_size=4",)).settings


def test_a_line_that_a_kill_left_half_written_is_cut_off(tmp_path: Path) -> None:
    study = Study(tmp_path / "study", QUESTION)
    study.add_nets(NETS)
    study.record("a", 0, {"miou": 0.4})
    journal = tmp_path / "study" / JOURNAL
    with journal.open("ab") as file:
        file.write(b'{"op_code": 7, "worker')
    again = Study(tmp_path / "study", QUESTION)
    again.record("b", 0, {"miou": 0.5})
    assert set(Study(tmp_path / "study", QUESTION).results(0)) == {"a", "b"}


def test_damage_is_a_line(tmp_path: Path) -> None:
    study = Study(tmp_path / "study", QUESTION)
    for content in ("{", "[1]"):
        (tmp_path / "study" / "plan.json").write_text(content)
        assert "plan.json is damaged" in error_line(CheckpointError, study.read, "plan")
    (tmp_path / "study" / JOURNAL).write_text('{"op_code": 99}\n')
    assert "study.journal is damaged" in error_line(CheckpointError, Study, tmp_path / "study", QUESTION)


def hold(folder: str, begun: str) -> None:
    study = Study(folder, QUESTION)
    with study.clock.running(), study.lock("step"):
        time.sleep(1.5 * TICK)
        Path(begun).touch()
        time.sleep(600)


def test_a_killed_process_lets_go_and_its_work_counts(tmp_path: Path) -> None:
    study = Study(tmp_path / "study", QUESTION)
    process = multiprocessing.get_context("spawn").Process(
        target=hold, args=(str(tmp_path / "study"), str(tmp_path / "begun"))
    )
    process.start()
    deadline = time.monotonic() + 120
    while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    with study.lock("step", wait=False) as mine:
        assert not mine
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with study.lock("step", wait=False) as mine:
        assert mine
    assert study.clock.spent() >= TICK


def test_waiting_is_no_work(tmp_path: Path) -> None:
    clock = WorkClock(tmp_path)
    with clock.running():
        time.sleep(0.02)
        with clock.waiting():
            before = clock.spent()
            time.sleep(0.05)
            assert clock.spent() == before
        time.sleep(0.02)
    assert clock.spent() >= 0.04
    (note,) = tmp_path.glob("*.json")
    assert json.loads(note.read_text()) == pytest.approx(WorkClock(tmp_path).spent(), abs=0.01)
    note.write_text("half")  # which write_atomically never leaves
    assert WorkClock(tmp_path).spent() == 0


def test_what_is_made_once_is_made_once(tmp_path: Path) -> None:
    study = Study(tmp_path / "study", QUESTION)
    assert study.once("plan", lambda: {"n": 1}) == {"n": 1}
    assert Study(tmp_path / "study", QUESTION).once("plan", lambda: {"n": 2}) == {"n": 1}
