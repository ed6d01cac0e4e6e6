"""Time from the start of a process to its first mask, in fresh processes: import, load, infer, and what each costs.

    python benchmarks/first_mask.py [MODEL.onnx] [--backend onnxruntime] [--size 512x1024] [--threads 2] [--starts 7]

The machine code of featherseg's kernels is on disk after the first use ("warm"); "cold" is the very first use, which
compiles them. Python's own byte code is there in both, as pip leaves it, and SciPy and torch are hidden, which the base
install has not. Times are of the clock on the wall; beside them the processor time of the whole process, which other
work on the machine makes longer by less.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from featherseg.core.machine import machine_facts
from featherseg.evaluation.opening import STREET

CHILD = """
import sys, time
marks = [time.perf_counter()]
sys.modules |= dict.fromkeys(("scipy", "torch"))  # not in the base install; numba would import SciPy
from featherseg import Segmenter
marks.append(time.perf_counter())
path, backend, height, width, threads = sys.argv[1:]
segmenter = Segmenter(path, backend=backend, threads=int(threads))
marks.append(time.perf_counter())
import numpy as np
ramp = np.linspace(0, 255, int(width), dtype=np.uint8)[None, :, None]
segmenter(np.repeat(np.repeat(ramp, int(height), axis=0), 3, axis=2)).mask
marks.append(time.perf_counter())
end = time.time()
import json
print(json.dumps([end, *(1000 * (b - a) for a, b in zip(marks, marks[1:]))]))
"""


def start(words: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Run one process to its first mask; return milliseconds: until then, of the processor, of each part."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.time()  # one clock for both processes
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, *words], env=environment, capture_output=True, text=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    end, *parts = json.loads(ended.stdout)
    names = ("import", "load", "segment")
    return {"first mask after": 1000 * (end - begin), "processor": processor, **dict(zip(names, parts, strict=True))}


def slow_imports(environment: dict[str, str], count: int = 8) -> list[tuple[str, float]]:
    """Return the packages whose import takes longest, with all that they import in turn, in milliseconds."""
    code = "import sys; sys.modules['scipy'] = None; from featherseg import Segmenter; import onnxruntime, numba"
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    rows = [line.removeprefix("import time:").split("|") for line in ended.stderr.splitlines()[1:]]
    found = [(name.strip(), int(total) / 1000) for _, total, name in rows if name.strip().isidentifier()]
    return sorted((row for row in found if row[0] != "featherseg"), key=lambda row: -row[1])[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, default=STREET)
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--size", default="512x1024")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--starts", type=int, default=7)
    args = parser.parse_args()
    words = [str(args.model), args.backend, *args.size.split("x"), str(args.threads)]
    machine = machine_facts(args.threads)
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    print(f"{machine['processor']}, threads: {args.threads}, load before: {machine['load']}; {versions}")
    with tempfile.TemporaryDirectory() as folder:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = f"{folder}/python"
        for name in ("before", "first"):  # the first writes the byte code
            cold = start(words, environment | {"NUMBA_CACHE_DIR": f"{folder}/{name}"})
        environment["NUMBA_CACHE_DIR"] = f"{folder}/first"
        warm = [start(words, environment) for _ in range(args.starts)]
        imports = slow_imports(environment)
    for name, row in (
        ("cold", cold),
        ("warm, median", {k: statistics.median(r[k] for r in warm) for k in cold}),
        ("warm, best", {k: min(r[k] for r in warm) for k in cold}),
    ):
        print(f"{name:14}" + "   ".join(f"{key} {ms:6.0f} ms" for key, ms in row.items()))
    print("imports, ms: " + ", ".join(f"{name} {ms:.0f}" for name, ms in imports))


if __name__ == "__main__":
    main()
