"""What only a GPU can prove of running networks: the machine itself, masks on it and on the CPU, frames a second."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jobs import Found, Work
from streets import briefly_trained, wider_classes

from featherseg.compress.calibration import calibration_images
from featherseg.compress.qdq import quantize_onnx
from featherseg.core.errors import FeathersegError, first_line
from featherseg.core.machine import machine_facts, versions
from featherseg.core.types import ImageArray
from featherseg.data.readers.synthetic import SyntheticStreet
from featherseg.exporting.fixed import fix_size
from featherseg.exporting.onnx import export_onnx
from featherseg.exporting.tensorrt import build_engine
from featherseg.models.base import SegmentationModel
from featherseg.models.session import TorchSession, describe
from featherseg.runtime.artifact import Artifact
from featherseg.runtime.segmenter import Segmenter
from featherseg.runtime.sessions.base import Session, open_session
from featherseg.runtime.sessions.cuda import Driver, Memory
from featherseg.runtime.timing import time_in_turns

CLASSES = 19
PACKAGES = ("tensorrt", "tensorrt_rtx", "onnxruntime-gpu", "torchvision", "timm", "lightning-fabric", "triton", "onnx")
COMPILING = 60.0
"""Seconds that have to be left for torch.compile to be tried."""


def machine(work: Work) -> Found:
    """Say what this runs on."""
    facts: Found = machine_facts() | {"gpu": None}
    facts["versions"] |= versions(PACKAGES, missing="not installed")
    if torch.cuda.is_available():
        about = torch.cuda.get_device_properties(0)
        facts["gpu"] = {
            "name": about.name,
            "compute_capability": f"{about.major}.{about.minor}",
            "memory_gib": about.total_memory / (1 << 30),
            "multiprocessors": about.multi_processor_count,
            "driver": _driver_version(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return facts


def _driver_version() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown: {first_line(error)}"


def session(work: Work) -> Found:
    """Masks of a network on the GPU, in each precision, against those of plain fp32 on the CPU; then the driver."""
    count, size = (2, (64, 96)) if work.small else (8, (512, 1024))
    classes = wider_classes(CLASSES)
    model = briefly_trained("fastsegnet", classes, work.device, work.small)
    artifact = describe(model, classes)
    frames = [SyntheticStreet("val", count, size).read(i)[0] for i in range(count)]
    expected = _masks(TorchSession(model, artifact), frames)
    work.keep({"network": "fastsegnet", "images": [count, *size], "classes_in_masks": len(np.unique(expected))})
    rows: Found = {}
    for name, opened in _sessions(work, model, artifact):
        try:
            masks = _masks(opened(), frames)
            rows[name] = {"equal_pixels": float((masks == expected).mean())}
        except Exception as error:
            rows[name] = {"failed": f"{type(error).__name__}: {first_line(error)}"}
        work.keep({"masks": rows})
    return {"driver": _copies()} if work.device == "cuda" else {}


def _sessions(work: Work, model: SegmentationModel, artifact: Artifact) -> Iterator[tuple[str, Any]]:
    """Give names of sessions to compare, and what opens each."""
    yield f"torch {work.device} fp32", lambda: TorchSession(model, artifact, work.device)
    if work.device == "cuda":

        def exact() -> Session:
            torch.backends.cudnn.allow_tf32 = False  # torch's default for convolutions is TF32: ten bits of mantissa
            return TorchSession(model, artifact, "cuda")

        yield "torch cuda fp32, no TF32", exact
    yield f"torch {work.device} bf16", lambda: TorchSession(model, artifact, work.device, precision="bf16")
    with tempfile.TemporaryDirectory() as folder:
        path = export_onnx(model, Path(folder, "net.onnx"), artifact)
        yield "onnxruntime fp32", lambda: open_session(path, "onnxruntime")
        yield "openvino fp32", lambda: open_session(path, "openvino", precision="fp32")


def _masks(opened: Session, frames: list[ImageArray]) -> Any:
    segmenter = Segmenter(opened)
    return np.stack([segmenter.segment(frame) for frame in frames])


def _copies() -> Found:
    """Send bytes to the GPU and back by the driver's own calls, as TensorRT's session does."""
    driver = Driver()
    memory, sent = Memory(driver), np.random.default_rng(0).integers(0, 256, 1 << 24, np.uint8)
    back = np.zeros_like(sent)
    for part in (slice(1 << 10), slice(None)):  # the second piece is larger, so memory is taken anew
        driver.upload(memory, sent[part])
        driver.download(memory, back[part])
        driver.wait()
    return {"gpu": driver.name, "round_trip_equal": bool(np.array_equal(sent, back))}


def fps(work: Work) -> Found:
    """FastSegNet from a frame in memory to its mask, at 1024x2048 with 19 classes, in every engine that is here."""
    size, runs = ((64, 128), 2) if work.small else ((1024, 2048), 30)
    classes = wider_classes(CLASSES)
    model = briefly_trained("fastsegnet", classes, work.device, work.small)
    artifact = describe(model, classes)
    frame = SyntheticStreet("val", 1, size).read(0)[0]
    expected = _masks(TorchSession(model, artifact), [frame])[0]
    ready: dict[str, Segmenter] = {}
    agreement: Found = {}
    failed: Found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, opened in _engines(work, model, artifact, Path(folder), size):
            try:
                segmenter = Segmenter(opened()).planned(size)
                agreement[name] = float((segmenter.segment(frame) == expected).mean())
                ready[name] = segmenter
            except Exception as error:
                failed[name] = f"{type(error).__name__}: {first_line(error)}"
            work.keep({"frame": list(size), "agreement": agreement, "failed": failed})
        times = time_in_turns(ready, frame, runs=runs, warmup=min(5, runs))
    rows = []
    for name, latency in times.items():
        stages = {stage: statistics.median(ms) for stage, ms in latency.stages.items()}
        whole = latency.percentile(50)
        row = {"engine": name, "fps": 1000 / whole, "ms": whole, "p90_ms": latency.percentile(90), **stages}
        rows.append(row | {"equal_pixels": agreement[name], "device": latency.device})
    rows.sort(key=lambda row: row["ms"])
    return {"rows": rows, "best": rows[0]["engine"] if rows else None}


def _engines(
    work: Work, model: SegmentationModel, artifact: Artifact, folder: Path, size: tuple[int, int]
) -> Iterator[tuple[str, Any]]:
    """Give names of engines, and what opens each; networks in torch come as copies, for each moves its own."""
    gpu = work.device == "cuda"
    onnx = export_onnx(model, folder / "net.onnx", artifact)
    fixed = folder / "fixed.onnx"
    fix_size(onnx, fixed, size)

    def tensorrt(source: Path, precision: str) -> Session:
        if not gpu:
            raise FeathersegError("no CUDA device to run it")
        return open_session(build_engine(source, folder / f"{precision}.engine", precision=precision))

    def int8() -> Session:
        images = calibration_images(SyntheticStreet(count=8, size=size), 8)
        return tensorrt(quantize_onnx(fixed, folder / "int8.onnx", images, flavour="tensorrt"), "int8")

    yield "onnxruntime fp32", lambda: open_session(onnx, "onnxruntime")
    yield f"torch {work.device} fp32", lambda: TorchSession(model, artifact, work.device)
    yield f"torch {work.device} bf16", lambda: TorchSession(model, artifact, work.device, precision="bf16")
    yield "tensorrt fp16", lambda: tensorrt(fixed, "fp16")
    if gpu:
        yield "tensorrt int8", int8
        if work.left > COMPILING:
            yield (
                "torch cuda bf16, compiled",
                lambda: TorchSession(model, artifact, "cuda", precision="bf16", compile=True),
            )
