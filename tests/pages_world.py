"""A small world in which the commands of the documentation make sense: data of each kind, recipes, a run, files."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from PIL import Image

from featherseg.core.outputs import writing
from featherseg.core.recipes import load_config
from featherseg.data.datasets import create_dataset
from featherseg.data.readers.public import CAMVID_CLASSES, VOC_CLASSES
from featherseg.exporting.verify import export_verified
from featherseg.models.checkpoint import load_checkpoint
from featherseg.training.fit import fit

ROOT = Path(__file__).resolve().parents[1]
SIZE = (64, 96)
QUICK = (
    "model.name=jetnet",
    "model.options={}",
    "data.batch_size=4",
    "data.workers=0",
    "augment.crop=[64, 96]",
    "train.epochs=1",
    "train.precision=fp32",
    "train.device=cpu",
)
"""Settings that end a training in seconds."""


def make_world(root: Path) -> Path:
    """Fill `root` with what the pages speak of."""
    street = create_dataset("synthetic", count=24, size=SIZE)
    scenes = [street.read(i) for i in range(24)]
    _camvid(root / "CamVid", scenes)
    _voc(root / "data" / "VOCdevkit" / "VOC2012", scenes)
    (root / "data" / "CamVid").symlink_to(root / "CamVid")
    _folder(root / "photos", scenes[:20])
    for i in range(20, 24):
        _picture(root / "frames" / f"{i}.jpg", scenes[i][0])
    for place in (root / "new" / "street.jpg", root / "street.jpg", root / "street.png"):
        _picture(place, scenes[20][0])
    _video(root / "drive.mp4", [image for image, _ in scenes])
    (root / "recipes").mkdir()
    for recipe in (ROOT / "recipes").glob("*.toml"):
        (root / "recipes" / recipe.name).write_text(tomli_w.dumps(_quick(tomllib.loads(recipe.read_text()))))
    settings = [f"data.root={root}/CamVid", f"out={root}/runs", "train.epochs=8"]
    config = load_config(root / "recipes" / "camvid_fastsegnet.toml", settings)
    run = fit(config, quiet=True).path
    val_set = create_dataset("camvid", root / "CamVid", "val")
    shutil.copytree(run, root / "runs" / "street")
    for name in ("street.onnx", "street_int8.onnx", "mine.onnx"):
        with writing(root / name):  # so that the pages' commands may replace them
            export_verified(load_checkpoint(run), root / name, val_set)
    return root


def _quick(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe of the same data and name whose training takes seconds."""
    data = {key: value for key, value in recipe.get("data", {}).items() if key in ("name", "root", "options")}
    return {
        "name": recipe["name"],
        "model": {"name": "jetnet"},
        "data": data | {"batch_size": 4, "workers": 0},
        "augment": {"crop": list(SIZE)},
        "train": {"epochs": 1, "precision": "fp32", "device": "cpu"},
        # What is hardly trained loses more to rounding than a network may.
        "ship": {
            "max_drop": 0.9,
            "tolerances": {"int8": {"min_agreement": 0.5, "max_logit_error": 10.0, "max_confidence_error": 1.0}},
        },
    }


def _picture(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _camvid(home: Path, scenes: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for split, chosen in (("train", range(16)), ("val", range(16, 24))):
        lines = []
        for i in chosen:
            image, mask = scenes[i]
            _picture(home / split / f"s{i:02}.png", image)
            _picture(home / f"{split}annot" / f"s{i:02}.png", np.where(mask == 255, 11, mask % len(CAMVID_CLASSES)))
            lines.append(f"/SegNet/CamVid/{split}/s{i:02}.png /SegNet/CamVid/{split}annot/s{i:02}.png")
        (home / f"{split}.txt").write_text("\n".join(lines) + "\n")


def _voc(home: Path, scenes: list[tuple[np.ndarray, np.ndarray]]) -> None:
    lists = home / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split, chosen in (("train", range(16)), ("val", range(16, 24))):
        (lists / f"{split}.txt").write_text("".join(f"s{i:02}\n" for i in chosen))
    for i, (image, mask) in enumerate(scenes):
        _picture(home / "JPEGImages" / f"s{i:02}.jpg", image)
        palette = Image.fromarray(mask)
        palette.putpalette(VOC_CLASSES.palette().tobytes())
        (home / "SegmentationClass").mkdir(exist_ok=True)
        palette.save(home / "SegmentationClass" / f"s{i:02}.png")


def _folder(home: Path, scenes: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for i, (image, mask) in enumerate(scenes):
        _picture(home / "images" / f"s{i:02}.png", image)
        _picture(home / "masks" / f"s{i:02}.png", mask)
    names = create_dataset("synthetic").classes.names
    (home / "classes.toml").write_text(tomli_w.dumps({"names": list(names)}))


def _video(path: Path, frames: list[np.ndarray]) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
