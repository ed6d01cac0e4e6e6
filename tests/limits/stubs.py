"""A segmenter that costs nothing, a picture to give it, and what must not be left behind."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from featherseg.core.files import TEMPORARY
from featherseg.core.types import ClassSet, InputSpec
from featherseg.runtime.artifact import Artifact
from featherseg.runtime.segmenter import Segmenter
from featherseg.runtime.sessions.base import Session

linux = pytest.mark.skipif(sys.platform != "linux", reason="mounts, limits and names as on Linux")


class Stub(Session):
    """A session that says sky over road, whatever it sees."""

    name, device = "stub", "nowhere"
    artifact = Artifact(ClassSet(("sky", "road", "car")), InputSpec(), 8, "stub", 1)

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        batch, height, width, _ = images.shape
        logits = np.zeros((batch, 3, -(-height // 8), -(-width // 8)), np.float32)
        logits[:, 0, : logits.shape[2] // 2] = 1
        logits[:, 1, logits.shape[2] // 2 :] = 1
        return logits


def stub_segmenter() -> Segmenter:
    return Segmenter(Stub())


def picture(path: Path, size: tuple[int, int] = (9, 7)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (10, 20, 30)).save(path, format="PNG")
    return path


def litter(folder: Path) -> list[Path]:
    return list(folder.rglob(f"{TEMPORARY}*"))
