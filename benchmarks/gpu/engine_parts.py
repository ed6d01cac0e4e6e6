"""TensorRT engines of every network: built and held to the gate several at a time, then timed one after the other."""

from __future__ import annotations

import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from jobs import Found, Job, Skipped, Work, run_jobs
from streets import briefly_trained

from featherseg.compress.calibration import calibration_images
from featherseg.compress.qdq import quantize_onnx
from featherseg.core.errors import FeathersegError, first_line
from featherseg.data.readers.synthetic import STREET_CLASSES, SyntheticStreet
from featherseg.exporting.onnx import export_onnx
from featherseg.exporting.targets import TOLERANCES
from featherseg.exporting.tensorrt import build_engine
from featherseg.exporting.verify import verify
from featherseg.models.factory import list_models
from featherseg.models.session import describe
from featherseg.runtime.segmenter import Segmenter
from featherseg.runtime.sessions.base import open_session
from featherseg.runtime.sessions.tensorrt import PACKAGES

FIRST = ("fastsegnet", "jetnet", "lednet", "mobilenet_aspp", "resnet_unet")
INT8 = ("fastsegnet", "jetnet")
SIZE = (512, 1024)
NETWORK_SECONDS = 150.0
"""That a network may take to be trained a little, exported, built and compared."""
TIMING_SHARE = 0.25
"""Of the part's time, which is left for timing what was built."""
CORES_EACH = 3


def engines(work: Work) -> Found:
    """Engines of all networks in fp16 and of two in int8: built, run, and compared with their networks."""
    package = next((name for name in PACKAGES if importlib.util.find_spec(name)), None)
    if package is None:
        raise Skipped(f"none of {' and '.join(PACKAGES)} is installed; pip install featherseg[tensorrt], or tensorrt")
    if work.device != "cuda" and package != "tensorrt_rtx":
        raise Skipped("no CUDA device, without which TensorRT builds nothing")
    names = ["jetnet"] if work.small else [*FIRST, *(name for name in list_models() if name not in FIRST)]
    cores = len(os.sched_getaffinity(0))
    together = max(min(cores // CORES_EACH, len(names)), 1)
    networks: dict[str, Found] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def built(network: str, outcome: Found) -> None:
            networks[network] = outcome
            work.keep({"built_with": package, "together": together, "networks": networks})

        each = work.left if work.small else NETWORK_SECONDS
        jobs = [
            Job(name, "engine_parts:one_network", each, (name, str(folder), max(cores // together, 1)))
            for name in names
        ]
        limits = {"device": work.device, "small": work.small}
        seconds = work.left * (1 - TIMING_SHARE)
        run_jobs(jobs, folder, seconds=seconds, together=together, done=built, **limits)
        if work.device == "cuda":
            files = sorted(folder.glob("*.engine"), key=lambda path: path.stat().st_mtime)
            timings = [Job(f"time_{path.stem}", "engine_parts:time_engine", 30.0, (str(path),)) for path in files]

            def timed(job: str, outcome: Found) -> None:
                network, _, precision = job.removeprefix("time_").rpartition("-")
                rows = networks[network]["result"].setdefault("engines", {}).setdefault(precision, {})
                rows["time"] = outcome["result"] if outcome["state"] == "done" else outcome["reason"]
                work.keep({"networks": networks})

            run_jobs(timings, folder, seconds=work.left - 3, done=timed, **limits)
    return {}


def one_network(work: Work, network: str, folder: str, threads: int) -> Found:
    """Build a network's engines and compare them with it; without a GPU its ONNX files stand in for them."""
    torch.set_num_threads(threads)
    model = briefly_trained(network, STREET_CLASSES, work.device, work.small)
    work.keep({"trained_s": work.seconds - work.left})
    source = export_onnx(model, Path(folder, f"{network}.onnx"), describe(model, STREET_CLASSES))
    work.keep({"exported_s": work.seconds - work.left})
    size = (64, 96) if work.small else SIZE
    scenes = SyntheticStreet("val", 2, size) if work.small else SyntheticStreet("val", 4, (256, 512))
    found: Found = {}
    for precision, file in _files(source, network, size):
        path = Path(folder, f"{network}-{precision}.engine")
        row: Found = {}
        found[precision] = row
        begin = time.monotonic()
        try:
            build_engine(
                file, path, precision=precision, opt_size=size, max_size=(max(size[0], 333), max(size[1], 517))
            )
            row |= {"build_s": time.monotonic() - begin, "bytes": path.stat().st_size}
            run = path if work.device == "cuda" else file
            result = verify(model, run, scenes, tolerance=TOLERANCES[precision])
            figures = {
                "passed": result.passed,
                "why_not": result.explanation,
                "agreement": result.agreement,
                "logit_error": max(parity.relative for parity in result.parity),
                "miou": result.file.miou,
                "miou_torch": result.torch.miou,
                "session": result.session,
            }
            row |= figures if run == path else {"not_run": "no CUDA device", "instead": figures}
        except FeathersegError as error:
            row["failed"] = f"{type(error).__name__}: {first_line(error)}"
        work.keep({"engines": found})
    return {}


def _files(source: Path, network: str, size: tuple[int, int]) -> Iterator[tuple[str, Path]]:
    yield "fp16", source
    if network in INT8:
        images = calibration_images(SyntheticStreet(count=8, size=size), 8)
        yield "int8", quantize_onnx(source, source.with_name(f"{network}-int8.onnx"), images, flavour="tensorrt")


def time_engine(work: Work, path: str) -> Found:
    """Time an engine on one frame, with nothing else on the GPU."""
    frame = SyntheticStreet("val", 1, SIZE).read(0)[0]
    latency = Segmenter(open_session(path, "tensorrt")).latency(frame, runs=30, warmup=5)
    net = sorted(latency.stages["net"])
    return {
        "frame": list(SIZE),
        "net_ms": statistics.median(net),
        "net_p90_ms": net[int(0.9 * len(net))],
        "frame_to_mask_ms": latency.percentile(50),
    }
