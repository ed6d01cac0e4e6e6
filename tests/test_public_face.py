"""The public names: a list that changes on purpose alone, and examples in their docstrings that run."""

from __future__ import annotations

import doctest
import inspect
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import featherseg
from conftest import TINY, Trained, street
from featherseg.core.recipes import config_to_toml, load_config
from featherseg.core.registry import Registry
from featherseg.data.datasets import datasets
from featherseg.models import factory
from featherseg.training.losses import losses

# fmt: off
PUBLIC = [
    "BoundaryLoss", "Checkpoint", "ClassSet", "Config", "CrossEntropyLoss", "DiceLoss", "FastSegNet",
    "FeathersegError", "FocalLoss", "JetNet", "LEDNet", "LightweightSegmentationModel", "ModelFacts",
    "ModelOptimizer", "OHEMLoss", "Prediction", "QuantizeConfig", "RealtimeSegmentation", "ResNetUNet",
    "SegmentationModel", "SegmentationTrainer", "Segmenter", "ShipConfig", "TensorRTOptimizer", "count_parameters",
    "create_dataset", "create_model", "evaluate", "export", "export_verified", "fit", "label",
    "list_datasets", "list_models", "load_checkpoint", "load_config", "open_segmenter", "predict", "prune", "quantize",
    "register_dataset", "register_loss", "register_model", "resume_run", "return_model", "segment_video", "ship",
    "show_progress", "verify", "visualize_results", "wrap", "write_page",
]
# fmt: on


def test_the_list() -> None:
    assert featherseg.__all__ == PUBLIC
    assert featherseg.__version__ == metadata.version("featherseg")
    assert "__version__" in dir(featherseg)


@pytest.fixture(scope="module")
def world(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the examples speak of: a run, its file, a recipe and labelled photos."""
    root = tmp_path_factory.mktemp("world")
    shutil.copytree(trained.run, root / "runs" / "street")
    shutil.copyfile(trained.file, root / "street.onnx")
    (root / "recipe.toml").write_text(config_to_toml(load_config(None, TINY)))
    for part in ("images", "masks"):
        (root / "photos" / part).mkdir(parents=True)
    for i in range(10):
        image, mask = street(i, (64, 96))
        Image.fromarray(image).save(root / "photos" / "images" / f"s{i}.png")
        Image.fromarray(mask).save(root / "photos" / "masks" / f"s{i}.png")
    (root / "photos" / "classes.toml").write_text('names = ["sky", "road", "car"]\n')
    return root


@pytest.mark.parametrize("name", PUBLIC)
def test_each_has_an_example_that_runs(name: str, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    for registry in (factory.models, datasets, losses):  # an example may register something, for itself alone
        keep_entries(registry, monkeypatch)
    monkeypatch.setattr(factory, "_facts", dict(factory._facts))
    thing = getattr(featherseg, name)
    given = {"featherseg": featherseg, "np": np, "torch": torch, "Path": Path}
    example = doctest.DocTestParser().get_doctest(inspect.getdoc(thing) or "", given, name, None, None)
    assert example.examples, f"{name} has no example"
    told: list[str] = []
    failed, _ = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=told.append)
    assert not failed, "".join(told)


def keep_entries(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.names()  # fills the table, which is copied
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))


@pytest.mark.slow
def test_the_library_prints_nothing(world: Path) -> None:
    """Not even warnings: they go to the logger, which the program may listen to."""
    code = (
        "import featherseg; c = featherseg.load_config('recipe.toml', ['name=silent', 'data.root=']); featherseg.fit(c)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=world, capture_output=True, text=True, check=True)
    assert ended.stdout == ended.stderr == ""
