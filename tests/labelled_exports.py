"""Exports of labelling programs, rebuilt in a few hundred bytes each: what the programs write, around one scene."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featherseg.data.brush_rle import encode

SIZE = (20, 24)
NAMES = ("background", "Box", "Disc")
COLORS = np.array([(0, 0, 0), (48, 112, 32), (176, 112, 32)], np.uint8)
LOOKS = np.array([(110, 110, 110), (200, 40, 40), (40, 60, 200)], np.int16)


def scene(index: int, size: tuple[int, int] = SIZE) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """An RGB image and its ids: grey ground (0), a red box (1) and, over it, a blue disc (2)."""
    rng = np.random.default_rng(index)
    height, width = size
    ids = np.zeros(size, np.uint8)
    top, left = int(rng.integers(0, height // 2)), int(rng.integers(0, width // 2))
    ids[top : top + height // 3, left : left + width // 3] = 1
    y, x = np.mgrid[:height, :width]
    ids[
        (y - rng.integers(height // 3, height)) ** 2 + (x - rng.integers(width // 3, width)) ** 2 < (height // 4) ** 2
    ] = 2
    return np.clip(LOOKS[ids] + rng.integers(-20, 21, (*size, 3)), 0, 255).astype(np.uint8), ids


def save(path: Path, values: Any, palette: Sequence[int] = (), **options: Any) -> Path:
    """Write a picture, and the folders it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(values))
    if palette:
        picture.putpalette(list(palette))
    picture.save(path, **options)
    return path


def write(path: Path, text: str) -> Path:
    """Write a text file, and the folders it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


LABEL_MAP = "# label:color_rgb:parts:actions\nBox:48,112,32::\nDisc:176,112,32::\nbackground:0,0,0::\n"


def cvat_masks(root: Path, count: int = 8, size: tuple[int, int] = SIZE, images: bool = True) -> Path:
    """CVAT's "Segmentation mask 1.1": colour masks, labels in alphabetical order, one list called default."""
    names = [f"frame_{i:06d}" for i in range(count)]
    for i, name in enumerate(names):
        image, ids = scene(i, size)
        if images:
            save(root / "JPEGImages" / f"{name}.png", image)
        save(root / "SegmentationClass" / f"{name}.png", COLORS[ids])
        save(root / "SegmentationObject" / f"{name}.png", COLORS[ids])
    write(root / "labelmap.txt", LABEL_MAP)
    write(root / "ImageSets" / "Segmentation" / "default.txt", "\n".join(names) + "\n")
    return root


def cvat_camvid(root: Path, count: int = 8) -> Path:
    """CVAT's "CamVid 1.0": default/, defaultannot/, default.txt and a list of colours."""
    lines = []
    for i in range(count):
        image, ids = scene(i)
        save(root / "default" / f"frame_{i:06d}.png", image)
        save(root / "defaultannot" / f"frame_{i:06d}.png", COLORS[ids])
        lines.append(f"/default/frame_{i:06d}.png /defaultannot/frame_{i:06d}.png")
    write(root / "default.txt", "\n".join(lines))
    write(root / "label_colors.txt", "0 0 0 background\n48 112 32 Box\n176 112 32 Disc\n")
    return root


def runs(mask: NDArray[np.bool_]) -> list[int]:
    """Run lengths down the rows, the first of pixels outside."""
    flat = mask.ravel()
    cuts = [0, *(np.flatnonzero(np.diff(flat.astype(np.int8))) + 1).tolist(), flat.size]
    lengths = np.diff(cuts).tolist()
    return [0, *lengths] if flat[0] else lengths


def cvat_mask(label: str, mask: NDArray[np.bool_], z: int = 0) -> str:
    """A <mask> of CVAT's XML, its run lengths relative to its box."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    box = f'left="{columns[0]}" top="{rows[0]}" width="{part.shape[1]}" height="{part.shape[0]}"'
    text = ", ".join(map(str, runs(part)))
    return f'<mask label={quoteattr(label)} source="manual" occluded="0" rle="{text}" {box} z_order="{z}"></mask>'


def cvat_xml(
    root: Path, shapes: Sequence[str], labels: Sequence[str] = ("Box", "Disc"), file: str = "annotations.xml"
) -> Path:
    """CVAT's "CVAT for images 1.1": an image for each text of shapes."""
    declared = "".join(f"<label><name>{name}</name><color>#30702{i}</color></label>" for i, name in enumerate(labels))
    images = ""
    for i, inner in enumerate(shapes):
        save(root / "images" / f"frame_{i:06d}.png", scene(i)[0])
        about = f'id="{i}" name="frame_{i:06d}.png" width="{SIZE[1]}" height="{SIZE[0]}"'
        images += f"<image {about}>{inner}</image>"
    meta = f"<meta><task><id>1</id><labels>{declared}</labels></task></meta>"
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{meta}{images}</annotations>'
    write(root / file, text)
    return root


def cvat_xml_masks(root: Path, count: int = 8) -> Path:
    """The scenes, as masks of CVAT's XML."""
    shapes = []
    for i in range(count):
        ids = scene(i)[1]
        shapes.append("".join(cvat_mask(NAMES[k], ids == k) for k in (1, 2) if (ids == k).any()))
    return cvat_xml(root, shapes)


def roboflow(root: Path, counts: tuple[int, int, int] = (6, 2, 1), size: tuple[int, int] = SIZE) -> Path:
    """Roboflow's "Semantic Segmentation Masks"."""
    index = 0
    for split, count in zip(("train", "valid", "test"), counts, strict=True):
        for _ in range(count):
            image, ids = scene(index, size)
            save(root / split / f"img{index}_jpg.rf.0a{index}b.jpg", image, quality=95)
            save(root / split / f"img{index}_jpg.rf.0a{index}b_mask.png", ids)
            index += 1
        write(root / split / "_classes.csv", "Pixel Value, Class\n0, background\n1, box\n2, disc\n")
    write(root / "README.roboflow.txt", "x")
    return root


def studio_tags(root: Path, count: int = 8) -> Path:
    """Label Studio's PNG export: a file for each annotation and class, and images called by the tasks' numbers."""
    for i in range(count):
        image, ids = scene(i)
        save(root / "images" / f"{i}.jpg", image, quality=95)
        for k, name in ((1, "box"), (2, "disc")):
            file = root / "masks" / f"task-{i}-annotation-{i + 100}-by-1-tag-{name}-0.png"
            save(file, ((ids == k) * 255).astype(np.uint8))
    return root


def studio_task(index: int, results: Sequence[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """A task of Label Studio's JSON, with one annotation."""
    annotation = {"id": 100 + index, "completed_by": 1, "result": list(results), "was_cancelled": False}
    name = f"0a1b2c3{index}-photo{index}.png"
    data = {"image": f"/data/upload/1/{name}"}
    return {"id": index, "annotations": [annotation], "file_upload": name, "data": data} | changes


def studio_region(kind: str, label: str, **value: Any) -> dict[str, Any]:
    """A region: ``kind`` is brush, polygon, rectangle or ellipse."""
    about = {"original_width": SIZE[1], "original_height": SIZE[0], "image_rotation": 0}
    names = {"from_name": "tag", "to_name": "image", "type": f"{kind}labels"}
    return about | names | {"value": {**value, f"{kind}labels": [label]}}


def studio_brush(label: str, mask: NDArray[np.bool_]) -> dict[str, Any]:
    """A region of brush strokes."""
    return studio_region("brush", label, format="rle", rle=list(encode(mask)))


def studio_json(root: Path, tasks: Sequence[dict[str, Any]], file: str = "project-1-at-2024.json") -> Path:
    """Label Studio's JSON beside the images as they were before they were uploaded."""
    for i in range(len(tasks)):
        save(root / "images" / f"photo{i}.png", scene(i)[0])
    write(root / file, json.dumps(list(tasks)))
    return root


def per_class_folders(root: Path, count: int = 8, names: Sequence[str] = ("box", "disc")) -> Path:
    """A folder for each class."""
    for i in range(count):
        image, ids = scene(i)
        save(root / "images" / f"{i}.jpg", image, quality=95)
        for k, name in enumerate(names, start=1):
            save(root / "masks" / name / f"{i}.png", ((ids == k) * 255).astype(np.uint8))
    return root


def per_class_names(root: Path, count: int = 8, middle: str = "_") -> Path:
    """A name's ending for each class."""
    for i in range(count):
        image, ids = scene(i)
        save(root / "images" / f"img_{i}.jpg", image, quality=95)
        for k, name in ((1, "box"), (2, "disc")):
            save(root / "masks" / f"img_{i}{middle}{name}.png", (ids == k).astype(np.uint8))
    return root


def ade20k(root: Path, counts: tuple[int, int] = (6, 2), info: str | None = None) -> Path:
    """ADE20K's challenge: 1 for the ground, 2 for the box, 3 for the disc, and 0 where nobody labelled."""
    index = 0
    for split, count in zip(("training", "validation"), counts, strict=True):
        for _ in range(count):
            image, ids = scene(index)
            ids = ids + np.uint8(1)
            ids[:, :3] = 0
            save(root / "images" / split / f"ADE_{split}_{index:08d}.jpg", image, quality=95)
            save(root / "annotations" / split / f"ADE_{split}_{index:08d}.png", ids)
            index += 1
    if info is not None:
        write(root / "objectInfo150.txt", info)
    return root


VISTAS_LABELS = [
    {"readable": "Ground", "name": "flat--ground", "color": [110, 110, 110], "evaluate": True, "instances": False},
    {"readable": "Nothing", "name": "void--nothing", "color": [0, 0, 0], "evaluate": False, "instances": False},
    {"readable": "Box", "name": "object--box", "color": [200, 40, 40], "evaluate": True, "instances": True},
    {"readable": "Disc", "name": "object--disc", "color": [40, 60, 200], "evaluate": True, "instances": True},
]


def vistas(root: Path, version: str = "2.0", values: Sequence[int] = (0, 2, 3), void: int = 1) -> Path:
    """Mapillary Vistas: the upper row of each mask is `void`."""
    palette = np.random.default_rng(0).integers(0, 256, 768).tolist()
    for split, numbers in (("training", range(6)), ("validation", range(6, 8)), ("testing", range(8, 9))):
        for i in numbers:
            image, ids = scene(i)
            mask = np.array(values, np.uint8)[ids]
            mask[0] = void
            save(root / split / "images" / f"img{i}.jpg", image, quality=95)
            if split != "testing":
                save(root / split / f"v{version}" / "labels" / f"img{i}.png", mask, palette)
                save(root / split / f"v{version}" / "instances" / f"img{i}.png", mask.astype(np.uint16) << 8)
    return root


def grouped(root: Path, towns: Sequence[str] = ("aachen", "bonn", "ulm"), count: int = 4) -> Path:
    """A folder for each town, in which the same names occur."""
    for i, town in enumerate(towns):
        for j in range(count):
            image, ids = scene(10 * i + j)
            save(root / "images" / town / f"{j}.png", image)
            save(root / "masks" / town / f"{j}.png", ids)
    return root
