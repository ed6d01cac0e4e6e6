"""A training as one HTML file that needs nothing beside it: how it learnt, what it can, and how it was done."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from ...core.files import write_atomically
from ...core.formatting import command, percent
from ...training.results import damage_named
from . import run_sections as sections
from .html import document, section
from .run_figures import RunReport


def write_run_page(report: RunReport, path: str | Path) -> Path:
    """Write the page, whole or not at all.

    Raises:
        CheckpointError: a file of the run folder holds what no training writes.
    """
    with damage_named([report.run]):
        page = render(report).encode("utf-8", "replace")
    return write_atomically(Path(path), lambda file: file.write(page))


def render(report: RunReport) -> str:
    """Return the page; what is not known is left out, and the notes say why."""
    log = report.run["log"]
    rules = _rules(report)
    parts = [_head(report), section("Figures", sections.figures_table(report), rules)]
    for title, body, caption in (
        ("Loss", sections.loss_chart(log), "Mean over an epoch's steps, as the recipe weighs its terms."),
        ("Scores by epoch", sections.score_chart(log), f"{rules} The ring is the best epoch, which is kept."),
        ("Learning rate", sections.rate_chart(log), "At each epoch's end."),
        ("Scores by class", sections.class_chart(report), rules),
        (
            "Confusion matrix",
            sections.confusion_chart(report),
            "Each row in percent of its class's true pixels. The diagonal is right; colours go by the root of a share.",
        ),
    ):
        if body:
            parts.append(section(title, body, caption))
    if report.progress:
        caption = "The same validation pictures each time, chosen so that they show many classes."
        parts.append(section("Seeing it learn", sections.progress_strip(report), caption))
    if report.hard:
        caption = "Validation pictures with the lowest mIoU of their own, over the classes that occur in each."
        parts.append(section("Worst pictures", sections.hard_panels(report), caption))
    parts.append(section("Settings", sections.settings(report)))
    parts.append(section("Environment", sections.environment_table(report)))
    return document(f"{report.run['config'].name}: training", parts)


def _head(report: RunReport) -> str:
    config, log, result = report.run["config"], report.run["log"], report.run["result"]
    scored = {row["epoch"]: row["miou"] for row in log if row.get("miou") is not None}
    best = max(reversed(scored), key=lambda epoch: float(scored[epoch]), default=0)
    done = max((row["epoch"] for row in log), default=0)
    if result is not None:
        style, mark = "good", "✓"
        words = f"finished after {result['epochs']} epochs; best epoch {result['best_epoch']}"
        words += f", mIoU {percent(result['miou'])} %"
    else:
        style, mark = "warn", "!"
        words = f"not finished: {done} of {config.train.epochs} epochs so far"
        words += f"; best epoch {best}, mIoU {percent(scored[best])} %" if best else ", none of them evaluated"
        go_on = command("train", "--resume", report.run["folder"])
        words += f". It is still training, or was stopped: {go_on} goes on"
    about = f"{config.model.name} · {len(report.classes)} classes · {config.data.name}"
    notes = "".join(f'<p class="soft">{escape(note)}</p>' for note in report.notes)
    return (
        f'<header><h1>{escape(config.name)}</h1><p><b class="{style}">{mark} {escape(words)}</b></p>'
        f'<p class="soft">{escape(about)}</p>{notes}</header>'
    )


def _rules(report: RunReport) -> str:
    """Return the rules that all scores share as one line."""
    config = report.run["config"]
    protocol: dict[str, Any] = (report.run["result"] or {}).get("protocol", {})
    if not protocol:
        return f"{config.data.name} {config.data.val_split}, the masks' own resolution, single scale."
    return (
        f"{protocol['dataset']} {protocol['split']}, {protocol['images']} images, {protocol['resolution']}, single "
        f"scale; {protocol['rule']}."
    )
