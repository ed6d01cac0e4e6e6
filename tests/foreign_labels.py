"""Exports of COCO, YOLO, LabelMe and Supervisely as programs write them, rebuilt around one small picture.

Each builder returns the folder's :class:`Export`: what a reader must find in it, pixel for pixel.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = (20, 24)
ROAD = [2, 4, 22, 4, 22, 18, 2, 18]
HOLE = [16, 10, 20, 10, 20, 14, 16, 14]
CAR = [6, 8, 12, 8, 12, 14, 6, 14]
"""Outlines as x, y, x, y, …; the car lies on the road, though it comes first in the files."""

Mask = NDArray[np.uint8]


@dataclass
class Export:
    """A folder, and what is in it.

    Args:
        root: the folder.
        kind: of its labels.
        names: of the classes.
        masks: class ids by split and image's name.
        options: of the loader.
    """

    root: Path
    kind: str
    names: tuple[str, ...]
    masks: dict[str, dict[str, Mask]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


def truth(*, hole: bool = True, road: int = 1, car: int = 2, ground: int = 0) -> Mask:
    """What the outlines above say."""
    mask = np.full(SIZE, ground, np.uint8)
    mask[4:18, 2:22] = road
    if hole:
        mask[10:14, 16:20] = ground
    mask[8:14, 6:12] = car
    return mask


def picture(path: Path, seed: int = 0, size: tuple[int, int] = SIZE) -> Path:
    """Write a picture of noise, none like another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def write(path: Path, content: Any) -> Path:
    """Write a text, or JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def counts_of(mask: NDArray[Any]) -> list[int]:
    """COCO's run lengths of a bitmap."""
    flat = mask.astype(bool).T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges.tolist(), len(flat)]).tolist()
    return [0, *runs] if flat[0] else runs


def as_text(counts: Sequence[int]) -> str:
    """COCO's text of run lengths, one number after the other as in maskApi.c's ``rleToString``."""
    text = ""
    for i, count in enumerate(counts):
        x = count - (counts[i - 2] if i > 2 else 0)
        more = True
        while more:
            c = x & 31
            x >>= 5
            more = x != -1 if c & 16 else x != 0
            text += chr((c | 32 if more else c) + 48)
    return text


def bitmap(mask: NDArray[Any]) -> bytes:
    """A one-bit PNG."""
    stream = io.BytesIO()
    Image.fromarray(np.asarray(mask, bool)).save(stream, "PNG")
    return stream.getvalue()


# COCO


def _coco_image(number: int, name: str) -> dict[str, Any]:
    return {"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1], "license": 1}


def _object(number: int, image: int, category: int, segmentation: Any, **more: Any) -> dict[str, Any]:
    box = {"bbox": [0, 0, 1, 1], "area": 1.0, "iscrowd": 0}
    return {"id": number, "image_id": image, "category_id": category, "segmentation": segmentation} | box | more


CATEGORIES = [{"id": 18, "name": "car", "supercategory": "vehicle"}, {"id": 3, "name": "road", "supercategory": "way"}]


def coco_official(root: Path) -> Export:
    """As cocodataset.org: instances beside captions and key points, the images of a split in a folder of their own."""
    masks: dict[str, dict[str, Mask]] = {}
    for i, split in enumerate(("train", "val")):
        name = f"00000000{i}.jpg"
        picture(root / f"{split}2017" / name, i)
        crowd = np.zeros(SIZE, bool)
        crowd[0:6, 0:8] = True
        rle = {"counts": counts_of(crowd), "size": list(SIZE)}
        objects = [
            _object(1, 9 + i, 18, [CAR]),
            _object(2, 9 + i, 3, [ROAD, HOLE]),
            _object(3, 9 + i, 18, rle, iscrowd=1),
        ]
        images = [_coco_image(9 + i, name)]
        write(
            root / "annotations" / f"instances_{split}2017.json",
            {"info": {}, "licenses": [], "images": images, "annotations": objects, "categories": CATEGORIES},
        )
        captions = [{"image_id": 9 + i, "id": 1, "caption": "a car"}]
        write(root / "annotations" / f"captions_{split}2017.json", {"images": images, "annotations": captions})
        mask = truth()
        mask[0:6, 0:8][mask[0:6, 0:8] == 0] = 255
        masks[split] = {name: mask}
    return Export(root, "coco", ("background", "road", "car"), masks)


def coco_roboflow(root: Path) -> Export:
    """As Roboflow: a folder for each split, its JSON among the images, and the group of the classes as category 0."""
    masks: dict[str, dict[str, Mask]] = {}
    categories = [
        {"id": 0, "name": "streets", "supercategory": "none"},
        {"id": 1, "name": "car", "supercategory": "streets"},
        {"id": 2, "name": "road", "supercategory": "streets"},
    ]
    for i, (split, folder) in enumerate((("train", "train"), ("val", "valid"), ("test", "test"))):
        # The same name in each split, as after an upload of three folders.
        name = "frame_jpg.rf.0d2b6c.jpg"
        picture(root / folder / name, i)
        outlines = [_object(0, 0, 1, [[float(v) for v in CAR]]), _object(1, 0, 2, [ROAD])]
        tree = {"info": {}, "categories": categories, "images": [_coco_image(0, name)], "annotations": outlines}
        write(root / folder / "_annotations.coco.json", tree)
        masks[split] = {name: truth(hole=False, road=2, car=1)}
    write(root / "README.roboflow.txt", "streets > v1")
    return Export(root, "coco", ("background", "car", "road"), masks)


def coco_cvat(root: Path) -> Export:
    """As CVAT: one JSON, images in folders of their own, run lengths of brushes, a box that has no outline."""
    names = [f"day{i}/frame.png" for i in range(4)]
    objects, masks = [], {}
    for i, name in enumerate(names):
        picture(root / "images" / "default" / name, i)
        rle = {"counts": counts_of(truth() == 1), "size": list(SIZE)}
        if i % 2:
            rle["counts"] = as_text(counts_of(truth() == 1))
        objects += [
            _object(3 * i, i, 2, rle),
            _object(3 * i + 1, i, 1, CAR),  # without the list around it
            _object(3 * i + 2, i, 1, [], bbox=[0, 0, 4, 5]),
        ]
        mask = truth(car=1, road=2)
        mask[:5, :4][mask[:5, :4] == 0] = 255
        masks[name] = mask
    categories = [{"id": 1, "name": "car", "supercategory": ""}, {"id": 2, "name": "road", "supercategory": ""}]
    tree = {"licenses": [], "info": {}, "categories": categories, "annotations": objects}
    images = [_coco_image(i, name) for i, name in enumerate(names)]
    write(root / "annotations" / "instances_default.json", tree | {"images": images})
    return Export(root, "coco", ("background", "car", "road"), {"all": masks})


def coco_panoptic(root: Path) -> Export:
    """As cocodataset.org's panoptic labels: pictures of segment numbers, 0 for none."""
    masks: dict[str, dict[str, Mask]] = {}
    for i, split in enumerate(("train", "val")):
        picture(root / f"{split}2017" / "7.jpg", i)
        segments = np.zeros((*SIZE, 3), np.uint8)
        segments[truth() == 1] = (1, 2, 0)  # 513
        segments[truth() == 2] = (5, 0, 1)  # 65541
        segments[:2] = (9, 0, 0)
        home = root / "annotations" / f"panoptic_{split}2017"
        home.mkdir(parents=True)
        Image.fromarray(segments).save(home / "7.png")
        about = [
            {"id": 513, "category_id": 3, "iscrowd": 0},
            {"id": 65541, "category_id": 18, "iscrowd": 0},
            {"id": 9, "category_id": 18, "iscrowd": 1},
        ]
        labels = [{"image_id": 7, "file_name": "7.png", "segments_info": about}]
        tree = {"images": [_coco_image(7, "7.jpg")], "annotations": labels, "categories": CATEGORIES}
        write(root / "annotations" / f"panoptic_{split}2017.json", tree)
        masks[split] = {"7.jpg": truth(road=0, car=1, ground=255)}
    return Export(root, "coco", ("road", "car"), masks)


# YOLO


def _shares(outline: Sequence[float]) -> str:
    return " ".join(f"{v / SIZE[1 - i % 2]:.6f}" for i, v in enumerate(outline))


ROWS = f"1 {_shares(CAR)}\n0 {_shares(ROAD)}\n"


def yolo_ultralytics(root: Path) -> Export:
    """As Ultralytics' own sets: names by number, a path of another machine, an image without a text file."""
    text = (
        "# streets\npath: /home/eva/datasets/streets\ntrain: images/train\nval: images/val\ntest:\n\n"
        "names:\n  0: road\n  1: car\n"
    )
    write(root / "data.yaml", text)
    masks: dict[str, dict[str, Mask]] = {"train": {}, "val": {}}
    for split in ("train", "val"):
        for i, name in enumerate(("a", "b")):
            picture(root / "images" / split / f"{name}.png", i + 2 * (split == "val"))
            masks[split][f"{name}.png"] = truth(hole=False) if name == "a" else np.zeros(SIZE, np.uint8)
        write(root / "labels" / split / "a.txt", ROWS)
    return Export(root, "yolo", ("background", "road", "car"), masks)


def yolo_roboflow(root: Path) -> Export:
    """As Roboflow: paths that begin with ../ but mean the folder itself; a bridge to a hole; a class background."""
    text = (
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 3\n"
        "names: ['road', 'car', 'background']\n\nroboflow:\n  workspace: streets\n  version: 1\n"
    )
    write(root / "data.yaml", text)
    bridge = [2, 4, 22, 4, 22, 18, 18, 18, 18, 14, 20, 14, 20, 10, 16, 10, 16, 14, 18, 14, 18, 18, 2, 18]
    masks: dict[str, dict[str, Mask]] = {}
    for i, (split, folder) in enumerate((("train", "train"), ("val", "valid"))):
        picture(root / folder / "images" / "a_jpg.rf.81.png", i)
        write(root / folder / "labels" / "a_jpg.rf.81.txt", f"1 {_shares(CAR)}\n0 {_shares(bridge)}")
        masks[split] = {"a_jpg.rf.81.png": truth(road=0, car=1, ground=2)}
    return Export(root, "yolo", ("road", "car", "background"), masks)


def yolo_cvat(root: Path) -> Export:
    """As CVAT's "Ultralytics YOLO Segmentation": a list of images, a box among the outlines."""
    write(root / "data.yaml", "names:\n  0: road\n  1: car\npath: .\ntrain: train.txt\n")
    masks, lines = {}, []
    for i in range(4):
        name = f"frame_{i}.png"
        picture(root / "images" / "train" / name, i)
        write(root / "labels" / "train" / f"frame_{i}.txt", ROWS + f"1 {_shares([2, 2.5, 4, 5])}\n")
        mask = truth(hole=False)
        mask[:5, :4][mask[:5, :4] == 0] = 255
        masks[name] = mask
        lines.append(f"data/images/train/{name}")
    write(root / "train.txt", "\n".join(lines))
    return Export(root, "yolo", ("background", "road", "car"), {"all": masks})


def yolo_labelstudio(root: Path) -> Export:
    """As Label Studio: class names in a text file and no YAML."""
    write(root / "classes.txt", "road\ncar\n")
    write(root / "notes.json", {"categories": [{"id": 0, "name": "road"}], "info": {"year": 2025}})
    masks = {}
    for i in range(4):
        picture(root / "images" / f"{i}-a.png", i)
        write(root / "labels" / f"{i}-a.txt", ROWS)
        masks[f"{i}-a.png"] = truth(hole=False)
    return Export(root, "yolo", ("background", "road", "car"), {"all": masks})


# LabelMe


def _labelme(shapes: Sequence[Any], image: str, **more: Any) -> dict[str, Any]:
    size = {"imageHeight": SIZE[0], "imageWidth": SIZE[1]}
    head = {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": image, "imageData": None}
    return head | size | more


def _drawn(label: str, outline: Sequence[float], kind: str = "polygon", **more: Any) -> dict[str, Any]:
    points = [list(pair) for pair in zip(outline[::2], outline[1::2], strict=True)]
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}} | more


def labelme_beside(root: Path) -> Export:
    """JSONs beside the images, polygons and a rectangle by two corners, with the image in the JSON."""
    masks = {}
    for i in range(4):
        picture(root / f"img_{i}.png", i)
        shapes = [_drawn("car", [12, 14, 6, 8], "rectangle"), _drawn("road", ROAD)]
        data = base64.b64encode((root / f"img_{i}.png").read_bytes()).decode()
        write(root / f"img_{i}.json", _labelme(shapes, f"img_{i}.png", imageData=data))
        masks[f"img_{i}.png"] = truth(hole=False, road=2, car=1)
    return Export(root, "labelme", ("background", "car", "road"), {"all": masks})


def labelme_windows(root: Path) -> Export:
    """JSONs in a folder of their own with Windows' paths, no sizes, and masks of an assistant."""
    masks = {}
    for i in range(4):
        picture(root / "images" / f"img_{i}.png", i)
        content = base64.b64encode(bitmap(truth()[4:18, 2:22] == 1)).decode()
        shapes = [_drawn("road", [2, 4, 21, 17], "mask", mask=content), _drawn("car", CAR)]
        tree = _labelme(shapes, f"..\\images\\img_{i}.png", imageHeight=None, imageWidth=None)
        write(root / "labels" / f"img_{i}.json", tree)
        masks[f"img_{i}.png"] = truth(road=2, car=1)
    return Export(root, "labelme", ("background", "car", "road"), {"all": masks})


def labelme_splits(root: Path) -> Export:
    """Folders train and val, an order of labels, LabelMe's words for background and ignored, a circle, a line."""
    write(root / "labels.txt", "__ignore__\n_background_\nroad\ncar\nlane\n")
    masks: dict[str, dict[str, Mask]] = {}
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    for i, split in enumerate(("train", "val")):
        picture(root / split / "a.jpg", i)
        shapes = [
            _drawn("car", [9, 9, 9, 12], "circle"),
            _drawn("lane", [30, 0, 30, 20], "linestrip"),
            _drawn("__ignore__", [0, 0, 24, 0, 24, 3, 0, 3]),
            _drawn("_background_", [2, 16, 8, 18], "rectangle"),
            _drawn("road", ROAD),
        ]
        write(root / split / "a.json", _labelme(shapes, "a.jpg"))
        mask = np.zeros(SIZE, np.uint8)
        mask[4:18, 2:22] = 1
        mask[0:3] = 255
        mask[16:18, 2:8] = 0
        mask[(x - 9) ** 2 + (y - 9) ** 2 <= 9] = 2
        masks[split] = {"a.jpg": mask}
    return Export(root, "labelme", ("background", "road", "car", "lane"), masks)


def labelme_voc(root: Path, arrays: bool = True) -> Export:
    """What labelme2voc writes: arrays with -1 for ignored, or PNGs with 255."""
    write(root / "class_names.txt", "_background_\nroad\ncar")
    masks = {}
    for i in range(4):
        picture(root / "JPEGImages" / f"{i}.jpg", i)
        mask = truth()
        mask[0] = 255
        home = root / "SegmentationClass"
        home.mkdir(exist_ok=True)
        if arrays:
            np.save(home / f"{i}.npy", np.where(mask == 255, -1, mask).astype(np.int32))
        else:
            Image.fromarray(mask).save(home / f"{i}.png")
        masks[f"{i}.jpg"] = mask
    return Export(root, "labelme_voc", ("background", "road", "car"), {"all": masks})


def labelme_voc_pngs(root: Path) -> Export:
    """What newer versions of labelme2voc write."""
    return labelme_voc(root, arrays=False)


# Supervisely


def _pairs(outline: Sequence[int]) -> list[list[int]]:
    """Corners of the pixels of a box: those on its outline belong to it."""
    left, top, right, bottom = outline[0], outline[1], outline[4] - 1, outline[5] - 1
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def _thing(title: str, kind: str, **more: Any) -> dict[str, Any]:
    points = {"exterior": [], "interior": []}
    return {"id": 1, "classTitle": title, "geometryType": kind, "tags": [], "points": points} | more


def supervisely(root: Path, *, split_names: bool = False) -> Export:
    """A project: outlines with a hole, a rectangle and bitmaps, the later one on top."""
    classes = [
        {"title": "road", "shape": "any", "color": "#804080", "id": 1},
        {"title": "car", "shape": "bitmap", "color": "#00008E", "id": 2},
    ]
    write(root / "meta.json", {"classes": classes, "tags": [], "projectType": "images"})
    masks: dict[str, dict[str, Mask]] = {}
    for i in range(4):
        home = ("train" if i % 2 else "val") if split_names else f"ds{i % 2}"
        picture(root / home / "img" / f"{i}.png", i)
        # Holes are without their own outlines' pixels, which belong to the hole.
        outline = {"exterior": _pairs(ROAD), "interior": [_pairs(HOLE)]}
        data = base64.b64encode(zlib.compress(bitmap(np.ones((6, 6))))).decode()
        things = [
            _thing("road", "polygon", points=outline),
            _thing("car", "bitmap", bitmap={"data": data, "origin": [6, 8]})
            if i < 2
            else _thing("car", "rectangle", points={"exterior": [[6, 8], [11, 13]], "interior": []}),
        ]
        tree = {"description": "", "tags": [], "size": {"height": SIZE[0], "width": SIZE[1]}, "objects": things}
        write(root / home / "ann" / f"{i}.png.json", tree)
        masks.setdefault(home if split_names else "all", {})[f"{i}.png"] = truth()
    return Export(root, "supervisely", ("background", "road", "car"), masks)


def supervisely_splits(root: Path) -> Export:
    """A project whose datasets are called train and val."""
    return supervisely(root, split_names=True)


BUILDERS: tuple[Callable[[Path], Export], ...] = (
    coco_official,
    coco_roboflow,
    coco_cvat,
    coco_panoptic,
    yolo_ultralytics,
    yolo_roboflow,
    yolo_cvat,
    yolo_labelstudio,
    labelme_beside,
    labelme_windows,
    labelme_splits,
    labelme_voc,
    labelme_voc_pngs,
    supervisely,
    supervisely_splits,
)
