"""Links, pipes and pictures of any kind and size: work, or one line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stubs import linux, picture, stub_segmenter

from conftest import Ended
from featherseg.core.errors import DataError
from featherseg.core.images import list_images, read_ids, read_image
from featherseg.evaluation.opening import STREET
from featherseg.runtime.predict import find_images, predict
from featherseg.runtime.segmenter import Segmenter


@linux
def test_links_that_lead_nowhere_and_pipes_are_no_pictures(tmp_path: Path) -> None:
    """A pipe would be waited for for ever."""
    picture(tmp_path / "a.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "gone.png").symlink_to("nothing.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.png"]
    for name in ("loop.png", "gone.png", "pipe.png"):
        with pytest.raises(DataError):
            find_images([tmp_path / name])


@linux
def test_a_folder_that_holds_itself(run: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("a")
    for words in (("predict", tmp_path / "a"), ("eval", tmp_path / "a"), ("train", f"data.root={tmp_path / 'a'}")):
        assert run(*words).refused()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 2), (63, 65)])
def test_pictures_of_a_pixel(tmp_path: Path, size: tuple[int, int]) -> None:
    photo = picture(tmp_path / "a.png", size)
    for each in (stub_segmenter(), Segmenter(STREET, threads=1)):
        result = predict(each, [photo], tmp_path / "out")
        assert read_ids(result.masks[0]).shape == size[::-1]
    assert sum(result.coverage.values()) == pytest.approx(1)


def test_masks_that_are_jpegs_by_another_name(tmp_path: Path) -> None:
    plain = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    plain.save(tmp_path / "a.mpo", save_all=True, append_images=[plain])
    plain.save(tmp_path / "b.tif", compression="jpeg")
    for name in ("a.mpo", "b.tif"):
        with pytest.raises(DataError, match="is a JPEG"):
            read_ids(tmp_path / name)
        assert read_image(tmp_path / name).shape == (8, 8, 3)


def test_masks_in_colours_that_are_not_rgb(tmp_path: Path) -> None:
    Image.new("LAB", (4, 4)).save(tmp_path / "lab.tif")
    with pytest.raises(DataError, match="colour model LAB"):
        read_ids(tmp_path / "lab.tif")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # as featherseg does, outside of tests
def test_a_picture_of_a_hundred_megapixels(tmp_path: Path) -> None:
    Image.new("RGB", (12_000, 8_400), (9, 9, 9)).save(tmp_path / "large.png", compress_level=1)
    result = predict(stub_segmenter(), [tmp_path / "large.png"], tmp_path / "out", overlays=False)
    assert result.coverage["sky"] == pytest.approx(0.5, abs=0.01)
