"""Names of images as programs on the web write them: addresses, storage buckets, names without a suffix."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from ..core.errors import DataError
from ..core.images import IMAGE_SUFFIXES
from ..core.text_files import shortened
from .listing import Pictures

UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-")
"""What Label Studio puts before the name of an uploaded file."""


def path_in(name: str) -> str:
    """Return the path in a name that may be an address.

    Its server and query are dropped, but for ``?d=…``, where Label Studio puts the path of a local file.
    """
    if "://" not in name and not name.startswith("/data/"):
        return name
    try:
        parts = urlsplit(name)
    except ValueError:  # brackets that are no IPv6 address
        return name
    local = parse_qs(parts.query).get("d") if parts.path.rstrip("/").endswith("local-files") else None
    return local[0] if local else unquote(parts.path)


def find_uploaded(pictures: Pictures, name: str) -> Path | None:
    """Return the picture that a name or address means: called so, or so without Label Studio's eight letters.

    Raises:
        DataError: several pictures could be meant.
    """
    path = path_in(name)
    folder, _, last = path.replace("\\", "/").rpartition("/")
    return pictures.find(path) or (
        pictures.find(f"{folder}/{last[9:]}") if UPLOAD_PREFIX.match(last) and len(last) > 9 else None
    )


def find_bare(pictures: Pictures, name: str) -> Path | None:
    """Return the picture of a name without suffix, as lists of VOC's kind have it.

    Raises:
        DataError: several pictures could be meant.
    """
    endings = [ending for suffix in sorted(IMAGE_SUFFIXES) for ending in (suffix, suffix.upper())]
    found = [path for ending in endings if (path := pictures.find(f"{name}{ending}"))]
    if len(found) > 1:
        raise DataError(f"{shortened(repr(name))} may be {found[0]} or {found[1]}; keep one of them")
    return found[0] if found else None
