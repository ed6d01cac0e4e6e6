"""Folders of images and masks as people have them, made of procedural pictures: names and places are the point."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

Build = Callable[[Path], None]
LAYOUTS: dict[str, Build] = {}
SIZE = (48, 64)


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth noise of its own, RGB, and a mask of three classes."""
    field = cv2.resize(np.random.default_rng(seed).random((5, 7, 4)), SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    spread = (field - field.min((0, 1))) / np.ptp(field, (0, 1))
    mask = np.digitize(spread[..., 3], np.quantile(spread[..., 3], [0.5, 0.8])).astype(np.uint8)
    return (spread[..., :3] * 255).astype(np.uint8), mask


def photograph(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene(seed)[0]).save(path)


def labels(path: Path, seed: int, kind: str = "ids") -> None:
    """Save a mask: of ``ids``, of 0 and 255 (``white``), or as a field of view, white nearly all over (``disc``)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = scene(seed)[1]
    if kind == "white":
        ids = (ids > 0).astype(np.uint8) * 255
    elif kind == "disc":
        ids = np.full_like(ids, 255)
        ids[:4] = 0
    Image.fromarray(ids).save(path)


def layout(build: Build) -> Build:
    LAYOUTS[build.__name__] = build
    return build


@layout
def drive(root: Path) -> None:
    """As DRIVE: vessels by one person, by another for some images, and the field of view."""
    for split, first in (("training", 21), ("test", 1)):
        for i in range(first, first + 4):
            photograph(root / split / "images" / f"{i:02d}_{split}.tif", i)
            labels(root / split / "1st_manual" / f"{i:02d}_manual1.png", i, "white")
            labels(root / split / "mask" / f"{i:02d}_{split}_mask.png", i, "disc")
            if split == "test":
                labels(root / split / "2nd_manual" / f"{i:02d}_manual2.png", i, "white")


@layout
def drive_alone(root: Path) -> None:
    for i in range(21, 25):
        photograph(root / "images" / f"{i}_training.tif", i)
        labels(root / "1st_manual" / f"{i}_manual1.gif", i)


@layout
def chase(root: Path) -> None:
    """As CHASE_DB1: one folder, both eyes of each child, two annotators."""
    for i in range(1, 6):
        for eye in "LR":
            photograph(root / f"Image_{i:02d}{eye}.jpg", 2 * i + (eye == "R"))
            for person in ("1stHO", "2ndHO"):
                labels(root / f"Image_{i:02d}{eye}_{person}.png", 2 * i + (eye == "R"), "white")


@layout
def kitti(root: Path) -> None:
    """As KITTI's roads: a word within the name, lanes for some images alone, no labels for testing."""
    for at, road in enumerate(("um", "umm", "uu")):
        for i in range(4):
            photograph(root / "training" / "image_2" / f"{road}_{i:06d}.png", 10 * at + i)
            photograph(root / "testing" / "image_2" / f"{road}_{i:06d}.png", 100 + 10 * at + i)
            for what in ("lane", "road") if road == "um" else ("road",):
                labels(root / "training" / "gt_image_2" / f"{road}_{what}_{i:06d}.png", 10 * at + i)


@layout
def cityscapes_flat(root: Path) -> None:
    for i in range(4):
        photograph(root / f"ulm_{i:06d}_000019_leftImg8bit.png", i)
        labels(root / f"ulm_{i:06d}_000019_gtFine_labelIds.png", i)


@layout
def cityscapes_flat_of_two_kinds(root: Path) -> None:
    cityscapes_flat(root)
    for i in range(4):
        labels(root / f"ulm_{i:06d}_000019_gtFine_labelTrainIds.png", i)


@layout
def cityscapes_towns(root: Path) -> None:
    for at, town in enumerate(("ulm", "bonn", "jena")):
        for i in range(3):
            photograph(root / "leftImg8bit" / town / f"{town}_{i:06d}_leftImg8bit.png", 10 * at + i)
            labels(root / "gtFine" / town / f"{town}_{i:06d}_gtFine_labelIds.png", 10 * at + i)


@layout
def numbered(root: Path) -> None:
    for i in range(1, 13):
        photograph(root / "pictures_2024" / f"img_{i:03d}.png", i)
        labels(root / "truth" / f"label_{i:03d}.png", i)


@layout
def numbered_in_one_folder(root: Path) -> None:
    for i in range(1, 13):
        photograph(root / f"img_{i:03d}.png", i)
        labels(root / f"label_{i:03d}.png", i)


@layout
def numbered_otherwise(root: Path) -> None:
    for i in range(1, 13):
        photograph(root / "a" / f"img{i}.png", i)
        labels(root / "b" / f"label{i:03d}.png", i)


@layout
def membranes(root: Path) -> None:
    """As the folders that ISBI's stack is handed round in: 0.png to 9.png on both sides, tests without labels."""
    for i in range(12):
        photograph(root / "train" / "image" / f"{i}.png", i)
        labels(root / "train" / "label" / f"{i}.png", i, "white")
        photograph(root / "test" / f"{i}.png", 50 + i)


@layout
def patients(root: Path) -> None:
    for patient in range(5):
        for i in range(3):
            photograph(root / f"P{patient}" / "img" / f"{i}.png", 10 * patient + i)
            labels(root / f"P{patient}" / "seg" / f"{i}.png", 10 * patient + i)


@layout
def a_folder_for_each_image(root: Path) -> None:
    for i in range(5):
        photograph(root / f"case{i}" / "image.png", i)
        labels(root / f"case{i}" / "mask.png", i)


@layout
def splits_with_words(root: Path) -> None:
    for at, split in enumerate(("train", "val")):
        for i in range(4):
            photograph(root / split / f"x{at}{i}_01.jpg", 10 * at + i)
            labels(root / f"{split}_masks" / f"x{at}{i}_01_mask.gif", 10 * at + i)


@layout
def splits_first(root: Path) -> None:
    for at, split in enumerate(("train", "valid")):
        for i in range(4):
            photograph(root / split / "images" / f"x{at}{i}.png", 10 * at + i)
            labels(root / split / "labels" / f"x{at}{i}.png", 10 * at + i)


@layout
def splits_and_towns(root: Path) -> None:
    for at, split in enumerate(("train", "val")):
        for i in range(4):
            photograph(root / "images" / split / "ulm" / f"x{at}{i}.png", 10 * at + i)
            labels(root / "masks" / split / "ulm" / f"x{at}{i}.png", 10 * at + i)


@layout
def suffix_in_usual_folders(root: Path) -> None:
    for i in range(4):
        photograph(root / "images" / f"scene{i}.jpg", i)
        labels(root / "masks" / f"scene{i}_seg.png", i)


@layout
def side_by_side(root: Path) -> None:
    for i, name in enumerate(("abc", "def", "gh")):
        photograph(root / f"{name}_scene.png", i)
        labels(root / f"{name}_scene_mask.png", i)


@layout
def jpeg_and_png(root: Path) -> None:
    for i in range(5):
        photograph(root / "data" / f"f{i}.jpg", i)
        labels(root / "data" / f"f{i}.png", i)


@layout
def voc_without_lists(root: Path) -> None:
    for i in range(5):
        photograph(root / "JPEGImages" / f"2007_{i:06d}.jpg", i)
        for home in ("SegmentationClass", "SegmentationClassAug"):
            labels(root / home / f"2007_{i:06d}.png", i)


@layout
def masks_and_overlays(root: Path) -> None:
    for i in range(5):
        photograph(root / "images" / f"f{i}.jpg", i)
        photograph(root / "views" / f"f{i}.png", 50 + i)
        labels(root / "masks" / f"f{i}.png", i)
        labels(root / "predictions" / f"f{i}.png", i)


@layout
def masks_and_labels(root: Path) -> None:
    for i in range(5):
        photograph(root / "images" / f"f{i}.jpg", i)
        labels(root / "masks" / f"f{i}.png", i, "disc")
        labels(root / "labels" / f"f{i}.png", i)


# Wrong ones


@layout
def other_days(root: Path) -> None:
    for i in range(4):
        photograph(root / "a" / f"day1_{i}.png", i)
        labels(root / "b" / f"day2_{i}.png", 50 + i)


@layout
def a_mask_is_missing(root: Path) -> None:
    for i in range(6):
        photograph(root / "a" / f"{i}_x.png", i)
        if i:
            labels(root / "b" / f"{i}_y.png", i)


@layout
def photographs_alone(root: Path) -> None:
    for i in range(4):
        photograph(root / f"f{i}.jpg", i)


@layout
def two_cameras(root: Path) -> None:
    for i in range(4):
        photograph(root / "left" / f"f{i}.png", i)
        photograph(root / "right" / f"f{i}.png", 50 + i)
        labels(root / "truth" / f"f{i}.png", i)


@layout
def stack(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for part, first in (("volume", 0), ("labels", 1)):
        pages = [Image.fromarray(scene(i)[first] if first else scene(i)[0][..., 0]) for i in range(3)]
        pages[0].save(root / f"train-{part}.tif", save_all=True, append_images=pages[1:])
