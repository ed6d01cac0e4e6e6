"""What a server writes to standard error: a line for each request, as text or as JSON."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

from ..core.progress import logger as parent

logger = logging.getLogger("featherseg.serving")
"""INFO for start and end; WARNING for what the owner should act on; ERROR for defects."""
requests = logging.getLogger("featherseg.serving.requests")
"""INFO for each request."""
FACTS = "facts"
"""Attribute of a record: what it is about, as a dictionary of JSON types."""


class JsonLines(logging.Formatter):
    """One JSON object for each record, on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said: dict[str, Any] = {"time": when, "level": record.levelname.lower(), "message": record.getMessage()}
        said |= getattr(record, FACTS, {})
        if record.exc_info:
            said["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(said, ensure_ascii=True, default=str)


def write_logs(as_json: bool = False, each_request: bool = True) -> None:
    """Write notes and requests to standard error from now on.

    Args:
        as_json: whether each line is a JSON object.
        each_request: whether there is a line for each request.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else logging.Formatter("%(asctime)s %(message)s"))
    logger.handlers = [handler]
    logger.propagate = False  # the notes of the command line are for people, and drawn between bars
    logger.setLevel(logging.INFO)
    requests.setLevel(logging.INFO if each_request else logging.WARNING)
    if as_json:  # notes of the rest of the library, too
        parent.handlers = [handler]


def note(message: str, level: int = logging.INFO, **facts: Any) -> None:
    """Log a line with what it is about."""
    if logger.isEnabledFor(level):
        logger.log(level, message, extra={FACTS: facts})
