"""The report as files: ``report.json`` for programs, and ``report.html``, one page that needs nothing beside it."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

from ...core.errors import ArtifactError, first_line
from ...core.files import write_atomically
from . import sections
from .figures import ShipReport
from .html import document, section
from .reliability import CAPTION

JSON_NAME, HTML_NAME = "report.json", "report.html"


def write_report(report: ShipReport, folder: str | Path) -> Path:
    """Write ``report.json`` and ``report.html`` into `folder`, each whole or not at all; return the page's path."""
    folder = Path(folder)
    text = json.dumps(report.to_dict(), indent=1, allow_nan=False)
    page = render(report).encode("utf-8", "replace")  # halves of surrogate pairs, which JSON can hold, are no text
    write_atomically(folder / JSON_NAME, lambda file: file.write(f"{text}\n".encode()))
    return write_atomically(folder / HTML_NAME, lambda file: file.write(page))


def read_report(path: str | Path) -> ShipReport:
    """Read the report of a model folder, or a ``report.json`` itself.

    Raises:
        ArtifactError: there is none, or it is damaged, of a newer featherseg, or none of ours.
    """
    path = Path(path)
    path = path / JSON_NAME if path.is_dir() else path
    try:
        return ShipReport.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} does not exist; give a model folder that featherseg wrote") from error
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} cannot be read ({first_line(error)}); ship the network again") from error


def render(report: ShipReport) -> str:
    """Return the page: files, accuracy against latency, steps, sizes, classes, worst images, protocol."""
    rules = sections.protocol_line(report)
    parts = [
        section("Files", sections.files_table(report), rules),
        section("Accuracy against latency", sections.accuracy_chart(report), rules),
        section("Steps", sections.steps_table(report), rules),
        section("Size", sections.size_chart(report), "With the files beside a file that it needs; 1 MB is 10⁶ bytes."),
        section("IoU by class", sections.class_chart(report), rules),
    ]
    if calibrated := [(file.name, file.calibration) for file in report.files if file.calibration]:
        parts.append(section("Confidence", sections.confidence(calibrated), CAPTION))
    if report.worst:
        parts.append(section("Worst images", sections.worst_panels(report), rules))
    parts.append(section("Protocol", sections.protocol_table(report), ""))
    return document(f"{report.name}: ship report", [_head(report), *parts])


def _head(report: ShipReport) -> str:
    count, passed = len(report.files), sum(file.passed for file in report.files)
    slower = sum(file.passed and file.slower for file in report.files)
    mark, style = ("✓", "good") if passed == count > 0 else ("✗", "bad")
    words = f"{passed} of {count} files passed their verification"
    words += f"; {slower} of those slower than fp32 and not recommended" if slower else ""
    about = f"{report.created} · {len(report.classes)} classes · {report.dataset}, {report.images} images"
    return (
        f"<header><h1>{escape(report.name)}</h1>"
        f'<p><b class="{style}">{mark} {words}</b></p><p class="soft">{escape(about)}</p></header>'
    )
