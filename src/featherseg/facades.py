"""The names that users of the five networks already know, as thin fronts of featherseg's functions."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .config import Config, DataConfig, OptimConfig, TrainConfig
from .data.loader import EpochBatches, Sample
from .devices import create_fabric
from .errors import ConfigError, DataError
from .export.onnx import export_onnx
from .images import write_image
from .inference import open_segmenter
from .losses import CrossEntropyLoss
from .models import SegmentationModel
from .objectives import Supervised
from .run import RunFolder
from .runtime.segmenter import Prediction, Segmenter
from .runtime.video import segment_video
from .torch_session import TorchSession, describe
from .trainer import RunResult, Trainer
from .types import IGNORE_INDEX, ClassSet, ImageArray, InputSpec, Latency, MaskArray
from .visualize import result_grid

Batch = Sample | tuple[Tensor, Tensor] | list[Tensor]
"""What users' loaders give: featherseg's samples, or (image, mask) with float images normalised already."""


class LoaderBatches:
    """A user's loader, whose batches become featherseg's samples."""

    def __init__(self, loader: Iterable[Batch]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Sample]:
        for batch in self.loader:
            yield as_sample(batch)

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]


class LoaderDataset:
    """A user's validation loader as a dataset: images turned back into the uint8 that cameras give.

    Args:
        loader: gives batches; it is read once, and its images are kept as uint8.
        classes: what the masks' ids mean.
        spec: normalisation to undo where images are float.
    """

    name, split = "loader", "val"

    def __init__(self, loader: Iterable[Batch], classes: ClassSet, spec: InputSpec) -> None:
        self.classes = classes
        self._samples: list[tuple[ImageArray, MaskArray]] = []
        for batch in loader:
            sample = as_sample(batch)
            for image, mask in zip(sample["image"], sample["mask"], strict=True):
                self._samples.append((to_uint8(image, spec), mask.cpu().numpy().astype(np.uint8)))
        if not self._samples:
            raise DataError("the validation loader gives no batches; check its dataset")

    def __len__(self) -> int:
        return len(self._samples)

    def stem(self, index: int) -> str:
        """Return a made-up name."""
        return f"sample_{index:06}"

    def read(self, index: int) -> tuple[ImageArray, MaskArray]:
        """Return sample `index`."""
        return self._samples[index]


def as_sample(batch: Batch) -> Sample:
    """Return a user's batch as ``{"image", "mask"}``."""
    if isinstance(batch, dict):
        return batch
    image, mask = batch
    return {"image": image, "mask": mask.long()}


def to_uint8(image: Tensor, spec: InputSpec) -> ImageArray:
    """Return an image (3, H, W), uint8 or normalised float, as RGB uint8 (H, W, 3)."""
    pixels = image.detach().cpu().permute(1, 2, 0)
    if pixels.dtype == torch.uint8:
        return np.ascontiguousarray(pixels.numpy())
    mean, std = (np.asarray(values, np.float32) for values in (spec.mean, spec.std))
    return np.asarray(np.clip(np.rint((pixels.float().numpy() * std + mean) * 255), 0, 255), np.uint8)


class SegmentationTrainer:
    """Trains a network on the user's own loaders, through featherseg's loop.

    Args:
        model: the network.
        train_loader: batches of ``{"image", "mask"}`` or ``(image, mask)``: uint8, or normalised float.
        val_loader: the same, to choose the best epoch on.
        num_classes: must be the network's.
        learning_rate: peak of AdamW's rate.
        num_epochs: passes over `train_loader`.
        classes: names; made up where left out.
        out: folder that the run's folder is made in.
        name: the run's folder; what is in it already is refused.
        loss: of logits (B, C, H, W) and target (B, H, W); cross-entropy where left out.
        quiet: show no progress.
    """

    def __init__(
        self,
        model: SegmentationModel,
        train_loader: Iterable[Batch],
        val_loader: Iterable[Batch],
        num_classes: int,
        learning_rate: float = 1e-3,
        num_epochs: int = 100,
        *,
        classes: ClassSet | None = None,
        out: str | Path = "runs",
        name: str = "run",
        loss: nn.Module | None = None,
        quiet: bool = False,
    ) -> None:
        if num_classes != model.num_classes:
            raise ConfigError(f"num_classes is {num_classes}, but the network has {model.num_classes}; make them equal")
        self.model = model
        self.classes = classes or ClassSet(tuple(f"class_{i}" for i in range(num_classes)))
        self.config = Config(
            name=name,
            out=str(out),
            data=DataConfig(name="loader", batch_size=getattr(train_loader, "batch_size", None) or 1),
            optim=OptimConfig(lr=learning_rate),
            train=TrainConfig(epochs=num_epochs),
        )
        self.train_loader, self.val_loader, self.quiet = train_loader, val_loader, quiet
        self.loss = loss or CrossEntropyLoss(ignore_index=IGNORE_INDEX)

    def train(self) -> RunResult:
        """Train, and leave a run folder with ``best_model.pth`` beside the usual files."""
        fabric = create_fabric(self.config.train)
        fabric.launch()
        run = RunFolder(Path(self.config.out) / self.config.name)
        val_set = LoaderDataset(self.val_loader, self.classes, self.model.input_spec)
        run.create(self.config, self.classes)
        loader = LoaderBatches(self.train_loader)
        batches = EpochBatches(len(loader), 1, self.config.seed)  # the user's loader orders its samples itself
        objective = Supervised(self.model, self.loss, self.loss)
        trainer = Trainer(fabric, objective, loader, batches, val_set, self.config, run, self.quiet)
        result = trainer.train()
        best = load_checkpoint(run.path)
        self.model.load_state_dict(best.model.state_dict())
        save_checkpoint(run.path / "best_model.pth", Checkpoint(self.model, self.classes, best.training))
        return result


class RealtimeSegmentation:
    """Segments images and videos with a trained or exported network.

    Args:
        model_path: weights (``.pth``, ``.safetensors``), run folder or ``.onnx`` file.
        backend: "auto", "pytorch", "onnxruntime" or "openvino".
        device: "auto", "cpu", "cuda", …; for weights.
        size: (height, width) for the network; images' own where left out.
    """

    def __init__(
        self,
        model_path: str | Path,
        backend: str = "auto",
        device: str = "auto",
        size: tuple[int, int] | None = None,
    ) -> None:
        engine = "torch" if backend == "pytorch" else backend
        self.segmenter = open_segmenter(model_path, size=size, backend=engine, device=device)

    def infer(self, image: ImageArray) -> Prediction:
        """Segment an RGB image, uint8 (H, W, 3)."""
        return self.segmenter(image)

    def infer_video(self, source: str | Path, output: str | Path | None = None) -> float:
        """Segment a video, write it with overlays, and return frames a second from file to file."""
        return segment_video(self.segmenter, source, output).fps


class ModelOptimizer:
    """Exports, times and quantises a network.

    Args:
        model: the network; trained, for results that mean something.
        classes: names; made up where left out.
    """

    def __init__(self, model: SegmentationModel, classes: ClassSet | None = None) -> None:
        self.model = model
        self.classes = classes or ClassSet(tuple(f"class_{i}" for i in range(model.num_classes)))
        self._artifact = describe(model, self.classes, model.name)

    def export_to_onnx(self, path: str | Path) -> Path:
        """Write an ONNX file, not yet verified; ``featherseg export`` verifies too."""
        return export_onnx(self.model, path, self._artifact)

    def benchmark(self, iterations: int = 100, size: tuple[int, int] = (512, 1024)) -> dict[str, float]:
        """Time the network in torch on one random image of `size`: pre- and postprocessing are not in it.

        Returns:
            ``fps`` and ``avg_time_ms`` of the network alone, ``p50_ms``, ``p90_ms`` and ``p99_ms``.
        """
        frame = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        latency: Latency = Segmenter(TorchSession(self.model, self._artifact)).latency(frame, runs=iterations)
        mean = sum(latency.stages["net"]) / latency.runs
        quantiles = {f"p{q}_ms": latency.percentile(q, "net") for q in (50, 90, 99)}
        return {"fps": 1000 / mean, "avg_time_ms": mean, **quantiles}

    def quantize_dynamic(self, path: str | Path | None = None) -> dict[str, Any]:
        """Store the weights as int8, a quarter of the size, and measure what that does to speed.

        Returns:
            ``path``, ``bytes``, ``float_bytes``, ``times_smaller``, ``latency_ms``, ``float_latency_ms`` and a
            sentence, ``summary``. Dynamic quantisation saves space; on many processors it costs time.
        """
        from .compress.quantize import quantize_weights

        with tempfile.TemporaryDirectory() as folder:
            source = self.export_to_onnx(Path(folder) / "float.onnx")
            return quantize_weights(source, Path(path or f"{self.model.name}_int8.onnx"))


class TensorRTOptimizer:
    """Builds a TensorRT engine from an exported file.

    Args:
        onnx_path: the file.
    """

    def __init__(self, onnx_path: str | Path) -> None:
        self.onnx_path = Path(onnx_path)

    def build_engine(self, path: str | Path, precision: str = "fp16") -> Path:
        """Write an engine; see :func:`featherseg.export.tensorrt.build_engine`."""
        from .export.tensorrt import build_engine

        return build_engine(self.onnx_path, path, precision=precision)


def visualize_results(
    model: SegmentationModel,
    loader: Iterable[Batch],
    path: str | Path = "results.png",
    *,
    classes: ClassSet | None = None,
    count: int = 5,
) -> ImageArray:
    """Draw a 3×5 grid, image over truth over prediction, in VOC's colours for 21 classes, and write it to `path`."""
    from .data.public import VOC_CLASSES

    if classes is None:
        made_up = ClassSet(tuple(f"class_{i}" for i in range(model.num_classes)))
        classes = VOC_CLASSES if model.num_classes == len(VOC_CLASSES) else made_up
    dataset = LoaderDataset(_first(loader, count), classes, model.input_spec)
    segmenter = Segmenter(TorchSession(model, describe(model, classes, model.name)))
    samples = [dataset.read(i) for i in range(min(count, len(dataset)))]
    masks = [segmenter.segment(image) for image, _ in samples]
    grid = result_grid([s[0] for s in samples], [s[1] for s in samples], masks, classes, rows=len(samples))
    write_image(path, grid)
    return grid


def _first(loader: Iterable[Batch], count: int) -> Iterator[Batch]:
    seen = 0
    for batch in loader:
        yield batch
        seen += len(as_sample(batch)["image"])
        if seen >= count:
            return
