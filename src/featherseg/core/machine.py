"""What every figure depends on: processor, threads, load, memory, system, and versions of packages.

No torch is imported here; what torch knows is told where a program has imported it already.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("featherseg", "onnxruntime", "openvino", "torch", "numpy", "numba", "opencv-python-headless")
"""What the time of a network depends on."""


def cpu_name() -> str:
    """Return the processor's name, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.lower().startswith(("model name", "hardware")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def adds_bytes_in_16_bits() -> bool:
    """Return whether this is an x86 processor without VNNI (before 2019), as far as the system tells it, as Linux does.

    Its sums of products of bytes overflow without a word, in kernels that do not take care.
    """
    info = Path("/proc/cpuinfo")
    if platform.machine().lower() not in ("x86_64", "amd64") or not info.is_file():
        return False
    lines = info.read_text(errors="replace").splitlines()
    flags = next((line for line in lines if line.startswith("flags")), "vnni")
    return "vnni" not in flags


def available_threads() -> int:
    """Return the number of processor threads this process may use (its affinity, where the system has one)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load() -> float | None:
    """Return how many processes wanted a core in the last minute, on average; None where the system does not tell."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def peak_resident_bytes() -> int | None:
    """Return this process's peak of resident memory in bytes, where the system tells it.

    On Linux not from ``getrusage``: there a process starts with the peak of the one that started it.
    """
    if (peak := _memory("VmHWM:")) is not None:
        return peak
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None


def resident_bytes() -> int | None:
    """Return this process's resident memory in bytes, where the system tells it, as Linux does."""
    return _memory("VmRSS:")


def _memory(entry: str) -> int | None:
    """Return an entry of Linux's account of this process in bytes; None on other systems."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    line = next((line for line in status.read_text().splitlines() if line.startswith(entry)), None)
    return int(line.split()[1]) * 1024 if line else None


def versions(packages: Iterable[str], missing: str = "") -> dict[str, str]:
    """Return the versions of packages; of one that is not installed `missing`, or nothing where that is empty."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            if missing:
                found[package] = missing
    return found


def gpu_name() -> str | None:
    """Return the name of torch's CUDA device; None where there is none, or where torch is not imported."""
    torch: Any = sys.modules.get("torch")
    return str(torch.cuda.get_device_name()) if torch is not None and torch.cuda.is_available() else None


def machine_facts(threads: int | None = None) -> dict[str, Any]:
    """Return what a time depends on: processor, cores, threads, the load before, system and versions; JSON types.

    Args:
        threads: that engines use; all that the process may where left out.
    """
    return {
        "processor": cpu_name(),
        "cores": available_threads(),
        "threads": threads or available_threads(),
        "load": load(),
        "system": platform.platform(),
        "versions": {"python": platform.python_version(), **versions(PACKAGES)},
    }
