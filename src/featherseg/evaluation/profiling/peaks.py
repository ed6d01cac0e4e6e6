"""What the machine can do at best: multiply-accumulates and bytes per second, measured, not looked up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ...core.errors import FeathersegError

GEMM_SIZE = 1024
"""Rows and columns: enough for full speed, and so short that some try is not disturbed."""
COPY_BYTES = 128 << 20
"""Of each of two arrays: several times what caches hold."""
TRIES = 5
TRY_SECONDS = 1.0
"""At least so many tries, and so long."""
SECONDS = 120
LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "BLIS_NUM_THREADS")


@dataclass(frozen=True)
class Peaks:
    """The best of several tries.

    Args:
        gmacs: 10⁹ fp32 multiply-accumulates per second, of a product of two matrices.
        gbytes: 10⁹ bytes per second, read and written, of copying an array that no cache holds.
        threads: that both were measured with.
    """

    gmacs: float
    gbytes: float
    threads: int


def measure_peaks(threads: int) -> Peaks:
    """Measure both with NumPy, in a process of its own: its number of threads is settled when it is imported.

    Raises:
        FeathersegError: the process ended without a result.
    """
    code = "import sys; from featherseg.evaluation.profiling.peaks import report; report(int(sys.argv[1]))"
    environment = os.environ | dict.fromkeys(LIMITS, str(threads))
    try:
        ended = subprocess.run(
            [sys.executable, "-c", code, str(threads)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
        gmacs, gbytes = json.loads(ended.stdout)
    except (subprocess.SubprocessError, ValueError) as error:
        raise FeathersegError(f"the machine's peaks could not be measured ({error}); try again") from error
    return Peaks(gmacs, gbytes, threads)


def report(threads: int) -> None:
    """Write both figures to standard output: the main of :func:`measure_peaks`' process."""
    sys.stdout.write(json.dumps([_gemm(), _copy(threads)]))


def _gemm() -> float:
    left, right = (np.full((GEMM_SIZE, GEMM_SIZE), value, np.float32) for value in (0.5, 0.25))
    out = np.empty_like(left)
    return GEMM_SIZE**3 / _fastest(lambda: np.matmul(left, right, out=out)) / 1e9


def _copy(threads: int) -> float:
    source, target = np.ones(COPY_BYTES, np.uint8), np.zeros(COPY_BYTES, np.uint8)
    bounds = np.linspace(0, COPY_BYTES, threads + 1).astype(int)
    parts = [slice(start, stop) for start, stop in pairwise(bounds)]

    with ThreadPoolExecutor(threads) as pool:  # NumPy frees Python's lock while it copies

        def copy() -> None:
            list(pool.map(lambda part: np.copyto(target[part], source[part]), parts))

        return 2 * COPY_BYTES / _fastest(copy) / 1e9


def _fastest(function: Callable[[], object]) -> float:
    """Return the shortest time in seconds: whatever else the machine does only ever adds."""
    times: list[float] = []
    end = time.perf_counter() + TRY_SECONDS
    while len(times) < TRIES or time.perf_counter() < end:
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return min(times)
