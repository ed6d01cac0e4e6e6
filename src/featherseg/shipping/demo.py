"""The whole way in one go, without data or downloads: generate, train, evaluate, export, verify, segment."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.config import Config
from ..core.formatting import percent
from ..core.images import write_image, write_mask
from ..core.progress import counting, logger
from ..core.recipes import config_from_dict
from ..core.types import Latency
from ..data.datasets import create_dataset
from ..evaluation.result import EvalResult
from ..evaluation.scores import evaluate
from ..evaluation.visualize import result_grid
from ..exporting.verdict import VerifyResult
from ..exporting.verify import export_verified
from ..models.checkpoint import load_checkpoint
from ..runtime.segmenter import Segmenter
from ..training.fit import fit

SIZE = (192, 384)
"""Height and width of the streets."""
CROP = (160, 320)
"""Height and width of what training sees: a third less work than whole streets."""
GRID = 4
"""Held-out images in the picture."""


@dataclass(frozen=True)
class DemoResult:
    """What the demo made and measured, on test images that were neither trained nor chosen on.

    Args:
        scores: of the exported file on the test split.
        verification: of the file against the network, on the validation split.
        latency: of the file, one test image, by stage.
        artifact: the exported file.
        picture: image, truth and prediction side by side.
        seconds: of the training.
    """

    scores: EvalResult
    verification: VerifyResult
    latency: Latency
    artifact: Path
    picture: Path
    seconds: float

    def rows(self) -> list[tuple[str, str]]:
        """Return the figures as text, for a table."""
        return [
            ("mIoU on held-out images", f"{percent(self.scores.miou)} %"),
            ("boundary F1", f"{percent(self.scores.boundary_f1)} %"),
            ("size of the file", f"{self.artifact.stat().st_size / 1e6:.1f} MB"),
            ("agreement with the trained network", f"{self.verification.agreement:.4%} of pixels"),
            ("training time", f"{self.seconds:.0f} s"),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON types."""
        return {
            "miou": self.scores.miou,
            "boundary_f1": self.scores.boundary_f1,
            "agreement": self.verification.agreement,
            "file_bytes": self.artifact.stat().st_size,
            "latency": self.latency.to_dict(),
            "training_seconds": self.seconds,
            "artifact": str(self.artifact),
            "picture": str(self.picture),
            "protocol": self.scores.protocol,
        }


def demo_config(out: str | Path, epochs: int = 10, images: int = 480) -> Config:
    """Return the demo's training: the half-width FastSegNet from scratch on synthetic streets."""
    names = ("demo" if i == 1 else f"demo-{i}" for i in itertools.count(1))
    return config_from_dict(
        {
            "name": next(name for name in names if not (Path(out) / name).exists()),
            "out": str(out),
            "model": {"name": "fastsegnet", "options": {"width": 0.5}},
            "data": {
                "name": "synthetic",
                "options": {"count": images, "val_count": 48, "size": list(SIZE)},
                "workers": 1,
            },
            # Streets are cheap to draw, so new ones take the place of strong augmentation.
            "augment": {"crop": list(CROP), "scale": [0.8, 1.2], "jitter": 0.0},
            "loss": {"aux_weight": 0.0},
            "optim": {"lr": 8e-3, "warmup": 0.1},
            "train": {"epochs": epochs, "ema": 0.98, "eval_every": 5},
        }
    )


def run_demo(out: str | Path, *, epochs: int = 10, images: int = 480) -> DemoResult:
    """Run the demo and leave run folder, exported file, masks and picture grid under ``out/demo``.

    An earlier demo stays; the new one is then called ``demo-2``, and so on.

    Raises:
        VerificationError: the exported file does not do what the network does.
    """
    config = demo_config(out, epochs, images)
    logger.info("1/4 train FastSegNet on generated streets")
    run = fit(config)
    checkpoint = load_checkpoint(run.path)

    logger.info("2/4 export to ONNX and verify the file")
    val_set = create_dataset("synthetic", split="val", **config.data.options)
    artifact = run.path / "fastsegnet.onnx"
    with counting("verify", len(val_set)) as progress:
        verification = export_verified(checkpoint, artifact, val_set, progress=progress)

    logger.info("3/4 segment images that training never saw, with the file")
    test_set = create_dataset("synthetic", split="test", **config.data.options)
    segmenter = Segmenter(artifact)
    with counting("evaluate", len(test_set)) as progress:
        scores = evaluate(segmenter, test_set, progress=progress)
    samples = [test_set.read(i) for i in range(GRID)]
    predictions = [segmenter.segment(image) for image, _ in samples]
    for i, mask in enumerate(predictions):
        write_mask(run.path / "masks" / f"{test_set.stem(i)}.png", mask, test_set.classes)
    grid = result_grid([s[0] for s in samples], [s[1] for s in samples], predictions, test_set.classes, rows=GRID)
    picture = write_image(run.path / "predictions.png", grid)

    logger.info("4/4 time it")
    latency = segmenter.latency(samples[0][0], runs=50, warmup=10, draw=True)
    return DemoResult(scores, verification, latency, artifact, picture, run.seconds)
