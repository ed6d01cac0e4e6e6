"""Broken datasets, each made from a clean one by one deed, with the findings that it must have and no others.

A builder gets the root of a clean ``folder`` dataset (nine training and three validation pairs, three classes) and
breaks it; those of other kinds begin with an empty folder.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

NAMES = ("sky", "road", "car")
COLORS = ((120, 180, 240), (100, 60, 160), (220, 30, 30))
SIZE = (64, 96)
TRAIN, VAL = 9, 3


def picture(index: int, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Smooth noise with ImageNet's mean and spread; every class holds a tenth of the pixels or more, in patches."""
    rng = np.random.default_rng(1000 + index)
    field = cv2.resize(rng.random((5, 7, 3)), size[::-1], interpolation=cv2.INTER_CUBIC)
    field = (field - field.mean((0, 1))) / field.std((0, 1))
    image = np.clip((np.array([0.485, 0.456, 0.406]) + 0.22 * field) * 255, 14, 255).astype(np.uint8)
    patches = cv2.resize(rng.random((3, 4)), size[::-1], interpolation=cv2.INTER_CUBIC)
    mask = np.digitize(patches, np.quantile(patches, [0.45, 0.8])).astype(np.uint8)
    return image, mask


def blocks(index: int, block: tuple[int, int], count: int, step: int) -> np.ndarray:
    """Values 0 to `count` in blocks as large as a few of a network's cells; the first rows tell masks apart."""
    height, width = block
    rows, columns = np.arange(SIZE[0])[:, None] // height, np.arange(SIZE[1]) // width
    values = (rows * (SIZE[1] // width) + columns + step * index) % count
    values[: index + 1] = values[0, 0]
    return values.astype(np.uint8)


def save(path: Path, array: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def clean_folder(root: Path) -> Path:
    for i in range(TRAIN + VAL):
        split = "train" if i < TRAIN else "val"
        image, mask = picture(i)
        save(root / "images" / split / f"{stem(i)}.png", image)
        save(root / "masks" / split / f"{stem(i)}.png", mask)
    write_classes(root)
    return root


def clean_voc(root: Path) -> Path:
    home = root / "VOCdevkit" / "VOC2012"
    for i in range(TRAIN + VAL):
        save(home / "JPEGImages" / f"{stem(i)}.jpg", picture(i)[0], quality=95)
        # All 21 classes, some ignored pixels, and a palette as VOC has it.
        values = blocks(i, (32, 16), 21, 7)
        values[:2] = 255
        masked = Image.fromarray(values)
        masked.putpalette(np.arange(768, dtype=np.uint16).astype(np.uint8).tobytes())
        (home / "SegmentationClass").mkdir(exist_ok=True)
        masked.save(home / "SegmentationClass" / f"{stem(i)}.png")
    write_lists(home / "ImageSets" / "Segmentation", "{}")
    return root


def clean_camvid(root: Path) -> Path:
    for i in range(TRAIN + VAL):
        split = "train" if i < TRAIN else "val"
        save(root / split / f"{stem(i)}.png", picture(i)[0])
        save(root / f"{split}annot" / f"{stem(i)}.png", blocks(i, (32, 16), 12, 5))
    for split, names in splits().items():
        lines = [f"/SegNet/CamVid/{split}/{name}.png /SegNet/CamVid/{split}annot/{name}.png" for name in names]
        (root / f"{split}.txt").write_text("\n".join(lines))
    return root


def clean_cityscapes(root: Path) -> Path:
    for i in range(TRAIN + VAL):
        split = "train" if i < TRAIN else "val"
        save(root / "leftImg8bit" / split / "ulm" / f"{stem(i)}_leftImg8bit.png", picture(i)[0])
        save(root / "gtFine" / split / "ulm" / f"{stem(i)}_gtFine_labelIds.png", blocks(i, (16, 16), 34, 12))
    return root


def stem(index: int) -> str:
    return "abcdefghijkl"[index] + "_scene"


def splits() -> dict[str, list[str]]:
    names = [stem(i) for i in range(TRAIN + VAL)]
    return {"train": names[:TRAIN], "val": names[TRAIN:]}


def write_lists(folder: Path, line: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split, names in splits().items():
        (folder / f"{split}.txt").write_text("".join(line.format(name) + "\n" for name in names))


def write_classes(root: Path, extra: str = "") -> None:
    colors = ", ".join(str(list(color)) for color in COLORS)
    (root / "classes.toml").write_text(f'names = ["sky", "road", "car"]\ncolors = [{colors}]\n{extra}')


@dataclass(frozen=True)
class Animal:
    """A broken dataset.

    Args:
        build: breaks the clean dataset at its argument.
        finds: ids of all findings.
        base: what it begins with.
        names: parts of paths that the examples of these findings must name.
        hopeless: so broken that no copy can be made.
    """

    build: Callable[[Path], None]
    finds: frozenset[str]
    base: Callable[[Path], Path]
    names: tuple[str, ...]
    hopeless: bool


ZOO: dict[str, Animal] = {}


def animal(
    *finds: str,
    base: Callable[[Path], Path] = clean_folder,
    names: tuple[str, ...] = (),
    hopeless: bool = False,
) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    def add(build: Callable[[Path], None]) -> Callable[[Path], None]:
        assert build.__name__ not in ZOO
        ZOO[build.__name__] = Animal(build, frozenset(finds), base, names, hopeless)
        return build

    return add


def image(root: Path, index: int = 0) -> Path:
    return root / "images" / ("train" if index < TRAIN else "val") / f"{stem(index)}.png"


def mask(root: Path, index: int = 0) -> Path:
    return root / "masks" / ("train" if index < TRAIN else "val") / f"{stem(index)}.png"


def each_mask(root: Path, change: Callable[[np.ndarray], np.ndarray], only: Iterable[int] = range(TRAIN + VAL)) -> None:
    for i in only:
        save(mask(root, i), change(picture(i)[1]))


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
