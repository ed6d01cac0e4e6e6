"""A pick as one HTML file that needs nothing beside it: what it is, why, and what became of everything else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..core.charts import Point, scatter
from ..core.durations import duration
from ..core.files import write_atomically
from ..core.formatting import DASH, percent
from ..core.formatting import size as bytes_text
from ..shipping.report.html import document, heads, key, keys, number, pictures, section, table
from .report import STATES

REACH = 2.5
"""Times the budget that the chart shows; what is slower is counted below it."""
LETTERS = {"fp32": "f", "fp16": "h", "bf16": "b", "int8": "i"}
Report = Mapping[str, Any]


def write_page(report: Report, shown: Sequence[tuple[str, Mapping[str, str]]], path: Path) -> Path:
    """Write the page, whole or not at all.

    Args:
        report: what was found.
        shown: pictures: the name of each, and the addresses of what is shown of it.
        path: of the page.
    """
    page = render(report, shown).encode("utf-8", "replace")
    return write_atomically(path, lambda file: file.write(page))


def render(report: Report, shown: Sequence[tuple[str, Mapping[str, str]]] = ()) -> str:
    """Return the page; what is not known is left out."""
    numbers = _numbers(report)
    parts = [_head(report)]
    if report["choice"]["reasons"]:
        parts.append(section("Why", f"<p>{escape(' '.join(report['choice']['reasons']))}</p>"))
    if chart := _front(report, numbers):
        parts.append(section("Masks against time", chart, _front_caption(report)))
    if report["judged"]:
        caption = (
            "Each is the exported file in its engine: scores of all validation images at the masks' own resolution, "
            f"single scale; times of the whole path from file to mask on {report['device']}."
        )
        parts.append(section("Finalists as they are deployed", _judged_table(report, numbers), caption))
    if shown:
        panels = "".join(f"<h3>{escape(name)}</h3>{pictures(each, name)}" for name, each in shown)
        parts.append(section("Pictures", panels, "Validation pictures, by the files that were judged."))
    if report["trained"]:
        caption = (
            "mIoU after each rung, by the network in memory, of the validation images; epochs and time of the rung."
        )
        parts.append(section("What was trained", _trained_table(report, numbers), caption))
    if gone := _dropped(report):
        parts.append(section("What was left out, and why", gone))
    if report["candidates"]:
        parts.append(section("Times", _times(report), f"From file to mask on {report['device']}, in turns."))
    parts.append(section("How", _how(report)))
    return document(f"pick: {report['choice']['name'] or 'nothing yet'}", parts)


def _head(report: Report) -> str:
    name = report["choice"]["name"]
    good = report["state"] == "complete" and name
    style, mark = ("good", "✓") if good else ("warn", "!")
    words = name or "no pick"
    tie = f" (a tie with {len(report['choice']['ties']) - 1} more)" if report["choice"]["ties"] else ""
    data = report["data"]
    about = (
        f"{data['root']}: {data['images']} training and {data['val_images']} validation images, "
        f"{len(data['classes'])} classes · {report['limit']} on {report['device']} · {duration(report['seconds'])} of "
        f"{duration(report['question']['budget'])} · {STATES[report['state']]}"
    )
    notes = "".join(f'<p class="soft">{escape(note)}</p>' for note in report["notes"])
    return (
        f'<header><h1>The pick</h1><p><b class="{style}">{mark} {escape(words + tie)}</b></p>'
        f'<p class="soft">{escape(about)}</p>{notes}</header>'
    )


def _numbers(report: Report) -> dict[str, int]:
    """Return a number for each network that was trained, the best first."""
    order = sorted(report["judged"], key=lambda each: -(each["miou"] or 0.0))
    slugs = [each["net"] for each in order] + [row["net"] for row in report["trained"]]
    return {slug: number for number, slug in enumerate(dict.fromkeys(slugs), start=1)}


def _front(report: Report, numbers: Mapping[str, int]) -> str:
    """Return the chart: judged files, trained networks, and the times of all else."""
    limit = report["question"]["limit_ms"]
    points = []
    for each in report["judged"]:
        if each["miou"] is None or each["timing"] is None:
            continue
        ms = each["timing"]["p95"]
        title = f"{each['name']}: mIoU {percent(each['miou'])} %, p95 {ms:.1f} ms, as deployed"
        place = numbers[each["net"]]
        shape = "target" if each["candidate"] == report["choice"]["pick"] else "dot"
        points.append(Point(f"{place}{LETTERS[each['precision']]}", ms, 100 * each["miou"], place, shape, title))
    seen = {each["net"] for each in report["judged"] if each["miou"] is not None}
    quickest = _quickest(report)
    for row in report["trained"]:
        miou = _last(row["rungs"])
        ms = quickest.get(row["net"], math.nan)
        if row["net"] in seen or miou is None or not math.isfinite(ms):
            continue
        title = f"{row['name']}: mIoU {percent(miou)} % after rung {len(row['rungs'])}, p95 {ms:.1f} ms untrained"
        place = numbers[row["net"]]
        points.append(Point(f"{place}", ms, 100 * miou, place, "ring", title, compared=False))
    points = [point for point in points if point.x <= REACH * limit] or points
    if not points:
        return ""
    strokes = [
        (row["timing"]["p95"], f"{row['name']}: p95 {row['timing']['p95']:.1f} ms")
        for row in report["candidates"]
        if row["timing"] and row["timing"]["p95"] <= REACH * limit
    ]
    legend = keys((f"{place}", place, _net_name(report, slug)) for slug, place in numbers.items())
    chart = scatter(
        points,
        "95th percentile of the whole path, ms",
        "mIoU, %",
        limit=(limit, f"budget {limit:.1f} ms"),
        unscored=strokes,
    )
    return f'<div class="wide">{chart}</div>{legend}'


def _front_caption(report: Report) -> str:
    limit = report["question"]["limit_ms"]
    beyond = sum(bool(row["timing"]) and row["timing"]["p95"] > REACH * limit for row in report["candidates"])
    words = (
        "Dots are files as they are deployed (f fp32, h fp16, b bf16, i int8), the target is the pick; rings are "
        "networks that were trained for a while and dropped, at their quickest; strokes at the foot are candidates "
        "that were timed and have no score of their own."
    )
    return f"{words} {beyond} more are further to the right." if beyond else words


def _judged_table(report: Report, numbers: Mapping[str, int]) -> str:
    rows = []
    for each in sorted(report["judged"], key=lambda each: -(each["miou"] or 0.0)):
        timing = each["timing"] or {}
        stages = " · ".join(f"{stage} {ms:.1f}" for stage, ms in timing.get("stages", {}).items())
        limit = report["question"]["limit_ms"]
        if each["failure"]:
            verdict, style = f"✗ {each['failure']}", "bad"
        elif each["candidate"] == report["choice"]["pick"]:
            verdict, style = "✓ the pick", "good"
        elif timing and timing["p95"] <= limit:
            tied = each["candidate"] in report["choice"]["ties"]
            verdict, style = ("a tie" if tied else "in time"), "good"
        else:
            verdict, style = "too slow", "warn"
        cells = (
            f"<td>{key(str(numbers[each['net']]), numbers[each['net']])}</td>",
            f'<td class="name"><b>{escape(each["name"])}</b></td>',
            f'<td><b class="{style}">{escape(verdict)}</b></td>',
            number(percent(each["miou"])),
            number(percent(each["boundary_f1"])),
            number(f"{timing['p50']:.1f}" if timing else DASH, stages),
            number(f"{timing['p95']:.1f}" if timing else DASH, f"{timing['runs']} runs" if timing else ""),
            number(bytes_text(each["peak_bytes"] or 0)),
            number(bytes_text(each["bytes"])),
        )
        rows.append(f"<tr>{''.join(cells)}</tr>")
    columns = heads(("mIoU", "boundary F1", "p50 ms", "p95 ms", "memory", "size"))
    return table(f"<th></th><th>candidate</th><th></th>{columns}", "".join(rows))


def _trained_table(report: Report, numbers: Mapping[str, int]) -> str:
    rungs = max(len(row["rungs"]) for row in report["trained"])
    rows = []
    for row in report["trained"]:
        cells = [
            f"<td>{key(str(numbers[row['net']]), numbers[row['net']])}</td>",
            f'<td class="name"><b>{escape(row["name"])}</b></td>',
            f"<td>{escape(row['start'])}</td>",
        ]
        for rung in range(rungs):
            found = next((each for each in row["rungs"] if each["rung"] == rung), None)
            cells.append(_rung_cell(found))
        gone = row["dropped"]
        when = f"<small>{escape(gone['when'])}</small>" if gone else ""
        cells.append(f'<td class="note">{escape(gone["why"]) if gone else ""}{when}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    columns = heads(f"rung {rung + 1}" for rung in range(rungs))
    return table(f"<th></th><th>network</th><th>from</th>{columns}<th>dropped</th>", "".join(rows))


def _rung_cell(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return number("")
    if found.get("miou") is None:
        return number(DASH, escape(str(found.get("failure", ""))[:80]))
    taught = " · with a teacher" if found.get("teacher") else ""
    epochs = f"{found['epochs']} epoch{'s' * (found['epochs'] != 1)}"
    return number(percent(found["miou"]), f"{epochs} · {duration(found['seconds'])}{taught}")


def _dropped(report: Report) -> str:
    """Return lists of what was not trained: by network, by prediction, and engines that are not here."""
    parts = []
    if report["left_out"]:
        items = "".join(f"<li>{escape(_net_name(report, s))}: {escape(w)}</li>" for s, w in report["left_out"].items())
        parts.append(f"<h3>In time, but not trained</h3><ul>{items}</ul>")
    predicted = [row for row in report["candidates"] if row["verdict"] == "predicted"]
    if predicted:
        items = "".join(f"<li>{escape(row['name'])}: {escape(row['reason'])}</li>" for row in predicted)
        title = f"{len(predicted)} that were not timed, for a prediction says that they are far too slow"
        parts.append(f"<details><summary>{title}</summary><ul>{items}</ul></details>")
    others = [row for row in report["candidates"] if row["verdict"] == "not timed"]
    if others:
        items = "".join(f"<li>{escape(row['name'])}: {escape(row['reason'])}</li>" for row in others)
        parts.append(
            f"<details><summary>{len(others)} that do not run, or were not timed</summary><ul>{items}</ul></details>"
        )
    if report["no_engine"]:
        items = "".join(f"<li>{escape(name)}: {escape(why)}</li>" for name, why in report["no_engine"].items())
        parts.append(f"<h3>Engines that nothing was timed with</h3><ul>{items}</ul>")
    return "".join(parts)


def _times(report: Report) -> str:
    """Return the table of all that was timed, the quickest first."""
    timed = sorted((row for row in report["candidates"] if row["timing"]), key=lambda row: row["timing"]["p95"])
    rows = []
    for row in timed:
        timing = row["timing"]
        stages = " · ".join(f"{stage} {ms:.1f}" for stage, ms in timing["stages"].items())
        style = {"in time": "good", "on the edge": "warn"}.get(row["verdict"], "soft")
        size = "x".join(map(str, row["size"])) if row["size"] else ""
        cells = (
            f'<td class="name">{escape(row["name"])}</td>',
            f"<td>{size}</td>",
            f'<td><span class="{style}">{escape(row["verdict"])}</span></td>',
            number(f"{timing['p50']:.1f}", stages),
            number(f"{timing['p95']:.1f}"),
            number(str(timing["runs"])),
            number(f"{100 * timing['drift']:+.0f} %"),
        )
        rows.append(f"<tr>{''.join(cells)}</tr>")
    body = table(
        f"<th>candidate</th><th>input</th><th></th>{heads(('p50 ms', 'p95 ms', 'runs', 'drift'))}", "".join(rows)
    )
    fitting = sum(row["verdict"] == "in time" for row in timed)
    title = f"{len(timed)} candidates timed, {fitting} of them in time"
    return f"<details><summary>{title}</summary>{body}</details>"


def _how(report: Report) -> str:
    question, machine = report["question"], report["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine.get("versions", {}).items())
    rows = {
        "budget": f"{question['limit_ms']:.1f} ms for 95 of 100 pictures; {duration(question['budget'])} for the pick",
        "networks": ", ".join(question["networks"]) or "all that are registered",
        "input sizes": ", ".join(f"{scale:g}" for scale in question["scales"]) + " of the pictures' own",
        "seed": str(question["seed"]),
        "timed on": f"{report['device']}: {machine.get('processor', '')}, threads: {machine.get('threads', '')}, load "
        f"before: {machine.get('load', DASH)}",
        "versions": versions,
        "created": report["created"],
    }
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows.items())
    return f'<div class="wide"><table><tbody>{cells}</tbody></table></div>'


def _quickest(report: Report) -> dict[str, float]:
    """Return the 95th percentile of each network's quickest candidate."""
    found: dict[str, float] = {}
    for row in report["candidates"]:
        if row["timing"]:
            found[row["net"]] = min(found.get(row["net"], math.inf), row["timing"]["p95"])
    return found


def _last(rungs: Sequence[Mapping[str, Any]]) -> float | None:
    return next((rung["miou"] for rung in reversed(rungs) if rung.get("miou") is not None), None)


def _net_name(report: Report, slug: str) -> str:
    named = [row["name"] for row in report["trained"] if row["net"] == slug]
    named += [row["net_name"] for row in report["candidates"] if row["net"] == slug]
    return named[0] if named else slug
