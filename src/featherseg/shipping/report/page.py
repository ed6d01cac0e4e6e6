"""The report as files: ``report.json`` for programs, and ``report.html``, one page that needs nothing beside it."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

from ...core.charts import style_sheet
from ...core.errors import ArtifactError, first_line
from ...core.files import write_atomically
from . import sections
from .figures import ShipReport

JSON_NAME, HTML_NAME = "report.json", "report.html"

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Makes it certain that the page asks nobody for anything, whatever a class is called."""


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
        _section("Files", sections.files_table(report), rules),
        _section("Accuracy against latency", sections.accuracy_chart(report), rules),
        _section("Steps", sections.steps_table(report), rules),
        _section("Size", sections.size_chart(report), "With the files beside a file that it needs; 1 MB is 10⁶ bytes."),
        _section("IoU by class", sections.class_chart(report), rules),
    ]
    if report.worst:
        parts.append(_section("Worst images", sections.worst_panels(report), rules))
    parts.append(_section("Protocol", sections.protocol_table(report), ""))
    style = style_sheet()
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(report.name)}: ship report</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n{_head(report)}\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


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


def _section(title: str, body: str, caption: str) -> str:
    note = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<section><h2>{title}</h2><figure>{body}{note}</figure></section>"
