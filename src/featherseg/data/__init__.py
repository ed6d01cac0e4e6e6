"""Datasets, transforms and loaders. Datasets need no torch; :mod:`.loader` does."""

from . import folder, public, synthetic
from .datasets import FileDataset, SegmentationDataset, create_dataset, datasets, list_datasets

__all__ = [
    "FileDataset",
    "SegmentationDataset",
    "create_dataset",
    "datasets",
    "folder",
    "list_datasets",
    "public",
    "synthetic",
]
