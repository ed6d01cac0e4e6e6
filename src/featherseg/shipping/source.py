"""What is shipped: the network of a run folder or weights file, or one in memory, and where its data are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..core.config import Config
from ..core.errors import ConfigError
from ..data.datasets import SegmentationDataset, create_dataset
from ..doctor.infer import infer_data
from ..evaluation.opening import open_labelled
from ..models.checkpoint import Checkpoint, as_checkpoint, load_checkpoint
from ..models.foreign import is_foreign
from ..training.run_folder import RunFolder


@dataclass(frozen=True)
class ShipSource:
    """A network on its way to be shipped.

    Args:
        run: folder or file that it is of; of a network in memory a name.
        checkpoint: the network.
        whole: the run's configuration; None of anything but a run folder.
        val_set: labelled images that every figure is of.
        data: folder of the data, where it is not the run's.
        kind: of the data, where it is not the run's.
        options: of the data's builder, where they are not the run's.
    """

    run: Path
    checkpoint: Checkpoint
    whole: Config | None
    val_set: SegmentationDataset
    data: str | Path | None
    kind: str | None
    train_split: str
    options: dict[str, Any] | None = None

    def train_set(self) -> SegmentationDataset:
        """Open what the network was trained on."""
        if self.options is not None:
            return create_dataset(str(self.kind), str(self.data), self.train_split, **self.options)
        return open_labelled(self.run, self.checkpoint.training, root=self.data, kind=self.kind, split=self.train_split)


def open_source(
    run: str | Path | Checkpoint | nn.Module,
    model: nn.Module | None,
    data: str | Path | None,
    kind: str | None,
) -> ShipSource:
    """Return what :func:`featherseg.ship` was asked to ship.

    Raises:
        ConfigError: nothing says where labelled images are.
        CheckpointError: the run cannot be used.
        DataError: the data cannot be used.
    """
    if isinstance(run, str | Path):
        run = Path(run)
        checkpoint = load_checkpoint(run, model=model)
        whole = RunFolder(run).config if run.is_dir() else None
        val_set = open_labelled(run, checkpoint.training, root=data, kind=kind)
        split = str(checkpoint.training.get("split", "train"))
        return ShipSource(run, checkpoint, whole, val_set, data, kind, split)
    if data is None:
        raise ConfigError("a network in memory does not say where its data are; give their folder as data=")
    section = infer_data(Path(data).expanduser(), kind).to_config()["data"]
    name, root, options = section["name"], section.get("root", str(data)), section.get("options", {})
    val_set = create_dataset(name, root, section.get("val_split", "val"), **options)
    checkpoint = as_checkpoint(run, val_set.classes)
    split = str(section.get("train_split", "train"))
    return ShipSource(
        Path(file_name(checkpoint.model.name)), checkpoint, None, val_set, root, name, split, dict(options)
    )


def file_name(network: str) -> str:
    """Return what the files of a network in memory are called: ``unet`` of a class ``Unet``."""
    return (network.partition(":")[2] if is_foreign(network) else network).lower()
