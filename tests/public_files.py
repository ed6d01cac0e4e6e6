"""Small files of public datasets, and what is said of broken ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from conftest import error_line
from featherseg.core.errors import DataError
from featherseg.data.datasets import create_dataset
from featherseg.data.readers.public import VOC_CLASSES

SIZE = (6, 8)


def picture(path: Path, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)
    return path


def ids(path: Path, values: Any, palette: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values, np.uint8))
    if palette:
        image.putpalette(VOC_CLASSES.palette().tobytes())
    image.save(path)
    return path


def attempt(*arguments: Any, read: bool, **options: Any) -> None:
    dataset = create_dataset(*arguments, **options)
    if read:
        dataset.read(0)


def refusal(*arguments: Any, read: bool = False, **options: Any) -> str:
    return error_line(DataError, attempt, *arguments, read=read, **options)
