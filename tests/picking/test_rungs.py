"""Steps: who teaches whom, what a step is told, and what is noted of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from featherseg.core.config import Config
from featherseg.core.errors import TrainingDivergedError
from featherseg.core.types import ClassSet
from featherseg.picking import rungs
from featherseg.picking.pace import NetPace
from featherseg.picking.plan import Plan
from featherseg.picking.question import Question
from featherseg.picking.rungs import LONG, Rungs
from featherseg.picking.steps import Step, step_config, step_folder, train_step
from featherseg.picking.study import Study
from featherseg.training.fit import fit
from featherseg.training.run_folder import RunFolder
from trainings import tiny_config

pytest.importorskip("optuna", reason="needs the extra pick")
NETS = {"a": "net a", "b": "net b", "c": "net c"}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    found = Study(tmp_path / "study", Question("photos", 33.3))
    found.add_nets(NETS)
    return found


def plan(batches: int = 100) -> Plan:
    paces = dict.fromkeys(NETS, NetPace(1.0, 1.0))
    return Plan(tuple(NETS), {}, (3, 2), (2,), paces, dict.fromkeys(NETS, batches))


def test_the_best_teaches_where_that_pays(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Step] = {}

    def train(usual: Config, step: Step, folder: Path) -> dict[str, Any]:
        seen[f"{step.slug}{step.rung}"] = step
        return {"miou": {"a": 0.5, "b": 0.49, "c": 0.4}[step.slug], "epochs": 2}

    monkeypatch.setattr(rungs, "train_step", train)
    small = {"c"}
    found = Rungs(study, plan(), lambda slug: tiny_config(tmp_path), lambda one, other: other not in small)
    assert found.train(0, dict.fromkeys(NETS, 2))["c"]["miou"] == 0.4
    assert not any(step.teacher or step.start for step in seen.values())
    found.train(1, {"a": LONG // 100, "b": LONG // 100, "c": LONG // 100})
    assert seen["a1"].teacher == ""  # nobody knows more
    assert seen["b1"].teacher == ""  # by a point alone
    assert seen["c1"].teacher == ""  # of another size
    assert seen["c1"].start == str(step_folder(study.folder, "c", 0))
    small.clear()
    assert found._step("c", 1, LONG // 100, 0.0).teacher == str(step_folder(study.folder, "a", 0))
    assert found._step("c", 1, LONG // 100 - 1, 0.0).teacher == ""  # too short
    again = Rungs(study, plan(), lambda slug: tiny_config(tmp_path), lambda one, other: True)
    seen.clear()
    again.train(1, dict.fromkeys(NETS, 4))  # all is done
    assert seen == {}


def test_paces_are_those_of_runs(study: Study, tmp_path: Path) -> None:
    study.record("a", 0, {"miou": 0.5, "epochs": 2, "train_seconds": 8.0, "seconds": 9.0})
    found = Rungs(study, plan(), lambda slug: tiny_config(tmp_path), lambda one, other: True)
    assert found.paces(["a", "b"]) == {"a": NetPace(4.0, 1.0), "b": NetPace(1.0, 1.0)}


def test_a_step_goes_on_from_the_one_before(tmp_path: Path) -> None:
    usual = tiny_config(tmp_path, model={"name": "jetnet", "init": "cityscapes"}, train={"start_share": 0.5})
    first = step_config(usual, Step("a", "net a", 0, 4), tmp_path)
    assert (first.train.epochs, first.train.eval_every, first.model.init) == (4, 4, "cityscapes")
    assert first.train.start_share == 0.5
    second = step_config(usual, Step("a", "net a", 1, 8, 2.0, "teacher", "start"), tmp_path)
    assert (second.model.init, second.train.start_share, second.train.minutes) == ("start", 0.0, 2.0)
    assert second.distill.teacher == "teacher"
    assert all(loss["decay"] for loss in second.distill.losses)
    assert Path(second.out) / second.name == step_folder(tmp_path, "a", 1)


def test_a_training_that_fails_is_noted_with_its_reason(tmp_path: Path) -> None:
    usual = tiny_config(tmp_path, optim={"lr": 1e30, "clip_norm": 0.0})
    result = train_step(usual, Step("a", "net a", 0, 2), tmp_path)
    assert result["miou"] is None
    assert "loss is not finite" in result["failure"]


def test_where_few_bits_are_too_few_it_goes_on_in_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def train(config: Config, *, resume: bool) -> None:
        tried.append(config.train.precision)
        if config.train.precision != "fp32":
            RunFolder(Path(config.out) / config.name).create(config, ClassSet(("road", "sky")))
            raise TrainingDivergedError("the loss is not finite")
        fit(config, resume=resume)

    monkeypatch.setattr("featherseg.picking.steps.fit", train)
    usual = tiny_config(tmp_path, train={"precision": "bf16"})
    assert train_step(usual, Step("a", "net a", 0, 1), tmp_path)["epochs"] == 1
    assert tried == ["bf16", "fp32"]


def test_a_finished_step_is_read_and_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Step("a", "net a", 0, 1)
    result = train_step(tiny_config(tmp_path), step, tmp_path)
    assert 0 <= result["miou"] <= 1
    assert result["epochs"] == 1
    monkeypatch.setattr("featherseg.picking.steps.fit", None)
    assert train_step(tiny_config(tmp_path), step, tmp_path) == result
