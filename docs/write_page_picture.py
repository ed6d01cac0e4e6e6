"""Draw docs/images/page.png: the page of ``featherseg web`` in Chromium, wide and light, and narrow and dark.

    featherseg demo
    npm install onnxruntime-web
    python docs/write_page_picture.py runs/demo/fastsegnet.onnx --runtime node_modules/onnxruntime-web

The picture on the page is a generated street, which the demo's network has not seen. Needs playwright and Chromium.
"""

from __future__ import annotations

import argparse
import functools
import io
import shutil
import tempfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from featherseg.core.images import write_image
from featherseg.data.readers.synthetic import render_street
from featherseg.web.page import write_page

IMAGE = Path(__file__).with_name("images") / "page.png"
STREET = (192, 384)
"""(height, width) of the demo's streets."""
WIDE, NARROW = (1180, 780), (390, 780)
GAP, GROUND = 28, (208, 215, 222)


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and prints nothing."""

    def log_message(self, *words: object) -> None:
        """Say nothing."""


def screenshot(browser: Any, url: str, photo: Path, size: tuple[int, int], scheme: str) -> Image.Image:
    """Return the page with a picture on it."""
    tab = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    tab.goto(url)
    tab.wait_for_selector("#status.good", timeout=300_000)
    tab.set_input_files("#file", photo)
    tab.wait_for_selector(f'#measures[data-name="{photo.stem}"]', timeout=300_000)
    tab.evaluate("document.activeElement.blur()")
    shot = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
    tab.close()
    return shot


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--runtime", default="cdn")
    parser.add_argument("--seed", type=int, default=1_000_007, help="of the street on the page")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        golden = render_street(args.seed + 1, STREET)[0]
        page = write_page(args.model, Path(folder, "page"), golden=golden, runtime=args.runtime, title="Streets").folder
        photo = write_image(Path(folder, "street.png"), render_street(args.seed, STREET)[0])
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(page)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            url = f"http://localhost:{server.server_port}/"
            wide = screenshot(browser, url, photo, WIDE, "light")
            narrow = screenshot(browser, url, photo, NARROW, "dark")
            browser.close()
        server.shutdown()
    sheet = Image.new("RGB", (wide.width + narrow.width + 3 * GAP, WIDE[1] + 2 * GAP), GROUND)
    sheet.paste(wide, (GAP, GAP))
    sheet.paste(narrow, (wide.width + 2 * GAP, GAP))
    sheet.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(IMAGE, optimize=True)
    print(f"{IMAGE}, {IMAGE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
