"""Files of candidates: networks with random weights, which cost as much time as trained ones, exported once each."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

import torch

from ..compress.qdq import quantize_onnx
from ..core.files import cache_folder
from ..core.machine import versions
from ..core.progress import hidden
from ..core.types import ClassSet
from ..exporting.onnx import export_onnx
from ..models.base import SegmentationModel
from ..models.factory import create_model
from ..models.session import describe
from ..runtime.choose import picture
from .candidates import Variant, Way

CALIBRATION = 4
"""Made-up pictures by which a file is quantised: what ranges come of them does not change what it costs."""
CALIBRATION_SIZE = (128, 160)
PACKAGES = ("featherseg", "onnx", "onnxscript", "torch")
"""What a file's graph depends on."""


class CandidateFiles:
    """Exported files of networks with random weights, in a folder where later calls find them again.

    Args:
        num_classes: channels of the logits.
        folder: to keep them in; the user's cache where left out.
    """

    def __init__(self, num_classes: int, folder: Path | None = None) -> None:
        self.num_classes = num_classes
        home = folder or cache_folder()
        if home is None:
            raise AssertionError("a user without a home folder has to say where files go")
        key = json.dumps([versions(PACKAGES), num_classes], sort_keys=True)
        self.folder = home / "candidates" / hashlib.sha256(key.encode()).hexdigest()[:16]

    def model(self, variant: Variant) -> SegmentationModel:
        """Return the network, with the same random weights each time."""
        return _model(variant.network, json.dumps(dict(variant.options), sort_keys=True), self.num_classes)

    def place(self, variant: Variant, way: Way) -> Path:
        """Return where a network's file for a way of running it is, or will be."""
        return self.folder / f"{variant.slug}_{way.file_kind}.onnx"

    def get(self, variant: Variant, way: Way) -> Path:
        """Return the file, which is written where it is not there yet.

        Raises:
            ArtifactError: the network cannot be exported, or has nothing to quantise.
        """
        path = self.place(variant, way)
        if path.is_file():
            return path
        if way.weights == "fp32":
            model = self.model(variant)
            classes = ClassSet(tuple(f"class {i}" for i in range(self.num_classes)))
            return export_onnx(model, path, describe(model, classes))
        source = self.get(variant, Way("fp32", way.engine))
        pictures = [picture(CALIBRATION_SIZE, seed) for seed in range(CALIBRATION)]
        with hidden():
            return quantize_onnx(source, path, pictures, flavour=way.flavour)


@cache
def _model(network: str, options: str, num_classes: int) -> SegmentationModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return create_model(network, num_classes, **json.loads(options)).eval()
