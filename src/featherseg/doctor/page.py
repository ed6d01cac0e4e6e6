"""The doctor's report as one HTML page that needs nothing beside it: findings, histogram, sizes, samples.

Style sheet and bars are the ship report's. Whatever comes from outside is escaped where it enters a text.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ..core.charts import Bar, Group, bars, color_class, style_sheet, ticks
from ..core.errors import DataError
from ..core.files import write_atomically
from ..core.images import read_image
from ..core.types import ImageArray
from ..runtime.draw import overlay
from .examine import Examination
from .mend import reason_to_leave_out
from .pairing import shown
from .probe import Facts, Size, raw_of
from .raw import Trouble
from .rules import Finding
from .seen import decode
from .text import quantity

SAMPLES = 8
"""Pairs whose overlays are shown."""
SIDE = 320
"""Longer side of a shown picture, in pixels."""
MAX_CLASSES = 40
"""Classes in the histogram; of more, the most frequent."""
STYLES = {"error": "bad", "warning": "warn", "note": "soft"}
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Makes it certain that the page asks nobody for anything, whatever a file is called."""


def write_page(examination: Examination, path: str | Path) -> Path:
    """Write the page, whole or not at all; return its path."""
    page = render(examination).encode("utf-8", "replace")
    return write_atomically(Path(path).expanduser(), lambda file: file.write(page))


def render(examination: Examination) -> str:
    """Return the page."""
    title = escape(examination.layout.root.resolve().name or "dataset")
    parts = [_section("Findings", _findings_table(examination.findings), "")]
    if examination.pixels:
        caption = "Share of the labelled pixels; ignored ones do not count."
        parts.append(_section("Classes", _histogram(examination), caption))
    if examination.sizes:
        caption = "A circle for each size; its area grows with the number of images."
        parts.append(_section("Image sizes", sizes_chart(examination.sizes), caption))
    if panels := _samples(examination):
        parts.append(_section("Samples", panels, "Images with their masks as the doctor understands them."))
    style = style_sheet()
    verdict = ("✓ clean", "good") if examination.clean else ("✗ findings", "bad")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}: examination</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f'<header><h1>{title}</h1><p><b class="{verdict[1]}">{verdict[0]}</b></p>'
        f'<p class="soft">{escape(examination.summary())}</p>{_notes(examination)}</header>\n'
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _notes(examination: Examination) -> str:
    return "".join(f'<p class="soft">{escape(note)}</p>' for note in examination.layout.notes)


def _section(title: str, body: str, caption: str) -> str:
    note = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<section><h2>{title}</h2><figure>{body}{note}</figure></section>"


def _findings_table(findings: Sequence[Finding]) -> str:
    if not findings:
        return "<p>Nothing was found.</p>"
    head = "".join(f"<th>{name}</th>" for name in ("", "finding", "count", "such as", "so", "do", "--fix"))
    rows = "".join(_finding_row(finding) for finding in findings)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _finding_row(finding: Finding) -> str:
    rule = finding.rule
    examples = "<br>".join(escape(example) for example in finding.examples)
    return (
        f'<tr><td><b class="{STYLES[rule.severity]}">{rule.severity}</b></td>'
        f'<td class="name"><b>{escape(rule.id)}</b><small>{escape(rule.title)}</small></td>'
        f'<td class="n">{escape(quantity(finding))}</td><td class="name">{examples}</td>'
        f"<td>{escape(rule.consequence)}</td><td>{escape(rule.remedy)}</td><td>{escape(rule.fix or '–')}</td></tr>"
    )


def _histogram(examination: Examination) -> str:
    """Return a bar for each class and split."""
    assert examination.meaning is not None  # pixels are counted by class
    names = examination.meaning.classes.names
    totals = {split: max(sum(counts), 1) for split, counts in examination.pixels.items()}
    order = list(range(len(names)))
    if len(names) > MAX_CLASSES:
        order = sorted(order, key=lambda i: -sum(counts[i] for counts in examination.pixels.values()))[:MAX_CLASSES]
    groups = []
    for i in order:
        shares = [(split, 100 * counts[i] / totals[split]) for split, counts in examination.pixels.items()]
        found = [
            Bar(share, f"{split} {share:.3g} %", place + 1, f"{names[i]}, {split}: {share:.4g} %")
            for place, (split, share) in enumerate(shares)
        ]
        groups.append(Group(names[i], tuple(found)))
    return f'<div class="wide">{bars(groups, "% of pixels")}</div>'


def sizes_chart(sizes: dict[Size, int]) -> str:
    """Return widths and heights as circles, an SVG text."""
    width, height, left, top, bottom = 960, 420, 60, 16, 370
    right = width - 20
    x1 = 1.08 * max(size[1] for size in sizes)
    y1 = 1.08 * max(size[0] for size in sizes)
    most = max(sizes.values())
    parts = []
    for value in ticks(0, x1, 8):
        x = left + value / x1 * (right - left)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(_text(x, bottom + 18, f"{value:g}", "soft", "middle"))
    for value in ticks(0, y1):
        y = bottom - value / y1 * (bottom - top)
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(left - 8, y + 4, f"{value:g}", "soft", "end"))
    parts.append(f'<path class="axis" d="M{left} {top}V{bottom}H{right}"/>')
    for (rows, columns), count in sorted(sizes.items(), key=lambda item: -item[1]):
        x, y = left + columns / x1 * (right - left), bottom - rows / y1 * (bottom - top)
        radius = 3 + 15 * math.sqrt(count / most)
        circle = f'<circle class="dot {color_class(1)}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill-opacity="0.6"/>'
        parts.append(f"<g><title>{rows}x{columns} (height x width): {count}</title>{circle}</g>")
    parts.append(_text(right, bottom + 40, "width across, height upwards, pixels", "ink", "end"))
    head = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="image sizes">'
    return f'<div class="wide">{head}{"".join(parts)}</svg></div>'


def _text(x: float, y: float, text: str, style: str, anchor: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="12">{text}</text>'


def _samples(examination: Examination) -> str:
    """Return overlays of pairs spread over the set, those that can be shown."""
    if examination.meaning is None:
        return ""
    good = [f for f in examination.facts if reason_to_leave_out(f, examination.meaning) is None]
    step = max(1, len(good) // SAMPLES)
    figures = [figure for f in good[::step][:SAMPLES] if (figure := _sample(examination, f))]
    return f'<div class="panels">{"".join(figures)}</div>' if figures else ""


def _sample(examination: Examination, f: Facts) -> str:
    assert examination.meaning is not None
    try:
        image, mask = read_image(f.pair.image), decode(raw_of(f.pair), f.mask, examination.meaning)
    except (DataError, Trouble):  # gone since it was examined
        return ""
    scale = min(1.0, SIDE / max(image.shape[:2]))
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    ids = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
    drawn = overlay(small, ids, examination.meaning.classes, legend=True)
    name = escape(f"{f.pair.split}: {shown(f.pair.image, examination.layout.root)}")
    return f'<figure><img src="{_address(drawn)}" alt="{name}"><figcaption>{name}</figcaption></figure>'


def _address(image: ImageArray) -> str:
    """Return a picture as an address that holds all of it."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
