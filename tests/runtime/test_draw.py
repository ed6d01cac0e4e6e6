from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from featherseg.core.errors import ConfigError
from featherseg.core.types import ClassSet
from featherseg.runtime.draw import colorize, overlay
from featherseg.runtime.postprocess import kernels

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


@pytest.mark.parametrize("name", ["background", "__background__", "Void", "other", "unlabelled"])
def test_overlay_leaves_the_background_as_it_is(name: str) -> None:
    image, mask = picture(240, 320), bands(240, 320)
    classes = ClassSet((name, "car", "sky"), CLASSES.colors)
    assert classes.background == 0
    drawn, other = overlay(image, mask, classes), overlay(image, mask, CLASSES)
    np.testing.assert_array_equal(drawn[mask == 0], image[mask == 0])
    np.testing.assert_array_equal(drawn[mask != 0], other[mask != 0])
    np.testing.assert_array_equal(overlay(image, mask, classes, background=True), other)
    nothing = np.zeros_like(mask)
    np.testing.assert_array_equal(overlay(image, nothing, classes, legend=True), image)  # nor does the legend name it
    assert (overlay(image, nothing, classes, legend=True, background=True) != image).any()


@pytest.mark.parametrize("names", [("road", "background"), ("road", "void"), ("backgrounds", "car"), ("another", "x")])
def test_a_class_among_others_is_no_background(names: tuple[str, ...]) -> None:
    classes = ClassSet(names)
    assert classes.background is None
    image = picture()
    assert (overlay(image, np.zeros((40, 60), np.uint8), classes, alpha=1.0) == classes.colors[0]).all()


def test_overlay_equals_drawing_without_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels(None) is not None
    rng = np.random.default_rng(1)
    pairs = [(picture(*size), rng.integers(0, 256, size).astype(np.uint8)) for size in ((1, 1), (7, 300), (240, 320))]
    drawn = [overlay(image, mask, CLASSES, alpha, legend=True) for image, mask in pairs for alpha in (0.0, 0.37, 1.0)]
    monkeypatch.setattr("featherseg.runtime.draw.kernels", lambda: None)
    plain = [overlay(image, mask, CLASSES, alpha, legend=True) for image, mask in pairs for alpha in (0.0, 0.37, 1.0)]
    for one, other in zip(drawn, plain, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype == np.uint8


def test_overlay_of_views() -> None:
    image, mask = picture(), bands()
    drawn = overlay(image, mask, CLASSES)
    np.testing.assert_array_equal(overlay(image[:, ::-1], mask[:, ::-1], CLASSES), drawn[:, ::-1])
    swapped = overlay(np.ascontiguousarray(image[..., ::-1])[..., ::-1], mask, CLASSES)
    np.testing.assert_array_equal(swapped, drawn)
    fixed = image.copy()
    fixed.flags.writeable = False
    np.testing.assert_array_equal(overlay(fixed, mask, CLASSES), drawn)
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
