"""The parts of the report's page: tables and charts of its figures, and the worst images, as HTML.

Whatever comes from outside (names of classes, files, steps) is escaped where it enters a text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from string import ascii_uppercase
from typing import Any

import numpy as np

from ...core import formatting
from ...core.charts import Bar, Group, Point, bars, scatter
from ...evaluation.metrics import dice_of, mean_of
from .figures import LATENCY_PARTS, ShippedFile, ShipReport, Step, WorstImage
from .html import heads, key, keys, number, pictures, swatches, table
from .panels import IGNORED
from .reliability import calibration_table, reliability_diagram
from .worst import DIFFERENCES

MAX_CLASSES = 24
"""Classes in the first chart of IoU. Of more, those that lose most are in it, and all of them in one to unfold."""

_MARKS = (
    "● file that passed · ○ step · ◎ fp32 baseline, with dotted lines to both axes · ✕ failed or rolled back · "
    "dashed: front of the best, left of and above which nothing was measured"
)


def files_table(report: ShipReport) -> str:
    """Return the table of files with their verdicts."""
    if not report.files:
        return "<p>No file came out.</p>"
    figures = ("size", "mIoU", "boundary F1", "agreement", "logit error", "net ms", "total ms", "of twin")
    head = f"<th></th><th>file</th><th>verdict</th><th>target</th>{heads(figures)}"
    rows = "".join(_file_row(report.baseline, i, file) for i, file in enumerate(report.files))
    legend = (
        "Small figures: against the fp32 baseline, and the 90th and 99th percentile of a latency, whose large one is "
        "the median. Net: the network alone; total: from frame to mask. Agreement: pixels with the fp32 network's "
        "class. Of twin: median total over that of the fp32 file it was made from, timed in the same run, in turns."
    )
    return f'{table(head, rows)}<p class="soft">{legend}</p>'


def _file_row(base: Step, index: int, file: ShippedFile) -> str:
    latencies = [[formatting.fixed(file.latency(part, q), 1) for q in ("p50", "p90", "p99")] for part in LATENCY_PARTS]
    style, verdict = _verdict(file)
    cells = (
        f"<td>{key(file_key(index), index + 1)}</td>",
        f'<td class="name"><b>{escape(file.name)}</b></td>',
        f'<td><b class="{style}">{verdict}</b></td>',
        f"<td>{escape(file.target)}<small>{escape(file.precision)}</small></td>",
        number(formatting.size(file.bytes), formatting.ratio(file.bytes, base.bytes)),
        number(formatting.percent(file.miou), formatting.change(file.miou, base.miou)),
        number(formatting.percent(file.boundary_f1), formatting.change(file.boundary_f1, base.boundary_f1)),
        number(formatting.share(file.agreement)),
        number(formatting.error(file.parity)),
        *(number(p50, f"{p90} · {p99}" if file.latency_ms else "") for p50, p90, p99 in latencies),
        number(formatting.ratio(file.latency("total", "p50"), file.twin_latency_ms) or formatting.DASH),
    )
    where = escape("; ".join(filter(None, (file.session, file.timing))))
    reasons = "".join(f'<b class="bad">{escape(reason)}</b><br>' for reason in file.failures)
    below = f'<tr class="below"><td></td><td colspan="{len(cells) - 1}">{reasons}{where}</td></tr>'
    return f'<tr class="over">{"".join(cells)}</tr>{below}'


def _verdict(file: ShippedFile) -> tuple[str, str]:
    """Return a style and the verdict in formatting."""
    if not file.passed:
        return "bad", "✗ failed"
    return ("warn", "! slower than fp32: not recommended") if file.slower else ("good", "✓ passed")


def confidence(files: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Return what is known of how sure each file is, by name: a table, and a diagram of the first."""
    name, said = files[0]
    ways = (("as its logits say", said["before"]), ("at its temperature", said["after"]))
    lines = [(f"{name}, {way}", each["bins"]) for way, each in ways]
    legend = (
        f"Fitted on {said['dataset']}. After: each half of its images with what was fitted on the other; before: all."
    )
    return f'{calibration_table(files)}<p class="soft">{escape(legend)}</p>{reliability_diagram(lines)}'


def steps_table(report: ShipReport) -> str:
    """Return the table of steps, with those that were rolled back and why."""
    figures = ("mIoU", "boundary F1", "M params", "GMACs", "size", "total ms")
    head = f"<th></th><th>step</th><th>kind</th>{heads(figures)}<th>note</th>"
    rows = "".join(_step_row(report.baseline, i, step) for i, step in enumerate(report.steps))
    return table(head, rows)


def _step_row(base: Step, index: int, step: Step) -> str:
    notes = (
        formatting.change(step.miou, base.miou),
        formatting.change(step.boundary_f1, base.boundary_f1),
        formatting.ratio(step.params, base.params),
        formatting.ratio(step.gmacs, base.gmacs),
        formatting.ratio(step.bytes, base.bytes),
        formatting.ratio(step.latency_p50_ms, base.latency_p50_ms),
    )
    figures = (
        formatting.percent(step.miou),
        formatting.percent(step.boundary_f1),
        f"{step.params / 1e6:.2f}",
        formatting.fixed(step.gmacs, 2),
        formatting.size(step.bytes),
        formatting.fixed(step.latency_p50_ms, 1),
    )
    cells = "".join(number(figure, note if index else "") for figure, note in zip(figures, notes, strict=True))
    state = "<small>fp32 baseline</small>" if index == 0 else "" if step.kept else '<b class="warn">rolled back</b>'
    name = f'<td><span class="name">{escape(step.name)}</span> {state}</td>'
    row = f"<td>{key(f'S{index}', 0)}</td>{name}<td>{escape(step.kind)}</td>{cells}"
    kind = "kept" if step.kept else "gone"
    return f'<tr class="{kind}">{row}<td class="note">{escape(step.note)}</td></tr>'


def accuracy_chart(report: ShipReport) -> str:
    """Return mIoU against latency for each step and file; those without either figure are named below."""
    points = [
        Point(
            key=f"S{i}",
            x=step.latency_p50_ms,
            y=100 * step.miou,
            series=0,
            shape="target" if i == 0 else "ring" if step.kept else "cross",
            title=_point_title(step.name, step.miou, step.latency_p50_ms),
            compared=step.kept,
        )
        for i, step in enumerate(report.steps)
    ]
    points += [
        Point(
            key=file_key(i),
            x=file.latency("total", "p50"),
            y=100 * file.miou,
            series=i + 1,
            shape="dot" if file.passed else "cross",
            title=_point_title(file.name, file.miou, file.latency("total", "p50")),
            compared=file.passed,
        )
        for i, file in enumerate(report.files)
    ]
    drawn = [point for point in points if math.isfinite(point.x) and math.isfinite(point.y)]
    left_out = [point for point in points if point not in drawn]
    chart = scatter(drawn, "latency of the whole path, median, ms", "mIoU, %") if drawn else ""
    rest = f'<p class="soft">Not measured: {escape(", ".join(p.title for p in left_out))}</p>' if left_out else ""
    steps = [(f"S{i}", 0, step.name) for i, step in enumerate(report.steps)]
    return f'<div class="wide">{chart}</div><p class="soft">{_MARKS}</p>{keys(steps + _file_keys(report))}{rest}'


def _point_title(name: str, miou: float, latency_ms: float) -> str:
    return f"{name}: mIoU {formatting.percent(miou)}, {formatting.fixed(latency_ms, 1)} ms"


def size_chart(report: ShipReport) -> str:
    """Return a bar for the size of the fp32 baseline's file and of each file."""
    base = report.baseline
    entries = [(f"S0 {base.name}", 0, base.bytes)]
    entries += [(f"{file_key(i)} {file.name}", i + 1, file.bytes) for i, file in enumerate(report.files)]
    groups = []
    for name, series, count in entries:
        of_base = formatting.ratio(count, base.bytes) if series else ""
        text = f"{formatting.size(count)} · {of_base}" if of_base else formatting.size(count)
        groups.append(Group(name, (Bar(count / 1e6, text, series, f"{name}: {count:,} bytes"),)))
    return f'<div class="wide">{bars(groups, "MB")}</div>'


def class_chart(report: ShipReport) -> str:
    """Return grouped bars of each class's IoU: the fp32 network's and each file's."""
    series = [("fp32", 0, report.fp32_iou)] * bool(report.fp32_iou)
    measured = [(i, file) for i, file in enumerate(report.files) if file.iou]
    series += [(file_key(i), i + 1, file.iou) for i, file in measured]
    if not series:
        return "<p>No IoU by class was measured.</p>"

    def group(name: str) -> Group:
        values = [(key, index, iou.get(name, math.nan)) for key, index, iou in series]
        return Group(
            name,
            tuple(
                Bar(100 * value, _iou_text(key, value), index, f"{name}, {key}: {formatting.percent(value)}")
                for key, index, value in values
            ),
        )

    def chart(names: Iterable[str]) -> str:
        return f'<div class="wide">{bars([group(name) for name in names], "IoU, %", 100.0)}</div>'

    names = report.classes.names
    legend = keys(
        [("fp32", 0, "fp32 network")] * bool(report.fp32_iou) + [(file_key(i), i + 1, f.name) for i, f in measured]
    )
    numbers = f"<details><summary>as a table, with Dice</summary>{_class_table(names, series)}</details>"
    if len(names) <= MAX_CLASSES:
        return legend + chart(names) + numbers
    worst = sorted(names, key=lambda name: -_loss(report, name))[:MAX_CLASSES]
    first = f"<p>The {MAX_CLASSES} of {len(names)} classes that lose most in any file:</p>"
    rest = f"<details><summary>all {len(names)} classes</summary>{chart(names)}</details>"
    return f"{legend}{first}{chart(worst)}{rest}{numbers}"


def _class_table(names: Sequence[str], series: Sequence[tuple[str, int, Mapping[str, float]]]) -> str:
    """Return IoU and Dice of each class, for the network and each file; the last row has their means."""
    columns = []
    for owner, _, iou in series:
        values = np.array([iou.get(name, math.nan) for name in names])
        columns += [(f"IoU {owner}", values), (f"Dice {owner}", dice_of(values))]
    rows = [_class_row(escape(names[c]), [values[c] for _, values in columns]) for c in range(len(names))]
    rows.append(_class_row("<b>mean</b>", [mean_of(values) for _, values in columns]))
    return table(f"<th>class</th>{heads(title for title, _ in columns)}", "".join(rows))


def _class_row(name: str, scores: Iterable[float]) -> str:
    cells = "".join(number(formatting.percent(score, absent="absent")) for score in scores)
    return f'<tr><td class="name">{name}</td>{cells}</tr>'


def _iou_text(key: str, value: float) -> str:
    return f"{key} absent" if math.isnan(value) else f"{key} {formatting.percent(value)}"


def _loss(report: ShipReport, name: str) -> float:
    """Return how much IoU a class loses in the file where it loses most; absent ones lose nothing."""
    losses = [report.fp32_iou.get(name, math.nan) - file.iou.get(name, math.nan) for file in report.files]
    return max((loss for loss in losses if not math.isnan(loss)), default=-math.inf)


def worst_panels(report: ShipReport) -> str:
    """Return the worst images' panels side by side, with the colours that occur in them."""
    kinds = swatches(DIFFERENCES.items())
    intro = f'<p class="soft">Lowest agreement first. Where they differ:</p>{kinds}'
    return intro + "".join(_worst_image(report, image) for image in report.worst)


def _worst_image(report: ShipReport, image: WorstImage) -> str:
    colors = dict(zip(report.classes.names, report.classes.colors, strict=True))
    known = [(name, colors[name]) for name in image.seen if name in colors]
    mious = f"mIoU of this image {formatting.percent(image.miou_fp32)} → {formatting.percent(image.miou_file)}"
    title = f"{image.name} · {image.file}" if image.file else image.name
    return (
        f"<h3>{escape(title)}: {formatting.share(image.agreement)} agreement, {mious}</h3>"
        f"{pictures(image.panels, image.name)}{swatches([*known, ('ignored', IGNORED)])}"
    )


def protocol_table(report: ShipReport) -> str:
    """Return the protocol, machine and versions, and each file's checksum."""
    rows = [("data", f"{report.dataset}, {report.images} images"), ("rules", report.protocol)]
    rows += report.hardware.items()
    facts = "".join(f"<tr><th>{escape(str(name))}</th><td>{escape(str(value))}</td></tr>" for name, value in rows)
    sums = "".join(
        f'<tr><td class="name">{escape(file.name)}</td><td><code>{escape(file.sha256)}</code></td></tr>'
        for file in report.files
        if file.sha256
    )
    return f'<div class="wide"><table>{facts}</table></div>' + (
        f"<h3>SHA-256</h3>{table('<th>file</th><th>digest</th>', sums)}" if sums else ""
    )


def protocol_line(report: ShipReport) -> str:
    """Return the rules that all figures share as one line: it stands beside each of them."""
    machine = ", ".join(f"{name} {value}" for name, value in report.hardware.items()) or "unknown hardware"
    return f"{report.dataset}, {report.images} images; {report.protocol}. Measured with {machine}."


def file_key(index: int) -> str:
    """Return the short key of the `index`-th file: A to Z, then F27 and so on."""
    return ascii_uppercase[index] if index < len(ascii_uppercase) else f"F{index + 1}"


def _file_keys(report: ShipReport) -> list[tuple[str, int, str]]:
    return [(file_key(i), i + 1, file.name) for i, file in enumerate(report.files)]
