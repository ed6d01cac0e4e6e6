"""Pictures: what is drawn where, and what is refused. How they look was judged by eye."""

from __future__ import annotations

import numpy as np
import pytest

from featherseg.core.errors import ConfigError
from featherseg.core.types import ClassSet
from featherseg.evaluation.visualize import CELL_WIDTH, IGNORED, confusion_picture, result_grid

CLASSES = ClassSet(("red", "green", "blue"), ((200, 0, 0), (0, 200, 0), (0, 0, 200)))


def example(target: int, prediction: int, shape: tuple[int, int] = (60, 90)) -> tuple[np.ndarray, ...]:
    image = np.full((*shape, 3), 90, np.uint8)
    return image, np.full(shape, target, np.uint8), np.full(shape, prediction, np.uint8)


def grid(examples: list[tuple[np.ndarray, ...]], **options) -> np.ndarray:
    images, targets, predictions = zip(*examples, strict=True)
    return result_grid(images, targets, predictions, CLASSES, **options)


def share(picture: np.ndarray, color: tuple[int, int, int]) -> int:
    """Return how many cells' worth of pixels have `color`, in 60×90 pictures fitted to the cell."""
    return round((picture == color).all(-1).sum() / (CELL_WIDTH * CELL_WIDTH * 60 / 90))


def test_grid_holds_image_truth_and_prediction_in_this_order():
    picture = grid([example(0, 1)])
    assert picture.dtype == np.uint8
    assert picture.flags.writeable
    assert (share(picture, (90, 90, 90)), share(picture, (200, 0, 0)), share(picture, (0, 200, 0))) == (1, 1, 1)
    middle = picture[120]
    first = [int(np.flatnonzero((middle == color).all(-1))[0]) for color in ((90, 90, 90), (200, 0, 0), (0, 200, 0))]
    assert first == sorted(first)


def test_grid_takes_rows_times_columns_and_no_more():
    examples = [example(0, 0), example(1, 1), example(2, 2), example(255, 1), example(0, 0)]
    picture = grid(examples, rows=2, columns=2)
    counts = [share(picture, color) for color in (*CLASSES.colors, IGNORED)]
    assert counts == [2, 3, 2, 1]
    assert grid(examples[:1], rows=9, columns=9).shape == grid(examples[:1], rows=1).shape


def test_legend_names_only_what_occurs():
    def swatches(picture: np.ndarray, color: tuple[int, int, int]) -> int:
        return int((picture[-60:] == color).all(-1).sum())

    picture = grid([example(0, 1)])
    assert swatches(picture, CLASSES.colors[0]) > 50
    assert swatches(picture, CLASSES.colors[1]) > 50
    assert swatches(picture, CLASSES.colors[2]) == 0
    assert swatches(picture, IGNORED) == 0
    assert swatches(grid([example(0, 255)]), IGNORED) > 50


def test_grid_of_unequal_sizes_keeps_proportions():
    picture = grid([example(0, 0), example(1, 1, (90, 60)), example(2, 2)])
    tall = (picture == (0, 200, 0)).all(-1)[:-60]
    columns, rows = np.flatnonzero(tall.any(0)), np.flatnonzero(tall.any(1))
    height = rows[-1] - rows[0] + 1
    assert height == CELL_WIDTH * 60 // 90
    assert tall.sum() == 2 * height * round(height * 60 / 90)
    assert len(columns) == 2 * round(height * 60 / 90)


def test_many_classes_wrap_the_legend():
    many = ClassSet(tuple(f"a class with a long name {i}" for i in range(60)))
    mask = np.arange(60, dtype=np.uint8).reshape(6, 10).repeat(10, 0).repeat(10, 1)
    image = np.zeros((60, 100, 3), np.uint8)
    tall = result_grid([image], [mask], [mask], many)
    short = result_grid([image], [mask % 2], [mask % 2], many)
    assert tall.shape[1] == short.shape[1]
    assert tall.shape[0] > short.shape[0] + 200


@pytest.mark.parametrize(
    ("examples", "options", "message"),
    [
        ([example(0, 0)], {"rows": 0}, "at least 1"),
        ([(*example(0, 0)[:2], example(0, 0, (30, 30))[2])], {}, "example 0: image is"),
    ],
)
def test_grid_refuses(examples, options, message):
    with pytest.raises(ConfigError, match=message):
        grid(examples, **options)


def test_grid_refuses_lists_of_different_length():
    image, target, _ = example(0, 0)
    with pytest.raises(ConfigError, match="1 images, 1 targets and 0 predictions"):
        result_grid([image], [target], [], CLASSES)
    with pytest.raises(ConfigError, match="0 images"):
        result_grid([], [], [], CLASSES)


@pytest.mark.parametrize("count", [1, 2, 11, 30])
def test_confusion_picture_has_a_blue_diagonal(count):
    classes = ClassSet(tuple(f"class {i}" for i in range(count)), ((120, 120, 120),) * count)
    picture = confusion_picture(np.eye(count, dtype=np.int64) * 7, classes)
    blue = (picture == (8, 48, 107)).all(-1)
    rows, columns = np.flatnonzero(blue.any(1)), np.flatnonzero(blue.any(0))
    assert rows[-1] - rows[0] == columns[-1] - columns[0]  # a square matrix,
    side = (rows[-1] - rows[0] + 2) // count
    corners = np.arange(count) * side + side // 8  # clear of the percentages, which are in the middle of the cells
    grid_of_blue = blue[np.ix_(rows[0] + corners, columns[0] + corners)]
    np.testing.assert_array_equal(grid_of_blue, np.eye(count, dtype=bool))  # blue on its diagonal and nowhere else


def test_confusion_is_normalised_by_row():
    few, many = np.array([[3, 1], [0, 5]]), np.array([[3000, 1000], [0, 5]])
    classes = ClassSet(("a", "b"))
    np.testing.assert_array_equal(confusion_picture(few, classes), confusion_picture(many, classes))
    assert (confusion_picture(few, classes) != confusion_picture(few.T, classes)).any()


def test_a_row_without_pixels_is_drawn_without_warning():
    picture = confusion_picture(np.array([[0, 0], [1, 1]]), ClassSet(("a", "b")))
    assert (picture == (233, 236, 239)).all(-1).sum() > 5000


def test_long_names_are_cut():
    short = confusion_picture(np.eye(2, dtype=np.int64), ClassSet(("a" * 60, "b")))
    long = confusion_picture(np.eye(2, dtype=np.int64), ClassSet(("a" * 200, "b")))
    assert short.shape == long.shape


def test_confusion_refuses_another_shape():
    with pytest.raises(ConfigError, match=r"\(2, 2\) for 3 classes"):
        confusion_picture(np.eye(2, dtype=np.int64), CLASSES)
