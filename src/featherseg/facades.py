"""The names that users of the five networks already know, as thin fronts of featherseg's functions."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from torch import nn

from .core.config import AugmentConfig
from .core.errors import ConfigError
from .core.images import write_image
from .core.progress import show_progress
from .core.recipes import config_from_dict
from .core.types import IGNORE_INDEX, ClassSet, ImageArray
from .data.loader import EpochBatches
from .data.user_loaders import Batch, LoaderBatches, LoaderDataset
from .evaluation.opening import open_segmenter
from .evaluation.visualize import result_grid
from .exporting.onnx import export_onnx
from .models.base import SegmentationModel
from .models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .models.opening import made_up_classes
from .models.session import TorchSession, describe
from .runtime.artifact import Artifact
from .runtime.choose import EngineChoice, fastest_engine
from .runtime.frames import check_frame
from .runtime.prediction import Prediction
from .runtime.segmenter import Segmenter
from .runtime.sessions.base import artifact_suffixes
from .runtime.video.pipeline import segment_video
from .training.devices import create_fabric
from .training.loss_terms import at_any_size
from .training.losses import CrossEntropyLoss
from .training.run_folder import RunFolder
from .training.run_result import RunResult
from .training.supervised import Supervised
from .training.trainer import Setup, Trainer


def require_network(model: Any) -> None:
    """Refuse what is no featherseg network; the facades need its stride, classes and normalisation."""
    if not isinstance(model, SegmentationModel):
        raise ConfigError(
            f"model is a {type(model).__name__}, not a featherseg network; make it one with featherseg.wrap, or use "
            "create_model"
        )


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
        loss: of logits (B, C, H, W) and target (B, H, W), featherseg's or any module; cross-entropy where left out.
        quiet: show no progress.

    Raises:
        ConfigError: the network is not featherseg's or not registered, `num_classes` or `classes` are not as many as
            it has, or a number is out of range.
        DataError: `train_loader` has no length.

    Example:
        >>> images = torch.zeros(8, 3, 64, 96, dtype=torch.uint8)
        >>> masks = torch.zeros(8, 64, 96, dtype=torch.int64)
        >>> loader = torch.utils.data.DataLoader(list(zip(images, masks)), batch_size=4)
        >>> model = featherseg.JetNet(num_classes=2)
        >>> trainer = featherseg.SegmentationTrainer(model, loader, loader, num_classes=2, num_epochs=1, quiet=True)
        >>> trainer.train().epochs
        1
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
        require_network(model)
        if not model.name:
            raise ConfigError(
                f"{type(model).__name__} is not registered, so its weights could not say what they are of"
            )
        if num_classes != model.num_classes:
            raise ConfigError(f"num_classes is {num_classes}, but the network has {model.num_classes}; make them equal")
        self.model = model
        self.classes = classes or made_up_classes(model)
        describe(model, self.classes)  # refuses other numbers of classes
        self.batches = LoaderBatches(train_loader, num_classes)
        # Checked as a recipe is: numbers out of range are refused by name.
        self.config = config_from_dict(
            {
                "name": name,
                "out": str(out),
                "model": {"name": model.name, "options": model.options},
                "data": {"name": "loader", "batch_size": getattr(train_loader, "batch_size", None) or 1},
                "optim": {"lr": learning_rate},
                "train": {"epochs": num_epochs},
            }
        )
        self.val_loader, self.quiet = val_loader, quiet
        self.loss = at_any_size(loss or CrossEntropyLoss(ignore_index=IGNORE_INDEX))

    def train(self) -> RunResult:
        """Train, and leave a run folder with ``best_model.pth`` beside the usual files.

        Raises:
            ConfigError: the folder holds a run already.
            DataError: a loader gives something else than it should.
        """
        fabric = create_fabric(self.config.train)
        fabric.launch()
        run = RunFolder(Path(self.config.out) / self.config.name)
        val_set = LoaderDataset(self.val_loader, self.classes, self.model.input_spec)
        # What the loader does to images is not known here; of the sizes, the first validation image's is.
        height, width = val_set.read(0)[1].shape
        augment = AugmentConfig(crop=(height, width), scale=(1.0, 1.0), flip=0.0, jitter=0.0, blur=0.0)
        config = msgspec.structs.replace(self.config, augment=augment)
        batches = EpochBatches(len(self.batches), 1, config.seed)  # the user's loader orders its samples itself
        objective = Supervised(self.model, self.loss, self.loss)
        setup = Setup(objective, self.batches, batches, len(self.batches) * config.data.batch_size, val_set)
        trainer = Trainer(fabric, setup, config, run)
        run.create(config, self.classes)
        show_progress(not self.quiet)
        result = trainer.train()
        best = load_checkpoint(run.path, model=self.model)
        save_checkpoint(run.path / "best_model.pth", Checkpoint(self.model, self.classes, best.training))
        return result


class RealtimeSegmentation:
    """Segments images and videos with a trained or exported network.

    Engines that can plan ahead do so for the size of the first image; those of other sizes are taken too, more slowly.

    Args:
        model_path: weights (``.pth``, ``.safetensors``), run folder or ``.onnx`` file.
        backend: as of :func:`featherseg.evaluation.opening.open_segmenter`: "pytorch" for weights, a session of
            :mod:`featherseg.runtime.sessions` for exported files, "auto" for the file's own engine. The default,
            "fastest", is the one that measures fastest on this machine, see
            :func:`featherseg.runtime.choose.fastest_engine`; what was measured is remembered, and :attr:`device`
            says it.
        device: "auto", "cpu", "cuda", …; exported files run on the CPU.
        size: (height, width) for the network; images' own where left out.
        threads: of the engine; all that the process may use where left out.
        precision: see :func:`featherseg.evaluation.opening.open_segmenter`; fp32 where left out. "any" lets
            "fastest" take any of them.

    Raises:
        ConfigError: backend, device, threads or precision are not to be had for such a file.
        ArtifactError, CheckpointError: the file cannot be used.

    Example:
        >>> seg = featherseg.RealtimeSegmentation("runs/street", backend="pytorch", device="cpu")
        >>> seg.infer(np.zeros((64, 96, 3), np.uint8)).mask.shape
        (64, 96)
    """

    def __init__(
        self,
        model_path: str | Path,
        backend: str = "fastest",
        device: str = "auto",
        size: tuple[int, int] | None = None,
        *,
        threads: int | None = None,
        precision: str | None = None,
    ) -> None:
        self.choice: EngineChoice | None = None
        if (
            backend == "fastest"
            and device in ("auto", "cpu")
            and Path(model_path).suffix.lower() in artifact_suffixes()
        ):
            self.choice = fastest_engine(model_path, size=size, threads=threads, precision=precision)
            backend, precision = self.choice.engine.backend, self.choice.engine.precision
        self.segmenter = open_segmenter(
            model_path, size=size, backend=backend, threads=threads, device=device, precision=precision
        )
        self._is_planned = False

    @property
    def device(self) -> str:
        """Where and how it runs, and why so: processor, threads, precision, versions, what was measured."""
        device = self.segmenter.device
        return device if self.choice is None else f"{device}; {self.choice}"

    def infer(self, image: ImageArray) -> Prediction:
        """Segment an RGB image, uint8 (H, W, 3)."""
        if not self._is_planned:
            check_frame(image)
            self.segmenter = self.segmenter.planned((image.shape[0], image.shape[1]))
            self._is_planned = True
        return self.segmenter(image)

    def infer_video(self, source: str | Path, output: str | Path | None = None) -> float:
        """Segment a video, write it with overlays, and return frames per second from file to file."""
        return segment_video(self.segmenter, source, output).fps


class ModelOptimizer:
    """Exports, times and quantises a network.

    Args:
        model: the network; trained, for results that mean something.
        classes: names; made up where left out.

    Raises:
        ConfigError: the network is not featherseg's, or `classes` are not as many as it has.

    Example:
        >>> optimizer = featherseg.ModelOptimizer(featherseg.JetNet(num_classes=5))
        >>> optimizer.benchmark(iterations=2, size=(64, 96))["fps"] > 0
        True
    """

    def __init__(self, model: SegmentationModel, classes: ClassSet | None = None) -> None:
        require_network(model)
        self.model = model
        self.classes = classes or made_up_classes(model)
        self._artifact = describe(model, self.classes)

    def export_to_onnx(self, path: str | Path) -> Path:
        """Write an ONNX file, not yet verified; ``featherseg export`` verifies too."""
        return export_onnx(self.model, path, self._artifact)

    def benchmark(self, iterations: int = 100, size: tuple[int, int] = (512, 1024)) -> dict[str, float]:
        """Time the network in torch, on the device it is on, with one random image of `size` (height, width).

        Returns:
            ``fps`` and ``avg_time_ms`` of the network alone, without pre- and postprocessing; ``p50_ms``, ``p90_ms``
            and ``p99_ms``.
        """
        frame = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        latency = _in_torch(self.model, self._artifact).latency(frame, runs=iterations)
        mean = sum(latency.stages["net"]) / latency.runs
        quantiles = {f"p{q}_ms": latency.percentile(q, "net") for q in (50, 90, 99)}
        return {"fps": 1000 / mean, "avg_time_ms": mean, **quantiles}

    def quantize_dynamic(self, path: str | Path | None = None) -> dict[str, Any]:
        """Store the weights as int8, a quarter of the size, and measure what that does to speed.

        Returns:
            ``path``, ``bytes``, ``fp32_bytes``, ``times_smaller``, ``latency_ms``, ``fp32_latency_ms`` and a
            sentence, ``summary``. Dynamic quantisation saves space; on many processors it costs time.
        """
        from .compress.weights_int8 import quantize_weights

        with tempfile.TemporaryDirectory() as folder:
            source = self.export_to_onnx(Path(folder) / "fp32.onnx")
            return quantize_weights(source, Path(path or f"{self._artifact.network}_int8.onnx"))


class TensorRTOptimizer:
    """Builds a TensorRT engine from an exported file.

    Args:
        onnx_path: the file.

    Example:
        >>> optimizer = featherseg.TensorRTOptimizer("street.onnx")
        >>> optimizer.build_engine("street.engine", precision="fp16")  # doctest: +SKIP
    """

    def __init__(self, onnx_path: str | Path) -> None:
        self.onnx_path = Path(onnx_path)

    def build_engine(self, path: str | Path, precision: str = "fp16") -> Path:
        """Write an engine; see :func:`featherseg.exporting.tensorrt.build_engine`."""
        from .exporting.tensorrt import build_engine

        return build_engine(self.onnx_path, path, precision=precision)


def visualize_results(
    model: SegmentationModel,
    loader: Iterable[Batch],
    path: str | Path = "results.png",
    *,
    classes: ClassSet | None = None,
    count: int = 5,
) -> ImageArray:
    """Draw a 3×5 grid of image, truth and prediction for the first `count` samples, and write it to `path`.

    Args:
        model: the network.
        loader: batches as :class:`SegmentationTrainer` takes them.
        path: picture to write; its suffix names the format.
        classes: names and colours; PASCAL VOC's for 21 classes, else made up, where left out.
        count: samples, a row each.

    Returns:
        The picture, RGB uint8 (H, W, 3).

    Raises:
        ConfigError: the network is not featherseg's, `classes` are not as many as it has, or `count` is below 1.
        DataError: the loader gives nothing or something else, or `path` cannot be such a picture.

    Example:
        >>> images = torch.zeros(5, 3, 64, 96, dtype=torch.uint8)
        >>> masks = torch.zeros(5, 64, 96, dtype=torch.int64)
        >>> loader = torch.utils.data.DataLoader(list(zip(images, masks)), batch_size=5)
        >>> featherseg.visualize_results(featherseg.JetNet(num_classes=21), loader, "grid.png").ndim
        3
    """
    from .data.readers.public import VOC_CLASSES

    require_network(model)
    if count < 1:
        raise ConfigError(f"count is {count}; draw at least 1 sample")
    if classes is None:
        classes = VOC_CLASSES if model.num_classes == len(VOC_CLASSES) else made_up_classes(model)
    segmenter = _in_torch(model, describe(model, classes))
    dataset = LoaderDataset(_first(loader, count), classes, model.input_spec)
    samples = [dataset.read(i) for i in range(min(count, len(dataset)))]
    masks = [segmenter.segment(image) for image, _ in samples]
    grid = result_grid([s[0] for s in samples], [s[1] for s in samples], masks, classes, rows=len(samples))
    write_image(path, grid)
    return grid


def _first(loader: Iterable[Batch], count: int) -> Iterator[Batch]:
    seen = 0
    for batch in loader:
        yield batch
        seen += len(batch["image"] if isinstance(batch, dict) else batch[0])
        if seen >= count:
            return


def _in_torch(model: SegmentationModel, artifact: Artifact) -> Segmenter:
    """Return a segmenter with the network as it is, on the device it is on."""
    device = next((str(parameter.device) for parameter in model.parameters()), "cpu")
    return Segmenter(TorchSession(model, artifact, device=device))
