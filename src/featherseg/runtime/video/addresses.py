"""What the name of a source means, and how PyAV opens it."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ...core.errors import DataError

Kind = Literal["file", "folder", "camera", "stream"]

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
DOWNLOADS = frozenset({"http", "https", "ftp", "ftps", "sftp"})
"""Schemes that serve files as well as streams; those of all others are streams."""
SCHEME_OPTIONS = {
    # Cameras send RTSP over UDP by default, and every packet lost there is a torn frame.
    "rtsp": {"rtsp_transport": "tcp"},
    "rtsps": {"rtsp_transport": "tcp"},
}


@dataclass(frozen=True)
class Address:
    """Where frames come from.

    Args:
        name: the source as people know it, for messages; without password.
        kind: what it is.
        url: what PyAV opens; a path for a folder.
        format: ffmpeg's name of the format, where the URL does not tell.
        options: ffmpeg's options.
    """

    name: str
    kind: Kind
    url: str
    format: str | None = None
    options: dict[str, str] = field(default_factory=dict)

    @property
    def download(self) -> bool:
        """Whether the stream may be a file after all; opening it tells."""
        return self.kind == "stream" and urlsplit(self.url).scheme.lower() in DOWNLOADS


def find_address(source: str | Path | int, av: ModuleType) -> Address:
    """Return what `source` means.

    A number is a camera, as is a device such as ``/dev/video0``; what begins like ``rtsp://`` is a stream; all else is
    a file or a folder. A file whose name is a number is ``./0``.

    Raises:
        DataError: there is no such file or camera.
    """
    text = str(source)
    if re.fullmatch(r"\d+", text, re.ASCII):
        return _camera(int(text), av)
    if platform.system() == "Windows" and text.startswith("video="):
        return Address(text, "camera", text, "dshow")
    if isinstance(source, str) and URL.match(source):
        scheme = urlsplit(source).scheme.lower()
        if scheme == "file":
            return find_address(Path(url2pathname(urlsplit(source).path)), av)
        return Address(re.sub(r"(?<=://)[^/@]*@", "", source), "stream", source, options=SCHEME_OPTIONS.get(scheme, {}))
    path = Path(text)
    if not path.exists():
        raise DataError(f"{path} does not exist; check the path")
    if path.is_char_device():
        return Address(text, "camera", text, "v4l2")
    return Address(text, "folder" if path.is_dir() else "file", text)


def _camera(number: int, av: ModuleType) -> Address:
    """Return camera `number`, from 0, of this machine."""
    name, system = f"camera {number}", platform.system()
    if system == "Linux":
        device = Path(f"/dev/video{number}")
        if not device.exists():
            raise DataError(f"{name} ({device}) does not exist; connect it, or give another number")
        return Address(name, "camera", str(device), "v4l2")
    if system == "Darwin":
        # Its own default of 29.97 frames per second is refused by most cameras.
        return Address(name, "camera", f"{number}:none", "avfoundation", {"framerate": "30"})
    if system == "Windows":
        names = [device.name for device in av.enumerate_input_devices("dshow") if "video" in device.media_types]
        if number >= len(names):
            raise DataError(f"{name} does not exist; there are {len(names)}: {', '.join(names) or 'connect one'}")
        return Address(f"{name} ({names[number]})", "camera", f"video={names[number]}", "dshow")
    raise DataError(f"{name}: cameras of {system or 'this system'} have no numbers here; give a device's path")
