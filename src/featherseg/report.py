"""Published results, written from run folders: every figure with its protocol, and the learning curve."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .config import config_from_dict, config_to_dict, config_to_toml, load_config
from .errors import CheckpointError, first_line
from .images import write_atomically

CURVE_EPOCHS = (1, 2, 5, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200, 300, 400)
"""Epochs of a printed learning curve; the last epoch and the best are added."""

HEADER = """# Results

Written by `featherseg report` from the run folders; do not edit by hand. Every figure is of the split the best epoch
was chosen on, at the masks' original resolution, single scale, dataset-level mIoU over the classes that occur.
Hours and images/s are of training, with whatever else the machine was doing meanwhile.
"""


def read_run(folder: str | Path) -> dict[str, Any]:
    """Return a finished run: ``config``, ``env``, ``log`` and ``result``, as its folder holds them.

    Raises:
        CheckpointError: the run is not finished, or a file of it is missing or damaged.
    """
    folder = Path(folder)
    if not (folder / "config.toml").is_file():
        raise CheckpointError(f"{folder} is no run folder: it holds no config.toml")
    try:
        return {
            "folder": folder,
            "config": load_config(folder / "config.toml"),
            "env": json.loads((folder / "env.json").read_text(encoding="utf-8")),
            "log": [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()],
            "result": json.loads((folder / "result.json").read_text(encoding="utf-8")),
        }
    except FileNotFoundError as error:
        raise CheckpointError(f"run {folder} is not finished: it lacks {Path(error.filename).name}") from error
    except ValueError as error:
        raise CheckpointError(f"run {folder} has a damaged file: {first_line(error)}") from error


def results_markdown(folders: Iterable[str | Path]) -> str:
    """Return a page of all runs: one table, then each run's classes, curve and recipe.

    Raises:
        CheckpointError: a run is not finished.
    """
    sections = []
    for run in map(read_run, folders):
        try:
            order = (run["config"].data.name, -(run["result"]["miou"] or 0.0))
            details = [f"## {run['config'].name}\n", _protocol(run), _classes(run), _curve(run), _recipe(run)]
            sections.append((order, _summary(run), details))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise CheckpointError(f"run {run['folder']} has a damaged file: {reason}") from error
    sections.sort(key=lambda section: section[0])
    columns = ("run", "network", "M params", "GMACs", "data", "epochs", "val mIoU", "boundary F1", "hours", "images/s")
    page = [HEADER, _table(columns, [row for _, row, _ in sections])]
    for _, _, details in sections:
        page += details
    return "\n".join(page)


def write_results(folders: Iterable[str | Path], path: str | Path) -> Path:
    """Write :func:`results_markdown`'s page to `path`."""
    text = results_markdown(folders)
    return write_atomically(Path(path), lambda file: file.write(text.encode()))


def _summary(run: dict[str, Any]) -> tuple[str, ...]:
    config, result, log = run["config"], run["result"], run["log"]
    size = "x".join(map(str, config.augment.crop))
    hours = sum(row["seconds"] for row in log) / 3600
    speed = sorted(row["images_per_second"] for row in log)[len(log) // 2]
    return (
        config.name,
        config.model.name,
        f"{result['params'] / 1e6:.2f}",
        f"{result['gmacs']:.2f} at {size}",
        result["protocol"]["dataset"],
        f"{result['epochs']}",
        _percent(result["miou"]),
        _percent(result["boundary_f1"]),
        f"{hours:.2f}",
        f"{speed:.1f}",
    )


def _protocol(run: dict[str, Any]) -> str:
    config, env, protocol = run["config"], run["env"], run["result"]["protocol"]
    versions = ", ".join(f"{name} {version}" for name, version in env["versions"].items())
    where = env["gpu"] or f"{env['cpu']}, threads: {env['threads']}"
    return (
        f"{protocol['dataset']} {protocol['split']}, {protocol['images']} images, {protocol['resolution']}; "
        f"trained on the {config.data.train_split} split; seed {config.seed}; "
        f"{f'weights averaged with decay {config.train.ema}' if config.train.ema else 'weights not averaged'}; "
        f"best epoch {run['result']['best_epoch']}; "
        f"{where}; {versions}.\n"
    )


def _classes(run: dict[str, Any]) -> str:
    result = run["result"]
    names = result["classes"]["names"]
    rows = [
        ("IoU", *(_percent(value) for value in result["iou"])),
        ("boundary F1", *(_percent(value) for value in result["boundary_f1_per_class"])),
    ]
    return _table(("", *names), rows)


def _curve(run: dict[str, Any]) -> str:
    scored = {row["epoch"]: row["miou"] for row in run["log"] if "miou" in row}
    shown = sorted({e for e in scored if e in CURVE_EPOCHS} | {max(scored), run["result"]["best_epoch"]})
    return _table(("epoch", *map(str, shown)), [("val mIoU", *(_percent(scored[epoch]) for epoch in shown))])


def _recipe(run: dict[str, Any]) -> str:
    recipe = config_to_toml(config_from_dict(_portable(config_to_dict(run["config"]))))
    return f"<details><summary>recipe</summary>\n\n```toml\n{recipe}```\n\n</details>\n"


def _portable(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration whose paths are names alone: folders of one machine say nothing on another."""

    def names(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: names(value) for key, value in node.items()}
        return Path(node).name if isinstance(node, str) and ("/" in node or "\\" in node) else node

    portable: dict[str, Any] = names(tree)
    return portable


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _percent(fraction: float | None) -> str:
    return "–" if fraction is None else f"{100 * fraction:.1f}"
