"""A small ship report and its parts, whose every figure a test can change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from featherseg.core.types import ClassSet
from featherseg.shipping.report.figures import ShippedFile, ShipReport, Step

NAN = float("nan")
LATENCY = {"net": {"p50": 40.0, "p90": 44.0, "p99": 60.0}, "total": {"p50": 50.0, "p90": 55.0, "p99": 70.0}}
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
"""A picture of one pixel."""


def step(name: str = "float", **changes: Any) -> Step:
    return replace(Step(name, "baseline", 0.75, 0.7, 2_300_000, 1.56, 9_200_000, 90.0), **changes)


def shipped(name: str = "model.onnx", classes: tuple[str, ...] = ("sky", "road"), **changes: Any) -> ShippedFile:
    iou = dict.fromkeys(classes, 0.7)
    file = ShippedFile(
        name, "onnx", "fp32", 9_200_000, "ab" * 32, "a CPU, threads: 1", 0.75, 0.7, iou, 1.0, 1e-6, LATENCY
    )
    return replace(file, **changes)


def shipping(**changes: Any) -> ShipReport:
    report = ShipReport(
        name="streets",
        created="2026-01-01T12:00:00+00:00",
        classes=ClassSet(("sky", "road")),
        protocol="original resolution, single scale, absent classes left out",
        dataset="street val",
        images=101,
        hardware={"cpu": "a CPU", "threads": "1", "onnxruntime": "1.30"},
        steps=(step(),),
        files=(shipped(),),
        fp32_iou={"sky": 0.9, "road": NAN},
    )
    return replace(report, **changes)
