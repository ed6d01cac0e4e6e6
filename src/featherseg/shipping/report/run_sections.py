"""The parts of a training's page: curves, scores, confusion matrix, pictures and settings, as HTML.

Whatever comes from outside (names of classes and runs, settings) is escaped where it enters a text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core import formatting
from ...core.charts import Bar, Curve, Group, bars, curves, heat_map
from ...core.recipes import config_to_toml
from ...evaluation.metrics import dice_of
from .html import heads, keys, number, pictures, swatches, table
from .panels import IGNORED
from .run_figures import HardImage, RunReport

MAX_CLASSES = 24
"""Classes in the first chart of scores. Of more, the worst are in it, and all of them in one to unfold."""
TITLES = {
    "miou": "mIoU",
    "iou": "IoU",
    "dice": "Dice",
    "boundary_f1": "boundary F1",
    "pixel_accuracy": "pixel accuracy",
}
"""What people call scores; others are called as in ``result.json``."""
NO_SCORES = ("params", "gmacs", "best_epoch", "epochs", "protocol", "classes", "matrix", "absent")
"""What else ``result.json`` holds."""

Scores = dict[str, list[float]]
"""Scores by class, 0–1, by name of the score; NaN for a class that does not occur."""


def loss_chart(log: Sequence[Mapping[str, Any]]) -> str:
    """Return the curve of the loss; nothing where no epoch has one."""
    return _curves(log, {"loss": "loss"}, "loss", 1.0)


def score_chart(log: Sequence[Mapping[str, Any]]) -> str:
    """Return the curves of mIoU and pixel accuracy, the best epoch with a ring; nothing where none was evaluated."""
    return _curves(log, {"miou": "mIoU", "pixel_accuracy": "pixel accuracy"}, "%", 100.0, best="miou")


def rate_chart(log: Sequence[Mapping[str, Any]]) -> str:
    """Return the curve of the learning rate at each epoch's end."""
    return _curves(log, {"lr": "learning rate"}, "learning rate", 1.0)


def _curves(
    log: Sequence[Mapping[str, Any]], names: Mapping[str, str], unit: str, factor: float, best: str = ""
) -> str:
    lines = []
    for series, (key, name) in enumerate(names.items(), start=1):
        points = tuple((float(row["epoch"]), factor * row[key]) for row in log if _is_figure(row.get(key)))
        top = max((y for _, y in points), default=0.0)
        marked = next((x for x, y in reversed(points) if y == top), None) if key == best else None
        lines += [Curve(name, points, series, marked)] if points else []
    if not lines:
        return ""
    span = min(row["epoch"] for row in log), max(row["epoch"] for row in log)
    legend = keys([("—", line.series, line.name) for line in lines]) if len(names) > 1 else ""
    return f'{legend}<div class="wide">{curves(lines, "epoch", unit, span)}</div>'


def figures_table(report: RunReport) -> str:
    """Return the scores over all classes, and what the network and its training cost."""
    result, log = report.run["result"] or {}, report.run["log"]
    rows = [
        (_title(key), f"{formatting.percent(value)} %")
        for key, value in result.items()
        if key not in NO_SCORES and _is_figure(value) and 0 <= value <= 1
    ]
    if _is_figure(result.get("params")):
        rows.append(("parameters", f"{result['params'] / 1e6:.2f} M"))
    if _is_figure(result.get("gmacs")):
        size = "x".join(map(str, report.run["config"].augment.crop))
        rows.append((f"multiply-adds at {size}", f"{result['gmacs']:.2f} G"))
    seconds = [row["seconds"] for row in log if _is_figure(row.get("seconds"))]
    rows.append(("training", f"{sum(seconds) / 3600:.2f} hours, {len(log)} epochs"))
    head = "".join(f"<tr><th>{escape(name)}</th>{number(escape(figure))}</tr>" for name, figure in rows)
    return f'<div class="wide"><table>{head}</table></div>'


def class_scores(report: RunReport) -> Scores:
    """Return all scores by class: the best epoch's, from ``result.json`` or, while there is none, from the log."""
    names, result = report.classes.names, report.run["result"]
    scores: Scores = {}
    if result is not None:
        for key, values in result.items():
            is_list = isinstance(values, list) and len(values) == len(names) and key not in NO_SCORES
            if is_list and all(value is None or (_is_figure(value) and 0 <= value <= 1) for value in values):
                scores[_title(key)] = [math.nan if value is None else float(value) for value in values]
    elif evaluated := [row for row in report.run["log"] if _is_figure(row.get("miou"))]:
        best = max(reversed(evaluated), key=lambda row: float(row["miou"]))["iou"]
        scores["IoU"] = [math.nan if best.get(name) is None else float(best[name]) for name in names]
    if "IoU" in scores and "Dice" not in scores:
        rest = {name: values for name, values in scores.items() if name != "IoU"}
        scores = {"IoU": scores["IoU"], "Dice": dice_of(np.asarray(scores["IoU"])).tolist()} | rest
    return scores


def class_chart(report: RunReport) -> str:
    """Return grouped bars of each class's scores, and the same as a table to unfold; nothing where there are none."""
    scores, names = class_scores(report), report.classes.names
    if not scores:
        return ""

    def chart(chosen: Sequence[int]) -> str:
        groups = [
            Group(
                names[i],
                tuple(
                    Bar(100 * values[i], _figure(values[i]), series, f"{names[i]}, {title}: {_figure(values[i])}")
                    for series, (title, values) in enumerate(scores.items(), start=1)
                ),
            )
            for i in chosen
        ]
        return f'<div class="wide">{bars(groups, "%", 100.0)}</div>'

    legend = keys([("▬", series, title) for series, title in enumerate(scores, start=1)])
    everything = range(len(names))
    rows = "".join(
        f'<tr><td class="name">{escape(names[i])}</td>{"".join(number(_figure(v[i])) for v in scores.values())}</tr>'
        for i in everything
    )
    numbers = table(f"<th>class</th>{heads(map(escape, scores))}", rows)
    unfolded = f"<details><summary>as a table</summary>{numbers}</details>"
    if len(names) <= MAX_CLASSES:
        return legend + chart(everything) + unfolded
    first = next(iter(scores.values()))
    worst = sorted(everything, key=lambda i: math.inf if math.isnan(first[i]) else first[i])[:MAX_CLASSES]
    intro = f"<p>The {MAX_CLASSES} worst of {len(names)} classes:</p>"
    rest = f"<details><summary>all {len(names)} classes</summary>{chart(everything)}</details>"
    return f"{legend}{intro}{chart(worst)}{rest}{unfolded}"


def confusion_chart(report: RunReport) -> str:
    """Return the confusion matrix, each row in percent of its class's true pixels; nothing where it is not known."""
    if report.matrix is None:
        return ""
    counts: NDArray[np.int64] = np.asarray(report.matrix, np.int64)
    totals = counts.sum(1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    names = report.classes.names
    titles = [
        [
            f"{true}, taken for {taken}: {100 * share:.1f} %, {count:,} pixels"
            for taken, share, count in zip(names, row, pixels, strict=True)
        ]
        for true, row, pixels in zip(names, shares.tolist(), counts.tolist(), strict=True)
    ]
    return f'<div class="wide">{heat_map(names, shares.tolist(), titles)}</div>'


def progress_strip(report: RunReport) -> str:
    """Return the last best epoch's pictures, and those of epochs before it to unfold."""
    *earlier, last = [
        f"<h3>epoch {epoch}{_score_of(report, epoch)}</h3>"
        f'<img class="strip" src="{escape(address)}" alt="validation pictures after epoch {epoch}">'
        for epoch, address in report.progress
    ]
    if not earlier:
        return last
    return f"{last}<details><summary>{len(earlier)} earlier</summary>{''.join(earlier)}</details>"


def _score_of(report: RunReport, epoch: int) -> str:
    found = (row["miou"] for row in report.run["log"] if row["epoch"] == epoch and _is_figure(row.get("miou")))
    return "".join(f": mIoU {formatting.percent(miou)} %" for miou in found)


def hard_panels(report: RunReport) -> str:
    """Return the worst pictures' panels side by side, with the colours that occur in them."""
    return "".join(_hard_image(report, image) for image in report.hard)


def _hard_image(report: RunReport, image: HardImage) -> str:
    colors = dict(zip(report.classes.names, report.classes.colors, strict=True))
    seen = [(name, colors[name]) for name in image.seen]
    head = f"<h3>{escape(image.name)}: mIoU of this picture {formatting.percent(image.miou)} %</h3>"
    return f"{head}{pictures(image.panels, image.name)}{swatches([*seen, ('ignored', IGNORED)])}"


def settings(report: RunReport) -> str:
    """Return the whole configuration, as in ``config.toml``."""
    return f"<pre>{escape(config_to_toml(report.run['config']))}</pre>"


def environment_table(report: RunReport) -> str:
    """Return seed, machine and versions."""
    env = report.run["env"]
    rows = [("seed", report.run["config"].seed), ("run folder", report.run["folder"])]
    rows += [(key, value) for key, value in env.items() if key != "versions"]
    rows += env.get("versions", {}).items()
    facts = "".join(f"<tr><th>{escape(str(key))}</th><td>{escape(_words(value))}</td></tr>" for key, value in rows)
    return f'<div class="wide"><table>{facts}</table></div>'


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else formatting.DASH if value is None else str(value)


def _title(key: str) -> str:
    name = key.removesuffix("_per_class")
    return TITLES.get(name, name.replace("_", " "))


def _figure(value: float) -> str:
    return formatting.percent(value, absent="absent")


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
