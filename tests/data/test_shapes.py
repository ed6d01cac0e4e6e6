"""Rasterising: our rule against its definition, against pycocotools, and at its limits."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from featherseg.data.shapes import (
    Bitmap,
    Patch,
    Polygons,
    Region,
    Runs,
    Shape,
    Strokes,
    box_ring,
    decode_counts,
    fill,
    paint,
)
from foreign_labels import as_text, counts_of

Mask = NDArray[np.bool_]

of_pycocotools = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def canvas(patch: Patch, size: tuple[int, int]) -> Mask:
    mask = np.zeros(size, bool)
    mask[patch.window] = patch.inside
    return mask


def holding_centres(ring: NDArray[np.float64], size: tuple[int, int]) -> Mask:
    """The definition, pixel by pixel: a ray to the right crosses the outline an odd number of times."""
    mask = np.zeros(size, bool)
    ends = np.roll(ring, -1, axis=0)
    for row, column in np.ndindex(*size):
        x, y = column + 0.5, row + 0.5
        for (x0, y0), (x1, y1) in zip(ring, ends, strict=True):
            if (y0 > y) != (y1 > y) and x < (x1 - x0) * (y - y0) / (y1 - y0) + x0:
                mask[row, column] ^= True
    return mask


def at_border(mask: Mask) -> Mask:
    """Pixels with a neighbour of the other value."""
    border = np.zeros_like(mask)
    for axis in (0, 1):
        differs = np.diff(mask, axis=axis)
        ends = (slice(1, None), slice(None)), (slice(None), slice(1, None))
        starts = (slice(None, -1), slice(None)), (slice(None), slice(None, -1))
        border[ends[axis]] |= differs
        border[starts[axis]] |= differs
    return border


def outlines(count: int, seed: int = 0) -> list[tuple[NDArray[np.float64], tuple[int, int]]]:
    """Stars around the middle of pictures; every third on whole pixels, every fifth crossing itself."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        size = int(rng.integers(20, 60)), int(rng.integers(20, 60))
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 14)))
        if i % 5 == 0:
            rng.shuffle(angles)
        radii = rng.uniform(4, 25, len(angles))
        ring = np.stack([size[1] / 2 + radii * np.cos(angles), size[0] / 2 + radii * np.sin(angles)], axis=1)
        ring = np.clip(ring, 1, np.array(size[::-1]) - 1)
        found.append((ring.round() if i % 3 == 0 else ring, size))
    return found


def test_a_pixel_belongs_to_an_outline_that_holds_its_centre() -> None:
    for ring, size in outlines(20):
        ours = canvas(fill(ring, size), size)
        np.testing.assert_array_equal(ours, holding_centres(ring, size))
        np.testing.assert_array_equal(ours, canvas(fill(ring[::-1], size), size))


@of_pycocotools
def test_pycocotools_differs_at_borders_alone() -> None:
    """Measured: 1.3 % of the pixels, those that COCO's rule of a fifth of a pixel gives to the other side."""
    pixels = differing = 0
    for i, (ring, size) in enumerate(outlines(300)):
        if i % 5 == 0:  # it has another rule for outlines that cross themselves
            continue
        ours = canvas(fill(ring, size), size)
        theirs = coco_mask.decode(coco_mask.frPyObjects([ring.ravel().tolist()], *size))[..., 0].astype(bool)
        assert not (ours != theirs)[~at_border(ours) & ~at_border(theirs)].any()
        pixels, differing = pixels + int(ours.sum()), differing + int((ours != theirs).sum())
    assert differing / pixels < 0.015


@of_pycocotools
def test_whole_boxes_are_the_same_everywhere() -> None:
    size = (20, 24)
    ring = box_ring(3, 5, 11, 17)
    expected = np.zeros(size, bool)
    expected[5:17, 3:11] = True
    np.testing.assert_array_equal(canvas(fill(ring, size), size), expected)
    theirs = coco_mask.decode(coco_mask.frPyObjects([ring.ravel().tolist()], *size))[..., 0]
    np.testing.assert_array_equal(theirs, expected)


def test_neighbours_share_no_pixel_and_leave_no_gap() -> None:
    rng = np.random.default_rng(1)
    size = (40, 50)
    for _ in range(30):
        points = np.stack([rng.uniform(0, 50, 5), rng.uniform(0, 40, 5)], axis=1)
        corners = box_ring(0, 0, 50, 40)
        hub = points[0]
        total = sum(
            canvas(fill(np.array([corners[i], corners[(i + 1) % 4], hub]), size), size).astype(int) for i in range(4)
        )
        assert (np.asarray(total) == 1).all()


def test_outlines_beyond_the_picture() -> None:
    size = (10, 10)
    assert canvas(fill(box_ring(-50, -50, 60, 60), size), size).all()
    assert not canvas(fill(box_ring(20, 20, 30, 30), size), size).any()
    np.testing.assert_array_equal(
        canvas(fill(box_ring(-5, 4, 5, 99), size), size), canvas(fill(box_ring(0, 4, 5, 10), size), size)
    )
    assert fill(np.zeros((0, 2)), size).area == fill(np.array([[1.0, 1], [5, 5]]), size).area == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e9])
def test_coordinates_that_are_none(bad: float) -> None:
    ring = box_ring(0, 0, 5, bad)
    for region in (Polygons((ring,)), Strokes(ring, 2.0), Strokes(ring[:1], bad)):
        with pytest.raises(ValueError, match="no number of pixels"):
            region.patch((10, 10))


def test_holes_parts_and_islands() -> None:
    size = (30, 30)
    outer, hole, island = box_ring(2, 2, 28, 28), box_ring(6, 6, 20, 20), box_ring(10, 10, 14, 14)
    apart, across, again = box_ring(0, 0, 2, 2), box_ring(25, 25, 30, 30), outer.copy()
    expected = np.zeros(size, bool)
    expected[2:28, 2:28] = True
    expected[6:20, 6:20] = False
    expected[10:14, 10:14] = True
    expected[0:2, 0:2] = True
    expected[25:30, 25:30] = True
    for order in ((outer, hole, island, apart, across, again), (again, across, apart, island, hole, outer)):
        np.testing.assert_array_equal(canvas(Polygons(order).patch(size), size), expected)


def test_run_lengths_as_pycocotools_writes_them() -> None:
    rng = np.random.default_rng(2)
    for _ in range(100):
        mask = rng.random(tuple(rng.integers(1, 40, 2))) < rng.random()
        text = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        assert text == as_text(counts_of(mask))  # the tests' own writer too
        counts = decode_counts(text)
        assert counts.tolist() == counts_of(mask)
        np.testing.assert_array_equal(canvas(Runs(counts, mask.shape).patch(mask.shape), mask.shape), mask)
    assert len(decode_counts("")) == 0


def test_bitmaps_are_cut_to_the_picture() -> None:
    inside = np.ones((6, 6), bool)
    for top, left, rows, columns in (
        (2, 3, slice(2, 8), slice(3, 9)),
        (-2, -3, slice(0, 4), slice(0, 3)),
        (7, 8, slice(7, 10), slice(8, 10)),
        (-9, 0, slice(0, 0), slice(0, 0)),
        (20, 0, slice(0, 0), slice(0, 0)),
    ):
        expected = np.zeros((10, 10), bool)
        expected[rows, columns] = True
        np.testing.assert_array_equal(canvas(Bitmap(inside, top, left).patch((10, 10)), (10, 10)), expected)


def test_strokes_are_discs_and_thick_lines() -> None:
    size = (30, 30)
    y, x = np.mgrid[:30, :30] + 0.5
    disc = canvas(Strokes(np.array([[10.0, 12.0]]), 4.0).patch(size), size)
    np.testing.assert_array_equal(disc, (x - 10) ** 2 + (y - 12) ** 2 <= 16)
    line = canvas(Strokes(np.array([[5.0, 15.0], [20.0, 15.0]]), 3.0).patch(size), size)
    assert line[12:18, 5:20].all()
    assert line.sum() == 6 * 15 + (canvas(Strokes(np.array([[15.0, 15.0]]), 3.0).patch(size), size)).sum()


def test_what_lies_on_top() -> None:
    size = (8, 8)
    large, small = Polygons((box_ring(0, 0, 6, 6),)), Polygons((box_ring(2, 2, 4, 4),))

    def at(*shapes: tuple[Region, int, int], **options: bool) -> int:
        return int(paint(size, [Shape(*shape) for shape in shapes], 9, **options)[3, 3])

    assert at((small, 1, 0), (large, 2, 0)) == at((large, 2, 0), (small, 1, 0)) == 1
    assert at((small, 1, 0), (large, 2, 0), smaller_on_top=False) == 2
    assert at((small, 1, 0), (small, 2, 0)) == 2
    assert at((small, 1, 0), (large, 2, 1)) == at((large, 2, 1), (small, 1, 0)) == 2
    assert paint(size, [], 9).tolist() == np.full(size, 9).tolist()


@pytest.mark.parametrize("size", [(0, 5), (-3, 5), (10**6, 10**6)])
def test_sizes_of_no_picture(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="is none"):
        paint(size, [], 0)


def test_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featherseg.data.shapes.MAX_WORK", 1000)
    box = Polygons((box_ring(0, 0, 20, 20),))
    with pytest.raises(ValueError, match="over 1,000 pixels"):
        paint((20, 20), [Shape(box, 1)] * 3, 0)
    with pytest.raises(ValueError, match="over 1,000 pixels"):
        Polygons(box.rings * 3).patch((20, 20))
    with pytest.raises(ValueError, match="over 1,000 rows"):
        fill(np.tile(box.rings[0], (30, 1)), (20, 20))
