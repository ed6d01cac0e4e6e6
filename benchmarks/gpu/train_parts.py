"""What only a GPU can prove of training: a step's time, the loss's memory, and that a resumed run is the same run."""

from __future__ import annotations

import copy
import gc
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from fused_loss import LOSSES, WARM_UP, Case, make_inputs, step
from jobs import Found, Work
from streets import BATCH, Batch, street_batches, training_step, wider_classes
from torch import Tensor

from featherseg.core.recipes import config_from_dict
from featherseg.models.base import SegmentationModel
from featherseg.models.checkpoint import load_checkpoint
from featherseg.models.factory import create_model
from featherseg.training.fit import fit, resume_run
from featherseg.training.run_log import read_log
from featherseg.training.supervised import normalize
from featherseg.training.trainer import Trainer

DTYPES = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}
NOISE = 3.0
"""How many times as far from the whole run as its twin a resumed run may end, where kernels are not deterministic."""
Step = Callable[[], object]


def settle(device: str) -> None:
    """Wait until the device has done all it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def peak_mib(function: Step, device: str) -> float | None:
    """Return the MiB that a call adds at its peak to what torch has allocated; None on a CPU."""
    if device != "cuda":
        return None
    gc.collect()
    settle(device)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    settle(device)
    return (torch.cuda.max_memory_allocated() - before) / (1 << 20)


def in_turns(steps: dict[str, Step], device: str, turns: int, length: int) -> dict[str, list[float]]:
    """Return the ms of a step in each turn, by name; a turn is `length` steps that the device is awaited after."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(turns + 1):
        for name, function in steps.items():
            function()
            settle(device)
            begin = time.perf_counter()
            for _ in range(length):
                function()
            settle(device)
            if turn:  # the first is to warm up
                times[name].append(1000 * (time.perf_counter() - begin) / length)
    return times


def tutorial_step(model: SegmentationModel, device: str, precision: str) -> Callable[[Batch], Tensor]:
    """Return a step as tutorials write it: whole-size logits, their cross-entropy, autocast, a scaler and AdamW."""
    model = model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    scaler = torch.amp.GradScaler(device, enabled=precision == "fp16")
    dtype = DTYPES[precision]

    def run(batch: Batch) -> Tensor:
        optimizer.zero_grad()
        with torch.autocast(device, dtype or torch.bfloat16, enabled=dtype is not None):
            outputs = model.outputs(batch["image"])
            losses = {
                name: F.cross_entropy(
                    F.interpolate(logits, size=batch["mask"].shape[1:], mode="bilinear", align_corners=False),
                    batch["mask"],
                    ignore_index=255,
                )
                for name, logits in outputs.items()
                if name == "out" or name.startswith("aux_")
            }
            loss = losses.pop("out") + 0.4 * sum(losses.values())
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()

    return run


def training(work: Work) -> Found:
    """A training step of FastSegNet in turns: featherseg's, with cuDNN's search for algorithms too, and a tutorial's.

    Both get batches that are on the device already, each as its loaders give them: bytes, and normalised floats.
    """
    size, classes, turns, length = ((64, 96), 19, 1, 1) if work.small else ((512, 1024), 19, 8, 10)
    batch = {name: tensor.to(work.device) for name, tensor in street_batches(BATCH, size)[0].items()}
    rows = []
    for precision in ("fp16", "bf16") if work.device == "cuda" else ("fp32", "bf16"):
        torch.manual_seed(0)
        model = create_model("fastsegnet", len(wider_classes(classes)))
        for dropout in (each for each in model.modules() if isinstance(each, torch.nn.modules.dropout._DropoutNd)):
            dropout.p = 0.0  # it draws other numbers in another memory layout, and the first losses shall be equal
        floats = {"image": normalize(batch["image"], model.input_spec), "mask": batch["mask"]}
        ours = training_step(copy.deepcopy(model), work.device, precision)
        theirs = tutorial_step(copy.deepcopy(model), work.device, precision)

        def searched(ours: Any = ours) -> None:
            with _searching():
                ours(dict(batch))

        steps: dict[str, Step] = {
            "featherseg": lambda ours=ours: ours(dict(batch)),
            "featherseg, cudnn.benchmark": searched,
            "tutorial": lambda theirs=theirs, floats=floats: theirs(floats),
        }
        if work.device != "cuda":
            del steps["featherseg, cudnn.benchmark"]
        first = {name: float(steps[name]()) for name in ("featherseg", "tutorial")}  # type: ignore[arg-type]
        times = in_turns(steps, work.device, turns, length)
        medians = {name: statistics.median(ms) for name, ms in times.items()}
        for name, ms in medians.items():
            rows.append(
                {
                    "precision": precision,
                    "step": name,
                    "ms": ms,
                    "spread": max(times[name]) / min(times[name]),
                    "images_per_second": 1000 * BATCH / ms,
                    "times_tutorial": medians["tutorial"] / ms,
                    "peak_mib": peak_mib(steps[name], work.device),
                    "first_loss": first.get(name),
                }
            )
        work.keep({"network": "fastsegnet", "batch": [BATCH, *size], "classes": classes, "rows": rows})
    return {}


@contextmanager
def _searching() -> Iterator[None]:
    """Let cuDNN try which algorithm of each convolution is the fastest; the trainer leaves that off, as torch does."""
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = False


def loss(work: Work) -> Found:
    """Losses tile by tile against losses of whole-size logits, forward and backward, of fp32 and of bf16 logits."""
    case = Case("small", 2, 5, (64, 96)) if work.small else Case("Cityscapes crop", 8, 19, (1024, 1024))
    turns, length = (1, 1) if work.small else (8, 5)
    rows = []
    for name, pair in LOSSES.items():
        for dtype in ("fp32", "bf16"):
            for function in pair:  # loads kernels, which are no part of the loss
                step(function, *make_inputs(WARM_UP, work.device))
            logits, target = make_inputs(case, work.device)
            if dtype == "bf16":
                logits = logits.detach().bfloat16().requires_grad_()

            def run(function: Any, dtype: str = dtype, logits: Tensor = logits, target: Tensor = target) -> Tensor:
                context = torch.autocast(work.device, torch.bfloat16) if dtype == "bf16" else nullcontext()
                with context:
                    value = function(logits, target)
                (gradient,) = torch.autograd.grad(value, logits)
                return torch.stack((value.detach().double(), gradient.double().norm()))

            steps: dict[str, Step] = {
                way: lambda function=function, run=run: run(function)
                for way, function in zip(("tiles", "naive"), pair, strict=True)
            }
            tiles, naive = (run(function) for function in pair)
            peaks = {way: peak_mib(each, work.device) for way, each in steps.items()}
            times = {way: statistics.median(ms) for way, ms in in_turns(steps, work.device, turns, length).items()}
            rows.append(
                {
                    "loss": name,
                    "logits": dtype,
                    "tiles_ms": times["tiles"],
                    "naive_ms": times["naive"],
                    "times_naive": times["naive"] / times["tiles"],
                    "tiles_mib": peaks["tiles"],
                    "naive_mib": peaks["naive"],
                    "value_difference": float((tiles[0] - naive[0]).abs() / naive[0].abs()),
                    "gradient_norm_difference": float((tiles[1] - naive[1]).abs() / naive[1]),
                }
            )
            work.keep({"case": list(case), "rows": rows})
    return {}


def resume(work: Work) -> Found:
    """A run that was interrupted and resumed beside one that was not, and beside that one's twin.

    The twin says what chance there is in kernels that add up in any order. With deterministic ones all bits are equal.
    """
    cases = [("jetnet", "fp32", True)]
    if not work.small:
        cases += [("fastsegnet", "bf16", False), ("fastsegnet", "fp16", False)]
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
    rows: list[Found] = []
    for network, precision, deterministic in cases:
        torch.backends.cudnn.deterministic = deterministic
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            runs = {name: _run(Path(folder, name), work, network, precision) for name in ("whole", "twin", "broken")}
        resumed, twin = (_distance(runs["whole"], runs[name]) for name in ("broken", "twin"))
        same = resumed["equal"] or (
            not deterministic and all(resumed[key] <= NOISE * twin[key] for key in ("weights", "losses"))
        )
        rows.append(
            {
                "network": network,
                "precision": precision,
                "deterministic": deterministic,
                "same": same,
                "resumed": resumed,
                "twin": twin,
                "losses": runs["whole"][0],
                "images_per_second": runs["whole"][2],
                "warnings": sorted({str(each.message).splitlines()[0][:200] for each in caught})[:10],
            }
        )
        work.keep({"rows": rows})
    return {}


Ran = tuple[list[float], dict[str, Tensor], float]
"""The loss of each epoch, the last weights, and the images per second of the last epoch."""


def _run(out: Path, work: Work, network: str, precision: str) -> Ran:
    """Train; a run that is called ``broken`` stops after its first epoch and is resumed."""
    count, size = (8, [64, 96]) if work.small else (48, [128, 256])
    data = {"name": "synthetic", "options": {"count": count, "val_count": 4, "size": size}, "batch_size": BATCH // 2}
    data["workers"] = 2 if work.device == "cuda" else 0
    config = config_from_dict(
        {
            "name": "run",
            "out": str(out),
            "model": {"name": network},
            "data": data,
            "augment": {"crop": size, "scale": [0.8, 1.25]},
            "train": {"epochs": 2 if work.small else 4, "precision": precision, "device": work.device},
        }
    )
    if out.name == "broken":
        _train_one_epoch(config)
        resume_run(out / "run", quiet=True)
    else:
        fit(config, quiet=True)
    log = read_log(out / "run")
    weights = load_checkpoint(out / "run" / "last.safetensors").model.state_dict()
    return [row["loss"] for row in log], weights, log[-1]["images_per_second"]


def _train_one_epoch(config: Any) -> None:
    whole = Trainer._epoch

    def stopping(self: Trainer, progress: Any) -> dict[str, Any]:
        if self.epoch == 1:
            raise KeyboardInterrupt
        return whole(self, progress)

    Trainer._epoch = stopping  # type: ignore[method-assign]
    try:
        fit(config, quiet=True)
    except KeyboardInterrupt:
        pass
    finally:
        Trainer._epoch = whole  # type: ignore[method-assign]


def _distance(one: Ran, other: Ran) -> Found:
    """Return how far two runs ended from each other: weights as a share of the largest, losses as of their own."""
    floats = [name for name, tensor in one[1].items() if tensor.is_floating_point()]
    largest = max(float(one[1][name].abs().max()) for name in floats)
    apart = max(float((one[1][name] - other[1][name]).abs().max()) for name in floats)
    losses = max(abs(a - b) / max(abs(a), 1e-12) for a, b in zip(one[0], other[0], strict=True))
    equal = one[0] == other[0] and all(torch.equal(one[1][name], other[1][name]) for name in one[1])
    return {"equal": equal, "weights": apart / largest, "losses": losses}
