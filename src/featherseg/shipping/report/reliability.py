"""Whether a network is right as often as it says: diagrams and figures of its confidence, as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ...core import formatting
from ...core.charts import Curve, curves
from .html import document, heads, keys, number, section, table

Bins = Sequence[Sequence[float]]
"""Mean confidence and share of right pixels, 0–1, and number of pixels, of each bin that has any."""
NAN = float("nan")
FEWEST = 20
"""Pixels of a bin that is drawn: of fewer the share says nothing."""

CAPTION = (
    "Pixels in bins of equal width by how sure the network is; on the dotted diagonal it is right as often as it says, "
    "below it less often. Expected calibration error: the distance from there, averaged over the pixels."
)


def reliability_diagram(lines: Sequence[tuple[str, Bins]]) -> str:
    """Return a reliability diagram as HTML.

    Args:
        lines: names and bins of what is compared.
    """
    drawn = [Curve("right as often as it says", ((0.0, 0.0), (100.0, 100.0)), len(lines))]
    for i, (name, bins) in enumerate(lines):
        points = tuple((100 * sure, 100 * right) for sure, right, count in bins if count >= FEWEST)
        drawn.append(Curve(name, points, i))
    entries = [(str(i + 1), i, name) for i, (name, _) in enumerate(lines)]
    entries.append(("=", len(lines), drawn[0].name))
    return curves(drawn, "confidence, %", "right, %", (0, 100)) + keys(entries)


def calibration_table(files: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Return a table of what :meth:`.Calibration.to_dict` says of each file, by name."""
    head = f"<th>file</th>{heads(('temperature', 'ECE before', 'ECE after', '90 % sure', 'of those right'))}"
    rows = []
    for name, said in files:
        after = said["after"]
        cells = (
            number(temperature_text(said["temperature"])),
            number(_percent(said["before"]["ece"])),
            number(_percent(after["ece"])),
            number(_percent(after["sure"])),
            number(_percent(after["right_when_sure"])),
        )
        rows.append(f'<tr><td class="name">{escape(name)}</td>{"".join(cells)}</tr>')
    return table(head, "".join(rows))


def temperature_text(temperature: float | Sequence[float]) -> str:
    """Return a temperature, or the span of one for each class, for people."""
    if isinstance(temperature, int | float):
        return f"{temperature:.2f}"
    return f"{min(temperature):.2f}–{max(temperature):.2f} by class"


def evaluation_page(title: str, summary: str, remarks: Sequence[str], reliability: Sequence[Mapping[str, Any]]) -> str:
    """Return a page about how sure a network is and how right.

    Args:
        title: what was judged; text.
        summary: its score and protocol; text.
        remarks: further sentences; text.
        reliability: what :meth:`.Reliability.to_dict` says, without and with the fitted temperature, if there is one.
    """
    names = ("as its logits say", "at the temperature in the file")
    lines = [
        (f"{name}: expected calibration error {_percent(each['ece'])} %", each["bins"])
        for name, each in zip(names, reliability, strict=False)
    ]
    words = "".join(f"<p>{escape(each)}</p>" for each in (summary, *remarks))
    parts = [f"<header><h1>{escape(title)}</h1>{words}</header>"]
    if lines:
        parts.append(section("Confidence", reliability_diagram(lines), CAPTION))
    return document(f"{title}: evaluation", parts)


def _percent(value: float | None) -> str:
    return formatting.percent(NAN if value is None else value, decimals=2)
