"""Model folders of the network that comes along, for tests of what is in them and of how they are written."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from featherseg.data.readers.synthetic import render_street
from featherseg.evaluation.opening import STREET
from featherseg.runtime.artifact import read_artifact
from featherseg.shipping.folder import write_model_folder
from featherseg.shipping.report.figures import ShippedFile, ShipReport
from ship_samples import shipped, shipping

SIZE = (97, 131)
"""Of the golden image: odd, so that rows and columns end between logits."""
CONTENT = {
    "README.md",
    "SHA256SUMS",
    "golden.png",
    "golden_mask.png",
    "labels.json",
    "report.html",
    "report.json",
    "run.py",
    "street.onnx",
}
# Nothing but onnxruntime, numpy and the standard library can be imported.
ALONE = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "featherseg", "PIL", "cv2", "numba", "onnx", "torchvision"}:
            raise ImportError(f"{name} was asked for")
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def shipped_street(path: Path = STREET, **changes: Any) -> ShippedFile:
    """What a report says of `path`, which is the street network under any name."""
    classes = read_artifact(STREET).classes.names
    file = shipped(path.name, classes, bytes=path.stat().st_size, sha256=digest(path), latency_ms={})
    return replace(file, **changes)


def street_report(*files: ShippedFile, **changes: Any) -> ShipReport:
    options: dict[str, Any] = {
        "classes": read_artifact(STREET).classes,
        "dataset": "camvid val",
        "files": files or (shipped_street(),),
        "fp32_iou": {},
    }
    return shipping(**options | changes)


def write_street(
    folder: Path, files: list[Path] | None = None, report: ShipReport | None = None, **changes: Any
) -> Path:
    options = {"data": "CamVid train", "terms": "For research only.", "threads": 1} | changes
    golden = options.pop("golden", render_street(7, SIZE)[0])
    artifact = options.pop("artifact", read_artifact(STREET))
    return write_model_folder(folder, artifact, files or [STREET], report or street_report(), golden, **options)


def run_program(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a folder's program with an isolated Python from elsewhere, with nothing of ours to import."""
    command = [sys.executable, "-I", "-c", ALONE, str(folder / "run.py"), *(arguments or ("--check",))]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder.parent, check=False)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder; only to be read."""
    return write_street(tmp_path_factory.mktemp("folder") / "dist")


@pytest.fixture
def dist_copy(dist: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dist, tmp_path / "dist"))
