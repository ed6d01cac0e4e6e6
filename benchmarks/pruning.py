"""What pruning costs and saves before any training: orders and measures of importance at equal multiply-accumulates.

    python benchmarks/pruning.py runs/camvid_fastsegnet_sharp data/CamVid [--shares 0.85 0.7 0.5] [--images 30]

mIoU is that of the validation images, evenly spaced, as pruning leaves the network, and again once batch norm has
seen some training images anew (no weight changes): closer to what training from there gives. Times are the medians of
ONNX Runtime on one thread, in CPU time of the process, so that other programs count little; whole and pruned network
take turns.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
from torch import nn

from featherseg.compress.prune import prune
from featherseg.core.machine import cpu_name
from featherseg.data.datasets import SegmentationDataset, create_dataset
from featherseg.evaluation.result import EvalResult
from featherseg.evaluation.scores import protocol, score
from featherseg.exporting.onnx import export_onnx
from featherseg.models.base import SegmentationModel
from featherseg.models.checkpoint import Checkpoint, load_checkpoint
from featherseg.models.facts import count_gmacs, count_parameters
from featherseg.models.session import TorchSession, describe
from featherseg.runtime.segmenter import Segmenter

BATCHES, BATCH = 8, 4
"""Training images that batch norm sees: so many batches of so many."""
WARMUP, RUNS = 3, 15


def miou(model: SegmentationModel, start: Checkpoint, data: SegmentationDataset, images: int) -> float:
    segmenter = Segmenter(TorchSession(model, describe(model, start.classes), device="cpu"))
    indices = np.linspace(0, len(data) - 1, min(images, len(data))).astype(int).tolist()
    confusion, _, _ = score(segmenter.segment, data, indices=indices, boundary=False)
    return EvalResult.from_metrics(confusion, None, protocol(data)).miou


@torch.no_grad()
def recalibrated(model: SegmentationModel, data: SegmentationDataset) -> SegmentationModel:
    """Return a copy whose running statistics are the plain means over training images."""
    model = copy.deepcopy(model).eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
            layer.train()
    indices = np.linspace(0, len(data) - 1, BATCHES * BATCH).astype(int).reshape(BATCHES, BATCH)
    for batch in indices.tolist():
        images = [torch.from_numpy(model.input_spec.normalize(data.read(i)[0])) for i in batch]
        model.outputs(torch.stack(images))
    return model.eval()


def milliseconds(models: list[SegmentationModel], start: Checkpoint, data: SegmentationDataset) -> list[float]:
    """Return the median CPU time of each network's exported file, run in turns."""
    frame = data.read(0)[0]
    with tempfile.TemporaryDirectory() as folder:
        segmenters = []
        for i, model in enumerate(models):
            path = export_onnx(model, Path(folder) / f"{i}.onnx", describe(model, start.classes))
            segmenters.append(Segmenter(path, threads=1))
        times: list[list[float]] = [[] for _ in models]
        for run in range(WARMUP + RUNS):
            for segmenter, record in zip(segmenters, times, strict=True):
                begin = time.process_time()
                segmenter.logits(frame)
                if run >= WARMUP:
                    record.append(1000 * (time.process_time() - begin))
    return [statistics.median(record) for record in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("camvid", type=Path)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.85, 0.7, 0.5])
    parser.add_argument("--rankings", nargs="+", default=["uniform", "global"])
    parser.add_argument("--importances", nargs="+", default=["l1", "l2", "bn"])
    parser.add_argument("--images", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = load_checkpoint(options.checkpoint)
    train, val = (create_dataset("camvid", str(options.camvid), split) for split in ("train", "val"))
    size = val.read(0)[0].shape[:2]
    whole = count_gmacs(start.model, size)
    print(f"{date.today()}, {cpu_name()}, 1 thread, {start.model.name} at {size[0]}x{size[1]}, {options.images} images")
    before = miou(start.model, start, val, options.images)
    print(f"whole: {whole:.3f} GMACs, {count_parameters(start.model)[0]:,} parameters, mIoU {100 * before:.1f}")
    columns = f"{'GMACs':>7} {'params':>10} {'ms, whole':>10} {'pruned':>7} {'mIoU':>6} {'with BN anew':>13}"
    print(f"{'ranking':8} {'by':3} {columns}")
    for share in options.shares:
        for importance in options.importances:
            for ranking in options.rankings:
                result = prune(
                    start.model,
                    target_gmacs=share * whole,
                    ranking=ranking,
                    importance=importance,
                    example_size=size,
                )
                slow, fast = milliseconds([start.model, result.model], start, val)
                plain = miou(result.model, start, val, options.images)
                anew = miou(recalibrated(result.model, train), start, val, options.images)
                print(
                    f"{ranking:8} {importance:3} {result.gmacs_after:7.3f} {result.params_after:10,} {slow:10.1f} "
                    f"{fast:7.1f} {100 * plain:6.1f} {100 * anew:13.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
