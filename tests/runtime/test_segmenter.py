from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

from featherseg.errors import ArtifactError, ConfigError, MissingExtraError
from featherseg.inference import STREET
from featherseg.runtime import sessions as module
from featherseg.runtime.artifact import Artifact
from featherseg.runtime.fitting import Fit
from featherseg.runtime.segmenter import Prediction, Segmenter
from featherseg.runtime.sessions import OnnxSession, Session, available_threads, open_session, sessions
from featherseg.types import MIN_SIZE, ClassSet, InputSpec

STRIDE = 8
CLASSES = ClassSet(("red", "green", "blue"), ((255, 0, 0), (0, 255, 0), (0, 0, 255)))
ARTIFACT = Artifact(CLASSES, InputSpec(), STRIDE, "pooled", 1)


class PooledSession:
    """A network one can do in one's head: a class's logit is the mean of its colour over each 8x8 block."""

    name = "pooled"
    device = "paper"
    artifact = ARTIFACT

    def __init__(self) -> None:
        self.seen: list[NDArray[np.uint8]] = []

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.seen.append(images)
        batch, height, width, _ = images.shape
        h, w = -(-height // STRIDE), -(-width // STRIDE)
        logits = np.zeros((batch, 3, h, w), np.float32)
        for y in range(h):
            for x in range(w):
                block = images[:, y * STRIDE : (y + 1) * STRIDE, x * STRIDE : (x + 1) * STRIDE]
                logits[:, :, y, x] = block.mean(axis=(1, 2))
        return logits


def write_pooled(path: Path, artifact: Artifact | None = ARTIFACT, name: str = "logits", channels: int = 3) -> Path:
    """The same network as an ONNX file."""
    nodes = [
        helper.make_node("Transpose", ["image"], ["chw"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["chw"], ["float"], to=TensorProto.FLOAT),
        helper.make_node(
            "AveragePool", ["float"], [name], kernel_shape=[8, 8], strides=[8, 8], ceil_mode=1, count_include_pad=0
        ),
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", "height", "width", channels])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", channels, "h", "w"])]
    graph = helper.make_graph(nodes, "pooled", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    if artifact is not None:
        helper.set_model_props(model, artifact.to_metadata())
    onnx.save(model, str(path))
    return path


@pytest.fixture
def pooled(tmp_path: Path) -> Path:
    return write_pooled(tmp_path / "pooled.onnx")


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(2, height // 20), max(2, width // 20), 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


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
        (np.zeros((9, 9), np.uint8), "np.stack([frame] * 3, axis=-1)"),
        (np.zeros((9, 9, 1), np.uint8), "np.repeat(frame, 3, axis=2)"),
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


@pytest.mark.parametrize(
    "frame",
    [
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


def test_onnx_session_equals_the_network(pooled: Path) -> None:
    session = OnnxSession(pooled)
    assert isinstance(session, Session)
    assert session.artifact == ARTIFACT
    images = np.stack([picture(77, 130, 1), picture(77, 130, 2)])
    logits = session.run(images)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, PooledSession().run(images), rtol=1e-5)
    frame = picture(50, 99)
    assert np.array_equal(Segmenter(str(pooled)).segment(frame), Segmenter(PooledSession()).segment(frame))


def test_threads_are_passed_on_and_said(pooled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    given = []
    real = onnxruntime.InferenceSession

    def spy(path: str, options: onnxruntime.SessionOptions, **rest: object) -> onnxruntime.InferenceSession:
        given.append(options.intra_op_num_threads)
        return real(path, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    assert ", threads: 1, CPUExecutionProvider" in Segmenter(pooled, threads=1).session.device
    assert f", threads: {available_threads()}," in OnnxSession(pooled).device
    assert given == [1, available_threads()]
    assert f"onnxruntime {onnxruntime.__version__}" in OnnxSession(pooled).device
    for threads in (0, -1):
        with pytest.raises(ConfigError, match="threads"):
            Segmenter(pooled, threads=threads)


def test_settings_are_obeyed_or_refused(pooled: Path) -> None:
    with pytest.raises(ConfigError, match="onnxruntime"):
        Segmenter(pooled, backend="onnxruntim")
    with pytest.raises(ConfigError, match="no option 'precision'"):
        open_session(pooled, precision="f32")
    with pytest.raises(ConfigError, match="open already"):
        Segmenter(OnnxSession(pooled), threads=2)
    with pytest.raises(ConfigError, match="open already"):
        Segmenter(OnnxSession(pooled), backend="openvino")
    with pytest.raises(ConfigError, match="size"):
        Segmenter(pooled, size=(0, 64))
    with pytest.raises(ConfigError, match="source"):
        Segmenter(None)  # type: ignore[arg-type]
    assert {"onnxruntime", "openvino"} <= set(sessions.names())


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_files_that_cannot_be_used(tmp_path: Path, backend: str) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(write_pooled(tmp_path / "a.onnx").read_bytes()[:-40])
    cases = {
        "no such file": tmp_path / "none.onnx",
        "whole ONNX": broken,
        "no featherseg metadata": write_pooled(tmp_path / "b.onnx", artifact=None),
        "not uint8 image": write_pooled(tmp_path / "c.onnx", name="scores"),
        "4 classes": write_pooled(tmp_path / "d.onnx", channels=4),
        "output logits": write_pooled(tmp_path / "e.onnx", Artifact(CLASSES, InputSpec(), 8, "x", 1, output="mask")),
    }
    for words, path in cases.items():
        with pytest.raises(ArtifactError, match=words) as caught:
            open_session(path, backend)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_graph_that_the_engine_refuses(tmp_path: Path) -> None:
    path = write_pooled(tmp_path / "a.onnx")
    model = onnx.load(str(path))
    model.graph.node[2].op_type = "NoSuchOperator"
    onnx.save(model, str(path))
    with pytest.raises(ArtifactError, match="ONNX Runtime refuses it") as caught:
        Segmenter(path)
    assert "\n" not in str(caught.value)


def test_missing_openvino_names_its_extra(pooled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r'pip install "featherseg\[openvino\]"'):
        Segmenter(pooled, backend="openvino")
    with pytest.raises(ConfigError, match="did you mean"):
        open_session(pooled, "openvino", precision="bf61")


def test_openvino_equals_onnxruntime(pooled: Path) -> None:
    pytest.importorskip("openvino")
    session = open_session(pooled, "openvino", threads=1)
    assert isinstance(session, Session)
    assert "threads: 1, CPU, f32" in session.device
    for size in ((64, 64), (77, 130)):
        images = picture(*size)[None]
        np.testing.assert_allclose(session.run(images), PooledSession().run(images), rtol=1e-5)
    first = session.run(picture(64, 64, 1)[None])
    kept = first.copy()
    session.run(picture(64, 64, 2)[None])
    assert np.array_equal(first, kept)


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


def test_segmenter_planned_for_a_size() -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    free = Segmenter(STREET, backend="openvino", threads=1)
    planned = free.planned((96, 160))
    assert planned._plan is not None
    assert planned._plan[1].size == (96, 160)
    assert free._plan is None
    for size in ((96, 160), (64, 96)):  # what it is planned for, and another
        frame = picture(*size)
        np.testing.assert_allclose(planned.logits(frame), free.logits(frame), atol=1e-3)
        assert np.mean(planned.segment(frame) == free.segment(frame)) > 0.999
    frames = [picture(96, 160, seed=i) for i in range(4)]
    assert np.array_equal(planned.segment_batch(frames), [planned.segment(frame) for frame in frames])


@pytest.mark.parametrize(
    ("fit", "canvas"), [("stretch", (64, 128)), ("letterbox", (64, 128)), ("tile", (64, 128)), (None, (200, 300))]
)
def test_plan_is_for_what_the_network_sees(fit: Fit | None, canvas: tuple[int, int]) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    size = (64, 128) if fit else None
    segmenter = Segmenter(STREET, backend="openvino", threads=1, size=size, fit=fit)
    assert (None if segmenter._plan is None else segmenter._plan[0]) == size
    planned = segmenter.planned((200, 300))
    assert planned._plan is not None
    assert planned._plan[0] == canvas
    plain = Segmenter(STREET, backend="onnxruntime", threads=1, size=size, fit=fit)
    assert plain.planned((200, 300))._plan is None
    frame = picture(200, 300)
    assert np.mean(planned.segment(frame) == plain.segment(frame)) > 0.999


def test_small_frames_are_planned_for_at_the_smallest_size() -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    for segmenter in (
        Segmenter(STREET, backend="openvino", threads=1).planned((10, 20)),
        Segmenter(STREET, backend="openvino", threads=1, size=(10, 20)),
    ):
        assert segmenter._plan is not None
        assert segmenter._plan[0] == (MIN_SIZE, MIN_SIZE)
        assert segmenter.segment(picture(10, 20)).shape == (10, 20)


def test_openvino_survives_a_failed_run(pooled: Path) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    session = open_session(pooled, "openvino", threads=1)
    images = picture(64, 64)[None]
    for _ in range(3):
        with pytest.raises(ArtifactError, match="OpenVINO cannot run"):
            session.run(images[..., :2])
        np.testing.assert_allclose(session.run(images), PooledSession().run(images), rtol=1e-5)


def test_registered_backend_gets_only_given_options(pooled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sessions, "_entries", dict(module.sessions._entries))
    sessions.register("mine")(lambda path: PooledSession())
    assert Segmenter(pooled, backend="mine").session.name == "pooled"
    with pytest.raises(ConfigError, match="no option 'threads'"):
        Segmenter(pooled, backend="mine", threads=1)


def prediction() -> Prediction:
    mask = np.array([[0, 0, 0, 255], [1, 2, 2, 0]], np.uint8)
    return Prediction(mask, CLASSES, np.full((2, 4, 3), 100, np.uint8))


def test_prediction_colors_and_coverage() -> None:
    colors = prediction().colors()
    assert colors.dtype == np.uint8
    assert colors[1].tolist() == [[0, 255, 0], [0, 0, 255], [0, 0, 255], [255, 0, 0]]
    assert colors[0, 3].tolist() == [0, 0, 0]
    assert prediction().coverage() == {"red": 0.5, "green": 0.125, "blue": 0.25}


def test_prediction_overlay_uses_the_given_frame() -> None:
    one = prediction()
    kept = one.image.copy()
    assert np.array_equal(one.overlay(alpha=0.0, legend=False), one.image)
    assert np.array_equal(one.image, kept)
    other = np.full((2, 4, 3), 7, np.uint8)
    assert np.array_equal(one.overlay(other, alpha=0.0, legend=False), other)
    assert one.overlay(alpha=1.0, legend=False)[0, 0].tolist() == [255, 0, 0]
    with pytest.raises(ConfigError):
        one.overlay(np.zeros((3, 3, 3), np.uint8))


def test_prediction_saves_ids_and_colours(tmp_path: Path) -> None:
    path = prediction().save(tmp_path / "new" / "mask.png")
    with Image.open(path) as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), prediction().mask)
        assert np.array_equal(np.asarray(image.convert("RGB")), prediction().colors())
    assert [p.name for p in path.parent.iterdir()] == ["mask.png"]
    with pytest.raises(ConfigError, match=r"\.png"):
        prediction().save(tmp_path / "mask.jpg")


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
