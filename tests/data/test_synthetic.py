"""The synthetic street set: exact, repeatable, the same scene at every size, and worth learning."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.random import PCG64, Generator
from numpy.typing import NDArray
from PIL import Image

from featherseg.core.errors import ConfigError
from featherseg.core.types import ClassSet, ImageArray, MaskArray
from featherseg.data.readers.synthetic import STREET_CLASSES, SyntheticStreet, render_street, write_street
from featherseg.data.street.actors import Car, Person
from featherseg.data.street.layout import choose_street, furnish
from featherseg.data.street.scenery import Pole

SMALL = (96, 192)


@pytest.fixture(scope="module")
def scenes() -> list[tuple[ImageArray, MaskArray]]:
    return [render_street(1000 + seed) for seed in range(40)]


def share(mask: MaskArray, name: str) -> float:
    return float((mask == STREET_CLASSES.index(name)).mean())


def test_classes_have_the_colours_of_cityscapes() -> None:
    known = {"road": (128, 64, 128), "sky": (70, 130, 180), "car": (0, 0, 142), "person": (220, 20, 60)}
    for name, color in known.items():
        assert STREET_CLASSES.colors[STREET_CLASSES.index(name)] == color
    assert len(set(STREET_CLASSES.colors)) == len(STREET_CLASSES) == 9


@pytest.mark.parametrize("size", [(64, 64), (65, 131), (64, 640), (640, 64), (191, 385), (540, 960)])
def test_every_size_gives_an_image_and_a_mask_of_class_ids(size: tuple[int, int]) -> None:
    for seed in (3, 11):
        image, mask = render_street(seed, size)
        assert image.shape == (*size, 3)
        assert mask.shape == size
        assert image.dtype == mask.dtype == np.uint8
        assert image.flags.c_contiguous
        assert mask.flags.c_contiguous
        assert set(np.unique(mask)) <= {*range(len(STREET_CLASSES)), 255}
        assert image.std() > 10


def test_a_seed_gives_the_same_bytes_in_another_process_with_other_threads() -> None:
    program = (
        "import sys, hashlib, cv2; cv2.setNumThreads(3)\n"
        "from featherseg.data.readers.synthetic import render_street\n"
        "render_street(1)\n"  # an earlier scene must leave nothing behind
        "image, mask = render_street(42)\n"
        "print(hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest(), 'torch' in sys.modules)"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    image, mask = render_street(42)
    assert there == [hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest(), "False"]


def test_seeds_give_different_scenes(scenes: list[tuple[ImageArray, MaskArray]]) -> None:
    assert len({mask.tobytes() for _, mask in scenes}) == len(scenes)


def test_a_scene_is_the_same_scene_at_twice_the_size() -> None:
    for seed in range(6):
        image, mask = render_street(seed)
        large_image, large_mask = render_street(seed, (384, 768))
        # A pixel that is one class in all four of its finer pixels must be that class; thin borders may differ.
        fine = large_mask.reshape(192, 2, 384, 2).swapaxes(1, 2).reshape(192, 384, 4)
        sure = (fine == fine[..., :1]).all(axis=-1)
        assert sure.mean() > 0.9
        assert (mask == fine[..., 0])[sure].mean() > 0.985
        halved = large_image.reshape(192, 2, 384, 2, 3).mean(axis=(1, 3))
        assert np.abs(halved - image).mean() < 8


def test_another_shape_is_a_part_of_the_same_picture() -> None:
    for seed in range(6):
        whole, part = render_street(seed, SMALL)[1][:, 48:144], render_street(seed, (96, 96))[1]
        labelled = (whole != 255) & (part != 255)
        assert labelled.mean() > 0.8
        # Clipped lines may round otherwise in a pixel here and there; a shift by one pixel would be far worse.
        assert (whole == part)[labelled].mean() > 0.995
        assert (whole[:, 1:] == part[:, :-1]).mean() < 0.995


def borders(mask: MaskArray) -> NDArray[np.bool_]:
    """Pixels whose right neighbour is of another class."""
    changes = np.zeros(mask.shape, bool)
    changes[:, :-1] = (mask[:, 1:] != mask[:, :-1]) & (mask[:, 1:] != 255) & (mask[:, :-1] != 255)
    return changes


def test_the_masks_borders_lie_on_the_images_edges(scenes: list[tuple[ImageArray, MaskArray]]) -> None:
    strength = dict.fromkeys((-3, -2, 0, 2, 3), 0.0)
    for image, mask in scenes:
        edges = np.zeros(mask.shape)
        edges[:, :-1] = np.abs(np.diff(image.astype(float), axis=1)).sum(axis=-1)
        for shift in strength:
            strength[shift] += float(edges[np.roll(borders(mask), shift, axis=1)].mean())
    assert max(strength, key=lambda shift: strength[shift]) == 0
    assert strength[0] > 1.5 * max(strength[-3], strength[3])


def test_all_classes_occur_and_rare_ones_nearly_always(scenes: list[tuple[ImageArray, MaskArray]]) -> None:
    for name in STREET_CLASSES.names:
        seen = np.mean([share(mask, name) > 0.001 for _, mask in scenes])
        assert seen >= (0.5 if name == "traffic sign" else 0.9), name
    mean = {name: np.mean([share(mask, name) for _, mask in scenes]) for name in STREET_CLASSES.names}
    assert max(mean.values()) < 0.4
    assert min(mean.values()) > 0.005


def test_some_scenes_and_few_pixels_are_ignored(scenes: list[tuple[ImageArray, MaskArray]]) -> None:
    ignored = np.array([(mask == 255).mean() for _, mask in scenes])
    assert 0.1 < (ignored > 0).mean() < 0.6
    assert ignored.max() < 0.15


def test_colour_alone_does_not_solve_it(scenes: list[tuple[ImageArray, MaskArray]]) -> None:
    # The best classifier by colour, a table over 16³ colours, learnt on half of the scenes.
    def split(part: list[tuple[ImageArray, MaskArray]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        images, masks = (np.stack(x) for x in zip(*part, strict=True))
        bins = (images.astype(np.int64) >> 4) @ np.array((256, 16, 1))
        return bins[masks != 255], masks[masks != 255].astype(np.int64)

    bins, target = split(scenes[:20])
    table = np.bincount(bins * 9 + target, minlength=4096 * 9).reshape(4096, 9).argmax(axis=1)
    bins, target = split(scenes[20:])
    matrix = np.bincount(target * 9 + table[bins], minlength=81).reshape(9, 9)
    iou = np.diag(matrix) / (matrix.sum(0) + matrix.sum(1) - np.diag(matrix))
    assert iou.mean() < 0.45
    assert iou[STREET_CLASSES.index("sky")] > 0.3  # but it is no noise either


def test_small_things_are_left_out() -> None:
    # Pixels at 192 rows under the widest lens, 1.4 picture heights of focal length.
    for seed in range(60):
        rng = Generator(PCG64(seed))
        for thing in furnish(choose_street(rng), rng):
            scale = 1.4 * 192 / max(thing.depth, 1.0)
            if isinstance(thing, Pole):
                assert thing.wide * scale > 2.4
                assert thing.depth > 5
            elif isinstance(thing, Person):
                assert thing.height * scale > 8
            elif isinstance(thing, Car):
                assert thing.shape.height * scale > 8


@pytest.mark.parametrize(("seed", "size"), [(-1, (192, 384)), (0, (63, 384)), (0, (192, 0))])
def test_render_street_refuses(seed: int, size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=r"use 0 or more|at least 64x64"):
        render_street(seed, size)


def test_dataset_interface() -> None:
    dataset = SyntheticStreet("val", count=13, size=SMALL)
    assert (dataset.name, dataset.split, len(dataset)) == ("synthetic", "val", 13)
    assert dataset.classes is STREET_CLASSES
    assert dataset.stem(12) == "street_000012"
    image, mask = dataset.read(12)
    assert (image.shape, mask.shape) == ((*SMALL, 3), SMALL)
    assert np.array_equal(dataset.read(12)[0], image)
    for outside in (13, -1):
        with pytest.raises(IndexError, match="of 13"):
            dataset.read(outside)


def test_splits_are_disjoint_and_do_not_depend_on_the_count() -> None:
    def masks(split: str, count: int, seed: int = 0) -> list[bytes]:
        dataset = SyntheticStreet(split, count, (64, 64), seed)
        return [dataset.read(i)[1].tobytes() for i in range(count)]

    train, val, test, other = masks("train", 12), masks("val", 12), masks("test", 12), masks("train", 12, seed=1)
    assert len({*train, *val, *test, *other}) == 48
    assert masks("train", 5) == train[:5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "vall"}, "unknown split 'vall'; did you mean \"val\""),
        ({"count": 0}, "count is 0"),
        ({"size": (192, 63)}, "192x63"),
        ({"seed": -2}, "seed is -2"),
    ],
)
def test_dataset_refuses(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SyntheticStreet(**arguments)  # type: ignore[arg-type]


def test_write_street(tmp_path: Path) -> None:
    out = write_street(tmp_path / "new" / "street", train=2, val=1, size=SMALL, seed=3)
    assert out == write_street(out, train=2, val=1, size=SMALL, seed=3)  # and again over it
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert files == [
        "classes.json",
        "images/train/street_000000.png",
        "images/train/street_000001.png",
        "images/val/street_000000.png",
        "masks/train/street_000000.png",
        "masks/train/street_000001.png",
        "masks/val/street_000000.png",
    ]
    assert ClassSet.from_dict(json.loads((out / "classes.json").read_text(encoding="utf-8"))) == STREET_CLASSES
    for split, count in (("train", 2), ("val", 1)):
        dataset = SyntheticStreet(split, count, SMALL, seed=3)
        for index in range(count):
            image, mask = dataset.read(index)
            with Image.open(out / "images" / split / f"{dataset.stem(index)}.png") as file:
                assert np.array_equal(np.asarray(file), image)
            with Image.open(out / "masks" / split / f"{dataset.stem(index)}.png") as file:
                assert file.mode == "P"
                assert np.array_equal(np.asarray(file), mask)
                colors = np.asarray(file.convert("RGB"))
            assert np.array_equal(colors, STREET_CLASSES.palette()[mask])


def test_write_street_refuses_before_it_writes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="count is 0"):
        write_street(tmp_path / "street", train=1, val=0)
    assert not (tmp_path / "street").exists()
