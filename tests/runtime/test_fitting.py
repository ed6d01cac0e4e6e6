from __future__ import annotations

import math
import tracemalloc
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from artifact_fixtures import picture
from featherseg.core.errors import ConfigError
from featherseg.core.types import ClassSet, InputSpec
from featherseg.runtime.artifact import Artifact
from featherseg.runtime.fitting import GRID, Fit, Piece, check_fit, pieces
from featherseg.runtime.postprocess import upsample_argmax
from featherseg.runtime.segmenter import Segmenter
from featherseg.runtime.sessions.base import Session

CLASSES = ClassSet(("red", "green", "blue"))
MEAN = (124, 116, 104)
"""ImageNet's, in 0-255: what a letterbox is padded with."""


class Blocks(Session):
    """A purely local network: a class's logit is the mean of its colour over each block of `stride` pixels a side."""

    name = "blocks"
    device = "paper"

    def __init__(self, stride: int = 8, size: tuple[int, int] | None = None) -> None:
        self.artifact = Artifact(CLASSES, InputSpec(), stride, "blocks", 1)
        self.size = size
        self.seen: list[tuple[int, ...]] = []

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.seen.append(images.shape)
        height, width = images.shape[1:3]
        stride = self.artifact.stride
        short = [(0, 0), (0, -height % stride), (0, -width % stride), (0, 0)]
        full = np.pad(images, short, mode="edge")
        shape = (len(full), full.shape[1] // stride, stride, full.shape[2] // stride, stride, 3)
        sums = full.reshape(shape).sum((2, 4), np.float32)  # exact
        return np.ascontiguousarray((sums / stride**2).transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("frame", "size", "content"),
    [
        ((180, 320), (128, 128), (72, 128)),  # bars below
        ((320, 180), (128, 256), (128, 72)),  # bars to the right
        ((60, 80), (120, 320), (120, 160)),  # enlarged
        ((128, 256), (128, 256), (128, 256)),  # fits as it is
        ((100, 150), (96, 144), (96, 144)),  # of the same shape
    ],
)
def test_letterbox_is_the_mask_of_the_resized_frame(
    frame: tuple[int, int], size: tuple[int, int], content: tuple[int, int]
) -> None:
    image, session = picture(*frame), Blocks()
    mask = Segmenter(session, size=size, fit="letterbox").segment(image)
    assert session.seen == [(1, *size, 3)]
    method = cv2.INTER_AREA if content[0] < frame[0] else cv2.INTER_LINEAR
    small = image if content == frame else cv2.resize(image, content[::-1], interpolation=method)
    np.testing.assert_array_equal(mask, upsample_argmax(Blocks().run(small[None])[0], frame))
    np.testing.assert_array_equal(mask, Segmenter(Blocks(), size=content).segment(image))


@pytest.mark.parametrize(
    ("frame", "size", "stride"),
    [
        ((90, 130), (100, 128), 8),  # 89 rows of 100, 11.57 of 13 logits
        ((131, 97), (96, 131), 8),
        ((75, 201), (150, 150), 4),
        ((301, 77), (70, 90), 16),
        ((20, 700), (65, 99), 8),  # three rows of content
        ((50, 40), (30, 200), 8),  # a size below the smallest
    ],
)
def test_letterbox_with_logits_that_straddle_the_border(
    frame: tuple[int, int], size: tuple[int, int], stride: int
) -> None:
    """The oracle goes from each pixel's centre to the network's input, and samples the logits there (torch)."""
    image, session = picture(*frame), Blocks(stride)
    mask = Segmenter(session, size=size, fit="letterbox").segment(image)
    scale = min(size[0] / frame[0], size[1] / frame[1])
    content = tuple(max(1, round(side * scale)) for side in frame)
    canvas = max(size[0], 64), max(size[1], 64)
    assert session.seen == [(1, *canvas, 3)]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(image, content[::-1], interpolation=method)
    padded = cv2.copyMakeBorder(
        small, 0, canvas[0] - content[0], 0, canvas[1] - content[1], cv2.BORDER_CONSTANT, value=MEAN
    )
    logits = Blocks(stride).run(padded[None])
    counts = [math.ceil(content[i] / (canvas[i] / logits.shape[2 + i])) for i in (0, 1)]
    logits[:, :, counts[0] :] = logits[:, :, counts[0] - 1 : counts[0]]  # padding has no say
    logits[:, :, :, counts[1] :] = logits[:, :, :, counts[1] - 1 : counts[1]]
    y, x = (
        torch.from_numpy((np.arange(frame[i]) + 0.5) * content[i] / frame[i] / canvas[i] * 2 - 1).double()
        for i in (0, 1)
    )
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]
    values = torch.nn.functional.grid_sample(
        torch.from_numpy(logits).double(), grid, mode="bilinear", padding_mode="border", align_corners=False
    )[0].numpy()
    chosen = np.take_along_axis(values, mask[None].astype(np.int64), axis=0)[0]
    assert (values.max(0) - chosen).max() < 1e-3  # of 255
    assert len(np.unique(mask)) > 1


def test_letterbox_lines_up_with_the_frame() -> None:
    """An upright and a level edge come out where they are, to a pixel, however the frame was fitted."""
    image = np.zeros((300, 450, 3), np.uint8)
    image[..., 0] = 200
    image[120:, :] = (0, 200, 0)
    image[:, 300:] = (0, 0, 200)
    for size in ((150, 300), (200, 225), (256, 256), (600, 904)):
        mask = Segmenter(Blocks(4), size=size, fit="letterbox").segment(image)
        assert abs(int((mask[:, 10] == 0).sum()) - 120) <= 4
        assert abs(int((mask[10] == 0).sum()) - 300) <= 4


@pytest.mark.parametrize(
    ("frame", "size", "stride"),
    [
        ((512, 768), (128, 160), 8),
        ((256, 256), (64, 64), 8),
        ((200, 1000), (96, 128), 8),
        ((128, 160), (128, 160), 8),
        ((96, 104), (128, 160), 8),
        ((72, 1200), (256, 256), 4),
        ((640, 72), (128, 128), 2),
    ],
)
def test_tiles_of_a_local_network_equal_the_whole(frame: tuple[int, int], size: tuple[int, int], stride: int) -> None:
    image, session = picture(*frame), Blocks(stride)
    mask = Segmenter(session, size=size, fit="tile").segment(image)
    np.testing.assert_array_equal(mask, Segmenter(Blocks(stride)).segment(image))
    assert all(height <= size[0] and width <= size[1] for _, height, width, _ in session.seen)


@pytest.mark.parametrize("frame", [(513, 771), (101, 203), (127, 161), (65, 64), (97, 50), (1, 300), (5, 5)])
@pytest.mark.parametrize("fixed", [False, True])
def test_tiles_of_frames_that_no_blocks_fill(frame: tuple[int, int], fixed: bool) -> None:
    size, image = (128, 160), picture(*frame)
    session = Blocks(size=size if fixed else None)
    mask = Segmenter(session, size=size, fit="tile").segment(image)
    rest = [(0, -side % 8 + 8) for side in frame]  # the network's own padding repeats the edge too
    whole = np.pad(image, [*((0, after + 64) for _, after in rest), (0, 0)], mode="edge")
    np.testing.assert_array_equal(mask, Segmenter(Blocks()).segment(crop8(whole))[: frame[0], : frame[1]])
    if fixed:
        assert {shape[1:3] for shape in session.seen} == {size}


def crop8(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image[: image.shape[0] // 8 * 8, : image.shape[1] // 8 * 8]


def test_every_pixel_comes_from_one_tile_far_from_its_borders() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        frame = (int(rng.integers(1, 900)), int(rng.integers(1, 900)))
        size = (int(rng.integers(8, 40)) * 8, int(rng.integers(8, 40)) * 8)
        kept = np.zeros(frame, np.int64)
        for piece in pieces(frame, size, "tile", stride=8, color=MEAN):
            kept[piece.kept] += 1
            assert piece.top % GRID == piece.left % GRID == 0
            assert piece.seen == piece.content
            for axis, first in enumerate((piece.top, piece.left)):
                start, stop = piece.kept[axis].start, piece.kept[axis].stop
                last = first + piece.seen[axis]
                assert first <= start < stop <= last <= frame[axis]
                assert start == first == 0 or start - first >= size[axis] // 8
                assert stop == last == frame[axis] or last - stop >= size[axis] // 8
        assert (kept == 1).all()


def test_tiles_need_no_more_memory_for_larger_frames() -> None:
    def peak(height: int, width: int) -> int:
        image = np.zeros((height, width, 3), np.uint8)
        segmenter = Segmenter(Blocks(), size=(128, 128), fit="tile")
        tracemalloc.start()
        mask = segmenter.segment(image)
        used = tracemalloc.get_traced_memory()[1] - mask.nbytes
        tracemalloc.stop()
        return used

    peak(200, 200)
    small, large = peak(512, 512), peak(1024, 4096)
    assert large < small + 500_000 < 3_000_000  # the mask alone grew by 4 MB, the frame by 12


def test_batches_are_fitted_like_single_frames() -> None:
    frames = [picture(150, 260, seed) for seed in range(3)]
    ways: list[tuple[tuple[int, int] | None, Fit | None, int]] = [
        (None, None, 1),
        ((96, 128), "stretch", 1),
        ((96, 128), "letterbox", 1),
        ((128, 128), "tile", 6),
    ]
    for size, fit, runs in ways:
        session = Blocks()
        masks = Segmenter(session, size=size, fit=fit).segment_batch(frames)
        assert masks.dtype == np.uint8
        assert [shape[0] for shape in session.seen] == [3] * runs
        for frame, mask in zip(frames, masks, strict=True):
            np.testing.assert_array_equal(mask, Segmenter(Blocks(), size=size, fit=fit).segment(frame))
        np.testing.assert_array_equal(Segmenter(Blocks(), size=size, fit=fit).segment_batch(np.stack(frames)), masks)


@pytest.mark.parametrize(
    ("frames", "words"),
    [([], "no frames"), ([picture(64, 64), picture(64, 65)], "frame 1 is"), ([picture(64, 64), None], "NoneType")],
)
def test_batches_that_are_none(frames: list[Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        Segmenter(Blocks()).segment_batch(frames)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fit": "letterbx", "size": (64, 64)}, 'did you mean "letterbox"'),
        ({"fit": "tile"}, r"give size=\(height, width\)"),
        ({"fit": "stretch"}, "no size"),
        ({"fit": "tile", "size": (100, 200)}, "give 104x200"),
        ({"fit": "tile", "size": (32, 200)}, "give 64x200"),
    ],
)
def test_settings_are_obeyed_or_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        Segmenter(Blocks(), **options)
    assert "\n" not in str(caught.value)


def test_what_fits_by_default() -> None:
    assert Segmenter(Blocks()).fit is None
    assert Segmenter(Blocks(), size=(64, 64)).fit == "stretch"
    assert Segmenter(Blocks(size=(64, 64))).fit == "stretch"
    assert Segmenter(Blocks(size=(64, 64)), fit="letterbox").fit == "letterbox"


@pytest.mark.parametrize("fit", ["tile", "letterbox"])
def test_logits_only_of_whole_frames(fit: Fit) -> None:
    with pytest.raises(ConfigError, match=f"fit is '{fit}'"):
        Segmenter(Blocks(), size=(64, 64), fit=fit).logits(picture(64, 64))


def test_latency_covers_all_tiles() -> None:
    session = Blocks()
    latency = Segmenter(session, size=(128, 128), fit="tile").latency(picture(200, 300), runs=2, warmup=1)
    tiles = len(session.seen) // 3
    assert latency.device == f"paper; frame 200x300, network 128x128, {tiles} tiles"
    assert tiles == 6
    assert latency.runs == 2
    assert ", letterbox" in Segmenter(Blocks(), size=(64, 64), fit="letterbox").latency(picture(9, 9), runs=1).device


def test_extent_counts_whole_logits_where_networks_do() -> None:
    whole = slice(0, 41), slice(0, 64)
    assert Piece(0, 0, (41, 64), (41, 64), (64, 64), whole).extent((8, 8)) == (5.125, 8)
    assert Piece(0, 0, (41, 64), (41, 64), (64, 64), whole, whole_logits=True).extent((8, 8)) == (6, 8)


def test_tiles_without_a_size_name_the_option_of_the_command_too() -> None:
    with pytest.raises(ConfigError, match=r"the option --size HxW"):
        check_fit("tile", None, 8)
