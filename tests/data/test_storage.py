"""What only a look at all mask files tells, and what training, scoring and the doctor all make of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featherseg.core.errors import DataError
from featherseg.core.images import read_ids
from featherseg.core.mask_files import palette_of
from featherseg.data.class_counts import take_class_counts
from featherseg.data.datasets import create_dataset
from featherseg.data.storage import look_at
from featherseg.doctor.examine import examine

COLORS = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)
NAMED = 'names = ["ground", "box", "disc"]\ncolors = [[0, 0, 0], [255, 0, 0], [0, 0, 255]]\n'
RNG = np.random.default_rng(0)
IDS = [np.kron(RNG.choice(3, (6, 8), p=(0.6, 0.25, 0.15)), np.ones((12, 12))).astype(np.uint8) for _ in range(8)]


def put(root: Path, index: int, mask: Image.Image, suffix: str = ".png") -> None:
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(index).integers(0, 255, (72, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "images" / f"s{index}.png")
    mask.save(root / "masks" / f"s{index}{suffix}")


def by_frequency(ids: np.ndarray, index: int) -> Image.Image:
    """Palettes as drawing programs write them: in an order of the file's own."""
    order = np.argsort(-np.bincount(ids.ravel(), minlength=3), kind="stable") if index % 2 else np.array([1, 0, 2])
    mask = Image.fromarray(np.argsort(order).astype(np.uint8)[ids])
    mask.putpalette(COLORS[order].tobytes())
    return mask


def bits(ids: np.ndarray, index: int) -> Image.Image:
    return Image.fromarray(ids > 0) if index % 2 else Image.fromarray((ids > 0).astype(np.uint8) * 255)


def grey(ids: np.ndarray, index: int) -> Image.Image:
    return Image.fromarray(np.dstack([ids] * 3))


def transparent(ids: np.ndarray, index: int) -> Image.Image:
    return Image.fromarray(np.dstack([ids * 0] * 3 + [(ids > 0).astype(np.uint8) * 255]))


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_palettes_that_differ_are_read_by_colour(suffix: str, tmp_path: Path) -> None:
    for i, ids in enumerate(IDS):
        put(tmp_path, i, by_frequency(ids, i), suffix)
    (tmp_path / "classes.toml").write_text(NAMED)
    dataset = create_dataset("folder", tmp_path, "all")
    for i, ids in enumerate(IDS):
        np.testing.assert_array_equal(dataset.read(i)[1], ids)
    assert "read by colour" in " ".join(dataset.notes)
    assert take_class_counts(dataset).pixels.tolist() == np.bincount(np.ravel(IDS)).tolist()


def test_palettes_that_differ_without_a_class_file(tmp_path: Path) -> None:
    for i, ids in enumerate(IDS):
        put(tmp_path, i, by_frequency(ids, i))
    dataset = create_dataset("folder", tmp_path, "all")
    for i, ids in enumerate(IDS):
        np.testing.assert_array_equal(np.array(dataset.classes.colors, np.uint8)[dataset.read(i)[1]], COLORS[ids])


def test_palettes_of_another_order_that_nobody_uses(tmp_path: Path) -> None:
    """Only what masks hold counts: two tools may fill the rest of a palette differently."""
    for i, ids in enumerate(IDS):
        mask = Image.fromarray(ids)
        mask.putpalette(COLORS.tobytes() + bytes([i, 0, 0]) * 3)
        put(tmp_path, i, mask)
    assert not look_at(sorted((tmp_path / "masks").iterdir())).votes


@pytest.mark.parametrize("named", [False, True])
def test_masks_of_one_bit_and_of_eight(named: bool, tmp_path: Path) -> None:
    for i, ids in enumerate(IDS):
        put(tmp_path, i, bits(ids, i))
    if named:
        (tmp_path / "classes.toml").write_text('names = ["background", "road"]\n')
    dataset = create_dataset("folder", tmp_path, "all")
    for i, ids in enumerate(IDS):
        np.testing.assert_array_equal(dataset.read(i)[1], ids > 0)
    assert dataset.notes


def test_255_is_ignored_where_masks_of_eight_bits_hold_more(tmp_path: Path) -> None:
    for i, ids in enumerate(IDS):
        wide = np.minimum(ids, 1)
        wide[:2] = 255
        put(tmp_path, i, Image.fromarray(ids > 0) if i % 2 else Image.fromarray(wide))
    dataset = create_dataset("folder", tmp_path, "all")
    assert set(np.unique(dataset.read(0)[1])) == {0, 1, 255}


@pytest.mark.parametrize("toml", [None, 'names = ["ground", "box", "disc"]\n', NAMED])
def test_ids_in_three_channels(toml: str | None, tmp_path: Path) -> None:
    for i, ids in enumerate(IDS):
        put(tmp_path, i, grey(ids, i))
    if toml:
        (tmp_path / "classes.toml").write_text(toml)
    dataset = create_dataset("folder", tmp_path, "all")
    for i, ids in enumerate(IDS):
        np.testing.assert_array_equal(dataset.read(i)[1], ids)


def test_greys_that_are_the_classes_colours_stay_colours(tmp_path: Path) -> None:
    shades = np.array([(2, 2, 2), (1, 1, 1), (0, 0, 0)], np.uint8)
    put(tmp_path, 0, Image.fromarray(shades[IDS[0]]))
    (tmp_path / "classes.toml").write_text('names = ["a", "b", "c"]\ncolors = [[2, 2, 2], [1, 1, 1], [0, 0, 0]]\n')
    np.testing.assert_array_equal(create_dataset("folder", tmp_path, "all").read(0)[1], IDS[0])


def test_shapes_in_the_transparency(tmp_path: Path) -> None:
    for i, ids in enumerate(IDS):
        put(tmp_path, i, transparent(ids, i))
    dataset = create_dataset("folder", tmp_path, "all")
    np.testing.assert_array_equal(dataset.read(0)[1], IDS[0] > 0)


@pytest.mark.parametrize("kind", [by_frequency, bits, grey, transparent])
@pytest.mark.parametrize("named", [False, True])
def test_doctor_and_loader_count_the_same(kind: object, named: bool, tmp_path: Path) -> None:
    for i, ids in enumerate(IDS):
        put(tmp_path, i, kind(ids, i))  # type: ignore[operator]
    two = kind in (bits, transparent)
    if named:
        (tmp_path / "classes.toml").write_text('names = ["background", "road"]\n' if two else NAMED)
    examination = examine(tmp_path)
    for split in ("train", "val"):
        dataset = create_dataset("folder", tmp_path, split)
        assert tuple(take_class_counts(dataset).pixels.tolist()) == examination.pixels[split]


def test_a_palette_mask_with_an_id_beyond_its_palette(tmp_path: Path) -> None:
    for i, ids in enumerate(IDS):
        put(tmp_path, i, by_frequency(ids, i))
    mask = by_frequency(IDS[0], 0)
    mask.putpixel((0, 0), 7)
    mask.save(tmp_path / "masks" / "s0.png", bits=8)
    (tmp_path / "classes.toml").write_text(NAMED)
    with pytest.raises(DataError, match="holds"):
        create_dataset("folder", tmp_path, "all").read(0)


def test_palettes_are_read_from_the_first_bytes(tmp_path: Path) -> None:
    put(tmp_path, 0, by_frequency(IDS[0], 0))
    path = tmp_path / "masks" / "s0.png"
    mode, palette = palette_of(path)
    with Image.open(path) as file:
        assert (mode, palette[:9]) == (file.mode, bytes(file.getpalette()[:9]))
    assert palette_of(tmp_path / "none.png") == ("", b"")
    (tmp_path / "cut.png").write_bytes(path.read_bytes()[:20])
    assert palette_of(tmp_path / "cut.png") == ("", b"")
    assert read_ids(path).shape == (72, 96)
