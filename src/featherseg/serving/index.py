"""The page at ``/`` of a server without one of its own: what there is, and how to ask for it."""

from __future__ import annotations

from html import escape

from .models import Models

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>featherseg</title>
<style>
body {{ font: 1rem/1.5 system-ui; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; color-scheme: light dark }}
pre {{ overflow: auto }}
</style>
<h1>featherseg</h1>
<p>This server segments pictures with:</p>
<ul>
{models}
</ul>
<p>A mask of a picture, a palette PNG of class ids:</p>
<pre>curl --data-binary @street.jpg -o mask.png ADDRESS/v1/segment/{first}</pre>
<p>With the header <code>Accept: image/jpeg</code> it is an overlay, with <code>Accept: application/json</code> figures.
<a href="openapi.json">All addresses</a>, <a href="metrics">metrics</a>.</p>
</html>
"""


def index_page(models: Models) -> str:
    """Return the page."""
    items = [f"<li><b>{escape(model.name)}</b>: {escape(', '.join(model.classes.names))}</li>" for model in models]
    first = escape(next(iter(models)).name)
    return _PAGE.format(models="\n".join(items), first=first)
