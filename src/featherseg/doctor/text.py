"""The doctor's report as text for a terminal."""

from __future__ import annotations

from .examine import Examination
from .rules import Finding

MARKS = {"error": "✗", "warning": "!", "note": "·"}
"""Stand before the findings, so that they can be told apart without colours."""


def report_text(examination: Examination) -> str:
    """Return the report: a line of summary, and for each finding what, where, why and what to do."""
    notes = "".join(f"\n    {note}" for note in examination.layout.notes)
    parts = [examination.summary() + notes, *map(_finding_text, examination.findings)]
    fixable = sum(finding.rule.fixable for finding in examination.findings)
    if fixable:
        parts.append(f"{fixable} of {len(examination.findings)} findings can be mended: --fix NEW_FOLDER")
    return "\n\n".join(parts)


def _finding_text(finding: Finding) -> str:
    rule = finding.rule
    lines = [
        f"{MARKS[rule.severity]} {rule.severity} {rule.id}: {quantity(finding)}, {rule.title}",
        f"    such as {'; '.join(finding.examples)}",
        f"    so      {rule.consequence}",
        f"    do      {rule.remedy}",
    ]
    if rule.fixable:
        lines.append(f"    --fix   {rule.fix}")
    return "\n".join(lines)


def quantity(finding: Finding) -> str:
    """Return a finding's count with its unit, such as ``3 files``."""
    unit = finding.rule.unit
    if finding.count != 1:
        return f"{finding.count:,} {unit}"
    return f"1 {'class' if unit == 'classes' else unit.removesuffix('s')}"
