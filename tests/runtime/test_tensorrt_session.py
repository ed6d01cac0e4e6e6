"""Engines on a GPU that is not there: a driver of a few lines of C, and a TensorRT of a few of Python."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from artifact_fixtures import POOLED, block_means, noise
from conftest import error_line
from featherseg.core.errors import ArtifactError, ConfigError, MissingExtraError
from featherseg.runtime.containers import write_companion
from featherseg.runtime.segmenter import Segmenter
from featherseg.runtime.sessions import cuda
from featherseg.runtime.sessions.base import Session, open_session

DRIVER = r"""
#include <stdlib.h>
#include <string.h>
typedef unsigned long long CUdeviceptr;
static int open_pieces, initialised, entered, failing;
static char stream, context;
int cuInit(unsigned int flags) { initialised = flags == 0; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 40 + ordinal; return !initialised ? 3 : ordinal ? 101 : 0; }
int cuDeviceGetName(char *name, int length, int device) {
  strncpy(name, device == 40 ? "Paper GPU" : "?", length); return 0; }
int cuDevicePrimaryCtxRetain(void **found, int device) { *found = &context; return device == 40 ? 0 : 201; }
int cuCtxSetCurrent(void *given) { entered = given == &context; return entered ? 0 : 201; }
int cuStreamCreate(void **found, unsigned int flags) { *found = &stream; return entered && flags == 1 ? 0 : 1; }
int cuStreamSynchronize(void *given) { return given == &stream ? failing : 400; }
int cuMemAlloc_v2(CUdeviceptr *address, size_t size) {
  if (size > (1u << 28)) return 2;
  *address = (CUdeviceptr)malloc(size); open_pieces++; return 0; }
int cuMemFree_v2(CUdeviceptr address) { free((void *)address); open_pieces--; return 0; }
int cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t size, void *given) {
  memcpy((void *)to, from, size); return given == &stream ? 0 : 400; }
int cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t size, void *given) {
  memcpy(to, (void *)from, size); return given == &stream ? 0 : 400; }
int cuGetErrorString(int code, const char **text) {
  *text = code == 2 ? "out of memory" : code == 101 ? "invalid device ordinal" : "unspecified failure"; return 0; }
int pieces(void) { return open_pieces; }
void fail(int code) { failing = code; }
"""
"""The signatures are those of cuda.h; memory on the GPU is the computer's own."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler, on Linux")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.c").write_text(DRIVER)
    built = folder / "driver.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", built, folder / "driver.c"], check=True, capture_output=True)
    return built


@pytest.fixture
def driver(library: Path, monkeypatch: pytest.MonkeyPatch) -> ctypes.CDLL:
    monkeypatch.setattr(cuda, "LIBRARY", str(library))
    return ctypes.CDLL(str(library))


class Engine:
    """Means over 8x8 blocks, for up to two images from 64x64 to 128x192."""

    types: ClassVar[dict[str, str]] = {"image": "uint8", "logits": "float"}
    channels = 3
    highest = (2, 128, 192, 3)
    lowest = (1, 64, 64, 3)
    works = True
    num_io_tensors = 2

    def get_tensor_name(self, i: int) -> str:
        return list(self.types)[i]

    def get_tensor_mode(self, name: str) -> str:
        return "input" if name == next(iter(self.types)) else "output"

    def get_tensor_dtype(self, name: str) -> str:
        return self.types[name]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, self.channels, -1, -1)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert (name, profile) == ("image", 0)
        return [self.lowest, self.lowest, self.highest]

    def create_execution_context(self) -> Context | None:
        return Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == "image"
        assert shape[0] <= self.engine.highest[0]
        self.shape = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self.shape[0], 3, self.shape[1] // 8, self.shape[2] // 8)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream != 0, "TensorRT synchronises too much on the default stream"
        size = int(np.prod(self.shape))
        image = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self.addresses["image"]))
        logits = block_means(image.reshape(self.shape))
        ctypes.memmove(self.addresses["logits"], logits.ctypes.data, logits.nbytes)
        return self.engine.works


Install = Callable[..., type[Engine]]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a TensorRT in place whose runtime reads engines of the bytes ``engine``."""

    def put(name: str = "tensorrt_rtx", **changes: Any) -> type[Engine]:
        kind = type("Changed", (Engine,), changes)

        class ILogger:
            ERROR = 1

        class Runtime:
            def __init__(self, log: Any) -> None:
                self.log = log

            def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
                self.log.log(2, "a warning")
                if content != b"engine":
                    self.log.log(1, "wrong version\nsecond line")
                    return None
                return kind()

        module = ModuleType(name)
        module.__dict__.update(
            __version__="1.7",
            ILogger=ILogger,
            Runtime=Runtime,
            TensorIOMode=SimpleNamespace(INPUT="input"),
            DataType=SimpleNamespace(UINT8="uint8", FLOAT="float"),
        )
        monkeypatch.setitem(sys.modules, name, module)
        return kind

    return put


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    return write_engine(tmp_path / "a.engine")


def write_engine(path: Path, content: bytes = b"engine", built_with: str = "tensorrt_rtx 1.7, fp16") -> Path:
    path.write_bytes(content)
    write_companion(path, POOLED.to_metadata()["featherseg"], built_with)
    return path


def refusal(path: Path, kind: type[Exception], **options: Any) -> str:
    return error_line(kind, open_session, path, **options)


def test_run(engine: Path, driver: ctypes.CDLL, install: Install) -> None:
    install()
    session = open_session(engine)
    assert isinstance(session, Session)
    assert (session.name, session.device) == ("tensorrt", "Paper GPU, tensorrt_rtx 1.7, fp16")
    assert session.artifact == POOLED
    assert session.size is None
    for shape in ((1, 64, 64), (2, 128, 192), (1, 64, 96), (5, 72, 104)):
        images = noise(*shape)
        np.testing.assert_array_equal(session.run(images), block_means(images))
    turned = noise(2, 64, 96)[:, ::-1, :, ::-1]
    np.testing.assert_array_equal(session.run(turned), block_means(turned))
    first = session.run(noise(1, 64, 64))
    kept = first.copy()
    session.run(255 - noise(1, 64, 64))
    np.testing.assert_array_equal(first, kept)
    assert Segmenter(session).segment(noise(100, 104)[:96]).shape == (96, 104)


def test_memory_is_reused_and_given_back(engine: Path, driver: ctypes.CDLL, install: Install) -> None:
    install()
    before = driver.pieces()
    session = open_session(engine)
    for size in (64, 128, 72, 120):
        session.run(noise(2, size, size))
        assert driver.pieces() == before + 2
    del session
    assert driver.pieces() == before


@pytest.mark.parametrize("shape", [(1, 56, 64), (1, 64, 200), (1, 136, 192)])
def test_sizes_it_was_not_built_for(
    engine: Path, driver: ctypes.CDLL, install: Install, shape: tuple[int, ...]
) -> None:
    install()
    with pytest.raises(ArtifactError, match="takes images from 64x64 to 128x192, not") as caught:
        open_session(engine).run(noise(*shape))
    assert "\n" not in str(caught.value)


def test_engine_of_one_size(engine: Path, driver: ctypes.CDLL, install: Install) -> None:
    install(highest=(1, 64, 64, 3))
    session = open_session(engine)
    assert session.size == (64, 64)
    with pytest.raises(ArtifactError, match="64x64 alone"):
        session.run(noise(1, 64, 72))


def test_no_driver(engine: Path, install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    monkeypatch.setattr(cuda, "LIBRARY", "libnosuchdriver.so.1")
    message = refusal(engine, ConfigError)
    assert "GPU 0 cannot be used (no NVIDIA driver: libnosuchdriver.so.1" in message
    assert "run the .onnx file that it was built from instead" in message


def test_no_such_gpu(engine: Path, driver: ctypes.CDLL, install: Install) -> None:
    install()
    assert "GPU 3 cannot be used (cuDeviceGet: invalid device ordinal (101))" in refusal(engine, ConfigError, gpu=3)


def test_threads_are_taken_as_by_all_sessions(engine: Path, driver: ctypes.CDLL, install: Install) -> None:
    install()
    assert Segmenter(engine, backend="tensorrt", threads=2).segment(noise(64, 72)).shape == (64, 72)
    assert "threads is 0" in refusal(engine, ConfigError, threads=0)


def test_failures_while_running(engine: Path, driver: ctypes.CDLL, install: Install) -> None:
    kind = install()
    session = open_session(engine)
    driver.fail(700)
    with pytest.raises(ArtifactError, match=r"cuStreamSynchronize: unspecified failure \(700\)"):
        session.run(noise(1, 64, 64))
    driver.fail(0)
    kind.works = False
    with pytest.raises(ArtifactError, match="TensorRT cannot run the file on images"):
        session.run(noise(1, 64, 64))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"types": {"image": "float", "logits": "float"}}, "not uint8 image"),
        ({"types": {"picture": "uint8", "logits": "float"}}, "not uint8 image"),
        ({"types": {"image": "uint8", "logits": "half"}}, "not uint8 image"),
        ({"channels": 4}, "has 4 classes but its metadata names 3"),
    ],
)
def test_engine_of_another_network(
    engine: Path, driver: ctypes.CDLL, install: Install, changes: dict[str, Any], words: str
) -> None:
    install(**changes)
    assert words in refusal(engine, ArtifactError)


def test_engine_that_the_package_refuses(tmp_path: Path, driver: ctypes.CDLL, install: Install) -> None:
    install()
    old = write_engine(tmp_path / "old.engine", b"older", "tensorrt_rtx 1.0, int8")
    assert "refuses it, built with tensorrt_rtx 1.0, int8 (wrong version)" in refusal(old, ArtifactError)


def test_no_room_for_its_context(engine: Path, driver: ctypes.CDLL, install: Install) -> None:
    install(create_execution_context=lambda self: None)
    assert "GPU 0 cannot run it (no reason given); free its memory" in refusal(engine, ConfigError)


def test_companion_decides(tmp_path: Path, driver: ctypes.CDLL, install: Install, monkeypatch: Any) -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    install("tensorrt")
    assert open_session(write_engine(tmp_path / "full.engine", built_with="tensorrt 10.3, fp16")).name == "tensorrt"
    message = refusal(write_engine(tmp_path / "rtx.engine"), MissingExtraError)
    assert 'Running rtx.engine needs: pip install "featherseg[tensorrt]"' in message
    odd = write_engine(tmp_path / "odd.engine", built_with="antigravity 1")
    assert "was built with 'antigravity'" in refusal(odd, ArtifactError)
    replaced = write_engine(tmp_path / "replaced.engine")
    replaced.write_bytes(b"another engine")
    assert "is not the engine that replaced.engine.json is of" in refusal(replaced, ArtifactError)


def test_real_package_without_a_gpu(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs the extra tensorrt")
    try:
        ctypes.CDLL(cuda.LIBRARY)
    except OSError:
        pass
    else:
        pytest.skip("there is a driver here")
    assert "GPU 0 cannot be used (no NVIDIA driver" in refusal(write_engine(tmp_path / "a.engine"), ConfigError)
