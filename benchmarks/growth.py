"""How time and memory grow: with the number of images, with their size, and with the number of classes.

    python benchmarks/growth.py --out growth [--quick] [--tasks evaluation doctor] [--axes images megapixels classes]

Evaluation, the doctor and prediction, beside torchmetrics, scikit-learn and supervision where these do the same (what
is not installed is left out, and said). Each measurement is a process of its own with one thread, and contenders take
turns. It tells processor time, which does not depend on what else the machine does, and how much more memory the work
held at its peak than there was before it: that is read from Linux, and missing elsewhere.

The exponent of a curve is the slope of its logarithms: 1 is linear, and what is fixed makes it smaller. A task that
grows faster than linearly, or is slower than a peer at any point, is told at the end, and the program fails.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from growth_tasks import TASKS, Case

from featherseg.core.charts import Curve, curves, style_sheet
from featherseg.core.machine import cpu_name

Axis = dict[str, list[Case]]
FULL: Axis = {
    "images": [Case(n, 0.006, 11) for n in (100, 1000, 10_000)],
    "megapixels": [Case(1, m, 11) for m in (0.2, 1, 4, 16, 50)],
    "classes": [Case(2, 1, c) for c in (2, 8, 32, 96, 255)],
}
QUICK: Axis = {
    "images": [Case(n, 0.003, 5) for n in (4, 16)],
    "megapixels": [Case(1, m, 5) for m in (0.02, 0.08)],
    "classes": [Case(1, 0.05, c) for c in (2, 8)],
}
LEAST = 4
"""Pairs that the doctor wants at least."""
LINEAR = 1.1
"""Largest exponent that counts as linear: caches that no longer hold all make it a bit more than 1."""
WORSE = 1.1
"""How many times as long as a peer's, or as much memory, counts as worse."""
SMALL_MB = 8.0
"""Memory under which nobody is worse."""
LIMIT_S = 300
MAX_MASKS_GB = 2.0
"""Of supervision's masks, one for each class, of truth and prediction."""


@dataclass(frozen=True)
class Row:
    """One contender at one point of one curve.

    Args:
        task: what was done.
        contender: by whom.
        axis: what grows.
        x: how much of it there is.
        seconds: of processor time, median of the turns; NaN where it was not measured.
        megabytes: at the peak above those before.
        why: why it was not measured.
    """

    task: str
    contender: str
    axis: str
    x: float
    seconds: float
    megabytes: float
    why: str = ""


def peak_of(field: str) -> float:
    """Return a field of this process's memory, in MB; NaN where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return math.nan
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), math.nan)


def measure(task: str, contender: str, case: Case) -> tuple[float, float]:
    """Return seconds and megabytes of a contender's work, in this process."""
    work = TASKS[task][contender](case)
    before = math.nan
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = peak_of("VmRSS")
    begin = time.process_time()
    work()
    return time.process_time() - begin, peak_of("VmHWM") - before


def in_process(task: str, contender: str, case: Case) -> tuple[float, float] | str:
    """Measure in a process of its own; return why that failed, if it did."""
    if contender == "supervision" and 2 * case.classes * case.megapixels / 1000 > MAX_MASKS_GB:
        return f"its masks would take {2 * case.classes * case.megapixels / 1000:.0f} GB"
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, __file__, "--measure", task, contender, json.dumps(asdict(case))]
    try:
        done = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return f"took over {LIMIT_S} s"
    if done.returncode:
        return done.stderr.strip().splitlines()[-1][:200] if done.stderr.strip() else f"ended with {done.returncode}"
    seconds, megabytes = json.loads(done.stdout.splitlines()[-1])
    return float(seconds), float(megabytes)


def rows_of(task: str, axis: str, cases: list[Case], turns: int) -> list[Row]:
    """Measure all contenders of a task along an axis, in turns."""
    found: dict[tuple[str, float], list[tuple[float, float] | str]] = defaultdict(list)
    order = list(TASKS[task])
    for case in cases:
        if task == "doctor":
            case = Case(max(case.images, LEAST), case.megapixels, case.classes)
        x = float(getattr(case, axis))
        for _ in range(turns):
            for name in order:
                known = found[name, x]
                if not known or not isinstance(known[-1], str):  # what failed once is not tried again
                    known.append(in_process(task, name, case))
            order.reverse()
        print(f"  {axis} {x:g}: {', '.join(f'{n} {_words(found[n, x])}' for n in TASKS[task])}", flush=True)
    rows = []
    for (name, x), results in found.items():
        measured = [result for result in results if not isinstance(result, str)]
        if measured:
            seconds, megabytes = (statistics.median(values) for values in zip(*measured, strict=True))
            rows.append(Row(task, name, axis, x, seconds, megabytes))
        else:
            rows.append(Row(task, name, axis, x, math.nan, math.nan, str(results[-1])))
    return rows


def _words(results: list[tuple[float, float] | str]) -> str:
    measured = [result for result in results if not isinstance(result, str)]
    return f"{statistics.median(m[0] for m in measured):.3f} s" if measured else f"- ({results[-1]})"


def exponent(points: list[tuple[float, float]]) -> float:
    """Return the slope of a line through the logarithms of points, NaN of fewer than two."""
    known = [(math.log(x), math.log(y)) for x, y in points if x > 0 and y > 0]
    if len({x for x, _ in known}) < 2:
        return math.nan
    return float(statistics.linear_regression(*zip(*known, strict=True)).slope)


def of_curve(rows: list[Row], task: str, contender: str, axis: str) -> list[Row]:
    return sorted(
        (r for r in rows if (r.task, r.contender, r.axis) == (task, contender, axis) and not r.why), key=lambda r: r.x
    )


def complaints(rows: list[Row]) -> list[str]:
    """Return what is worse than it should be."""
    found = []
    for task, axis in dict.fromkeys((row.task, row.axis) for row in rows):
        ours = of_curve(rows, task, "featherseg", axis)
        slope = exponent([(row.x, row.seconds) for row in ours])
        if slope > LINEAR:
            found.append(f"{task}: time grows with the {slope:.2f}th power of {axis}")
        slope = exponent([(row.x, row.megabytes) for row in ours if row.megabytes > SMALL_MB])
        if slope > LINEAR:
            found.append(f"{task}: memory grows with the {slope:.2f}th power of {axis}")
        for peer in TASKS[task]:
            theirs = {row.x: row for row in of_curve(rows, task, peer, axis)}
            for row in ours:
                other = theirs.get(row.x)
                if peer == "featherseg" or other is None:
                    continue
                where = f"at {row.x:g} {axis}"
                if row.seconds > WORSE * other.seconds:
                    found.append(f"{task}: {row.seconds:.3f} s {where}, {peer} {other.seconds:.3f} s")
                if row.megabytes > WORSE * max(other.megabytes, SMALL_MB):
                    found.append(f"{task}: {row.megabytes:.0f} MB {where}, {peer} {other.megabytes:.0f} MB")
    return found


def table(rows: list[Row]) -> str:
    """Return all figures, and the exponents of the curves, as Markdown."""
    lines = [
        "| task | grows | contender | s (MB) at each point | exponent of time | of memory |",
        "|---|---|---|---|---|---|",
    ]
    for task, axis in dict.fromkeys((row.task, row.axis) for row in rows):
        for name in TASKS[task]:
            known = of_curve(rows, task, name, axis)
            missing = {r.why: None for r in rows if (r.task, r.contender, r.axis) == (task, name, axis) and r.why}
            cells = [f"{r.x:g}: {r.seconds:.3f} ({r.megabytes:.0f})" for r in known] + list(missing)
            slopes = [exponent([(r.x, y) for r, y in pairs]) for pairs in _both(known)]
            shown = " | ".join("" if math.isnan(slope) else f"{slope:.2f}" for slope in slopes)
            lines.append(f"| {task} | {axis} | {name} | {', '.join(cells)} | {shown} |")
    return "\n".join(lines)


def _both(rows: list[Row]) -> tuple[list[tuple[Row, float]], list[tuple[Row, float]]]:
    return [(r, r.seconds) for r in rows], [(r, r.megabytes) for r in rows if r.megabytes > SMALL_MB]


def page(rows: list[Row], title: str) -> str:
    """Return a page of all curves, in logarithms, where linear growth is a slope of 1."""
    parts = []
    for task, axis in dict.fromkeys((row.task, row.axis) for row in rows):
        names = list(TASKS[task])
        for what, unit in (("seconds", "s"), ("megabytes", "MB")):
            lines = []
            for i, name in enumerate(names):
                values = [(r.x, getattr(r, what)) for r in of_curve(rows, task, name, axis)]
                points = tuple((math.log10(x), math.log10(y)) for x, y in values if y > 0)
                lines += [Curve(name, points, i + 1)] * bool(points)
            if not lines:
                continue
            ends = [x for line in lines for x, _ in line.points]
            across = math.floor(min(ends)), math.ceil(max(ends))
            legend = ", ".join(f'<span style="color:var(--c{i + 1})">&#9679;</span> {n}' for i, n in enumerate(names))
            chart = curves(lines, f"log10 of {axis}", f"log10 of {unit}", across)
            parts.append(f"<h2>{task}: {what} by {axis}</h2><p>{legend}</p>{chart}")
    head = f'<meta charset="utf-8"><title>Growth</title><style>{style_sheet()}</style>'
    body = f"<main><h1>Growth</h1><p>{title}</p>{''.join(parts)}</main>"
    return f"<!doctype html><html lang=en><head>{head}</head><body>{body}</body></html>"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("growth"), help="folder for page, table and JSON")
    parser.add_argument("--quick", action="store_true", help="the smallest sizes, to try the program itself")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--axes", nargs="+", choices=FULL, default=list(FULL))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        task, contender, case = options.measure
        print(json.dumps(measure(task, contender, Case(**json.loads(case)))))
        return 0
    sizes, turns = (QUICK, 1) if options.quick else (FULL, options.turns)
    title = f"{date.today()}, {cpu_name()}, 1 thread, processor time, medians of {turns}"
    print(title)
    rows: list[Row] = []
    for task in options.tasks:
        for axis in options.axes:
            if task == "doctor" and axis == "classes":
                continue  # it reads files, whose classes cost nothing
            print(f"{task} by {axis}", flush=True)
            rows += rows_of(task, axis, sizes[axis], turns)
    options.out.mkdir(parents=True, exist_ok=True)
    found = complaints(rows)
    written = {"title": title, "rows": [asdict(row) for row in rows], "complaints": found}
    (options.out / "growth.json").write_text(json.dumps(written, indent=1).replace("NaN", "null"), encoding="utf-8")
    (options.out / "growth.md").write_text(f"{title}\n\n{table(rows)}\n", encoding="utf-8")
    (options.out / "growth.html").write_text(page(rows, title), encoding="utf-8")
    print(f"\n{table(rows)}\n\n{options.out / 'growth.html'}")
    if options.quick:  # too small to judge
        return 0
    print("\n".join(found) or "all grow linearly or less, and none is worse than its peers")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
