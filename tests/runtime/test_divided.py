"""One file for several frames at once, and frames shown at a part of their size."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from artifact_fixtures import PooledSession, picture, write_pooled
from featherseg.core.errors import ConfigError
from featherseg.core.images import write_image
from featherseg.runtime.fitting import whole_cells
from featherseg.runtime.predict import predict
from featherseg.runtime.segmenter import Segmenter
from featherseg.runtime.sessions.base import MAX_STREAMS, shares


@pytest.mark.parametrize(("threads", "expected"), [(1, (1, 1)), (2, (2, 1)), (4, (4, 1)), (6, (4, 1)), (16, (4, 4))])
def test_how_threads_are_shared(threads: int, expected: tuple[int, int]) -> None:
    assert shares(threads) == expected
    assert expected[0] <= MAX_STREAMS


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_masks_are_the_same_by_whatever_thread(pooled: Path, backend: str) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    whole = Segmenter(pooled, backend=backend, threads=2)
    divided = whole.divided()
    assert (whole.streams, divided.streams) == (1, 2)
    assert "threads: 2" in divided.device
    assert "images at once: 2" in divided.device
    assert divided.divided() is divided
    planned = divided.planned((96, 128))
    assert planned.streams == 2
    frames = [picture(96, 128, seed) for seed in range(8)]
    with ThreadPoolExecutor(2) as pool:
        for each in (divided, planned):
            for frame, mask in zip(frames, pool.map(each.segment, frames), strict=True):
                np.testing.assert_array_equal(mask, whole.segment(frame))


def test_what_cannot_be_divided_is_itself(pooled: Path) -> None:
    for one in (Segmenter(pooled, threads=1), Segmenter(PooledSession())):
        assert one.divided() is one
        assert one.streams == 1


def test_a_size_that_was_chosen_stays(pooled: Path) -> None:
    divided = Segmenter(pooled, size=(64, 96), threads=2).divided()
    assert divided.seen((480, 640)) == (64, 96)
    assert divided.segment(picture(96, 128)).shape == (96, 128)


@pytest.mark.parametrize(("size", "expected"), [((360, 480), (360, 480)), ((365, 500), (368, 496)), ((3, 40), (8, 40))])
def test_sizes_of_whole_cells(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert whole_cells(size) == expected


def test_frames_at_a_part_of_their_size(pooled: Path) -> None:
    frame = picture(200, 320)
    half = Segmenter(pooled, scale=0.5, threads=1)
    assert half.seen((200, 320)) == (96, 160)
    np.testing.assert_array_equal(half.segment(frame), Segmenter(pooled, size=(96, 160), threads=1).segment(frame))
    assert Segmenter(pooled, threads=1).seen((200, 321)) == (200, 321)


def test_scales_that_are_refused(pooled: Path, tmp_path: Path) -> None:
    for scale in (0.0, -1.0, 17.0, float("nan")):
        with pytest.raises(ConfigError, match="over 0 and up to 16"):
            Segmenter(pooled, scale=scale)
    with pytest.raises(ConfigError, match="give one of them"):
        Segmenter(pooled, scale=0.5, size=(64, 96))
    with pytest.raises(ConfigError, match="one size alone"):
        Segmenter(write_pooled(tmp_path / "fixed.onnx", size=(64, 96)), scale=0.5)


@pytest.mark.parametrize("threads", [2, None])
def test_a_folder_by_several_threads(pooled: Path, tmp_path: Path, threads: int | None) -> None:
    """Also by an engine that works on one image at a time, which others are read and written beside."""
    paths = [write_image(tmp_path / f"{i}.png", picture(64 + 8 * i, 96, i)) for i in range(7)]
    one = predict(Segmenter(pooled, threads=1), paths, tmp_path / "one")
    told: list[tuple[int, int]] = []
    segmenter = Segmenter(PooledSession()) if threads is None else Segmenter(pooled, threads=threads)
    many = predict(segmenter, paths, tmp_path / "many", progress=lambda *done: told.append(done))
    assert [path.name for path in many.masks] == [f"{i}.png" for i in range(7)]
    for kind in ("masks", "overlays"):
        for mine, theirs in zip(getattr(one, kind), getattr(many, kind), strict=True):
            assert mine.read_bytes() == theirs.read_bytes()
    assert many.coverage == pytest.approx(one.coverage)
    assert told == [(i + 1, 7) for i in range(7)]


def test_no_more_images_at_once_than_are_asked_for(pooled: Path) -> None:
    whole = Segmenter(pooled, threads=4)
    assert [whole.divided(count).streams for count in (2, 3, None)] == [2, 3, 4]
    assert whole.divided(1) is whole
