"""Image file to class mask at equal threads: featherseg against other ways to deploy the same network, and other nets.

    python benchmarks/peers.py --run RUN --data FOLDER --image PHOTO [--threads 2] [--out docs/speed.md]

All take turns in one run, so that other work on the machine holds up all alike; figures are medians, and ratios of
medians. On a machine that is never quiet, --clock processor counts the time that processors spent: with one thread it
is what an idle core would take; with more, threads that wait for each other would count too.

The network is a trained run's; to have 19 classes its head gets further ones of very low bias, which never win: the
masks, and so the work after the network, are those of the trained network. Int8 files are calibrated on images of the
data's training split. Networks of other libraries have random weights: their arithmetic takes as long.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from peer_pipelines import (
    Mask,
    Pipeline,
    Size,
    eager,
    export_peer,
    featherseg_pipeline,
    in_graph_torch,
    openvino_pipeline,
    ort_pipeline,
    with_mask,
)
from torch import nn

from featherseg.compress.calibration import calibration_images
from featherseg.compress.qdq import quantize_onnx
from featherseg.core.images import read_image
from featherseg.core.machine import machine_facts
from featherseg.core.types import ClassSet
from featherseg.data.datasets import create_dataset
from featherseg.exporting.onnx import export_onnx
from featherseg.models.checkpoint import load_checkpoint
from featherseg.models.session import describe
from featherseg.runtime.engines import openvino_precisions
from featherseg.runtime.segmenter import Segmenter
from featherseg.runtime.sessions.base import open_session
from featherseg.runtime.timing import take_turns

CLASSES = 19
INT8 = ("ours", "openvino", "int8")
NEVER = -60.0
"""Bias of the added classes: below any logit of a trained network."""
CALIBRATION = 16
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": time.process_time}
BEGIN, END = "<!-- peers: begin -->", "<!-- peers: end -->"


@dataclass(frozen=True)
class Entry:
    """A pipeline to measure.

    Args:
        name: what it is.
        kind: ``"ours"``, ``"peer"`` (the same network otherwise), ``"eager"``, or ``"other"`` (another network).
        precision: ``"fp32"``, ``"bf16"``, ``"int8"`` or ``"int8+bf16"``.
        engine: what computes it.
        run: the pipeline.
    """

    name: str
    kind: str
    precision: str
    engine: str
    run: Pipeline


def widened(model: Any, classes: int) -> Any:
    """Return a copy of `model` with further classes that never win."""
    wide = copy.deepcopy(model).eval()
    had = model.num_classes
    heads = [
        name
        for name, m in wide.named_modules()
        if isinstance(m, nn.Conv2d) and m.out_channels == had and m.bias is not None
    ]
    for name in heads:
        old = wide.get_submodule(name)
        new = nn.Conv2d(old.in_channels, classes, old.kernel_size, old.stride, old.padding)
        with torch.no_grad():
            new.weight.zero_()
            new.bias.fill_(NEVER)
            new.weight[:had] = old.weight
            new.bias[:had] = old.bias
        parent, _, leaf = name.rpartition(".")
        setattr(wide.get_submodule(parent), leaf, new)
    wide.num_classes = classes
    return wide


class Files:
    """The network's files: logits for featherseg, masks for its peers, fp32 and int8."""

    def __init__(self, run: Path, data: Path, folder: Path) -> None:
        checkpoint = load_checkpoint(run)
        self.model = widened(checkpoint.model, CLASSES)
        self.network = f"{checkpoint.model.name} of {run.name}"
        artifact = describe(self.model, ClassSet(tuple(f"class_{i}" for i in range(CLASSES))), checkpoint.training)
        self.fp32 = export_onnx(self.model, folder / "fp32.onnx", artifact)
        self.fp32_mask = export_onnx(self.model, folder / "fp32_mask.onnx", artifact, output="mask")
        kind = str(checkpoint.training.get("dataset", "folder"))
        images = calibration_images(create_dataset(kind, str(data), "train"), CALIBRATION)
        self.int8, self.int8_mask = {}, {}
        for flavour in ("onnxruntime", "openvino"):
            self.int8[flavour] = quantize_onnx(self.fp32, folder / f"int8_{flavour}.onnx", images, flavour=flavour)
            self.int8_mask[flavour] = with_mask(self.int8[flavour], folder / f"int8_{flavour}_mask.onnx")


def same_network(files: Files, size: Size, threads: int, compiled: bool) -> Iterator[Entry]:
    """Give featherseg's pipelines, and those of the same network by other means."""
    precisions = [name for name in openvino_precisions() if name != "fp16"]
    ours = [("onnxruntime", "fp32", files.fp32, {}), ("onnxruntime", "int8", files.int8["onnxruntime"], {})]
    ours += [("openvino", name, files.fp32, {"precision": name}) for name in precisions]
    ours += [("openvino", int8_name(name), files.int8["openvino"], {"precision": name}) for name in precisions]
    for engine, precision, path, options in ours:
        run = featherseg_pipeline(path, size, engine, threads, **options)
        yield Entry("featherseg", "ours", precision, engine, run)
    name = "mask in graph"
    yield Entry(name, "peer", "fp32", "onnxruntime", ort_pipeline(files.fp32_mask, size, threads))
    yield Entry(name, "peer", "int8", "onnxruntime", ort_pipeline(files.int8_mask["onnxruntime"], size, threads))
    for each in precisions:
        yield Entry(name, "peer", each, "openvino", openvino_pipeline(files.fp32_mask, size, threads, each))
    for each in precisions:
        run = openvino_pipeline(files.int8_mask["openvino"], size, threads, each)
        yield Entry(name, "peer", int8_name(each), "openvino", run)
    yield Entry("plain PyTorch, as in tutorials", "eager", "fp32", "torch", eager(copy.deepcopy(files.model)))
    best = in_graph_torch(copy.deepcopy(files.model), compiled=False)
    yield Entry("PyTorch, channels last", "peer", "fp32", "torch", best)
    if compiled:
        best = in_graph_torch(copy.deepcopy(files.model), compiled=True)
        yield Entry("torch.compile", "peer", "fp32", "torch", best)


def int8_name(precision: str) -> str:
    return "int8" if precision == "fp32" else f"int8+{precision}"


def other_networks(folder: Path, size: Size, threads: int) -> Iterator[Entry]:
    """Give the nearest networks of other libraries, by torch and by ONNX Runtime."""
    import segmentation_models_pytorch as smp
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    encoder = {"encoder_name": "mobilenet_v2", "encoder_weights": None, "classes": CLASSES}
    builders: dict[str, Callable[[], nn.Module]] = {
        "smp Unet, MobileNetV2": lambda: smp.Unet(**encoder),
        "smp FPN, MobileNetV2": lambda: smp.FPN(**encoder),
        "smp DeepLabV3+, MobileNetV2": lambda: smp.DeepLabV3Plus(**encoder),
        "torchvision LR-ASPP, MobileNetV3": lambda: lraspp_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=CLASSES
        ),
    }
    for i, (name, build) in enumerate(builders.items()):
        model = build()
        yield Entry(name, "other", "fp32", "torch", eager(model))
        path = export_peer(model, folder / f"other{i}_{size[0]}.onnx", size)
        yield Entry(name, "other", "fp32", "onnxruntime", ort_pipeline(path, size, threads))


def timed(run: Pipeline, path: Path, clock: Callable[[], float]) -> Callable[[int, int], list[float]]:
    def task(runs: int, before: int) -> list[float]:
        for _ in range(before):
            run(path)
        times = []
        for _ in range(runs):
            begin = clock()
            run(path)
            times.append((clock() - begin) * 1000)
        return times

    return task


def measure(
    entries: list[Entry], path: Path, reference: Mask, runs: int, clock: Callable[[], float]
) -> list[dict[str, Any]]:
    """Run all in turns; return a row for each, with its median and how far its mask equals the network's own."""
    rows = []
    for entry in entries:
        mask = entry.run(path)
        assert mask.shape == reference.shape
        agrees = None if entry.kind == "other" else float(np.mean(mask == reference))
        about = {"name": entry.name, "kind": entry.kind, "precision": entry.precision, "engine": entry.engine}
        rows.append(about | {"agreement": agrees})
    tasks = {str(i): timed(entry.run, path, clock) for i, entry in enumerate(entries)}
    times = take_turns(tasks, runs=runs, warmup=2)
    for i, row in enumerate(rows):
        seen = np.array(times[str(i)])
        row |= {"ms": float(np.median(seen)), "p90": float(np.percentile(seen, 90)), "min": float(seen.min())}
    return rows


def verdicts(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the ratios that featherseg is judged by; above 1 it is faster."""

    def best(kind: str, *engines: str, precision: str | None = None) -> float:
        return min(
            row["ms"]
            for row in rows
            if row["kind"] == kind
            and (not engines or row["engine"] in engines)
            and precision in (None, row["precision"])
        )

    same = {
        f"best peer of the same network in {p}": best("peer", precision=p) / best("ours", precision=p)
        for p in dict.fromkeys(row["precision"] for row in rows if row["kind"] == "ours")
    }
    ours = best("ours")
    others = {"best other network": best("other") / ours} if any(row["kind"] == "other" for row in rows) else {}
    return {
        "plain PyTorch": best("eager") / ours,
        "plain PyTorch, fp32 alone": best("eager") / best("ours", precision="fp32"),
        "best ONNX Runtime deployment, any precision": best("peer", "onnxruntime") / ours,
        "best ONNX Runtime deployment in fp32": best("peer", "onnxruntime", precision="fp32") / ours,
        "best peer of the same network, any precision": best("peer") / ours,
        **same,
        **others,
    }


def after_network(files: Files, path: Path, threads: int) -> dict[str, float]:
    """Return the shortest times of what follows the network, in ms: too short for other work to come between."""
    segmenter = Segmenter(open_session(files.int8["openvino"], "openvino", threads=threads, precision="fp32"))
    latency = segmenter.latency(read_image(path), runs=30, warmup=5, draw=True)
    return {stage: latency.percentile(0, stage) for stage in ("post", "draw")}


def as_markdown(report: dict[str, Any]) -> str:
    machine = report["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    lines = [
        f"### {report['date']}: {report['network']}, {CLASSES} classes, threads: {machine['threads']}",
        "",
        f"{machine['processor']}, cores: {machine['cores']}, load before: {machine['load']}; {versions}. Image file to "
        f"mask, {report['sizes'][0]['runs']} runs of each in turns, medians of {report['clock']} time.",
    ]
    for part in report["sizes"]:
        eager_ms = next(row["ms"] for row in part["rows"] if row["kind"] == "eager")
        lines += ["", "| " + part["size"] + " | engine | precision | ms | p90 | times plain PyTorch | mask equals |"]
        lines.append("|---|---|---|---|---|---|---|")
        for row in sorted(part["rows"], key=lambda row: row["ms"]):
            name = f"**{row['name']}**" if row["kind"] == "ours" else row["name"]
            agrees = "" if row["agreement"] is None else f"{100 * row['agreement']:.1f} %"
            lines.append(
                f"| {name} | {row['engine']} | {row['precision']} | {row['ms']:.1f} | {row['p90']:.1f} | "
                f"{eager_ms / row['ms']:.1f} | {agrees} |"
            )
        said = "; ".join(f"{name} {ratio:.2f}" for name, ratio in part["verdicts"].items())
        lines += ["", f"How many times as long others take as featherseg's fastest of their kind: {said}.", ""]
        post, draw = part["stages"]["post"], part["stages"]["draw"]
        whole = draw + next(r["ms"] for r in part["rows"] if (r["kind"], r["engine"], r["precision"]) == INT8)
        lines.append(
            f"Upsampling with arg max takes featherseg {post:.1f} ms, drawing {draw:.1f} (best of 30): together "
            f"{100 * (post + draw) / whole:.1f} % of an image with OpenVINO int8, from file to picture."
        )
    return "\n".join(lines)


def write_between(path: Path, text: str) -> None:
    """Put `text` between the marks in `path`, before what earlier runs left there."""
    page = path.read_text(encoding="utf-8") if path.is_file() else f"# Speed\n\n{BEGIN}\n{END}\n"
    head, mark, rest = page.partition(BEGIN)
    if not mark:
        raise SystemExit(f"{path} has no line {BEGIN}; add it and {END}")
    path.write_text(f"{head}{BEGIN}\n{text}\n{rest}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="trained run folder")
    parser.add_argument("--data", type=Path, required=True, help="folder of the run's data, to calibrate int8 on")
    parser.add_argument("--image", type=Path, required=True, help="photo to segment, resized to each size")
    parser.add_argument("--sizes", nargs="+", default=["512x1024", "1024x2048"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="what is counted; processor for one thread alone"
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile too")
    parser.add_argument("--alone", action="store_true", help="leave other networks out")
    parser.add_argument("--out", type=Path, help="Markdown page to put the tables in")
    parser.add_argument("--json", type=Path, help="file for all figures")
    args = parser.parse_args()
    if args.clock == "processor" and args.threads > 1:
        parser.error("--clock processor is for --threads 1: threads that wait for each other would count")
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    report: dict[str, Any] = {"date": datetime.now(UTC).date().isoformat(), "machine": machine_facts(args.threads)}
    report["clock"] = args.clock
    report["sizes"] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = Files(args.run, args.data, folder)
        report["network"] = files.network
        photo = read_image(args.image)
        for text in args.sizes:
            height, width = map(int, text.split("x"))
            size = (height, width)
            path = folder / f"{text}.jpg"
            frame = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(path), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
            entries = list(same_network(files, size, args.threads, args.compile))
            if not args.alone:
                entries += other_networks(folder, size, args.threads)
            rows = measure(entries, path, eager(files.model)(path), args.runs, CLOCKS[args.clock])
            report["sizes"].append(
                {
                    "size": text,
                    "runs": args.runs,
                    "rows": rows,
                    "verdicts": verdicts(rows),
                    "stages": after_network(files, path, args.threads),
                }
            )
            del entries
    print(as_markdown(report))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))
    if args.out:
        write_between(args.out, as_markdown(report))


if __name__ == "__main__":
    main()
