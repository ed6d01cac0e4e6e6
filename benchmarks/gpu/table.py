"""A report as text to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobs import Found

COLUMNS: dict[str, tuple[str, ...]] = {
    "training": ("precision", "step", "ms", "images_per_second", "times_tutorial", "peak_mib"),
    "loss": ("loss", "logits", "tiles_ms", "naive_ms", "times_naive", "tiles_mib", "naive_mib"),
    "fps": ("engine", "fps", "ms", "p90_ms", "pre", "net", "post", "equal_pixels"),
}


def as_text(report: Found) -> str:
    """Return a report as paragraphs with tables."""
    machine = report["machine"]
    gpu = machine.get("gpu")
    where = f"{gpu['name']}, driver {gpu['driver']}, CUDA {gpu['cuda']}" if gpu else "no GPU"
    kind = " (dry run: figures mean nothing)" if report["dry_run"] else ""
    lines = [f"{report['date']}{kind}: {where}; {machine.get('processor')}, {machine.get('cores')} cores"]
    for name, outcome in report["parts"].items():
        reason = f": {outcome['reason']}" if outcome.get("reason") else ""
        lines += ["", f"== {name}: {outcome['state']} in {outcome.get('seconds', 0)} s{reason}"]
        lines += _lines(name, outcome["result"])
    return "\n".join(lines)


def _lines(name: str, result: Found) -> list[str]:
    """Return a part's findings, whatever of them is there."""
    if name in COLUMNS:
        columns = COLUMNS[name]
        failed = [f"{engine}: {reason}" for engine, reason in result.get("failed", {}).items()]
        return [*table(columns, [[row.get(key) for key in columns] for row in result.get("rows", [])]), *failed]
    if name == "resume":
        heads = ("network", "precision", "same", "bits equal", "weights apart", "a twin's", "warnings")
        return table(
            heads,
            [
                [
                    row["network"],
                    row["precision"],
                    row["same"],
                    row["resumed"]["equal"],
                    row["resumed"]["weights"],
                    row["twin"]["weights"],
                    len(row["warnings"]),
                ]
                for row in result.get("rows", [])
            ],
        )
    if name == "session":
        rows = [[key, row.get("equal_pixels"), row.get("failed", "")] for key, row in result.get("masks", {}).items()]
        return [*table(("session", "equal pixels", "failed"), rows), *_one_line(result.get("driver"))]
    if name == "engines":
        return _engines(result)
    return _one_line(result)


def _engines(result: Found) -> list[str]:
    rows: list[list[Any]] = []
    for network, outcome in result.get("networks", {}).items():
        engines = outcome["result"].get("engines", {})
        if not engines or outcome["state"] != "done":
            rows.append([network, "", outcome["state"], None, None, None, None, outcome.get("reason", "")])
        for precision, row in engines.items():
            time = row.get("time", {})
            ms = time.get("net_ms") if isinstance(time, dict) else None
            why = row.get("failed") or row.get("why_not") or row.get("not_run") or (time if ms is None else "")
            gate = "passed" if row.get("passed") else "not run" if row.get("passed") is None else "FAILED"
            figures = [row.get(key) for key in ("agreement", "logit_error", "build_s")]
            rows.append([network, precision, gate, *figures, ms, str(why or "")[:120]])
    heads = ("network", "precision", "gate", "agreement", "logit error", "build s", "net ms", "why not")
    return table(heads, rows)


def _one_line(found: Found | None) -> list[str]:
    return [", ".join(f"{key} {_cell(value)}" for key, value in found.items())] if found else []


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Return lines of columns."""
    if not rows:
        return []
    cells = [list(heads), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return (
        f"{value:.4g}"
        if isinstance(value, float) and value < 0.9
        else (f"{value:.5g}" if isinstance(value, float) else str(value))
    )
