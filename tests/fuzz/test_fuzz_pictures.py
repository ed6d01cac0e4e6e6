"""Damaged pictures: an array of the promised kind or one line, whatever the bytes."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import Edit, answer, edits, fuzzed, listing, mutated
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from featherseg.core.errors import FeathersegError
from featherseg.core.images import read_ids, read_image
from featherseg.core.types import ClassSet
from featherseg.data.labels import LabelTable

RNG = np.random.default_rng(3)
COLOR = RNG.integers(0, 256, (23, 31, 3), dtype=np.uint8)
IDS = RNG.integers(0, 4, (23, 31), dtype=np.uint8)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format=kind, **options)
    return stream.getvalue()


def palette() -> Image.Image:
    picture = Image.fromarray(IDS)
    picture.putpalette(RNG.integers(0, 256, 768, dtype=np.uint8).tobytes())
    return picture


def turned() -> bytes:
    picture = Image.fromarray(COLOR)
    exif = picture.getexif()
    exif[0x0112] = 6
    return encoded(picture, "JPEG", exif=exif)


COLORS = Image.fromarray(COLOR)
SEEDS = {
    "png": encoded(COLORS, "PNG"),
    "png-palette": encoded(palette(), "PNG", transparency=0),
    "png-16": encoded(Image.fromarray(IDS.astype(np.uint16) * 900), "PNG"),
    "png-1": encoded(Image.fromarray(IDS > 1), "PNG"),
    "jpeg": encoded(COLORS, "JPEG", quality=60),
    "jpeg-progressive": encoded(COLORS, "JPEG", progressive=True),
    "jpeg-turned": turned(),
    "jpeg-cmyk": encoded(COLORS.convert("CMYK"), "JPEG"),
    "mpo": encoded(COLORS, "MPO", save_all=True, append_images=[COLORS]),
    "tiff": encoded(COLORS, "TIFF"),
    "tiff-lzw": encoded(COLORS, "TIFF", compression="tiff_lzw"),
    "tiff-jpeg": encoded(COLORS, "TIFF", compression="jpeg"),
    "tiff-lab": encoded(COLORS.convert("LAB"), "TIFF"),
    "tiff-float": encoded(Image.fromarray(IDS.astype(np.float32)), "TIFF"),
    "tiff-32": encoded(Image.fromarray(IDS.astype(np.int32)), "TIFF"),
    "tiff-la": encoded(Image.fromarray(IDS).convert("LA"), "TIFF"),
    "webp": encoded(COLORS, "WEBP"),
    "webp-lossless": encoded(COLORS, "WEBP", lossless=True),
    "bmp": encoded(COLORS, "BMP"),
    "bmp-palette": encoded(palette(), "BMP"),
    "ppm": encoded(COLORS, "PPM"),
    "ppm-text": b"P3\n3 1\n255\n" + b" ".join(str(v).encode() for v in range(9)),
    "gif": encoded(palette(), "GIF"),
}
TABLE = LabelTable.identity(ClassSet(("a", "b", "c", "d")))


def check_picture(found: Any) -> None:
    if not isinstance(found, FeathersegError):
        assert found.dtype == np.uint8
        assert found.ndim == 3
        assert found.shape[2] == 3
        assert found.size


def check_ids(found: Any) -> None:
    if not isinstance(found, FeathersegError):
        assert found.dtype.kind in "ui"
        assert found.size
        assert found.ndim == 2 or found.shape[2:] == (3,)


def check(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as users run it: decoders warn of oddities they read all the same
        check_picture(answer(read_image, path))
        ids = answer(read_ids, path)
        check_ids(ids)
        mask = answer(TABLE.read, path)
    if isinstance(ids, FeathersegError):
        assert isinstance(mask, FeathersegError)
    elif not isinstance(mask, FeathersegError):
        assert mask.dtype == np.uint8
        assert mask.ndim == 2
    assert listing(path.parent) == {path.name: content}


@pytest.mark.parametrize("kind", SEEDS)
def test_whole_ones_are_what_they_promise(tmp_path: Path, kind: str) -> None:
    check(tmp_path / "a.png", SEEDS[kind])


@fuzzed(400)
@given(kind=st.sampled_from(sorted(SEEDS)), changes=edits())
def test_damaged_ones(tmp_path_factory: pytest.TempPathFactory, kind: str, changes: list[Edit]) -> None:
    check(_place(tmp_path_factory), mutated(SEEDS[kind], changes))


@fuzzed(150)
@given(kind=st.sampled_from(sorted(SEEDS)), share=st.floats(0, 1), count=st.integers(1, 8), piece=st.binary(max_size=8))
def test_damaged_heads(
    tmp_path_factory: pytest.TempPathFactory, kind: str, share: float, count: int, piece: bytes
) -> None:
    """Sizes, depths and offsets stand in the first bytes."""
    data = SEEDS[kind]
    place = int(share * min(len(data), 60))
    check(_place(tmp_path_factory), data[:place] + piece * count + data[place + len(piece) * count :])


@fuzzed(100)
@given(content=st.binary(max_size=200), magic=st.sampled_from([b"", *(seed[:12] for seed in SEEDS.values())]))
def test_noise_behind_a_magic_number(tmp_path_factory: pytest.TempPathFactory, content: bytes, magic: bytes) -> None:
    check(_place(tmp_path_factory), magic + content)


_places: list[Path] = []


def _place(factory: pytest.TempPathFactory) -> Path:
    if not _places or not _places[0].exists():
        _places[:] = [factory.mktemp("pictures")]
    return _places[0] / "a.png"
