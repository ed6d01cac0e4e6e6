"""Cross-validation: every fold a run of its own, a table of all, and going on after a stop."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import TINY, Ended, error_line
from featherseg.core.config import Config
from featherseg.core.errors import CheckpointError, ConfigError, DataError
from featherseg.training import folds as folds_module
from featherseg.training.fit import fit
from featherseg.training.folds import fit_folds, fold_config, holds_folds, resume_folds
from featherseg.training.results import spread
from trainings import tiny_config


def small(out: Path, **train: Any) -> Config:
    return tiny_config(
        out, data={"options": {"count": 4, "val_count": 4, "size": [64, 96]}}, train={"epochs": 1, **train}
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("folds")
    return fit_folds(small(out), 2, quiet=True).path


def test_what_is_left_behind(whole: Path) -> None:
    plan = json.loads((whole / "folds.json").read_text())
    assert [len(names) for names in plan["images"]] == [4, 4]
    results = [json.loads((whole / f"fold_{k}" / "result.json").read_text()) for k in (1, 2)]
    assert plan["scores"]["miou"]["by_fold"] == [result["miou"] for result in results]
    assert plan["scores"]["miou"]["mean"] == pytest.approx(np.mean([result["miou"] for result in results]))
    page = (whole / "folds.md").read_text()
    assert f"| mIoU | {100 * results[0]['miou']:.1f} |" in page
    assert spread([result["miou"] for result in results]) in page
    matrix = np.sum([result["matrix"] for result in results], axis=0)
    iou = np.diagonal(matrix) / np.maximum(matrix.sum(0) + matrix.sum(1) - np.diagonal(matrix), 1)
    assert plan["scores"]["iou_together"][0] == pytest.approx(iou[0])


def test_a_fold_is_a_run_like_any_other(whole: Path, tmp_path: Path, run: Callable[..., Ended]) -> None:
    alone = fit(fold_config(small(tmp_path), 2, 2), quiet=True)
    ours = json.loads((whole / "fold_2" / "result.json").read_text())
    assert ours["matrix"] == alone.best.matrix.tolist()
    scored = run("eval", whole / "fold_2", "-q", "--json")
    assert scored.code == 0
    assert scored.json["protocol"]["images"] == 4
    np.testing.assert_allclose(scored.json["miou"], ours["miou"], atol=1e-3)


def test_it_goes_on_where_it_stopped(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = folds_module.fit

    def stopped(config: Config, **options: Any) -> Any:
        if config.name == "fold_2":
            raise KeyboardInterrupt
        return real(config, **options)

    monkeypatch.setattr(folds_module, "fit", stopped)
    with caplog.at_level(logging.WARNING, "featherseg"), pytest.raises(KeyboardInterrupt):
        fit_folds(small(tmp_path), 2, quiet=True)
    path = tmp_path / "run"
    assert f"for all folds go on with: featherseg train --resume {path}" in caplog.text
    assert holds_folds(path)
    done = (path / "fold_1" / "result.json").stat().st_mtime_ns
    monkeypatch.undo()
    result = resume_folds(path, quiet=True)
    assert (path / "fold_1" / "result.json").stat().st_mtime_ns == done
    theirs = [json.loads((whole / f"fold_{k}" / "result.json").read_text()) for k in (1, 2)]
    assert [r["matrix"] for r in result.results] == [r["matrix"] for r in theirs]


def test_mistakes(whole: Path, tmp_path: Path) -> None:
    assert "--resume" in error_line(ConfigError, fit_folds, small(whole.parent), 2)
    assert "folds is 1; give 2 or more" in error_line(ConfigError, fit_folds, small(tmp_path), 1)
    assert "make no 9 folds" in error_line(DataError, fit_folds, small(tmp_path), 9)
    assert not (tmp_path / "run").exists()
    assert "holds no folds.json" in error_line(CheckpointError, resume_folds, tmp_path)
    (tmp_path / "folds.json").write_text('{"folds": 2}')
    assert "is damaged" in error_line(CheckpointError, resume_folds, tmp_path)


def test_the_command(tmp_path: Path, run: Callable[..., Ended]) -> None:
    ended = run("train", *TINY, f"out={tmp_path}", "name=cv", "--folds", "2", "-q", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["folds"] == 2
    again = run("train", "--resume", tmp_path / "cv", "-q")
    assert again.code == 0, again.err
    assert "mean ± sd" in again.out
    assert run("train", "--resume", tmp_path / "cv", "train.epochs=3").refused("leave other settings out")
    assert run("train", *TINY, "--folds", "2", "--resume", tmp_path / "cv").refused("leave one of them out")
    assert run("train", *TINY, "--folds", "1").refused("folds is 1")
