"""What a fine-tuned network forgets, and how much of its start should be kept: mIoU along the line between both.

    python benchmarks/start_share.py runs/camvid_street_teacher_0001TP [--shares 0 0.25 0.5 0.75 1] [--images 60]

The run's start is built again as its recipe says (``model.init``, ``model.init_classes``), and every network between it
and where the training ended is scored on images of the run's validation split, evenly spaced, in bf16. 1 is the start
itself. For folds by recording these images are of a recording that the training never saw.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import numpy as np
import torch

from featherseg.core.recipes import load_config
from featherseg.data.class_maps import open_mapped
from featherseg.evaluation.result import EvalResult
from featherseg.evaluation.scores import protocol, score
from featherseg.models.base import SegmentationModel
from featherseg.models.checkpoint import load_checkpoint
from featherseg.models.session import TorchSession, describe
from featherseg.models.transfer import start_from
from featherseg.runtime.segmenter import Segmenter
from featherseg.training.fit import load_start
from featherseg.training.start_share import StartBlend


def both_ends(run: Path) -> tuple[SegmentationModel, SegmentationModel]:
    """Return the network that a run started from and the one that it ended with, nothing of the start in it."""
    config, kept = load_config(run / "config.toml"), load_checkpoint(run / "last.safetensors")
    start = copy.deepcopy(kept.model)
    source = Path(" + ".join(config.model.starts))
    start_from(start, load_start(config.model.starts, start), kept.classes, source, config.model.init_classes)
    if share := config.train.start_share:  # kept = start + (1 - share) * (end - start)
        back = StartBlend(start, -share / (1 - share))
        back.update(kept.model.state_dict())
        return start.eval(), back.network.eval()
    return start.eval(), kept.model


def main() -> None:
    """Score the networks between both ends, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--shares", type=float, nargs="+", default=(0.0, 0.25, 0.5, 0.75, 1.0))
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = load_config(arguments.run / "config.toml")
    data = config.data
    val_set = open_mapped(data.name, data.root, data.val_split, data.classes, **data.options)
    indices = np.linspace(0, len(val_set) - 1, min(arguments.images, len(val_set))).round().astype(int).tolist()
    start, end = both_ends(arguments.run)
    print(f"{arguments.run.name}: {len(indices)} of {len(val_set)} images of {val_set.name} {val_set.split}\n")
    print("| share of the start | mIoU |\n|---|---|")
    for share in arguments.shares:
        blend = StartBlend(start, share)
        blend.update(end.state_dict())
        session = TorchSession(blend.network, describe(blend.network, val_set.classes), precision="bf16")
        confusion, _, _ = score(Segmenter(session).segment, val_set, indices=indices, boundary=False)
        print(
            f"| {share:g} | {100 * EvalResult.from_metrics(confusion, None, protocol(val_set)).miou:.1f} |", flush=True
        )


if __name__ == "__main__":
    main()
