"""From a frame to its mask: what the network is given, and what is made of its logits."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from artifact_fixtures import CLASSES, STRIDE, PooledSession, picture
from conftest import Trained, error_line
from featherseg.core.errors import CheckpointError, ConfigError, DataError
from featherseg.core.types import InputSpec
from featherseg.evaluation.opening import STREET
from featherseg.runtime.frames import Frame
from featherseg.runtime.segmenter import Segmenter


def resized_argmax(logits: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Oracle: half-pixel bilinear interpolation (cv2's) of each class, then arg max."""
    maps = [cv2.resize(plane, size[::-1], interpolation=cv2.INTER_LINEAR) for plane in logits]
    return np.argmax(maps, axis=0).astype(np.uint8)


def agreement(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    assert a.shape == b.shape
    return float((a == b).mean())


@pytest.mark.parametrize("size", [(64, 64), (96, 128), (101, 203), (64, 71)])
def test_mask_is_the_arg_max_of_resized_logits(size: tuple[int, int]) -> None:
    frame, session = picture(*size), PooledSession()
    prediction = Segmenter(session)(frame)
    assert prediction.mask.dtype == np.uint8
    assert prediction.mask.shape == size
    assert prediction.classes is CLASSES
    assert prediction.image is frame
    assert np.array_equal(session.seen[0][0], frame)
    assert agreement(prediction.mask, resized_argmax(session.run(frame[None])[0], size)) > 0.999


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (40, 200), (200, 40), (63, 64), (17, 63)])
def test_small_frames_are_edge_padded_and_cropped(size: tuple[int, int]) -> None:
    frame, session = picture(*size), PooledSession()
    mask = Segmenter(session).segment(frame)
    padded = session.seen[0][0]
    wide, high = max(64 - size[1], 0), max(64 - size[0], 0)
    expected = cv2.copyMakeBorder(frame, 0, high, 0, wide, cv2.BORDER_REPLICATE)
    assert np.array_equal(padded, expected)
    rows, columns = -(-size[0] // STRIDE), -(-size[1] // STRIDE)
    logits = PooledSession().run(expected[None])[0][:, :rows, :columns]
    assert agreement(mask, resized_argmax(logits, size)) > 0.999


@pytest.mark.parametrize(
    ("network", "method"), [((96, 128), cv2.INTER_AREA), ((300, 400), cv2.INTER_LINEAR), ((300, 128), cv2.INTER_LINEAR)]
)
def test_size_resizes_for_the_network_only(network: tuple[int, int], method: int) -> None:
    frame, session = picture(200, 301), PooledSession()
    mask = Segmenter(session, size=network).segment(frame)
    expected = cv2.resize(frame, network[::-1], interpolation=method)
    assert np.array_equal(session.seen[0][0], expected)
    assert agreement(mask, resized_argmax(session.run(expected[None])[0], (200, 301))) > 0.999


def wanting(long_side: int) -> PooledSession:
    """Return a session of a file that asks for frames of a long side."""
    session = PooledSession()
    session.artifact = replace(session.artifact, input_spec=InputSpec(long_side=long_side))
    return session


@pytest.mark.parametrize(
    ("frame", "seen"), [((100, 150), (200, 300)), ((600, 450), (300, 225)), ((300, 120), (300, 120))]
)
def test_frames_come_at_the_size_that_the_file_asks_for(frame: tuple[int, int], seen: tuple[int, int]) -> None:
    pixels, session = picture(*frame), wanting(300)
    mask = Segmenter(session).segment(pixels)
    method = cv2.INTER_AREA if seen[0] < frame[0] else cv2.INTER_LINEAR
    expected = cv2.resize(pixels, seen[::-1], interpolation=method)
    assert np.array_equal(session.seen[0][0], expected)
    assert agreement(mask, resized_argmax(session.run(expected[None])[0], frame)) > 0.999
    session.seen.clear()
    Segmenter(session, size=(96, 128)).segment(pixels)
    assert session.seen[0].shape[1:3] == (96, 128)  # a size of the user's goes first


def test_scales_of_an_evaluation_count_from_there() -> None:
    session = wanting(300)
    Segmenter(session).logits(picture(100, 150), scale=0.5)
    assert session.seen[0].shape[1:3] == (100, 150)


def test_size_below_the_smallest_is_padded_after_resizing() -> None:
    session = PooledSession()
    mask = Segmenter(session, size=(32, 48)).segment(picture(200, 300))
    assert session.seen[0].shape == (1, 64, 64, 3)
    assert mask.shape == (200, 300)


def test_views_and_read_only_frames_work() -> None:
    frame = picture(80, 100)
    expected = Segmenter(PooledSession()).segment(frame)
    mirrored = np.ascontiguousarray(frame[:, :, ::-1])[:, :, ::-1]
    mirrored.flags.writeable = False
    for size in (None, (64, 64)):
        segmenter = Segmenter(PooledSession(), size=size)
        assert np.array_equal(segmenter.segment(mirrored), segmenter.segment(frame))
    assert np.array_equal(Segmenter(PooledSession()).segment(mirrored), expected)


@pytest.mark.parametrize(
    ("frame", "fix"),
    [
        (np.zeros((9, 9, 4), np.uint8), "frame[..., :3]"),
        (np.zeros((3, 9, 9), np.uint8), "frame.transpose(1, 2, 0)"),
        (np.zeros((1, 9, 9, 3), np.uint8), "frame[0]"),
        (np.zeros((9, 9, 3), np.float32), "(frame * 255).round().astype(np.uint8)"),
    ],
)
def test_wrong_frames_name_a_fix_that_works(frame: NDArray, fix: str) -> None:
    segmenter = Segmenter(PooledSession())
    with pytest.raises(ConfigError, match="not RGB uint8") as caught:
        segmenter(frame)
    assert fix in str(caught.value)
    assert "\n" not in str(caught.value)
    assert segmenter(eval(fix, {"np": np, "frame": frame})).mask.shape == (9, 9)


def test_files_pictures_and_greys_are_frames_too(tmp_path: Path) -> None:
    segmenter = Segmenter(PooledSession())
    frame = picture(70, 90)
    Image.fromarray(frame).save(tmp_path / "a.png")
    expected = segmenter(frame).mask
    alike: list[Frame] = [tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(frame)]
    alike.append(Image.fromarray(np.dstack([frame, frame[..., 0]]), "RGBA"))  # transparency is dropped, as from files
    predictions = segmenter(alike)
    assert len(predictions) == len(alike)
    for prediction in predictions:
        assert np.array_equal(prediction.mask, expected)
        assert np.array_equal(prediction.image, frame)
    grey = frame[..., 0]
    rgb = np.stack([grey] * 3, axis=-1)
    for each in (grey, grey[..., None], Image.fromarray(grey)):
        assert np.array_equal(segmenter(each).mask, segmenter(rgb).mask)
        assert np.array_equal(segmenter(each).image, rgb)


def test_several_frames_may_differ_in_size() -> None:
    frames = [picture(70, 90), picture(64, 128)]
    segmenter = Segmenter(PooledSession())
    for given in (frames, tuple(frames)):
        assert [prediction.mask.shape for prediction in segmenter(given)] == [(70, 90), (64, 128)]
    assert segmenter([]) == []


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    assert "does not exist" in error_line(DataError, Segmenter(PooledSession()), tmp_path / "no.png")


def test_a_run_folder_is_a_model(trained: Trained) -> None:
    segmenter = Segmenter(trained.run)
    assert segmenter.session.name == "torch"
    frame = picture(64, 96)
    assert agreement(segmenter(frame).mask, Segmenter(trained.file)(frame).mask) > 0.99
    assert "backend 'onnxruntime'" in error_line(ConfigError, Segmenter, trained.run, backend="onnxruntime")
    assert "its own" not in error_line(CheckpointError, Segmenter, trained.run.parent / "none")
    assert "leave it out" in error_line(ConfigError, Segmenter, trained.run, classes=segmenter.artifact.classes)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((0, 9), np.uint8),
        np.zeros((9, 9), np.float32),
        np.zeros((0, 9, 3), np.uint8),
        np.zeros((9, 9, 3), np.int64),
        np.zeros((9, 9, 3), bool),
        np.zeros((9, 9, 2), np.uint8),
        np.zeros(9, np.uint8),
        [[0, 0, 0]],
        None,
    ],
)
def test_other_frames_are_refused_in_one_line(frame: object) -> None:
    with pytest.raises(ConfigError) as caught:
        Segmenter(PooledSession())(frame)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_threads_may_share_a_segmenter(backend: str) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino", reason="needs the extra openvino")
    segmenter = Segmenter(STREET, backend=backend, threads=1)
    frames = [picture(64 + 8 * (i % 2), 128, seed=i) for i in range(8)]
    expected = [segmenter(frame).overlay() for frame in frames]
    assert len({overlay.tobytes() for overlay in expected}) == len(frames)
    start = threading.Barrier(8)

    def work(first: int) -> list[bool]:
        start.wait()
        return [np.array_equal(segmenter(frames[i % 8]).overlay(), expected[i % 8]) for i in range(first, first + 16)]

    with ThreadPoolExecutor(8) as pool:
        assert all(all(same) for same in pool.map(work, range(8)))


@pytest.mark.parametrize("draw", [False, True])
def test_latency_times_each_stage(draw: bool) -> None:
    session = PooledSession()
    latency = Segmenter(session, size=(64, 96)).latency(picture(100, 200), runs=4, warmup=2, draw=draw)
    assert list(latency.stages) == ["pre", "net", "post"] + ["draw"] * draw
    assert (latency.runs, latency.warmup, len(session.seen)) == (4, 2, 6)
    assert all(ms >= 0 for times in latency.stages.values() for ms in times)
    assert latency.device == "paper; frame 100x200, network 64x96"
    with pytest.raises(ConfigError, match="runs"):
        Segmenter(session).latency(picture(64, 64), runs=0)


def test_latency_gives_each_stage_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.cumsum([0.0, 1, 2, 4, 0, 8, 16, 32]).tolist())
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    latency = Segmenter(PooledSession()).latency(picture(64, 64), runs=1, warmup=1)
    assert latency.stages == {"pre": (8000.0,), "net": (16000.0,), "post": (32000.0,)}
