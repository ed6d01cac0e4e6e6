"""Learning from images without labels what a teacher is sure of in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from conftest import Ended, Tiny, TinyNet, batch, street_photos
from featherseg.core.config import SelfTrainConfig
from featherseg.core.errors import ConfigError, DataError
from featherseg.core.recipes import config_from_dict
from featherseg.core.types import ClassSet
from featherseg.models.checkpoint import load_state
from featherseg.training.fit import fit, resume_run, with_lasting_paths
from featherseg.training.folds import fit_folds
from featherseg.training.loss_terms import build_loss
from featherseg.training.lr_finder import find_lr
from featherseg.training.run_log import read_log
from featherseg.training.self_training import SelfTrained, boxes, sure_classes
from featherseg.training.supervised import Supervised, normalize
from featherseg.training.teacher import Teacher
from featherseg.training.trainer import Trainer
from trainings import assert_same, tiny_config

CLASSES = ClassSet(("sky", "road", "car"))
REST = {"data": {"labelled": "1/2", "unlabelled": "rest"}, "selftrain": {"threshold": 0.2, "ramp": 0.0}}


def objective(model: TinyNet, teacher: Teacher | None = None, **settings: Any) -> SelfTrained:
    terms = [{"name": "cross_entropy"}]
    labelled = Supervised(model, build_loss(terms), build_loss(terms))
    return SelfTrained(labelled, SelfTrainConfig(**settings), CLASSES, teacher)


def two_batches(box: tuple[int, int, int, int] = (0, 0, 0, 0)) -> dict[str, Tensor]:
    """Labelled images, and others whose strong looks are their negatives; the last rows of these are padding."""
    found = batch()
    weak = found["image"].flip(-1)
    padding = torch.zeros_like(found["mask"])
    padding[:, -6:] = 255
    return found | {"weak": weak, "strong": 255 - weak, "padding": padding, "box": torch.tensor([box, (0, 0, 0, 0)])}


def test_the_loss_is_the_cross_entropy_of_what_the_average_is_sure_of(tiny: Tiny) -> None:
    student, average = tiny(), tiny(width=5)
    trained = objective(student, threshold=0.4, ramp=0.0, weight=2.0)
    trained.train()
    given = two_batches(box=(3, 40, 10, 60))
    without = trained(given)
    assert "loss/unlabelled" not in without  # nobody teaches yet
    trained.follow(average)
    losses = trained(given)

    with torch.no_grad():
        weak = normalize(given["weak"], student.input_spec)
        probs = average.eval()(weak).softmax(1)
        best, target = probs.max(1)
        target[(best < 0.4) | (given["padding"] == 255)] = 255
        assert 0.05 < (target != 255).float().mean() < 0.95  # else nothing is tested
        strong = given["strong"].clone()
        strong[0, :, 3:40, 10:60] = given["strong"][1, :, 3:40, 10:60]
        pasted = target.clone()
        pasted[0, 3:40, 10:60] = target[1, 3:40, 10:60]
    logits = student.train()(normalize(strong, student.input_spec))
    expected = F.cross_entropy(logits, pasted, ignore_index=255, reduction="sum") / pasted.numel()
    torch.testing.assert_close(losses["loss/unlabelled"], expected)
    torch.testing.assert_close(losses["loss"], without["loss"] + 2 * losses["loss/unlabelled"])
    assert trained.figures() == {"sure": pytest.approx(float((pasted != 255).float().mean()), abs=1e-4)}
    assert trained.figures() == {}


def test_it_grows_over_the_ramp(tiny: Tiny) -> None:
    trained = objective(tiny(), ramp=0.2, threshold=0.0)
    trained.follow(tiny(width=5))
    totals = []
    for progress in (0.0, 0.1, 0.2, 0.9):
        trained.set_progress(progress)
        losses = {name: float(part.detach()) for name, part in trained(two_batches()).items()}
        added = losses["loss"] - losses["loss/out"] - 0.4 * losses["loss/aux_4"]
        totals.append(added / losses["loss/unlabelled"])
    assert totals == pytest.approx([0.0, 0.5, 1.0, 1.0], abs=1e-4)


def test_only_the_student_is_trained_and_saved(tiny: Tiny) -> None:
    trained = objective(tiny(), threshold=0.0, ramp=0.0)
    trained.follow(tiny(width=5))
    trained(two_batches())["loss"].backward()
    assert all(parameter.grad is not None for parameter in trained.parameters())
    assert set(trained.state_dict()) == {f"labelled.model.{name}" for name in tiny().state_dict()}


def test_a_teacher_of_its_own_is_heard_in_the_students_classes(tiny: Tiny) -> None:
    theirs = ClassSet(("car", "sky", "road"))
    trained = objective(tiny(), Teacher(tiny(width=5), theirs), threshold=0.0, ramp=0.0)
    trained.follow(tiny(width=7))  # another network teaches
    given = two_batches()
    target = trained._targets(given["weak"], given["padding"])
    logits = tiny(width=5).eval()(normalize(given["weak"], trained.model.input_spec))
    expected = torch.tensor([2, 0, 1])[logits.argmax(1)]
    expected[:, -6:] = 255
    assert (target == expected).float().mean() > 0.999
    with pytest.raises(ConfigError, match="lacks the class 'car'"):
        objective(tiny(), Teacher(tiny(2, width=5), ClassSet(("sky", "road"))))


def test_sure_classes_and_boxes_are_what_they_say() -> None:
    logits = torch.full((1, 2, 2, 2), 0.0)
    logits[0, 1] = torch.tensor([[3.0, 0.1], [-3.0, 3.0]])
    padding = torch.tensor([[[0, 0], [0, 255]]])
    assert sure_classes(logits, padding, 0.9, 255).tolist() == [[[1, 255], [0, 255]]]
    inside = boxes(torch.tensor([[1, 3, 0, 2], [0, 0, 0, 0]]), (3, 3))
    assert inside.int().tolist() == [[[0, 0, 0], [1, 1, 0], [1, 1, 0]], [[0, 0, 0]] * 3]


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ema: float
) -> None:
    sections = REST | {
        "model": {"name": "fastsegnet", "options": {"width": 0.5}},
        "train": {"ema": ema},
    }  # with dropout
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
    runs = [tmp_path / name / "run" for name in ("whole", "broken")]
    assert_same(*(load_state(run / "state.safetensors") for run in runs))
    rows = [[(row["loss"], row["sure"], row["miou"]) for row in read_log(run)] for run in runs]
    assert rows[0] == rows[1]
    assert rows[0][-1][1] > 0.1


def test_a_run_may_teach_and_masks_may_be_distilled_beside(tmp_path: Path) -> None:
    teacher = fit(tiny_config(tmp_path, "teacher", train={"epochs": 1}), quiet=True).path
    sections = REST | {
        "selftrain": REST["selftrain"] | {"teacher": str(teacher)},
        "distill": {"teacher": str(teacher), "losses": [{"name": "features", "tap": "x8"}]},
        "train": {"epochs": 1},
    }
    result = fit(tiny_config(tmp_path, "taught", **sections), quiet=True)
    assert read_log(result.path)[0]["sure"] > 0
    alone = {"selftrain": {"teacher": str(teacher)}}
    with pytest.raises(ConfigError, match=r"set data\.unlabelled"):
        fit(tiny_config(tmp_path, "alone", **alone), quiet=True)


def test_looks_made_on_the_device_teach_alike(tmp_path: Path) -> None:
    losses = []
    for where in ("no", "yes"):
        sections = REST | {"augment": {"on_device": where}, "train": {"epochs": 2}}
        losses.append([row["loss"] for row in read_log(fit(tiny_config(tmp_path, where, **sections), quiet=True).path)])
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)


def test_folds_times_and_rates_work_with_it(tmp_path: Path, run: Callable[..., Ended]) -> None:
    config = tiny_config(tmp_path, "cv", **REST, train={"epochs": 1})
    assert len(fit_folds(config, 2, quiet=True).results) == 2
    assert all("sure" in read_log(tmp_path / "cv" / f"fold_{k}")[0] for k in (1, 2))
    assert find_lr(tiny_config(tmp_path, "rates", **REST, optim={"lr": 1e-3}), steps=12).suggestion > 0
    photos = street_photos(tmp_path / "photos", 8)
    words = ["data.labelled=1/2", "data.unlabelled=rest", "train.device=cpu", "data.workers=0", f"out={tmp_path}"]
    ended = run("train", photos, "--time", "15s", "model.name=jetnet", "augment.crop=[64, 64]", *words, "-q", "--json")
    assert ended.code == 0, ended.err
    assert "sure" in read_log(tmp_path / "photos")[0]


def test_paths_mean_the_same_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more").mkdir()
    (tmp_path / "names.txt").write_text("a\n")
    tree = {"data": {"labelled": "names.txt", "unlabelled": "more"}, "selftrain": {"teacher": "more"}}
    config = with_lasting_paths(config_from_dict(tree))
    assert config.data.labelled == str(tmp_path / "names.txt")
    assert config.data.unlabelled == config.selftrain.teacher == str(tmp_path / "more")
    config = with_lasting_paths(config_from_dict({"data": {"labelled": "1/8", "unlabelled": "rest"}}))
    assert (config.data.labelled, config.data.unlabelled) == ("1/8", "rest")


def test_rest_of_nothing_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="every training image counts as labelled"):
        fit(tiny_config(tmp_path, data={"unlabelled": "rest"}), quiet=True)
    assert not (tmp_path / "run").exists()
