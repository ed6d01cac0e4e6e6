"""A page in the browser against ONNX Runtime itself: the same file, pictures and processor, in turns.

    python benchmarks/web.py [MODEL] --runtime node_modules/onnxruntime-web [--sizes 256x512 512x1024] [--runs 12]

The page is the one that ``featherseg web`` writes, in headless Chromium with WebAssembly (SIMD, threads); figures are
its own, from the pixels in memory to the mask. featherseg's own path runs in this process with as many threads. Each
picture goes through both by turns; figures are medians, with the network's least in brackets. *Same* is the share of
pixels with the same class in both.

Needs playwright and Chromium (``--chromium``).
"""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import statistics
import tempfile
import threading
from collections import defaultdict
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from featherseg.cli.app import parse_size
from featherseg.cli.tables import print_table, print_text
from featherseg.core.images import write_image
from featherseg.core.machine import machine_facts
from featherseg.data.readers.synthetic import render_street
from featherseg.evaluation.opening import STREET
from featherseg.runtime.segmenter import Segmenter
from featherseg.web.page import FACTS, write_page
from featherseg.web.runtime import integrity

STAGES = ("pre", "net", "post")
PATIENCE_MS = 300_000


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and prints nothing."""

    def log_message(self, *words: object) -> None:
        """Say nothing."""


def on_page(tab: Any, photo: Path) -> dict[str, float]:
    """Segment a picture on the page; return the milliseconds of its stages."""
    tab.set_input_files("#file", photo)
    tab.wait_for_selector(f'#measures[data-name="{photo.stem}"]', timeout=PATIENCE_MS)
    return {stage: float(tab.get_attribute("#measures", f"data-{stage}")) for stage in STAGES}


def run_the_file_itself(page: Path, model: Path) -> None:
    """Give a page the file that it was made of, and let it go on whatever mask that gives."""
    facts = json.loads((page / FACTS).read_text())
    content = model.read_bytes()
    (page / facts["model"]["url"]).write_bytes(content)
    facts["model"] |= {"bytes": len(content), "integrity": integrity(content)}
    facts["golden"]["agreement"] = 0.0
    (page / FACTS).write_text(json.dumps(facts))


def same(tab: Any, segmenter: Segmenter, frame: np.ndarray, place: Path) -> float:
    """Return the share of pixels to which the page, which shows the frame, and the segmenter give one class."""
    with tab.expect_download() as download:
        tab.click("#save-mask")
    download.value.save_as(place)
    with Image.open(place) as mask:
        return float((np.asarray(mask) == segmenter.segment(frame)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", default=STREET, help="exported .onnx file")
    parser.add_argument("--runtime", type=Path, required=True, help="folder of the npm package onnxruntime-web")
    parser.add_argument("--sizes", nargs="+", default=["256x512", "512x1024"], help="HxW of the pictures")
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--as-int8", action="store_true", help="the file itself, with 8 bits between layers too")
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, sync_playwright() as driver:
        folder = Path(name)
        golden = render_street(1, (128, 256))[0]
        page = write_page(args.model, folder / "page", golden=golden, runtime=args.runtime)
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(page.folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = driver.chromium.launch(executable_path=args.chromium, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.goto(f"http://localhost:{server.server_port}/?engine=wasm")
        tab.wait_for_selector("#status.good", timeout=PATIENCE_MS)
        print_text(tab.inner_text("#status"))
        threads = int(tab.evaluate("navigator.hardwareConcurrency"))
        if args.as_int8:
            run_the_file_itself(page.folder, args.model)
        # What the page runs: of an int8 file, its weights with floats between layers.
        network = page.folder / json.loads((page.folder / FACTS).read_text())["model"]["url"]
        segmenter = Segmenter(network, threads=threads)
        rows, facts = [], machine_facts(threads)
        for text in args.sizes:
            frame = render_street(2, parse_size(text))[0]
            times: dict[str, list[dict[str, float]]] = defaultdict(list)
            for i in range(args.warmup + args.runs):
                photo = write_image(folder / f"{text}_{i}.png", frame)
                latency = segmenter.latency(frame, runs=1, warmup=0)
                times["native"].append({stage: latency.stages[stage][0] for stage in STAGES})
                times["page"].append(on_page(tab, photo))
            agreement = same(tab, segmenter, frame, folder / "mask.png")
            counted = {way: found[args.warmup :] for way, found in times.items()}
            native = statistics.median(row["net"] for row in counted["native"])
            for way, found in counted.items():
                medians = {stage: statistics.median(row[stage] for row in found) for stage in STAGES}
                least = min(row["net"] for row in found)
                net = f"{medians['net']:.1f} ({least:.1f})"
                figures = [f"{medians['pre']:.1f}", net, f"{medians['post']:.1f}", f"{sum(medians.values()):.1f}"]
                rows.append([text, way, *figures, f"{medians['net'] / native:.2f}", f"{100 * agreement:.3f} %"])
        browser.close()
        server.shutdown()
    heads = ["size", "where", "pre ms", "net ms", "post ms", "sum ms", "net, times native", "same"]
    print_table(f"{args.model.name}, median of {args.runs} after {args.warmup}", heads, rows)
    versions = ", ".join(f"{package} {number}" for package, number in facts["versions"].items())
    print_text(
        f"{facts['processor']}, threads: {threads}, load before: {facts['load']}; {versions}, onnxruntime-web "
        f"{page.runtime.version}, Chromium {browser.version}"
    )


if __name__ == "__main__":
    main()
