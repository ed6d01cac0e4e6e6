"""Time the exact upsampling + arg max against torch's interpolate + argmax, and count the pixels that differ.

    python benchmarks/postprocess.py [MODEL.onnx IMAGE …]

With a model, logits are those of its network for the images, resized to 512x1024; without, smooth random fields whose
classes cover regions as those of a trained network do. One thread each; medians of 20 alternating runs.
"""

from __future__ import annotations

import platform
import statistics
import sys
import time
from collections.abc import Callable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from featherseg.images import read_image
from featherseg.runtime.postprocess import upsample_argmax
from featherseg.runtime.segmenter import Segmenter
from featherseg.runtime.sessions import cpu_name

SIZE = (512, 1024)
RUNS = 20


def random_fields(classes: int = 19, stride: int = 8, seed: int = 0) -> NDArray[np.float32]:
    """Return smooth logits (classes, H / stride, W / stride) whose arg max has large regions."""
    rng = np.random.default_rng(seed)
    height, width = SIZE[0] // stride, SIZE[1] // stride
    coarse = rng.normal(0, 4, (classes, height // 8, width // 8)).astype(np.float32)
    smooth = [cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC) for field in coarse]
    return np.stack(smooth) + rng.normal(0, 0.2, (classes, height, width)).astype(np.float32)


def milliseconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return 1000 * (time.perf_counter() - begin)


def compare(name: str, logits: NDArray[np.float32]) -> None:
    tensor = torch.from_numpy(logits)[None]

    def plain() -> NDArray[np.uint8]:
        full = torch.nn.functional.interpolate(tensor, size=SIZE, mode="bilinear", align_corners=False)
        return full.argmax(1)[0].to(torch.uint8).numpy()

    differing = int((plain() != upsample_argmax(logits, SIZE)).sum())
    ours, theirs = [], []
    for _ in range(RUNS):
        ours.append(milliseconds(lambda: upsample_argmax(logits, SIZE)))
        theirs.append(milliseconds(plain))
    fast, slow = statistics.median(ours), statistics.median(theirs)
    print(f"{name:24} {fast:7.2f} ms   torch {slow:7.1f} ms   ratio {slow / fast:6.1f}   differing pixels {differing}")


def main() -> None:
    torch.set_num_threads(1)
    print(
        f"{cpu_name()}, 1 thread, torch {torch.__version__}, numpy {np.__version__}, Python {platform.python_version()}"
    )
    if len(sys.argv) > 1:
        segmenter = Segmenter(sys.argv[1], size=SIZE, threads=1)
        for path in sys.argv[2:]:
            compare(path.rpartition("/")[2][:24], segmenter.logits(read_image(path)))
        return
    for seed in range(3):
        compare(f"random fields {seed}", random_fields(seed=seed))


if __name__ == "__main__":
    main()
