"""The page that a server shows: one that was written before, or one of its own first network."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..core.errors import FeathersegError
from ..web.page import write_page
from .logs import note
from .models import Models


@contextmanager
def page_of(models: Models, folder: Path | None = None) -> Iterator[Path | None]:
    """Give the folder of a server's page for as long as the block runs.

    Args:
        models: the server's; the first that is an .onnx file gets a page.
        folder: of a page that there is already.

    Yields:
        The folder; None where no network can be run by a browser.
    """
    if folder is not None:
        yield folder
        return
    source = next((model for model in models if model.source.suffix.lower() == ".onnx"), None)
    if source is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="featherseg-page-") as place:
        try:
            shown: Path | None = write_page(source.source, Path(place) / "page", title=source.name).folder
        except (FeathersegError, OSError) as error:
            note(f"there is no page at /: {error}", logging.WARNING)
            shown = None
        yield shown
