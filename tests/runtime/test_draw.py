from __future__ import annotations

import os
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from featherseg.errors import ConfigError, DataError
from featherseg.runtime.draw import colorize, overlay, read_image, write_image, write_palette_png
from featherseg.types import ClassSet

CLASSES = ClassSet(("road", "car", "sky"), ((128, 64, 128), (0, 0, 142), (70, 130, 180)))


def picture(height: int = 40, width: int = 60, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def bands(height: int = 40, width: int = 60) -> NDArray[np.uint8]:
    mask = np.zeros((height, width), np.uint8)
    mask[height // 3 :] = 1
    mask[2 * height // 3 :] = 2
    mask[:, : width // 4] = 255
    return mask


def test_colorize_gives_each_pixel_its_colour() -> None:
    mask = bands()
    colors = colorize(mask, CLASSES)
    assert colors.dtype == np.uint8
    np.testing.assert_array_equal(colors, CLASSES.palette()[mask])
    assert colors[20, 30].tolist() == [0, 0, 142]
    assert not colors[mask == 255].any()
    np.testing.assert_array_equal(colorize(mask[:, ::-1], CLASSES), colors[:, ::-1])
    np.testing.assert_array_equal(colorize(mask[::2, 1::3].T, CLASSES), colors[::2, 1::3].transpose(1, 0, 2))


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.6, 1.0])
def test_overlay_blends_classes_and_leaves_the_rest(alpha: float) -> None:
    image, mask = picture(), bands()
    mask[0, -5:] = 77  # neither a class nor the ignored id
    before = image.copy()
    drawn = overlay(image, mask, CLASSES, alpha=alpha)
    np.testing.assert_array_equal(image, before)
    known = mask < 3
    expected = image[known] * (1 - alpha) + CLASSES.palette()[mask[known]] * alpha
    assert np.abs(drawn[known] - expected).max() <= 0.51
    np.testing.assert_array_equal(drawn[~known], image[~known])


def test_overlay_of_views() -> None:
    image, mask = picture(), bands()
    drawn = overlay(image, mask, CLASSES)
    np.testing.assert_array_equal(overlay(image[:, ::-1], mask[:, ::-1], CLASSES), drawn[:, ::-1])
    swapped = overlay(np.ascontiguousarray(image[..., ::-1])[..., ::-1], mask, CLASSES)
    np.testing.assert_array_equal(swapped, drawn)
    all_ignored = np.full_like(mask, 255)
    np.testing.assert_array_equal(overlay(image, all_ignored, CLASSES, legend=True), image)


def test_legend_names_the_classes_that_occur() -> None:
    image, mask = np.zeros((240, 320, 3), np.uint8), bands(240, 320)
    plain, with_three = overlay(image, mask, CLASSES), overlay(image, mask, CLASSES, legend=True)
    ys, xs = np.nonzero((plain != with_three).any(2))
    assert ys.max() < 120  # a panel in the top left corner, the rest untouched
    assert xs.max() < 145
    panel = with_three[: ys.max() + 1, : xs.max() + 1].reshape(-1, 3)
    for color in CLASSES.colors:
        assert (panel == color).all(1).sum() >= 25  # a swatch in the very colour, not blended
    assert (panel > 200).all(1).sum() > 30  # letters
    two = overlay(image, np.where(mask == 2, 1, mask).astype(np.uint8), CLASSES, legend=True)
    assert not (two[: ys.max() + 1, : xs.max() + 1].reshape(-1, 3) == CLASSES.colors[2]).all(1).any()


def test_legend_grows_with_the_image() -> None:
    def panel_height(height: int, width: int) -> int:
        image, mask = np.zeros((height, width, 3), np.uint8), np.full((height, width), 1, np.uint8)
        mask[-1] = 0
        mask[-1, 0] = 2
        changed = overlay(image, mask, CLASSES) != overlay(image, mask, CLASSES, legend=True)
        return int(changed.any((1, 2)).sum())

    assert 30 < panel_height(240, 320) < panel_height(1080, 1920) / 2


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2), (7, 9), (20, 20), (48, 64), (130, 90)])
def test_legend_never_fails(size: tuple[int, int]) -> None:
    names = ("a", "line\nbreak", " ", "道路", "x" * 500, *(f"class {i}" for i in range(240)))
    classes = ClassSet(names)
    image = picture(*size)
    many = (np.arange(size[0] * size[1]) % 245).reshape(size).astype(np.uint8)
    for mask in (many, *(np.full(size, i, np.uint8) for i in range(5))):
        drawn = overlay(image, mask, classes, legend=True)
        assert drawn.shape == image.shape
    if many.max() > 100:  # too many for the room: left out, not cut off
        np.testing.assert_array_equal(overlay(image, many, classes, legend=True), overlay(image, many, classes))


@pytest.mark.parametrize(
    ("image", "mask", "alpha", "message"),
    [
        (picture()[..., 0], bands(), 0.5, r"uint8 \(40, 60\)"),
        (picture() / 255, bands(), 0.5, "float64"),
        (picture(41), bands(), 0.5, r"\(41, 60\) but its mask \(40, 60\)"),
        (picture(), bands().astype(np.int64), 0.5, "int64"),
        (picture()[:0], bands()[:0], 0.5, r"\(0, 60\)"),
        (picture(), bands(), 60, "alpha is 60"),
    ],
)
def test_overlay_refuses(image: NDArray[Any], mask: NDArray[Any], alpha: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        overlay(image, mask, CLASSES, alpha=alpha)


def test_overlay_keeps_up_with_video() -> None:
    image, mask = picture(512, 1024), bands(512, 1024)
    times = []
    for _ in range(8):
        start = time.perf_counter()
        overlay(image, mask, CLASSES)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.010  # measured: 0.001


def test_palette_png_holds_ids_and_colours(tmp_path: Path) -> None:
    mask = bands()
    write_palette_png(tmp_path / "mask.png", mask, CLASSES)
    with Image.open(tmp_path / "mask.png") as stored:
        assert stored.mode == "P"
        np.testing.assert_array_equal(np.array(stored), mask)
        np.testing.assert_array_equal(np.array(stored.convert("RGB")), colorize(mask, CLASSES))


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.bmp", "a.tif"])
def test_write_then_read_is_exact(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / name, picture())
    np.testing.assert_array_equal(read_image(tmp_path / name), picture())


def test_jpeg_is_of_high_quality_and_failed_writes_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smooth = np.tile(np.linspace(0, 255, 60)[None, :, None], (40, 1, 3)).astype(np.uint8)
    write_image(tmp_path / "a.jpg", smooth)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - smooth).max() <= 4
    before = (tmp_path / "a.jpg").read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_image(tmp_path / "a.jpg", picture())
    assert (tmp_path / "a.jpg").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.jpg"]
    with pytest.raises(DataError, match=r"\.xyz"):
        write_image(tmp_path / "a.xyz", picture())


def test_reads_common_kinds_of_pictures_as_rgb(tmp_path: Path) -> None:
    image = Image.fromarray(picture())
    for mode in ("L", "1", "LA", "RGBA", "CMYK"):
        path = tmp_path / f"{mode}.tif"
        image.convert(mode).save(path)
        np.testing.assert_array_equal(read_image(path), np.array(image.convert(mode).convert("RGB")))
    image.quantize(16).save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), np.array(image.quantize(16).convert("RGB")))
    deep = (np.arange(2400).reshape(40, 60) * 27).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert np.abs(read_image(tmp_path / "deep.png")[..., 1] - deep / 257).max() <= 1
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter clockwise to be upright
    image.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "turned.png"), np.rot90(picture(), -1))


def test_unreadable_pictures_are_data_errors(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    image = Image.fromarray(picture(300, 300))
    image.save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:3000])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Image.new("1", (20000, 20000)).save(tmp_path / "bomb.png")
    for name in ("text.png", "cut.jpg", "bomb.png", "missing.png", "."):
        with pytest.raises(DataError, match=str(tmp_path / name)):
            read_image(tmp_path / name)
