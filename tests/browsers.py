"""A headless Chromium, pages in it, and a plain web server for them. Skips where one of the parts is missing."""

from __future__ import annotations

import base64
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
"""A camera that shows a green field with a clock, and may be used without being asked for; and the right of root."""
SOFTWARE_WEBGPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")
PATIENCE_MS = 120_000


@pytest.fixture(scope="session")
def ort_web() -> Path:
    """The npm package onnxruntime-web, where ``FEATHERSEG_ORT_WEB`` says or beside the project."""
    given = os.environ.get("FEATHERSEG_ORT_WEB")
    places = [Path(given)] if given else [ROOT / "node_modules" / "onnxruntime-web"]
    found = next((place for place in places if (place / "package.json").is_file()), None)
    if found is None:
        pytest.skip("needs the npm package onnxruntime-web: npm install onnxruntime-web, or FEATHERSEG_ORT_WEB=folder")
    return found


@pytest.fixture(scope="module")  # its event loop would be in the way of others
def playwright() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the group browser")
    with sync_api.sync_playwright() as driver:
        yield driver


def launch(playwright: Any, flags: Sequence[str] = ()) -> Any:
    path = os.environ.get("FEATHERSEG_CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium, or FEATHERSEG_CHROMIUM=program")
    return playwright.chromium.launch(executable_path=path, args=[*FLAGS, *flags])


@pytest.fixture(scope="module")
def chromium(playwright: Any) -> Iterator[Any]:
    browser = launch(playwright)
    yield browser
    browser.close()


@dataclass
class Site:
    """A folder that is served.

    Args:
        url: its address.
        asked: method and path of each request so far.
    """

    url: str
    asked: list[str] = field(default_factory=list)


@contextmanager
def served(folder: Path) -> Iterator[Site]:
    """Serve a folder as the plainest of web servers does, while the block runs."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given, directory=str(folder))

        def log_message(self, *words: object) -> None:
            site.asked.append(f"{self.command} {self.path}")

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site = Site(f"http://localhost:{server.server_port}/")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield site
        finally:
            server.shutdown()


class Opened:
    """A page of ours in a tab of its own."""

    def __init__(self, tab: Any) -> None:
        self.tab = tab

    def go(self, url: str) -> Opened:
        """Open it, and wait for its verdict."""
        self.tab.goto(url)
        return self.settle()

    def settle(self) -> Opened:
        self.tab.wait_for_selector("#status:not(.busy)", timeout=PATIENCE_MS)
        return self

    @property
    def status(self) -> str:
        return str(self.tab.inner_text("#status-text"))

    @property
    def is_good(self) -> bool:
        return "good" in str(self.tab.get_attribute("#status", "class"))

    def shown(self, name: str) -> None:
        """Wait until the picture of this name is segmented and shown."""
        self.tab.wait_for_selector(f'#measures[data-name="{name}"]', timeout=PATIENCE_MS)

    def choose(self, picture: Path) -> None:
        self.tab.set_input_files("#file", picture)
        self.shown(picture.stem)

    def give(self, event: str, picture: Path) -> None:
        """Drop or paste a picture, as the events of a browser do."""
        content = base64.b64encode(picture.read_bytes()).decode()
        self.tab.evaluate(
            """([event, name, content]) => {
                const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
                const data = new DataTransfer();
                data.items.add(new File([bytes], name, { type: "image/png" }));
                const options = { bubbles: true, cancelable: true };
                document.body.dispatchEvent(event === "drop"
                    ? new DragEvent("drop", { ...options, dataTransfer: data })
                    : new ClipboardEvent("paste", { ...options, clipboardData: data }));
            }""",
            [event, picture.name, content],
        )

    def saved(self, button: str, path: Path) -> Path:
        """Save the mask or the overlay."""
        with self.tab.expect_download(timeout=PATIENCE_MS) as download:
            self.tab.click(button)
        download.value.save_as(path)
        return path
