"""Published results, written from run folders: every figure with its protocol, and the learning curve."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..core.config import Config
from ..core.errors import CheckpointError, first_line
from ..core.files import write_atomically
from ..core.formatting import percent
from ..core.recipes import config_from_dict, config_to_dict, config_to_toml, load_config, without_folders
from ..core.text_files import parse_json, read_text, shortened
from .run_groups import Run, by_recipe, fold_suffix, group_name, held_out, runs_in, tell_held_out, trained_on
from .run_log import read_log

CURVE_EPOCHS = (1, 2, 5, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200, 300, 400)
"""Epochs of a printed learning curve; the last epoch and the best are added."""

HEADER = """# Results

Written by `featherseg report` from the run folders; do not edit by hand. Every figure is at the masks' original
resolution, single scale, dataset-level mIoU over the classes that occur. *Folds* come first: each run is judged on
recordings or images that it was not trained on, and the figure is the mean of the folds. Other figures are
of the validation split on which the best epoch was chosen. Runs that differ in their seed alone are one line: mean ±
standard deviation (of the sample). Hours (a run's mean) and images/s are of training, with whatever else the machine
was doing meanwhile.
"""

UNFINISHED = """## Not finished

Runs that go on another time. Their rates have not come down yet, so the curves say less than they will.
"""

MORE_SCORES = {"Dice": "dice", "precision": "precision", "recall": "recall", "clDice": "cldice_per_class"}
"""Scores by class that results of today hold, by their titles."""


def read_run(folder: str | Path) -> Run:
    """Return a run: ``config``, ``env``, ``log`` and ``result``, as its folder holds them.

    ``result`` is None of a run that has finished epochs, but not the last one.

    Raises:
        CheckpointError: no epoch is finished, or a file of it is missing or damaged.
    """
    folder = Path(folder)
    if not (folder / "config.toml").is_file():
        raise CheckpointError(f"{folder} is no run folder: it holds no config.toml")
    if not (folder / "log.jsonl").is_file():
        raise CheckpointError(f"run {folder} is not finished: it lacks log.jsonl")
    try:
        return {
            "folder": folder,
            "config": load_config(folder / "config.toml"),
            "env": parse_json(read_text(folder / "env.json")),
            "log": read_log(folder),
            "result": parse_json(read_text(folder / "result.json")) if (folder / "result.json").is_file() else None,
        }
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(f"run {folder} is not finished: it lacks {Path(error.filename).name}") from error
    except OSError as error:
        raise CheckpointError(f"run {folder} cannot be read ({error.strerror}); check its permissions") from error
    except ValueError as error:
        raise CheckpointError(f"run {folder} has a damaged file: {first_line(error)}") from error


def results_markdown(folders: Iterable[str | Path]) -> str:
    """Return a page of all runs: one table, then each run's classes, curve and recipe; unfinished ones come last.

    A folder of folds stands for the runs in it.

    Raises:
        CheckpointError: a folder is no run, or damaged.
    """
    runs = [read_run(run) for folder in folders for run in runs_in(folder)]
    tell_held_out(runs)
    sections = []
    for group in by_recipe(run for run in runs if run["result"] is not None):
        with damage_named(group):
            score = statistics.fmean(run["result"]["miou"] or 0.0 for run in group)
            order = (group[0]["config"].data.name, not held_out(group), -score)
            details = [f"## {group_name(group)}\n", _protocol(group), _classes(group), _curve(group), _recipe(group[0])]
            sections.append((order, _summary(group), details))
    sections.sort(key=lambda section: section[0])
    columns = (
        *("run", "network", "M params", "GMACs", "data", "judged on", "start", "epochs"),
        *("mIoU", "boundary F1", "hours", "images/s"),
    )
    page = [HEADER, markdown_table(columns, [row for _, row, _ in sections])]
    for _, _, details in sections:
        page += details
    unfinished = [run for run in runs if run["result"] is None]
    if unfinished:
        page.append(UNFINISHED)
        for run in unfinished:
            with damage_named([run]):
                page.append(_so_far(run))
    return "\n".join(page)


def write_results(folders: Iterable[str | Path], path: str | Path) -> Path:
    """Write :func:`results_markdown`'s page to `path`."""
    text = results_markdown(folders)
    return write_atomically(Path(path), lambda file: file.write(text.encode()))


def write_scores(folders: Iterable[str | Path], path: str | Path) -> Path:
    """Write the best finished run of each network and dataset as JSON: ``{network: {dataset: {miou, …}}}``.

    Raises:
        CheckpointError: a folder is no run, or damaged.
    """
    best: dict[str, dict[str, dict[str, Any]]] = {}
    for run in (read_run(run) for folder in folders for run in runs_in(folder)):
        result, config = run["result"], run["config"]
        if result is None or result["miou"] is None:
            continue
        datasets = best.setdefault(config.model.name, {})
        if result["miou"] > datasets.get(config.data.name, {"miou": -1.0})["miou"]:
            protocol = {key: result["protocol"][key] for key in ("split", "images", "resolution")}
            figures = {key: round(result[key], 4) for key in ("miou", "boundary_f1")}
            datasets[config.data.name] = {"run": config.name, **figures, "start": _start(config), **protocol}
    text = json.dumps({name: best[name] for name in sorted(best)}, indent=1) + "\n"
    return write_atomically(Path(path), lambda file: file.write(text.encode()))


@contextmanager
def damage_named(group: Sequence[Run]) -> Iterator[None]:
    """Turn what files of any content do to a page into one line that says whose they are."""
    try:
        yield
    except CheckpointError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        reason = f"{type(error).__name__}: {shortened(first_line(error), 200)}"
        where = ", ".join(str(run["folder"]) for run in group)
        raise CheckpointError(f"run {where} has a damaged file: {reason}") from error


def _summary(group: Sequence[Run]) -> tuple[str, ...]:
    config, result, folds = group[0]["config"], group[0]["result"], held_out(group)
    size = "x".join(map(str, config.augment.crop))
    hours = statistics.fmean(sum(row["seconds"] for row in run["log"]) / 3600 for run in group)
    speed = statistics.median(row["images_per_second"] for run in group for row in run["log"])
    return (
        group_name(group),
        config.model.name,
        f"{result['params'] / 1e6:.2f}",
        f"{result['gmacs']:.2f} at {size}",
        f"{result['protocol']['dataset']}",
        _judged_on(group) or f"{result['protocol']['split']}",
        _start(config, fold_suffix(group[0]) if folds else ""),
        f"{max(run['result']['epochs'] for run in group)}",
        (_mean if folds else spread)([run["result"]["miou"] for run in group]),
        (_mean if folds else spread)([run["result"]["boundary_f1"] for run in group]),
        f"{hours:.2f}",
        f"{speed:.1f}",
    )


def _judged_on(group: Sequence[Run]) -> str:
    folds = held_out(group)
    kind = "folds by recording" if group[0]["config"].data.name != "fold" else "folds"
    return f"{len(folds)} {kind}" if len(folds) > 1 else "".join(folds)


def _start(config: Config, fold: str = "") -> str:
    """Return in a word or two what the weights started from, and who taught; the end of a fold's name is left out."""
    words = "scratch"
    if config.model.starts:
        words = " + ".join(Path(start).name for start in config.model.starts)
    elif config.model.options.get("encoder_weights") or config.model.options.get("pretrained"):
        words = "ImageNet encoder"
    if config.train.start_share:
        words += f" ({config.train.start_share:.0%} kept)"
    if teachers := [Path(source).name for source in config.distill.teachers]:
        words += f", teacher{'s' * (len(teachers) > 1)} {' + '.join(teachers)}"
    return words.replace(fold, "") if fold else words


def _protocol(group: Sequence[Run]) -> str:
    config, env, protocol = group[0]["config"], group[0]["env"], group[0]["result"]["protocol"]
    versions = ", ".join(f"{name} {version}" for name, version in env["versions"].items())
    where = env["gpu"] or f"{env['cpu']}, threads: {env['threads']}"
    plural = "s" * (len(group) > 1)
    seeds = sorted({run["config"].seed for run in group})
    if folds := held_out(group):
        judged = "; ".join(
            f"{fold}, {run['result']['protocol']['images']} images, trained on {trained_on(run)}"
            for fold, run in zip(folds, group, strict=True)
        )
        unseen = "images" if config.data.name == "fold" else "recordings"
        data = f"{protocol['dataset']}, judged on {unseen} never trained on ({judged}), {protocol['resolution']}"
    else:
        data = f"{protocol['dataset']} {protocol['split']}, {protocol['images']} images, {protocol['resolution']}"
        data += f"; trained on the {config.data.train_split} split"
    return (
        f"{data}; "
        f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}; "
        f"{f'weights averaged with decay {config.train.ema}' if config.train.ema else 'weights not averaged'}; "
        f"{'epoch' if _last_alone(group) else 'best epoch'}{plural} "
        f"{', '.join(str(run['result']['best_epoch']) for run in group)}; "
        f"{where}; {versions}.\n"
    )


def _last_alone(group: Sequence[Run]) -> bool:
    """Return whether nothing was chosen: the last epoch alone was scored."""
    return all(sum("miou" in row for row in run["log"]) == 1 for run in group)


def _classes(group: Sequence[Run]) -> str:
    results = [run["result"] for run in group]
    rows = []
    for title, key in (("IoU", "iou"), ("boundary F1", "boundary_f1_per_class")):
        if folds := held_out(group):
            mean = key.replace("iou", "miou").removesuffix("_per_class")
            for fold, result in zip(folds, results, strict=True):
                rows.append((f"{title}, {fold}", percent(result[mean]), *(percent(value) for value in result[key])))
        else:
            columns = zip(*(result[key] for result in results), strict=True)
            rows.append((title, *(spread(value) for value in columns)))
    if not held_out(group):
        for title, key in MORE_SCORES.items():
            if all(key in result for result in results):  # runs of 0.1 have none of them
                scores = list(zip(*(result[key] for result in results), strict=True))
                if any(value is not None for by_run in scores for value in by_run):
                    rows.append((title, *map(spread, scores)))
    means = ("mean",) if held_out(group) else ()
    return markdown_table(("", *means, *results[0]["classes"]["names"]), rows)


def _curve(group: Sequence[Run]) -> str:
    if _last_alone(group):
        return ""
    curves = [{row["epoch"]: row["miou"] for row in run["log"] if "miou" in row} for run in group]
    epochs = set().union(*curves)
    shown = sorted(
        {e for e in epochs if e in CURVE_EPOCHS} | {max(epochs)} | {run["result"]["best_epoch"] for run in group}
    )
    rows = []
    for run, curve in zip(group, curves, strict=True):
        title = "val mIoU" if len(group) == 1 else f"val mIoU, seed {run['config'].seed}"
        rows.append((title, *(percent(curve.get(epoch)) for epoch in shown)))
    return markdown_table(("epoch", *map(str, shown)), rows)


def _so_far(run: Run) -> str:
    """Return what is known of an unfinished run: how far it is, and its curve."""
    config, log = run["config"], run["log"]
    scored = {row["epoch"]: row["miou"] for row in log if "miou" in row}
    if not scored:
        raise CheckpointError(f"run {run['folder']} is not finished: it has no scored epoch")
    best = max(scored, key=lambda epoch: scored[epoch])
    shown = sorted({epoch for epoch in scored if epoch in CURVE_EPOCHS} | {max(scored), best})
    hours = sum(row["seconds"] for row in log) / 3600
    head = (
        f"### {config.name}\n\n{config.model.name} on {config.data.name} {config.data.val_split}, {_start(config)}; "
        f"epoch {max(scored)} of {config.train.epochs}, {hours:.2f} hours, best so far {percent(scored[best])}.\n\n"
    )
    return head + markdown_table(("epoch", *map(str, shown)), [("val mIoU", *(percent(scored[e]) for e in shown))])


def _recipe(run: Run) -> str:
    recipe = config_to_toml(config_from_dict(without_folders(config_to_dict(run["config"]))))
    return f"<details><summary>recipe</summary>\n\n```toml\n{recipe}```\n\n</details>\n"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [columns, ("---",) * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _mean(fractions: Iterable[float | None]) -> str:
    """Return the mean in percent of what is known."""
    known = [value for value in fractions if value is not None]
    return percent(statistics.fmean(known) if known else None)


def spread(fractions: Sequence[float | None]) -> str:
    """Return the mean in percent, of several runs with their standard deviation."""
    known = [value for value in fractions if value is not None]
    if len(known) < 2:
        return percent(known[0] if known else None)
    return f"{percent(statistics.fmean(known))} ± {percent(statistics.stdev(known))}"
