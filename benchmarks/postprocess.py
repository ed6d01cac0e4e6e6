"""Time what comes after the network at 512x1024: upsampling + arg max, counting for mIoU, and drawing.

    python benchmarks/postprocess.py [MODEL IMAGE …] [--precision bf16] [--threads 2] [--json]

Logits are those of the model for the images, resized; without a model, smooth random fields of 19 classes that cover
regions as those of a trained network do. Times are CPU time of one thread, so that other programs count little:
medians of alternating runs. Every way to do a thing is checked to give the same before it is timed, but torch, whose
sums round in another order: pixels that differ from it are counted.

- upsample: the kernel against torch's interpolate + arg max.
- confidence: mask and probability of the class that won, against torch's interpolate + softmax + max.
- count, draw: the mask first, then a confusion matrix or an overlay of it, against one pass over bands of it that stay
  in the processor's cache. One pass is no faster, which is why featherseg has none.
- With a model: the stages of a frame end to end, in wall time, with the share that is not the network.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numba
import numpy as np
import torch
from numpy.typing import NDArray

from featherseg.cli.tables import print_json, print_table, print_text
from featherseg.core.images import read_image
from featherseg.core.machine import cpu_name
from featherseg.core.types import ClassSet, ImageArray, MaskArray
from featherseg.evaluation.metrics import ConfusionMatrix
from featherseg.runtime import upsample_kernels
from featherseg.runtime.confidence import upsample_confidence
from featherseg.runtime.draw import blend_table, overlay
from featherseg.runtime.fitting import resized
from featherseg.runtime.postprocess import CONFIDENCE_KERNELS, cell_bounds, kernels, prepare, upsample_argmax
from featherseg.runtime.segmenter import Segmenter
from featherseg.runtime.sessions.base import open_session

SIZE = (512, 1024)
RUNS = 30
BAND = 8
"""Rows of logits in one pass: 64 rows of the mask, 64 KiB."""

Case = tuple[str, NDArray[np.float32], ImageArray, ClassSet]

fill_rows = numba.njit(nogil=True)(upsample_kernels.fill_mask.__wrapped__)  # type: ignore[attr-defined]


@numba.njit(nogil=True)
def count(mask: Any, target: Any, counts: Any) -> None:
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            counts[target[y, x], mask[y, x]] += 1


@numba.njit(nogil=True)
def draw(mask: Any, image: Any, table: Any, drawn: Any) -> None:
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            for c in range(3):
                drawn[y, x, c] = table[mask[y, x], c, image[y, x, c]]


@numba.njit(nogil=True)
def count_in_one_pass(maps: Any, rows: Any, down: Any, columns: Any, right: Any, target: Any, counts: Any) -> None:
    for first in range(0, maps.shape[1], BAND):
        last = min(first + BAND, maps.shape[1])
        y0, y1 = rows[first], rows[last]
        mask = np.zeros((y1 - y0, target.shape[1]), np.uint8)
        fill_rows(maps, rows - y0, down[y0:], columns, right, first, last, mask)
        count(mask, target[y0:y1], counts)


@numba.njit(nogil=True)
def draw_in_one_pass(
    maps: Any, rows: Any, down: Any, columns: Any, right: Any, image: Any, table: Any, drawn: Any
) -> None:
    for first in range(0, maps.shape[1], BAND):
        last = min(first + BAND, maps.shape[1])
        y0, y1 = rows[first], rows[last]
        mask = np.zeros((y1 - y0, image.shape[1]), np.uint8)
        fill_rows(maps, rows - y0, down[y0:], columns, right, first, last, mask)
        draw(mask, image[y0:y1], table, drawn[y0:y1])


def axes(logits: NDArray[np.float32]) -> tuple[Any, ...]:
    """Return what the kernels take: maps, and cells and weights of the rows and columns."""
    maps, _, rows, columns = prepare(logits, SIZE, None, "chw")
    return maps, cell_bounds(rows[0], maps.shape[1]), rows[1], cell_bounds(columns[0], maps.shape[2]), columns[1]


def random_fields(classes: int = 19, stride: int = 8, seed: int = 0) -> NDArray[np.float32]:
    """Return smooth logits (classes, H / stride, W / stride) whose arg max has large regions."""
    rng = np.random.default_rng(seed)
    height, width = SIZE[0] // stride, SIZE[1] // stride
    coarse = rng.normal(0, 4, (classes, height // 8, width // 8)).astype(np.float32)
    smooth = [cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC) for field in coarse]
    return np.stack(smooth) + rng.normal(0, 0.2, (classes, height, width)).astype(np.float32)


def cpu_ms(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median CPU time of each way, in ms, over runs that take turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(RUNS + 2):
        for name, way in ways.items():
            begin = time.process_time()
            way()
            if run >= 2:
                times[name].append(1000 * (time.process_time() - begin))
    return {name: statistics.median(each) for name, each in times.items()}


def measure(case: Case) -> dict[str, Any]:
    """Return the CPU times of every way, by task."""
    name, logits, image, classes = case
    tensor = torch.from_numpy(logits)[None]
    truth: MaskArray = np.roll(upsample_argmax(logits, SIZE), 9, axis=1)
    truth[:8] = classes.ignore_index
    table, confusion = blend_table(classes, 0.6), ConfusionMatrix(classes)

    def plain() -> NDArray[np.uint8]:
        full = torch.nn.functional.interpolate(tensor, size=SIZE, mode="bilinear", align_corners=False)
        return full.argmax(1)[0].to(torch.uint8).numpy()

    def surely() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        full = torch.nn.functional.interpolate(tensor, size=SIZE, mode="bilinear", align_corners=False)
        most, mask = full.softmax(1).max(1)
        return mask[0].to(torch.uint8).numpy(), most[0].numpy()

    def count_mask() -> NDArray[np.int64]:
        counts = np.zeros((256, len(classes)), np.int64)
        count(upsample_argmax(logits, SIZE), truth, counts)
        return counts[: len(classes)]

    def count_at_once() -> NDArray[np.int64]:
        counts = np.zeros((256, len(classes)), np.int64)
        count_in_one_pass(*axes(logits), truth, counts)
        return counts[: len(classes)]

    def draw_at_once() -> ImageArray:
        drawn = np.empty_like(image)
        draw_in_one_pass(*axes(logits), image, table, drawn)
        return drawn

    def by_opencv() -> NDArray[np.uint8]:
        mask = upsample_argmax(logits, SIZE)
        colors = cv2.LUT(cv2.merge([mask, mask, mask]), classes.palette()[None])
        return np.asarray(cv2.addWeighted(image, 0.4, colors, 0.6, 0), np.uint8)

    confusion.update(truth, upsample_argmax(logits, SIZE))
    assert (count_mask() == confusion.matrix).all()
    assert (count_at_once() == confusion.matrix).all()
    assert (draw_at_once() == overlay(image, upsample_argmax(logits, SIZE), classes)).all()
    return {
        "case": name,
        "shape": list(logits.shape),
        "differing_pixels": int((plain() != upsample_argmax(logits, SIZE)).sum()),
        "upsample": cpu_ms({"kernel": lambda: upsample_argmax(logits, SIZE), "torch": plain}),
        "confidence": cpu_ms({"kernels": lambda: upsample_confidence(logits, SIZE), "torch": surely}),
        "confidence_off": float(np.abs(upsample_confidence(logits, SIZE)[1] - surely()[1]).max()),
        "count": cpu_ms(
            {
                "mask, then ConfusionMatrix": lambda: confusion.update(truth, upsample_argmax(logits, SIZE)),
                "mask, then kernel": count_mask,
                "one pass": count_at_once,
            }
        ),
        "draw": cpu_ms(
            {
                "mask, then OpenCV": by_opencv,
                "mask, then overlay()": lambda: overlay(image, upsample_argmax(logits, SIZE), classes),
                "one pass": draw_at_once,
            }
        ),
    }


def show(found: dict[str, Any]) -> None:
    fast, slow = found["upsample"]["kernel"], found["upsample"]["torch"]
    sure, softmax = found["confidence"]["kernels"], found["confidence"]["torch"]
    rows = [
        [task, way, f"{ms:.2f}"]
        for task in ("upsample", "confidence", "count", "draw")
        for way, ms in found[task].items()
    ]
    shape = "x".join(map(str, found["shape"]))
    print_table(f"{found['case']}: logits {shape} to {SIZE[0]}x{SIZE[1]}", ["task", "way", "CPU ms"], rows)
    print_text(f"torch / kernel: {slow / fast:.0f}; {found['differing_pixels']} pixels differ")
    print_text(f"with confidence: {softmax / sure:.1f}; it differs by {found['confidence_off']:.1e} at most")


def end_to_end(segmenter: Segmenter, image: ImageArray) -> dict[str, Any]:
    """Return the p50 of each stage in ms, and the share of what is neither network nor preparation."""
    latency = segmenter.latency(image, runs=RUNS, draw=True)
    stages = {stage: latency.percentile(50, stage) for stage in latency.stages}
    share = (stages["post"] + stages["draw"]) / sum(stages.values())
    return {"p50_ms": stages, "post_and_draw_share": share, "device": latency.device}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="*", help="exported file, then images; random fields where left out")
    parser.add_argument("--precision", help="of OpenVINO, such as bf16")
    parser.add_argument("--threads", type=int, default=1, help="of the network")
    parser.add_argument("--json", action="store_true")
    return parser.parse_intermixed_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    facts = (
        f"{date.today()}, {cpu_name()}, torch {torch.__version__}, OpenCV {cv2.__version__}, "
        f"numba {numba.__version__}, numpy {np.__version__}, Python {platform.python_version()}; "
        f"medians of {RUNS} alternating runs"
    )
    kernels(None)  # compiled before anything is timed
    kernels(None, CONFIDENCE_KERNELS)
    stages: dict[str, Any] = {}
    cases: list[Case] = []
    if not options.paths:
        noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
        classes = ClassSet(tuple(f"class {i}" for i in range(19)))
        cases = [(f"random fields {seed}", random_fields(seed=seed), noise, classes) for seed in range(3)]
    else:
        given = {"threads": options.threads} | ({"precision": options.precision} if options.precision else {})
        segmenter = Segmenter(open_session(options.paths[0], **given))
        for path in options.paths[1:]:
            image = resized(read_image(path), SIZE)
            cases.append((path.name, np.ascontiguousarray(segmenter.logits(image)), image, segmenter.artifact.classes))
        stages = {path: end_to_end(segmenter, image) for path, _, image, _ in cases}
    found = [measure(case) for case in cases]
    if options.json:
        print_json({"machine": facts, "cases": found, "end_to_end": stages})
        return
    print_text(facts)
    for each in found:
        show(each)
    for name, each in stages.items():
        print_text(
            f"{name}: {', '.join(f'{stage} {ms:.2f} ms' for stage, ms in each['p50_ms'].items())}; "
            f"post + draw {100 * each['post_and_draw_share']:.1f} %; {each['device']}"
        )


if __name__ == "__main__":
    main()
