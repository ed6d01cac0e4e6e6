"""Cross-validation: one training for each fold of the labelled images, in one folder, with mean and spread.

A fold is a run like any other, whose recipe names the dataset kind ``fold``: it can be evaluated, exported and resumed
by itself. Here is only what holds them together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..core.config import Config
from ..core.errors import CheckpointError, ConfigError, FeathersegError, first_line
from ..core.files import write_atomically
from ..core.formatting import percent, quoted
from ..core.lock import folder_lock
from ..core.progress import logger
from ..core.recipes import config_from_dict, config_to_dict
from ..core.text_files import parse_json, read_text
from ..core.types import ClassSet
from ..data.class_maps import open_mapped
from ..data.datasets import SegmentationDataset
from ..evaluation.metrics import ConfusionMatrix, FloatArray, dice_of, mean_of
from .failures import go_on
from .fit import fit, with_lasting_paths, with_pruned_start
from .results import markdown_table, read_run, spread
from .run_folder import RunFolder
from .run_groups import FOLDS_FILE

PAGE = "folds.md"

NOTE = (
    "mean ± standard deviation (of the sample) over the folds; together: one matrix of all folds, each image judged "
    "once by the network that never saw it"
)
CHOSEN = "the best epoch was chosen on the fold that it is judged on; train.eval_every={epochs} judges the last alone"


@dataclass(frozen=True)
class FoldsResult:
    """What the trainings of all folds ended with.

    Args:
        path: the folder of all.
        results: ``result.json`` of each fold, in order.
        rows: of the table: a title, a text for each fold, mean ± standard deviation, and all folds together.
        note: what is to be known beside it.
    """

    path: Path
    results: tuple[dict[str, Any], ...]
    rows: tuple[tuple[str, ...], ...]
    note: str

    @property
    def columns(self) -> tuple[str, ...]:
        """Titles of the table's columns."""
        return ("", *(f"fold {k}" for k in range(1, len(self.results) + 1)), "mean ± sd", "together")

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as JSON types: by fold, their mean and standard deviation, in 0–1."""
        scores: dict[str, Any] = {"run": str(self.path), "folds": len(self.results)}
        for key in ("miou", "mean_dice", "boundary_f1", "cldice"):
            values = [result[key] for result in self.results]
            known = [value for value in values if value is not None]
            scores[key] = {
                "by_fold": values,
                "mean": float(np.mean(known)) if known else None,
                "sd": float(np.std(known, ddof=1)) if len(known) > 1 else None,
            }
        together = _iou(self.results)
        scores["iou_together"] = [None if np.isnan(value) else float(value) for value in together]
        scores["miou_together"] = mean_of(together)
        return scores

    def __str__(self) -> str:
        return f"{markdown_table(self.columns, self.rows)}\n{self.note}; run folder {self.path}"


def fit_folds(config: Config, folds: int, *, quiet: bool = False) -> FoldsResult:
    """Train once for each fold of the training and validation images together, and leave a folder of run folders.

    Args:
        config: the run; ``data.options.group`` says what of the images' names stays together, see
            :func:`featherseg.data.readers.fold.fold`.
        folds: how many, from 2 to the number of groups.
        quiet: show no progress.

    Raises:
        ConfigError: there are not 2 folds or more, or the folder holds a run already.
        DataError: there are fewer groups than folds.
        FeathersegError: as :func:`featherseg.training.fit.fit`.
    """
    if folds < 2:
        raise ConfigError(f"folds is {folds}; give 2 or more")
    path = Path(config.out) / config.name
    if (path / FOLDS_FILE).exists():
        raise ConfigError(
            f"{path} holds folds already; go on with them by --resume {quoted(path)}, or choose another name or out"
        )
    RunFolder(path).require_new()
    config = with_lasting_paths(with_pruned_start(config))
    # Refuses what cannot be divided before anything is written.
    sets = [_open(fold_config(config, k, folds)) for k in range(1, folds + 1)]
    images = [[dataset.stem(i) for i in range(len(dataset))] for dataset in sets]
    with folder_lock(path):
        plan = {"folds": folds, "config": config_to_dict(config), "images": images}
        _write(path / FOLDS_FILE, json.dumps(plan, indent=1))
        return _train(path, config, folds, quiet)


def resume_folds(folder: str | Path, *, quiet: bool = False) -> FoldsResult:
    """Go on with folds where they stopped: finished ones stay, the one that was begun is resumed, the rest is trained.

    Args:
        folder: of all folds; it may have been moved.
        quiet: show no progress.

    Raises:
        CheckpointError: it holds no folds, or its ``folds.json`` is damaged.
    """
    path = Path(folder)
    if not holds_folds(path):
        raise CheckpointError(f"{path} is no folder of folds: it holds no {FOLDS_FILE}")
    try:
        plan = parse_json(read_text(path / FOLDS_FILE, 64 << 20))
        config, folds = config_from_dict(plan["config"]), int(plan["folds"])
    except (ValueError, KeyError, TypeError, FeathersegError) as error:
        raise CheckpointError(f"{path / FOLDS_FILE} is damaged ({first_line(error)}); restore it") from error
    config = msgspec.structs.replace(config, out=str(path.parent), name=path.name)
    with folder_lock(path):
        return _train(path, config, folds, quiet)


def holds_folds(folder: str | Path) -> bool:
    """Return whether a folder is one of folds."""
    return (Path(folder) / FOLDS_FILE).is_file()


def fold_config(config: Config, fold: int, folds: int) -> Config:
    """Return the recipe of one fold, from 1: a run in the folder of all."""
    data, change = config.data, msgspec.structs.replace
    own = {key: value for key, value in data.options.items() if key != "group"}
    options = {
        "of": data.name,
        "fold": fold,
        "folds": folds,
        "seed": config.seed,
        "group": data.options.get("group", ""),
        "splits": [data.train_split, data.val_split],
        "options": own,
    }
    data = change(data, name="fold", train_split="train", val_split="val", options=options)
    return change(config, name=f"fold_{fold}", out=str(Path(config.out) / config.name), data=data)


def _open(config: Config) -> SegmentationDataset:
    data = config.data
    return open_mapped(data.name, data.root, data.val_split, data.classes, **data.options)


def _train(path: Path, config: Config, folds: int, quiet: bool) -> FoldsResult:
    for k in range(1, folds + 1):
        run = RunFolder(path / f"fold_{k}")
        if (run.path / "result.json").is_file():
            continue
        logger.info(f"fold {k} of {folds}")
        with _told(path):
            fit(fold_config(config, k, folds), resume=(run.path / "config.toml").is_file(), quiet=quiet)
    result = _collect(path, config, folds)
    plan = parse_json(read_text(path / FOLDS_FILE, 64 << 20))
    _write(path / FOLDS_FILE, json.dumps({**plan, "scores": result.to_dict() | {"run": path.name}}, indent=1))
    _write(path / PAGE, f"# {path.name}\n\n{markdown_table(result.columns, result.rows)}\n{result.note}.\n")
    return result


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say how to go on with all folds where one of them stops; how to go on with that one alone is said there."""
    try:
        yield
    except BaseException:
        logger.warning(f"for all folds {go_on(path)}")
        raise


def _collect(path: Path, config: Config, folds: int) -> FoldsResult:
    """Read the results of all folds and put them into a table."""
    runs = [read_run(path / f"fold_{k}") for k in range(1, folds + 1)]
    results = tuple(run["result"] for run in runs)
    together = _iou(results)
    names = results[0]["classes"]["names"]

    def row(title: str, values: list[float | None], all_in_one: float = float("nan")) -> tuple[str, ...]:
        return (title, *map(percent, values), spread(values), percent(all_in_one))

    rows = [row("mIoU", [r["miou"] for r in results], mean_of(together))]
    rows.append(row("Dice", [r["mean_dice"] for r in results], mean_of(dice_of(together))))
    if any(result["cldice"] is not None for result in results):
        rows.append(row("clDice", [r["cldice"] for r in results]))
    rows.append(row("boundary F1", [r["boundary_f1"] for r in results]))
    rows += [row(f"IoU {name}", [r["iou"][c] for r in results], together[c]) for c, name in enumerate(names)]
    chosen = any(sum("miou" in line for line in run["log"]) > 1 for run in runs)
    note = "; ".join([NOTE, *[CHOSEN.format(epochs=config.train.epochs)] * chosen])
    return FoldsResult(path, results, tuple(rows), note)


def _iou(results: tuple[dict[str, Any], ...]) -> FloatArray:
    """Return the IoU by class of all folds' pixels together (C,); NaN for a class that does not occur."""
    confusion = ConfusionMatrix(ClassSet(tuple(results[0]["classes"]["names"])))
    for result in results:
        confusion.matrix += np.asarray(result["matrix"], np.int64)
    return confusion.iou()


def _write(file: Path, text: str) -> None:
    write_atomically(file, lambda out: out.write(text.encode()))
