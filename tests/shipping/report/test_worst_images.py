"""The images on which file and network differ most: found in one pass, and shown so that nothing is lost."""

from __future__ import annotations

import base64
import tracemalloc
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featherseg.core.errors import ConfigError
from featherseg.core.types import ClassSet
from featherseg.shipping.report.figures import WorstImage
from featherseg.shipping.report.panels import PANEL_SIDE
from featherseg.shipping.report.worst import DIFFERENCES, worst_images

Segment = Callable[[np.ndarray], np.ndarray]


class Streets:
    """Ten pixels a side, all of class 0; each image's grey is its number."""

    name, split, classes = "made", "val", ClassSet(("a", "b", "c"), ((9, 0, 0), (0, 9, 0), (0, 0, 9)))

    def __init__(self, count: int, side: int = 10) -> None:
        self.count, self.side = count, side

    def __len__(self) -> int:
        return self.count

    def stem(self, index: int) -> str:
        return f"s{index}"

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image = np.full((self.side, self.side, 3), index, np.uint8)
        return image, np.zeros((self.side, self.side), np.uint8)


def worst(dataset: Streets, ours: Segment, theirs: Segment, *count: int, **options: Any) -> tuple[WorstImage, ...]:
    """Of masks that are made of images."""
    segments = (lambda i: ours(dataset.read(i)[0])), (lambda i: theirs(dataset.read(i)[0]))
    return worst_images(dataset, *segments, *count, **options)


def number(image: np.ndarray) -> int:
    return int(image[0, 0, 0])


def plain(image: np.ndarray) -> np.ndarray:
    return np.zeros(image.shape[:2], np.uint8)


def open_panel(image: WorstImage, title: str) -> np.ndarray:
    kind, _, body = image.panels[title].partition(";base64,")
    assert kind.startswith("data:image/")
    with Image.open(BytesIO(base64.b64decode(body))) as picture:
        return np.asarray(picture.convert("RGB"))


def test_worst_images_are_those_of_least_agreement() -> None:
    wrong = [3, 40, 0, 7, 99, 0, 40, 1]

    def file(image: np.ndarray) -> np.ndarray:
        mask = plain(image)
        mask.ravel()[: wrong[number(image)]] = 1
        return mask

    done: list[tuple[int, int]] = []
    found = worst(Streets(8), plain, file, 3, file="x.onnx", progress=lambda *counts: done.append(counts))
    assert [image.name for image in found] == ["s4", "s1", "s6"]
    assert [image.agreement for image in found] == [0.01, 0.6, 0.6]
    assert found[0].miou_fp32 == 1.0
    assert found[1].miou_file == pytest.approx((60 / 100 + 0) / 2)
    assert {image.file for image in found} == {"x.onnx"}
    assert found[0].seen == ("a", "b")
    assert list(found[0].panels) == ["image", "truth", "fp32 network", "file", "where they differ"]
    assert done == [(i, 8) for i in range(1, 9)]
    assert len(worst(Streets(2), plain, file, 5)) == 2
    with pytest.raises(ConfigError, match="count is 0"):
        worst(Streets(2), plain, file, 0)
    with pytest.raises(ConfigError, match=r"image s0: truth is \(10, 10\).*\(5, 5\)"):
        worst(Streets(2), plain, lambda image: np.zeros((5, 5), np.uint8))


def test_where_masks_agree_everywhere_the_lowest_miou_comes_first() -> None:
    def both(image: np.ndarray) -> np.ndarray:
        mask = plain(image)
        mask.ravel()[: (5, 60, 20)[number(image)]] = 2
        return mask

    assert [image.name for image in worst(Streets(3), both, both, 2)] == ["s1", "s2"]


def test_panels_show_the_masks_and_who_is_right() -> None:
    class One(Streets):
        def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            image, target = super().read(index)
            target[:, 6:] = self.classes.ignore_index
            return image, target

    ours, theirs = np.zeros((10, 10), np.uint8), np.zeros((10, 10), np.uint8)
    theirs[0, 0] = 1  # only the fp32 network is right
    ours[1, 1] = 1  # only the file is right
    ours[2, 2], theirs[2, 2] = 1, 2  # both are wrong
    theirs[3, 8] = 1  # ignored
    ours[4, 4] = theirs[4, 4] = 2  # wrong, but no difference
    (image,) = worst(One(1), lambda _: ours, lambda _: theirs)
    assert image.agreement == 0.96
    panel = open_panel(image, "where they differ")
    colors = list(DIFFERENCES.values())
    assert [tuple(panel[spot]) for spot in ((0, 0), (1, 1), (2, 2), (3, 8))] == colors
    grey = panel[panel.std(-1) == 0]
    assert len(grey) == 96
    palette = Streets.classes.palette()
    np.testing.assert_array_equal(open_panel(image, "fp32 network"), palette[ours])
    np.testing.assert_array_equal(open_panel(image, "file"), palette[theirs])
    assert tuple(open_panel(image, "truth")[0, 9]) not in {tuple(color) for color in palette}


def test_one_pixel_of_a_large_image_is_not_lost() -> None:
    side = 2 * PANEL_SIDE + 371

    def file(image: np.ndarray) -> np.ndarray:
        mask = plain(image)
        mask[1111, 777] = 1
        return mask

    (image,) = worst(Streets(1, side), plain, file)
    panel = open_panel(image, "where they differ")
    assert panel.shape == (PANEL_SIDE, PANEL_SIDE, 3)
    rows, columns = np.nonzero((panel == DIFFERENCES["only the fp32 network is right"]).all(-1))
    assert 1 <= len(rows) <= 4
    assert abs(rows.mean() - 1111 * PANEL_SIDE / side) < 2
    assert abs(columns.mean() - 777 * PANEL_SIDE / side) < 2


def test_memory_does_not_grow_with_the_dataset() -> None:
    def file(image: np.ndarray) -> np.ndarray:
        mask = plain(image)
        mask[: number(image) + 1] = 1  # each image is worse than the one before, so each comes in
        return mask

    peaks = []
    for count in (6, 60):
        tracemalloc.start()
        worst(Streets(count, 400), plain, file, 2)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 400 * 400 * 3  # not even one image more
