"""Training end to end on tiny synthetic sets."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from featherseg.core.errors import CheckpointError, ConfigError, DataError, TrainingDivergedError
from featherseg.data.class_counts import take_class_counts
from featherseg.models.checkpoint import load_checkpoint
from featherseg.training.fit import class_weights, fit, resume_run
from featherseg.training.results import results_markdown
from featherseg.training.run_folder import RunFolder
from featherseg.training.run_log import read_log
from featherseg.training.trainer import Trainer
from trainings import tiny_config


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_checkpoint(run / f"{name}.safetensors").model.state_dict()


def test_a_run_folder_describes_itself_and_rebuilds_its_network(tmp_path: Path) -> None:
    result = fit(tiny_config(tmp_path, train={"epochs": 2}), quiet=True)
    assert result.path == tmp_path / "run"
    names = {path.name for path in result.path.iterdir()}
    assert names == {
        "config.toml",
        "classes.json",
        "env.json",
        "log.jsonl",
        "best.safetensors",
        "last.safetensors",
        "state.safetensors",
        "result.json",
        "progress",
    }
    checkpoint = load_checkpoint(result.path)
    assert checkpoint.model.name == "jetnet"
    assert "road" in checkpoint.classes.names
    assert [row["epoch"] for row in read_log(result.path)] == [1, 2]
    assert json.loads((result.path / "result.json").read_text())["miou"] == result.best.miou
    page = results_markdown([result.path])
    assert "jetnet" in page
    assert f"{100 * result.best.miou:.1f}" in page


def test_training_learns(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, train={"epochs": 12, "eval_every": 12, "ema": 0.9}, optim={"lr": 1e-2})
    fit(config, quiet=True)
    losses = [row["loss"] for row in read_log(tmp_path / "run")]
    assert losses[-1] < 0.75 * losses[0]


def train_whole_and_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sections: dict[str, Any]) -> None:
    """Train ``whole/run`` in one go, and ``broken/run`` with a stop after its first epoch."""
    fit(tiny_config(tmp_path / "whole", **sections), quiet=True)
    whole = Trainer._epoch

    def interrupted(self: Trainer, progress: Any) -> dict[str, Any]:
        if self.epoch == 1:
            raise KeyboardInterrupt
        return whole(self, progress)

    monkeypatch.setattr(Trainer, "_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_config(tmp_path / "broken", **sections), quiet=True)
    monkeypatch.undo()
    resume_run(tmp_path / "broken" / "run", quiet=True)


def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sections = {"model": {"name": "fastsegnet"}, "augment": {"class_balance": 0.5}}  # dropout draws numbers too
    train_whole_and_broken(tmp_path, monkeypatch, sections)
    ours, theirs = weights(tmp_path / "broken" / "run"), weights(tmp_path / "whole" / "run")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert len(read_log(tmp_path / "broken" / "run")) == 3


def test_distillation_trains_adapters_and_resumes_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = fit(tiny_config(tmp_path / "teacher", model={"name": "fastsegnet"}, train={"epochs": 1}), quiet=True).path
    losses = [{"name": "features", "decay": True}, {"name": "cwd", "weight": 3.0}]
    sections = {"distill": {"teacher": str(teacher), "losses": losses}}
    train_whole_and_broken(tmp_path, monkeypatch, sections)
    ours, theirs = (RunFolder(tmp_path / name / "run").load_state()["objective"] for name in ("broken", "whole"))
    assert "losses.features_x8.adapter.weight" in ours
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert [row["loss"] for row in read_log(tmp_path / "broken" / "run")] == [
        row["loss"] for row in read_log(tmp_path / "whole" / "run")
    ]


def test_workers_do_not_change_the_result(tmp_path: Path) -> None:
    for workers in (0, 2):
        fit(tiny_config(tmp_path / str(workers), data={"workers": workers}, train={"epochs": 1}), quiet=True)
    ours, theirs = weights(tmp_path / "0" / "run"), weights(tmp_path / "2" / "run")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_run_can_start_from_another_run_of_the_same_classes(tmp_path: Path) -> None:
    first = fit(tiny_config(tmp_path / "first", train={"epochs": 1}), quiet=True)
    still = {"optim": {"lr": 1e-12, "warmup": 0.0, "weight_decay": 0.0}, "train": {"epochs": 1, "ema": 0.0}}
    fit(tiny_config(tmp_path / "second", model={"init": str(first.path)}, **still), quiet=True)
    start, end = weights(first.path, "best"), weights(tmp_path / "second" / "run")
    assert all(torch.allclose(start[name], end[name]) for name in start if name.endswith("conv.weight"))
    with pytest.raises(CheckpointError, match="another network"):
        fit(tiny_config(tmp_path / "third", model={"init": str(first.path), "name": "fastsegnet"}), quiet=True)
    (first.path / "best.safetensors").unlink()  # what a run started from need not outlive its first epoch
    (first.path / "last.safetensors").unlink()
    assert resume_run(tmp_path / "second" / "run", quiet=True).epochs == 1


def test_the_size_that_a_network_wants_goes_with_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = fit(tiny_config(tmp_path, model={"long_side": 128}, train={"epochs": 1}), quiet=True)
    assert load_checkpoint(run.path).model.input_spec.long_side == 128
    assert run.best.protocol["resolution"] == "original resolution, network input with a long side of 128"
    fit(tiny_config(tmp_path / "on", model={"init": str(run.path)}, train={"epochs": 1}), quiet=True)
    assert any("set model.long_side=128" in line for line in caplog.messages)


def test_resume_of_what_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.toml"):
        resume_run(tmp_path, quiet=True)


def test_resume_before_the_first_epoch_ended_starts_over(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, train={"epochs": 1})
    RunFolder(tmp_path / "run").create(config, load_classes())
    (tmp_path / "run" / ".writing-last.safetensors.x").write_bytes(b"half")
    assert resume_run(tmp_path / "run", quiet=True).epochs == 1
    assert not list((tmp_path / "run").glob(".*"))


def test_a_second_run_does_not_overwrite_the_first_and_is_refused_before_any_work(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, train={"epochs": 1}, data={"name": "camvid", "root": "nowhere", "options": {}})
    RunFolder(tmp_path / "run").create(config, load_classes())
    with pytest.raises(ConfigError, match="holds a run already"):  # not that there are no data
        fit(config, quiet=True)


def test_a_run_that_is_being_trained_is_left_alone_by_others(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, train={"epochs": 1}, data={"name": "camvid", "root": "nowhere", "options": {}})
    with RunFolder(tmp_path / "run").lock():
        for resume in (False, True):
            with pytest.raises(CheckpointError, match=rf"is being trained by process {os.getpid()} on .*; wait for it"):
                fit(config, resume=resume, quiet=True)
    with pytest.raises(DataError, match="nowhere"):
        fit(config, quiet=True)
    assert list(tmp_path.iterdir()) == []


def test_the_trainer_holds_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def look(self: Trainer, progress: Any) -> Any:
        seen.append((tmp_path / "run" / ".lock").is_file())
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_epoch", look)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_config(tmp_path), quiet=True)
    with pytest.raises(KeyboardInterrupt):
        resume_run(tmp_path / "run", quiet=True)
    assert seen == [True, True]
    assert not list((tmp_path / "run").glob(".*"))


def load_classes() -> Any:
    from featherseg.data.readers.synthetic import STREET_CLASSES

    return STREET_CLASSES


@pytest.mark.parametrize(
    ("sections", "error", "words"),
    [
        ({"model": {"name": "fastsegnett"}}, ConfigError, 'did you mean "fastsegnet"'),
        ({"model": {"options": {"widht": 0.5}}}, ConfigError, "has no option 'widht'"),
        ({"data": {"name": "camvid", "root": "nowhere", "options": {}}}, DataError, "nowhere"),
        ({"loss": {"out": [{"name": "dise"}]}}, ConfigError, 'did you mean "dice"'),
        ({"loss": {"class_weights": [1.0, 2.0]}}, ConfigError, "2 numbers for"),
        ({"train": {"precision": "fp16"}}, ConfigError, "use bf16 or fp32"),
        ({"optim": {"encoder_lr": 1e-4}}, ConfigError, "jetnet has no encoder"),
        ({"train": {"device": "gpu"}}, ConfigError, "choose auto, cpu, cuda or mps"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    tmp_path: Path, sections: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        fit(tiny_config(tmp_path, **sections), quiet=True)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_divergence_is_said_and_keeps_the_last_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Trainer._epoch

    def poisoned(self: Trainer, progress: Any) -> dict[str, Any]:
        if self.epoch == 1:
            with torch.no_grad():
                next(self.setup.objective.model.parameters()).fill_(float("nan"))
        return whole(self, progress)

    monkeypatch.setattr(Trainer, "_epoch", poisoned)
    with pytest.raises(TrainingDivergedError, match=r"epoch 2, step .* lower optim\.lr"):
        fit(tiny_config(tmp_path), quiet=True)
    assert all(torch.isfinite(w).all() for w in weights(tmp_path / "run").values())


def test_patience_stops_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(tmp_path, train={"epochs": 9, "patience": 2}, optim={"lr": 1e-9, "warmup": 0.0})
    result = fit(config, quiet=True)
    assert result.epochs < 9
    assert result.epochs - result.best_epoch == 2


def test_accumulated_steps_are_fewer_and_still_follow_the_schedule(tmp_path: Path) -> None:
    fit(tiny_config(tmp_path, optim={"accumulate": 2}, train={"epochs": 2}), quiet=True)
    state = RunFolder(tmp_path / "run").load_state()
    assert state["schedule"]["last_epoch"] == 4  # three batches per epoch make two steps


def test_tensorboard_is_written_where_asked(tmp_path: Path) -> None:
    fit(tiny_config(tmp_path, train={"epochs": 1, "tensorboard": True}), quiet=True)
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


def test_an_unreadable_image_without_cache_is_one_line(tmp_path: Path) -> None:
    from featherseg.data.readers.synthetic import write_street

    root = write_street(tmp_path / "data", 4, 2, (64, 96))
    victim = sorted((root / "images" / "train").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:200])
    config = tiny_config(
        tmp_path / "runs", data={"name": "folder", "root": str(root), "options": {}, "cache": False, "workers": 1}
    )
    with pytest.raises(DataError, match="cannot be read as an image") as caught:
        fit(config, quiet=True)
    assert str(victim) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_automatic_class_weights_favour_rare_classes_and_keep_the_loss_scale(tmp_path: Path) -> None:
    from featherseg.data.datasets import create_dataset

    config = tiny_config(tmp_path, loss={"class_weights": "auto"})
    dataset = create_dataset("synthetic", split="train", **config.data.options)
    chosen = torch.tensor(class_weights(config, take_class_counts(dataset)), dtype=torch.float64)
    masks = np.concatenate([dataset.read(i)[1].ravel() for i in range(len(dataset))])
    counts = np.bincount(masks, minlength=256)[: len(dataset.classes)]
    share = torch.from_numpy(counts / counts.sum())
    assert float((chosen * share).sum()) == pytest.approx(1.0)
    assert int(chosen.argmax()) == int(share.argmin())
