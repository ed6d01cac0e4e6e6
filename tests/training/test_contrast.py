"""Data in which nothing can be told apart, and scores of one class: refused or said, before an epoch is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Ended, error_line
from featherseg.core.config import Config
from featherseg.core.errors import DataError
from featherseg.core.recipes import config_from_dict, config_to_dict
from featherseg.data.datasets import create_dataset
from featherseg.evaluation.metrics import ConfusionMatrix
from featherseg.evaluation.result import EvalResult
from featherseg.evaluation.scores import protocol
from featherseg.training.fit import fit, resume_run
from featherseg.training.run_folder import read_log
from featherseg.training.trainer import Trainer
from trainings import tiny_config

Masks = Callable[[int], np.ndarray]


def box(i: int, value: int = 1, ground: int = 0) -> np.ndarray:
    mask = np.full((64, 64), ground, np.uint8)
    mask[10 : 30 + i, 10:40] = value
    return mask


def blank(i: int, value: int = 255) -> np.ndarray:
    return np.full((64, 64), value, np.uint8)


def folder(root: Path, train: Masks, val: Masks, classes: str) -> Path:
    for split, count, masks in (("train", 6, train), ("val", 2, val)):
        for i in range(count):
            for part in ("images", "masks"):
                (root / part / split).mkdir(parents=True, exist_ok=True)
            mask = masks(i)
            Image.fromarray(np.stack([mask * 90 + 40] * 3, axis=-1).astype(np.uint8)).save(
                root / "images" / split / f"{i}.png"
            )
            Image.fromarray(mask).save(root / "masks" / split / f"{i}.png")
    (root / "classes.toml").write_text(classes)
    return root


def config_for(root: Path, out: Path, epochs: int = 1) -> Config:
    data = {"name": "folder", "root": str(root), "options": {}}
    return tiny_config(out, data=data, augment={"crop": [64, 64]}, train={"epochs": epochs})


TWO = 'names = ["background", "road"]\n'


@pytest.mark.parametrize(
    ("train", "val", "classes", "words"),
    [
        (blank, box, TWO, "no pixel of the 6 training masks is labelled"),
        (box, blank, TWO, "no pixel of the 2 validation masks is labelled"),
        (lambda i: box(i, 255), box, TWO, "ids = [0, 255] in classes.toml"),
        (lambda i: blank(i, 1), box, TWO, "hold no class but 'road', so that there is nothing to tell apart"),
        (lambda i: box(i, 0, 255), lambda i: box(i, 0, 255), 'names = ["road"]\n', "'road' is the only class"),
    ],
)
def test_nothing_to_tell_apart_is_refused_before_an_epoch(
    tmp_path: Path, train: Masks, val: Masks, classes: str, words: str
) -> None:
    root = folder(tmp_path / "data", train, val, classes)
    assert words in error_line(DataError, fit, config_for(root, tmp_path / "runs"), quiet=True)
    assert not list((tmp_path / "runs").glob("*/config.toml"))


def test_all_masks_are_looked_at_before_a_training_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featherseg.data.class_counts.LIMIT", 2)
    root = folder(tmp_path / "data", lambda i: box(i, 1 if i == 3 else 0), box, TWO)
    config = config_for(root, tmp_path / "runs")
    tree = config_to_dict(config)
    tree["data"]["cache"] = False
    assert fit(config_from_dict(tree), quiet=True).epochs == 1


def test_a_val_split_of_one_class_is_warned_of_and_its_mean_says_so(tmp_path: Path, run: Callable[..., Ended]) -> None:
    root = folder(tmp_path / "data", box, lambda i: blank(i, 0), TWO)
    settings = (f"data.root={root}", f"out={tmp_path}", "model.name=jetnet", "augment.crop=[64,64]", "data.workers=0")
    ended = run("train", *settings, "train.epochs=1", "train.device=cpu", "data.batch_size=3")
    assert ended.code == 0, ended.err
    assert "warning: the 2 validation masks hold background alone" in ended.err


def test_a_mean_over_one_class_is_never_given_without_a_word(street_folder: Path) -> None:
    dataset = create_dataset("folder", street_folder, "all")
    confusion = ConfusionMatrix(dataset.classes)
    confusion.update(np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8))
    alone = EvalResult.from_metrics(confusion, None, protocol(dataset))
    assert alone.miou == 1
    assert "the mean is of sky alone" in alone.summary()
    assert "only sky" in str(alone)
    confusion.update(np.ones((4, 4), np.uint8), np.zeros((4, 4), np.uint8))
    assert "alone" not in EvalResult.from_metrics(confusion, None, protocol(dataset)).summary()


def test_of_equal_epochs_the_later_is_kept_and_patience_still_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Trainer._score

    def same(self: Trainer, *words: object, **options: object) -> EvalResult:
        result = whole(self, *words, **options)  # type: ignore[arg-type]
        object.__setattr__(result, "miou", 0.5)
        return result

    monkeypatch.setattr(Trainer, "_score", same)
    assert fit(tiny_config(tmp_path, "ties"), quiet=True).best_epoch == 3
    patient = tiny_config(tmp_path, "patient", train={"epochs": 9, "patience": 2})
    result = fit(patient, quiet=True)
    assert (result.epochs, result.best_epoch) == (3, 3)
    assert resume_run(tmp_path / "patient", quiet=True).epochs == 3
    assert len(read_log(tmp_path / "patient")) == 3
