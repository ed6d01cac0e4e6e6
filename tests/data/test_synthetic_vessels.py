"""The synthetic vessels: exact, repeatable, thin, and not to be told by colour alone."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.random import PCG64, Generator

from conftest import error_line
from featherseg.core.errors import ConfigError
from featherseg.core.types import ClassSet, ImageArray, MaskArray
from featherseg.data.datasets import create_dataset
from featherseg.data.readers.synthetic import VESSEL_CLASSES, SyntheticVessels, render_vessels, write_synthetic
from featherseg.data.vessels.ground import value_noise
from featherseg.data.vessels.picture import FINE, Forest
from featherseg.data.vessels.trees import THICKEST, THINNEST, Branch, Twig, grow

SMALL = (96, 128)


@pytest.fixture(scope="module")
def pictures() -> list[tuple[ImageArray, MaskArray]]:
    return [render_vessels(1000 + seed) for seed in range(20)]


@pytest.mark.parametrize("size", [(64, 64), (65, 131), (64, 320), (320, 64), (191, 385)])
def test_every_size_gives_thin_vessels_on_about_a_tenth_of_the_picture(size: tuple[int, int]) -> None:
    for seed in (3, 11):
        image, mask = render_vessels(seed, size)
        assert image.shape == (*size, 3)
        assert mask.shape == size
        assert image.dtype == mask.dtype == np.uint8
        assert image.flags.c_contiguous
        assert mask.flags.c_contiguous
        assert set(np.unique(mask)) == {0, 1}
        assert 0.07 < mask.mean() < 0.14
        assert image.std() > 4


def test_shares_are_as_documented(pictures: list[tuple[ImageArray, MaskArray]]) -> None:
    shares = [mask.mean() for _, mask in pictures]
    assert 0.075 < min(shares) < max(shares) < 0.125
    assert np.mean(shares) == pytest.approx(0.1, abs=0.012)


def test_vessels_are_one_to_six_pixels_wide(pictures: list[tuple[ImageArray, MaskArray]]) -> None:
    widths = []
    for _, mask in pictures:
        inside = cv2.distanceTransform(np.pad(mask, 1, mode="edge"), cv2.DIST_L2, 5)
        ridge = (inside == cv2.dilate(inside, np.ones((3, 3)))) & (inside > 0)
        widths.append(2 * inside[ridge] - 1)
    every = np.concatenate(widths)
    assert np.mean(every < 2.5) > 0.2
    assert np.mean(every > 3.5) > 0.02
    assert np.quantile(every, 0.98) < THICKEST + 2, "but for forks and crossings"


def test_a_seed_gives_the_same_bytes_in_another_process_with_other_threads() -> None:
    program = (
        "import sys, hashlib, cv2; cv2.setNumThreads(3)\n"
        "from featherseg.data.readers.synthetic import render_vessels\n"
        "render_vessels(1, (64, 64))\n"  # an earlier picture must leave nothing behind
        "image, mask = render_vessels(42, (96, 128))\n"
        "print(hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest(), 'torch' in sys.modules)"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    image, mask = render_vessels(42, SMALL)
    assert there == [hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest(), "False"]


def test_the_mask_lies_on_the_image(pictures: list[tuple[ImageArray, MaskArray]]) -> None:
    """A picture differs most between vessel and what lies beside it where the mask is not shifted."""
    strength = dict.fromkeys((-3, -1, 0, 1, 3), 0.0)
    for axis in (0, 1):
        for image, mask in pictures:
            grey = image.astype(float).mean(axis=-1)
            detail = np.abs(grey - cv2.blur(grey, (15, 15)))
            for shift in strength:
                strength[shift] += float(detail[np.roll(mask, shift, axis) > 0].mean())
        assert max(strength, key=lambda shift: strength[shift]) == 0
        assert abs(strength[-1] - strength[1]) < 0.1 * (strength[0] - strength[3])


def test_colour_alone_does_not_solve_it(pictures: list[tuple[ImageArray, MaskArray]]) -> None:
    # The best darkness, within each picture: spots, folds and shade are as dark as vessels.
    overlaps = []
    for image, mask in pictures:
        grey = image.mean(axis=-1)
        candidates = [grey < level for level in np.quantile(grey, np.linspace(0.02, 0.3, 15))]
        candidates += [grey > level for level in np.quantile(grey, np.linspace(0.7, 0.98, 15))]
        overlaps.append(max(float((c & (mask > 0)).sum() / (c | (mask > 0)).sum()) for c in candidates))
    assert 0.15 < np.mean(overlaps) < 0.6


# The parts


def line(points: list[tuple[float, float, float]], ink: int = 200) -> Branch:
    return Branch(np.array(points), ink)


@pytest.mark.parametrize("width", [1.5, 2.0, 3.0, 5.0])
@pytest.mark.parametrize("x", [10.0, 10.3, 10.5])
def test_the_truth_is_what_a_vessel_covers_at_least_half(x: float, width: float) -> None:
    forest = Forest((20, 24))
    forest.draw([line([(x, -4.0, width), (x, 24.0, width)])])
    cover = np.array([min(x + width / 2, i + 1) - max(x - width / 2, i) for i in range(24)])
    row = forest.mask[10]
    # OpenCV's lines are wider than told by up to a part, so that a pixel covered nearly by half may count as well.
    assert set(np.flatnonzero(cover >= 0.5)) <= set(np.flatnonzero(row)) <= set(np.flatnonzero(cover >= 0.5 - 1 / FINE))
    assert (forest.mask == row).all()
    ink = forest.layer[10] / 200
    np.testing.assert_allclose(ink, cover.clip(0), atol=1.01 / FINE)


def test_the_thinnest_vessel_has_no_gaps() -> None:
    for angle in np.linspace(0, np.pi / 2, 23):
        away = 30 * np.array([np.cos(angle), np.sin(angle)])
        forest = Forest((64, 64))
        forest.draw([line([(32 - away[0], 32 - away[1], THINNEST), (32 + away[0], 32 + away[1], THINNEST)])])
        assert cv2.connectedComponents(forest.mask)[0] == 2


def test_of_two_that_cross_the_darker_is_seen() -> None:
    dark, faint = line([(0, 10, 3), (20, 10, 3)], 200), line([(10, 0, 3), (10, 20, 3)], 50)
    for order in ([dark, faint], [faint, dark]):
        forest = Forest((20, 20))
        forest.draw(order)
        assert forest.layer[10, 10] == 200
        assert forest.layer[3, 10] == 50


def test_trees_thin_out_keep_to_their_area_and_leave_no_picture() -> None:
    for seed in range(10):
        trunk = Twig(0.0, 60.0, 0.0, 5.0, 70.0)
        branches = grow(trunk, (120, 160), 900.0, 220, Generator(PCG64(seed)))
        area = sum(2 * branch.points[1:, 2].sum() for branch in branches)
        assert 900 <= area < 1500
        assert len(branches) > 4
        widths = np.concatenate([branch.points[:, 2] for branch in branches])
        assert widths[0] == widths.max() == 5.0
        assert widths.min() >= THINNEST
        assert all((np.diff(branch.points[:, 2]) <= 0).all() for branch in branches)
        places = np.concatenate([branch.points[:-1, :2] for branch in branches])
        assert (places >= 0).all()
        assert (places <= (160, 120)).all()
        assert branches[0].ink == 220 >= max(branch.ink for branch in branches)
        assert len(grow(trunk, (120, 160), 900.0, 220, Generator(PCG64(seed)), lambda points: True)) == 1


def test_noise_is_smooth_and_fills_its_range() -> None:
    noise = value_noise((64, 80), 8, Generator(PCG64(0)))
    assert noise.shape == (64, 80)
    assert noise.dtype == np.float32
    assert -1 <= noise.min() < -0.7
    assert 0.7 < noise.max() <= 1
    assert np.abs(np.diff(noise, axis=0)).max() < 0.4


# The set


def test_it_is_opened_with_the_options_of_the_street() -> None:
    options: dict[str, Any] = {"scene": "vessels", "count": 3, "val_count": 2, "size": [64, 96], "seed": 1}
    train, val = (create_dataset("synthetic", "", split, **options) for split in ("train", "val"))
    assert isinstance(train, SyntheticVessels)
    assert (train.name, len(train), len(val), val.stem(1)) == ("synthetic", 3, 2, "vessels_000001")
    assert train.classes.names == ("background", "vessel")
    masks = [dataset.read(i)[1] for dataset in (train, val) for i in range(2)]
    assert {mask.shape for mask in masks} == {(64, 96)}
    assert len({mask.tobytes() for mask in masks}) == 4
    assert create_dataset("synthetic").stem(0) == "street_000000"


def test_an_unknown_scene_is_one_line_with_the_names(tmp_path: Path) -> None:
    line = error_line(ConfigError, create_dataset, "synthetic", scene="vesels")
    assert line == "unknown scene 'vesels'; did you mean \"vessels\"?"
    assert (
        error_line(ConfigError, create_dataset, "synthetic", scene="sea")
        == "unknown scene 'sea'; known: street, vessels"
    )
    assert error_line(ConfigError, write_synthetic, tmp_path / "x", "sea").startswith("unknown scene 'sea'")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("seed", "size"), [(-1, (96, 96)), (0, (63, 96))])
def test_render_vessels_refuses(seed: int, size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=r"use 0 or more|at least 64x64"):
        render_vessels(seed, size)


def test_a_written_folder_is_read_back_and_the_doctor_finds_no_fault(tmp_path: Path) -> None:
    from featherseg.doctor.examine import examine

    out = write_synthetic(tmp_path / "vessels", "vessels", train=3, val=2, size=SMALL, seed=3)
    assert ClassSet.from_dict(json.loads((out / "classes.json").read_text(encoding="utf-8"))) == VESSEL_CLASSES
    for split, count in (("train", 3), ("val", 2)):
        folder, dataset = create_dataset("folder", out, split), SyntheticVessels(split, count, SMALL, seed=3)
        assert len(folder) == count
        assert folder.classes.names == VESSEL_CLASSES.names
        for i in range(count):
            for ours, theirs in zip(folder.read(i), dataset.read(i), strict=True):
                assert np.array_equal(ours, theirs)
    assert not [finding for finding in examine(out).findings if finding.severity == "error"]


def test_a_recipe_trains_on_it(tmp_path: Path) -> None:
    from featherseg.training.fit import fit
    from trainings import tiny_config

    options = {"scene": "vessels", "count": 4, "val_count": 2, "size": [64, 96]}
    run = fit(tiny_config(tmp_path, data={"options": options}, train={"epochs": 1}), quiet=True)
    assert json.loads((run.path / "classes.json").read_text())["names"] == ["background", "vessel"]
