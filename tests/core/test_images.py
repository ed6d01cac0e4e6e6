from __future__ import annotations

import struct
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import error_line
from featherseg.core.errors import DataError, MissingExtraError
from featherseg.core.files import write_atomically
from featherseg.core.formats import skipped
from featherseg.core.images import list_images, read_ids, read_image, write_image, write_mask
from featherseg.core.types import ClassSet

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)


def refusal(path: Path, read: Callable[[Path], object] = read_image) -> str:
    message = error_line(DataError, read, path)
    assert str(path) in message
    return message


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".PNG"])
def test_lossless_round_trip(tmp_path: Path, suffix: str) -> None:
    path = write_image(tmp_path / f"new/a{suffix}", PICTURE)
    np.testing.assert_array_equal(read_image(path), PICTURE)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_format_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    for name in ("a.xyz", "a.psd"):  # Pillow only reads the latter
        with pytest.raises(DataError, match=r"use \.png or \.jpg"):
            write_image(tmp_path / name, PICTURE)
    assert not any(tmp_path.iterdir())


def test_greys_palettes_and_transparency_become_rgb(tmp_path: Path) -> None:
    grey = PICTURE[..., 0]
    Image.fromarray(grey).save(tmp_path / "l.png")
    Image.fromarray(np.dstack([PICTURE, grey])).save(tmp_path / "rgba.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.png")
    palette = Image.fromarray(grey % 3)
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    palette.save(tmp_path / "p.png")
    for name in ("l.png", "16.png"):
        np.testing.assert_array_equal(read_image(tmp_path / name), np.repeat(grey[..., None], 3, 2))
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), PICTURE)
    expected = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]], np.uint8)[grey % 3]
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), expected)


def test_dark_16_bit_greys_stay_dark(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 255, np.uint16)).save(tmp_path / "dark.png")
    assert read_image(tmp_path / "dark.png").max() == 0


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.fromarray(PICTURE)
    exif = image.getexif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    image.save(tmp_path / "e.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "e.png"), np.rot90(PICTURE, -1))


def test_floats_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.tiff"
    Image.fromarray(np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)).save(path)
    assert "float" in refusal(path)
    assert "floats" in refusal(path, read_ids)


@pytest.mark.parametrize("read", [read_image, read_ids])
@pytest.mark.parametrize("kind", ["missing", "empty", "text", "half", "folder"])
def test_unreadable_files(tmp_path: Path, kind: str, read: object) -> None:
    path = tmp_path / "a.png"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        write_image(path, RNG.integers(0, 256, (80, 90, 3), dtype=np.uint8))
        whole = path.read_bytes()
        path.write_bytes({"empty": b"", "text": b"not a picture", "half": whole[: len(whole) // 2]}[kind])
    message = refusal(path, read)
    assert ("does not exist" in message) == (kind == "missing")


def test_half_a_jpeg_is_refused(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.jpg", RNG.integers(0, 256, (80, 90, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:2000])
    assert "cannot be read as an image" in refusal(path)


def test_large_pictures_are_ours_to_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_image(tmp_path / "a.png", PICTURE)
    monkeypatch.setattr("featherseg.core.images.MAX_PIXELS", 53)
    assert "has 9x6 pixels, more than 53" in refusal(path)
    monkeypatch.setattr("featherseg.core.images.MAX_PIXELS", 54)
    with warnings.catch_warnings(record=True) as caught:
        assert read_image(path).shape == (6, 9, 3)
    assert not caught


def test_masks_keep_their_ids(tmp_path: Path) -> None:
    classes = ClassSet(("a", "b", "c"), ((9, 8, 7), (6, 5, 4), (3, 2, 1)))
    mask = np.array([[0, 1, 2], [255, 1, 0]], np.uint8)
    path = write_mask(tmp_path / "m.png", mask, classes)
    np.testing.assert_array_equal(read_ids(path), mask)
    np.testing.assert_array_equal(read_image(path), classes.palette()[mask])
    write_mask(tmp_path / "view.png", np.repeat(mask, 2, 1)[:, ::2], classes)
    np.testing.assert_array_equal(read_ids(tmp_path / "view.png"), mask)


def test_read_ids_by_mode(tmp_path: Path) -> None:
    ids = (PICTURE[..., 0] % 5).astype(np.uint8)
    Image.fromarray(ids.astype(np.uint16) * 1000).save(tmp_path / "16.png")
    np.testing.assert_array_equal(read_ids(tmp_path / "16.png"), ids.astype(np.int64) * 1000)
    Image.fromarray(ids > 2).save(tmp_path / "1.png")
    np.testing.assert_array_equal(read_ids(tmp_path / "1.png"), ids > 2)
    Image.fromarray(np.dstack([ids, np.full_like(ids, 255)])).save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_ids(tmp_path / "la.png"), ids)
    Image.fromarray(PICTURE).save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(read_ids(tmp_path / "rgb.png"), PICTURE)


def test_jpeg_masks_are_refused_whatever_their_name(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    Image.fromarray(PICTURE[..., 0]).save(path, format="JPEG")
    assert "is a JPEG" in refusal(path, read_ids)


def test_list_images_sorts_and_skips(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [p.name for p in list_images(tmp_path)] == ["a.JPG", "b.png"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")

    def fail(file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    write_atomically(path, lambda file: file.write(b"new"))
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode
    assert path.read_bytes() == b"new"


def tiff(path: Path, samples: int, bits: int, order: str = "<") -> Path:
    """An uncompressed TIFF of any number of channels, 4x4 pixels (TIFF 6.0)."""
    data = bytes(16 * samples * bits // 8)
    depth = struct.pack(f"{order}{samples}H", *[bits] * samples)
    tags = [(256, 3, 1, 4), (257, 3, 1, 4), (258, 3, samples, 8 + len(data)), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, 1, 8), (277, 3, 1, samples), (278, 3, 1, 4), (279, 4, 1, len(data))]
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(data) + len(depth))
    short = [kind == 3 and count == 1 for _, kind, count, _ in tags]  # values of two bytes stand first in their four
    entries = b"".join(
        struct.pack(f"{order}HHI{'H2x' if small else 'I'}", *tag) for tag, small in zip(tags, short, strict=True)
    )
    path.write_bytes(head + data + depth + struct.pack(f"{order}H", len(tags)) + entries + bytes(4))
    return path


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("samples", "bits"), [(7, 8), (4, 16), (12, 16)])
def test_tiffs_of_many_channels_are_named_for_what_they_are(
    tmp_path: Path, samples: int, bits: int, order: str
) -> None:
    path = tiff(tmp_path / "bands.tif", samples, bits, order)
    for read in (read_image, read_ids):
        message = refusal(path, read)
        if "cannot be read" in message:  # Pillow may learn some
            assert f"a TIFF of {samples} channels" in message
            assert "cannot identify" not in message


def test_data_of_twelve_bits_in_sixteen_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for i in range(3):
        Image.fromarray(PICTURE[..., 0].astype(np.uint16) * 16).save(tmp_path / f"{i}.png")
        read_image(tmp_path / f"{i}.png")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "reach 4095 at most, as data of 12 bits do" in caplog.text
    caplog.clear()
    Image.fromarray(PICTURE[..., 0].astype(np.uint16) * 257).save(tmp_path / "full.png")
    read_image(tmp_path / "full.png")
    assert not caplog.records


def test_avif_pictures(tmp_path: Path) -> None:
    flat = np.full((64, 64, 3), (200, 60, 30), np.uint8)
    Image.fromarray(flat).save(tmp_path / "a.avif", quality=100)
    assert np.abs(read_image(tmp_path / "a.avif").astype(int) - flat).max() <= 3
    assert list_images(tmp_path) == [tmp_path / "a.avif"]
    assert "whose compression changes class ids" in refusal(tmp_path / "a.avif", read_ids)


def test_heic_pictures_need_a_package_and_say_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    photo = tmp_path / "IMG_0001.HEIC"
    photo.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    assert list_images(tmp_path) == [photo]
    with pytest.raises(
        MissingExtraError, match=r'IMG_0001.HEIC, a HEIC picture, needs: pip install "featherseg\[heic\]"'
    ):
        read_image(photo)
    renamed = photo.rename(tmp_path / "IMG_0001.jpg")
    assert "it is a HEIC picture; let its name end in .heic" in refusal(renamed)


def test_the_first_frame_of_a_gif(tmp_path: Path) -> None:
    frames = [Image.fromarray((PICTURE[..., 0] % 3 + i).astype(np.uint8)) for i in range(2)]
    for frame in frames:
        frame.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    frames[0].save(tmp_path / "m.gif", save_all=True, append_images=frames[1:], optimize=False)
    np.testing.assert_array_equal(read_ids(tmp_path / "m.gif"), PICTURE[..., 0] % 3)


def test_pictures_of_other_formats_are_counted(tmp_path: Path) -> None:
    for name in ("a.dng", "b.DNG", "c.psd", "d.png", "notes.txt"):
        (tmp_path / name).touch()
    assert skipped(tmp_path) == "2 .dng, 1 .psd"
    assert skipped(tmp_path / "none") == ""
