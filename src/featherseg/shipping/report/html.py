"""What pages are made of: one document that needs nothing beside it, its sections, tables and lists.

Whatever comes from outside is escaped by whoever makes HTML of it; arguments that are HTML already say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from ...core.charts import color_class, style_sheet

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Makes it certain that the page asks nobody for anything, whatever a class is called."""


def document(title: str, parts: Sequence[str]) -> str:
    """Return a page of a title, which is text, and parts, which are HTML."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style_sheet()}</style>\n</head>\n"
        "<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def section(title: str, body: str, caption: str = "") -> str:
    """Return a section of a title and a body, which are HTML, and a caption, which is text."""
    note = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<section><h2>{title}</h2><figure>{body}{note}</figure></section>"


def key(text: str, series: int) -> str:
    """Return a short key on the colour of a series."""
    return f'<span class="key {color_class(series)}">{text}</span>'


def keys(entries: Iterable[tuple[str, int, str]]) -> str:
    """Return a list of a key, series and name each."""
    items = "".join(f"<li>{key(text, series)} {escape(name)}</li>" for text, series, name in entries)
    return f'<ul class="keys">{items}</ul>'


def swatches(entries: Iterable[tuple[str, tuple[int, int, int]]]) -> str:
    """Return a list of a name and an RGB colour each."""
    items = "".join(
        f'<li><span class="swatch" style="background:rgb({r},{g},{b})"></span>{escape(name)}</li>'
        for name, (r, g, b) in entries
    )
    return f'<ul class="keys">{items}</ul>'


def pictures(addresses: Mapping[str, str], name: str) -> str:
    """Return pictures of one image side by side, by what each shows of it; all of it text."""
    figures = "".join(
        f'<figure><img src="{escape(address)}" alt="{escape(title)} of {escape(name)}">'
        f"<figcaption>{escape(title)}</figcaption></figure>"
        for title, address in addresses.items()
    )
    return f'<div class="panels">{figures}</div>'


def number(text: str, note: str = "") -> str:
    """Return a cell of a table with a figure, and a small one below it; both HTML."""
    return f'<td class="n">{text}{f"<small>{note}</small>" if note else ""}</td>'


def heads(names: Iterable[str]) -> str:
    """Return the heads of columns of figures; HTML."""
    return "".join(f'<th class="n">{name}</th>' for name in names)


def table(head: str, rows: str) -> str:
    """Return a table of a row of heads and rows of cells, both HTML."""
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
